//! Streams and packet ports, and what works on any of them.

pub mod buf;
pub mod facts;
pub mod packet;
pub mod pair;
pub mod prefix;
pub mod relay;
pub mod stream;

pub use packet::PacketPort;
pub use stream::{BoxStream, Stream};
