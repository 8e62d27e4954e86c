//! Request targets and the authority within them (section 4).

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::base::reason::Reason;
use crate::proto::head::{Method, RequestHead, Span, TargetForm};
use crate::proto::http1::grammar;

/// `uri-host [":" port]` (rule 4.5), as places within the text it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host: no trailing dot, the brackets of an IPv6 literal kept.
    pub host: Range<usize>,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Number of digits of the longest port.
const PORT_DIGITS: usize = 5;

impl Authority {
    /// Parses an authority without user information; None if it is not valid.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let length = host_length(text)?;
        let (host, rest) = text.split_at_checked(length)?;
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        let host = host.strip_suffix(b".").unwrap_or(host);
        (!host.is_empty()).then_some(Self {
            host: 0..host.len(),
            port,
        })
    }
}

/// The length of the valid host that `text` starts with.
fn host_length(text: &[u8]) -> Option<usize> {
    if let [b'[', rest @ ..] = text {
        let length = rest.iter().position(|octet| *octet == b']')?;
        let address = std::str::from_utf8(rest.get(..length)?).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        return Some(length.saturating_add(2));
    }
    let length = text
        .iter()
        .position(|octet| *octet == b':')
        .unwrap_or(text.len());
    grammar::is_reg_name(text.get(..length)?).then_some(length)
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > PORT_DIGITS {
        return None;
    }
    u16::try_from(grammar::decimal(digits)?).ok()
}

/// Puts the authority that stands at `at` into the head.
pub(super) fn set_authority(head: &mut RequestHead, buf: &[u8], at: Span) -> Result<(), Reason> {
    let authority = Authority::parse(at.of(buf)).ok_or(Reason::BadHost)?;
    let start = at.start as usize;
    head.authority = Some(at);
    head.host = Span::new(
        start.saturating_add(authority.host.start),
        start.saturating_add(authority.host.end),
    );
    head.port = authority.port;
    Ok(())
}

/// Parses the target at `at` into the head; the method is already there. `tls` says whether the
/// connection is one with TLS.
pub(super) fn parse(head: &mut RequestHead, buf: &[u8], at: Span, tls: bool) -> Result<(), Reason> {
    let text = at.of(buf);
    let mark = grammar::check_target(text).ok_or(Reason::BadTarget)?;
    if head.method == Method::Connect {
        return authority_form(head, buf, at);
    }
    match text {
        [b'/', ..] => {
            head.form = TargetForm::Origin;
            set_path(head, at, 0, mark);
            Ok(())
        }
        b"*" if head.method == Method::Options => {
            head.form = TargetForm::Asterisk;
            head.path = at;
            Ok(())
        }
        _ => absolute_form(head, buf, at, tls),
    }
}

/// The path starts at `start` of the target, its first `?` is at `mark`.
fn set_path(head: &mut RequestHead, at: Span, start: usize, mark: Option<usize>) {
    let base = at.start as usize;
    let end = at.end as usize;
    let place = |offset: usize| base.saturating_add(offset);
    head.path = Span::new(place(start), mark.map_or(end, place));
    head.query = mark.map(|mark| Span::new(place(mark.saturating_add(1)), end));
}

/// `host ":" port`; the port must be there [9112 3.2.3].
fn authority_form(head: &mut RequestHead, buf: &[u8], at: Span) -> Result<(), Reason> {
    head.form = TargetForm::Authority;
    set_authority(head, buf, at).map_err(|_| Reason::BadTarget)?;
    if head.port.is_none() {
        return Err(Reason::BadTarget);
    }
    Ok(())
}

/// `http[s]://authority[/path][?query]` (rule 4.3).
fn absolute_form(head: &mut RequestHead, buf: &[u8], at: Span, tls: bool) -> Result<(), Reason> {
    let text = at.of(buf);
    let scheme = text
        .iter()
        .position(|octet| *octet == b':')
        .ok_or(Reason::BadTarget)?;
    let (name, rest) = text.split_at_checked(scheme).ok_or(Reason::BadTarget)?;
    let secure = if name.eq_ignore_ascii_case(b"https") {
        true
    } else if name.eq_ignore_ascii_case(b"http") {
        false
    } else {
        return Err(Reason::BadTarget);
    };
    let rest = rest.strip_prefix(b"://").ok_or(Reason::BadTarget)?;
    let length = rest
        .iter()
        .position(|octet| matches!(octet, b'/' | b'?'))
        .unwrap_or(rest.len());
    let start = text.len().saturating_sub(rest.len());
    let path = start.saturating_add(length);
    let base = at.start as usize;
    head.form = TargetForm::Absolute;
    let authority = Span::new(base.saturating_add(start), base.saturating_add(path));
    set_authority(head, buf, authority).map_err(|_| Reason::BadTarget)?;
    let query = text.iter().position(|octet| *octet == b'?');
    set_path(head, at, path, query);
    if secure == tls {
        Ok(())
    } else {
        Err(Reason::SchemeMismatch)
    }
}

/// Whether `text` can be written as the target of a request with this method (rule 18.3).
pub(super) fn is_writable(method: &[u8], text: &[u8]) -> bool {
    if method == b"CONNECT" {
        return Authority::parse(text).is_some_and(|authority| authority.port.is_some());
    }
    match text {
        [b'/', ..] => grammar::is_target_text(text, true),
        b"*" => method == b"OPTIONS",
        _ => {
            let scheme = text
                .iter()
                .position(|octet| *octet == b':')
                .unwrap_or_default();
            let name = text.get(..scheme).unwrap_or_default();
            (name.eq_ignore_ascii_case(b"http") || name.eq_ignore_ascii_case(b"https"))
                && text
                    .get(scheme..)
                    .is_some_and(|rest| rest.starts_with(b"://"))
                && grammar::is_target_text(text, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> Option<(&str, Option<u16>)> {
        Authority::parse(text.as_bytes()).map(|found| (&text[found.host], found.port))
    }

    #[test]
    fn good_authorities() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM.:8080", "Example.COM", Some(8080)),
            ("a:", "a", None),
            ("a:0", "a", Some(0)),
            ("a:00080", "a", Some(80)),
            ("a:65535", "a", Some(65535)),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[::1]:", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("a_b-c~d!$&'()*+;=", "a_b-c~d!$&'()*+;=", None),
            ("%41", "%41", None),
        ] {
            assert_eq!(authority(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn bad_authorities() {
        for text in [
            "",
            ".",
            ":80",
            "a:65536",
            "a:123456",
            "a:000080",
            "a:x",
            "a:+1",
            "a:1:2",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a\\b",
            "a\"b",
            "<a>",
            "a\u{e4}",
            "a\tb",
            "a\0",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "%",
            "%4",
            "%zz",
            "%00",
            "a[b]",
            "{a}",
            "a|b",
            "a^b",
            "a`b",
            "[::1]:70000",
        ] {
            assert_eq!(authority(text), None, "{text}");
        }
    }

    fn target(method: Method, text: &str, tls: bool) -> Result<RequestHead, Reason> {
        let buf = format!("<<{text}>>");
        let mut head = RequestHead {
            method,
            ..RequestHead::default()
        };
        parse(&mut head, buf.as_bytes(), Span::new(2, 2 + text.len()), tls).map(|()| head)
    }

    fn parts(
        method: Method,
        text: &str,
        tls: bool,
    ) -> (TargetForm, String, Option<String>, String) {
        let head = target(method, text, tls).unwrap();
        let buf = format!("<<{text}>>");
        let show = |span: Span| String::from_utf8(span.of(buf.as_bytes()).to_vec()).unwrap();
        (
            head.form,
            show(head.path),
            head.query.map(show),
            head.authority.map_or(String::new(), show),
        )
    }

    fn own(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_four_forms() {
        use TargetForm::{Absolute, Asterisk, Authority, Origin};
        let get = Method::Get;
        assert_eq!(
            parts(get, "/", false),
            (Origin, "/".into(), None, String::new())
        );
        assert_eq!(
            parts(get, "/a?b?c", false),
            (Origin, "/a".into(), own("b?c"), String::new())
        );
        assert_eq!(
            parts(get, "//x?", false),
            (Origin, "//x".into(), own(""), String::new())
        );
        assert_eq!(
            parts(get, "http://h/p?q", false),
            (Absolute, "/p".into(), own("q"), "h".into())
        );
        assert_eq!(
            parts(get, "HTTPS://h:1?q", true),
            (Absolute, "".into(), own("q"), "h:1".into())
        );
        assert_eq!(
            parts(get, "http://h", false),
            (Absolute, "".into(), None, "h".into())
        );
        assert_eq!(
            parts(Method::Options, "*", false),
            (Asterisk, "*".into(), None, String::new())
        );
        assert_eq!(
            parts(Method::Connect, "h:1", false),
            (Authority, "".into(), None, "h:1".into())
        );
    }

    #[test]
    fn other_targets_are_refused() {
        for text in [
            "*",
            "a",
            "h:80",
            "ftp://h/",
            "http:/h",
            "http:h",
            "http://",
            "http:///p",
            "://h/",
            "http://u@h/",
            "http://u:p@h/",
            "http://h:x/",
            "/#f",
            "/%",
            "**",
            "?q",
            "http://h/#f",
        ] {
            assert_eq!(
                target(Method::Get, text, false).unwrap_err(),
                Reason::BadTarget,
                "{text}"
            );
        }
        for text in ["/", "*", "h", "h:", "http://h/", "u@h:1", "h:1/"] {
            assert_eq!(
                target(Method::Connect, text, false).unwrap_err(),
                Reason::BadTarget,
                "{text}"
            );
        }
        assert_eq!(
            target(Method::Get, "http://h/", true).unwrap_err(),
            Reason::SchemeMismatch
        );
        assert_eq!(
            target(Method::Get, "https://h/", false).unwrap_err(),
            Reason::SchemeMismatch
        );
    }

    #[test]
    fn what_can_be_written() {
        for text in ["/", "/a?b", "http://h/", "HTTPS://h/?x"] {
            assert!(is_writable(b"GET", text.as_bytes()), "{text}");
        }
        for text in [
            "", "*", "a", "/ ", "/\r\n", "/#", "/%", "http:/h", "h:80", "/\u{e4}",
        ] {
            assert!(!is_writable(b"GET", text.as_bytes()), "{text}");
        }
        assert!(is_writable(b"OPTIONS", b"*"));
        assert!(is_writable(b"CONNECT", b"h:443") && !is_writable(b"CONNECT", b"/"));
    }
}
