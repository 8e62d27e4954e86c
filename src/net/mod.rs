//! Transports: ways to get a stream or a packet port.

pub mod tls;
