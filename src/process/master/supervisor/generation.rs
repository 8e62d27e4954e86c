//! One generation: its places, how it becomes the live one, and how it goes.

use std::time::Duration;

use super::{Action, ChildId, Mode, Params, Role, Slot, Stage, Supervisor, WORKER_GRACE};
use crate::base::time::Instant;
use crate::proto::control::Drain;

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Starting ⇒ `Live` when all are ready, ⇒ `Aborting` by any failure.
    Starting,
    /// Live ⇒ `Draining` when the next one is live.
    Live,
    /// Draining ⇒ gone. `closing`: it was also told to close what is open.
    Draining { closing: bool },
    /// Aborting ⇒ gone; its children were killed.
    Aborting,
}

/// All children of one configuration.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) params: Params,
    pub(super) phase: Phase,
    pub(super) workers: Vec<Slot>,
    pub(super) demo: Slot,
}

impl Generation {
    pub(super) fn new(params: Params) -> Self {
        let workers = (0..params.workers).map(|_| Slot::default()).collect();
        Self {
            params,
            phase: Phase::Starting,
            workers,
            demo: Slot::default(),
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.workers.iter().chain([&self.demo])
    }

    /// The place of a role; the admin process has none here.
    pub(super) fn slot(&mut self, role: Role) -> Option<&mut Slot> {
        match role {
            Role::Worker(index) => self.workers.get_mut(usize::try_from(index).ok()?),
            Role::Demo => Some(&mut self.demo),
            Role::Admin => None,
        }
    }

    /// Nothing is started again in it.
    fn cancel_restarts(&mut self) {
        for slot in &mut self.workers {
            slot.restart_at = None;
        }
    }
}

impl Supervisor {
    /// A child has built everything.
    pub(super) fn ready(&mut self, now: Instant, child: ChildId) {
        let Some(known) = self.children.get_mut(&child) else {
            return;
        };
        if !matches!(known.stage, Stage::Starting { .. }) {
            return;
        }
        known.stage = Stage::Running;
        known.beat.reset(now);
        let (role, number) = (known.role, known.generation);
        match role {
            Role::Admin => self.terminate_old_admins(now),
            Role::Demo => {}
            Role::Worker(_) => {
                let Some(generation) = self.generations.get(&number) else {
                    return;
                };
                match generation.phase {
                    Phase::Live => self.emit(Action::Serve(child)),
                    Phase::Starting => {
                        let mut workers = generation.workers.iter();
                        if workers.all(|slot| self.is_running(slot.child)) {
                            self.go_live(now, number);
                        }
                    }
                    Phase::Draining { .. } | Phase::Aborting => {}
                }
            }
        }
    }

    fn is_running(&self, child: Option<ChildId>) -> bool {
        child
            .and_then(|c| self.children.get(&c))
            .is_some_and(|c| c.stage == Stage::Running)
    }

    /// Starting ⇒ Live, and Live ⇒ Draining for the one before.
    fn go_live(&mut self, now: Instant, number: u64) {
        let old = self.live();
        let Some(new) = self.generations.get_mut(&number) else {
            return;
        };
        new.phase = Phase::Live;
        let params = new.params.clone();
        self.reload.finish();
        self.emit(Action::Live(number));
        for child in self.workers_of(number) {
            self.emit(Action::Serve(child));
        }
        if let Some(old) = old {
            self.drain(now, old, &params);
        }
        // Told last: whoever hears it finds the old generation on its way out.
        self.emit(Action::Outcome(Ok(number)));
        self.renew_admin(now, number, params.admin);
        self.keep_bounds(now);
    }

    /// Live ⇒ Draining.
    fn drain(&mut self, now: Instant, number: u64, params: &Params) {
        let Some(old) = self.generations.get_mut(&number) else {
            return;
        };
        old.phase = Phase::Draining { closing: false };
        old.cancel_restarts();
        let longest = old.params.drain_longest.max(params.drain_longest);
        let order = Drain {
            ordinary: Some(params.drain_timeout),
            upgraded: Some(params.drain_timeout_upgraded),
            stopping: false,
        };
        for child in self.workers_of(number) {
            self.drain_worker(child, order, Some(now + longest + WORKER_GRACE));
        }
    }

    /// Tells one worker to leave; one that does not serve yet has nothing to finish.
    pub(super) fn drain_worker(&mut self, child: ChildId, order: Drain, kill_at: Option<Instant>) {
        let Some(known) = self.children.get_mut(&child) else {
            return;
        };
        match known.stage {
            Stage::Starting { .. } => self.kill(child),
            Stage::Killed => {}
            Stage::Running | Stage::Leaving => {
                known.stage = Stage::Leaving;
                known.kill_at = match (known.kill_at, kill_at) {
                    (Some(before), Some(new)) => Some(before.min(new)),
                    (before, new) => before.or(new),
                };
                self.emit(Action::Drain(child, order));
            }
        }
    }

    /// Closes what is open in a draining generation.
    pub(super) fn close(&mut self, now: Instant, number: u64, spread: Duration) {
        let Some(old) = self.generations.get_mut(&number) else {
            return;
        };
        old.phase = Phase::Draining { closing: true };
        for child in self.workers_of(number) {
            let Some(known) = self.children.get_mut(&child) else {
                continue;
            };
            if known.stage == Stage::Leaving {
                let latest = now + spread + WORKER_GRACE;
                known.kill_at = Some(known.kill_at.map_or(latest, |at| at.min(latest)));
                self.out.push(Action::Close(child, spread));
            }
        }
    }

    /// Draining generations that still may take their time, the oldest first.
    pub(super) fn draining(&self) -> Vec<u64> {
        self.generations
            .iter()
            .filter(|(_, g)| g.phase == Phase::Draining { closing: false })
            .map(|(number, _)| *number)
            .collect()
    }

    /// Closes the oldest generations when there are too many.
    fn keep_bounds(&mut self, now: Instant) {
        let Some(live) = self.live().and_then(|l| self.generations.get(&l)) else {
            return;
        };
        let spread = live.params.drain_spread;
        let allowed = usize::try_from(live.params.max_generations.saturating_sub(1));
        let draining = self.draining();
        let too_many = draining.len().saturating_sub(allowed.unwrap_or(usize::MAX));
        for number in draining.into_iter().take(too_many) {
            self.close(now, number, spread);
        }
    }

    /// A new admin process for a new generation; the old one serves until the new one is ready.
    fn renew_admin(&mut self, now: Instant, number: u64, wanted: bool) {
        let old = self.admin.child.take();
        self.admin = Slot::default();
        if let Some(old) = old
            && !self.is_running(Some(old))
        {
            self.kill(old);
        }
        if wanted {
            self.admin.child = Some(self.fork(now, Role::Admin, number));
        } else {
            self.terminate_old_admins(now);
        }
    }

    fn terminate_old_admins(&mut self, now: Instant) {
        let old: Vec<ChildId> = self
            .children
            .iter()
            .filter(|(id, c)| c.role == Role::Admin && self.admin.child != Some(**id))
            .map(|(id, _)| *id)
            .collect();
        for child in old {
            self.terminate(now, child);
        }
    }

    /// A child is gone, or was never there.
    pub(super) fn ended(&mut self, now: Instant, child: ChildId, cause: String) {
        let Some(gone) = self.children.remove(&child) else {
            return;
        };
        let cause = gone.complaint.unwrap_or(cause);
        let (role, number) = (gone.role, gone.generation);
        let running = self.mode == Mode::Running;
        if role == Role::Admin {
            if self.admin.child == Some(child) {
                self.admin.child = None;
                if running && gone.stage != Stage::Leaving {
                    self.restart_later(now, role, number, cause);
                }
            }
            return;
        }
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        let phase = generation.phase;
        if let Some(slot) = generation.slot(role) {
            slot.child = None;
        }
        match (role, phase) {
            (Role::Worker(_), Phase::Starting) => {
                self.abort(number, format!("{role} of generation {number}: {cause}"));
            }
            (Role::Worker(_), Phase::Live) | (Role::Demo, Phase::Starting | Phase::Live)
                if running =>
            {
                self.restart_later(now, role, number, cause);
            }
            (Role::Demo, Phase::Draining { .. })
                if running && !self.workers_of(number).is_empty() =>
            {
                self.restart_later(now, role, number, cause);
            }
            _ => {}
        }
    }

    /// Plans the next start of an empty place.
    fn restart_later(&mut self, now: Instant, role: Role, number: u64, cause: String) {
        let Some(generation) = self.generations.get_mut(&number) else {
            return;
        };
        let policy = generation.params.restart.clone();
        let slot = match role {
            Role::Admin => Some(&mut self.admin),
            Role::Worker(_) | Role::Demo => generation.slot(role),
        };
        let Some(slot) = slot else { return };
        let next = slot.history.next(now, &policy);
        slot.restart_at = Some(now + next.after);
        self.emit(Action::Restart {
            role,
            generation: number,
            cause,
            after: next.after,
        });
        if next.alert {
            self.emit(Action::Alert {
                role,
                restarts: next.count,
            });
        }
    }

    /// Starts what is due in empty places.
    pub(super) fn restart_due(&mut self, now: Instant) {
        let mut due: Vec<(Role, u64)> = Vec::new();
        let is_due = |slot: &Slot| slot.restart_at.is_some_and(|at| at <= now);
        for (number, generation) in &self.generations {
            for (index, slot) in (0_u32..).zip(&generation.workers) {
                if is_due(slot) {
                    due.push((Role::Worker(index), *number));
                }
            }
            if is_due(&generation.demo) {
                due.push((Role::Demo, *number));
            }
        }
        if is_due(&self.admin)
            && let Some(live) = self.live()
        {
            due.push((Role::Admin, live));
        }
        for (role, number) in due {
            let child = self.fork(now, role, number);
            let slot = match role {
                Role::Admin => Some(&mut self.admin),
                Role::Worker(_) | Role::Demo => {
                    self.generations.get_mut(&number).and_then(|g| g.slot(role))
                }
            };
            if let Some(slot) = slot {
                slot.child = Some(child);
                slot.restart_at = None;
            }
        }
    }

    /// Forgets generations of which nothing runs any more.
    pub(super) fn forget_generations(&mut self, now: Instant) {
        let leaving: Vec<u64> = self
            .generations
            .iter()
            .filter(|(_, g)| matches!(g.phase, Phase::Draining { .. } | Phase::Aborting))
            .map(|(number, _)| *number)
            .collect();
        for number in leaving {
            if !self.workers_of(number).is_empty() {
                continue;
            }
            let demo = self.generations.get_mut(&number).and_then(|g| {
                g.demo.restart_at = None;
                g.demo.child
            });
            match demo {
                Some(demo) => self.terminate(now, demo),
                None => {
                    self.generations.remove(&number);
                    self.emit(Action::Discard(number));
                }
            }
        }
    }
}
