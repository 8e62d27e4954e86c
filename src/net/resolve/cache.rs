//! What is known about names, and for how long. Pure: the time is a parameter.
//!
//! A good answer holds for its time to live within the limits of the configuration. When asking
//! again fails, the last good answer goes on for `stale`. When a server says that the name does
//! not exist, that counts, and the old answer is gone.

use super::{Answer, Failure, Why};
use crate::base::time::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Names that are known at the same time.
const NAMES_MAX: usize = 4096;

/// How long "there is none" holds when the server does not say.
const NEGATIVE: Duration = Duration::from_secs(10);

/// The longest pause between failed attempts; the first one is a second.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The limits of the times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// An answer holds at least so long.
    pub min_ttl: Duration,
    /// An answer holds at most so long.
    pub max_ttl: Duration,
    /// An answer is used so long beyond its time while asking fails.
    pub stale: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Missing,
    Failing(u32),
}

struct Entry {
    state: State,
    /// When to ask again.
    until: Instant,
    addrs: Option<Rc<[IpAddr]>>,
    /// When `addrs` can no longer be used, even if asking fails.
    useless: Instant,
}

/// The table of names.
pub struct Cache {
    limits: Limits,
    entries: BTreeMap<Rc<str>, Entry>,
}

impl Cache {
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is known; `None` when it is time to ask (again).
    pub fn get(&self, name: &str, now: Instant) -> Option<Result<Answer, Failure>> {
        let entry = self.entries.get(name).filter(|entry| now < entry.until)?;
        Some(entry.result(now))
    }

    /// A good answer came in.
    pub fn good(
        &mut self,
        name: &Rc<str>,
        addrs: &[IpAddr],
        ttl: Duration,
        now: Instant,
    ) -> Answer {
        let until = now + self.clamp(ttl);
        let addrs: Rc<[IpAddr]> = addrs.into();
        let entry = Entry {
            state: State::Good,
            until,
            addrs: Some(Rc::clone(&addrs)),
            useless: until + self.limits.stale,
        };
        self.put(name, entry);
        Answer {
            addrs,
            until,
            stale: false,
        }
    }

    /// A server said that there is nothing.
    pub fn missing(&mut self, name: &Rc<str>, ttl: Option<Duration>, now: Instant) -> Failure {
        let until = now + self.clamp(ttl.unwrap_or(NEGATIVE));
        self.put(
            name,
            Entry {
                state: State::Missing,
                until,
                addrs: None,
                useless: now,
            },
        );
        Failure {
            why: Why::Missing,
            until,
        }
    }

    /// Asking failed. The last good answer goes on while it may.
    pub fn failed(&mut self, name: &Rc<str>, now: Instant) -> Result<Answer, Failure> {
        let old = self.entries.remove(name);
        let count = match old.as_ref().map(|entry| entry.state) {
            Some(State::Failing(count)) => count.saturating_add(1),
            _ => 0,
        };
        let pause = Duration::from_secs(1 << count.min(5)).min(RETRY_MAX);
        let (addrs, useless) = old.map_or((None, now), |entry| (entry.addrs, entry.useless));
        let entry = Entry {
            state: State::Failing(count),
            until: now + pause,
            addrs,
            useless,
        };
        let result = entry.result(now);
        self.put(name, entry);
        result
    }

    fn clamp(&self, ttl: Duration) -> Duration {
        ttl.min(self.limits.max_ttl).max(self.limits.min_ttl)
    }

    fn put(&mut self, name: &Rc<str>, entry: Entry) {
        if self.entries.len() >= NAMES_MAX && !self.entries.contains_key(name) {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(oldest) = first.map(|(name, _)| Rc::clone(name)) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(Rc::clone(name), entry);
    }
}

impl Entry {
    fn result(&self, now: Instant) -> Result<Answer, Failure> {
        let why = match self.state {
            State::Missing => Why::Missing,
            State::Good | State::Failing(_) => Why::Failed,
        };
        let stale = self.state != State::Good;
        match &self.addrs {
            Some(addrs) if !stale || now < self.useless => Ok(Answer {
                addrs: Rc::clone(addrs),
                until: self.until,
                stale,
            }),
            _ => Err(Failure {
                why,
                until: self.until,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const LIMITS: Limits = Limits {
        min_ttl: Duration::from_secs(2),
        max_ttl: Duration::from_secs(300),
        stale: Duration::from_secs(3600),
    };

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn addrs() -> [IpAddr; 1] {
        [Ipv4Addr::new(10, 0, 0, 1).into()]
    }

    fn ttl(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_to_live_has_a_floor_and_a_ceiling() {
        let mut cache = Cache::new(LIMITS);
        let name: Rc<str> = "a".into();
        assert_eq!(cache.good(&name, &addrs(), ttl(0), at(0)).until, at(2));
        assert!(cache.get("a", at(1)).is_some_and(|result| result.is_ok()));
        assert_eq!(cache.get("a", at(2)), None);
        assert_eq!(
            cache.good(&name, &addrs(), ttl(90_000), at(0)).until,
            at(300)
        );
        assert_eq!(cache.missing(&name, Some(ttl(1)), at(0)).until, at(2));
        assert_eq!(cache.missing(&name, None, at(0)).until, at(10));
        assert_eq!(
            cache.get("a", at(1)),
            Some(Err(Failure {
                why: Why::Missing,
                until: at(10)
            }))
        );
    }

    #[test]
    fn a_good_answer_survives_failures_but_not_for_ever() {
        let mut cache = Cache::new(LIMITS);
        let name: Rc<str> = "a".into();
        cache.good(&name, &addrs(), ttl(100), at(0));
        let answer = cache.failed(&name, at(100)).unwrap();
        assert_eq!(
            (answer.stale, answer.until, &*answer.addrs),
            (true, at(101), &addrs()[..])
        );
        assert_eq!(cache.failed(&name, at(101)).unwrap().until, at(103));
        assert_eq!(cache.failed(&name, at(103)).unwrap().until, at(107));
        for _ in 0..10 {
            assert!(cache.failed(&name, at(3000)).unwrap().until <= at(3030));
        }
        assert!(cache.failed(&name, at(3699)).is_ok());
        assert_eq!(cache.failed(&name, at(3700)).unwrap_err().why, Why::Failed);
        // And a good one starts over.
        assert!(!cache.good(&name, &addrs(), ttl(5), at(4000)).stale);
        assert_eq!(cache.failed(&name, at(4005)).unwrap().until, at(4006));
    }

    #[test]
    fn a_name_that_is_gone_is_gone() {
        let mut cache = Cache::new(LIMITS);
        let name: Rc<str> = "a".into();
        cache.good(&name, &addrs(), ttl(100), at(0));
        cache.missing(&name, None, at(100));
        assert!(cache.failed(&name, at(110)).is_err());
    }

    proptest! {
        /// The table is bounded, and what it says always has a time in the future.
        #[test]
        fn bounded_and_never_without_a_time(ops in proptest::collection::vec((0_u32..6_000, 0_u8..3, 0_u64..50), 0..400)) {
            let mut cache = Cache::new(LIMITS);
            let mut now = at(0);
            for (name, what, wait) in ops {
                now = now + ttl(wait);
                let name: Rc<str> = format!("{name}").into();
                let until = match what {
                    0 => cache.good(&name, &addrs(), ttl(wait * 20), now).until,
                    1 => cache.missing(&name, Some(ttl(wait)), now).until,
                    _ => match cache.failed(&name, now) {
                        Ok(answer) => { prop_assert!(answer.stale); answer.until }
                        Err(failure) => failure.until,
                    },
                };
                prop_assert!(until > now);
                prop_assert!(cache.get(&name, now).is_some());
                prop_assert!(cache.get(&name, until).is_none());
                prop_assert!(cache.len() <= NAMES_MAX);
            }
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut cache = Cache::new(LIMITS);
        for n in 0..NAMES_MAX + 10 {
            cache.good(
                &format!("{n}").into(),
                &addrs(),
                ttl(5 + n as u64 % 100),
                at(0),
            );
        }
        assert_eq!(cache.len(), NAMES_MAX);
    }
}
