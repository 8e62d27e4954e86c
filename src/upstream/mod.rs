//! Upstreams: servers, balancing, connection pools, retries.

pub mod balance;
pub mod connect;
pub mod group;
pub mod params;
pub mod pool;
pub mod retry;
pub mod schedule;
pub mod server;
