//! Sockets of the loop: TCP, Unix and UDP, from the kernel or from the simulation. One type for
//! both, so that nothing above knows where it runs.

mod raw;
mod tcp;
mod udp;
mod unix;

pub use tcp::{ConnectOpts, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};

use crate::sys::msg;
use std::io;

/// Whether an accept or connect failed because descriptors or memory ran out: the caller should
/// pause for a moment instead of trying again at once.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| msg::EXHAUSTED.contains(&number))
}

/// Whether an accept failed for one connection only: the next one may work.
#[must_use]
pub fn is_transient(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| msg::ONE_CONNECTION.contains(&number))
}
