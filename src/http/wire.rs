//! One HTTP/1 connection during one exchange, either side: payload comes in through a decoder and
//! goes out through our own framing. It knows framing and buffers; it does not know routes,
//! retries or who the peer is.
//!
//! Buffers are held only while bytes are in flight: `inbox` is taken from the pool when there is
//! something to read and goes back when it is empty.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::reason::Reason;
use crate::http::pump::{End, Sink, Source};
use crate::io::Stream;
use crate::io::buf::Buf;
use crate::net::Conn;
use crate::proto::http1::body::{Decoder, Trailers};
use crate::proto::http1::encode;

/// How the message that goes out is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing may follow the head.
    None,
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks; `open` bytes of the current one are still to come.
    Chunked {
        /// Bytes still missing in the chunk whose size was written.
        open: usize,
    },
    /// Until the connection is closed.
    UntilClose,
}

/// Bytes above which a chunk is sent from where it lies instead of being copied behind its size.
const COPY_MAX: usize = 2048;

/// Bytes that may wait in the outbox before small chunks have to wait as well.
const OUTBOX_MAX: usize = 16 << 10;

/// A place in what goes out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    sent: u64,
    waiting: usize,
}

/// A connection and the two messages on it.
pub struct Wire {
    conn: Conn,
    inbox: Option<Buf>,
    /// A read filled its whole buffer: the next one is larger.
    bulk: bool,
    decoder: Decoder,
    /// Decoded payload, as a range of the readable part of `inbox`.
    payload: Range<usize>,
    /// Bytes of `inbox` that go when the payload is used up.
    pending: usize,
    /// The decoder has seen the end of the message.
    ended: bool,
    outbox: Vec<u8>,
    written: usize,
    framing: Framing,
    /// The end of the message was put into `outbox`.
    finished: bool,
    /// The last write was not taken whole: the peer is what everything waits for.
    blocked: bool,
    /// Bytes that may wait in the outbox for a slow peer.
    ahead: usize,
    payload_in: u64,
    payload_max: u64,
    taken: u64,
    /// Bytes of the current body with its framing.
    body_bytes: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Wire {
    /// A connection on which nothing has happened yet; `outbox` may bring memory to be used again.
    pub fn new(conn: Conn, inbox: Option<Buf>, mut outbox: Vec<u8>) -> Self {
        outbox.clear();
        Self {
            conn,
            inbox,
            bulk: false,
            decoder: Decoder::none(),
            payload: 0..0,
            pending: 0,
            ended: true,
            outbox,
            written: 0,
            framing: Framing::None,
            finished: true,
            blocked: false,
            ahead: 0,
            payload_in: 0,
            payload_max: u64::MAX,
            taken: 0,
            body_bytes: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The connection.
    pub const fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Takes the parts apart again: the connection, unread bytes, and the memory of the outbox.
    pub fn into_parts(self) -> (Conn, Option<Buf>, Vec<u8>) {
        (self.conn, self.inbox, self.outbox)
    }

    /// Bytes received and sent so far, with heads and framing.
    pub const fn traffic(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Whether the peer took less than was to be written.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Lets so many bytes wait here for a slow peer, before whoever sends them has to wait.
    pub const fn set_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }

    /// Payload received of the current message.
    pub const fn payload(&self) -> u64 {
        self.payload_in
    }

    /// Payload of the current message that was used.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes of the current body that have come, with its framing.
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the current message has ended and nothing of it is left here: what comes next
    /// belongs to another one.
    pub fn is_received(&self) -> bool {
        self.ended && self.payload.is_empty()
    }

    /// Starts receiving a message body of at most `max` bytes of payload.
    pub fn receive(&mut self, decoder: Decoder, max: u64) {
        self.payload_in = 0;
        self.taken = 0;
        self.body_bytes = 0;
        self.payload_max = max;
        self.ended = decoder.is_done();
        self.decoder = decoder;
        self.payload = 0..0;
        self.pending = 0;
    }

    /// Starts sending a message: its head is to be written to [`Wire::outbox`].
    pub const fn send(&mut self, framing: Framing) {
        self.framing = framing;
        self.finished = false;
    }

    /// Where the message going out stands now; see [`Wire::take_back`].
    pub const fn mark(&self) -> Mark {
        Mark {
            sent: self.bytes_out,
            waiting: self.outbox.len(),
        }
    }

    /// Forgets what was put into the outbox since the mark; false when some of it has left.
    pub fn take_back(&mut self, mark: Mark) -> bool {
        let whole = self.bytes_out == mark.sent;
        if whole {
            self.outbox.truncate(mark.waiting);
            self.finished = true;
        }
        whole
    }

    /// Where heads are written.
    pub const fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Received bytes that nobody has used.
    pub fn unread(&self) -> &[u8] {
        self.inbox.as_ref().map_or(&[], |buf| buf.readable())
    }

    /// The buffer of received bytes, for a head to be kept while the body goes on elsewhere.
    pub const fn inbox(&mut self) -> &mut Option<Buf> {
        &mut self.inbox
    }

    /// Whether bytes wait to be written.
    pub fn has_unsent(&self) -> bool {
        self.written < self.outbox.len()
    }

    /// Whether the message going out is complete and nothing of it waits here.
    pub fn is_sent(&self) -> bool {
        self.finished && !self.has_unsent()
    }

    /// Reads more bytes into the inbox, which may grow to `max`. 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of the connection; `OutOfMemory` when the pool is at its limit.
    pub fn poll_read_more(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        if self.inbox.is_none() {
            // No buffer is held while there is nothing to read.
            ready!(self.conn.poll_readable(cx))?;
            let buf = if self.bulk {
                Buf::take_large()
            } else {
                Buf::take()
            };
            self.inbox = Some(buf.ok_or(io::ErrorKind::OutOfMemory)?);
        }
        let Some(buf) = self.inbox.as_mut() else {
            return Poll::Ready(Ok(0));
        };
        if buf.space().is_empty() {
            buf.compact();
            if buf.space().is_empty() && !buf.grow(max) {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
        }
        let mut room = ReadBuf::new(buf.space());
        let outcome = Pin::new(&mut self.conn).poll_read(cx, &mut room);
        let (n, full) = (room.filled().len(), room.remaining() == 0);
        if outcome.is_ready() {
            buf.advance(n);
            self.bulk = full;
            self.bytes_in += n as u64;
        }
        if buf.is_empty() {
            self.inbox = None;
        }
        ready!(outcome)?;
        Poll::Ready(Ok(n))
    }

    /// Writes what waits in the outbox and in the connection.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outbox.len() {
            let waiting = self.outbox.get(self.written..).unwrap_or(&[]);
            let outcome = Pin::new(&mut self.conn).poll_write(cx, waiting);
            self.blocked = outcome.is_pending();
            let n = ready!(outcome)?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.bytes_out += n as u64;
        }
        self.outbox.clear();
        self.written = 0;
        let outcome = Pin::new(&mut self.conn).poll_flush(cx);
        self.blocked = outcome.is_pending();
        outcome
    }

    /// Drops the payload bytes that were used from the inbox.
    fn settle(&mut self) {
        if let Some(buf) = self.inbox.as_mut() {
            buf.consume(self.pending);
            self.pending = 0;
            if buf.is_empty() {
                self.inbox = None;
            }
        }
    }

    /// Decodes what is in the inbox until there is payload, the end, or nothing left to decode.
    fn decode(&mut self) -> Result<(), Reason> {
        while self.payload.is_empty() && !self.ended {
            self.settle();
            let Some(buf) = self.inbox.as_ref() else {
                return Ok(());
            };
            let step = self
                .decoder
                .decode(buf.readable())
                .map_err(|error| error.reason)?;
            self.payload = step.data;
            self.pending = step.consumed;
            self.body_bytes += step.consumed as u64;
            self.ended = step.end;
            self.payload_in += self.payload.len() as u64;
            if self.payload_in > self.payload_max {
                return Err(Reason::BodyTooLarge);
            }
            if step.consumed == 0 && !step.end {
                return Ok(());
            }
        }
        if self.payload.is_empty() {
            self.settle();
        }
        Ok(())
    }

    /// Writes `outbox`, then `data`, then `tail` with one call, and returns how much of `data`
    /// was taken. What is left of the tail goes to the outbox once the data is out.
    fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        tail: &'static [u8],
    ) -> Poll<io::Result<usize>> {
        let front = self.outbox.get(self.written..).unwrap_or(&[]);
        let front_len = front.len();
        let outcome = if front.is_empty() && tail.is_empty() {
            Pin::new(&mut self.conn).poll_write(cx, data)
        } else {
            let parts = [IoSlice::new(front), IoSlice::new(data), IoSlice::new(tail)];
            let parts = if front.is_empty() {
                &parts[1..]
            } else {
                &parts[..]
            };
            Pin::new(&mut self.conn).poll_write_vectored(cx, parts)
        };
        self.blocked = outcome.is_pending();
        if self.blocked {
            return self
                .put_ahead(data, tail)
                .map_or(Poll::Pending, |n| Poll::Ready(Ok(n)));
        }
        let n = ready!(outcome)?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.bytes_out += n as u64;
        let (of_front, rest) = (n.min(front_len), n.saturating_sub(front_len));
        self.written += of_front;
        if of_front == front_len {
            self.outbox.clear();
            self.written = 0;
        }
        let (of_data, of_tail) = (rest.min(data.len()), rest.saturating_sub(data.len()));
        if of_data == data.len() && of_front == front_len {
            self.outbox
                .extend_from_slice(tail.get(of_tail..).unwrap_or(&[]));
        }
        Poll::Ready(Ok(of_data))
    }

    /// Keeps what the peer does not take yet, as far as that is wanted; gives how much of `data`.
    fn put_ahead(&mut self, data: &[u8], tail: &'static [u8]) -> Option<usize> {
        let waiting = self.outbox.len() - self.written;
        let n = self.ahead.saturating_sub(waiting).min(data.len());
        if n == 0 {
            return None;
        }
        if self.written >= waiting {
            self.outbox.drain(..self.written);
            self.written = 0;
        }
        self.outbox.extend_from_slice(data.get(..n)?);
        if n == data.len() {
            self.outbox.extend_from_slice(tail);
        }
        Some(n)
    }

    fn poll_send_chunk(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        open: usize,
        last: Option<End<'_>>,
    ) -> Poll<io::Result<usize>> {
        if self.outbox.len() - self.written > OUTBOX_MAX.max(self.ahead) {
            ready!(self.poll_flush_all(cx))?;
        }
        let fresh = open == 0;
        let size = if fresh { data.len() } else { open };
        if fresh {
            let mut text = [0_u8; 18];
            self.outbox
                .extend_from_slice(encode::chunk_head(&mut text, size));
            self.framing = Framing::Chunked { open: size };
        }
        let data = data.get(..size).unwrap_or(data);
        if fresh && size <= COPY_MAX {
            self.outbox.extend_from_slice(data);
            self.outbox.extend_from_slice(b"\r\n");
            self.framing = Framing::Chunked { open: 0 };
            if let Some(end) = last {
                self.finish(end)?;
            }
            // Small chunks leave together: the pump flushes when no more are at hand.
            return Poll::Ready(Ok(size));
        }
        let plain_end = last.is_some_and(|end| end.trailers.is_none());
        let tail: &'static [u8] = if plain_end { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        let n = ready!(self.poll_write_parts(cx, data, tail))?;
        self.framing = Framing::Chunked { open: size - n };
        if n == size {
            match last {
                Some(_) if plain_end => self.finished = true,
                Some(end) => self.finish(end)?,
                None => {}
            }
        }
        Poll::Ready(Ok(n))
    }

    /// Puts the end of the message into the outbox.
    ///
    /// # Errors
    /// `UnexpectedEof` when the announced length was not reached.
    pub fn finish(&mut self, end: End<'_>) -> io::Result<()> {
        if self.finished {
            return Ok(());
        }
        match self.framing {
            Framing::Length(1..) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Chunked { .. } => encode::last_chunk(&mut self.outbox, end.trailers)
                .map_err(|_refused| io::Error::from(io::ErrorKind::InvalidData))?,
            Framing::None | Framing::Length(0) | Framing::UntilClose => {}
        }
        self.finished = true;
        Ok(())
    }

    /// Closes so that the peer cannot take what it has for a complete message (rule 1.4).
    pub fn abort(&mut self) {
        self.conn.reset();
    }
}

impl Source for Wire {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        loop {
            self.decode()?;
            if !self.payload.is_empty() || self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_read_more(cx, 0)) {
                Ok(0) => {
                    self.decoder.close().map_err(|error| error.reason)?;
                    self.ended = true;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(Reason::Internal));
                }
                Err(_) => return Poll::Ready(Err(Reason::UpstreamTruncated)),
            }
        }
    }

    fn data(&self) -> &[u8] {
        self.unread().get(self.payload.clone()).unwrap_or(&[])
    }

    fn consume(&mut self, n: usize) {
        self.taken += n as u64;
        self.payload.start = (self.payload.start + n).min(self.payload.end);
        if self.payload.is_empty() {
            self.settle();
        }
    }

    fn is_last(&self) -> bool {
        self.ended
    }

    fn trailers(&self) -> Option<&Trailers> {
        self.decoder.trailers()
    }

    fn received(&self) -> u64 {
        self.bytes_in
    }
}

impl Sink for Wire {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        last: Option<End<'_>>,
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            if let Some(end) = last {
                self.finish(end)?;
            }
            ready!(self.poll_flush_all(cx))?;
            return Poll::Ready(Ok(0));
        }
        match self.framing {
            Framing::None => Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
            Framing::Chunked { open } => self.poll_send_chunk(cx, data, open, last),
            Framing::UntilClose => {
                let n = ready!(self.poll_write_parts(cx, data, b""))?;
                self.finished = last.is_some() && n == data.len();
                Poll::Ready(Ok(n))
            }
            Framing::Length(left) => {
                let allowed = usize::try_from(left).unwrap_or(usize::MAX);
                if data.len() > allowed {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                }
                let n = ready!(self.poll_write_parts(cx, data, b""))?;
                self.framing = Framing::Length(left - n as u64);
                self.finished = last.is_some() && left == n as u64;
                Poll::Ready(Ok(n))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_all(cx)
    }

    fn sent(&self) -> u64 {
        self.bytes_out
    }
}

#[cfg(test)]
mod tests;
