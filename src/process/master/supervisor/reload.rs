//! Reloading: when it begins, and how it fails. How it succeeds stands in `generation`.

use super::generation::{Generation, Phase};
use super::{Action, ChildId, Mode, Params, Role, Supervisor};
use crate::base::time::Instant;

/// How far a reload is, and whether another one is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reload {
    stage: Stage,
    /// When the next one begins, if none is going on then.
    wanted: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Idle ⇒ `Loading` when one is due.
    Idle,
    /// Loading ⇒ `Starting`, or ⇒ `Idle` when the configuration is not usable.
    Loading,
    /// Starting ⇒ `Idle` when the generation is live or aborted.
    Starting,
}

impl Reload {
    pub(super) const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            wanted: None,
        }
    }

    pub(super) fn is_idle(self) -> bool {
        self.stage == Stage::Idle && self.wanted.is_none()
    }

    pub(super) fn due(self) -> Option<Instant> {
        self.wanted.filter(|_| self.stage == Stage::Idle)
    }

    /// The generation is live or aborted.
    pub(super) fn finish(&mut self) {
        self.stage = Stage::Idle;
    }
}

impl Supervisor {
    /// Requests within the debounce time make one reload; one that comes while another reload is
    /// going on is done after it, because that one may have read the old file.
    pub(super) fn want_reload(&mut self, now: Instant) {
        if self.mode != Mode::Running || self.reload.wanted.is_some() {
            return;
        }
        let live = self.live().and_then(|live| self.generations.get(&live));
        let debounce = live.map_or_else(Default::default, |g| g.params.reload_debounce);
        self.reload.wanted = Some(now + debounce);
    }

    /// Begins the reload that is due.
    pub(super) fn reload_due(&mut self, now: Instant) {
        if self.mode == Mode::Running
            && self.reload.due().is_some_and(|at| at <= now)
            && !self.is_aborting()
        {
            self.reload = Reload {
                stage: Stage::Loading,
                wanted: None,
            };
            self.emit(Action::Load(self.generations_made + 1));
        }
    }

    /// A generation that failed still goes: its sockets are not free for the next one yet.
    pub(super) fn is_aborting(&self) -> bool {
        self.generations
            .values()
            .any(|g| g.phase == Phase::Aborting)
    }

    /// The configuration is not usable: everything stays as it is.
    pub(super) fn load_failed(&mut self, text: String) {
        if self.reload.stage == Stage::Loading {
            self.reload.finish();
            self.emit(Action::Outcome(Err(text)));
            self.end_failed_start();
        }
    }

    /// Starts the workers of a new generation beside the old ones.
    pub(super) fn begin(&mut self, now: Instant, params: Params) {
        if self.reload.stage != Stage::Loading {
            return;
        }
        self.generations_made += 1;
        let number = self.generations_made;
        let (workers, demo) = (params.workers.max(1), params.demo);
        self.generations
            .insert(number, Generation::new(Params { workers, ..params }));
        if self.mode != Mode::Running {
            // A stop came while the file was read.
            self.abort(number, STOPPED.to_owned());
            return;
        }
        self.reload.stage = Stage::Starting;
        // The demo servers first: they are what the workers connect to.
        let roles = demo.then_some(Role::Demo);
        for role in roles.into_iter().chain((0..workers).map(Role::Worker)) {
            let child = self.fork(now, role, number);
            let place = self.generations.get_mut(&number);
            if let Some(slot) = place.and_then(|g| g.slot(role)) {
                slot.child = Some(child);
            }
        }
    }

    /// Starting ⇒ Aborting: the new generation goes, the old one has not noticed anything.
    pub(super) fn abort(&mut self, number: u64, text: String) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        if generation.phase != Phase::Starting {
            return;
        }
        generation.phase = Phase::Aborting;
        generation.demo.restart_at = None;
        self.reload.finish();
        let children: Vec<ChildId> = self
            .children
            .iter()
            .filter(|(_, c)| c.generation == number)
            .map(|(id, _)| *id)
            .collect();
        for child in children {
            self.kill(child);
        }
        self.emit(Action::Outcome(Err(text)));
        self.end_failed_start();
    }

    /// Without a live generation there is nothing to stay for.
    fn end_failed_start(&mut self) {
        if self.mode == Mode::Running && self.live().is_none() {
            self.reload.wanted = None;
            self.mode = Mode::Stopping {
                bounded: true,
                code: 1,
            };
        }
    }

    /// A stop ends a reload that is going on.
    pub(super) fn give_up_reload(&mut self) {
        self.reload.wanted = None;
        let starting: Vec<u64> = self
            .generations
            .iter()
            .filter(|(_, g)| g.phase == Phase::Starting)
            .map(|(number, _)| *number)
            .collect();
        for number in starting {
            self.abort(number, STOPPED.to_owned());
        }
    }
}

const STOPPED: &str = "a stop was asked for meanwhile";
