//! Seconds since 1970 as the UTC dates that logs show, and a cache so that the date is worked out
//! once a second. Reads no clock.

use std::time::Duration;

/// A date and time of day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Date {
    /// Of so many seconds since the start of 1970.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Years are counted from March, in cycles of 400 years, so that the leap day is the last.
        let days = days + 719_468;
        let cycle = days / 146_097;
        let day_of_cycle = days % 146_097;
        let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524
            - day_of_cycle / 146_096)
            / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            year: small(year),
            month: small(month),
            day: small(day_of_year - (153 * march_month + 2) / 5 + 1),
            hour: small(rest / 3600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
        }
    }

    /// The English name of the month in three letters.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        let place = self.month.saturating_sub(1) as usize;
        MONTHS.get(place).copied().unwrap_or("Jan")
    }
}

/// The dates of the present second as text.
#[derive(Clone, Debug)]
pub struct Cache {
    second: u64,
    iso: String,
    clf: String,
}

impl Default for Cache {
    fn default() -> Self {
        let mut cache = Self {
            second: u64::MAX,
            iso: String::with_capacity(24),
            clf: String::with_capacity(32),
        };
        cache.turn(0);
        cache
    }
}

impl Cache {
    /// Appends `2026-01-31T12:34:56.789Z`.
    pub fn iso(&mut self, out: &mut Vec<u8>, wall: Duration) {
        self.turn(wall.as_secs());
        out.extend_from_slice(self.iso.as_bytes());
        let milliseconds = wall.subsec_millis();
        out.push(b'.');
        for unit in [100, 10, 1] {
            out.push(digit(milliseconds / unit % 10));
        }
        out.push(b'Z');
    }

    /// Appends `31/Jan/2026:12:34:56 +0000`.
    pub fn clf(&mut self, out: &mut Vec<u8>, wall: Duration) {
        self.turn(wall.as_secs());
        out.extend_from_slice(self.clf.as_bytes());
    }

    fn turn(&mut self, second: u64) {
        use std::fmt::Write as _;
        if self.second == second {
            return;
        }
        self.second = second;
        let d = Date::of(second);
        self.iso.clear();
        self.clf.clear();
        // Writing to a String cannot fail.
        let _iso = write!(
            self.iso,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            d.year, d.month, d.day, d.hour, d.minute, d.second
        );
        let _clf = write!(
            self.clf,
            "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000",
            d.day,
            d.month_name(),
            d.year,
            d.hour,
            d.minute,
            d.second
        );
    }
}

fn digit(n: u32) -> u8 {
    b'0' + u8::try_from(n % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn iso(seconds: u64, millis: u64) -> String {
        let mut out = Vec::new();
        let wall = Duration::from_secs(seconds) + Duration::from_millis(millis);
        Cache::default().iso(&mut out, wall);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(iso(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_399, 7), "2000-02-28T23:59:59.007Z");
        assert_eq!(iso(951_782_400, 999), "2000-02-29T00:00:00.999Z");
        assert_eq!(iso(1_709_251_199, 50), "2024-02-29T23:59:59.050Z");
        assert_eq!(iso(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_common_log_format_has_month_names_and_a_zone() {
        let mut out = Vec::new();
        Cache::default().clf(&mut out, Duration::from_secs(1_709_251_199));
        assert_eq!(out, b"29/Feb/2024:23:59:59 +0000");
    }

    #[test]
    fn the_cache_follows_the_second_in_both_directions() {
        let mut cache = Cache::default();
        for second in [10, 10, 11, 3] {
            let mut out = Vec::new();
            cache.iso(&mut out, Duration::from_secs(second));
            assert_eq!(out, iso(second, 0).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_next_day_is_the_next_date(day in 0_u64..80_000) {
            let (a, b) = (Date::of(day * 86_400), Date::of((day + 1) * 86_400));
            let leap = a.year % 4 == 0 && (a.year % 100 != 0 || a.year % 400 == 0);
            let last = match a.month { 2 if leap => 29, 2 => 28, 4 | 6 | 9 | 11 => 30, _ => 31 };
            prop_assert!(a.day >= 1 && a.day <= last);
            if a.day < last {
                prop_assert_eq!((b.year, b.month, b.day), (a.year, a.month, a.day + 1));
            } else if a.month < 12 {
                prop_assert_eq!((b.year, b.month, b.day), (a.year, a.month + 1, 1));
            } else {
                prop_assert_eq!((b.year, b.month, b.day), (a.year + 1, 1, 1));
            }
        }
    }
}
