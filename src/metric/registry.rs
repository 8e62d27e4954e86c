//! Hands out slots by metric and label values: the master's book of what each word counts. The
//! same name and labels keep their slot for the life of the master, so counters survive reloads.
//! It never touches the counts of a living process.

use super::catalog::{Desc, Kind};
use super::table::{EachSlot, Layout, OWNER_WORDS, Table};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

/// The place of a word in every column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub(super) u32);

/// The place of a histogram in every column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSlot {
    pub(super) slot: Slot,
    /// Upper bounds of the buckets in nanoseconds, rising.
    pub(super) bounds: Arc<[u64]>,
}

impl HistogramSlot {
    /// Buckets, the one for everything larger, the sum.
    pub(super) fn words(&self) -> u32 {
        u32::try_from(self.bounds.len())
            .unwrap_or(u32::MAX)
            .saturating_add(2)
    }
}

/// There is no slot left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The metric that found no place.
    pub metric: &'static str,
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no room in the shared table for {}: a restart makes room",
            self.metric
        )
    }
}

impl std::error::Error for Full {}

/// One set of label values with its slots.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) labels: Box<[Box<str>]>,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    One(Slot),
    Each(EachSlot),
    Histogram(HistogramSlot),
}

/// A metric with all its series in the order of their registration.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) desc: &'static Desc,
    pub(super) series: Vec<Series>,
    index: HashMap<Box<[Box<str>]>, usize>,
}

/// The book of slots. A clone is a snapshot for the process that serves scrapes.
#[derive(Clone, Debug)]
pub struct Registry {
    families: Vec<Family>,
    by_name: HashMap<&'static str, usize>,
    bounds: Arc<[u64]>,
    /// The next hot slot; grows.
    next: u32,
    /// The end of the free room; cold lists are cut from it.
    end: u32,
}

impl Registry {
    /// For tables of this layout, with the bounds of duration histograms.
    #[must_use]
    pub fn new(layout: Layout, bounds: &[Duration]) -> Self {
        Self {
            families: Vec::new(),
            by_name: HashMap::new(),
            bounds: nanos(bounds),
            next: OWNER_WORDS,
            end: layout.width(),
        }
    }

    /// Changes the bounds of duration histograms. Histograms with other bounds begin anew when
    /// they are next registered; those of old generations are not shown any more.
    pub fn set_bounds(&mut self, bounds: &[Duration]) {
        let bounds = nanos(bounds);
        if bounds != self.bounds {
            self.bounds = bounds;
            let changed =
                |f: &&mut Family| f.desc.kind == Kind::Histogram && f.desc.bounds.is_empty();
            for family in self.families.iter_mut().filter(changed) {
                family.series.clear();
                family.index.clear();
            }
        }
    }

    /// The slot of a counter.
    ///
    /// # Errors
    /// When the table is full.
    pub fn counter(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<Slot, Full> {
        self.one(desc, labels)
    }

    /// The slot of a gauge.
    ///
    /// # Errors
    /// When the table is full.
    pub fn gauge(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<Slot, Full> {
        self.one(desc, labels)
    }

    /// The slot of a word of the whole host.
    ///
    /// # Errors
    /// When the table is full.
    pub fn shared(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<Slot, Full> {
        self.one(desc, labels)
    }

    /// The slot of a count that is kept for the host and by every owner.
    ///
    /// # Errors
    /// When the table is full.
    pub fn host_gauge(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<Slot, Full> {
        self.one(desc, labels)
    }

    /// The slots of a histogram.
    ///
    /// # Errors
    /// When the table is full.
    pub fn histogram(
        &mut self,
        desc: &'static Desc,
        labels: &[&str],
    ) -> Result<HistogramSlot, Full> {
        let bounds = if desc.bounds.is_empty() {
            Arc::clone(&self.bounds)
        } else {
            Arc::from(desc.bounds)
        };
        let place = self.place(desc, labels, |room| {
            let count = u32::try_from(bounds.len()).ok()?.checked_add(2)?;
            let slot = room.hot(count)?;
            Some(Place::Histogram(HistogramSlot { slot, bounds }))
        })?;
        match place {
            Place::Histogram(slot) => Ok(slot),
            Place::One(_) | Place::Each(_) => Err(Full { metric: desc.name }),
        }
    }

    /// The slots of a counter with a closed list as its last label.
    ///
    /// # Errors
    /// When the table is full.
    pub fn each(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<EachSlot, Full> {
        let count = u32::try_from(desc.each.len()).unwrap_or(u32::MAX);
        let place = self.place(desc, labels, |room| {
            let slot = if desc.sparse {
                let guard = room.hot(1)?;
                EachSlot {
                    first: room.cold(count)?,
                    guard: Some(guard),
                }
            } else {
                EachSlot {
                    first: room.hot(count)?,
                    guard: None,
                }
            };
            Some(Place::Each(slot))
        })?;
        match place {
            Place::Each(slot) => Ok(slot),
            Place::One(_) | Place::Histogram(_) => Err(Full { metric: desc.name }),
        }
    }

    /// Slots handed out so far.
    #[must_use]
    pub fn used(&self, layout: Layout) -> usize {
        let cold = layout.width().saturating_sub(self.end);
        self.next.saturating_sub(OWNER_WORDS).saturating_add(cold) as usize
    }

    /// After the owner of a column was reaped: what it counted stays, what it held is gone. By the
    /// master, before the column is given back.
    pub fn retire(&self, table: &Table, column: usize) {
        if column == 0 {
            return;
        }
        for (kind, slot) in self.singles() {
            let word = table.word(column, slot.0);
            if kind == Kind::HostGauge {
                let own = word.swap(0, AcqRel);
                table.word(0, slot.0).fetch_sub(own, AcqRel);
            } else if kind == Kind::Gauge {
                word.store(0, Relaxed);
            }
        }
        table.column(column).disown();
    }

    /// Repairs host counts that a kill in the middle of an update left off by one: where the
    /// host's word stood still while the owners' parts were added up, it becomes their sum. By the
    /// master, now and then.
    pub fn settle(&self, table: &Table) {
        for (kind, slot) in self.singles() {
            if kind == Kind::HostGauge {
                let before = table.host(slot);
                let sum = table.sum_of_owners(slot);
                if before != sum {
                    // Losing the race means that requests come and go; the next round settles it.
                    let _lost = table.shared(slot).swap_if(before, sum);
                }
            }
        }
    }

    pub(super) fn family(&self, desc: &Desc) -> Option<&Family> {
        self.by_name
            .get(desc.name)
            .and_then(|at| self.families.get(*at))
    }

    fn singles(&self) -> impl Iterator<Item = (Kind, Slot)> {
        self.families.iter().flat_map(|family| {
            family
                .series
                .iter()
                .filter_map(|series| match series.place {
                    Place::One(slot) => Some((family.desc.kind, slot)),
                    Place::Each(_) | Place::Histogram(_) => None,
                })
        })
    }

    fn one(&mut self, desc: &'static Desc, labels: &[&str]) -> Result<Slot, Full> {
        match self.place(desc, labels, |room| room.hot(1).map(Place::One))? {
            Place::One(slot) => Ok(slot),
            Place::Each(_) | Place::Histogram(_) => Err(Full { metric: desc.name }),
        }
    }

    /// The place of a series, made by `make` when it is new.
    fn place(
        &mut self,
        desc: &'static Desc,
        labels: &[&str],
        make: impl FnOnce(&mut Room) -> Option<Place>,
    ) -> Result<Place, Full> {
        let full = Full { metric: desc.name };
        let families = &mut self.families;
        let at = *self.by_name.entry(desc.name).or_insert_with(|| {
            families.push(Family {
                desc,
                series: Vec::new(),
                index: HashMap::new(),
            });
            families.len() - 1
        });
        let family = families.get_mut(at).ok_or(full)?;
        let labels: Box<[Box<str>]> = labels.iter().map(|l| Box::from(*l)).collect();
        if let Some(known) = family
            .index
            .get(&labels)
            .and_then(|i| family.series.get(*i))
        {
            return Ok(known.place.clone());
        }
        let mut room = Room {
            next: self.next,
            end: self.end,
        };
        let place = make(&mut room).ok_or(full)?;
        (self.next, self.end) = (room.next, room.end);
        family.index.insert(labels.clone(), family.series.len());
        family.series.push(Series {
            labels,
            place: place.clone(),
        });
        Ok(place)
    }
}

/// The free room while a series takes its slots; given up when it does not find all of them.
struct Room {
    next: u32,
    end: u32,
}

impl Room {
    fn hot(&mut self, count: u32) -> Option<Slot> {
        let after = self.next.checked_add(count)?;
        let slot = Slot(self.next);
        (after <= self.end).then(|| {
            self.next = after;
            slot
        })
    }

    fn cold(&mut self, count: u32) -> Option<Slot> {
        let start = self.end.checked_sub(count)?;
        (start >= self.next).then(|| {
            self.end = start;
            Slot(start)
        })
    }
}

fn nanos(bounds: &[Duration]) -> Arc<[u64]> {
    let mut nanos: Vec<u64> = bounds
        .iter()
        .map(|b| u64::try_from(b.as_nanos()).unwrap_or(u64::MAX))
        .collect();
    nanos.sort_unstable();
    nanos.dedup();
    Arc::from(nanos)
}
