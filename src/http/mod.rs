//! The HTTP reverse proxy.

pub mod answer;
pub mod client_addr;
pub mod clock;
pub mod edit;
pub mod exchange;
pub mod forward;
pub mod kept;
mod nest;
pub mod normalize;
pub mod params;
pub mod pump;
pub mod record;
pub mod redirect;
pub mod reply;
pub mod request_id;
pub mod router;
pub mod scratch;
pub mod service;
pub mod session;
pub mod template;
pub mod trace;
pub mod transfer;
pub mod tunnel;
pub mod wire;
