//! The writer of heads and chunks (rules 6.7 and 18.3): it only appends, and it checks again what
//! it is given, whoever made it. There is no way to write octets that were not checked. After an
//! error `out` is as it was.
//!
//! It does not decide which fields are written; that one Content-Length or Transfer-Encoding
//! agrees with the body is the business of the caller, who has the body kind.

use crate::proto::head::METHOD_MAX;
use crate::proto::http1::body::Trailers;
use crate::proto::http1::{grammar, status, target};

/// What a writer refused; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The method is not a token of at most 32 octets.
    Method,
    /// The request target has a form or octets that are not allowed.
    Target,
    /// The status is not between 100 and 599.
    Status,
    /// The field name is not a token.
    FieldName,
    /// The field value has control octets or blanks around it.
    FieldValue,
}

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Method => "the method cannot be written",
            Self::Target => "the request target cannot be written",
            Self::Status => "the status cannot be written",
            Self::FieldName => "the field name cannot be written",
            Self::FieldValue => "the field value cannot be written",
        })
    }
}

impl std::error::Error for EncodeError {}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// `METHOD target HTTP/1.1 CRLF`
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) -> Result<(), EncodeError> {
    check_method(method)?;
    if !target::is_writable(method, target) {
        return Err(EncodeError::Target);
    }
    push(out, &[method, b" ", target, b" HTTP/1.1\r\n"]);
    Ok(())
}

/// `METHOD path?query HTTP/1.1 CRLF`: origin-form from its parts, or `*` for OPTIONS.
pub fn request_line_parts(
    out: &mut Vec<u8>,
    method: &[u8],
    path: &[u8],
    query: Option<&[u8]>,
) -> Result<(), EncodeError> {
    let Some(query) = query else {
        if path.contains(&b'?') {
            return Err(EncodeError::Target);
        }
        return request_line(out, method, path);
    };
    check_method(method)?;
    let good = path.first() == Some(&b'/')
        && method != b"CONNECT"
        && grammar::is_target_text(path, false)
        && grammar::is_target_text(query, true);
    if !good {
        return Err(EncodeError::Target);
    }
    push(out, &[method, b" ", path, b"?", query, b" HTTP/1.1\r\n"]);
    Ok(())
}

fn check_method(method: &[u8]) -> Result<(), EncodeError> {
    if method.len() <= METHOD_MAX && grammar::is_token(method) {
        Ok(())
    } else {
        Err(EncodeError::Method)
    }
}

/// `HTTP/1.1 status phrase CRLF`; the phrase is always our own (rule 7.1).
pub fn status_line(out: &mut Vec<u8>, code: u16) -> Result<(), EncodeError> {
    if !(100..600).contains(&code) {
        return Err(EncodeError::Status);
    }
    let mut digits = [0; DECIMAL];
    let digits = decimal(&mut digits, u64::from(code));
    push(
        out,
        &[
            b"HTTP/1.1 ",
            digits,
            b" ",
            status::phrase(code).as_bytes(),
            b"\r\n",
        ],
    );
    Ok(())
}

/// `name: value CRLF`
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    if !grammar::is_token(name) {
        return Err(EncodeError::FieldName);
    }
    if !grammar::is_value(value) {
        return Err(EncodeError::FieldValue);
    }
    push(out, &[name, b": ", value, b"\r\n"]);
    Ok(())
}

/// `name: number CRLF`
pub fn field_decimal(out: &mut Vec<u8>, name: &[u8], number: u64) -> Result<(), EncodeError> {
    let mut digits = [0; DECIMAL];
    field(out, name, decimal(&mut digits, number))
}

/// The empty line that ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Number of digits of the largest number.
const DECIMAL: usize = 20;

/// Appends a number in decimal digits.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; DECIMAL];
    out.extend_from_slice(decimal(&mut digits, number));
}

/// The digits of `number`, written into the end of `buf`.
fn decimal(buf: &mut [u8; DECIMAL], number: u64) -> &[u8] {
    let mut rest = number;
    let mut length = 0_usize;
    for place in buf.iter_mut().rev() {
        let digit = u8::try_from(rest.wrapping_rem(10)).unwrap_or_default();
        *place = digit.wrapping_add(b'0');
        rest = rest.wrapping_div(10);
        length = length.saturating_add(1);
        if rest == 0 {
            break;
        }
    }
    buf.get(DECIMAL.saturating_sub(length)..)
        .unwrap_or_default()
}

/// Number of octets of the longest size line of a chunk: 16 digits and CRLF.
pub const CHUNK_HEAD: usize = 18;

/// The size line of a chunk of `len` octets, written into the end of `buf` (rule 6.7). The data
/// and a CRLF follow. A chunk of nothing would end the body, so it has no size line: the result
/// is empty. The end is written by [`last_chunk`].
pub fn chunk_head(buf: &mut [u8; CHUNK_HEAD], len: usize) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = len;
    let mut length = 0_usize;
    for (place, octet) in buf.iter_mut().rev().zip(b"\n\r") {
        *place = *octet;
    }
    for place in buf.iter_mut().rev().skip(2) {
        if rest == 0 {
            break;
        }
        *place = DIGITS.get(rest & 0xf).copied().unwrap_or_default();
        rest >>= 4;
        length = length.saturating_add(1);
    }
    if length == 0 {
        return &[];
    }
    buf.get(CHUNK_HEAD.saturating_sub(length.saturating_add(2))..)
        .unwrap_or_default()
}

/// The last chunk with those trailers that may be forwarded, and the end of the body.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Trailers>) -> Result<(), EncodeError> {
    let before = out.len();
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flat_map(Trailers::forwardable) {
        if let Err(error) = field(out, name, value) {
            out.truncate(before);
            return Err(error);
        }
    }
    end(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::{Field, FieldId, Span};

    fn written(
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<String, EncodeError> {
        let mut out = b"before ".to_vec();
        let result = write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before ").unwrap().to_owned();
        if result.is_err() {
            assert_eq!(text, "", "nothing is written after an error");
        }
        result.map(|()| text)
    }

    #[test]
    fn request_lines() {
        assert_eq!(
            written(|out| request_line(out, b"GET", b"/a?b")).unwrap(),
            "GET /a?b HTTP/1.1\r\n"
        );
        assert_eq!(
            written(|out| request_line_parts(out, b"GET", b"/a", Some(b"b?c"))).unwrap(),
            "GET /a?b?c HTTP/1.1\r\n"
        );
        assert_eq!(
            written(|out| request_line_parts(out, b"OPTIONS", b"*", None)).unwrap(),
            "OPTIONS * HTTP/1.1\r\n"
        );
        assert_eq!(
            written(|out| request_line_parts(out, b"GET", b"/", Some(b""))).unwrap(),
            "GET /? HTTP/1.1\r\n"
        );
    }

    #[test]
    fn injections_into_a_request_line_are_refused() {
        for method in [&b""[..], b"G T", b"GET\r\n", b"G:T", &[b'A'; 33]] {
            let result = written(|out| request_line(out, method, b"/"));
            assert_eq!(result, Err(EncodeError::Method));
            let result = written(|out| request_line_parts(out, method, b"/", Some(b"")));
            assert_eq!(result, Err(EncodeError::Method));
        }
        for path in [
            &b""[..],
            b"a",
            b"/ ",
            b"/\r\nA: b",
            b"/\n",
            b"/\0",
            b"/#",
            b"/%0",
            b"*",
            b"/?",
        ] {
            let result = written(|out| request_line_parts(out, b"GET", path, Some(b"q")));
            assert_eq!(result, Err(EncodeError::Target), "{path:?}");
            let result = written(|out| request_line_parts(out, b"GET", path, None));
            assert_eq!(result, Err(EncodeError::Target), "{path:?}");
        }
        for query in [&b" "[..], b"\r", b"#", b"%", b"%00", b"\xe4"] {
            let result = written(|out| request_line_parts(out, b"GET", b"/", Some(query)));
            assert_eq!(result, Err(EncodeError::Target), "{query:?}");
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(
            written(|out| status_line(out, 200)).unwrap(),
            "HTTP/1.1 200 OK\r\n"
        );
        assert_eq!(
            written(|out| status_line(out, 599)).unwrap(),
            "HTTP/1.1 599 \r\n"
        );
        for code in [0, 99, 600, 1000, u16::MAX] {
            assert_eq!(
                written(|out| status_line(out, code)),
                Err(EncodeError::Status)
            );
        }
    }

    #[test]
    fn fields() {
        assert_eq!(
            written(|out| field(out, b"A", b"b c")).unwrap(),
            "A: b c\r\n"
        );
        assert_eq!(written(|out| field(out, b"A", b"")).unwrap(), "A: \r\n");
        assert_eq!(
            written(|out| field_decimal(out, b"Age", u64::MAX)).unwrap(),
            "Age: 18446744073709551615\r\n"
        );
        for name in [&b""[..], b"a b", b"a:", b"a\r", b"\xe4", b" a"] {
            assert_eq!(
                written(|out| field(out, name, b"")),
                Err(EncodeError::FieldName)
            );
        }
        for value in [
            &b"a\r\nb: c"[..],
            b"\n",
            b"\r",
            b"\0",
            b"a\x7f",
            b" a",
            b"a ",
        ] {
            assert_eq!(
                written(|out| field(out, b"a", value)),
                Err(EncodeError::FieldValue)
            );
        }
    }

    #[test]
    fn numbers() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        for length in [1, 9, 10, 15, 16, 255, 256, 65_535, usize::MAX] {
            let mut buf = [0; CHUNK_HEAD];
            assert_eq!(
                chunk_head(&mut buf, length),
                format!("{length:x}\r\n").as_bytes()
            );
        }
        assert_eq!(
            chunk_head(&mut [0; CHUNK_HEAD], 0),
            b"",
            "it would end the body"
        );
    }

    #[test]
    fn only_forwardable_trailers_are_written() {
        let bytes = b"A: 1\r\nB: 2\r\n".to_vec();
        let field = |at: usize, hop| Field {
            name: Span::new(at, at + 1),
            value: Span::new(at + 3, at + 4),
            id: FieldId::Other,
            hop,
        };
        let trailers = Trailers {
            bytes,
            fields: vec![field(0, true), field(6, false)],
        };
        assert_eq!(
            written(|out| last_chunk(out, Some(&trailers))).unwrap(),
            "0\r\nB: 2\r\n\r\n"
        );
        assert_eq!(written(|out| last_chunk(out, None)).unwrap(), "0\r\n\r\n");
    }

    #[test]
    fn a_trailer_that_cannot_be_written_leaves_nothing_behind() {
        let field = Field {
            name: Span::new(0, 1),
            value: Span::new(1, 3),
            id: FieldId::Other,
            hop: false,
        };
        let trailers = Trailers {
            bytes: b"A\r\n".to_vec(),
            fields: vec![field],
        };
        let result = written(|out| last_chunk(out, Some(&trailers)));
        assert_eq!(result, Err(EncodeError::FieldValue));
    }
}
