//! Waiting for a peer: the longest gap between two bytes, and the least rate. Pure: the number of
//! bytes and the time come in, the time of the next look or the verdict goes out. Who is waited
//! for, and what follows from the verdict, is decided by the exchange.

use std::time::Duration;

use crate::base::reason::Reason;
use crate::base::time::Instant;

/// The window over which a rate is averaged.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

/// What is asked of a peer that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// The longest time without a byte.
    pub gap: Duration,
    /// Bytes per second, averaged over [`RATE_WINDOW`]; 0 asks for none.
    pub rate: u64,
    /// How long it may be slower at the start.
    pub grace: Duration,
}

impl Bound {
    /// No rate, only a gap.
    #[must_use]
    pub const fn gap(gap: Duration) -> Self {
        Self {
            gap,
            rate: 0,
            grace: Duration::ZERO,
        }
    }
}

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// No byte for too long.
    Gap,
    /// Too few of them.
    Rate,
}

impl Late {
    /// The reason for a client that sends its body too slowly.
    #[must_use]
    pub const fn in_body(self) -> Reason {
        match self {
            Self::Gap => Reason::BodyTimeout,
            Self::Rate => Reason::BodyTooSlow,
        }
    }

    /// The reason for a client that reads too slowly.
    #[must_use]
    pub const fn in_reading(self) -> Reason {
        match self {
            Self::Gap => Reason::WriteTimeout,
            Self::Rate => Reason::ReadTooSlow,
        }
    }
}

/// What is known of one direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    start: Instant,
    bytes: u64,
    /// When a byte moved last, or nobody waited.
    at: Instant,
    /// The present window of the rate.
    window: Instant,
    window_bytes: u64,
}

impl Wait {
    /// Waiting begins now; `bytes` have moved before.
    #[must_use]
    pub const fn new(bytes: u64, now: Instant) -> Self {
        Self {
            start: now,
            bytes,
            at: now,
            window: now,
            window_bytes: bytes,
        }
    }

    /// Nobody waits for the peer at the moment: gap and window begin anew.
    pub const fn rest(&mut self, bytes: u64, now: Instant) {
        *self = Self {
            start: self.start,
            ..Self::new(bytes, now)
        };
    }

    /// Notes how many bytes have moved by now, and says when to look again.
    ///
    /// # Errors
    /// The peer is too slow.
    pub fn check(&mut self, bytes: u64, now: Instant, bound: &Bound) -> Result<Instant, Late> {
        if bytes != self.bytes {
            self.bytes = bytes;
            self.at = now;
        }
        let due = self.at + bound.gap;
        if now >= due {
            return Err(Late::Gap);
        }
        if bound.rate == 0 {
            return Ok(due);
        }
        let span = now - self.window;
        if span >= RATE_WINDOW {
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let moved = bytes - self.window_bytes;
            self.window = now;
            self.window_bytes = bytes;
            let slow = moved.saturating_mul(1000) < bound.rate.saturating_mul(millis);
            if slow && now - self.start >= bound.grace {
                return Err(Late::Rate);
            }
        }
        Ok(due.min(self.window + RATE_WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound {
        gap: Duration::from_secs(15),
        rate: 500,
        grace: Duration::from_secs(30),
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_gap_is_counted_from_the_last_byte() {
        let mut wait = Wait::new(7, at(0));
        assert_eq!(
            wait.check(7, at(3), &BOUND),
            Ok(at(10)),
            "the window ends first"
        );
        assert_eq!(wait.check(100_000, at(9), &BOUND), Ok(at(10)));
        assert_eq!(wait.check(100_000, at(10), &BOUND), Ok(at(20)));
        assert_eq!(wait.check(100_000, at(23), &BOUND), Ok(at(24)));
        assert_eq!(wait.check(100_000, at(24), &BOUND), Err(Late::Gap));
    }

    #[test]
    fn a_rate_is_asked_for_after_the_grace_and_in_every_window() {
        let mut wait = Wait::new(0, at(0));
        let drip = |wait: &mut Wait, from: u64, to: u64, rate: u64| {
            (from..=to).find_map(|second| {
                wait.check(second * rate, at(second), &BOUND)
                    .err()
                    .map(|late| (second, late))
            })
        };
        assert_eq!(drip(&mut wait, 0, 100, 499), Some((30, Late::Rate)));
        let mut wait = Wait::new(0, at(0));
        assert_eq!(drip(&mut wait, 0, 1000, 500), None);
        // A burst does not pay for later.
        let mut wait = Wait::new(0, at(0));
        let seconds = (1..60).find(|s| wait.check(1_000_000 + s, at(*s), &BOUND).is_err());
        assert_eq!(seconds, Some(30));
    }

    #[test]
    fn without_a_rate_there_is_only_the_gap() {
        let mut wait = Wait::new(0, at(0));
        let bound = Bound::gap(Duration::from_secs(5));
        assert_eq!(wait.check(0, at(4), &bound), Ok(at(5)));
        assert!((4..1000).all(|second| wait.check(second, at(second), &bound).is_ok()));
    }

    #[test]
    fn a_rest_takes_the_blame_away() {
        let mut wait = Wait::new(0, at(0));
        for second in (5..200).step_by(5) {
            assert!(wait.check(0, at(second), &BOUND).is_ok(), "{second}");
            wait.rest(0, at(second));
        }
        assert_eq!(wait.check(0, at(204), &BOUND), Ok(at(205)));
        assert_eq!(
            wait.check(0, at(205), &BOUND),
            Err(Late::Rate),
            "a window after the rest"
        );
    }

    proptest::proptest! {
        /// The next look lies in the future, so that nobody spins.
        #[test]
        fn the_next_look_is_later(steps in proptest::collection::vec((0_u64..5000, 1_u64..20_000), 1..100)) {
            let mut wait = Wait::new(0, Instant::ZERO);
            let (mut bytes, mut now) = (0, Instant::ZERO);
            for (more, millis) in steps {
                bytes += more;
                now = now + Duration::from_millis(millis);
                match wait.check(bytes, now, &BOUND) {
                    Ok(next) => proptest::prop_assert!(next > now),
                    Err(_) => wait.rest(bytes, now),
                }
            }
        }
    }
}
