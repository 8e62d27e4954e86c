//! The latest value: one writer, any number of readers, each told once of a change.

use super::Closed;
use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct State<T> {
    value: T,
    version: u64,
    closed: bool,
    waiting: Vec<Waker>,
}

/// Writes the value.
pub struct LatestSender<T>(Rc<RefCell<State<T>>>);

/// Reads the value.
pub struct Latest<T> {
    state: Rc<RefCell<State<T>>>,
    seen: u64,
}

/// A value that is `value` for now. The reader has not seen it yet.
#[must_use]
pub fn latest<T>(value: T) -> (LatestSender<T>, Latest<T>) {
    let state = Rc::new(RefCell::new(State {
        value,
        version: 1,
        closed: false,
        waiting: Vec::new(),
    }));
    (LatestSender(Rc::clone(&state)), Latest { state, seen: 0 })
}

impl<T> LatestSender<T> {
    /// Replaces the value and tells every reader.
    pub fn set(&self, value: T) {
        let (old, waiting) = {
            let mut state = self.0.borrow_mut();
            state.version += 1;
            (
                std::mem::replace(&mut state.value, value),
                std::mem::take(&mut state.waiting),
            )
        };
        drop(old);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> Ref<'_, T> {
        Ref::map(self.0.borrow(), |state| &state.value)
    }

    /// A further reader, which has seen nothing yet.
    #[must_use]
    pub fn subscribe(&self) -> Latest<T> {
        Latest {
            state: Rc::clone(&self.0),
            seen: 0,
        }
    }
}

impl<T> Drop for LatestSender<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T> Latest<T> {
    /// The present value. Not to be held while anything waits.
    #[must_use]
    pub fn get(&self) -> Ref<'_, T> {
        Ref::map(self.state.borrow(), |state| &state.value)
    }

    /// Ready once for the first call and then after every change; several changes in between
    /// count as one.
    pub fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = self.state.borrow_mut();
        if state.version != self.seen {
            self.seen = state.version;
            return Poll::Ready(Ok(()));
        }
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        if !state
            .waiting
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for a value that was not seen yet.
    ///
    /// # Errors
    /// When the writer is gone and its last value was seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        std::future::poll_fn(|cx| self.poll_changed(cx)).await
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self {
            state: Rc::clone(&self.state),
            seen: self.seen,
        }
    }
}
