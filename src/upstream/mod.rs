//! Upstreams: servers, balancing, connection pools, retries.

pub mod params;
