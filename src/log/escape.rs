//! Bytes from anywhere as plain ASCII: nothing outside 0x20 to 0x7E reaches a log, so a client
//! cannot forge lines, move a terminal's cursor or break a parser.

/// How far a value may grow; what does not fit ends in three dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub usize);

const DOTS: &[u8] = b"...";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes for a text line: everything outside 0x20 to 0x7E, the quote and the backslash
/// become `\xHH`.
pub fn text(out: &mut Vec<u8>, bytes: &[u8], cap: Cap) {
    let plain = |b: u8| (0x20..=0x7e).contains(&b) && b != b'"' && b != b'\\';
    let start = out.len();
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let run = rest.iter().take_while(|b| plain(**b)).count();
        if run > 0 {
            let (safe, tail) = rest.split_at(run);
            out.extend_from_slice(safe);
            rest = tail;
        } else {
            out.extend_from_slice(&hex(*first));
            rest = tail;
        }
        if out.len() - start > cap.0 {
            cut(out, start, cap);
            return;
        }
    }
}

/// Appends a message of our own: as [`text`], with quotes and backslashes as they are, because no
/// field follows that they could end.
pub fn message(out: &mut Vec<u8>, message: &str, cap: Cap) {
    let start = out.len();
    for byte in message.bytes() {
        match byte {
            0x20..=0x7e => out.push(byte),
            other => out.extend_from_slice(&hex(other)),
        }
        if out.len() - start > cap.0 {
            out.truncate(start + cap.0.saturating_sub(DOTS.len()));
            out.extend_from_slice(DOTS);
            return;
        }
    }
}

/// Appends bytes as the inside of a JSON string in ASCII: text in UTF-8 becomes `\uHHHH` where it
/// is not ASCII; a byte that is not UTF-8 becomes the four characters `\xHH`.
pub fn json(out: &mut Vec<u8>, bytes: &[u8], cap: Cap) {
    let plain = |b: u8| (0x20..=0x7e).contains(&b) && b != b'"' && b != b'\\';
    let start = out.len();
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(first) = rest.chars().next() {
            let run = rest.bytes().take_while(|b| plain(*b)).count();
            let (head, tail) = if run > 0 {
                rest.split_at(run)
            } else {
                rest.split_at(first.len_utf8())
            };
            if run > 0 {
                out.extend_from_slice(head.as_bytes());
            } else {
                json_char(out, first);
            }
            rest = tail;
            if out.len() - start > cap.0 {
                cut(out, start, cap);
                return;
            }
        }
        for byte in chunk.invalid() {
            out.push(b'\\');
            out.extend_from_slice(&hex(*byte));
        }
    }
    if out.len() - start > cap.0 {
        cut(out, start, cap);
    }
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(nibble(*unit >> shift));
                }
            }
        }
    }
}

fn hex(byte: u8) -> [u8; 4] {
    let byte = u16::from(byte);
    [b'\\', b'x', nibble(byte >> 4), nibble(byte)]
}

fn nibble(n: u16) -> u8 {
    HEX.get(usize::from(n & 15)).copied().unwrap_or(b'0')
}

/// Shortens what was appended since `start`, never in the middle of an escape.
fn cut(out: &mut Vec<u8>, start: usize, cap: Cap) {
    let keep = cap.0.saturating_sub(DOTS.len());
    let value = out.get(start..).unwrap_or(&[]);
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let size = match (byte, value.get(at + 1)) {
            // a pair of surrogates is one character
            (b'\\', Some(b'u')) if is_high_surrogate(value.get(at + 2..)) => 12,
            (b'\\', Some(b'u')) => 6,
            (b'\\', Some(b'x')) => 4,
            // `\\xHH`: an escaped backslash before a byte that was not UTF-8
            (b'\\', Some(b'\\')) if value.get(at + 2) == Some(&b'x') => 5,
            (b'\\', Some(_)) => 2,
            _ => 1,
        };
        if at + size > keep {
            break;
        }
        at += size;
    }
    out.truncate(start + at);
    out.extend_from_slice(DOTS);
}

fn is_high_surrogate(digits: Option<&[u8]>) -> bool {
    matches!(digits, Some([b'd', b'8'..=b'9' | b'a'..=b'b', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAR: Cap = Cap(usize::MAX);

    fn as_text(bytes: &[u8], cap: Cap) -> String {
        let mut out = Vec::new();
        text(&mut out, bytes, cap);
        String::from_utf8(out).unwrap()
    }

    fn as_json(bytes: &[u8], cap: Cap) -> String {
        let mut out = vec![b'"'];
        json(&mut out, bytes, cap);
        out.push(b'"');
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_cannot_be_forged() {
        assert_eq!(as_text(b"a\r\nb\x1b[0m", FAR), "a\\x0d\\x0ab\\x1b[0m");
        assert_eq!(as_text(b"say \"x\\y\"", FAR), "say \\x22x\\x5cy\\x22");
        assert_eq!(as_text("é".as_bytes(), FAR), "\\xc3\\xa9");
        assert_eq!(as_text(b"\x7f\x00", FAR), "\\x7f\\x00");
    }

    #[test]
    fn json_keeps_text_and_marks_other_bytes() {
        assert_eq!(as_json("é😀".as_bytes(), FAR), "\"\\u00e9\\ud83d\\ude00\"");
        assert_eq!(as_json(b"a\xffb", FAR), "\"a\\\\xffb\"");
        assert_eq!(as_json(b"\"\\\n\x01", FAR), "\"\\\"\\\\\\n\\u0001\"");
    }

    #[test]
    fn a_long_value_ends_in_dots() {
        assert_eq!(as_text(b"abcdefghij", Cap(10)), "abcdefghij");
        assert_eq!(as_text(b"abcdefghijk", Cap(10)), "abcdefg...");
        assert_eq!(as_text(b"ab\xff\xff\xff", Cap(10)), "ab\\xff...");
    }

    proptest! {
        #[test]
        fn text_is_printable_and_short_enough(bytes: Vec<u8>, cap in 8_usize..100) {
            let shown = as_text(&bytes, Cap(cap));
            prop_assert!(shown.bytes().all(|b| (0x20..=0x7e).contains(&b)));
            prop_assert!(shown.len() <= cap);
        }

        #[test]
        fn json_is_json_and_short_enough(bytes: Vec<u8>, cap in 8_usize..100) {
            let shown = as_json(&bytes, Cap(cap));
            prop_assert!(shown.bytes().all(|b| (0x20..=0x7e).contains(&b)));
            prop_assert!(shown.len() <= cap + 2);
            let parsed: Result<String, _> = serde_json::from_str(&shown);
            prop_assert!(parsed.is_ok(), "{shown}");
        }

        #[test]
        fn json_gives_text_back(s: String) {
            let parsed: String = serde_json::from_str(&as_json(s.as_bytes(), FAR)).unwrap();
            prop_assert_eq!(parsed, s);
        }
    }
}
