//! Timers for tasks: a re-usable deadline, sleeps and time-outs, on the loop's wheel.

use super::context::{self, Inner};
use crate::base::time::Instant;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One re-usable deadline. Moving it to a later time is a plain store; it takes a place in the
/// loop's table from the first `poll` that has to wait until it is dropped.
///
/// Resolution is a tick of the wheel (4 ms): never early, at most a tick late.
pub struct Timer {
    deadline: Instant,
    seat: Option<(Rc<Inner>, u32)>,
}

impl Timer {
    /// A timer that is not set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: Instant::FAR,
            seat: None,
        }
    }

    /// Sets the deadline.
    pub fn set(&mut self, deadline: Instant) {
        let earlier = deadline < self.deadline;
        self.deadline = deadline;
        // A later deadline is told to the wheel by the next `poll`, or found out when the old
        // one comes up; an earlier one must be known at once.
        if earlier && let Some((inner, key)) = &self.seat {
            inner.wheel.borrow_mut().set(*key, deadline);
        }
    }

    /// Sets the deadline to `after` from now.
    pub fn set_after(&mut self, after: Duration) {
        self.set(super::now() + after);
    }

    /// Unsets it: `poll` waits for ever.
    pub fn clear(&mut self) {
        self.deadline = Instant::FAR;
        if let Some((inner, key)) = &self.seat {
            inner.wheel.borrow_mut().clear(*key);
        }
    }

    /// The deadline, if one is set.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.deadline != Instant::FAR).then_some(self.deadline)
    }

    /// Whether the deadline has passed, without waiting.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.deadline <= super::now()
    }

    /// Ready when the deadline has passed; it stays set (and ready) until it is set anew.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline == Instant::FAR {
            return Poll::Pending;
        }
        if self.is_due() {
            return Poll::Ready(());
        }
        let (inner, key) = self.seat.get_or_insert_with(|| {
            let inner = context::current();
            let key = inner.wheel.borrow_mut().insert(None);
            (inner, key)
        });
        let mut wheel = inner.wheel.borrow_mut();
        if wheel.deadline(*key) != self.deadline {
            wheel.set(*key, self.deadline);
        }
        let old = match wheel.payload(*key) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => None,
            Some(place) => place.replace(cx.waker().clone()),
            None => None,
        };
        drop(wheel);
        drop(old);
        Poll::Pending
    }

    /// Waits for the deadline.
    pub async fn wait(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((inner, key)) = self.seat.take() {
            let waker = inner.wheel.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// The future of [`sleep`].
pub struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

/// Waits until `at`.
#[must_use]
pub fn sleep_until(at: Instant) -> Sleep {
    let mut timer = Timer::new();
    timer.set(at);
    Sleep(timer)
}

/// Waits for `duration`.
#[must_use]
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(super::now() + duration)
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(_: Elapsed) -> Self {
        std::io::ErrorKind::TimedOut.into()
    }
}

/// Runs `future`, but not beyond `at`.
///
/// # Errors
/// `Elapsed` when the time was up first; the future is dropped.
pub async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut timer = Timer::new();
    timer.set(at);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// Runs `future`, but not longer than `duration`. It holds the future twice (once to move it);
/// where memory for each connection counts, poll a [`Timer`] beside it instead.
///
/// # Errors
/// `Elapsed` when the time was up first; the future is dropped.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(super::now() + duration, future).await
}
