//! The shared state of one server, as plain operations on words of shared memory: requests in
//! flight over all workers, and passing over a server that failed (`max_fails`, `fail_timeout`).
//! Not active checks and not a breaker. Every operation leaves the words usable when the worker
//! is killed at any instruction.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use crate::base::time::Instant;

/// When a server is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailRule {
    /// So many failures within `fail_timeout`; 0 never.
    pub max_fails: u32,
    /// The window, and for how long the server is passed over.
    pub fail_timeout: Duration,
}

impl FailRule {
    /// Never passed over: for the only server of an upstream, as there is nothing to pass to.
    pub const NEVER: Self = Self {
        max_fails: 0,
        fail_timeout: Duration::ZERO,
    };
}

/// Whether a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is in order.
    Open,
    /// It failed, and its time is over: one request may try it.
    Probe,
    /// It is passed over.
    Shut,
}

/// The failure words of one server.
#[derive(Clone, Copy, Debug)]
pub struct Failures<'a> {
    /// Start of the window in milliseconds (48 bits) and failures since (16 bits).
    pub count: &'a AtomicU64,
    /// Nanoseconds of the clock until which the server is passed over; 0 when it is in order.
    pub until: &'a AtomicU64,
}

const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Failures<'_> {
    /// Whether the server may be asked now. Reads only.
    #[must_use]
    pub fn admission(self, now: Instant) -> Admission {
        match self.until.load(Relaxed) {
            0 => Admission::Open,
            until if now.as_nanos() < until => Admission::Shut,
            _ => Admission::Probe,
        }
    }

    /// Takes the probe: true for exactly one caller on the host. The server stays shut for
    /// everybody else until the outcome is known, and for `fail_timeout` if nobody tells it.
    #[must_use]
    pub fn claim(self, rule: FailRule, now: Instant) -> bool {
        let until = self.until.load(Acquire);
        let next = (now + rule.fail_timeout).as_nanos().max(1);
        until != 0
            && until <= now.as_nanos()
            && self
                .until
                .compare_exchange(until, next, AcqRel, Relaxed)
                .is_ok()
    }

    /// A probe ended without saying anything about the server (the client went away): the next
    /// request may try.
    pub fn unclaim(self, now: Instant) {
        if self.until.load(Relaxed) != 0 {
            self.until.store(now.as_nanos().max(1), Relaxed);
        }
    }

    /// A probe succeeded: the server is in order again. Successes of ordinary requests are not
    /// told, so they cost nothing; failures are forgotten by time.
    pub fn recovered(self) {
        // The count goes first: killed in between, the server is probed once more.
        self.count.store(0, Relaxed);
        self.until.store(0, Relaxed);
    }

    /// Counts a failure; true when the server is passed over from now on and was not before.
    pub fn failed(self, rule: FailRule, now: Instant) -> bool {
        if rule.max_fails == 0 {
            return false;
        }
        let until = (now + rule.fail_timeout).as_nanos().max(1);
        if self.until.load(Acquire) != 0 {
            // A failed probe, or a request that was on its way when the server was shut.
            self.until.fetch_max(until, AcqRel);
            return false;
        }
        // The count goes first: killed in between, the next failure finds it full.
        let fails = self.count_one(rule, now);
        fails >= u64::from(rule.max_fails).min(COUNT_MAX)
            && self.until.fetch_max(until, AcqRel) == 0
    }

    fn count_one(self, rule: FailRule, now: Instant) -> u64 {
        let now_ms = now.as_millis();
        let window = u64::try_from(rule.fail_timeout.as_millis()).unwrap_or(u64::MAX);
        let mut old = self.count.load(Relaxed);
        loop {
            let (start, fails) = (old >> COUNT_BITS, old & COUNT_MAX);
            let (start, fails) = if fails == 0 || now_ms.saturating_sub(start) > window {
                (now_ms, 1)
            } else {
                (start, (fails + 1).min(COUNT_MAX))
            };
            let new = (start << COUNT_BITS) | fails;
            match self.count.compare_exchange_weak(old, new, AcqRel, Relaxed) {
                Ok(_) => return fails,
                Err(seen) => old = seen,
            }
        }
    }
}

/// The words that count the requests in flight at one server.
#[derive(Clone, Copy, Debug)]
pub struct InFlight<'a> {
    /// Of the whole host: changed by everybody.
    pub host: &'a AtomicU64,
    /// This worker's part of it: written by this worker alone, read by the master when the worker
    /// has died.
    pub own: &'a AtomicU64,
}

impl<'a> InFlight<'a> {
    /// Counts a request until the result is dropped.
    #[must_use]
    pub fn enter(self) -> Flight<'a> {
        // The own part never is less than what was added for it: killed in between, the master
        // takes one too many back, which `settle` repairs; never one too few, which would keep
        // the server looking busy for ever.
        self.own
            .store(self.own.load(Relaxed).wrapping_add(1), Relaxed);
        self.host.fetch_add(1, AcqRel);
        Flight(self)
    }

    /// How many requests are in flight on the host.
    #[must_use]
    pub fn read(host: &AtomicU64) -> u64 {
        // A negative number is a repair that is not settled yet.
        let count = host.load(Relaxed);
        if count > i64::MAX.unsigned_abs() {
            0
        } else {
            count
        }
    }

    /// Takes back what a dead worker had in flight; for the master, once the worker is reaped.
    pub fn reclaim(self) {
        let own = self.own.swap(0, AcqRel);
        self.host.fetch_sub(own, AcqRel);
    }

    /// Puts a count right that a worker killed in the middle of an update left off by one: `sum`
    /// is the sum of the workers' own parts, read between two equal readings (`before`) of the
    /// host's word. Nothing happens when the word has moved on.
    pub fn settle(host: &AtomicU64, before: u64, sum: u64) {
        if before != sum {
            // Losing the race means that requests come and go; the next round settles it.
            let _lost = host.compare_exchange(before, sum, AcqRel, Relaxed);
        }
    }
}

/// One request in flight; dropping it ends the count.
#[derive(Debug)]
pub struct Flight<'a>(InFlight<'a>);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let InFlight { host, own } = self.0;
        host.fetch_sub(1, AcqRel);
        own.store(own.load(Relaxed).wrapping_sub(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: FailRule = FailRule {
        max_fails: 3,
        fail_timeout: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[derive(Default)]
    struct Memory {
        count: AtomicU64,
        until: AtomicU64,
    }

    impl Memory {
        fn words(&self) -> Failures<'_> {
            Failures {
                count: &self.count,
                until: &self.until,
            }
        }
    }

    #[test]
    fn enough_failures_in_the_window_shut_a_server() {
        let m = Memory::default();
        let w = m.words();
        assert_eq!(w.admission(at(100)), Admission::Open);
        assert!(!w.failed(RULE, at(100)));
        assert!(!w.failed(RULE, at(104)));
        assert_eq!(w.admission(at(104)), Admission::Open);
        assert!(w.failed(RULE, at(105)), "tells once");
        assert!(!w.failed(RULE, at(105)));
        assert_eq!(w.admission(at(114)), Admission::Shut);
        assert_eq!(w.admission(at(115)), Admission::Probe);
    }

    #[test]
    fn failures_are_forgotten_after_the_window() {
        let m = Memory::default();
        let w = m.words();
        w.failed(RULE, at(100));
        w.failed(RULE, at(101));
        assert!(!w.failed(RULE, at(111)), "a new window");
        assert!(!w.failed(RULE, at(112)));
        assert!(w.failed(RULE, at(113)));
    }

    #[test]
    fn one_request_probes_a_server_whose_time_is_over() {
        let m = Memory::default();
        let w = m.words();
        assert!(!w.claim(RULE, at(1)), "nothing to claim in order");
        (0..3).for_each(|_| {
            w.failed(RULE, at(100));
        });
        assert!(!w.claim(RULE, at(109)), "too early");
        assert!(w.claim(RULE, at(110)));
        assert!(!w.claim(RULE, at(110)), "only one");
        assert_eq!(w.admission(at(110)), Admission::Shut);
        w.recovered();
        assert_eq!(w.admission(at(110)), Admission::Open);
        assert!(!w.failed(RULE, at(110)), "the count began anew");
    }

    #[test]
    fn a_failed_probe_shuts_the_server_again() {
        let m = Memory::default();
        let w = m.words();
        (0..3).for_each(|_| {
            w.failed(RULE, at(100));
        });
        assert!(w.claim(RULE, at(110)));
        assert!(!w.failed(RULE, at(112)), "it was shut before");
        assert_eq!(w.admission(at(121)), Admission::Shut);
        assert_eq!(w.admission(at(122)), Admission::Probe);
    }

    #[test]
    fn a_probe_without_outcome_frees_the_next() {
        let m = Memory::default();
        let w = m.words();
        w.unclaim(at(5));
        assert_eq!(w.admission(at(6)), Admission::Open, "not shut at all");
        (0..3).for_each(|_| {
            w.failed(RULE, at(100));
        });
        assert!(w.claim(RULE, at(110)));
        w.unclaim(at(111));
        assert!(w.claim(RULE, at(111)));
        // Killed while probing: the time simply runs out.
        assert!(w.claim(RULE, at(121)));
    }

    #[test]
    fn some_servers_are_never_passed_over() {
        let m = Memory::default();
        for _ in 0..100 {
            assert!(!m.words().failed(FailRule::NEVER, at(1)));
        }
        assert_eq!(m.words().admission(at(1)), Admission::Open);
    }

    #[test]
    fn a_worker_killed_between_two_writes_leaves_usable_words() {
        // Count written, mark not: the next failure marks.
        let m = Memory::default();
        m.words().count_one(RULE, at(100));
        m.words().count_one(RULE, at(100));
        m.words().count_one(RULE, at(100));
        assert_eq!(m.words().admission(at(101)), Admission::Open);
        assert!(m.words().failed(RULE, at(101)));
        // Count cleared, mark not: it is probed once more.
        m.count.store(0, Relaxed);
        assert_eq!(m.words().admission(at(200)), Admission::Probe);
    }

    #[test]
    fn the_count_saturates() {
        let m = Memory::default();
        let rule = FailRule {
            max_fails: u32::MAX,
            ..RULE
        };
        let last = (0..70_000)
            .map(|_| m.words().failed(rule, at(1)))
            .filter(|f| *f)
            .count();
        assert_eq!(last, 1);
    }

    #[test]
    fn in_flight_is_counted_on_both_words() {
        let (host, own) = (AtomicU64::new(5), AtomicU64::new(0));
        let words = InFlight {
            host: &host,
            own: &own,
        };
        let one = words.enter();
        let two = words.enter();
        assert_eq!((InFlight::read(&host), own.load(Relaxed)), (7, 2));
        drop(one);
        drop(two);
        assert_eq!((InFlight::read(&host), own.load(Relaxed)), (5, 0));
    }

    #[test]
    fn what_a_dead_worker_had_in_flight_is_taken_back() {
        let (host, own) = (AtomicU64::new(10), AtomicU64::new(4));
        InFlight {
            host: &host,
            own: &own,
        }
        .reclaim();
        assert_eq!((InFlight::read(&host), own.load(Relaxed)), (6, 0));
    }

    #[test]
    fn a_count_off_by_one_is_settled() {
        // Killed after the own word was raised and before the host's.
        let (host, own) = (AtomicU64::new(0), AtomicU64::new(1));
        InFlight {
            host: &host,
            own: &own,
        }
        .reclaim();
        assert_eq!(InFlight::read(&host), 0, "never a huge number");
        let before = host.load(Relaxed);
        InFlight::settle(&host, before, 0);
        assert_eq!(host.load(Relaxed), 0);
        host.store(3, Relaxed);
        InFlight::settle(&host, 2, 7);
        assert_eq!(host.load(Relaxed), 3, "moved on");
    }

    proptest! {
        #[test]
        fn workers_and_deaths_never_leave_a_count_behind(
            steps in prop::collection::vec((0_usize..3, 0_u8..10), 0..200),
        ) {
            let host = AtomicU64::new(0);
            let own = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
            let mut flights: [Vec<Flight<'_>>; 3] = Default::default();
            for (worker, what) in steps {
                let words = InFlight { host: &host, own: &own[worker] };
                match what {
                    0..5 => flights[worker].push(words.enter()),
                    5..9 => drop(flights[worker].pop()),
                    _ => {
                        std::mem::take(&mut flights[worker]).leak();
                        words.reclaim();
                    }
                }
                let open: usize = flights.iter().map(Vec::len).sum();
                prop_assert_eq!(InFlight::read(&host), open as u64);
            }
        }
    }
}
