//! Least connections: the server whose load, with this request added, is lowest for its weight.
//! The counts are those of all workers, so this is exact for the host.

use super::{Place, Tried, View, is_candidate};

#[derive(Clone, Debug)]
pub(super) struct LeastConnections {
    /// Where the search begins; equal servers are taken in turn by it.
    cursor: usize,
}

/// (in flight + 1) / weight, compared without division.
#[derive(Clone, Copy)]
struct Load {
    requests: u128,
    weight: u128,
}

impl Load {
    const fn is_below(self, other: Self) -> bool {
        self.requests * other.weight < other.requests * self.weight
    }
}

impl LeastConnections {
    pub(super) fn new(view: &impl View, place: Place) -> Self {
        let start = view.len().saturating_mul(place.index);
        Self {
            cursor: start.checked_div(place.count).unwrap_or(0),
        }
    }

    pub(super) fn pick(&mut self, view: &impl View, tried: &Tried) -> Option<usize> {
        let server = self
            .least(view, tried, false)
            .or_else(|| self.least(view, tried, true))?;
        self.cursor = server + 1;
        Some(server)
    }

    fn least(&self, view: &impl View, tried: &Tried, backup: bool) -> Option<usize> {
        let start = self.cursor.checked_rem(view.len())?;
        let mut best: Option<(usize, Load)> = None;
        for server in (start..view.len()).chain(0..start) {
            if view.is_backup(server) != backup || !is_candidate(view, tried, server) {
                continue;
            }
            let load = Load {
                requests: u128::from(view.in_flight(server)) + 1,
                weight: u128::from(view.weight(server)),
            };
            if best.is_none_or(|(_, least)| load.is_below(least)) {
                best = Some((server, load));
            }
        }
        best.map(|(server, _)| server)
    }
}
