//! What is written to: typed views of single words. None of them can be sent to another thread
//! except [`Shared`], because the others have a single writer.

use super::label::Label;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

/// Where counts go that have no slot: written by anybody, read by nobody.
pub(super) static SINK: AtomicU64 = AtomicU64::new(0);

/// Keeps single-writer views in their thread.
type OneThread = PhantomData<*const ()>;

fn bump(word: &AtomicU64, n: u64) {
    word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
}

/// A number that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(&'static AtomicU64, OneThread);

impl Counter {
    pub(super) const fn new(word: &'static AtomicU64) -> Self {
        Self(word, PhantomData)
    }

    /// Counts nothing.
    #[must_use]
    pub const fn sink() -> Self {
        Self::new(&SINK)
    }

    /// One more.
    pub fn inc(&self) {
        bump(self.0, 1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        bump(self.0, n);
    }

    /// What this column has counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down; zeroed when its owner has died.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(&'static AtomicU64, OneThread);

impl Gauge {
    pub(super) const fn new(word: &'static AtomicU64) -> Self {
        Self(word, PhantomData)
    }

    /// Counts nothing.
    #[must_use]
    pub const fn sink() -> Self {
        Self::new(&SINK)
    }

    /// One more.
    pub fn inc(&self) {
        bump(self.0, 1);
    }

    /// One less.
    pub fn dec(&self) {
        bump(self.0, u64::MAX);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        bump(self.0, n);
    }

    /// `n` less.
    pub fn sub(&self, n: u64) {
        bump(self.0, n.wrapping_neg());
    }

    /// Exactly this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// What this column holds.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// One more until the result is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.inc();
        Held(*self)
    }
}

/// One of a gauge; dropping it takes it back.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A count over the whole host, kept exact when one of its holders is killed: the host's word and
/// this column's part of it. Who changes them keeps the part at least as large as what was added
/// for it; [`super::Registry::retire`] takes a dead owner's part back and
/// [`super::Registry::settle`] repairs what a kill in the middle of an update left off by one.
#[derive(Clone, Copy, Debug)]
pub struct HostGauge {
    host: &'static AtomicU64,
    own: &'static AtomicU64,
    one_thread: OneThread,
}

impl HostGauge {
    pub(super) const fn new(host: &'static AtomicU64, own: &'static AtomicU64) -> Self {
        Self {
            host,
            own,
            one_thread: PhantomData,
        }
    }

    /// Counts into a word of its own that nobody reads.
    #[must_use]
    pub fn sink() -> Self {
        let words: &'static [AtomicU64; 2] = Box::leak(Box::default());
        let [host, own] = words;
        Self::new(host, own)
    }

    /// The word of the host, for whoever balances by it.
    #[must_use]
    pub const fn host(&self) -> &'static AtomicU64 {
        self.host
    }

    /// This column's part.
    #[must_use]
    pub const fn own(&self) -> &'static AtomicU64 {
        self.own
    }

    /// One more.
    pub fn inc(&self) {
        bump(self.own, 1);
        self.host.fetch_add(1, AcqRel);
    }

    /// One less.
    pub fn dec(&self) {
        self.host.fetch_sub(1, AcqRel);
        bump(self.own, u64::MAX);
    }
}

/// A word of the whole host: every change is one atomic operation.
#[derive(Clone, Copy, Debug)]
pub struct Shared(pub(super) &'static AtomicU64);

impl Shared {
    /// A word of its own that nobody else reads.
    #[must_use]
    pub fn sink() -> Self {
        Self(Box::leak(Box::default()))
    }

    /// The word itself.
    #[must_use]
    pub const fn word(&self) -> &'static AtomicU64 {
        self.0
    }

    /// What it holds.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Exactly this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Release);
    }

    /// `n` more; returns what it held before.
    pub fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, AcqRel)
    }

    /// `n` less; returns what it held before.
    pub fn sub(&self, n: u64) -> u64 {
        self.0.fetch_sub(n, AcqRel)
    }

    /// `new` if it holds `old`; otherwise what it holds.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn swap_if(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, AcqRel, Acquire)
    }
}

/// Counts of durations by size, with their sum.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// One bucket for each bound, one for what is larger, the sum in nanoseconds.
    words: &'static [AtomicU64],
    bounds: Arc<[u64]>,
    one_thread: OneThread,
}

/// Up to so many bounds a plain walk is quicker than halving.
const WALK_MAX: usize = 16;

impl Histogram {
    pub(super) const fn new(words: &'static [AtomicU64], bounds: Arc<[u64]>) -> Self {
        Self {
            words,
            bounds,
            one_thread: PhantomData,
        }
    }

    /// Counts nothing.
    #[must_use]
    pub fn sink() -> Self {
        Self::new(&[], Arc::from([]))
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = if self.bounds.len() <= WALK_MAX {
            let mut walk = self.bounds.iter();
            walk.position(|bound| nanos <= *bound)
                .unwrap_or(self.bounds.len())
        } else {
            self.bounds.partition_point(|bound| *bound < nanos)
        };
        if let (Some(bucket), Some(sum)) = (self.words.get(bucket), self.words.last()) {
            bump(bucket, 1);
            bump(sum, nanos);
        }
    }
}

/// One counter for every value of a closed list of labels.
#[derive(Debug)]
pub struct Each<L> {
    words: &'static [AtomicU64],
    guard: &'static AtomicU64,
    label: PhantomData<(L, *const ())>,
}

impl<L> Clone for Each<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Each<L> {}

impl<L: Label> Each<L> {
    pub(super) const fn new(words: &'static [AtomicU64], guard: &'static AtomicU64) -> Self {
        Self {
            words,
            guard,
            label: PhantomData,
        }
    }

    /// Counts nothing.
    #[must_use]
    pub const fn sink() -> Self {
        Self::new(&[], &SINK)
    }

    /// One more of this label.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// `n` more of this label.
    pub fn add(&self, label: L, n: u64) {
        if n == 0 {
            return;
        }
        if let Some(word) = self.words.get(label.place()) {
            self.guard.store(1, Relaxed);
            bump(word, n);
        }
    }

    /// What this column has counted.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.words.get(label.place()).map_or(0, |w| w.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Class;
    use super::*;
    use proptest::prelude::*;

    fn words<const N: usize>() -> &'static [AtomicU64; N] {
        Box::leak(Box::new([const { AtomicU64::new(0) }; N]))
    }

    #[test]
    fn gauges_go_both_ways_and_are_held() {
        let gauge = Gauge::new(&words::<1>()[0]);
        gauge.inc();
        gauge.add(5);
        gauge.sub(2);
        gauge.dec();
        assert_eq!(gauge.get(), 3);
        let held = gauge.hold();
        assert_eq!(gauge.get(), 4);
        drop(held);
        assert_eq!(gauge.get(), 3);
        gauge.set(9);
        assert_eq!(gauge.get(), 9);
    }

    #[test]
    fn a_list_counts_by_label_and_marks_its_guard() {
        let guard = &words::<1>()[0];
        let each: Each<Class> = Each::new(words::<6>(), guard);
        assert_eq!(guard.load(Relaxed), 0);
        each.inc(Class::of(404));
        each.add(Class::of(204), 2);
        assert_eq!(each.get(Class::ClientError), 1);
        assert_eq!(each.get(Class::Success), 2);
        assert_eq!(each.get(Class::None), 0);
        assert_eq!(guard.load(Relaxed), 1);
    }

    #[test]
    fn sinks_swallow_everything() {
        Counter::sink().inc();
        Gauge::sink().inc();
        Histogram::sink().observe(Duration::from_secs(1));
        Each::<Class>::sink().inc(Class::None);
        let (a, b) = (HostGauge::sink(), HostGauge::sink());
        a.inc();
        assert_eq!(
            b.host().load(Relaxed),
            0,
            "balancing by one is not changed by another"
        );
        let shared = Shared::sink();
        assert_eq!(shared.add(2), 0);
        assert_eq!(shared.sub(1), 2);
        assert_eq!(shared.swap_if(1, 7), Ok(1));
        assert_eq!(shared.swap_if(1, 8), Err(7));
        shared.set(3);
        assert_eq!(shared.get(), 3);
    }

    proptest! {
        #[test]
        fn an_observation_is_in_the_first_bucket_that_holds_it(
            mut bounds in proptest::collection::vec(1_u64..1000, 0..30),
            values in proptest::collection::vec(0_u64..1100, 0..50),
        ) {
            bounds.sort_unstable();
            bounds.dedup();
            let words: Vec<AtomicU64> = (0..bounds.len() + 2).map(|_| AtomicU64::new(0)).collect();
            let words: &'static [AtomicU64] = words.leak();
            let histogram = Histogram::new(words, Arc::from(&*bounds));
            for value in &values {
                histogram.observe(Duration::from_nanos(*value));
            }
            let mut low = None;
            for (word, high) in words.iter().zip(bounds.iter().map(Some).chain([None])) {
                let expected = values.iter().filter(|v| {
                    low.is_none_or(|l: &u64| *v > l) && high.is_none_or(|h| *v <= h)
                }).count() as u64;
                prop_assert_eq!(word.load(Relaxed), expected);
                low = high;
            }
            prop_assert_eq!(words.last().unwrap().load(Relaxed), values.iter().sum::<u64>());
        }
    }
}
