//! Request heads (sections 2 to 5, 8.1, 10.1, 16.1): one pass over the octets, then one decision
//! per rule. What depends on a route or on the configuration of a listener is not decided here.

use crate::base::reason::Reason;
use crate::proto::head::{
    BodyKind, FieldId, METHOD_MAX, Method, RequestHead, Span, Upgrade, Version,
};
use crate::proto::http1::fields::{self, Options, Seen};
use crate::proto::http1::scan::{Bounds, EMPTY_LINES, Fault, Found};
use crate::proto::http1::{Error, Limits, Scan, framing, grammar, target};

/// What is done with field names that have an underscore (rule 3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// The field is not forwarded, and counted.
    #[default]
    Drop,
    /// The field is an ordinary one.
    Pass,
    /// The request is rejected.
    Reject,
}

/// What the listener adds to the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// Whether the connection is a TLS connection: an absolute target must agree (rule 4.3).
    pub tls: bool,
    /// Field names with an underscore.
    pub underscores: Underscores,
}

/// The first octet of a TLS record that holds a handshake (rule 2.6).
const TLS_HANDSHAKE: u8 = 0x16;
/// The first line of the HTTP/2 preface.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Fields of which a second line is an error (rule 3.7); those that decide framing and routing
/// have reasons of their own.
const SINGLE: [FieldId; 5] = [
    FieldId::Expect,
    FieldId::MaxForwards,
    FieldId::Http2Settings,
    FieldId::SecWebSocketKey,
    FieldId::SecWebSocketVersion,
];

/// Parses a request head that starts at the first octet of `buf`.
///
/// `Ok(None)` means that more octets are needed: call again with the same `scan` and a buffer that
/// has more octets behind the same ones. After `Ok(Some(()))` the head is filled, the first
/// `head.len` octets of the buffer belong to it, and `scan` is ready for the next head. After an
/// error nothing more of the connection may be parsed (rule 2.7).
pub fn parse(
    head: &mut RequestHead,
    scan: &mut Scan,
    buf: &[u8],
    limits: &Limits,
    rules: RequestRules,
) -> Result<Option<()>, Error> {
    if scan.is_fresh() && buf.first() == Some(&TLS_HANDSHAKE) {
        return Err(Reason::TlsOnPlain.into());
    }
    let bounds = Bounds {
        first_line: limits.request_line,
        line: limits.field_line,
        head: limits.request_head,
        // The request line is a line as well.
        lines: limits.fields.min(Limits::FIELDS_MAX).saturating_add(1),
        skip: Some(EMPTY_LINES),
    };
    let Some(found) = scan.advance(buf, &bounds).map_err(line_reason)? else {
        return Ok(None);
    };
    head.clear();
    fill(head, buf, &found, limits, rules)?;
    *scan = Scan::default();
    Ok(Some(()))
}

const fn line_reason(fault: Fault) -> Reason {
    match fault {
        Fault::BareEnd => Reason::BareLf,
        Fault::ControlInFirstLine | Fault::EmptyLine => Reason::BadRequestLine,
        Fault::Control => Reason::BadField,
        Fault::FirstLineTooLong => Reason::RequestLineTooLong,
        Fault::LineTooLong => Reason::FieldTooLarge,
        Fault::TooLong => Reason::HeadTooLarge,
        Fault::TooManyLines => Reason::TooManyFields,
    }
}

fn fill(
    head: &mut RequestHead,
    buf: &[u8],
    found: &Found,
    limits: &Limits,
    rules: RequestRules,
) -> Result<(), Reason> {
    request_line(
        head,
        buf,
        Span::new(found.start, found.first_end),
        rules.tls,
    )?;
    let section = Span::new(found.fields, found.end);
    let seen = fields::read(
        &mut head.fields,
        buf,
        section,
        found.lines.saturating_sub(1),
    )
    .map_err(field_reason)?;
    underscores(head, buf, rules.underscores)?;
    host(head, buf, seen)?;
    head.body = framing::request(head.version, &head.fields, seen, buf)?;
    if matches!(head.method, Method::Trace | Method::Connect) && !head.body.is_empty() {
        return Err(match head.body {
            BodyKind::Chunked => Reason::BadTransferEncoding,
            _ => Reason::BadContentLength,
        });
    }
    if SINGLE.iter().any(|id| seen.is_repeated(*id)) {
        return Err(Reason::RepeatedField);
    }
    let options = if seen.has(FieldId::Connection) {
        fields::connection(&mut head.fields, buf, limits.connection_options)
            .map_err(field_reason)?
    } else {
        Options::default()
    };
    head.keep_alive = !options.close && (head.version != Version::Http10 || options.keep_alive);
    expect(head, buf, seen)?;
    head.te_trailers =
        seen.has(FieldId::Te) && fields::has_token(&head.fields, buf, FieldId::Te, b"trailers");
    head.upgrade = upgrade(head, buf, seen, options);
    head.len = found.end;
    Ok(())
}

const fn field_reason(fault: fields::Fault) -> Reason {
    match fault {
        fields::Fault::Malformed => Reason::BadField,
        fields::Fault::TooMany => Reason::TooManyFields,
    }
}

/// `method SP target SP HTTP-version` (rules 2.3 to 2.6).
fn request_line(head: &mut RequestHead, buf: &[u8], at: Span, tls: bool) -> Result<(), Reason> {
    const BAD: Reason = Reason::BadRequestLine;
    let line = at.of(buf);
    if line == H2_PREFACE {
        return Err(Reason::H2Preface);
    }
    let blank = |octet: &u8| *octet == b' ';
    let method_end = line.iter().position(blank).ok_or(BAD)?;
    let target_end = line.iter().rposition(blank).ok_or(BAD)?;
    let target_start = method_end.saturating_add(1);
    let method = line.get(..method_end).ok_or(BAD)?;
    let target = line.get(target_start..target_end).ok_or(BAD)?;
    if method.len() > METHOD_MAX || !grammar::is_token(method) {
        return Err(BAD);
    }
    if target.is_empty() || target.iter().any(|octet| matches!(octet, b' ' | b'\t')) {
        return Err(BAD);
    }
    head.version = version(line.get(target_end.saturating_add(1)..).ok_or(BAD)?)?;
    let base = at.start as usize;
    let place = |offset: usize| base.saturating_add(offset);
    head.method = Method::of(method, Span::new(base, place(method_end)));
    target::parse(
        head,
        buf,
        Span::new(place(target_start), place(target_end)),
        tls,
    )
}

/// `HTTP/` DIGIT `.` DIGIT (rule 2.5).
fn version(text: &[u8]) -> Result<Version, Reason> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Reason::BadVersion),
        _ => Err(Reason::BadRequestLine),
    }
}

fn underscores(head: &mut RequestHead, buf: &[u8], policy: Underscores) -> Result<(), Reason> {
    if policy == Underscores::Pass {
        return Ok(());
    }
    // No known name has an underscore.
    for field in head
        .fields
        .iter_mut()
        .filter(|field| field.id == FieldId::Other)
    {
        if field.name.of(buf).contains(&b'_') {
            if policy == Underscores::Reject {
                return Err(Reason::Underscore);
            }
            field.hop = true;
            head.underscores = head.underscores.saturating_add(1);
        }
    }
    Ok(())
}

/// One Host, valid, and not against the target (rules 4.3 to 4.5).
fn host(head: &mut RequestHead, buf: &[u8], seen: Seen) -> Result<(), Reason> {
    let Some(field) = head
        .fields
        .iter()
        .find(|field| field.id == FieldId::Host)
        .copied()
    else {
        return if head.version == Version::Http10 {
            Ok(())
        } else {
            Err(Reason::BadHost)
        };
    };
    if seen.is_repeated(FieldId::Host) {
        return Err(Reason::BadHost);
    }
    let Some(authority) = head.authority else {
        return target::set_authority(head, buf, field.value);
    };
    let value = field.value.of(buf);
    let agrees = if head.method == Method::Connect {
        // Many clients leave the port out of Host here.
        target::Authority::parse(value).is_some_and(|host| {
            value
                .get(host.host)
                .is_some_and(|host| host.eq_ignore_ascii_case(head.host.of(buf)))
        })
    } else {
        value.eq_ignore_ascii_case(authority.of(buf))
    };
    if agrees { Ok(()) } else { Err(Reason::BadHost) }
}

/// Rules 10.1 and 10.2.
fn expect(head: &mut RequestHead, buf: &[u8], seen: Seen) -> Result<(), Reason> {
    if !seen.has(FieldId::Expect) {
        return Ok(());
    }
    let value = head.value(FieldId::Expect, buf).unwrap_or_default();
    if !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(Reason::BadExpect);
    }
    head.expect_continue = head.version != Version::Http10 && !head.body.is_empty();
    Ok(())
}

/// Rule 16.1; `websocket` needs GET, other protocols take any method. An upgrade that does not
/// meet the conditions is no error: the request is an ordinary one.
fn upgrade(head: &RequestHead, buf: &[u8], seen: Seen, options: Options) -> Upgrade {
    let considered = options.upgrade
        && head.version == Version::Http11
        && head.body.is_empty()
        && seen.has(FieldId::Upgrade)
        && !seen.is_repeated(FieldId::Upgrade);
    if !considered {
        return Upgrade::None;
    }
    match protocol(
        head.fields
            .iter()
            .find(|field| field.id == FieldId::Upgrade),
        buf,
    ) {
        Upgrade::WebSocket if head.method != Method::Get || head.body != BodyKind::None => {
            Upgrade::None
        }
        found => found,
    }
}

/// The single protocol that an Upgrade field names; HTTP/2 is never switched to by upgrade.
pub(super) fn protocol(field: Option<&crate::proto::head::Field>, buf: &[u8]) -> Upgrade {
    let Some(field) = field else {
        return Upgrade::None;
    };
    let value = field.value.of(buf);
    if value.eq_ignore_ascii_case(b"websocket") {
        return Upgrade::WebSocket;
    }
    let mut parts = value.splitn(2, |octet| *octet == b'/');
    let name = parts.next().unwrap_or_default();
    let http2 = name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2");
    if http2 || !grammar::is_token(name) || !parts.all(grammar::is_token) {
        return Upgrade::None;
    }
    Upgrade::Other(field.value)
}

/// Checks the fields that a WebSocket handshake needs (rule 16.2): to be called only if the head
/// says [`Upgrade::WebSocket`] and the route allows it.
pub fn check_websocket(head: &RequestHead, buf: &[u8]) -> Result<(), Error> {
    if head
        .value(FieldId::SecWebSocketKey, buf)
        .is_none_or(<[u8]>::is_empty)
    {
        return Err(Reason::BadUpgrade.into());
    }
    if head.value(FieldId::SecWebSocketVersion, buf) != Some(b"13") {
        return Err(Reason::UpgradeVersion.into());
    }
    Ok(())
}
