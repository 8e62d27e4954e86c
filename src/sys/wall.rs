//! The calendar clock, for log lines, certificates and timestamps in metrics. It may jump; nothing
//! is timed by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since the start of 1970, UTC; zero when the clock stands before that.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_later_than_this_file() {
        assert!(super::now().as_secs() > 1_700_000_000);
    }
}
