//! The idle connections of one server in one worker: last in, first out, bounded in number, idle
//! time, age and use. Generic over what a connection is, so that the rules are tested without one.

use crate::base::time::Instant;
use crate::upstream::params::PoolParams;

/// What is known of a connection besides the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    created: Instant,
    requests: u32,
    /// When an idle connection has to go, if the server said so in `Keep-Alive: timeout`.
    idle_limit: Option<std::time::Duration>,
}

impl History {
    /// How many requests were begun on it.
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// Keeps the server's own idle limit: the pool lets go a second before (rule 13.4).
    pub fn announce_idle_limit(&mut self, limit: std::time::Duration) {
        self.idle_limit = Some(limit.saturating_sub(std::time::Duration::from_secs(1)));
    }
}

struct Idle<T> {
    item: T,
    history: History,
    expires: Instant,
}

/// Idle connections, and a count of the busy ones.
pub struct Pool<T> {
    params: PoolParams,
    idle: Vec<Idle<T>>,
    busy: u32,
}

impl<T> Pool<T> {
    /// An empty pool.
    #[must_use]
    pub const fn new(params: PoolParams) -> Self {
        Self {
            params,
            idle: Vec::new(),
            busy: 0,
        }
    }

    /// The warmest idle connection that is `wanted` and neither expired nor, as `is_stale` finds,
    /// dead. The dead ones met on the way are dropped; their number comes back too. A connection
    /// taken is busy until `give_back` or `gone`.
    pub fn take(
        &mut self,
        now: Instant,
        wanted: impl Fn(&T) -> bool,
        mut is_stale: impl FnMut(&mut T) -> bool,
    ) -> (Option<(T, History)>, usize) {
        let mut stale = 0;
        let mut at = self.idle.len();
        while at > 0 {
            at -= 1;
            if !self.idle.get(at).is_some_and(|idle| wanted(&idle.item)) {
                continue;
            }
            let mut idle = self.idle.remove(at);
            if idle.expires <= now {
                continue;
            }
            if is_stale(&mut idle.item) {
                stale += 1;
                continue;
            }
            self.busy += 1;
            let mut history = idle.history;
            history.requests = history.requests.saturating_add(1);
            return (Some((idle.item, history)), stale);
        }
        (None, stale)
    }

    /// Whether another connection may be opened.
    #[must_use]
    pub fn may_open(&self) -> bool {
        let idle = u32::try_from(self.idle.len()).unwrap_or(u32::MAX);
        self.busy.saturating_add(idle) < self.params.max
    }

    /// Lets the coldest idle connection go if no other one may be opened beside it.
    pub fn make_room(&mut self) {
        if !self.may_open() && !self.idle.is_empty() {
            self.idle.remove(0);
        }
    }

    /// Counts a connection that is being opened; it is busy until `give_back` or `gone`.
    pub const fn open(&mut self, now: Instant) -> History {
        self.busy += 1;
        History {
            created: now,
            requests: 1,
            idle_limit: None,
        }
    }

    /// Takes a busy connection back, if the bounds allow; otherwise returns it to be closed.
    pub fn give_back(&mut self, item: T, history: History, now: Instant) -> Option<T> {
        self.gone();
        let age = now - history.created;
        let full = self.idle.len() >= self.params.max_idle as usize;
        if full || age >= self.params.max_age || history.requests >= self.params.max_requests {
            return Some(item);
        }
        let limit = match history.idle_limit {
            Some(announced) => announced.min(self.params.idle_timeout),
            None => self.params.idle_timeout,
        };
        if limit.is_zero() {
            return Some(item);
        }
        let limit = limit.min(self.params.max_age.saturating_sub(age));
        self.idle.push(Idle {
            item,
            history,
            expires: now + limit,
        });
        None
    }

    /// A busy connection was closed.
    pub const fn gone(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// Drops the idle connections that are expired or dead; returns how many.
    pub fn sweep(&mut self, now: Instant, mut is_stale: impl FnMut(&mut T) -> bool) -> usize {
        let before = self.idle.len();
        self.idle
            .retain_mut(|idle| idle.expires > now && !is_stale(&mut idle.item));
        before - self.idle.len()
    }

    /// Drops every idle connection.
    pub fn clear(&mut self) {
        self.idle.clear();
    }

    /// How many are idle.
    #[must_use]
    pub const fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many are busy.
    #[must_use]
    pub const fn busy(&self) -> u32 {
        self.busy
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pool(max_idle: u32, max: u32) -> Pool<u32> {
        Pool::new(PoolParams {
            max_idle,
            max,
            max_requests: 3,
            ..PoolParams::default()
        })
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_warmest_connection_comes_first() {
        let mut p = pool(8, 8);
        for item in [1, 2, 3] {
            let h = p.open(at(0));
            assert_eq!(p.give_back(item, h, at(1)), None);
        }
        let (taken, stale) = p.take(at(2), |_| true, |_| false);
        assert_eq!((taken.unwrap().0, stale), (3, 0));
    }

    #[test]
    fn dead_and_expired_connections_are_not_handed_out() {
        let mut p = pool(8, 8);
        for (item, when) in [(1, 0), (2, 30), (3, 30)] {
            let h = p.open(at(0));
            p.give_back(item, h, at(when));
        }
        let (taken, stale) = p.take(at(55), |_| true, |item| *item == 3);
        assert_eq!((taken.unwrap().0, stale), (2, 1));
        assert_eq!(
            p.take(at(55), |_| true, |_| false).0,
            None,
            "connection 1 idled for 55 s of 50"
        );
    }

    #[test]
    fn bounds_hold() {
        let mut p = pool(1, 2);
        let (a, b) = (p.open(at(0)), p.open(at(0)));
        assert!(!p.may_open());
        assert_eq!(p.give_back(1, a, at(0)), None);
        assert_eq!(
            p.give_back(2, b, at(0)),
            Some(2),
            "one idle connection is kept"
        );
        assert_eq!((p.idle(), p.busy()), (1, 0));
        assert!(p.may_open());
    }

    #[test]
    fn use_and_age_are_bounded() {
        let mut p = pool(8, 8);
        let h = p.open(at(0));
        p.give_back(1, h, at(0));
        let (_, h) = p.take(at(1), |_| true, |_| false).0.unwrap();
        p.give_back(1, h, at(1));
        let (_, h) = p.take(at(2), |_| true, |_| false).0.unwrap();
        assert_eq!(h.requests(), 3);
        assert_eq!(
            p.give_back(1, h, at(2)),
            Some(1),
            "three requests are the bound"
        );
        let h = p.open(at(0));
        assert_eq!(p.give_back(2, h, at(3600)), Some(2), "an hour is the bound");
    }

    #[test]
    fn the_idle_limit_of_the_server_is_kept_with_a_second_to_spare() {
        let mut p = pool(8, 8);
        let mut h = p.open(at(0));
        h.announce_idle_limit(Duration::from_secs(5));
        p.give_back(1, h, at(0));
        assert_eq!(p.sweep(at(3), |_| false), 0);
        assert_eq!(p.sweep(at(4), |_| false), 1);
        let mut h = p.open(at(0));
        h.announce_idle_limit(Duration::from_secs(1));
        assert_eq!(
            p.give_back(2, h, at(0)),
            Some(2),
            "nothing is left of one second"
        );
    }

    proptest::proptest! {
        #[test]
        fn counts_never_exceed_the_bounds(ops in proptest::collection::vec(0_u8..5, 1..200)) {
            let mut p = Pool::new(PoolParams { max_idle: 3, max: 6, ..PoolParams::default() });
            let mut held = Vec::new();
            let mut now = 0;
            for op in ops {
                now += 7;
                match op {
                    0 | 1 if p.may_open() => held.push(p.open(at(now))),
                    0 | 1 => held.extend(p.take(at(now), |_| true, |_| false).0.map(|(_, h)| h)),
                    2 => { if let Some(h) = held.pop() { p.give_back((), h, at(now)); } }
                    3 => { if held.pop().is_some() { p.gone(); } }
                    _ => { p.sweep(at(now), |()| false); }
                }
                proptest::prop_assert!(p.idle() <= 3);
                proptest::prop_assert!(p.busy() as usize + p.idle() <= 6);
                proptest::prop_assert_eq!(p.busy() as usize, held.len());
            }
        }
    }
}
