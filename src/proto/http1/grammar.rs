//! Which octets may stand where (sections 2 to 4), for the parser and for the writer alike.
//!
//! Tables and words instead of comparisons: these loops see every octet of every head.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

/// Number of different octets.
const OCTETS: usize = 256;

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "compile time only"
)]
const fn classes() -> [u8; OCTETS] {
    let mut table = [0; OCTETS];
    let mut octet = 0_u8;
    loop {
        let alphanumeric = octet.is_ascii_alphanumeric();
        let mut class = 0;
        if alphanumeric || is_one_of(octet, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        if octet == b'\t' || (octet >= b' ' && octet != 0x7f) {
            class |= VALUE;
        }
        if octet.is_ascii_graphic() && !is_one_of(octet, b"#%?") {
            class |= TARGET;
        }
        if alphanumeric || is_one_of(octet, b"-._~!$&'()*+;=") {
            class |= HOST;
        }
        table[octet as usize] = class;
        if octet == u8::MAX {
            return table;
        }
        octet += 1;
    }
}

const fn is_one_of(octet: u8, set: &[u8]) -> bool {
    let mut rest = set;
    while let [first, tail @ ..] = rest {
        if *first == octet {
            return true;
        }
        rest = tail;
    }
    false
}

static CLASSES: [u8; OCTETS] = classes();

fn is(octet: u8, class: u8) -> bool {
    CLASSES
        .get(usize::from(octet))
        .is_some_and(|found| found & class != 0)
}

/// 1*tchar: a method, a field name, an option.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| is(*octet, TOKEN))
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks the octets of `word` that are below 0x20. The lowest mark is exact; those above it may
/// be wrong.
const fn low_octets(word: u64) -> u64 {
    word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word & HIGHS
}

/// Whether an octet of `word` is DEL.
const fn has_del(word: u64) -> bool {
    let zeros = word ^ ONES.wrapping_mul(0x7f);
    zeros.wrapping_sub(ONES) & !zeros & HIGHS != 0
}

/// Whether every octet may stand in a field value (rule 3.2); blanks around it are not looked at.
#[must_use]
pub fn is_value_text(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let plain = |octets: &[u8]| octets.iter().all(|octet| is(*octet, VALUE));
    words.iter().all(|octets| {
        let word = u64::from_le_bytes(*octets);
        (low_octets(word) == 0 && !has_del(word)) || plain(octets)
    }) && plain(rest)
}

/// Whether `text` can be written as a field value: allowed octets, no blank at either end.
#[must_use]
pub fn is_value(text: &[u8]) -> bool {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    !blank(text.first()) && !blank(text.last()) && is_value_text(text)
}

/// The place of the first control octet from `from` on (HTAB and DEL do not count).
pub(super) fn find_control(buf: &[u8], from: usize) -> Option<usize> {
    let (words, rest) = buf.get(from..).unwrap_or_default().as_chunks::<8>();
    let control = |octet: &u8| *octet < b' ' && *octet != b'\t';
    let mut at = from;
    for octets in words {
        if low_octets(u64::from_le_bytes(*octets)) != 0
            && let Some(place) = octets.iter().position(control)
        {
            return Some(at.saturating_add(place));
        }
        at = at.saturating_add(octets.len());
    }
    rest.iter()
        .position(control)
        .map(|place| at.saturating_add(place))
}

/// Whether `rest`, which starts behind a `%`, starts with two hexadecimal digits that are not 00.
fn is_escape(rest: &[u8]) -> bool {
    match rest {
        [b'0', b'0', ..] => false,
        [high, low, ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Checks the octets of a request target (rule 4.2) and finds its first `?`. None if an octet or
/// an escape is not allowed.
pub(super) fn check_target(text: &[u8]) -> Option<Option<usize>> {
    let mut query = None;
    for (place, octet) in text.iter().enumerate() {
        if is(*octet, TARGET) {
            continue;
        }
        match octet {
            b'?' => query = query.or(Some(place)),
            b'%' if is_escape(text.get(place.saturating_add(1)..).unwrap_or_default()) => {}
            _ => return None,
        }
    }
    Some(query)
}

/// Whether every octet may stand in a path (`query` false) or a query of a request target.
#[must_use]
pub fn is_target_text(text: &[u8], query: bool) -> bool {
    check_target(text).is_some_and(|mark| query || mark.is_none())
}

/// Whether `text` is a reg-name of at least one octet (rule 4.5).
pub(super) fn is_reg_name(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().enumerate().all(|(place, octet)| {
            is(*octet, HOST)
                || (*octet == b'%'
                    && is_escape(text.get(place.saturating_add(1)..).unwrap_or_default()))
        })
}

/// The elements of a comma-separated list without the blanks around them. Empty elements are
/// skipped. Quoted strings are not understood: a comma always separates.
pub fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|octet| *octet == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// `text` without SP and HTAB at both ends.
#[must_use]
pub fn trim(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [head @ .., b' ' | b'\t'] = rest {
        rest = head;
    }
    rest
}

/// Number of digits of the largest number that [`decimal`] reads.
const DECIMAL_DIGITS: usize = 19;

/// 1*DIGIT: at most 19 digits and at most 2^63-1 (section 5). No sign, no blank, no list.
#[must_use]
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > DECIMAL_DIGITS {
        return None;
    }
    let number = text.iter().try_fold(0_u64, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| octet.wrapping_sub(b'0'))?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_the_rfc() {
        for octet in 0..=u8::MAX {
            let character = octet as char;
            let tchar = octet.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character);
            assert_eq!(is_token(&[octet]), tchar, "{octet:#x}");
            let value = octet == 9 || (octet >= 0x20 && octet != 0x7f);
            for length in [1, 7, 8, 9, 17] {
                for place in 0..length {
                    let mut text = vec![b'a'; length];
                    text[place] = octet;
                    assert_eq!(
                        is_value_text(&text),
                        value,
                        "{octet:#x} at {place} of {length}"
                    );
                }
            }
            let target = (0x21..=0x7e).contains(&octet) && octet != b'#' && octet != b'%';
            assert_eq!(is_target_text(&[octet], true), target, "{octet:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn a_control_is_found_at_every_place() {
        for octet in (0..b' ').filter(|octet| *octet != b'\t') {
            for place in 0..40 {
                let mut buf = [0xff_u8, b'\t', 0x7f, b' '].repeat(10);
                assert_eq!(find_control(&buf, 0), None);
                buf[place] = octet;
                for from in 0..=place {
                    assert_eq!(find_control(&buf, from), Some(place));
                }
                assert_eq!(find_control(&buf, place + 1), None);
            }
        }
        assert_eq!(find_control(b"a\r", 9), None, "behind the end");
    }

    #[test]
    fn a_value_to_write_has_no_blank_at_its_ends() {
        assert!(is_value(b"") && is_value(b"a b\tc") && is_value("ü".as_bytes()));
        for bad in [&b" a"[..], b"a ", b"\ta", b"a\t", b" ", b"a\r\nb", b"a\0"] {
            assert!(!is_value(bad), "{bad:?}");
        }
    }

    #[test]
    fn escapes_are_whole_and_never_nul() {
        for good in ["/", "/%41", "/a%2Fb", "/%c3%a4", "/\"<>\\^`{|}"] {
            assert!(is_target_text(good.as_bytes(), false), "{good}");
        }
        for bad in [
            "/%", "/%4", "/%zz", "/%00", "/a%0", "/#", "/ ", "/\u{e4}", "/\t", "/\u{7f}",
        ] {
            assert!(!is_target_text(bad.as_bytes(), true), "{bad}");
        }
        assert!(is_target_text(b"a=?", true) && !is_target_text(b"/a?", false));
        assert_eq!(check_target(b"/a?b?c"), Some(Some(2)));
    }

    #[test]
    fn lists_split_at_every_comma() {
        let list: Vec<&[u8]> = elements(b" close,\t, keep-alive ,x\t").collect();
        assert_eq!(list, [&b"close"[..], b"keep-alive", b"x"]);
        assert_eq!(elements(b" , ,").count(), 0);
    }

    #[test]
    fn numbers_are_plain_and_bounded() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0000000000000000007"), Some(7));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1,1",
            "0x1",
            "1.0",
            "9223372036854775808",
            "00000000000000000001",
            "１",
        ] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }
}
