//! The master.

pub mod sockets;
pub mod supervisor;
