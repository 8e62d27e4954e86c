//! The header of a task and its waker: the one part of the loop that other threads may touch.
//! Everything else of a task stays in `executor.rs`, on its own thread.

use super::context;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Wake, Waker};

/// Place in the task table in the low half, its generation in the high half.
pub type TaskKey = u64;

/// The key of the future given to `block_on`.
pub const MAIN: TaskKey = u64::MAX;

/// How other threads reach the loop.
pub struct Remote {
    woken: Mutex<Vec<TaskKey>>,
    pending: AtomicBool,
    bell: OnceLock<mio::Waker>,
}

impl Remote {
    pub fn new() -> Self {
        Self {
            woken: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
            bell: OnceLock::new(),
        }
    }

    /// Connects the bell that ends a sleep of the loop.
    pub fn set_bell(&self, bell: mio::Waker) {
        // There is one reactor for one remote, so the cell is empty.
        let _already = self.bell.set(bell);
    }

    fn push(&self, key: TaskKey) {
        self.woken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Some(bell) = self.bell.get()
            && let Err(error) = bell.wake()
        {
            log::error!("the event loop cannot be woken: {error}");
        }
    }

    /// What was woken from outside since the last call.
    pub fn drain(&self, mut each: impl FnMut(TaskKey)) {
        if !self.pending.swap(false, Ordering::AcqRel) {
            return;
        }
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        woken.into_iter().for_each(&mut each);
    }
}

/// What a waker points to.
pub struct Header {
    remote: Arc<Remote>,
    key: TaskKey,
    queued: AtomicBool,
}

impl Header {
    pub fn new(remote: Arc<Remote>, key: TaskKey) -> Arc<Self> {
        Arc::new(Self {
            remote,
            key,
            queued: AtomicBool::new(true),
        })
    }

    /// Called right before the task is polled: a wake from now on queues it again.
    pub fn unqueue(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }

    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Header {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if !context::queue_local(&self.remote, self.key) {
            self.remote.push(self.key);
        }
    }
}
