//! A connection of any transport. The hot ones are named, so that they are called directly; all
//! others are behind a box.

use super::tls::TlsStream;
use crate::io::facts::TlsFacts;
use crate::io::{BoxStream, Stream};
use crate::rt::sock::{ConnectOpts, TcpStream, UnixStream};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection.
pub enum Conn {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix stream.
    Unix(UnixStream),
    /// TLS over any of them; boxed, as a session is large.
    Tls(Box<TlsStream<Self>>),
    /// Anything else.
    Boxed(BoxStream),
}

impl Conn {
    /// Connects by TCP. There is no deadline in it: use `rt::timeout`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn tcp(addr: SocketAddr, opts: &ConnectOpts) -> io::Result<Self> {
        TcpStream::connect(addr, opts).await.map(Self::Tcp)
    }

    /// Connects to a Unix socket. There is no deadline in it: use `rt::timeout`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::Unix)
    }
}

impl From<TcpStream> for Conn {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Conn {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TlsStream<Self>> for Conn {
    fn from(stream: TlsStream<Self>) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl From<BoxStream> for Conn {
    fn from(stream: BoxStream) -> Self {
        Self::Boxed(stream)
    }
}

/// Does the same with whatever stream is inside.
macro_rules! each {
    ($conn:expr, $stream:ident => $do:expr) => {
        match $conn {
            Conn::Tcp($stream) => $do,
            Conn::Unix($stream) => $do,
            Conn::Tls($stream) => $do,
            Conn::Boxed($stream) => $do,
        }
    };
}

impl Stream for Conn {
    fn peer_addr(&self) -> Option<SocketAddr> {
        each!(self, stream => Stream::peer_addr(stream))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        each!(self, stream => Stream::local_addr(stream))
    }

    fn tls_facts(&self) -> Option<&TlsFacts> {
        each!(self, stream => stream.tls_facts())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        each!(self, stream => Stream::raw_fd(stream))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Stream::poll_readable(stream, cx))
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        each!(self, stream => Stream::poll_reset(stream, cx))
    }

    fn is_stale(&mut self) -> bool {
        each!(self, stream => Stream::is_stale(stream))
    }

    fn reset(&mut self) {
        each!(self, stream => Stream::reset(stream));
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
