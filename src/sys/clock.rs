//! The monotonic clock. The only place that reads it; everything else gets the time as a value.

use crate::base::time::Instant;
use nix::time::{ClockId, clock_gettime};

/// The time on `CLOCK_MONOTONIC`, the same for all processes of the machine.
#[must_use]
pub fn monotonic() -> Instant {
    // The call cannot fail for this clock; the zero keeps the signature plain.
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return Instant::ZERO;
    };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clock_runs_forward() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(2));
        assert!(monotonic() - before >= Duration::from_millis(2));
    }
}
