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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::TargetForm;

    fn parse_with(text: &str, rules: RequestRules) -> Result<RequestHead, Reason> {
        let (mut head, mut scan) = (RequestHead::default(), Scan::default());
        let result = parse(
            &mut head,
            &mut scan,
            text.as_bytes(),
            &Limits::default(),
            rules,
        );
        match result {
            Ok(found) => {
                assert_eq!(found, Some(()), "the head is complete");
                assert!(scan.is_fresh(), "ready for the next head");
                Ok(head)
            }
            Err(error) => Err(error.reason),
        }
    }

    fn head(text: &str) -> RequestHead {
        parse_with(text, RequestRules::default()).unwrap()
    }

    /// A GET with these field lines.
    fn get(fields: &str) -> RequestHead {
        head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    fn show(span: Span, text: &str) -> &str {
        std::str::from_utf8(span.of(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "\r\nPOST /a/b?c=d HTTP/1.1\r\nHost: Example.com.:81\r\nX-A:  1 \r\n\
                    Content-Length: 3\r\n\r\nabcGET";
        let head = head(text);
        assert_eq!((head.method, head.version), (Method::Post, Version::Http11));
        assert_eq!(head.form, TargetForm::Origin);
        assert_eq!(show(head.path, text), "/a/b");
        assert_eq!(show(head.query.unwrap(), text), "c=d");
        assert_eq!(show(head.authority.unwrap(), text), "Example.com.:81");
        assert_eq!(
            (show(head.host, text), head.port),
            ("Example.com", Some(81))
        );
        assert_eq!(head.body, BodyKind::Length(3));
        assert!(head.keep_alive && !head.expect_continue && !head.te_trailers);
        assert_eq!(&text[head.len..], "abcGET");
        let marked: Vec<bool> = head.fields.iter().map(|field| field.hop).collect();
        assert_eq!(
            marked,
            [false, false, true],
            "the framing is written afresh"
        );
        assert_eq!(
            head.value(FieldId::Host, text.as_bytes()),
            Some(&b"Example.com.:81"[..])
        );
        assert_eq!(show(head.fields[1].value, text), "1");
    }

    #[test]
    fn the_authority_of_the_target_counts() {
        let text = "GET http://B:1/x HTTP/1.1\r\nHost: b:1\r\n\r\n";
        let found = head(text);
        assert_eq!(show(found.authority.unwrap(), text), "B:1");
        assert_eq!((show(found.host, text), found.port), ("B", Some(1)));
        assert_eq!(found.path_bytes(text.as_bytes()), b"/x");
        let text = "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n";
        assert_eq!(head(text).path_bytes(text.as_bytes()), b"*");
        assert_eq!(head("GET / HTTP/1.0\r\n\r\n").authority, None);
        let rules = RequestRules {
            tls: true,
            ..RequestRules::default()
        };
        assert!(parse_with("GET https://b/ HTTP/1.1\r\nHost: b\r\n\r\n", rules).is_ok());
    }

    #[test]
    fn persistence() {
        assert!(get("").keep_alive);
        assert!(!get("Connection: close\r\n").keep_alive);
        assert!(!get("Connection: keep-alive\r\nConnection: x, CLOSE\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").keep_alive);
    }

    #[test]
    fn expectations_need_a_body_and_a_new_enough_client() {
        let body = "Expect: 100-Continue\r\nContent-Length: 1\r\n";
        assert!(get(body).expect_continue);
        assert!(
            get(body)
                .fields
                .iter()
                .all(|f| f.id != FieldId::Expect || f.hop)
        );
        assert!(!get("Expect: 100-continue\r\n").expect_continue);
        assert!(!get("Expect: 100-continue\r\nContent-Length: 0\r\n").expect_continue);
        assert!(!head(&format!("POST / HTTP/1.0\r\n{body}\r\n")).expect_continue);
    }

    #[test]
    fn trailers_are_asked_for() {
        assert!(get("TE: trailers\r\n").te_trailers);
        assert!(get("TE: gzip;q=0.5, Trailers\r\n").te_trailers);
        assert!(!get("TE: gzip\r\n").te_trailers);
        assert!(!get("").te_trailers);
    }

    #[test]
    fn one_hop_fields_are_marked() {
        for name in [
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Upgrade",
            "HTTP2-Settings",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "Proxy-Authentication-Info",
            "Trailer",
        ] {
            let head = get(&format!("{name}: x\r\nX-{name}: y\r\n"));
            let marked: Vec<bool> = head.fields.iter().map(|field| field.hop).collect();
            assert_eq!(marked, [false, true, false], "{name}");
        }
    }

    #[test]
    fn a_websocket_upgrade_needs_all_its_conditions() {
        let both = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        assert_eq!(get(both).upgrade, Upgrade::WebSocket);
        for fields in [
            "Upgrade: websocket\r\n",
            "Connection: upgrade\r\n",
            "Connection: upgrade\r\nUpgrade: websocket, x\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            "Connection: upgrade\r\nUpgrade: H2C\r\n",
            "Connection: upgrade\r\nUpgrade: a b\r\n",
            "Connection: upgrade\r\nUpgrade: a/b/c\r\n",
            "Connection: upgrade\r\nUpgrade:\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(get(fields).upgrade, Upgrade::None, "{fields}");
        }
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{both}\r\n");
        assert_eq!(head(&post).upgrade, Upgrade::None);
        let old = format!("GET / HTTP/1.0\r\nHost: a\r\n{both}\r\n");
        assert_eq!(head(&old).upgrade, Upgrade::None);
    }

    #[test]
    fn other_protocols_are_kept_for_the_route_to_decide() {
        let text = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
        let Upgrade::Other(span) = head(text).upgrade else {
            panic!("not kept")
        };
        assert_eq!(show(span, text), "tcp");
    }

    #[test]
    fn the_websocket_handshake_is_checked_where_it_is_allowed() {
        let check = |fields: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let result = check_websocket(&head(&text), text.as_bytes());
            result.map_err(|error| error.reason)
        };
        assert_eq!(
            check("Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"),
            Ok(())
        );
        assert_eq!(
            check("Sec-WebSocket-Version: 13\r\n"),
            Err(Reason::BadUpgrade)
        );
        assert_eq!(check("Sec-WebSocket-Key:\r\n"), Err(Reason::BadUpgrade));
        assert_eq!(
            check("Sec-WebSocket-Key: x\r\n"),
            Err(Reason::UpgradeVersion)
        );
        assert_eq!(
            check("Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 8\r\n"),
            Err(Reason::UpgradeVersion)
        );
    }

    #[test]
    fn underscores_are_dropped_passed_or_refused() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nX-A: 2\r\n_: 3\r\n\r\n";
        let with = |underscores| {
            parse_with(
                text,
                RequestRules {
                    underscores,
                    ..RequestRules::default()
                },
            )
        };
        let dropped = with(Underscores::Drop).unwrap();
        assert_eq!(dropped.underscores, 2);
        let marked: Vec<bool> = dropped.fields.iter().map(|field| field.hop).collect();
        assert_eq!(marked, [false, true, false, true]);
        let passed = with(Underscores::Pass).unwrap();
        assert!(passed.underscores == 0 && passed.fields.iter().all(|field| !field.hop));
        assert_eq!(with(Underscores::Reject).unwrap_err(), Reason::Underscore);
    }

    #[test]
    fn every_bound_has_its_reason() {
        let limits = Limits {
            request_line: 20,
            field_line: 30,
            request_head: 100,
            fields: 3,
            ..Limits::default()
        };
        let reason = |text: &str| {
            let (mut head, mut scan) = (RequestHead::default(), Scan::default());
            let rules = RequestRules::default();
            parse(&mut head, &mut scan, text.as_bytes(), &limits, rules)
                .err()
                .map(|e| e.reason)
        };
        assert_eq!(
            reason("GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n"),
            Some(Reason::RequestLineTooLong)
        );
        assert_eq!(reason("GET /234567 HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(
            reason(&"x".repeat(21)),
            Some(Reason::RequestLineTooLong),
            "not at its end"
        );
        let line = |name: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(name));
        assert_eq!(reason(&line(28)), Some(Reason::FieldTooLarge));
        assert_eq!(reason(&line(27)), None);
        let many =
            |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(fields));
        assert_eq!(reason(&many(3)), Some(Reason::TooManyFields));
        assert_eq!(reason(&many(2)), None);
        let long = "X: 345678901234567890123456789\r\n".repeat(3);
        assert_eq!(
            reason(&format!("GET / HTTP/1.1\r\n{long}")),
            Some(Reason::HeadTooLarge)
        );
    }

    #[test]
    fn a_head_is_used_again_without_traces() {
        let (mut head, mut scan) = (RequestHead::default(), Scan::default());
        let first = "POST http://a/?x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTE: trailers\r\n\
                     Connection: close, upgrade\r\nUpgrade: x\r\nX_Y: z\r\nContent-Length: 1\r\n\r\n";
        let second = "GET / HTTP/1.0\r\n\r\n";
        let mut parse_one = |text: &str| {
            let rules = RequestRules::default();
            parse(
                &mut head,
                &mut scan,
                text.as_bytes(),
                &Limits::default(),
                rules,
            )
            .unwrap()
            .unwrap();
            format!("{head:?}")
        };
        parse_one(first);
        let used = parse_one(second);
        assert_eq!(used, format!("{:?}", self::head(second)));
    }
}
