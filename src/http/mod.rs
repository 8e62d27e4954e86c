//! The HTTP reverse proxy.

pub mod client_addr;
pub mod date;
pub mod normalize;
pub mod params;
pub mod request_id;
pub mod trace;
