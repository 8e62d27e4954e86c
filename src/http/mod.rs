//! The HTTP reverse proxy.

pub mod answer;
pub mod client_addr;
pub mod edit;
pub mod kept;
pub mod normalize;
pub mod params;
pub mod redirect;
pub mod pump;
pub mod request_id;
pub mod router;
pub mod scratch;
pub mod template;
pub mod trace;
pub mod transfer;
pub mod wire;
