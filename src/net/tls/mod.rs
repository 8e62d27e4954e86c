//! TLS on any stream, by rustls: certificates, session tickets, the server and the client side,
//! and what is needed to change them while connections are open. No sockets, no timers and no
//! HTTP here; only this module names rustls, so that a new line of it is a local change.

pub mod cert;
pub mod crypto;
pub mod load;
pub mod params;
pub mod self_signed;
#[cfg(test)]
mod testing;
pub mod ticket;
pub mod trust;
pub mod watch;
pub mod wire;

pub use crypto::{install_provider, provider};
