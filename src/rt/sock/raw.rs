//! A stream socket of the kernel, registered with the loop: what TCP and Unix streams share.

use crate::rt::reactor::{CLOSED, ERROR, READ, Registration, Side};
use crate::sys::msg;
use socket2::Socket;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::ReadBuf;

/// The fields stand in the order in which they have to be dropped.
pub struct Stream {
    registration: Registration,
    socket: Socket,
}

impl Stream {
    /// Takes over a connected, non-blocking socket; `flags` is what is known of its readiness.
    pub fn new(socket: Socket, flags: u8) -> io::Result<Self> {
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let registration = Registration::new(socket.as_raw_fd(), both, flags)?;
        Ok(Self {
            registration,
            socket,
        })
    }

    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Waits for the end of a `connect` that is under way.
    pub async fn connected(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.registration.poll_ready(Side::Write, cx)).await;
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.registration.poll_ready(Side::Read, cx)
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        let wanted = space.len();
        if wanted == 0 {
            return Poll::Ready(Ok(()));
        }
        self.registration
            .poll_io(Side::Read, cx, || (&self.socket).read(space))
            .map_ok(|got| {
                self.registration.note_read(got, wanted);
                buf.advance(got);
            })
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let op = || self.socket.send_with_flags(buf, msg::NOSIGNAL);
        self.registration
            .poll_io(Side::Write, cx, op)
            .map_ok(|put| self.noted_write(put, buf.len()))
    }

    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let op = || self.socket.send_vectored_with_flags(bufs, msg::NOSIGNAL);
        self.registration
            .poll_io(Side::Write, cx, op)
            .map_ok(|put| self.noted_write(put, bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn noted_write(&self, put: usize, wanted: usize) -> usize {
        self.registration.note_write(put, wanted);
        put
    }

    /// Ends the writing side. A connection that is gone already has nothing to end.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Whether an idle connection has anything to read, be it data, its end or an error. A
    /// system call is made only when the readiness is in doubt.
    pub fn is_stale(&self) -> bool {
        let flags = self.registration.flags();
        if flags & (CLOSED | ERROR) != 0 {
            return true;
        }
        if flags & READ == 0 {
            return false;
        }
        match self.socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.registration.clear(READ);
                false
            }
            _ => true,
        }
    }

    /// Ready once the peer has reset the connection.
    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        self.registration.poll_error(cx)
    }

    /// From now on closing sends a reset and throws away what is not sent.
    pub fn reset_on_close(&self) {
        // A socket that does not take the option is closed in the ordinary way.
        let _refused = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Gives the descriptor away, no longer registered.
    pub fn into_fd(self) -> OwnedFd {
        self.registration.deregister(self.socket.as_raw_fd());
        self.socket.into()
    }
}
