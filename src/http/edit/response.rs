//! The response head that goes to the client, and interim responses.

use super::rules::ResponseRules;
use super::{all_or_nothing, configured, line, refused};
use crate::base::reason::Reason;
use crate::http::template::Facts;
use crate::proto::head::{BodyKind, Field, FieldId, ResponseHead, Version};
use crate::proto::http1::encode;

/// Whether the client's connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It does.
    Keep,
    /// It is closed after this response.
    Close,
}

/// What the exchange decided about the response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// Who, where, which: also what templates see.
    pub facts: &'a Facts<'a>,
    /// The version of the client.
    pub version: Version,
    /// How the body is sent; see [`client_body`].
    pub body: BodyKind,
    /// Whether the connection goes on.
    pub persistence: Persistence,
    /// The protocol that is switched to (101).
    pub upgrade: Option<&'a [u8]>,
    /// Whether trailers go to the client (rule 11.2).
    pub trailers: bool,
    /// The date of now.
    pub date: &'a [u8],
}

/// How the body of a response is delimited towards the client (rules 7.2 to 7.4). `head_request`
/// says that the request was a HEAD.
#[must_use]
pub const fn client_body(head: &ResponseHead, version: Version, head_request: bool) -> BodyKind {
    if head_request || matches!(head.status, 100..200 | 204 | 205 | 304) {
        return BodyKind::None;
    }
    match (head.body, version) {
        (BodyKind::None | BodyKind::Length(_), _) => head.body,
        (BodyKind::Chunked | BodyKind::UntilClose, Version::Http10) => BodyKind::UntilClose,
        (BodyKind::Chunked | BodyKind::UntilClose, Version::Http11 | Version::Http2) => {
            BodyKind::Chunked
        }
    }
}

/// Writes the head of a final response, or of a 101, to a client.
///
/// # Errors
/// `Internal` when something cannot be written (18.3). `out` is then as it was.
pub fn write_response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    buf: &[u8],
    cx: &ResponseContext<'_>,
    rules: &ResponseRules,
) -> Result<(), Reason> {
    all_or_nothing(out, |out| {
        encode::status_line(out, head.status).map_err(refused)?;
        let mut dated = false;
        for field in &head.fields {
            dated |= field.id == FieldId::Date;
            if passes(field, buf, cx, rules) {
                let (name, value) = (field.name.of(buf), field.value.of(buf));
                encode::field(out, name, value).map_err(refused)?;
            }
        }
        if !dated {
            encode::field(out, b"Date", cx.date).map_err(refused)?;
        }
        let id = cx.facts.request_id;
        if rules.request_id && !id.is_empty() {
            encode::field(out, b"X-Request-Id", id).map_err(refused)?;
        }
        write_set_fields(out, cx.facts, rules)?;
        framing(out, head, cx)?;
        connection(out, cx)?;
        encode::end(out);
        Ok(())
    })
}

fn passes(field: &Field, buf: &[u8], cx: &ResponseContext<'_>, rules: &ResponseRules) -> bool {
    if field.id == FieldId::Trailer {
        return cx.trailers && matches!(cx.body, BodyKind::Chunked);
    }
    let own = match field.id {
        FieldId::ContentLength => true,
        FieldId::XRequestId => rules.request_id,
        _ => false,
    };
    !field.hop && !own && !rules.fields.dropped.covers(field, buf)
}

/// Rules 7.2 and 7.3: exactly one statement about the length, or none.
fn framing(out: &mut Vec<u8>, head: &ResponseHead, cx: &ResponseContext<'_>) -> Result<(), Reason> {
    let length = match (head.status, cx.body) {
        (100..200 | 204, _) => return Ok(()),
        (205, _) => Some(0),
        (_, BodyKind::Length(n)) => Some(n),
        // HEAD and 304: the length that the representation has.
        (_, BodyKind::None) => head.content_length,
        (_, BodyKind::Chunked) => {
            return encode::field(out, b"Transfer-Encoding", b"chunked").map_err(refused);
        }
        (_, BodyKind::UntilClose) => None,
    };
    match length {
        Some(n) => encode::field_decimal(out, b"Content-Length", n).map_err(refused),
        None => Ok(()),
    }
}

/// Rule 12.1: what the client cannot know by itself.
fn connection(out: &mut Vec<u8>, cx: &ResponseContext<'_>) -> Result<(), Reason> {
    if let Some(protocol) = cx.upgrade {
        encode::field(out, b"Connection", b"Upgrade").map_err(refused)?;
        return encode::field(out, b"Upgrade", protocol).map_err(refused);
    }
    write_persistence(out, cx.version, cx.persistence, cx.body)
}

/// `Connection: close`, or `keep-alive` for HTTP/1.0.
pub(in crate::http) fn write_persistence(
    out: &mut Vec<u8>,
    version: Version,
    persistence: Persistence,
    body: BodyKind,
) -> Result<(), Reason> {
    let option: &[u8] = match (persistence, body, version) {
        (Persistence::Close, ..) | (_, BodyKind::UntilClose, _) => b"close",
        (Persistence::Keep, _, Version::Http10) => b"keep-alive",
        (Persistence::Keep, _, Version::Http11 | Version::Http2) => return Ok(()),
    };
    encode::field(out, b"Connection", option).map_err(refused)
}

/// Writes what the route's `headers.response` sets and adds.
pub(in crate::http) fn write_set_fields(
    out: &mut Vec<u8>,
    facts: &Facts<'_>,
    rules: &ResponseRules,
) -> Result<(), Reason> {
    for (name, template) in &rules.fields.written {
        configured(out, name, template, facts)?;
    }
    Ok(())
}

/// Writes a 103 with the Link fields of an interim response (rule 10.4); false when it has none,
/// or the client does not understand interim responses.
///
/// # Errors
/// `Internal` when something cannot be written. `out` is then as it was.
pub fn write_early_hints(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    buf: &[u8],
    version: Version,
) -> Result<bool, Reason> {
    let links = || {
        head.fields
            .iter()
            .filter(|field| field.id == FieldId::Link && !field.hop)
    };
    if head.status != 103 || version == Version::Http10 || links().next().is_none() {
        return Ok(false);
    }
    all_or_nothing(out, |out| {
        encode::status_line(out, 103).map_err(refused)?;
        for link in links() {
            line(out, "Link", |out| out.extend_from_slice(link.value.of(buf)))?;
        }
        encode::end(out);
        Ok(())
    })?;
    Ok(true)
}
