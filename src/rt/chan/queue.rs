//! A bounded queue with any number of senders and one receiver. Senders that wait are served in
//! the order in which they came.

use super::Closed;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct State<T> {
    items: VecDeque<T>,
    capacity: usize,
    senders: usize,
    closed: bool,
    receiver: Option<Waker>,
    /// Senders in line, oldest first; a place is empty when its sender has left.
    line: VecDeque<Waiting>,
    next_ticket: u64,
}

struct Waiting {
    ticket: u64,
    waker: Waker,
    /// A place in the queue is kept for this sender.
    admitted: bool,
}

impl<T> State<T> {
    fn reserved(&self) -> usize {
        self.line
            .iter()
            .take_while(|waiting| waiting.admitted)
            .count()
    }

    /// Whether there is room that nobody in line has a right to.
    fn has_room(&self) -> bool {
        self.items.len() + self.line.len() < self.capacity
    }

    /// Keeps free places for the first in line; gives the wakers to be called.
    fn admit(&mut self) -> Vec<Waker> {
        let mut free = self
            .capacity
            .saturating_sub(self.items.len() + self.reserved());
        let mut wakers = Vec::new();
        for waiting in self.line.iter_mut().filter(|waiting| !waiting.admitted) {
            if free == 0 && !self.closed {
                break;
            }
            free = free.saturating_sub(1);
            waiting.admitted = true;
            wakers.push(waiting.waker.clone());
        }
        wakers
    }
}

/// Puts values into the queue.
pub struct Sender<T>(Rc<RefCell<State<T>>>);

/// Takes values out of the queue.
pub struct Receiver<T>(Rc<RefCell<State<T>>>);

/// Why a value was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// A queue for at most `capacity` (at least 1) values.
#[must_use]
pub fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = Rc::new(RefCell::new(State {
        items: VecDeque::new(),
        capacity: capacity.max(1),
        senders: 1,
        closed: false,
        receiver: None,
        line: VecDeque::new(),
        next_ticket: 0,
    }));
    (Sender(Rc::clone(&state)), Receiver(state))
}

impl<T> Sender<T> {
    /// Puts a value in if there is room and nobody waits before.
    ///
    /// # Errors
    /// The value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.borrow_mut();
        if state.closed {
            return Err(TrySendError::Closed(value));
        }
        if !state.has_room() {
            return Err(TrySendError::Full(value));
        }
        state.items.push_back(value);
        let waker = state.receiver.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts a value in, waiting in line for room.
    ///
    /// # Errors
    /// The value comes back when the receiver is gone.
    pub async fn send(&self, value: T) -> Result<(), T> {
        let value = match self.try_send(value) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(value)) => return Err(value),
            Err(TrySendError::Full(value)) => value,
        };
        let mut place = Place {
            queue: self,
            ticket: None,
        };
        std::future::poll_fn(|cx| place.poll(cx)).await;
        // From here to the push nothing waits, so the place kept for this sender is free.
        drop(place);
        match self.try_push(value) {
            Some(value) => Err(value),
            None => Ok(()),
        }
    }

    fn try_push(&self, value: T) -> Option<T> {
        let mut state = self.0.borrow_mut();
        if state.closed {
            return Some(value);
        }
        state.items.push_back(value);
        let waker = state.receiver.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }
}

/// A sender's place in line; leaving it lets the next one come up.
struct Place<'a, T> {
    queue: &'a Sender<T>,
    ticket: Option<u64>,
}

impl<T> Place<'_, T> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.queue.0.borrow_mut();
        if state.closed {
            return Poll::Ready(());
        }
        let Some(ticket) = self.ticket else {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            self.ticket = Some(ticket);
            state.line.push_back(Waiting {
                ticket,
                waker: cx.waker().clone(),
                admitted: false,
            });
            return Poll::Pending;
        };
        match state
            .line
            .iter_mut()
            .find(|waiting| waiting.ticket == ticket)
        {
            Some(waiting) if !waiting.admitted => {
                waiting.waker.clone_from(cx.waker());
                Poll::Pending
            }
            _ => {
                // Admitted: the place in line becomes the place in the queue.
                state.line.retain(|waiting| waiting.ticket != ticket);
                self.ticket = None;
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.queue.0.borrow_mut();
        state.line.retain(|waiting| waiting.ticket != ticket);
        let wakers = state.admit();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.borrow_mut().senders += 1;
        Self(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.senders -= 1;
        let waker = if state.senders == 0 {
            state.receiver.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` when the queue is empty and every sender is gone.
    pub fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let Some(value) = state.items.pop_front() {
            let wakers = state.admit();
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(value));
        }
        if state.senders == 0 {
            return Poll::Ready(None);
        }
        let old = state.receiver.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// The next value; `None` when the queue is empty and every sender is gone.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next value if there is one.
    pub fn try_recv(&mut self) -> Result<Option<T>, Closed> {
        match self.poll_recv(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(value)) => Ok(Some(value)),
            Poll::Ready(None) => Err(Closed),
            Poll::Pending => Ok(None),
        }
    }

    /// Values in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().items.len()
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        let wakers = state.admit();
        drop(state);
        drop(items);
        wakers.into_iter().for_each(Waker::wake);
    }
}
