//! A stream whose first bytes were read already: they are given out again before the rest.

use super::buf::Buf;
use super::facts::TlsFacts;
use super::stream::Stream;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream with bytes put back in front of it. The buffer goes back to the pool when it is empty.
pub struct Prefixed<S> {
    prefix: Buf,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts the readable bytes of `prefix` in front of `stream`.
    pub const fn new(prefix: Buf, stream: S) -> Self {
        Self { prefix, stream }
    }

    /// What was put back and not read again.
    pub fn prefix(&self) -> &[u8] {
        self.prefix.readable()
    }

    /// The stream below.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The unread bytes and the stream.
    pub fn into_parts(self) -> (Buf, S) {
        (self.prefix, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let kept = self.prefix.readable();
        if kept.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let len = kept.len().min(buf.remaining());
        buf.put_slice(kept.get(..len).unwrap_or_default());
        self.prefix.consume(len);
        if self.prefix.is_empty() {
            self.prefix = Buf::default();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Stream> Stream for Prefixed<S> {
    fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }

    fn tls_facts(&self) -> Option<&TlsFacts> {
        self.stream.tls_facts()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        // Bytes must not overtake those that were put back.
        if self.prefix.is_empty() {
            self.stream.raw_fd()
        } else {
            None
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            self.stream.poll_readable(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn is_stale(&mut self) -> bool {
        !self.prefix.is_empty() || self.stream.is_stale()
    }

    fn reset(&mut self) {
        self.stream.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::pair;
    use crate::rt::Runtime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_prefix_comes_first_and_its_buffer_goes_back() {
        Runtime::simulated(1).block_on(async {
            let (mut a, b) = pair::pair(100);
            let mut kept = Buf::take().unwrap();
            kept.put(b"first ");
            let mut b = Prefixed::new(kept, b);
            assert!(b.is_stale());
            assert_eq!(b.prefix(), b"first ");
            let in_use = crate::io::buf::stats().in_use;
            a.write_all(b"second").await.unwrap();
            a.shutdown().await.unwrap();
            let mut two = [0; 2];
            b.read_exact(&mut two).await.unwrap();
            let mut rest = String::new();
            b.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "rst second");
            assert!(crate::io::buf::stats().in_use < in_use);
            b.write_all(b"back").await.unwrap();
            let mut four = [0; 4];
            a.read_exact(&mut four).await.unwrap();
            assert_eq!(&four, b"back");
        });
    }
}
