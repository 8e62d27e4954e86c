//! Durations, sizes and rates with their unit in the value: `"5s"`, `"16KiB"`, `"100/s"`.

use std::time::Duration;

/// Why a text is not a value with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// No number in front.
    NoNumber,
    /// A number without unit.
    NoUnit,
    /// A unit that does not exist.
    BadUnit,
    /// Larger than can be held.
    TooLarge,
}

fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'_')
        .count();
    let (number, unit) = text.split_at(digits);
    let number: String = number.chars().filter(|c| *c != '_').collect();
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    Ok((
        number.parse().map_err(|_e| UnitError::TooLarge)?,
        unit.trim_start(),
    ))
}

/// Parses `250ms`, `5s`, `2m`, `1h`, `7d`; a bare `0` needs no unit.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 0,
        "" => return Err(UnitError::NoUnit),
        _ => return Err(UnitError::BadUnit),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or(UnitError::TooLarge)
}

/// Parses `512B`, `16KiB`, `1MiB`, `64k` (= 64 KiB), `2GiB`, `10KB` (= 10,000); a bare `0` needs no unit.
///
/// # Errors
/// What is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "B" | "b" => 1,
        "KiB" | "k" | "K" => 1 << 10,
        "MiB" | "m" | "M" => 1 << 20,
        "GiB" | "g" | "G" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "" if number == 0 => 0,
        "" => return Err(UnitError::NoUnit),
        _ => return Err(UnitError::BadUnit),
    };
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// Prints a duration in the largest unit that holds it exactly.
#[must_use]
pub fn print_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if millis != 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 {
        "0s".to_owned()
    } else {
        format!("{millis}ms")
    }
}

/// Prints a size in the largest binary unit that holds it exactly.
#[must_use]
pub fn print_size(size: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if size != 0 && size.is_multiple_of(factor) {
            return format!("{}{unit}", size / factor);
        }
    }
    format!("{size}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("5"), Err(UnitError::NoUnit));
        assert_eq!(parse_duration("5seconds"), Err(UnitError::BadUnit));
        assert_eq!(parse_duration("s"), Err(UnitError::NoNumber));
        assert_eq!(
            parse_duration("99999999999999999999d"),
            Err(UnitError::TooLarge)
        );
        assert_eq!(
            parse_duration("9999999999999999d"),
            Err(UnitError::TooLarge)
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64k"), Ok(65536));
        assert_eq!(parse_size("16 KiB"), Ok(16384));
        assert_eq!(parse_size("1_000B"), Ok(1000));
        assert_eq!(parse_size("10KB"), Ok(10_000));
        assert_eq!(parse_size("7"), Err(UnitError::NoUnit));
        assert_eq!(parse_size("7x"), Err(UnitError::BadUnit));
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_agree(millis in 0_u64..1 << 50, size in 0_u64..1 << 60) {
            let d = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse_duration(&print_duration(d)), Ok(d));
            proptest::prop_assert_eq!(parse_size(&print_size(size)), Ok(size));
        }
    }
}
