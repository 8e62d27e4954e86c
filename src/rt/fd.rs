//! Any descriptor as a source of readiness: control sockets, event descriptors, pipes.

use super::reactor::{CLOSED, ERROR, READ, Registration, Side, WRITE};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};

/// A descriptor registered with the loop of this thread, and what it belongs to. It has to be
/// non-blocking already.
pub struct AsyncFd<T: AsFd> {
    registration: Registration,
    source: T,
}

impl<T: AsFd> AsyncFd<T> {
    /// Registers it for reading and writing.
    ///
    /// # Errors
    /// When the kernel refuses it (a plain file, for one), or in a simulated loop.
    pub fn new(source: T) -> io::Result<Self> {
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let registration = Registration::new(source.as_fd().as_raw_fd(), both, 0)?;
        Ok(Self {
            registration,
            source,
        })
    }

    /// What was registered.
    pub const fn get_ref(&self) -> &T {
        &self.source
    }

    /// Ready while it may be readable; to be followed by a read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.registration.poll_ready(Side::Read, cx)
    }

    /// Ready while it may be writable; to be followed by a write.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.registration.poll_ready(Side::Write, cx)
    }

    /// Notes that a read gave "would block".
    pub fn clear_readable(&self) {
        self.registration.clear(READ | CLOSED | ERROR);
    }

    /// Notes that a write gave "would block".
    pub fn clear_writable(&self) {
        self.registration.clear(WRITE);
    }

    /// Tries `op` whenever the source is readable, until it gives something else than "would block".
    ///
    /// # Errors
    /// Those of `op`.
    pub async fn read_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        std::future::poll_fn(|cx| {
            self.registration
                .poll_io(Side::Read, cx, || op(&self.source))
        })
        .await
    }

    /// Tries `op` whenever the source is writable, until it gives something else than "would block".
    ///
    /// # Errors
    /// Those of `op`.
    pub async fn write_with<R>(&self, mut op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        std::future::poll_fn(|cx| {
            self.registration
                .poll_io(Side::Write, cx, || op(&self.source))
        })
        .await
    }
}

impl<T: AsFd> Drop for AsyncFd<T> {
    fn drop(&mut self) {
        // The open file may live on in another process.
        self.registration
            .deregister(self.source.as_fd().as_raw_fd());
    }
}
