//! Two streams joined: bytes go both ways until both directions have ended. Each half-close is
//! passed on, a failure of one side becomes a reset of the other, and buffers are held only while
//! bytes are on their way. It knows no protocol.

use super::buf::{Buf, LARGE};
use super::stream::Stream;
use crate::rt::Timer;
use crate::rt::drain::Watch;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long to wait for the buffer pool when it is at its limit.
const POOL_PAUSE: Duration = Duration::from_millis(20);

/// How a relay behaves.
#[derive(Default)]
pub struct Options {
    /// End it when no byte went either way for so long.
    pub idle: Option<Duration>,
    /// End it at the deadline for upgraded connections once a drain has started.
    pub drain: Option<Watch>,
}

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions came to their end.
    Closed,
    /// No byte went either way for too long.
    Idle,
    /// The deadline of the drain.
    Drained,
    /// A side failed; the other was reset.
    Failed(Side, io::ErrorKind),
}

/// What a relay has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes from the first stream to the second.
    pub a_to_b: u64,
    /// Bytes from the second stream to the first.
    pub b_to_a: u64,
    /// Why it ended.
    pub end: End,
}

/// One direction.
#[derive(Default)]
struct Flow {
    buf: Option<Buf>,
    bytes: u64,
    /// A read filled its whole buffer: the next one is larger.
    bulk: bool,
    /// Something was written and not flushed.
    unflushed: bool,
    /// The source has ended.
    ended: bool,
    /// The end was passed on.
    closed: bool,
    /// The pool had no buffer.
    starved: bool,
}

enum Broken {
    Source(io::ErrorKind),
    Target(io::ErrorKind),
}

impl Flow {
    /// Moves what can be moved; ready when the end was passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Stream,
        to: &mut impl Stream,
        moved: &mut bool,
    ) -> Poll<Result<(), Broken>> {
        while !self.closed {
            ready!(self.poll_write(cx, to, moved)).map_err(Broken::Target)?;
            if self.ended {
                self.buf = None;
                ready!(Pin::new(&mut *to).poll_shutdown(cx))
                    .map_err(|error| Broken::Target(error.kind()))?;
                self.closed = true;
                break;
            }
            match self.poll_read(cx, from, moved) {
                Poll::Ready(result) => result.map_err(Broken::Source)?,
                Poll::Pending => {
                    self.buf = None;
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))
                            .map_err(|error| Broken::Target(error.kind()))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl Stream,
        moved: &mut bool,
    ) -> Poll<Result<(), io::ErrorKind>> {
        let Some(buf) = &mut self.buf else {
            return Poll::Ready(Ok(()));
        };
        while !buf.is_empty() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, buf.readable()))
                .map_err(|error| error.kind())?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero));
            }
            buf.consume(n);
            self.bytes += n as u64;
            self.unflushed = true;
            *moved = true;
        }
        Poll::Ready(Ok(()))
    }

    /// One read into an empty buffer.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Stream,
        moved: &mut bool,
    ) -> Poll<Result<(), io::ErrorKind>> {
        if self.buf.is_none() {
            // No buffer is held while there is nothing to read.
            ready!(from.poll_readable(cx)).map_err(|error| error.kind())?;
        }
        if self.bulk && self.buf.as_ref().is_some_and(|buf| buf.capacity() < LARGE) {
            self.buf = None;
        }
        if self.buf.is_none() {
            let large = if self.bulk { Buf::take_large() } else { None };
            self.buf = large.or_else(Buf::take);
        }
        let Some(buf) = &mut self.buf else {
            self.starved = true;
            return Poll::Pending;
        };
        let n = ready!(buf.poll_fill(cx, from)).map_err(|error| error.kind())?;
        self.bulk = buf.space().is_empty();
        self.ended = n == 0;
        *moved = true;
        Poll::Ready(Ok(()))
    }
}

struct Timers {
    idle: Timer,
    idle_limit: Option<Duration>,
    drain: Timer,
    watch: Option<Watch>,
    pause: Timer,
}

impl Timers {
    fn new(opts: Options) -> Self {
        let mut timers = Self {
            idle: Timer::new(),
            idle_limit: opts.idle,
            drain: Timer::new(),
            watch: opts.drain,
            pause: Timer::new(),
        };
        timers.moved();
        timers
    }

    fn moved(&mut self) {
        if let Some(limit) = self.idle_limit {
            self.idle.set_after(limit);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(deadlines) = watch.poll_started(cx)
        {
            self.drain.set(deadlines.upgraded);
            if self.drain.poll(cx).is_ready() {
                return Poll::Ready(End::Drained);
            }
        }
        self.idle.poll(cx).map(|()| End::Idle)
    }

    /// Comes back a little later to ask the pool again.
    fn pause(&mut self, cx: &mut Context<'_>) {
        self.pause.set_after(POOL_PAUSE);
        // Just set, so it is pending; the task is woken when it is due.
        let _pending = self.pause.poll(cx);
    }
}

/// Joins two streams until both directions have ended or something else ends it. After a failure
/// both are marked to be closed with a reset. The streams stay with the caller, who closes them.
pub async fn relay(a: &mut impl Stream, b: &mut impl Stream, opts: Options) -> Outcome {
    let (mut there, mut back) = (Flow::default(), Flow::default());
    let mut timers = Timers::new(opts);
    let end = std::future::poll_fn(|cx| {
        let mut moved = false;
        let first = there.poll(cx, a, b, &mut moved);
        let second = back.poll(cx, b, a, &mut moved);
        if let Poll::Ready(Err(broken)) = first {
            return Poll::Ready(broken.end(Side::A, Side::B));
        }
        if let Poll::Ready(Err(broken)) = second {
            return Poll::Ready(broken.end(Side::B, Side::A));
        }
        if there.closed && back.closed {
            return Poll::Ready(End::Closed);
        }
        if moved {
            timers.moved();
        }
        if std::mem::take(&mut there.starved) | std::mem::take(&mut back.starved) {
            timers.pause(cx);
        }
        timers.poll(cx)
    })
    .await;
    if matches!(end, End::Failed(..)) {
        a.reset();
        b.reset();
    }
    Outcome {
        a_to_b: there.bytes,
        b_to_a: back.bytes,
        end,
    }
}

impl Broken {
    const fn end(&self, source: Side, target: Side) -> End {
        match self {
            Self::Source(kind) => End::Failed(source, *kind),
            Self::Target(kind) => End::Failed(target, *kind),
        }
    }
}

#[cfg(test)]
mod tests;
