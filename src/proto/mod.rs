//! Protocol machines without I/O: bytes to values and back.
//!
//! Nothing here reads a socket, a clock or a random number; hostile bytes can neither panic nor
//! make the work per byte grow.

pub mod control;
pub mod head;
pub mod http1;
