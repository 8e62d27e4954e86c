//! Unix stream and datagram sockets of the kernel. There is no simulated form.

use super::raw;
use crate::rt::reactor::{Registration, Side, WRITE};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A listening Unix socket.
pub struct UnixListener {
    registration: Registration,
    socket: mio::net::UnixListener,
}

impl UnixListener {
    /// Creates the socket file and listens.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std::os::unix::net::UnixListener::bind(path)?)
    }

    /// Takes over a listening socket, for example an inherited one.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_std(socket: std::os::unix::net::UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let registration = Registration::new(socket.as_raw_fd(), mio::Interest::READABLE, 0)?;
        Ok(Self {
            registration,
            socket: mio::net::UnixListener::from_std(socket),
        })
    }

    /// The next waiting connection.
    ///
    /// # Errors
    /// Those of the kernel; see `is_exhausted` and `is_transient`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        self.registration
            .poll_io(Side::Read, cx, || self.socket.accept())
            .map(|accepted| UnixStream::from_fd(accepted?.0.into()))
    }

    /// The next waiting connection.
    ///
    /// # Errors
    /// Those of the kernel; see `is_exhausted` and `is_transient`.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        // The open socket lives on in the master.
        self.registration.deregister(self.socket.as_raw_fd());
    }
}

/// A connected Unix stream.
pub struct UnixStream(raw::Stream);

impl UnixStream {
    /// Connects. While the queue of the listener is full it tries again, for ever: give it a deadline.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let addr = socket2::SockAddr::unix(path)?;
        let mut pause = Duration::from_millis(4);
        loop {
            let kind = socket2::Type::STREAM.nonblocking().cloexec();
            let socket = socket2::Socket::new_raw(socket2::Domain::UNIX, kind, None)?;
            match socket.connect(&addr) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    crate::rt::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(128));
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self(raw::Stream::new(socket, WRITE)?)),
            }
        }
    }

    /// Two connected streams.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Takes over a connected stream.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::from_fd(stream.into())
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(raw::Stream::new(fd.into(), WRITE)?))
    }

    /// Ready while there may be something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_readable(cx)
    }

    /// Whether an idle connection has anything to read, be it data, its end or an error.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.is_stale()
    }

    /// Ready once the peer has reset the connection. Takes the place of a waiting reader.
    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.poll_reset(cx)
    }

    /// Closing from now on throws away what is not sent.
    pub fn reset(&self) {
        self.0.reset_on_close();
    }

    /// The descriptor, for splicing.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.0.raw_fd()
    }

    /// Gives the descriptor away.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0.into_fd()
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown_write())
    }
}

/// A Unix datagram or packet-preserving socket with one peer: the control channel of a process.
pub struct UnixDatagram {
    registration: Registration,
    socket: socket2::Socket,
}

impl UnixDatagram {
    /// Two connected sockets that keep the borders of messages and tell when the peer is gone
    /// (`SOCK_SEQPACKET`).
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = socket2::Type::SEQPACKET.nonblocking().cloexec();
        let (a, b) = socket2::Socket::pair_raw(socket2::Domain::UNIX, kind, None)?;
        Ok((Self::from_fd(a.into())?, Self::from_fd(b.into())?))
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        socket.set_nonblocking(true)?;
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let registration = Registration::new(socket.as_raw_fd(), both, WRITE)?;
        Ok(Self {
            registration,
            socket,
        })
    }

    /// Receives one message; 0 bytes when the peer is gone.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        use std::io::Read as _;
        std::future::poll_fn(|cx| {
            self.registration
                .poll_io(Side::Read, cx, || (&self.socket).read(buf))
        })
        .await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn send(&self, message: &[u8]) -> io::Result<usize> {
        let op = || {
            self.socket
                .send_with_flags(message, crate::sys::msg::NOSIGNAL)
        };
        std::future::poll_fn(|cx| self.registration.poll_io(Side::Write, cx, op)).await
    }
}

impl Drop for UnixDatagram {
    fn drop(&mut self) {
        // The other end of an inherited socket may live on in another process.
        self.registration.deregister(self.socket.as_raw_fd());
    }
}
