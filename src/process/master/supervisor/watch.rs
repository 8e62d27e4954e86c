//! What is looked at while nothing happens: heartbeats, memory, and deadlines.

use super::generation::Phase;
use super::{Action, ChildId, Role, Stage, Supervisor};
use crate::base::time::Instant;

/// When a worker was last seen alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    value: u64,
    /// When the value changed.
    since: Instant,
    /// When somebody looked.
    looked: Instant,
}

impl Beat {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            value: 0,
            since: now,
            looked: now,
        }
    }

    /// Counts anew from here.
    pub(super) fn reset(&mut self, now: Instant) {
        self.since = now;
        self.looked = now;
    }
}

impl Supervisor {
    /// A heartbeat was read from shared memory.
    pub(super) fn heard(&mut self, now: Instant, child: ChildId, value: u64) {
        let Some(known) = self.children.get_mut(&child) else {
            return;
        };
        if !matches!(known.stage, Stage::Running | Stage::Leaving) {
            return;
        }
        let timeout = match self.generations.get(&known.generation) {
            Some(generation) => generation.params.heartbeat_timeout,
            None => return,
        };
        let pause = now - known.beat.looked;
        known.beat.looked = now;
        // When the master itself was stopped or starved, the silence says nothing about workers.
        // The shell looks at least four times within the timeout.
        if value != known.beat.value || pause > timeout / 2 {
            known.beat.value = value;
            known.beat.since = now;
        }
        let silence = now - known.beat.since;
        if silence >= timeout {
            self.emit(Action::Silent(child, silence));
            self.complain(child, format!("silent for {} s", silence.as_secs()));
            self.kill(child);
        }
    }

    /// The memory of a worker was read.
    pub(super) fn weighed(&mut self, now: Instant, child: ChildId, bytes: u64) {
        if let Some(known) = self.children.get_mut(&child) {
            known.memory = bytes;
        }
        let Some(live) = self.live().and_then(|l| self.generations.get(&l)) else {
            return;
        };
        let (max, spread) = (live.params.drain_memory_max, live.params.drain_spread);
        let draining = self.draining();
        let held: u64 = self
            .children
            .values()
            .filter(|c| draining.contains(&c.generation) && matches!(c.role, Role::Worker(_)))
            .map(|c| c.memory)
            .sum();
        if held > max
            && let Some(&oldest) = draining.first()
        {
            self.close(now, oldest, spread);
        }
    }

    /// A child told why it cannot serve; its end follows.
    pub(super) fn complained(&mut self, now: Instant, child: ChildId, text: String) {
        self.complain(child, text);
        let Some(known) = self.children.get(&child) else {
            return;
        };
        let (role, number) = (known.role, known.generation);
        let starting = self
            .generations
            .get(&number)
            .is_some_and(|g| g.phase == Phase::Starting);
        match role {
            Role::Worker(_) if starting => {
                let text = known.complaint.clone().unwrap_or_default();
                self.abort(number, format!("{role} of generation {number}: {text}"));
            }
            _ => {
                if let Some(known) = self.children.get_mut(&child)
                    && known.stage != Stage::Killed
                {
                    known.kill_at = Some(now + super::HELPER_GRACE);
                }
            }
        }
    }

    fn complain(&mut self, child: ChildId, text: String) {
        if let Some(known) = self.children.get_mut(&child) {
            known.complaint.get_or_insert(text);
        }
    }

    /// Runs after every event: deadlines that have come.
    pub(super) fn pass_time(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        let mut late = Vec::new();
        for (id, child) in &self.children {
            if child.stage != Stage::Killed && child.kill_at.is_some_and(|at| at <= now) {
                overdue.push(*id);
            } else if let Stage::Starting { deadline } = child.stage
                && deadline <= now
            {
                late.push(*id);
            }
        }
        for child in overdue {
            self.kill(child);
        }
        for child in late {
            self.complained(now, child, "not ready in time".to_owned());
            self.kill(child);
        }
        self.restart_due(now);
    }
}
