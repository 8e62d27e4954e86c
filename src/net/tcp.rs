//! TCP connections as streams.

use crate::io::Stream;
use crate::rt::sock::TcpStream;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::{Context, Poll};

impl Stream for TcpStream {
    fn peer_addr(&self) -> Option<SocketAddr> {
        Some(Self::peer_addr(self))
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Self::local_addr(self).ok()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Self::raw_fd(self)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_readable(self, cx).map(Ok)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_reset(self, cx)
    }

    fn is_stale(&mut self) -> bool {
        Self::is_stale(self)
    }

    fn reset(&mut self) {
        Self::reset(self);
    }
}
