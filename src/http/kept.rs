//! A request body kept so that it can be sent again, and the source that replays it before it
//! goes on with what still comes from the client.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::base::reason::Reason;
use crate::http::pump::Source;
use crate::http::wire::Wire;
use crate::proto::http1::body::Trailers;

/// The bytes that all kept bodies of a worker may take (`limits.retry_buffer`).
#[derive(Clone, Debug)]
pub struct Budget {
    left: Rc<Cell<u64>>,
    all: u64,
    refused: Rc<Cell<u64>>,
}

impl Budget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self {
            left: Rc::new(Cell::new(bytes)),
            all: bytes,
            refused: Rc::default(),
        }
    }

    /// How often there was not enough left, since the last call.
    #[must_use]
    pub fn take_refused(&self) -> u64 {
        self.refused.take()
    }

    /// Bytes that are kept now.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.all - self.left.get()
    }

    fn take(&self, bytes: u64) -> bool {
        let left = self.left.get();
        if left < bytes {
            self.refused.set(self.refused.get() + 1);
            return false;
        }
        self.left.set(left - bytes);
        true
    }

    fn give(&self, bytes: u64) {
        self.left.set(self.left.get() + bytes);
    }
}

/// The beginning of a request body, or all of it.
pub struct Kept {
    bytes: Vec<u8>,
    budget: Budget,
    whole: bool,
}

impl Kept {
    /// Nothing kept; `whole` says that there is no body at all.
    #[must_use]
    pub const fn empty(budget: Budget, whole: bool) -> Self {
        Self {
            bytes: Vec::new(),
            budget,
            whole,
        }
    }

    /// Whether the whole body is here, so that the request can be sent again.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads the body until it is whole, or until `limit` bytes are kept and more would follow, or
    /// the worker's budget is used up: then the rest is streamed.
    ///
    /// # Errors
    /// The body is malformed or was cut short.
    pub fn poll_keep(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        limit: u64,
    ) -> Poll<Result<(), Reason>> {
        while !self.whole {
            ready!(from.poll_fill(cx))?;
            let data = from.data();
            let n = data.len();
            if self.len() + n as u64 > limit || !self.budget.take(n as u64) {
                return Poll::Ready(Ok(()));
            }
            self.bytes.extend_from_slice(data);
            self.whole = from.is_last();
            from.consume(n);
        }
        Poll::Ready(Ok(()))
    }

    /// The body from its start: what is kept, then what `wire` still receives.
    pub const fn replay<'a>(&'a self, at: &'a mut usize, wire: &'a mut Wire) -> Replay<'a> {
        Replay {
            kept: self,
            at,
            wire,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give(self.len());
    }
}

/// A request body from its start.
pub struct Replay<'a> {
    kept: &'a Kept,
    at: &'a mut usize,
    wire: &'a mut Wire,
}

impl Replay<'_> {
    fn rest(&self) -> &[u8] {
        self.kept.bytes.get(*self.at..).unwrap_or(&[])
    }
}

impl Source for Replay<'_> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if self.rest().is_empty() && !self.kept.whole {
            return self.wire.poll_fill(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn data(&self) -> &[u8] {
        let rest = self.rest();
        if rest.is_empty() && !self.kept.whole {
            self.wire.data()
        } else {
            rest
        }
    }

    fn consume(&mut self, n: usize) {
        let rest = self.rest().len();
        let of_kept = n.min(rest);
        *self.at += of_kept;
        if n > of_kept {
            self.wire.consume(n - of_kept);
        }
    }

    fn is_last(&self) -> bool {
        self.kept.whole || (self.rest().is_empty() && self.wire.is_last())
    }

    fn trailers(&self) -> Option<&Trailers> {
        self.wire.trailers()
    }

    fn received(&self) -> u64 {
        self.wire.received()
    }
}
