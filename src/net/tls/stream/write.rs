//! The writing half: what a writer gives is encrypted into the thread's buffer and sent at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::facts::HandshakeFailure;
use super::super::scratch::{self, Output, Scratch};
use super::super::session::{Failed, Job, Plain};
use super::{Held, Phase, TlsStream, Writing};

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Gets a job done that needs an open session, then sends the output.
    fn write_job(
        &mut self,
        cx: &mut Context<'_>,
        job: Job<'_, '_>,
        output: &mut Output,
    ) -> io::Result<usize> {
        output.clear();
        // Tickets that waited go first, in the same write.
        output.put(&std::mem::take(&mut self.outgoing));
        self.held = Held::Nothing;
        let mut kept = std::mem::take(&mut self.incoming);
        let result = self.run(&mut kept, Plain::Spill, job, output);
        let accepted = match result {
            Ok(done) => done.accepted,
            Err(Failed { error }) => {
                drop(self.poll_send(cx, output.filled()));
                let is_server = self.session.is_server();
                let failure = HandshakeFailure::protocol(is_server, &error, output.filled());
                return Err(self.fail(failure).into());
            }
        };
        match self.poll_send(cx, output.filled()) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => {
                self.writer = None;
                Ok(accepted)
            }
            Poll::Pending => {
                self.writer = Some(cx.waker().clone());
                Ok(accepted)
            }
        }
    }

    fn poll_write_bufs(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(cx))?;
        if self.writing != Writing::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        if self.held == Held::Nothing {
            ready!(self.poll_drain_for_writer(cx))?;
        }
        let limit = self.limit;
        Poll::Ready(scratch::with(|scratch| {
            let Scratch { output, gather, .. } = scratch;
            let job = Job::Encrypt {
                bufs,
                limit,
                gather,
            };
            self.write_job(cx, job, output)
        }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_bufs(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_bufs(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase == Phase::Failed {
            return Poll::Ready(Err(this.past_failure()));
        }
        ready!(this.poll_drain_for_writer(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.phase == Phase::Open && this.writing == Writing::Open {
            this.writing = Writing::Closed;
            scratch::with(|scratch| this.write_job(cx, Job::CloseNotify, &mut scratch.output))?;
        }
        if this.phase == Phase::Open {
            ready!(this.poll_drain_for_writer(cx))?;
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
