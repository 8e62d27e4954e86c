//! Response heads (section 7): the grammar and the bounds are those of requests, every fault is a
//! 502. Whether a tunnel was asked for is for the caller to know.

use std::time::Duration;

use crate::base::reason::Reason;
use crate::proto::head::{BodyKind, FieldId, Method, ResponseHead, Span, Version};
use crate::proto::http1::fields::{self, Options, Seen};
use crate::proto::http1::scan::{Bounds, Found};
use crate::proto::http1::{Error, Limits, Scan, framing, grammar, request};

/// How every status line starts.
const START: &[u8] = b"HTTP/1.";
const BAD: Reason = Reason::UpstreamBadHead;

/// Parses a response head that starts at the first octet of `buf`; `method` is that of the
/// request.
///
/// `Ok(None)` means that more octets are needed, as with [`request::parse`]. A head with a 1xx
/// status other than 101 is followed by another head.
pub fn parse(
    head: &mut ResponseHead,
    scan: &mut Scan,
    buf: &[u8],
    limits: &Limits,
    method: Method,
) -> Result<Option<()>, Error> {
    if !buf
        .iter()
        .zip(START)
        .all(|(octet, expected)| octet == expected)
    {
        return Err(BAD.into());
    }
    let bounds = Bounds {
        first_line: limits.response_head,
        line: limits.response_head,
        head: limits.response_head,
        // The status line is a line as well.
        lines: limits
            .response_fields
            .min(Limits::FIELDS_MAX)
            .saturating_add(1),
        skip: Some(0),
    };
    let Some(found) = scan
        .advance(buf, &bounds)
        .map_err(|_| Error { reason: BAD })?
    else {
        return Ok(None);
    };
    head.clear();
    fill(head, buf, &found, limits, method)?;
    *scan = Scan::default();
    Ok(Some(()))
}

fn fill(
    head: &mut ResponseHead,
    buf: &[u8],
    found: &Found,
    limits: &Limits,
    method: Method,
) -> Result<(), Reason> {
    let line = buf.get(found.start..found.first_end).unwrap_or_default();
    (head.version, head.status) = status_line(line).ok_or(BAD)?;
    let section = Span::new(found.fields, found.end);
    let seen = fields::read(
        &mut head.fields,
        buf,
        section,
        found.lines.saturating_sub(1),
    )
    .map_err(|_| BAD)?;
    let options = if seen.has(FieldId::Connection) {
        fields::connection(&mut head.fields, buf, limits.connection_options).map_err(|_| BAD)?
    } else {
        Options::default()
    };
    body(head, buf, seen, method)?;
    head.keep_alive = !options.close
        && (head.version != Version::Http10 || options.keep_alive)
        && head.body != BodyKind::UntilClose
        && !head.tunnel;
    if seen.has(FieldId::KeepAlive) {
        head.keep_alive_timeout = head.value(FieldId::KeepAlive, buf).and_then(timeout);
    }
    if head.status == 101 && options.upgrade && !seen.is_repeated(FieldId::Upgrade) {
        let field = head
            .fields
            .iter()
            .find(|field| field.id == FieldId::Upgrade);
        head.upgrade = request::protocol(field, buf);
    }
    head.len = found.end;
    Ok(())
}

/// `HTTP-version SP status [SP reason]` (rule 7.1).
fn status_line(line: &[u8]) -> Option<(Version, u16)> {
    let [minor @ b'0'..=b'9', b' ', hundreds, tens, ones, phrase @ ..] =
        line.strip_prefix(START)?
    else {
        return None;
    };
    if !matches!(phrase, [] | [b' ', ..]) || !grammar::is_value_text(phrase) {
        return None;
    }
    let version = if *minor == b'0' {
        Version::Http10
    } else {
        Version::Http11
    };
    let status = u16::try_from(grammar::decimal(&[*hundreds, *tens, *ones])?).ok()?;
    (100..600).contains(&status).then_some((version, status))
}

/// Rule 7.2, in its order.
fn body(head: &mut ResponseHead, buf: &[u8], seen: Seen, method: Method) -> Result<(), Reason> {
    let length = framing::agreed_length(&head.fields, seen, buf);
    head.content_length = length.flatten();
    head.tunnel =
        head.status == 101 || (method == Method::Connect && (200..300).contains(&head.status));
    let none = method == Method::Head || matches!(head.status, 100..200 | 204 | 304);
    if none || head.tunnel {
        head.body = BodyKind::None;
        return Ok(());
    }
    head.body = framing::response(head.version, &head.fields, seen, length, buf)?;
    Ok(())
}

/// `timeout` of a Keep-Alive field.
fn timeout(value: &[u8]) -> Option<Duration> {
    grammar::elements(value).find_map(|element| {
        let mark = element.iter().position(|octet| *octet == b'=')?;
        let (name, rest) = element.split_at_checked(mark)?;
        if !grammar::trim(name).eq_ignore_ascii_case(b"timeout") {
            return None;
        }
        let seconds = grammar::decimal(grammar::trim(rest.strip_prefix(b"=")?))?;
        Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
    })
}
