//! The end: graceful with a bound, graceful without, and at once.

use super::{Action, ChildId, Mode, Supervisor, WORKER_GRACE};
use crate::base::time::Instant;
use crate::proto::control::Drain;

impl Supervisor {
    /// A bounded stop; the second one is at once. After [`Supervisor::quit`] it sets the bound.
    pub(super) fn stop(&mut self, now: Instant) {
        if let Mode::Stopping { bounded: true, .. } = self.mode {
            let all: Vec<ChildId> = self.children.keys().copied().collect();
            for child in all {
                self.kill(child);
            }
            return;
        }
        let timeout = self
            .live()
            .and_then(|live| self.generations.get(&live))
            .map_or_else(Default::default, |g| g.params.stop_timeout);
        let order = Drain {
            ordinary: Some(timeout),
            upgraded: Some(timeout),
            stopping: true,
        };
        self.leave(true, order, Some(now + timeout + WORKER_GRACE));
    }

    /// A stop that waits for the last connection.
    pub(super) fn quit(&mut self, _now: Instant) {
        if self.mode == Mode::Running {
            let order = Drain {
                ordinary: None,
                upgraded: None,
                stopping: true,
            };
            self.leave(false, order, None);
        }
    }

    fn leave(&mut self, bounded: bool, order: Drain, kill_at: Option<Instant>) {
        let first = self.mode == Mode::Running;
        self.mode = Mode::Stopping { bounded, code: 0 };
        if first {
            self.emit(Action::Stopping);
        }
        self.give_up_reload();
        for generation in self.generations.values_mut() {
            for slot in &mut generation.workers {
                slot.restart_at = None;
            }
            generation.demo.restart_at = None;
        }
        self.admin.restart_at = None;
        let numbers: Vec<u64> = self.generations.keys().copied().collect();
        for number in numbers {
            for child in self.workers_of(number) {
                self.drain_worker(child, order, kill_at);
            }
        }
    }

    /// Runs after every event: what is over is put away.
    pub(super) fn tidy_up(&mut self, now: Instant) {
        self.forget_generations(now);
        let Mode::Stopping { code, .. } = self.mode else {
            return;
        };
        if self.has_workers() {
            return;
        }
        // The others were needed up to here: metrics to watch the end, demo servers to finish.
        let others: Vec<ChildId> = self.children.keys().copied().collect();
        for child in others {
            self.terminate(now, child);
        }
        if self.children.is_empty() {
            self.mode = Mode::Left;
            self.emit(Action::Leave(code));
        }
    }
}
