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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::Upgrade;

    fn head_to(method: Method, text: &str) -> ResponseHead {
        let (mut head, mut scan) = (ResponseHead::default(), Scan::default());
        let found = parse(
            &mut head,
            &mut scan,
            text.as_bytes(),
            &Limits::default(),
            method,
        );
        assert_eq!(found, Ok(Some(())));
        head
    }

    /// A 200 with these field lines.
    fn ok(fields: &str) -> ResponseHead {
        head_to(Method::Get, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "HTTP/1.1 404 Nope\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie: b\r\n\
                    Content-Length: 3\r\n\r\nabcHTTP";
        let head = head_to(Method::Get, text);
        assert_eq!((head.status, head.version), (404, Version::Http11));
        assert_eq!(
            (head.body, head.content_length),
            (BodyKind::Length(3), Some(3))
        );
        assert_eq!(&text[head.len..], "abcHTTP");
        let ids: Vec<FieldId> = head.fields.iter().map(|field| field.id).collect();
        let cookie = FieldId::SetCookie;
        assert_eq!(
            ids,
            [FieldId::Server, cookie, cookie, FieldId::ContentLength]
        );
        assert_eq!(head.value(cookie, text.as_bytes()), Some(&b"a"[..]));
    }

    #[test]
    fn persistence_needs_an_end_of_the_body() {
        let framed = "Content-Length: 0\r\n";
        assert!(ok(framed).keep_alive);
        assert!(!ok("").keep_alive, "until close");
        assert!(!ok(&format!("{framed}Connection: close\r\n")).keep_alive);
        let old = |fields: &str| head_to(Method::Get, &format!("HTTP/1.0 200 OK\r\n{fields}\r\n"));
        assert!(!old(framed).keep_alive);
        assert!(old(&format!("{framed}Connection: keep-alive\r\n")).keep_alive);
        assert!(!old("Connection: keep-alive\r\n").keep_alive);
        assert!(head_to(Method::Head, "HTTP/1.1 200 OK\r\n\r\n").keep_alive);
        assert!(head_to(Method::Get, "HTTP/1.1 304 X\r\n\r\n").keep_alive);
    }

    #[test]
    fn the_length_of_what_is_not_sent_is_known() {
        let head = head_to(Method::Head, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
        assert_eq!((head.body, head.content_length), (BodyKind::None, Some(7)));
        let head = head_to(Method::Get, "HTTP/1.1 304 X\r\nContent-Length: x\r\n\r\n");
        assert_eq!((head.body, head.content_length), (BodyKind::None, None));
    }

    #[test]
    fn the_idle_time_of_the_server_is_read() {
        let timeout = |value: &str| ok(&format!("Keep-Alive: {value}\r\n")).keep_alive_timeout;
        assert_eq!(timeout("timeout=5, max=100"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("max=1, Timeout = 7"), Some(Duration::from_secs(7)));
        for value in ["", "timeout", "timeout=", "timeout=x", "timeout=-1", "5"] {
            assert_eq!(timeout(value), None, "{value}");
        }
        let longest = Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(timeout("timeout=9223372036854775807"), Some(longest));
        assert_eq!(ok("").keep_alive_timeout, None);
    }

    #[test]
    fn tunnels_start_with_101_or_2xx_to_connect() {
        let switch =
            |fields: &str| head_to(Method::Get, &format!("HTTP/1.1 101 X\r\n{fields}\r\n"));
        let head = switch("Upgrade: websocket\r\nConnection: Upgrade\r\n");
        assert!(head.tunnel && !head.keep_alive && !head.is_interim());
        assert_eq!(head.upgrade, Upgrade::WebSocket);
        assert_eq!(switch("Upgrade: websocket\r\n").upgrade, Upgrade::None);
        assert_eq!(switch("Connection: upgrade\r\n").upgrade, Upgrade::None);
        let other = switch("Upgrade: tcp\r\nConnection: upgrade\r\n").upgrade;
        assert!(matches!(other, Upgrade::Other(_)));
        assert!(head_to(Method::Connect, "HTTP/1.1 200 OK\r\n\r\n").tunnel);
        assert!(!head_to(Method::Connect, "HTTP/1.1 407 X\r\n\r\n").tunnel);
        assert!(!ok("Upgrade: websocket\r\nConnection: Upgrade\r\n").tunnel);
        assert_eq!(
            ok("Upgrade: websocket\r\nConnection: Upgrade\r\n").upgrade,
            Upgrade::None
        );
    }

    #[test]
    fn interim_responses_are_known() {
        assert!(head_to(Method::Get, "HTTP/1.1 103 X\r\n\r\n").is_interim());
        assert!(!ok("").is_interim());
    }

    #[test]
    fn fields_of_one_hop_are_marked() {
        let head = ok("Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\nTransfer-Encoding: chunked\r\n");
        let marked: Vec<bool> = head.fields.iter().map(|field| field.hop).collect();
        assert_eq!(marked, [true, true, false, true]);
    }

    #[test]
    fn heads_are_bounded() {
        let limits = Limits {
            response_head: 50,
            response_fields: 2,
            ..Limits::default()
        };
        let good = |text: &str| {
            let (mut head, mut scan) = (ResponseHead::default(), Scan::default());
            let result = parse(&mut head, &mut scan, text.as_bytes(), &limits, Method::Get);
            assert!(result.is_ok() || result == Err(BAD.into()));
            result.is_ok()
        };
        let line = "HTTP/1.1 200 OK\r\n";
        assert!(good(&format!("{line}X: {}\r\n\r\n", "y".repeat(26))));
        assert!(!good(&format!("{line}X: {}\r\n\r\n", "y".repeat(27))));
        assert!(
            !good(&format!("HTTP/1.1 200 {}", "y".repeat(40))),
            "not only at its end"
        );
        assert!(good(&format!("{line}a:\r\nb:\r\n")));
        assert!(!good(&format!("{line}a:\r\nb:\r\nc:\r\n")));
    }
}
