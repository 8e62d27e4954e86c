//! Weighted round robin: a schedule made once, and a cursor. Not exact over workers: each worker
//! has its own cursor, with its own start.

use super::{Place, Tried, View, is_candidate};
use crate::upstream::schedule::Schedule;

#[derive(Clone, Debug)]
pub(super) struct RoundRobin {
    primary: Turns,
    backup: Turns,
}

/// The turns of one class of servers.
#[derive(Clone, Debug)]
struct Turns {
    schedule: Schedule,
    /// Moves by exactly one per request, so that a server which is out for a moment does not
    /// change who comes when.
    cursor: usize,
    /// Serves the turns of servers that cannot take them. It walks the whole schedule too, hence
    /// the others share them by weight; the next one in line would get them all otherwise.
    detour: usize,
}

impl RoundRobin {
    pub(super) fn new(view: &impl View, place: Place) -> Self {
        Self {
            primary: Turns::new(view, place, false),
            backup: Turns::new(view, place, true),
        }
    }

    pub(super) fn pick(&mut self, view: &impl View, tried: &Tried) -> Option<usize> {
        self.primary
            .pick(view, tried)
            .or_else(|| self.backup.pick(view, tried))
    }
}

impl Turns {
    fn new(view: &impl View, place: Place, backup: bool) -> Self {
        let schedule = Schedule::new(
            (0..view.len())
                .filter(|server| view.is_backup(*server) == backup)
                .filter_map(|server| Some((u32::try_from(server).ok()?, view.weight(server)))),
        );
        let start = schedule.start(place.index, place.count);
        Self {
            schedule,
            cursor: start,
            detour: start,
        }
    }

    fn pick(&mut self, view: &impl View, tried: &Tried) -> Option<usize> {
        let server = self.schedule.take(&mut self.cursor)? as usize;
        if is_candidate(view, tried, server) {
            return Some(server);
        }
        for _ in 0..self.schedule.len() {
            let server = self.schedule.take(&mut self.detour)? as usize;
            if is_candidate(view, tried, server) {
                return Some(server);
            }
        }
        None
    }
}
