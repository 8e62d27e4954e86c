//! The shared words, divided in columns. Knows places and owners of columns, not what a word
//! counts.

use super::cell::{Counter, Each, Gauge, Histogram, HostGauge, SINK, Shared};
use super::label::Label;
use super::registry::{HistogramSlot, Slot};
use crate::base::time::Instant;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Words before the first column: a page.
const HEADER_WORDS: usize = 512;
/// A column is a whole number of pages, so that two writers never share a cache line.
const COLUMN_UNIT: usize = 512;
/// Words at the start of a column that say whose it is.
pub(super) const OWNER_WORDS: u32 = 16;

/// How the words are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    columns: usize,
    width: usize,
}

impl Layout {
    /// So many columns (the host's one included) with room for at least `slots` slots.
    #[must_use]
    pub fn new(columns: usize, slots: usize) -> Self {
        let width = slots.saturating_add(OWNER_WORDS as usize);
        Self {
            columns: columns.max(2),
            width: width.max(1).next_multiple_of(COLUMN_UNIT),
        }
    }

    /// For a host whose configuration needs `need` slots now: room for eight times as many, so
    /// that reloads find place, and never less than two mebibytes. Untouched memory costs nothing.
    #[must_use]
    pub fn roomy(columns: usize, need: usize) -> Self {
        Self::new(columns, need.saturating_mul(8).max(1 << 18))
    }

    /// The number of words to map.
    #[must_use]
    pub const fn words(self) -> usize {
        HEADER_WORDS.saturating_add(self.columns.saturating_mul(self.width))
    }

    /// The slots of a column.
    #[must_use]
    pub fn width(self) -> u32 {
        u32::try_from(self.width).unwrap_or(u32::MAX)
    }

    /// The columns, the host's one included.
    #[must_use]
    pub const fn columns(self) -> usize {
        self.columns
    }
}

/// The shared words. A copy is another handle to the same words.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    words: &'static [AtomicU64],
    layout: Layout,
}

impl Table {
    /// Over a zeroed mapping; `None` when it has fewer words than the layout needs.
    #[must_use]
    pub fn new(words: &'static [AtomicU64], layout: Layout) -> Option<Self> {
        (words.len() >= layout.words()).then_some(Self { words, layout })
    }

    /// In the memory of this process, which is never given back: for tests and for running without
    /// children.
    #[must_use]
    pub fn heap() -> Self {
        Self::heap_with(Layout::new(8, 8192))
    }

    /// As [`Table::heap`], with another layout.
    #[must_use]
    pub fn heap_with(layout: Layout) -> Self {
        let words: Vec<AtomicU64> = (0..layout.words()).map(|_| AtomicU64::new(0)).collect();
        Self {
            words: words.leak(),
            layout,
        }
    }

    /// How the words are divided.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// A column to write to, by its single writer (column 0: by everybody, through
    /// [`Table::shared`]). Out of range, everything written goes nowhere.
    #[must_use]
    pub fn column(&self, index: usize) -> Column {
        if let Some(used) = self.words.first() {
            used.fetch_max(index.min(self.layout.columns) as u64, Relaxed);
        }
        Column {
            table: *self,
            index,
        }
    }

    /// A word of the whole host.
    #[must_use]
    pub fn shared(&self, slot: Slot) -> Shared {
        Shared(self.word(0, slot.0))
    }

    /// The columns that were ever handed out, without column 0.
    #[must_use]
    pub fn used(&self) -> std::ops::Range<usize> {
        let used = self.words.first().map_or(0, |w| w.load(Relaxed));
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        1..used.saturating_add(1).min(self.layout.columns)
    }

    /// The sum of a slot over all columns. Counters never make it smaller; a sum of gauges that is
    /// read while they move may be a negative number in two's complement.
    #[must_use]
    pub fn sum(&self, slot: Slot) -> u64 {
        self.used().fold(self.host(slot), |sum, column| {
            sum.wrapping_add(self.word(column, slot.0).load(Relaxed))
        })
    }

    /// The sum of a slot over the columns of workers and master, without the host's word.
    #[must_use]
    pub fn sum_of_owners(&self, slot: Slot) -> u64 {
        self.used().fold(0, |sum: u64, column| {
            sum.wrapping_add(self.word(column, slot.0).load(Relaxed))
        })
    }

    /// The host's word of a slot.
    #[must_use]
    pub fn host(&self, slot: Slot) -> u64 {
        self.word(0, slot.0).load(Relaxed)
    }

    /// Who owns a column now; `None` while nobody does.
    #[must_use]
    pub fn owner(&self, column: usize) -> Option<Owner> {
        let word = |at| self.word(column, at).load(Relaxed);
        let pid = self.word(column, PID).load(Acquire);
        let role = Role::of(word(ROLE))?;
        let number = |at| u32::try_from(word(at)).unwrap_or(u32::MAX);
        (pid != 0 && column != 0).then(|| Owner {
            pid: u32::try_from(pid).unwrap_or(0),
            role,
            worker: number(WORKER),
            thread: number(THREAD),
            generation: word(GENERATION),
            started: Instant::from_nanos(word(STARTED)),
            heartbeat: Instant::from_nanos(word(HEARTBEAT)),
        })
    }

    pub(super) fn word(&self, column: usize, at: u32) -> &'static AtomicU64 {
        let at = at as usize;
        if at >= self.layout.width || column >= self.layout.columns {
            return &SINK;
        }
        let index = HEADER_WORDS + column * self.layout.width + at;
        self.words.get(index).unwrap_or(&SINK)
    }

    pub(super) fn words(&self, column: usize, at: u32, count: u32) -> &'static [AtomicU64] {
        let (at, count) = (at as usize, count as usize);
        if at.saturating_add(count) > self.layout.width || column >= self.layout.columns {
            return &[];
        }
        let index = HEADER_WORDS + column * self.layout.width + at;
        self.words.get(index..index + count).unwrap_or(&[])
    }
}

const PID: u32 = 0;
const ROLE: u32 = 1;
const WORKER: u32 = 2;
const THREAD: u32 = 3;
const GENERATION: u32 = 4;
const STARTED: u32 = 5;
const HEARTBEAT: u32 = 6;

/// What the owner of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The master.
    Master,
    /// An event loop of a worker.
    Worker,
    /// The admin process.
    Admin,
}

impl Role {
    const fn of(word: u64) -> Option<Self> {
        match word {
            1 => Some(Self::Master),
            2 => Some(Self::Worker),
            3 => Some(Self::Admin),
            _ => None,
        }
    }

    const fn word(self) -> u64 {
        match self {
            Self::Master => 1,
            Self::Worker => 2,
            Self::Admin => 3,
        }
    }
}

/// Who owns a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process.
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// The number of the worker.
    pub worker: u32,
    /// The number of the event loop in the worker.
    pub thread: u32,
    /// The generation of the configuration it runs.
    pub generation: u64,
    /// When it took the column.
    pub started: Instant,
    /// When it last said that it is alive.
    pub heartbeat: Instant,
}

/// A column in the hand of its single writer.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    table: Table,
    index: usize,
}

impl Column {
    /// The table it belongs to.
    #[must_use]
    pub const fn table(&self) -> Table {
        self.table
    }

    /// Its number.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Says whose column this is: by the new owner, before it counts anything.
    pub fn take(&self, owner: Owner) {
        let set = |at, value| self.word(at).store(value, Relaxed);
        set(ROLE, owner.role.word());
        set(WORKER, u64::from(owner.worker));
        set(THREAD, u64::from(owner.thread));
        set(GENERATION, owner.generation);
        set(STARTED, owner.started.as_nanos());
        set(HEARTBEAT, owner.heartbeat.as_nanos());
        self.word(PID).store(u64::from(owner.pid), Release);
    }

    /// Says that the owner is alive.
    pub fn beat(&self, now: Instant) {
        self.word(HEARTBEAT).store(now.as_nanos(), Relaxed);
    }

    /// Nobody owns the column any more. What it counted stays.
    pub(super) fn disown(&self) {
        self.word(PID).store(0, Release);
    }

    /// A counter of this column.
    #[must_use]
    pub fn counter(&self, slot: Slot) -> Counter {
        Counter::new(self.word(slot.0))
    }

    /// A gauge of this column.
    #[must_use]
    pub fn gauge(&self, slot: Slot) -> Gauge {
        Gauge::new(self.word(slot.0))
    }

    /// A gauge of this column together with the host's word of the same slot.
    #[must_use]
    pub fn host_gauge(&self, slot: Slot) -> HostGauge {
        HostGauge::new(self.table.word(0, slot.0), self.word(slot.0))
    }

    /// A histogram of this column.
    #[must_use]
    pub fn histogram(&self, slot: &HistogramSlot) -> Histogram {
        let words = self.table.words(self.index, slot.slot.0, slot.words());
        Histogram::new(words, slot.bounds.clone())
    }

    /// Counters for every value of a closed list of labels.
    #[must_use]
    pub fn each<L: Label>(&self, slot: EachSlot) -> Each<L> {
        let count = u32::try_from(L::WORDS.len()).unwrap_or(u32::MAX);
        let words = self.table.words(self.index, slot.first.0, count);
        let guard = slot.guard.map_or(&SINK, |guard| self.word(guard.0));
        Each::new(words, guard)
    }

    fn word(&self, at: u32) -> &'static AtomicU64 {
        self.table.word(self.index, at)
    }
}

/// The slots of a closed list of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EachSlot {
    pub(super) first: Slot,
    /// Not zero once any of the counters has counted; lets a scrape leave cold memory alone.
    pub(super) guard: Option<Slot>,
}

/// Which columns are free: the master's book.
#[derive(Clone, Debug)]
pub struct Columns {
    free: BTreeSet<usize>,
}

impl Columns {
    /// All columns of a table but the host's.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            free: (1..layout.columns).collect(),
        }
    }

    /// A column for a new owner: the lowest that is free, so that a scrape reads few. `None` when
    /// every column has a living owner.
    pub fn take(&mut self) -> Option<usize> {
        self.free.pop_first()
    }

    /// Gives a column back once its owner was reaped and [`super::Registry::retire`] was called.
    pub fn give_back(&mut self, column: usize) {
        if column != 0 {
            self.free.insert(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::super::{bundle::ServerMetrics, catalog};
    use super::*;
    use crate::sys::process::{Fork, exit_now, fork_for_test, wait_for};
    use crate::sys::shm::Mapping;

    #[test]
    fn a_child_that_dies_leaves_its_counts_and_its_column_usable() {
        let layout = Layout::new(4, 1000);
        let words = Mapping::new(layout.words()).unwrap().leak();
        let table = Table::new(words, layout).unwrap();
        let mut registry = Registry::new(layout, &[]);
        let slots = ServerMetrics::register(&mut registry, &["u", "s"]).unwrap();
        let sent = registry
            .counter(&catalog::SERVER_SENT, &["u", "s"])
            .unwrap();
        for round in 1..=3 {
            match fork_for_test().unwrap() {
                Fork::Child => {
                    let server = slots.bind(&table.column(1));
                    for _ in 0..1000 {
                        server.sent.inc();
                        server.in_flight.inc();
                    }
                    exit_now(1);
                }
                Fork::Parent(pid) => {
                    wait_for(pid).unwrap();
                    assert_eq!(table.used(), 1..2, "the child's column is seen here");
                    registry.retire(&table, 1);
                    let server = slots.bind(&table.column(1));
                    assert_eq!(table.sum(sent), round * 1000);
                    assert_eq!(server.in_flight.host().load(Relaxed), 0);
                }
            }
        }
    }

    #[test]
    fn columns_are_whole_pages_and_rooms_grow_with_the_need() {
        let layout = Layout::new(3, 1);
        assert_eq!(layout.words() % COLUMN_UNIT, 0);
        assert_eq!(layout.width() as usize, COLUMN_UNIT);
        assert!(Layout::roomy(3, 1_000_000).width() >= 8_000_000);
        assert!(Layout::roomy(3, 10).width() >= 1 << 18);
        assert_eq!(Layout::new(0, 0).columns(), 2);
    }
}
