//! How soon a process that ended is started again, and when somebody must be told. Pure: the
//! history of one place, given `now`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Instant;

/// The rules of `[watchdog]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The delay of the second restart; each further one waits twice as long.
    pub delay: Duration,
    /// At most so many restarts begin within `window`; 0: no limit.
    pub max: u32,
    /// The window.
    pub window: Duration,
    /// So many restarts within the window raise an alert; 0: none ever.
    pub alert_after: u32,
}

/// What to do about a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Wait so long.
    pub after: Duration,
    /// This is the how-manieth restart within the window.
    pub count: u32,
    /// Tell somebody.
    pub alert: bool,
}

/// The restarts of one place.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When the restarts within the window began or will begin.
    begun: VecDeque<Instant>,
    alerted: bool,
}

impl History {
    /// Nothing was ever restarted.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            begun: VecDeque::new(),
            alerted: false,
        }
    }

    /// A process in this place ended at `now`.
    ///
    /// The first restart is immediate, because most crashes are single. The limit delays instead
    /// of giving up: a place that stays empty for ever helps nobody.
    pub fn next(&mut self, now: Instant, policy: &Policy) -> Next {
        while let Some(&first) = self.begun.front() {
            if first + policy.window > now {
                break;
            }
            self.begun.pop_front();
        }
        let before = u32::try_from(self.begun.len()).unwrap_or(u32::MAX);
        let mut at = now + backoff(policy.delay, before);
        if policy.max > 0 && before >= policy.max {
            let out_of_window = usize::try_from(before - policy.max).unwrap_or(usize::MAX);
            if let Some(&blocking) = self.begun.get(out_of_window) {
                at = at.max(blocking + policy.window);
            }
        }
        self.begun.push_back(at);
        let count = before.saturating_add(1);
        if count < policy.alert_after {
            self.alerted = false;
        }
        let alert = policy.alert_after > 0 && count >= policy.alert_after && !self.alerted;
        self.alerted |= alert;
        Next {
            after: at.saturating_since(now),
            count,
            alert,
        }
    }
}

/// Nothing before the first restart, then the delay, twice the delay, and so on.
fn backoff(delay: Duration, before: u32) -> Duration {
    match before.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
            delay.saturating_mul(factor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        Policy {
            delay: 5 * S,
            max: 5,
            window: 300 * S,
            alert_after: 3,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn at_once_then_twice_as_late_each_time() {
        let mut history = History::default();
        let mut now = at(1000);
        let mut delays = Vec::new();
        for _ in 0..5 {
            let next = history.next(now, &policy());
            delays.push(next.after.as_secs());
            now = now + next.after;
        }
        assert_eq!(delays, [0, 5, 10, 20, 40]);
        // The sixth waits until the first is out of the window.
        assert_eq!(history.next(now, &policy()).after, at(1300) - now);
    }

    #[test]
    fn a_quiet_window_forgives() {
        let mut history = History::default();
        for second in [0, 1, 2] {
            history.next(at(second), &policy());
        }
        // The third restart was planned for second 12.
        assert_eq!(history.next(at(312), &policy()).after, Duration::ZERO);
    }

    #[test]
    fn one_alert_for_one_series() {
        let mut history = History::default();
        let alerts: Vec<bool> = (0..5)
            .map(|n| history.next(at(n), &policy()).alert)
            .collect();
        assert_eq!(alerts, [false, false, true, false, false]);
        let later: Vec<bool> = (0..3)
            .map(|n| history.next(at(10_000 + n), &policy()).alert)
            .collect();
        assert_eq!(later, [false, false, true]);
    }

    #[test]
    fn zero_switches_off() {
        let free = Policy {
            max: 0,
            alert_after: 0,
            delay: Duration::ZERO,
            ..policy()
        };
        let mut history = History::default();
        for _ in 0..100 {
            let next = history.next(at(1), &free);
            assert_eq!((next.after, next.alert), (Duration::ZERO, false));
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_window(
            lives in proptest::collection::vec(0_u64..200, 1..60),
            max in 1_u32..8, delay in 0_u64..20, window in 1_u64..400,
        ) {
            let policy = Policy { delay: Duration::from_secs(delay), max, window: Duration::from_secs(window), alert_after: 3 };
            let mut history = History::default();
            let mut now = at(0);
            let mut begun: Vec<Instant> = Vec::new();
            for life in lives {
                let next = history.next(now, &policy);
                let start = now + next.after;
                begun.push(start);
                let within = begun.iter().filter(|b| **b + policy.window > start).count();
                prop_assert!(within <= max as usize, "{within} restarts within a window");
                now = start + Duration::from_secs(life);
            }
        }
    }
}
