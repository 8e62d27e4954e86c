//! The supervisor: what happens to which process, and when. A pure state machine: events and the
//! time go in, actions come out; it makes no system call, reads no clock and knows no number of a
//! process. The shell (`process::master`) carries the actions out and reports what came of them.
//!
//! A generation is `Starting` ⇒ `Live` ⇒ `Draining` ⇒ gone, or `Starting` ⇒ `Aborting` ⇒ gone.
//! Invariants, checked by the simulation in `tests.rs`:
//! - at most one generation is starting, and a reload begins only when none is;
//! - no worker accepts a connection before its generation is live, so one that is given up takes
//!   none with it;
//! - an old generation is told to drain only after every worker of the new one is ready;
//! - once one generation was live, there is exactly one until a stop is asked for;
//! - nothing is forked after a stop was asked for;
//! - each child that was forked is either gone or still known here.

mod generation;
mod reload;
pub mod restart;
mod stop;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::time::Instant;
use crate::proto::control::Drain;
use crate::sys::process::Exit;

use generation::{Generation, Phase};
use restart::{History, Policy};

/// A process for as long as the supervisor lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(pub u64);

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Serves; the number is its place in the generation.
    Worker(u32),
    /// The admin process.
    Admin,
    /// The demo servers.
    Demo,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Worker(index) => write!(f, "worker {index}"),
            Self::Admin => f.write_str("admin"),
            Self::Demo => f.write_str("demo"),
        }
    }
}

/// What the supervisor needs to know of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// How many workers.
    pub workers: u32,
    /// Whether there is an admin process.
    pub admin: bool,
    /// Whether there is a process of demo servers.
    pub demo: bool,
    /// How long a worker may take to become ready.
    pub ready_timeout: Duration,
    /// How long a stop may take.
    pub stop_timeout: Duration,
    /// How long ordinary exchanges of an old generation may take.
    pub drain_timeout: Duration,
    /// How long upgraded connections of an old generation may live.
    pub drain_timeout_upgraded: Duration,
    /// The longest any connection of this generation may live on: the largest of the two and of
    /// all routes.
    pub drain_longest: Duration,
    /// How much memory all draining generations may hold together, in bytes.
    pub drain_memory_max: u64,
    /// How many generations may live, the live one included.
    pub max_generations: u32,
    /// The time over which a generation that is one too many closes its connections.
    pub drain_spread: Duration,
    /// Requests to reload within this time make one reload.
    pub reload_debounce: Duration,
    /// A worker that is silent for so long is killed.
    pub heartbeat_timeout: Duration,
    /// When a process that ended is started again.
    pub restart: Policy,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reload is wanted; at first, the start.
    Reload,
    /// A bounded graceful stop is wanted; a second time, one at once.
    Stop,
    /// A graceful stop without bound is wanted.
    Quit,
    /// The configuration was loaded and its sockets are bound, or why not: the answer to
    /// [`Action::Load`].
    Loaded(Result<Box<Params>, String>),
    /// A child could not be forked.
    ForkFailed(ChildId, String),
    /// A child has built everything: a worker can serve, a helper does.
    Ready(ChildId),
    /// A child cannot serve.
    Failed(ChildId, String),
    /// A child ended.
    Exited(ChildId, Exit),
    /// The heartbeat that a worker stored last; to be told every second or so.
    Beat(ChildId, u64),
    /// The memory that a worker holds, in bytes.
    Memory(ChildId, u64),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Load and check the configuration and bind what is new, for this generation.
    Load(u64),
    /// Start a child.
    Fork {
        /// Who it will be.
        child: ChildId,
        /// What for.
        role: Role,
        /// With which configuration.
        generation: u64,
    },
    /// Ask a helper to leave soon.
    Terminate(ChildId),
    /// End a child now.
    Kill(ChildId),
    /// Tell a worker that is ready to accept connections.
    Serve(ChildId),
    /// Tell a worker to finish and leave.
    Drain(ChildId, Drain),
    /// Tell a worker to close what is open, over this time, and leave.
    Close(ChildId, Duration),
    /// Every worker of the generation is ready: it is the live one now.
    Live(u64),
    /// Nothing of the generation runs any more: forget it.
    Discard(u64),
    /// A start or reload is over: the generation that is live now, or why it failed.
    Outcome(Result<u64, String>),
    /// A child ended that should not have, and is started again after a delay.
    Restart {
        /// What it was for.
        role: Role,
        /// Its generation.
        generation: u64,
        /// What happened.
        cause: String,
        /// The delay.
        after: Duration,
    },
    /// Too many restarts.
    Alert {
        /// Of what.
        role: Role,
        /// How many within the window.
        restarts: u32,
    },
    /// A worker is silent and will be killed.
    Silent(ChildId, Duration),
    /// The end begins.
    Stopping,
    /// Everything is over: leave with this code.
    Leave(u8),
}

/// A place in which a child runs, or is to run again.
#[derive(Clone, Debug, Default)]
struct Slot {
    child: Option<ChildId>,
    restart_at: Option<Instant>,
    history: History,
}

/// How far a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Starting ⇒ `Running` by READY, or killed at the deadline.
    Starting { deadline: Instant },
    /// Running ⇒ `Leaving` by an order, or gone by a crash.
    Running,
    /// Leaving ⇒ gone; it was told to.
    Leaving,
    /// Killed ⇒ gone; there is nothing more to do to it.
    Killed,
}

/// A child that was forked and has not ended.
#[derive(Clone, Debug)]
struct Child {
    role: Role,
    generation: u64,
    stage: Stage,
    /// It is killed then.
    kill_at: Option<Instant>,
    beat: watch::Beat,
    memory: u64,
    /// Why it said that it cannot serve.
    complaint: Option<String>,
}

/// Whether reloads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Running ⇒ `Stopping` by a signal, ⇒ `Left` by a failed first start.
    Running,
    /// Stopping ⇒ `Left` when the last child is gone. Unbounded, it waits for every connection.
    Stopping { bounded: bool, code: u8 },
    /// Left: nothing happens any more.
    Left,
}

/// The state machine.
#[derive(Debug)]
pub struct Supervisor {
    mode: Mode,
    generations: BTreeMap<u64, Generation>,
    children: BTreeMap<ChildId, Child>,
    admin: Slot,
    reload: reload::Reload,
    generations_made: u64,
    children_made: u64,
    out: Vec<Action>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Nothing runs yet; the first [`Event::Reload`] starts it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Mode::Running,
            generations: BTreeMap::new(),
            children: BTreeMap::new(),
            admin: Slot {
                child: None,
                restart_at: None,
                history: History::new(),
            },
            reload: reload::Reload::new(),
            generations_made: 0,
            children_made: 0,
            out: Vec::new(),
        }
    }

    /// Takes an event and returns what is to be done, in this order.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        if self.mode != Mode::Left {
            match event {
                Event::Reload => self.want_reload(now),
                Event::Stop => self.stop(now),
                Event::Quit => self.quit(now),
                Event::Loaded(Ok(params)) => self.begin(now, *params),
                Event::Loaded(Err(text)) => self.load_failed(text),
                Event::ForkFailed(child, text) => self.ended(now, child, text),
                Event::Ready(child) => self.ready(now, child),
                Event::Failed(child, text) => self.complained(now, child, text),
                Event::Exited(child, exit) => self.ended(now, child, format!("ended by {exit}")),
                Event::Beat(child, value) => self.heard(now, child, value),
                Event::Memory(child, bytes) => self.weighed(now, child, bytes),
                Event::Tick => {}
            }
            self.pass_time(now);
            self.tidy_up(now);
            self.reload_due(now);
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let reload = self.reload.due().filter(|_| !self.is_aborting());
        let children = self.children.values().filter_map(|c| match c.stage {
            Stage::Starting { deadline } => Some(deadline.min(c.kill_at.unwrap_or(Instant::FAR))),
            Stage::Running | Stage::Leaving => c.kill_at,
            Stage::Killed => None,
        });
        let slots = self
            .generations
            .values()
            .flat_map(Generation::slots)
            .chain([&self.admin])
            .filter_map(|slot| slot.restart_at);
        reload.into_iter().chain(children).chain(slots).min()
    }

    /// The generation that serves.
    #[must_use]
    pub fn live(&self) -> Option<u64> {
        self.generations
            .iter()
            .find(|(_, g)| g.phase == Phase::Live)
            .map(|(number, _)| *number)
    }

    /// Whether a start or reload is going on.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        !self.reload.is_idle()
    }

    fn emit(&mut self, action: Action) {
        self.out.push(action);
    }

    /// Starts a child in the place, which must be empty.
    fn fork(&mut self, now: Instant, role: Role, generation: u64) -> ChildId {
        self.children_made += 1;
        let child = ChildId(self.children_made);
        let timeout = self
            .generations
            .get(&generation)
            .map_or(Duration::ZERO, |g| g.params.ready_timeout);
        self.children.insert(
            child,
            Child {
                role,
                generation,
                stage: Stage::Starting {
                    deadline: now + timeout,
                },
                kill_at: None,
                beat: watch::Beat::new(now),
                memory: 0,
                complaint: None,
            },
        );
        self.emit(Action::Fork {
            child,
            role,
            generation,
        });
        child
    }

    fn kill(&mut self, child: ChildId) {
        if let Some(known) = self.children.get_mut(&child)
            && known.stage != Stage::Killed
        {
            known.stage = Stage::Killed;
            known.kill_at = None;
            self.out.push(Action::Kill(child));
        }
    }

    /// Ends an admin or demo process gently.
    fn terminate(&mut self, now: Instant, child: ChildId) {
        if let Some(known) = self.children.get_mut(&child)
            && !matches!(known.stage, Stage::Leaving | Stage::Killed)
        {
            known.stage = Stage::Leaving;
            known.kill_at = Some(now + HELPER_GRACE);
            self.out.push(Action::Terminate(child));
        }
    }

    /// The children of a generation that serve in it.
    fn workers_of(&self, generation: u64) -> Vec<ChildId> {
        self.children
            .iter()
            .filter(|(_, c)| c.generation == generation && matches!(c.role, Role::Worker(_)))
            .map(|(id, _)| *id)
            .collect()
    }

    fn has_workers(&self) -> bool {
        self.children
            .values()
            .any(|c| matches!(c.role, Role::Worker(_)))
    }
}

/// How long an admin or demo process may take to end.
const HELPER_GRACE: Duration = Duration::from_secs(5);

/// What a worker is given beyond its own bounds, which it keeps by itself, before it is killed.
const WORKER_GRACE: Duration = Duration::from_secs(2);
