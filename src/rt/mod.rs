//! The event loop of a worker thread: executor, reactor, timers, sockets, channels.
//!
//! One thread, one loop, nothing is `Send`. A loop made by [`Runtime::simulated`] runs the same
//! code on a virtual clock and an in-memory network (`sim`). What it is not: a general runtime.
//! There is no thread pool, no blocking call, and a future outside of a loop cannot use it.

pub mod chan;
mod context;
pub mod drain;
mod executor;
pub mod fd;
mod reactor;
pub mod sim;
pub mod sock;
mod task;
mod timer;
pub mod wheel;

pub use timer::{Elapsed, Sleep, Timer, sleep, sleep_until, timeout, timeout_at};

use crate::base::time::Instant;
use crate::sys::{clock, entropy};
use context::{Driver, Inner};
use executor::Executor;
use reactor::Reactor;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use task::{Header, MAIN};

/// Settings of an event loop.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Tasks polled before the loop looks for new events again.
    pub polls_per_turn: u32,
    /// Socket operations that one task may make before the others get their turn.
    pub budget: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            polls_per_turn: 256,
            budget: 64,
        }
    }
}

/// What happened in one turn of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnStats {
    /// From the end of the wait for events until everything that was ready had run: the longest
    /// that an event of this turn can have waited.
    pub busy: Duration,
    /// Tasks polled.
    pub polled: u32,
    /// Events that the kernel reported.
    pub events: u32,
    /// The time at the end of the turn.
    pub now: Instant,
}

type Hook = Box<dyn FnMut(&TurnStats)>;

/// An event loop. It runs while `block_on` runs.
pub struct Runtime {
    inner: Rc<Inner>,
    config: Config,
    hook: RefCell<Option<Hook>>,
    /// Reused by `fire_timers`.
    due: RefCell<Vec<Waker>>,
}

impl Runtime {
    /// A loop on the real clock and the kernel's sockets.
    ///
    /// # Errors
    /// When the kernel gives no epoll descriptor.
    pub fn new(config: Config) -> io::Result<Self> {
        let (reactor, bell) = Reactor::new()?;
        let runtime = Self::with(config, Driver::Real(reactor), clock::monotonic());
        runtime.inner.exec.remote().set_bell(bell);
        Ok(runtime)
    }

    /// A loop on a virtual clock and an in-memory network; the same seed gives the same run.
    #[must_use]
    pub fn simulated(seed: u64) -> Self {
        let world = Rc::new(sim::World::new(seed));
        Self::with(Config::default(), Driver::Sim(world), sim::START)
    }

    fn with(config: Config, driver: Driver, now: Instant) -> Self {
        let inner = Inner {
            exec: Executor::new(),
            wheel: RefCell::new(wheel::Wheel::new(now)),
            driver,
            now: Cell::new(now),
            budget: Cell::new(config.budget),
        };
        Self {
            inner: Rc::new(inner),
            config,
            hook: RefCell::new(None),
            due: RefCell::default(),
        }
    }

    /// Calls `hook` at the end of every turn, before the loop waits. It costs one clock read a turn.
    pub fn on_turn(&self, hook: impl FnMut(&TurnStats) + 'static) {
        *self.hook.borrow_mut() = Some(Box::new(hook));
    }

    /// Tasks that ended by a panic so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.inner.exec.panics()
    }

    /// Tasks that are not over.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.inner.exec.tasks()
    }

    /// Starts a task; it runs when `block_on` runs.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        let key = self.inner.exec.spawn(Box::pin(future));
        Task {
            inner: Rc::clone(&self.inner),
            key,
        }
    }

    /// Runs the loop until `future` is ready. Tasks that are left stay for the next call; a panic
    /// of `future` itself goes to the caller, and in a simulation so does that of any task, unless
    /// `sim::Net::allow_panics` was called.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = context::enter(Rc::clone(&self.inner));
        self.inner.now.set(self.read_clock());
        let mut future = pin!(future);
        let header = Header::new(std::sync::Arc::clone(self.inner.exec.remote()), MAIN);
        let waker = header.waker();
        self.inner.exec.push(MAIN);
        let mut stats = TurnStats::default();
        loop {
            while stats.polled < self.config.polls_per_turn {
                let Some(key) = self.inner.pop() else { break };
                self.inner.budget.set(self.config.budget);
                if key == MAIN {
                    header.unqueue();
                    let mut cx = Context::from_waker(&waker);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        self.inner.check_panics();
                        return output;
                    }
                    stats.polled += 1;
                } else if self.inner.exec.run(key) {
                    stats.polled += 1;
                }
            }
            stats = self.turn(stats);
        }
    }

    /// Ends a turn: reports it, waits for the next event or timer and wakes who is due.
    fn turn(&self, mut stats: TurnStats) -> TurnStats {
        let hook = self.hook.borrow_mut().take();
        if let Some(mut call) = hook {
            stats.now = self.read_clock();
            stats.busy = stats.now.saturating_since(self.inner.now.get());
            call(&stats);
            // The hook may have put another in its place.
            self.hook.borrow_mut().get_or_insert(call);
        }
        let idle = !self.inner.exec.has_work();
        let next = self.inner.wheel.borrow().next();
        let events = match &self.inner.driver {
            Driver::Real(reactor) => {
                let timeout = match (idle, next) {
                    (false, _) => Some(Duration::ZERO),
                    (true, None) => None,
                    (true, Some(at)) => Some(at.saturating_since(clock::monotonic())),
                };
                let events = reactor.turn(timeout);
                self.inner.now.set(clock::monotonic());
                events
            }
            Driver::Sim(world) => {
                let now = self.inner.now.get();
                self.inner.now.set(world.turn(now, idle, next));
                0
            }
        };
        self.inner.exec.drain_remote();
        self.fire_timers();
        TurnStats {
            events,
            ..TurnStats::default()
        }
    }

    fn fire_timers(&self) {
        let now = self.inner.now.get();
        if self.inner.wheel.borrow().next().is_none_or(|at| at > now) {
            return;
        }
        let mut due = self.due.take();
        self.inner
            .wheel
            .borrow_mut()
            .expire(now, |_, waker| due.extend(waker.take()));
        due.drain(..).for_each(Waker::wake);
        self.due.replace(due);
    }

    fn read_clock(&self) -> Instant {
        match &self.inner.driver {
            Driver::Real(_) => clock::monotonic(),
            Driver::Sim(_) => self.inner.now.get(),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Tasks hold sockets and timers that hold the loop: break the circle.
        let _entered = context::enter(Rc::clone(&self.inner));
        self.inner.exec.clear();
        if let Driver::Sim(world) = &self.inner.driver {
            world.clear();
        }
    }
}

/// A started task. Dropping it lets the task run on.
#[must_use = "dropping it is fine, but then the task cannot be aborted"]
pub struct Task {
    inner: Rc<Inner>,
    key: task::TaskKey,
}

impl Task {
    /// Ends the task: its future is dropped at once, or when its present poll returns.
    pub fn abort(self) {
        self.inner.exec.abort(self.key);
    }

    /// Has the task polled once more, so that it sees what has changed around it.
    pub fn wake(&self) {
        self.inner.exec.wake(self.key);
    }

    /// Whether the task is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.inner.exec.alive(self.key)
    }

    /// Lets the task run on by itself; says so where the value would be ignored.
    pub fn detach(self) {}
}

/// Starts a task on the loop of this thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Task {
    let inner = context::current();
    let key = inner.exec.spawn(Box::pin(future));
    Task { inner, key }
}

/// The loop's clock, read once a turn. Outside of a loop the real clock.
#[must_use]
pub fn now() -> Instant {
    context::with(|inner| inner.now.get()).unwrap_or_else(clock::monotonic)
}

/// Whether this thread runs a loop at the moment.
#[must_use]
pub fn is_running() -> bool {
    context::with(|_| ()).is_some()
}

/// Whether this thread runs a simulated loop at the moment.
#[must_use]
pub fn is_simulated() -> bool {
    context::with(|inner| matches!(inner.driver, Driver::Sim(_))).unwrap_or(false)
}

/// Tasks of this thread's loop that ended by a panic so far.
#[must_use]
pub fn panics() -> u64 {
    context::with(|inner| inner.exec.panics()).unwrap_or(0)
}

/// Tasks of this thread's loop.
#[must_use]
pub fn tasks() -> usize {
    context::with(|inner| inner.exec.tasks()).unwrap_or(0)
}

/// A number that nobody can guess; in a simulation one of its seed.
#[must_use]
pub fn random() -> u64 {
    let simulated = context::with(|inner| match &inner.driver {
        Driver::Sim(world) => Some(world.rng().next()),
        Driver::Real(_) => None,
    });
    simulated
        .flatten()
        .unwrap_or_else(|| entropy::number().unwrap_or_default())
}

/// Counts one operation against the task's budget; `Pending` (and woken again) when it is used
/// up. For sources of work that are always ready.
pub fn poll_budget(cx: &Context<'_>) -> Poll<()> {
    context::with(|inner| inner.spend_budget(cx)).unwrap_or(Poll::Ready(()))
}

/// Lets the other tasks run first.
pub fn yield_now() -> YieldNow {
    YieldNow(false)
}

/// The future of [`yield_now`].
pub struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
