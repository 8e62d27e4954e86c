//! Memory that an active connection needs and an idle one does not: heads and outboxes, kept per
//! thread to be used again, so that a request allocates nothing in steady state.

use std::cell::RefCell;

use crate::proto::head::{RequestHead, ResponseHead};

/// Sets kept for later; more are freed, so that a burst gives its memory back.
const KEPT_MAX: usize = 64;
/// Outboxes that grew beyond this are not kept.
const OUTBOX_KEPT_MAX: usize = 16 << 10;

type Sets = Vec<Box<Scratch>>;

thread_local! {
    static FREE: RefCell<Sets> = const { RefCell::new(Vec::new()) };
}

/// Heads and outboxes of one exchange.
#[derive(Default)]
pub struct Scratch {
    /// The request.
    pub request: RequestHead,
    /// The response.
    pub response: ResponseHead,
    /// Outbox towards the client.
    pub front: Vec<u8>,
    /// Outbox towards the server.
    pub back: Vec<u8>,
    /// Any text that is put together on the way.
    pub text: Vec<u8>,
}

impl Scratch {
    /// A set, used before if there is one.
    #[must_use]
    pub fn take() -> Box<Self> {
        FREE.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Keeps the set for the next exchange.
    pub fn keep(mut self: Box<Self>) {
        for text in [&mut self.front, &mut self.back, &mut self.text] {
            text.clear();
            if text.capacity() > OUTBOX_KEPT_MAX {
                *text = Vec::new();
            }
        }
        FREE.with_borrow_mut(|free| {
            if free.len() < KEPT_MAX {
                free.push(self);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_empty_and_large_ones_are_freed() {
        let mut set = Scratch::take();
        set.back.reserve(OUTBOX_KEPT_MAX + 1);
        set.front.extend_from_slice(&[1; 100]);
        set.keep();
        let set = Scratch::take();
        assert!(set.front.is_empty() && set.front.capacity() >= 100);
        assert_eq!(set.back.capacity(), 0);
    }
}
