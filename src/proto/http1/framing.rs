//! The framing decision: which body a message has (section 5 for requests, rule 7.2 for
//! responses). There is one such decision per message, and nothing in it is configurable.

use crate::base::reason::Reason;
use crate::proto::head::{BodyKind, Field, FieldId, Version};
use crate::proto::http1::fields::Seen;
use crate::proto::http1::grammar;

/// What a Transfer-Encoding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codings {
    /// Exactly `chunked`.
    Chunked,
    /// A list that ends in its only `chunked`, with other codings before it.
    Others,
    /// Anything else.
    Malformed,
}

fn codings(value: &[u8]) -> Codings {
    let mut others = false;
    let mut chunked = false;
    for element in value.split(|octet| *octet == b',').map(grammar::trim) {
        let name = element
            .split(|octet| *octet == b';')
            .next()
            .map(grammar::trim);
        if chunked || !name.is_some_and(grammar::is_token) {
            return Codings::Malformed;
        }
        if name.is_some_and(|name| name.eq_ignore_ascii_case(b"chunked")) {
            if name != Some(element) {
                return Codings::Malformed;
            }
            chunked = true;
        } else {
            others = true;
        }
    }
    match (chunked, others) {
        (true, false) => Codings::Chunked,
        (true, true) => Codings::Others,
        (false, _) => Codings::Malformed,
    }
}

fn value<'b>(fields: &[Field], buf: &'b [u8], id: FieldId) -> &'b [u8] {
    fields
        .iter()
        .find(|field| field.id == id)
        .map_or(b"", |field| field.value.of(buf))
}

/// The body of a request (table of section 5).
pub(super) fn request(
    version: Version,
    fields: &[Field],
    seen: Seen,
    buf: &[u8],
) -> Result<BodyKind, Reason> {
    let length = seen.has(FieldId::ContentLength);
    if seen.has(FieldId::TransferEncoding) {
        if length {
            return Err(Reason::ClTe);
        }
        if version == Version::Http10 || seen.is_repeated(FieldId::TransferEncoding) {
            return Err(Reason::BadTransferEncoding);
        }
        return match codings(value(fields, buf, FieldId::TransferEncoding)) {
            Codings::Chunked => Ok(BodyKind::Chunked),
            Codings::Others => Err(Reason::UnknownTransferCoding),
            Codings::Malformed => Err(Reason::BadTransferEncoding),
        };
    }
    if !length {
        return Ok(BodyKind::None);
    }
    if seen.is_repeated(FieldId::ContentLength) {
        return Err(Reason::BadContentLength);
    }
    grammar::decimal(value(fields, buf, FieldId::ContentLength))
        .map(BodyKind::Length)
        .ok_or(Reason::BadContentLength)
}

/// The length that all Content-Length lines of a response agree on (rule 7.2 f). The inner None
/// is a disagreement or no number.
pub(super) fn agreed_length(fields: &[Field], seen: Seen, buf: &[u8]) -> Option<Option<u64>> {
    if !seen.has(FieldId::ContentLength) {
        return None;
    }
    let mut agreed = None;
    for field in fields
        .iter()
        .filter(|field| field.id == FieldId::ContentLength)
    {
        for element in field
            .value
            .of(buf)
            .split(|octet| *octet == b',')
            .map(grammar::trim)
        {
            let Some(length) = grammar::decimal(element) else {
                return Some(None);
            };
            if agreed.is_some_and(|agreed| agreed != length) {
                return Some(None);
            }
            agreed = Some(length);
        }
    }
    Some(agreed)
}

/// The body of a response that may have one (rule 7.2 c to g). `length` is the agreed length.
pub(super) fn response(
    version: Version,
    fields: &[Field],
    seen: Seen,
    length: Option<Option<u64>>,
    buf: &[u8],
) -> Result<BodyKind, Reason> {
    if seen.has(FieldId::TransferEncoding) {
        let plain = version != Version::Http10
            && length.is_none()
            && !seen.is_repeated(FieldId::TransferEncoding);
        return match codings(value(fields, buf, FieldId::TransferEncoding)) {
            Codings::Chunked if plain => Ok(BodyKind::Chunked),
            _ => Err(Reason::UpstreamBadFraming),
        };
    }
    match length {
        None => Ok(BodyKind::UntilClose),
        Some(Some(length)) => Ok(BodyKind::Length(length)),
        Some(None) => Err(Reason::UpstreamBadFraming),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunked_alone_is_understood() {
        for value in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(codings(value.as_bytes()), Codings::Chunked, "{value}");
        }
        for value in [
            "gzip, chunked",
            "x,chunked",
            "gzip;q=1, br , chunked",
            "identity, chunked",
        ] {
            assert_eq!(codings(value.as_bytes()), Codings::Others, "{value}");
        }
        for value in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked, gzip",
            "chunked, chunked",
            "gzip",
            "identity",
            "chunked;a=b",
            "chunked ;a",
            "chunked;",
            "\"chunked\"",
            "chunked chunked",
            "xchunked",
            "chunked\u{e4}",
            "gzip,,chunked",
            "chunked, identity",
            "gzip, chunked;x",
            "cow",
            "[chunked]",
            "'chunked', \"chunked",
            "chun ked",
        ] {
            assert_eq!(codings(value.as_bytes()), Codings::Malformed, "{value}");
        }
    }
}
