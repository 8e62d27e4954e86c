//! The body on its way from one side of an exchange to the other, with backpressure: nothing is
//! read that cannot be written. Sans policy: deadlines, retries and logs are elsewhere.

use std::io;
use std::task::{Context, Poll};

use crate::base::reason::Reason;
use crate::proto::http1::body::Trailers;

/// Where payload comes from: a request body from the client, or a response body from the server.
pub trait Source {
    /// Ready once [`Source::data`] is not empty or the payload has ended.
    ///
    /// # Errors
    /// The payload is malformed or was cut short.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>>;
    /// Payload that is here now.
    fn data(&self) -> &[u8];
    /// The first `n` bytes of it were used.
    fn consume(&mut self, n: usize);
    /// Whether nothing follows [`Source::data`].
    fn is_last(&self) -> bool;
    /// The trailers, once the payload has ended.
    fn trailers(&self) -> Option<&Trailers>;
    /// All bytes received so far: to see progress.
    fn received(&self) -> u64;
}

/// The end of a payload.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// What follows it.
    pub trailers: Option<&'a Trailers>,
}

/// Whether trailers go on to the next hop (rule 11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerPolicy {
    /// They do.
    Forward,
    /// They do not.
    Drop,
}

/// Where payload goes.
pub trait Sink {
    /// Sends what waits and some of `data`; returns how much of `data` was taken. `last` says that
    /// nothing follows `data`. With empty `data` it is ready when everything was handed over.
    ///
    /// # Errors
    /// Those of the connection, and payload that does not fit the announced length.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        last: Option<End<'_>>,
    ) -> Poll<io::Result<usize>>;
    /// Ready when nothing waits to be sent.
    ///
    /// # Errors
    /// Those of the connection.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// All bytes sent so far: to see progress.
    fn sent(&self) -> u64;
}

/// Which side broke the transfer.
#[derive(Debug)]
pub enum Broken {
    /// The payload could not be received.
    Source(Reason),
    /// It could not be sent.
    Sink(io::Error),
}

/// Bytes moved in one go before other connections get their turn.
pub const TURN_BYTES_MAX: u64 = 512 << 10;

/// Moves payload until it has ended (ready) or nothing more can be done now.
///
/// # Errors
/// Which side broke.
pub fn poll_pump<A: Source, B: Sink>(
    cx: &mut Context<'_>,
    from: &mut A,
    to: &mut B,
    policy: TrailerPolicy,
) -> Poll<Result<(), Broken>> {
    let mut moved = 0_u64;
    loop {
        match from.poll_fill(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(reason)) => return Poll::Ready(Err(Broken::Source(reason))),
            Poll::Pending => {
                // What was moved must not wait for more to come.
                return match to.poll_flush(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(Broken::Sink(error))),
                    _ => Poll::Pending,
                };
            }
        }
        let (data, last) = (from.data(), from.is_last());
        let trailers = if policy == TrailerPolicy::Forward {
            from.trailers()
        } else {
            None
        };
        let taken = match to.poll_send(cx, data, last.then_some(End { trailers })) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Sink(error))),
        };
        let all = taken == data.len();
        from.consume(taken);
        if all && last {
            return to.poll_flush(cx).map_err(Broken::Sink);
        }
        moved += taken as u64;
        if moved >= TURN_BYTES_MAX {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}
