//! Transports: ways to get a stream or a packet port.

mod conn;
pub mod listen;
pub mod resolve;
mod tcp;
pub mod tls;
mod unix;

pub use conn::Conn;
