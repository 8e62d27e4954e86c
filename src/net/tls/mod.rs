//! TLS on any stream, by rustls: certificates, session tickets, the server and the client side,
//! and what is needed to change them while connections are open. No sockets, no timers and no
//! HTTP here; only this module names rustls, so that a new line of it is a local change.

pub mod cert;
pub mod client;
pub mod crypto;
pub mod facts;
pub mod fault;
pub mod load;
pub mod params;
mod scratch;
pub mod self_signed;
pub mod server;
mod session;
pub mod store;
pub mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod ticket;
pub mod trust;
mod verify;
pub mod watch;
pub mod wire;

pub use client::Client;
pub use crypto::{install_provider, provider};
pub use facts::HandshakeFailure;
pub use server::Server;
pub use stream::TlsStream;
pub use verify::pin_of;
