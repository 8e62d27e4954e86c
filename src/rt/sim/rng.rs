//! The seeded generator of the simulation (SplitMix64). Not for anything that must not be guessed.

use std::cell::Cell;
use std::time::Duration;

/// A generator; the same seed gives the same numbers.
pub struct Rng(Cell<u64>);

impl Rng {
    /// A generator with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&self, end: usize) -> usize {
        self.next()
            .checked_rem(end as u64)
            .map_or(0, |n| n as usize)
    }

    /// True once in `n` times on average; never when `n` is 0.
    pub fn one_in(&self, n: u32) -> bool {
        n != 0 && self.next().is_multiple_of(u64::from(n))
    }

    /// A time between the two.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        least + Duration::from_nanos(self.next() % span.saturating_add(1).max(1))
    }
}
