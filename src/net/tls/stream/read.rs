//! The reading half: from the socket through the thread's buffer to the reader.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::facts::HandshakeFailure;
use super::super::scratch::{self, INPUT_BYTES, Output, RECORD_BYTES, RECORD_OVERHEAD, Scratch};
use super::super::session::{Failed, Job, Plain};
use super::{Held, Phase, Reading, TlsStream};

/// The least that a read asks the socket for.
const READ_BYTES_MIN: usize = 4096;

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// How much ciphertext holds about as much plain text as the reader has room for: asking for
    /// more would only have to be kept.
    fn wanted(&self, room: usize) -> usize {
        let overhead = match self.session.common().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => 5 + 1 + 16,
            _ => 5 + 8 + 16,
        };
        let records = room.div_ceil(RECORD_BYTES).max(1);
        let total = (room + records * overhead).clamp(READ_BYTES_MIN, INPUT_BYTES);
        match total.checked_sub(self.incoming.len()) {
            Some(wanted) if wanted > 0 => wanted,
            // A record larger than the reader's room has begun: the rest of it is needed.
            _ => RECORD_BYTES + RECORD_OVERHEAD,
        }
    }

    fn poll_read_open(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if self.reading == Reading::Closed {
                return Poll::Ready(Ok(()));
            }
            let wanted = self.wanted(buf.remaining());
            let mut filled = self.take_incoming(&mut scratch.input);
            if self.reading != Reading::Full {
                match self.poll_fill(cx, &mut scratch.input, filled, wanted) {
                    Poll::Ready(Ok(n)) => filled += n,
                    Poll::Ready(Err(error)) => {
                        self.keep(scratch.input.get(..filled));
                        return Poll::Ready(Err(error));
                    }
                    Poll::Pending => {
                        self.keep(scratch.input.get(..filled));
                        self.send_aside(cx)?;
                        return Poll::Pending;
                    }
                }
            }
            let Scratch { input, output, .. } = &mut *scratch;
            output.clear();
            let input = input.get_mut(..filled).unwrap_or_default();
            let result = self.run_reading(input, buf, before, output);
            let has_data = buf.filled().len() > before;
            self.held = match (self.held, &result) {
                (_, Err(_)) => Held::Nothing,
                (Held::Wait, Ok(())) if has_data => Held::Write,
                (held, Ok(())) => held,
            };
            if !output.is_empty() {
                self.outgoing.extend_from_slice(output.filled());
                self.send_aside(cx)?;
            }
            match result {
                // What came before any damage is given first; the next read tells of it.
                _ if has_data => return Poll::Ready(Ok(())),
                Ok(()) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn run_reading(
        &mut self,
        input: &mut [u8],
        buf: &mut ReadBuf<'_>,
        before: usize,
        output: &mut Output,
    ) -> io::Result<()> {
        let start = before;
        let result = self.run(input, Plain::Into { buf, start }, Job::Nothing, output);
        match result {
            Ok(_) => Ok(()),
            Err(Failed { error }) => {
                let is_server = self.session.is_server();
                let failure = HandshakeFailure::protocol(is_server, &error, output.filled());
                Err(self.fail(failure).into())
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !this.plain.is_empty() {
            let fits = buf.remaining().min(this.plain.len());
            buf.put_slice(this.plain.get(..fits).unwrap_or_default());
            if fits == this.plain.len() {
                this.plain = Vec::new();
            } else {
                this.plain.drain(..fits);
            }
            return Poll::Ready(Ok(()));
        }
        match this.phase {
            Phase::Handshake => ready!(this.poll_handshake(cx))?,
            Phase::Failed => return Poll::Ready(Err(this.past_failure())),
            Phase::Open => {}
        }
        scratch::with(|scratch| this.poll_read_open(cx, buf, scratch))
    }
}
