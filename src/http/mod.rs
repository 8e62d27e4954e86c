//! The HTTP reverse proxy.

pub mod params;
