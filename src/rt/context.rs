//! What one event loop consists of, and how code finds the loop that it runs in.

use super::executor::Executor;
use super::reactor::Reactor;
use super::sim::World;
use super::task::{Remote, TaskKey};
use super::wheel::Wheel;
use crate::base::time::Instant;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where events come from.
pub enum Driver {
    /// The kernel.
    Real(Reactor),
    /// The simulation.
    Sim(Rc<World>),
}

/// One event loop.
pub struct Inner {
    pub exec: Executor,
    pub wheel: RefCell<Wheel<Option<Waker>>>,
    pub driver: Driver,
    pub now: Cell<Instant>,
    /// Socket operations that the present poll of a task may still make.
    pub budget: Cell<u32>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Inner>>> = const { RefCell::new(None) };
}

impl Inner {
    pub fn reactor(&self) -> io::Result<&Reactor> {
        match &self.driver {
            Driver::Real(reactor) => Ok(reactor),
            Driver::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Tasks must not fail unseen in a test.
    #[expect(
        clippy::panic,
        reason = "a failed assertion in a simulated task is a failed test"
    )]
    pub fn check_panics(&self) {
        if let Driver::Sim(world) = &self.driver
            && self.exec.panics() != 0
            && !world.panics_allowed()
        {
            panic!("{} tasks of the simulation panicked", self.exec.panics());
        }
    }

    /// The next task to run: the oldest, or in a simulation a random one.
    pub fn pop(&self) -> Option<TaskKey> {
        match &self.driver {
            Driver::Real(_) => self.exec.pop(),
            Driver::Sim(world) => self.exec.pop_any(|len| world.pick(len)),
        }
    }

    /// Lets one task make only so many operations in one poll: when they are used up, it is
    /// queued again behind the others.
    pub fn spend_budget(&self, cx: &Context<'_>) -> Poll<()> {
        match self.budget.get().checked_sub(1) {
            Some(rest) => {
                self.budget.set(rest);
                Poll::Ready(())
            }
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// The loop that runs on this thread, if one does.
pub fn try_current() -> Option<Rc<Inner>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// The loop that runs on this thread.
#[expect(
    clippy::expect_used,
    reason = "using a loop outside of one is a defect of the caller"
)]
pub fn current() -> Rc<Inner> {
    try_current().expect("called outside of an event loop")
}

/// Calls `f` with the loop that runs on this thread.
pub fn with<R>(f: impl FnOnce(&Inner) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| current.borrow().as_deref().map(f))
        .ok()
        .flatten()
}

/// Queues a task of the loop that `remote` belongs to, if that is the one of this thread.
pub fn queue_local(remote: &Arc<Remote>, key: TaskKey) -> bool {
    with(|inner| {
        let ours = Arc::ptr_eq(inner.exec.remote(), remote);
        if ours {
            inner.exec.push(key);
        }
        ours
    })
    .unwrap_or(false)
}

/// Makes `inner` the loop of this thread until the guard is dropped.
pub struct Entered(Option<Rc<Inner>>);

pub fn enter(inner: Rc<Inner>) -> Entered {
    Entered(CURRENT.with(|current| current.borrow_mut().replace(inner)))
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        let old = CURRENT.try_with(|current| std::mem::replace(&mut *current.borrow_mut(), before));
        drop(old);
    }
}
