//! The error log and the access log.

pub mod params;
