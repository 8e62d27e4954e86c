//! Dates as HTTP writes them (IMF-fixdate, RFC 9110 section 5.6.7). It reads no clock.

/// Number of octets of a date.
pub const LEN: usize = 29;

const SECONDS_PER_DAY: u64 = 86_400;
/// The last second that has a year of four digits: 9999-12-31 23:59:59.
const LAST: u64 = 253_402_300_799;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `Sun, 06 Nov 1994 08:49:37 GMT` for a number of seconds since 1970.
#[must_use]
pub fn imf_fixdate(unix: u64) -> [u8; LEN] {
    let unix = unix.min(LAST);
    let days = unix.wrapping_div(SECONDS_PER_DAY);
    let second = unix.wrapping_rem(SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let weekday = days.wrapping_rem(7);
    let century = year.wrapping_div(100);
    let mut out = *b"---, -- --- ---- --:--:-- GMT";
    text(&mut out, 0, &WEEKDAYS, weekday);
    two(&mut out, 5, day);
    text(&mut out, 8, &MONTHS, month);
    two(&mut out, 12, century);
    two(&mut out, 14, year.wrapping_sub(century.wrapping_mul(100)));
    two(&mut out, 17, second.wrapping_div(3600));
    two(&mut out, 20, second.wrapping_div(60).wrapping_rem(60));
    two(&mut out, 23, second.wrapping_rem(60));
    out
}

/// Year, month (0 to 11) and day of the month of a day since 1970. The calendar repeats every 400
/// years; counted from a 1 March the leap day is the last day of the year.
const fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let shifted = days.wrapping_add(719_468);
    let era = shifted.wrapping_div(ERA);
    let day_of_era = shifted.wrapping_rem(ERA);
    let leaps = day_of_era
        .wrapping_div(1460)
        .wrapping_sub(day_of_era.wrapping_div(36_524))
        .wrapping_add(day_of_era.wrapping_div(146_096));
    let year_of_era = day_of_era.wrapping_sub(leaps).wrapping_div(365);
    let start = year_of_era
        .wrapping_mul(365)
        .wrapping_add(year_of_era.wrapping_div(4))
        .wrapping_sub(year_of_era.wrapping_div(100));
    let day_of_year = day_of_era.wrapping_sub(start);
    // 153 days in every five months from March on.
    let from_march = day_of_year
        .wrapping_mul(5)
        .wrapping_add(2)
        .wrapping_div(153);
    let day = day_of_year
        .wrapping_sub(from_march.wrapping_mul(153).wrapping_add(2).wrapping_div(5))
        .wrapping_add(1);
    let month = from_march.wrapping_add(2).wrapping_rem(12);
    let next_year = if from_march >= 10 { 1 } else { 0 };
    let year = era
        .wrapping_mul(400)
        .wrapping_add(year_of_era)
        .wrapping_add(next_year);
    (year, month, day)
}

fn text(out: &mut [u8; LEN], at: usize, names: &[&str], which: u64) {
    let name = usize::try_from(which)
        .ok()
        .and_then(|which| names.get(which));
    for (place, octet) in out.iter_mut().skip(at).zip(name.unwrap_or(&"").bytes()) {
        *place = octet;
    }
}

fn two(out: &mut [u8; LEN], at: usize, number: u64) {
    let digits = [
        number.wrapping_div(10).wrapping_rem(10),
        number.wrapping_rem(10),
    ];
    for (place, digit) in out.iter_mut().skip(at).zip(digits) {
        *place = u8::try_from(digit).unwrap_or_default().wrapping_add(b'0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(unix: u64) -> String {
        String::from_utf8(imf_fixdate(unix).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(unix), text);
        }
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..60_000 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = lengths[month as usize] + u64::from(leap && month == 1);
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }
}
