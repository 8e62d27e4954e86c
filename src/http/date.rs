//! The Date field (9110 5.6.7) from seconds since 1970. Reads no clock; whoever does should keep
//! the text for a second.

/// Octets of a date.
pub const LEN: usize = 29;

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `Sun, 06 Nov 1994 08:49:37 GMT`; years above 9999 stop there.
#[must_use]
pub fn imf_fixdate(unix_seconds: u64) -> [u8; LEN] {
    const LAST: u64 = 253_402_300_799;
    let seconds = unix_seconds.min(LAST);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut out = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    let weekday = DAYS.get(usize::try_from(days % 7).unwrap_or(0));
    put(
        &mut out,
        0,
        weekday.map_or(b"Thu".as_slice(), |d| d.as_slice()),
    );
    put(&mut out, 5, &two(day));
    let month = MONTHS.get(usize::try_from(month).unwrap_or(0));
    put(
        &mut out,
        8,
        month.map_or(b"Jan".as_slice(), |m| m.as_slice()),
    );
    put(&mut out, 12, &two(year / 100));
    put(&mut out, 14, &two(year % 100));
    put(&mut out, 17, &two(time / 3600));
    put(&mut out, 20, &two(time / 60 % 60));
    put(&mut out, 23, &two(time % 60));
    out
}

/// Year, month from 0 and day from 1 of a day since 1970-01-01, counted in years that begin in
/// March, so that the leap day is the last one.
const fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let from_march = days + 719_468;
    let era = from_march / DAYS_PER_ERA;
    let day_of_era = from_march % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + if month < 2 { 1 } else { 0 };
    (year, month, day)
}

fn two(number: u64) -> [u8; 2] {
    let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

fn put(out: &mut [u8; LEN], at: usize, text: &[u8]) {
    for (place, byte) in out.iter_mut().skip(at).zip(text) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> String {
        String::from_utf8(imf_fixdate(seconds).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn every_day_is_the_day_after_the_one_before() {
        let mut last = (1969, 11, 31);
        for day in 0..60_000 {
            let (year, month, date) = civil(day);
            let expected = if (month, date) == (last.1, last.2 + 1) && year == last.0 {
                true
            } else if date == 1 && month == last.1 + 1 {
                last.2 >= 28 && year == last.0
            } else {
                (month, date) == (0, 1) && (last.1, last.2) == (11, 31) && year == last.0 + 1
            };
            assert!(expected, "{last:?} {:?}", (year, month, date));
            last = (year, month, date);
        }
    }
}
