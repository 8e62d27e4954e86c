//! Unix connections as streams.

use crate::io::Stream;
use crate::rt::sock::UnixStream;
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll};

impl Stream for UnixStream {
    fn raw_fd(&self) -> Option<RawFd> {
        Some(Self::raw_fd(self))
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
