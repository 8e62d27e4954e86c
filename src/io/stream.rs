//! The trait that carries every protocol: ordered bytes in both directions, half-close, and what
//! is known about the peer. It knows no transport.

use super::facts::TlsFacts;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};

/// An ordered, reliable flow of bytes in both directions. `poll_shutdown` ends the writing side
/// only (half-close); dropping it closes both.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The address of the peer, where there is one.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The own address, where there is one.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// What is known of the TLS session, if there is one and its handshake is over.
    fn tls_facts(&self) -> Option<&TlsFacts> {
        None
    }

    /// The descriptor, where bytes may be moved past us (splice).
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    /// Ready when a read would probably give something: data, the end or an error. It may be
    /// wrong; the read then waits. This is how an idle connection waits without a buffer.
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready once the peer is known to have reset the connection: for somebody who waits for
    /// something else meanwhile. Takes the place of a waiting reader. Transports that cannot tell
    /// are never ready.
    fn poll_reset(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// For an idle connection: whether there is anything to read, be it data, the end or an
    /// error, so that it must not be used again.
    fn is_stale(&mut self) -> bool;

    /// From now on closing must not look like an ordinary end: TCP sends a reset, TLS no
    /// `close_notify`.
    fn reset(&mut self);
}

/// A stream of any kind, behind a virtual call. Not for the hot paths.
pub type BoxStream = Box<dyn Stream>;

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn peer_addr(&self) -> Option<SocketAddr> {
        (**self).peer_addr()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        (**self).local_addr()
    }

    fn tls_facts(&self) -> Option<&TlsFacts> {
        (**self).tls_facts()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        (**self).raw_fd()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_reset(cx)
    }

    fn is_stale(&mut self) -> bool {
        (**self).is_stale()
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}
