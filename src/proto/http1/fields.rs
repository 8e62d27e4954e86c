//! Field lines: tokenised by httparse, then checked and marked by our own rules (sections 3 and 8).
//!
//! The caller has found the end of the head with [`super::scan`], so no bare line end, which
//! httparse would take, is left in the section.

use httparse::{EMPTY_HEADER, Header, Status};

use crate::proto::head::{Field, FieldId, Span};
use crate::proto::http1::{Limits, grammar};

/// What is wrong with the field lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A name or a value is malformed, or a line is folded.
    Malformed,
    /// More lines than any configuration allows.
    TooMany,
}

/// Which of the known fields there are: one bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    once: u64,
    again: u64,
}

const _: () = assert!(FieldId::KNOWN.len() < 64, "a bit for each known field");

const fn bit(id: FieldId) -> u64 {
    match id {
        FieldId::Other => 0,
        id => 1_u64.wrapping_shl(id as u32),
    }
}

impl Seen {
    fn add(&mut self, id: FieldId) {
        self.again |= self.once & bit(id);
        self.once |= bit(id);
    }

    /// Whether there is such a field.
    pub(super) const fn has(self, id: FieldId) -> bool {
        self.once & bit(id) != 0
    }

    /// Whether there are two or more lines of the field.
    pub(super) const fn is_repeated(self, id: FieldId) -> bool {
        self.again & bit(id) != 0
    }
}

/// Reads the field section at `section` of `buf` (its empty line included), which has `lines`
/// lines, into `fields`. Fields of one hop, the framing and Expect are marked.
pub(super) fn read(
    fields: &mut Vec<Field>,
    buf: &[u8],
    section: Span,
    lines: u32,
) -> Result<Seen, Fault> {
    // The array costs time to fill, so it is not larger than needed; heads of more than 32 lines
    // are rare.
    match lines {
        0..=16 => tokenise::<16>(fields, buf, section),
        17..=32 => tokenise::<32>(fields, buf, section),
        33..=128 => tokenise::<128>(fields, buf, section),
        _ => tokenise::<{ Limits::FIELDS_MAX as usize }>(fields, buf, section),
    }
}

fn tokenise<const N: usize>(
    fields: &mut Vec<Field>,
    buf: &[u8],
    section: Span,
) -> Result<Seen, Fault> {
    let text = section.of(buf);
    let mut headers = [EMPTY_HEADER; N];
    let found = match httparse::parse_headers(text, &mut headers) {
        Ok(Status::Complete((length, found))) if length == text.len() => found,
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooMany),
        _ => return Err(Fault::Malformed),
    };
    let mut seen = Seen::default();
    fields.reserve(found.len());
    for header in found {
        let field = field(buf, header);
        seen.add(field.id);
        fields.push(field);
    }
    Ok(seen)
}

fn field(buf: &[u8], header: &Header<'_>) -> Field {
    let id = FieldId::of(header.name.as_bytes());
    Field {
        name: place(buf, header.name.as_bytes()),
        value: place(buf, header.value),
        id,
        hop: id.is_hop_by_hop() || matches!(id, FieldId::ContentLength | FieldId::Expect),
    }
}

/// The place of `part`, a part of `buf`, in `buf`.
fn place(buf: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().wrapping_sub(buf.as_ptr().addr());
    Span::new(start, start.saturating_add(part.len()))
}

/// What the Connection fields say about the connection itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// `close`: it wins over everything else (rule 12.1).
    pub(super) close: bool,
    /// `keep-alive`
    pub(super) keep_alive: bool,
    /// `upgrade`
    pub(super) upgrade: bool,
}

/// Reads all Connection fields and marks the fields that they name (rules 8.1 and 8.2). At most
/// `most` options are allowed.
pub(super) fn connection(fields: &mut [Field], buf: &[u8], most: u32) -> Result<Options, Fault> {
    let mut options = Options::default();
    let mut left = most;
    for place in 0..fields.len() {
        let Some(value) = fields
            .get(place)
            .filter(|field| field.id == FieldId::Connection)
            .map(|field| field.value.of(buf))
        else {
            continue;
        };
        for option in grammar::elements(value) {
            left = left.checked_sub(1).ok_or(Fault::Malformed)?;
            if !grammar::is_token(option) {
                return Err(Fault::Malformed);
            }
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => options.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                _ => mark_named(fields, buf, option),
            }
        }
    }
    Ok(options)
}

fn mark_named(fields: &mut [Field], buf: &[u8], option: &[u8]) {
    let id = FieldId::of(option);
    if id.is_kept_against_connection() || is_x_forwarded(option) {
        return;
    }
    for field in fields.iter_mut().filter(|field| field.id == id) {
        if id != FieldId::Other || field.name.of(buf).eq_ignore_ascii_case(option) {
            field.hop = true;
        }
    }
}

/// Whether the name starts with `X-Forwarded-`: the known ones are not all that exist.
pub(super) fn is_x_forwarded(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether a list of tokens, each with parameters, has `token` (rule 11.2: `TE: trailers`).
pub(super) fn has_token(fields: &[Field], buf: &[u8], id: FieldId, token: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.id == id)
        .flat_map(|field| grammar::elements(field.value.of(buf)))
        .any(|element| element.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &[u8]) -> Result<(Vec<Field>, Seen), Fault> {
        let mut fields = Vec::new();
        let lines = text.iter().filter(|octet| **octet == b'\n').count() - 1;
        let span = Span::new(0, text.len());
        let seen = read(&mut fields, text, span, lines.try_into().unwrap())?;
        Ok((fields, seen))
    }

    /// Whether one field line with this text in it is accepted.
    fn accepts(line: &[u8]) -> bool {
        section(&[b"A: b\r\n", line, b"\r\n\r\n"].concat()).is_ok()
    }

    #[test]
    fn every_octet_of_a_name_is_checked_at_every_place() {
        for octet in (0..=u8::MAX).filter(|octet| !b"\r\n:".contains(octet)) {
            for length in [1, 2, 15, 16, 17, 33, 70] {
                for place in 0..length {
                    let mut line = vec![b'n'; length];
                    line[place] = octet;
                    line.extend_from_slice(b": v");
                    assert_eq!(
                        accepts(&line),
                        grammar::is_token(&[octet]),
                        "{octet:#x} {place}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_octet_of_a_value_is_checked_at_every_place() {
        for octet in (0..=u8::MAX).filter(|octet| !b"\r\n".contains(octet)) {
            for length in [1, 2, 8, 15, 16, 17, 31, 32, 33, 70] {
                for place in 0..length {
                    let mut line = b"n: ".to_vec();
                    line.extend(std::iter::repeat_n(b'v', length));
                    line[3 + place] = octet;
                    let good = grammar::is_value_text(&[octet]);
                    assert_eq!(accepts(&line), good, "{octet:#x} {place}");
                }
            }
        }
    }

    #[test]
    fn spans_are_exact_and_blanks_are_trimmed() {
        let text = b"Host:  a b\t \r\nX:\r\nY: \t\r\nZ:z\r\n\r\n";
        let (fields, _) = section(text).unwrap();
        let show: Vec<(&[u8], &[u8])> = fields
            .iter()
            .map(|field| (field.name.of(text), field.value.of(text)))
            .collect();
        assert_eq!(
            show,
            [
                (&b"Host"[..], &b"a b"[..]),
                (b"X", b""),
                (b"Y", b""),
                (b"Z", b"z")
            ]
        );
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "name : v",
            "name\t: v",
            " name: v",
            "\tname: v",
            "name",
            ": v",
            "na me: v",
            "n\u{e4}: v",
            "a: b\r\n folded",
            "a: b\r\n\tfolded",
            "a:\r\n b",
            "(a): b",
            "a@b: c",
            "\"a\": b",
        ] {
            assert!(!accepts(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn every_size_of_array_holds_its_lines() {
        for lines in [0, 1, 16, 17, 32, 33, 128, 129, 512] {
            let text = format!("{}\r\n", "a: b\r\n".repeat(lines));
            assert_eq!(section(text.as_bytes()).unwrap().0.len(), lines);
        }
        let text = format!("{}\r\n", "a: b\r\n".repeat(513));
        assert_eq!(section(text.as_bytes()).unwrap_err(), Fault::TooMany);
    }

    #[test]
    fn repeated_fields_are_known() {
        let (_, seen) = section(b"host: a\r\nVia: a\r\nHOST: b\r\nx: 1\r\nx: 2\r\n\r\n").unwrap();
        assert!(seen.has(FieldId::Host) && seen.is_repeated(FieldId::Host));
        assert!(seen.has(FieldId::Via) && !seen.is_repeated(FieldId::Via));
        assert!(!seen.has(FieldId::Other) && !seen.is_repeated(FieldId::Other));
        assert!(!seen.has(FieldId::Te));
    }

    /// The names that are marked after the Connection fields were read.
    fn marked(text: &str) -> Vec<&str> {
        let (mut fields, _) = section(text.as_bytes()).unwrap();
        connection(&mut fields, text.as_bytes(), 8).unwrap();
        let hop = fields.iter().filter(|field| field.hop);
        hop.map(|field| &text[field.name.start as usize..field.name.end as usize])
            .collect()
    }

    #[test]
    fn fields_named_by_connection_do_not_go_on() {
        assert_eq!(
            marked("X-A: 1\r\nx-b: 2\r\nX-C: 3\r\nConnection: x-a , X-B\r\nx-a: 4\r\n\r\n"),
            ["X-A", "x-b", "Connection", "x-a"]
        );
        assert_eq!(
            marked("Connection: X-A\r\nAccept: 1\r\nConnection: accept\r\nX-a: 1\r\n\r\n").len(),
            4
        );
    }

    #[test]
    fn connection_cannot_remove_what_others_rely_on() {
        for name in [
            "Host",
            "Cookie",
            "Authorization",
            "Forwarded",
            "Via",
            "X-Request-Id",
            "X-Forwarded-For",
            "X-Forwarded-Whatever",
            "X-Real-IP",
            "Traceparent",
        ] {
            let text = format!("Connection: {name}\r\n{name}: 1\r\n\r\n");
            assert_eq!(marked(&text), ["Connection"], "{name}");
        }
    }

    #[test]
    fn an_underscore_is_not_a_dash_for_connection() {
        assert_eq!(marked("Connection: x_a\r\nx-a: 1\r\n\r\n"), ["Connection"]);
    }

    #[test]
    fn connection_options_are_tokens_and_bounded() {
        for (value, good) in [
            ("close", true),
            ("", true),
            (",, close,", true),
            ("a b", false),
            ("a;b", false),
            ("\"a\"", false),
            ("a,b,c,d,e,f,g,h", true),
            ("a,b,c,d,e,f,g,h,i", false),
        ] {
            let text = format!("Connection: {value}\r\n\r\n");
            let (mut fields, _) = section(text.as_bytes()).unwrap();
            assert_eq!(
                connection(&mut fields, text.as_bytes(), 8).is_ok(),
                good,
                "{value}"
            );
        }
    }

    #[test]
    fn connection_options_are_read_in_any_spelling() {
        let text = b"connection: Close\r\nConnection: KEEP-alive, Upgrade\r\n\r\n";
        let (mut fields, _) = section(text).unwrap();
        let options = connection(&mut fields, text, 8).unwrap();
        assert!(options.close && options.keep_alive && options.upgrade);
    }
}
