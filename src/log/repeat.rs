//! Keeps one message from flooding the error log: more than ten of the same in a second are
//! counted and summed up in one line. Pure; the table is bounded.

use crate::base::time::Instant;
use log::Level;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// So many of the same are written in a window.
const SAME_MAX: u32 = 10;
/// The window.
const WINDOW: Duration = Duration::from_secs(1);
/// So many different messages are watched at a time.
const WATCHED_MAX: usize = 64;

/// What was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
    pub(super) count: u32,
}

#[derive(Debug)]
struct Watched {
    key: u64,
    since: Instant,
    seen: u32,
    /// Made when the first one is left out.
    summary: Option<Summary>,
}

/// The messages of the last second.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    watched: Vec<Watched>,
}

impl Repeats {
    /// Whether this message is written. Call [`Repeats::over`] before.
    pub(super) fn writes(
        &mut self,
        level: Level,
        target: &str,
        message: &str,
        now: Instant,
    ) -> bool {
        let mut hasher = DefaultHasher::new();
        (level, target, message).hash(&mut hasher);
        let key = hasher.finish();
        let Some(known) = self.watched.iter_mut().find(|w| w.key == key) else {
            if self.watched.len() < WATCHED_MAX {
                self.watched.push(Watched {
                    key,
                    since: now,
                    seen: 1,
                    summary: None,
                });
            }
            return true;
        };
        known.seen = known.seen.saturating_add(1);
        if known.seen <= SAME_MAX {
            return true;
        }
        let summary = known.summary.get_or_insert_with(|| Summary {
            level,
            target: target.to_owned(),
            message: message.to_owned(),
            count: 0,
        });
        summary.count = summary.count.saturating_add(1);
        false
    }

    /// The next summary of a window that is over; call until there is none.
    pub(super) fn over(&mut self, now: Instant) -> Option<Summary> {
        while let Some(at) = self.watched.iter().position(|w| now - w.since >= WINDOW) {
            let ended = self.watched.swap_remove(at);
            if ended.summary.is_some() {
                return ended.summary;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000_000) + Duration::from_millis(ms)
    }

    fn write(repeats: &mut Repeats, message: &str, ms: u64) -> bool {
        repeats.writes(Level::Warn, "t", message, at(ms))
    }

    #[test]
    fn the_eleventh_in_a_second_is_left_out_and_summed_up() {
        let mut repeats = Repeats::default();
        let written = (0..30).filter(|i| write(&mut repeats, "a", *i)).count();
        assert_eq!(written, 10);
        assert!(write(&mut repeats, "b", 30), "another message");
        assert_eq!(repeats.over(at(999)), None);
        let summary = repeats.over(at(1000)).unwrap();
        assert_eq!((summary.count, &*summary.message), (20, "a"));
        assert_eq!(repeats.over(at(1000)), None, "b has its own window");
        assert!(write(&mut repeats, "a", 1001), "a new window");
    }

    #[test]
    fn level_and_target_are_part_of_the_message() {
        let mut repeats = Repeats::default();
        for _ in 0..10 {
            assert!(repeats.writes(Level::Warn, "t", "m", at(0)));
        }
        assert!(!repeats.writes(Level::Warn, "t", "m", at(0)));
        assert!(repeats.writes(Level::Error, "t", "m", at(0)));
        assert!(repeats.writes(Level::Warn, "u", "m", at(0)));
    }

    #[test]
    fn a_flood_of_different_messages_takes_no_memory() {
        let mut repeats = Repeats::default();
        for i in 0..1000 {
            assert!(write(&mut repeats, &i.to_string(), 0));
        }
        assert_eq!(repeats.watched.len(), WATCHED_MAX);
        assert_eq!(repeats.over(at(1000)), None);
        assert!(repeats.watched.is_empty());
    }
}
