//! The HTTP reverse proxy.

pub mod answer;
pub mod client_addr;
pub mod edit;
pub mod normalize;
pub mod params;
pub mod redirect;
pub mod request_id;
pub mod router;
pub mod template;
pub mod trace;
