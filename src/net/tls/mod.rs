//! TLS on any stream, by rustls.

pub mod params;
