//! One value, sent once.

use super::Closed;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

enum State<T> {
    Empty(Option<Waker>),
    Full(T),
    /// The value was taken, or one end is gone.
    Over,
}

/// Sends the value.
pub struct OneSender<T>(Rc<RefCell<State<T>>>);

/// Waits for the value.
pub struct OneReceiver<T>(Rc<RefCell<State<T>>>);

/// A channel for one value.
#[must_use]
pub fn oneshot<T>() -> (OneSender<T>, OneReceiver<T>) {
    let state = Rc::new(RefCell::new(State::Empty(None)));
    (OneSender(Rc::clone(&state)), OneReceiver(state))
}

impl<T> OneSender<T> {
    /// Sends it.
    ///
    /// # Errors
    /// The value comes back when nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = self.0.borrow_mut();
        if matches!(*state, State::Over) {
            return Err(value);
        }
        let before = std::mem::replace(&mut *state, State::Full(value));
        drop(state);
        if let State::Empty(Some(waker)) = before {
            waker.wake();
        }
        Ok(())
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.0.borrow(), State::Over)
    }
}

impl<T> Drop for OneSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if let State::Empty(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Over;
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> OneReceiver<T> {
    /// The value, if it is there.
    #[must_use]
    pub fn try_take(&mut self) -> Option<T> {
        let mut state = self.0.borrow_mut();
        if !matches!(*state, State::Full(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Full(value) => Some(value),
            State::Empty(_) | State::Over => None,
        }
    }
}

impl<T> Future for OneReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.try_take() {
            return Poll::Ready(Ok(value));
        }
        let mut state = self.0.borrow_mut();
        let State::Empty(waker) = &mut *state else {
            return Poll::Ready(Err(Closed));
        };
        let old = waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for OneReceiver<T> {
    fn drop(&mut self) {
        let before = self.0.replace(State::Over);
        drop(before);
    }
}
