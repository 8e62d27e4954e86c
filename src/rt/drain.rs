//! Leaving in good order: a signal that says "finish what you have", with two deadlines, a tree
//! of watches that hear it, and a way to wait until everybody who watched is gone.

use crate::base::time::Instant;
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Until when what may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For requests and connections.
    pub ordinary: Instant,
    /// For upgraded connections and tunnels.
    pub upgraded: Instant,
}

#[derive(Default)]
struct State {
    started: Option<Deadlines>,
    waiting: Slab<Waker>,
    watches: usize,
    /// Who waits until the last watch is gone.
    ender: Option<Waker>,
    children: Vec<std::rc::Weak<RefCell<Self>>>,
    /// Keeps the parent from being over while a child has watches.
    parent: Option<Watch>,
}

type Shared = Rc<RefCell<State>>;

/// Starts a drain.
pub struct Signal(Shared);

/// Hears of a drain. As long as one exists, the drain is not over.
pub struct Watch {
    state: Shared,
    seat: Option<usize>,
}

/// A signal and its first watch.
#[must_use]
pub fn signal() -> (Signal, Watch) {
    let state = Shared::default();
    let watch = new_watch(&state);
    (Signal(state), watch)
}

fn new_watch(state: &Shared) -> Watch {
    state.borrow_mut().watches += 1;
    Watch {
        state: Rc::clone(state),
        seat: None,
    }
}

/// Starts the drain of a part and of everything below it. Deadlines only ever move closer.
fn start(state: &Shared, deadlines: Deadlines) {
    let (waiting, children) = {
        let mut state = state.borrow_mut();
        let closer = state.started.map_or(deadlines, |before| Deadlines {
            ordinary: before.ordinary.min(deadlines.ordinary),
            upgraded: before.upgraded.min(deadlines.upgraded),
        });
        state.started = Some(closer);
        let waiting: Vec<Waker> = state
            .waiting
            .iter()
            .map(|(_, waker)| waker.clone())
            .collect();
        (waiting, state.children.clone())
    };
    waiting.into_iter().for_each(Waker::wake);
    for child in children.iter().filter_map(std::rc::Weak::upgrade) {
        start(&child, deadlines);
    }
}

impl Signal {
    /// Starts the drain, or moves its deadlines closer. Every watch that waits is woken.
    pub fn start(&self, deadlines: Deadlines) {
        start(&self.0, deadlines);
    }

    /// Whether it was started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.borrow().started.is_some()
    }

    /// A further watch.
    #[must_use]
    pub fn watch(&self) -> Watch {
        new_watch(&self.0)
    }

    /// Watches that exist, here and below.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.0.borrow().watches
    }

    /// Ready when no watch is left.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if state.watches == 0 {
            return Poll::Ready(());
        }
        let old = state.ender.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Waits until no watch is left.
    pub async fn over(&self) {
        std::future::poll_fn(|cx| self.poll_over(cx)).await;
    }
}

impl Watch {
    /// The deadlines, once the drain has started.
    #[must_use]
    pub fn started(&self) -> Option<Deadlines> {
        self.state.borrow().started
    }

    /// Whether the drain has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started().is_some()
    }

    /// Ready once the drain has started.
    pub fn poll_started(&mut self, cx: &Context<'_>) -> Poll<Deadlines> {
        let mut state = self.state.borrow_mut();
        if let Some(deadlines) = state.started {
            return Poll::Ready(deadlines);
        }
        let mut old = None;
        match self.seat.and_then(|seat| state.waiting.get_mut(seat)) {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            Some(waker) => old = Some(std::mem::replace(waker, cx.waker().clone())),
            None => self.seat = Some(state.waiting.insert(cx.waker().clone())),
        }
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Waits until the drain has started.
    pub async fn wait_started(&mut self) -> Deadlines {
        std::future::poll_fn(|cx| self.poll_started(cx)).await
    }

    /// A part of its own: it drains when this one does, or when its own signal says so.
    #[must_use]
    pub fn branch(&self) -> (Signal, Self) {
        let state = Shared::default();
        {
            let mut state = state.borrow_mut();
            state.started = self.started();
            state.parent = Some(self.clone());
        }
        {
            let mut parent = self.state.borrow_mut();
            parent.children.retain(|child| child.strong_count() != 0);
            parent.children.push(Rc::downgrade(&state));
        }
        let watch = new_watch(&state);
        (Signal(state), watch)
    }
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        new_watch(&self.state)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let waker = self
            .seat
            .take()
            .and_then(|seat| state.waiting.try_remove(seat));
        state.watches -= 1;
        let last = state.watches == 0;
        let (ender, parent) = if last {
            (state.ender.take(), state.parent.take())
        } else {
            (None, None)
        };
        drop(state);
        drop((waker, parent));
        if let Some(ender) = ender {
            ender.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Deadlines {
        Deadlines {
            ordinary: Instant::from_nanos(n),
            upgraded: Instant::from_nanos(n + 100),
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn every_watch_hears_it_and_the_last_one_ends_it() {
        let (signal, mut a) = signal();
        let mut b = a.clone();
        assert!(a.poll_started(&cx()).is_pending());
        assert!(b.poll_started(&cx()).is_pending());
        signal.start(at(5));
        assert_eq!(a.poll_started(&cx()), Poll::Ready(at(5)));
        assert_eq!(b.started(), Some(at(5)));
        drop(a);
        assert!(signal.poll_over(&cx()).is_pending());
        drop(b);
        assert!(signal.poll_over(&cx()).is_ready());
    }

    #[test]
    fn a_second_start_only_moves_closer() {
        let (signal, watch) = signal();
        signal.start(at(50));
        signal.start(Deadlines {
            ordinary: Instant::from_nanos(60),
            upgraded: Instant::from_nanos(7),
        });
        let now = watch.started().unwrap();
        assert_eq!((now.ordinary.as_nanos(), now.upgraded.as_nanos()), (50, 7));
    }

    #[test]
    fn a_branch_drains_alone_or_with_the_trunk() {
        let (signal, trunk) = signal();
        let (own, first) = trunk.branch();
        let (_other, second) = trunk.branch();
        own.start(at(1));
        assert!(first.is_started() && !second.is_started() && !trunk.is_started());
        signal.start(at(9));
        assert_eq!(second.started(), Some(at(9)));
        assert_eq!(first.started(), Some(at(1)));
        let (_third_signal, third) = trunk.branch();
        assert!(third.is_started());
        drop((trunk, second, third));
        assert!(
            signal.poll_over(&cx()).is_pending(),
            "a branch has a watch left"
        );
        drop(first);
        assert!(signal.poll_over(&cx()).is_ready());
    }

    #[test]
    fn a_dropped_watch_leaves_no_waker_behind() {
        let (signal, mut watch) = signal();
        for _ in 0..100 {
            let mut other = watch.clone();
            assert!(other.poll_started(&cx()).is_pending());
        }
        assert!(watch.poll_started(&cx()).is_pending());
        assert_eq!(signal.0.borrow().waiting.len(), 1);
        assert_eq!(signal.watches(), 1);
    }
}
