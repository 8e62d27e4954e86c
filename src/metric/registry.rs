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

#[cfg(test)]
mod tests {
    use super::super::bundle::{ListenerMetrics, RouteMetrics, ServerMetrics};
    use super::super::catalog;
    use super::super::table::{Columns, Owner, Role};
    use super::*;
    use crate::base::time::Instant;
    use proptest::prelude::*;

    const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

    fn both() -> (Table, Registry) {
        let table = Table::heap();
        (table, Registry::new(table.layout(), &BOUNDS))
    }

    #[test]
    fn the_same_name_keeps_its_slot() {
        let (_, mut registry) = both();
        let a = registry.counter(&catalog::ROUTE_SENT, &["a"]).unwrap();
        let b = registry.counter(&catalog::ROUTE_SENT, &["b"]).unwrap();
        let other = registry.counter(&catalog::ROUTE_RECEIVED, &["a"]).unwrap();
        assert_eq!(registry.counter(&catalog::ROUTE_SENT, &["a"]).unwrap(), a);
        assert!(a != b && a != other && b != other);
        let snapshot = registry.clone();
        let _more = RouteMetrics::register(&mut registry, &["c"]).unwrap();
        let mut snapshot = snapshot;
        assert_eq!(snapshot.counter(&catalog::ROUTE_SENT, &["b"]).unwrap(), b);
    }

    #[test]
    fn labels_are_not_glued_together() {
        let (_, mut registry) = both();
        let one = registry
            .counter(&catalog::SERVER_SENT, &["ab", "c"])
            .unwrap();
        let two = registry
            .counter(&catalog::SERVER_SENT, &["a", "bc"])
            .unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn a_full_table_is_an_error_and_stays_usable() {
        let table = Table::heap_with(Layout::new(2, 400));
        let mut registry = Registry::new(table.layout(), &BOUNDS);
        let first = RouteMetrics::register(&mut registry, &["0"]).unwrap();
        let full =
            (1..1000).find_map(|i| RouteMetrics::register(&mut registry, &[&i.to_string()]).err());
        assert!(full.unwrap().to_string().contains("proxyd_route_"));
        assert!(registry.used(table.layout()) <= 512);
        let again = RouteMetrics::register(&mut registry, &["0"]).unwrap();
        let column = table.column(1);
        again.bind(&column).sent.add(3);
        assert_eq!(first.bind(&column).sent.get(), 3);
    }

    #[test]
    fn a_series_that_does_not_fit_takes_nothing() {
        let table = Table::heap_with(Layout::new(2, 1));
        let mut registry = Registry::new(table.layout(), &BOUNDS);
        while registry
            .each(
                &catalog::ROUTE_REASONS,
                &[&registry.used(table.layout()).to_string()],
            )
            .is_ok()
        {}
        let before = registry.used(table.layout());
        assert!(registry.each(&catalog::LISTENER_REASONS, &["x"]).is_err());
        assert_eq!(registry.used(table.layout()), before);
        assert!(registry.counter(&catalog::ROUTE_SENT, &["still"]).is_ok());
    }

    #[test]
    fn the_announced_size_is_the_size() {
        let (table, mut registry) = both();
        let before = registry.used(table.layout());
        let _slots = ListenerMetrics::register(&mut registry, &["a"]).unwrap();
        let took = registry.used(table.layout()) - before;
        assert_eq!(took, ListenerMetrics::words(BOUNDS.len()));
    }

    #[test]
    fn retiring_keeps_counts_and_drops_gauges() {
        let (table, mut registry) = both();
        let slots = ServerMetrics::register(&mut registry, &["u", "s"]).unwrap();
        let [dead, alive] = [1, 2].map(|i| slots.bind(&table.column(i)));
        for server in [&dead, &alive] {
            server.reused.add(5);
            server.idle.add(3);
            server.in_flight.inc();
        }
        let slot = registry
            .gauge(&catalog::SERVER_POOL_IDLE, &["u", "s"])
            .unwrap();
        let reused = registry
            .counter(&catalog::SERVER_REUSED, &["u", "s"])
            .unwrap();
        registry.retire(&table, 1);
        assert_eq!(table.sum(slot), 3);
        assert_eq!(table.sum(reused), 10);
        assert_eq!(alive.in_flight.host().load(Relaxed), 1);
        alive.in_flight.dec();
        assert_eq!(alive.in_flight.host().load(Relaxed), 0);
        // The next owner adds on top.
        slots.bind(&table.column(1)).reused.inc();
        assert_eq!(table.sum(reused), 11);
    }

    #[test]
    fn a_kill_in_the_middle_of_an_update_is_settled() {
        let (table, mut registry) = both();
        let slots = ServerMetrics::register(&mut registry, &["u", "s"]).unwrap();
        let [dead, alive] = [1, 2].map(|i| slots.bind(&table.column(i)));
        alive.in_flight.inc();
        // Killed after its own part was written and before the host's word was.
        dead.in_flight.own().store(1, Relaxed);
        registry.retire(&table, 1);
        assert_eq!(alive.in_flight.host().load(Relaxed), 0, "off by one");
        registry.settle(&table);
        assert_eq!(alive.in_flight.host().load(Relaxed), 1);
        registry.settle(&table);
        assert_eq!(alive.in_flight.host().load(Relaxed), 1);
    }

    #[test]
    fn other_bounds_begin_anew_and_leave_the_rest_alone() {
        let (table, mut registry) = both();
        let old = registry
            .histogram(&catalog::ROUTE_DURATION, &["a"])
            .unwrap();
        let lag = registry.histogram(&catalog::WORKER_LAG, &["0"]).unwrap();
        registry.set_bounds(&BOUNDS);
        assert_eq!(
            registry
                .histogram(&catalog::ROUTE_DURATION, &["a"])
                .unwrap(),
            old
        );
        registry.set_bounds(&[Duration::from_secs(1)]);
        let new = registry
            .histogram(&catalog::ROUTE_DURATION, &["a"])
            .unwrap();
        assert_ne!(new.slot, old.slot);
        assert_eq!(
            registry.histogram(&catalog::WORKER_LAG, &["0"]).unwrap(),
            lag
        );
        // A generation with the old bounds may still count: it harms nobody.
        table.column(1).histogram(&old).observe(Duration::ZERO);
    }

    #[test]
    fn columns_are_handed_out_lowest_first_and_know_their_owner() {
        let table = Table::heap();
        let registry = Registry::new(table.layout(), &BOUNDS);
        let mut columns = Columns::new(table.layout());
        let first = columns.take().unwrap();
        let second = columns.take().unwrap();
        assert_eq!((first, second), (1, 2));
        let owner = Owner {
            pid: 77,
            role: Role::Worker,
            worker: 3,
            thread: 1,
            generation: 9,
            started: Instant::from_nanos(5),
            heartbeat: Instant::from_nanos(6),
        };
        assert_eq!(table.owner(first), None);
        let column = table.column(first);
        column.take(owner);
        assert_eq!(table.owner(first), Some(owner));
        column.beat(Instant::from_nanos(8));
        assert_eq!(table.owner(first).unwrap().heartbeat.as_nanos(), 8);
        registry.retire(&table, first);
        assert_eq!(table.owner(first), None);
        columns.give_back(first);
        columns.give_back(0);
        assert_eq!(columns.take(), Some(1));
        let rest = std::iter::from_fn(|| columns.take()).count();
        assert_eq!(rest, table.layout().columns() - 3);
    }

    #[test]
    fn nothing_outside_of_the_table_is_touched() {
        let table = Table::heap();
        let far = table.column(99_999);
        far.counter(Slot(20)).inc();
        table.column(1).counter(Slot(u32::MAX)).inc();
        assert_eq!(table.sum(Slot(20)), 0);
        assert!(Table::new(&[], Layout::new(2, 1)).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Count(usize, u64),
        Hold(usize, i8),
        Enter(usize),
        Leave(usize),
        Kill(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let owner = 1_usize..5;
        prop_oneof![
            (owner.clone(), 0_u64..1000).prop_map(|(o, n)| Step::Count(o, n)),
            (owner.clone(), any::<i8>()).prop_map(|(o, n)| Step::Hold(o, n)),
            owner.clone().prop_map(Step::Enter),
            owner.clone().prop_map(Step::Leave),
            owner.prop_map(Step::Kill),
        ]
    }

    proptest! {
        #[test]
        fn sums_are_what_the_living_hold_and_everybody_counted(steps in proptest::collection::vec(step(), 0..200)) {
            let (table, mut registry) = both();
            let slots = ServerMetrics::register(&mut registry, &["u", "s"]).unwrap();
            let sent = registry.counter(&catalog::SERVER_SENT, &["u", "s"]).unwrap();
            let idle = registry.gauge(&catalog::SERVER_POOL_IDLE, &["u", "s"]).unwrap();
            let flight = registry.host_gauge(&catalog::SERVER_ACTIVE, &["u", "s"]).unwrap();
            let (mut counted, mut held, mut inside) = (0_u64, [0_i64; 5], [0_u64; 5]);
            for step in steps {
                match step {
                    Step::Count(o, n) => { slots.bind(&table.column(o)).sent.add(n); counted += n; }
                    Step::Hold(o, n) => {
                        let gauge = slots.bind(&table.column(o)).idle;
                        if n < 0 { gauge.sub(u64::from(n.unsigned_abs())); } else { gauge.add(n.unsigned_abs().into()); }
                        held[o] += i64::from(n);
                    }
                    Step::Enter(o) => { slots.bind(&table.column(o)).in_flight.inc(); inside[o] += 1; }
                    Step::Leave(o) if inside[o] > 0 => { slots.bind(&table.column(o)).in_flight.dec(); inside[o] -= 1; }
                    Step::Leave(_) => {}
                    Step::Kill(o) => { registry.retire(&table, o); held[o] = 0; inside[o] = 0; }
                }
                registry.settle(&table);
                prop_assert_eq!(table.sum(sent), counted);
                prop_assert_eq!(table.sum(idle).cast_signed(), held.iter().sum::<i64>());
                prop_assert_eq!(table.host(flight), inside.iter().sum::<u64>());
                prop_assert_eq!(table.sum_of_owners(flight), inside.iter().sum::<u64>());
            }
        }

        #[test]
        fn no_two_series_share_a_word(names in proptest::collection::vec("[a-d]{1,2}", 1..30)) {
            let (table, mut registry) = both();
            let mut taken = HashMap::new();
            for name in &names {
                let labels = [name.as_str()];
                let Ok(place) = registry.each(&catalog::ROUTE_REASONS, &labels) else { break };
                let Ok(one) = registry.counter(&catalog::ROUTE_SENT, &labels) else { break };
                let Ok(histogram) = registry.histogram(&catalog::ROUTE_DURATION, &labels) else { break };
                let count = u32::try_from(catalog::ROUTE_REASONS.each.len()).unwrap();
                let words = (place.first.0..place.first.0 + count)
                    .chain(place.guard.map(|g| g.0))
                    .chain([one.0])
                    .chain(histogram.slot.0..histogram.slot.0 + histogram.words());
                for word in words {
                    prop_assert!(word >= OWNER_WORDS && word < table.layout().width());
                    let owner = taken.entry(word).or_insert_with(|| name.clone());
                    prop_assert_eq!(&*owner, name);
                }
            }
        }
    }
}
