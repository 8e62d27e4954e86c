//! The task table and the run queue of one event loop. It polls what is queued and knows neither
//! sockets nor time.

use super::task::{Header, Remote, TaskKey};
use slab::Slab;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;

struct Body {
    future: Future,
    header: Arc<Header>,
    waker: Waker,
}

struct Slot {
    generation: u32,
    /// Absent while the task is being polled.
    body: Option<Body>,
}

/// Memory of one place in the task table.
#[cfg(test)]
pub const SLOT_SIZE: usize = size_of::<Slot>();

/// Tasks and the order in which they run.
pub struct Executor {
    remote: Arc<Remote>,
    tasks: RefCell<Slab<Slot>>,
    queue: RefCell<VecDeque<TaskKey>>,
    generation: Cell<u32>,
    panics: Cell<u64>,
}

fn split(key: TaskKey) -> (usize, u32) {
    ((key & u64::from(u32::MAX)) as usize, (key >> 32) as u32)
}

impl Executor {
    pub fn new() -> Self {
        Self {
            remote: Arc::new(Remote::new()),
            tasks: RefCell::new(Slab::new()),
            queue: RefCell::new(VecDeque::new()),
            generation: Cell::new(0),
            panics: Cell::new(0),
        }
    }

    pub const fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    pub const fn panics(&self) -> u64 {
        self.panics.get()
    }

    pub fn tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    pub fn push(&self, key: TaskKey) {
        self.queue.borrow_mut().push_back(key);
    }

    pub fn pop(&self) -> Option<TaskKey> {
        self.queue.borrow_mut().pop_front()
    }

    /// Takes the task that `pick` chooses out of so many; their order suffers.
    pub fn pop_any(&self, pick: impl FnOnce(usize) -> usize) -> Option<TaskKey> {
        let mut queue = self.queue.borrow_mut();
        let len = queue.len();
        queue.swap_remove_front(pick(len))
    }

    pub fn has_work(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Takes over what other threads woke.
    pub fn drain_remote(&self) {
        self.remote.drain(|key| self.push(key));
    }

    pub fn spawn(&self, future: Future) -> TaskKey {
        // A generation never repeats soon, so a waker that outlives its task wakes nobody else.
        // The highest one is left to the key of the main future.
        let generation = self.generation.get().wrapping_add(1) % u32::MAX;
        self.generation.set(generation);
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let key = u64::from(generation) << 32 | entry.key() as u64;
        let header = Header::new(Arc::clone(&self.remote), key);
        let waker = header.waker();
        entry.insert(Slot {
            generation,
            body: Some(Body {
                future,
                header,
                waker,
            }),
        });
        drop(tasks);
        self.push(key);
        key
    }

    /// Whether the task is not over yet.
    pub fn alive(&self, key: TaskKey) -> bool {
        let (place, generation) = split(key);
        self.tasks
            .borrow()
            .get(place)
            .is_some_and(|slot| slot.generation == generation)
    }

    /// Queues a task that waits; one that is being polled sees for itself.
    pub fn wake(&self, key: TaskKey) {
        let (place, generation) = split(key);
        let waker = self
            .tasks
            .borrow()
            .get(place)
            .filter(|slot| slot.generation == generation)
            .and_then(|slot| slot.body.as_ref())
            .map(|body| body.waker.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take_body(&self, key: TaskKey) -> Option<Body> {
        let (place, generation) = split(key);
        let mut tasks = self.tasks.borrow_mut();
        tasks
            .get_mut(place)
            .filter(|slot| slot.generation == generation)?
            .body
            .take()
    }

    /// Takes the task out of the table, whether it is being polled or not.
    fn forget(&self, key: TaskKey) -> Option<Body> {
        let (place, generation) = split(key);
        let mut tasks = self.tasks.borrow_mut();
        tasks
            .get(place)
            .filter(|slot| slot.generation == generation)?;
        tasks.try_remove(place)?.body
    }

    /// Ends a task: its future is dropped now, or when its present poll returns.
    pub fn abort(&self, key: TaskKey) {
        if let Some(body) = self.forget(key) {
            self.drop_body(body);
        }
    }

    /// Polls one task; false when it was over already.
    pub fn run(&self, key: TaskKey) -> bool {
        let Some(mut body) = self.take_body(key) else {
            return false;
        };
        body.header.unqueue();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            body.future
                .as_mut()
                .poll(&mut Context::from_waker(&body.waker))
        }));
        match polled {
            Ok(Poll::Pending) => self.put_back(key, body),
            Ok(Poll::Ready(())) => {
                self.forget(key);
                self.drop_body(body);
            }
            Err(payload) => {
                self.note_panic(&*payload);
                self.forget(key);
                self.drop_body(body);
            }
        }
        true
    }

    fn put_back(&self, key: TaskKey, body: Body) {
        let (place, generation) = split(key);
        let mut tasks = self.tasks.borrow_mut();
        match tasks
            .get_mut(place)
            .filter(|slot| slot.generation == generation)
        {
            Some(slot) => slot.body = Some(body),
            None => {
                // Aborted during its own poll.
                drop(tasks);
                self.drop_body(body);
            }
        }
    }

    /// Drops a future with nothing borrowed: its destructor may use the loop, and may panic.
    fn drop_body(&self, body: Body) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(body))) {
            self.note_panic(&*payload);
        }
    }

    fn note_panic(&self, payload: &(dyn Any + Send)) {
        self.panics.set(self.panics.get() + 1);
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        log::error!("a task panicked and was ended: {what}");
    }

    /// Drops every task, also those that their destructors spawn.
    pub fn clear(&self) {
        loop {
            let bodies: Vec<Body> = {
                let mut tasks = self.tasks.borrow_mut();
                tasks.drain().filter_map(|slot| slot.body).collect()
            };
            if bodies.is_empty() {
                break;
            }
            bodies.into_iter().for_each(|body| self.drop_body(body));
        }
        self.queue.borrow_mut().clear();
    }
}
