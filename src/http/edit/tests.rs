//! Heads in, heads out: one table per rule.

use super::*;
use crate::http::client_addr::Client;
use crate::http::params::HostRewrite;
use crate::http::template::{Facts, Template};
use crate::http::trace::Hop;
use crate::io::facts::{PeerCertificate, TlsFacts};
use crate::proto::head::{BodyKind, FieldId, Method, RequestHead, ResponseHead, Version};
use crate::proto::http1::{self, Limits, Scan};
use proptest::prelude::*;

fn request(text: &str) -> (RequestHead, Vec<u8>) {
    let buf = text.replace('\n', "\r\n").into_bytes();
    let mut head = RequestHead::default();
    let rules = http1::request::RequestRules::default();
    let done = http1::request::parse(
        &mut head,
        &mut Scan::default(),
        &buf,
        &Limits::default(),
        rules,
    );
    assert_eq!(done, Ok(Some(())), "{text}");
    (head, buf)
}

fn response(text: &str, method: Method) -> (ResponseHead, Vec<u8>) {
    let buf = text.replace('\n', "\r\n").into_bytes();
    let mut head = ResponseHead::default();
    let done = http1::response::parse(
        &mut head,
        &mut Scan::default(),
        &buf,
        &Limits::default(),
        method,
    );
    assert_eq!(done, Ok(Some(())), "{text}");
    (head, buf)
}

const CLIENT: Client = Client {
    addr: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
    peer: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
    trusted_peer: false,
};

fn facts() -> Facts<'static> {
    Facts {
        client: CLIENT,
        listener_port: 80,
        authority: b"example.org",
        host: b"example.org",
        path: b"/p",
        request_id: b"id",
        ..Facts::default()
    }
}

fn context<'a>(facts: &'a Facts<'a>) -> RequestContext<'a> {
    RequestContext {
        facts,
        path: b"/p",
        body: BodyKind::None,
        server_host: b"server.internal:8080",
        upgrade: None,
        trace: None,
        trailers: false,
        close: false,
    }
}

fn sent(text: &str, cx: &RequestContext<'_>, rules: &RequestRules) -> Result<String, Reason> {
    let (head, buf) = request(text);
    let mut out = b"before ".to_vec();
    let result = write_request_head(&mut out, &head, &buf, cx, rules);
    let written = out.strip_prefix(b"before ").unwrap();
    if let Err(reason) = result {
        assert_eq!(written, b"", "nothing of a refused head is left");
        return Err(reason);
    }
    Ok(String::from_utf8(written.to_vec())
        .unwrap()
        .replace("\r\n", "\n"))
}

/// The lines of the sent head whose names begin with one of these.
fn lines(head: &str, names: &[&str]) -> String {
    let wanted = |line: &&str| {
        names.iter().any(|n| {
            line.to_ascii_lowercase()
                .starts_with(&n.to_ascii_lowercase())
        })
    };
    head.lines().filter(wanted).collect::<Vec<_>>().join("|")
}

fn rules_with(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> rules::FieldRules {
    let own = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    rules::FieldRules::compile(&crate::http::params::HeaderRules {
        set: own(set),
        add: own(add),
        remove: remove.iter().map(|n| (*n).to_owned()).collect(),
    })
    .unwrap()
}

#[test]
fn a_whole_request_head() {
    let facts = facts();
    let rules = RequestRules {
        via: Some(b"proxyd-1".as_slice().into()),
        ..RequestRules::default()
    };
    let got = sent(
        "GET /x?q=1 HTTP/1.1\nHost: example.org\nAccept: */*\nX-Odd: a\nx-odd: b\n\n",
        &context(&facts),
        &rules,
    );
    assert_eq!(
        got.unwrap(),
        "GET /p?q=1 HTTP/1.1\nHost: example.org\nAccept: */*\nX-Odd: a\nx-odd: b\n\
         X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: example.org\n\
         X-Forwarded-Port: 80\nX-Real-IP: 192.0.2.1\nVia: 1.1 proxyd-1\nX-Request-Id: id\n\n"
    );
}

#[test]
fn rule_8_1_fields_of_one_hop_do_not_pass() {
    let facts = facts();
    let got = sent(
        "GET / HTTP/1.1\nHost: h\nConnection: keep-alive, x-hop, cookie\nKeep-Alive: timeout=5\n\
         Proxy-Connection: x\nTE: trailers\nTrailer: x\nUpgrade: websocket\nHTTP2-Settings: x\n\
         Proxy-Authorization: x\nX-Hop: gone\nCookie: a=b\nX-End: stays\n\n",
        &context(&facts),
        &RequestRules::default(),
    );
    let got = got.unwrap();
    for gone in [
        "Connection",
        "Keep-Alive",
        "Proxy",
        "TE:",
        "Trailer",
        "Upgrade",
        "HTTP2",
        "X-Hop",
    ] {
        assert_eq!(lines(&got, &[gone]), "", "{got}");
    }
    assert_eq!(
        lines(&got, &["X-End", "Cookie"]),
        "X-End: stays|Cookie: a=b",
        "rule 8.2"
    );
}

#[test]
fn rule_8_3_a_client_cannot_preset_our_fields() {
    let facts = facts();
    let spoofed = "GET / HTTP/1.1\nHost: h\nConnection: x-forwarded-for, x-real-ip\n\
                   X-Forwarded-For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil\n\
                   X-Forwarded-Port: 1\nX-Real-IP: 6.6.6.6\nForwarded: for=6.6.6.6\n\
                   X-Request-Id: theirs\nX-Client-Cert-Subject: CN=admin\n\
                   x-client-cert-san: DNS:x\nX-CLIENT-CERT-FINGERPRINT: 0\n\n";
    let got = sent(spoofed, &context(&facts), &RequestRules::default()).unwrap();
    assert_eq!(
        lines(&got, &["X-", "Forwarded"]),
        "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http|X-Forwarded-Host: example.org|\
         X-Forwarded-Port: 80|X-Real-IP: 192.0.2.1|X-Request-Id: id"
    );
}

#[test]
fn rule_8_4_a_trusted_peer_is_appended_to() {
    let facts = Facts {
        client: Client {
            addr: Some("1.1.1.1".parse().unwrap()),
            peer: Some("10.0.0.1".parse().unwrap()),
            trusted_peer: true,
        },
        ..facts()
    };
    let got = sent(
        "GET / HTTP/1.1\nHost: h\nX-Forwarded-For: 6.6.6.6, 1.1.1.1\nX-Forwarded-For: 10.0.0.2\n\
         X-Forwarded-Proto: https\nX-Forwarded-Host: front\nForwarded: for=1.1.1.1\n\
         X-Client-Cert-Subject: CN=a\n\n",
        &context(&facts),
        &RequestRules::default(),
    );
    assert_eq!(
        lines(&got.unwrap(), &["X-", "Forwarded"]),
        "X-Forwarded-Proto: https|X-Forwarded-Host: front|Forwarded: for=1.1.1.1|\
         X-Client-Cert-Subject: CN=a|X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2, 10.0.0.1|\
         X-Forwarded-Port: 80|X-Real-IP: 1.1.1.1|X-Request-Id: id"
    );
    let empty = "GET / HTTP/1.1\nHost: h\nX-Forwarded-For: \n\n";
    let got = sent(empty, &context(&facts), &RequestRules::default()).unwrap();
    assert_eq!(
        lines(&got, &["X-Forwarded-For"]),
        "X-Forwarded-For: 10.0.0.1"
    );
}

#[test]
fn a_client_without_address_or_host_has_no_empty_fields() {
    let facts = Facts {
        client: Client::default(),
        authority: b"",
        host: b"",
        listener_port: 0,
        request_id: b"",
        ..facts()
    };
    let got = sent(
        "GET / HTTP/1.0\n\n",
        &context(&facts),
        &RequestRules::default(),
    )
    .unwrap();
    assert_eq!(
        got,
        "GET /p HTTP/1.1\nHost: \nX-Forwarded-For: unknown\nX-Forwarded-Proto: http\n\n"
    );
}

#[test]
fn rule_8_4_forwarded_is_written_when_asked() {
    let rules = RequestRules {
        forwarded: true,
        ..RequestRules::default()
    };
    let text = "GET / HTTP/1.1\nHost: h\nForwarded: for=6.6.6.6\n\n";
    for (peer, trusted_peer, authority, want) in [
        (
            "192.0.2.1",
            false,
            "h",
            "Forwarded: for=192.0.2.1;host=h;proto=http",
        ),
        (
            "2001:db8::1",
            false,
            "h:8080",
            "Forwarded: for=\"[2001:db8::1]\";host=\"h:8080\";proto=http",
        ),
        (
            "10.0.0.1",
            true,
            "h",
            "Forwarded: for=6.6.6.6, for=10.0.0.1;host=h;proto=http",
        ),
    ] {
        let peer = Some(peer.parse().unwrap());
        let facts = Facts {
            client: Client {
                addr: peer,
                peer,
                trusted_peer,
            },
            authority: authority.as_bytes(),
            ..facts()
        };
        let got = sent(text, &context(&facts), &rules).unwrap();
        assert_eq!(lines(&got, &["Forwarded"]), want);
    }
}

#[test]
fn rule_8_5_via_and_loops() {
    let facts = facts();
    let rules = RequestRules {
        via: Some(b"proxyd-7".as_slice().into()),
        ..RequestRules::default()
    };
    for (via, want) in [
        ("1.0 other", Ok("Via: 1.0 other|Via: 1.1 proxyd-7")),
        ("1.1 proxyd-77", Ok("Via: 1.1 proxyd-77|Via: 1.1 proxyd-7")),
        ("1.1 proxyd-7", Err(Reason::Loop)),
        ("1.0 a, HTTP/1.1  PROXYD-7 (us)", Err(Reason::Loop)),
        (
            "1.1 (proxyd-7)",
            Ok("Via: 1.1 (proxyd-7)|Via: 1.1 proxyd-7"),
        ),
    ] {
        let text = format!("GET / HTTP/1.1\nHost: h\nVia: {via}\n\n");
        let got = sent(&text, &context(&facts), &rules).map(|head| lines(&head, &["Via"]));
        assert_eq!(got, want.map(str::to_owned), "{via}");
    }
    let off = sent(
        "GET / HTTP/1.0\n\n",
        &context(&facts),
        &RequestRules::default(),
    )
    .unwrap();
    assert_eq!(lines(&off, &["Via"]), "");
    let ten = sent("GET / HTTP/1.0\n\n", &context(&facts), &rules).unwrap();
    assert_eq!(lines(&ten, &["Via"]), "Via: 1.0 proxyd-7");
}

#[test]
fn the_trace_goes_on_or_begins() {
    let facts = facts();
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let text = |parent: &str| {
        format!("GET / HTTP/1.1\nHost: h\nTraceparent: {parent}\nTracestate: a=1\n\n")
    };
    let run = |parent: &str| {
        let text = text(parent);
        let (head, buf) = request(&text);
        let cx = RequestContext {
            trace: Some(Hop::decide(&head.fields, &buf, 1, 2)),
            ..context(&facts)
        };
        lines(
            &sent(&text, &cx, &RequestRules::default()).unwrap(),
            &["trace"],
        )
    };
    assert_eq!(
        run(good),
        "Tracestate: a=1|Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01"
    );
    assert_eq!(
        run("nonsense"),
        "Traceparent: 00-00000000000000000000000000000001-0000000000000002-01"
    );
    let untouched = sent(
        &text("nonsense"),
        &context(&facts),
        &RequestRules::default(),
    )
    .unwrap();
    assert_eq!(
        lines(&untouched, &["trace"]),
        "Traceparent: nonsense|Tracestate: a=1"
    );
}

#[test]
fn rule_4_5_host() {
    let facts = facts();
    let text = "GET / HTTP/1.1\nHost: ignored\n\n";
    for (host, want) in [
        (HostRewrite::Preserve, "Host: example.org"),
        (HostRewrite::Upstream, "Host: server.internal:8080"),
        (HostRewrite::Fixed("fixed".to_owned()), "Host: fixed"),
    ] {
        let rules = RequestRules {
            host,
            ..RequestRules::default()
        };
        let got = sent(text, &context(&facts), &rules).unwrap();
        assert_eq!(lines(&got, &["Host"]), want);
        assert!(
            got.starts_with(&format!("GET /p HTTP/1.1\n{want}\n")),
            "first of all"
        );
    }
    let rules = RequestRules {
        fields: rules_with(&[("host", "t.{host}")], &[], &[]),
        ..RequestRules::default()
    };
    let got = sent(text, &context(&facts), &rules).unwrap();
    assert_eq!(lines(&got, &["Host"]), "Host: t.example.org");
    let rules = RequestRules {
        fields: rules_with(&[], &[], &["host"]),
        ..RequestRules::default()
    };
    let got = sent(text, &context(&facts), &rules).unwrap();
    assert_eq!(
        lines(&got, &["Host"]),
        "Host: example.org",
        "there always is one"
    );
}

#[test]
fn framing_is_ours_alone() {
    let facts = facts();
    for (text, body, want) in [
        (
            "POST / HTTP/1.1\nHost: h\nContent-Length: 5\n\n",
            BodyKind::Length(5),
            "Content-Length: 5",
        ),
        (
            "POST / HTTP/1.1\nHost: h\nContent-Length: 0\n\n",
            BodyKind::Length(0),
            "Content-Length: 0",
        ),
        ("POST / HTTP/1.1\nHost: h\n\n", BodyKind::None, ""),
        (
            "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: CHUNKED\nConnection: transfer-encoding\n\n",
            BodyKind::Chunked,
            "Transfer-Encoding: chunked",
        ),
        // buffered: the length is known by now
        (
            "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n",
            BodyKind::Length(9),
            "Content-Length: 9",
        ),
        // rule 10.1
        (
            "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nExpect: 100-continue\n\n",
            BodyKind::Length(5),
            "Content-Length: 5",
        ),
    ] {
        let cx = RequestContext {
            body,
            ..context(&facts)
        };
        let got = sent(text, &cx, &RequestRules::default()).unwrap();
        let got = lines(
            &got,
            &["content-length", "transfer", "connection", "expect"],
        );
        assert_eq!(got, want, "{text}");
    }
    let cx = RequestContext {
        body: BodyKind::UntilClose,
        ..context(&facts)
    };
    let got = sent("GET / HTTP/1.0\n\n", &cx, &RequestRules::default());
    assert_eq!(got, Err(Reason::Internal));
}

#[test]
fn connection_options_are_ours_alone() {
    let facts = facts();
    let ws = "GET / HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: WebSocket\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n\n";
    let te = "GET / HTTP/1.1\nHost: h\nConnection: TE\nTE: trailers\n\n";
    let names = ["connection", "upgrade", "te:", "sec-"];
    let base = context(&facts);
    for (text, cx, want) in [
        (
            ws,
            RequestContext {
                upgrade: Some(b"websocket"),
                ..base
            },
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Version: 13|\
             Connection: Upgrade|Upgrade: websocket",
        ),
        (
            ws,
            base,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Version: 13",
        ),
        (te, base, ""),
        (
            te,
            RequestContext {
                trailers: true,
                ..base
            },
            "Connection: TE|TE: trailers",
        ),
        (
            te,
            RequestContext {
                trailers: true,
                close: true,
                ..base
            },
            "Connection: TE, close|TE: trailers",
        ),
        (
            te,
            RequestContext {
                close: true,
                ..base
            },
            "Connection: close",
        ),
    ] {
        let got = sent(text, &cx, &RequestRules::default()).unwrap();
        assert_eq!(lines(&got, &names), want);
    }
}

#[test]
fn the_trailer_field_goes_where_trailers_go() {
    let facts = facts();
    let text = "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTrailer: x-sum\n\n";
    let base = context(&facts);
    for (body, trailers, want) in [
        (BodyKind::Chunked, true, "Trailer: x-sum"),
        (BodyKind::Chunked, false, ""),
        (BodyKind::Length(4), true, ""),
    ] {
        let cx = RequestContext {
            body,
            trailers,
            ..base
        };
        let got = sent(text, &cx, &RequestRules::default()).unwrap();
        assert_eq!(lines(&got, &["Trailer"]), want);
    }
}

#[test]
fn rule_18_4_cookies_are_one_line() {
    let facts = facts();
    for (cookies, want) in [
        ("Cookie: a=1", "Cookie: a=1"),
        (
            "Cookie: a=1\nX: y\nCookie: b=2\ncookie: c=3",
            "Cookie: a=1; b=2; c=3",
        ),
        ("Cookie: ", "Cookie: "),
    ] {
        let text = format!("GET / HTTP/1.1\nHost: h\n{cookies}\n\n");
        let got = sent(&text, &context(&facts), &RequestRules::default()).unwrap();
        assert_eq!(lines(&got, &["Cookie"]), want);
    }
}

#[test]
fn rule_9_3_max_forwards_and_9_4_trace() {
    let facts = facts();
    let names = ["Max-Forwards", "Authorization", "Cookie"];
    for (method, want) in [
        ("OPTIONS", "Authorization: x|Cookie: a=b|Max-Forwards: 4"),
        ("TRACE", "Max-Forwards: 4"),
        ("GET", "Max-Forwards: 5|Authorization: x|Cookie: a=b"),
    ] {
        let text = format!(
            "{method} /p HTTP/1.1\nHost: h\nMax-Forwards: 5\nAuthorization: x\nCookie: a=b\n\n"
        );
        let (head, buf) = request(&text);
        let mut out = Vec::new();
        let result = write_request_head(
            &mut out,
            &head,
            &buf,
            &context(&facts),
            &RequestRules::default(),
        );
        assert_eq!(result, Ok(()));
        let got = String::from_utf8(out).unwrap().replace("\r\n", "\n");
        assert_eq!(lines(&got, &names), want, "{method}");
    }
    let value = |text: &str| {
        let (head, buf) = request(text);
        max_forwards(&head, &buf)
    };
    assert_eq!(
        value("OPTIONS * HTTP/1.1\nHost: h\nMax-Forwards: 0\n\n"),
        Ok(Some(0))
    );
    assert_eq!(value("OPTIONS * HTTP/1.1\nHost: h\n\n"), Ok(None));
    assert_eq!(
        value("GET / HTTP/1.1\nHost: h\nMax-Forwards: x\n\n"),
        Ok(None)
    );
}

#[test]
fn rules_of_the_route_come_last_and_win() {
    let facts = facts();
    let rules = RequestRules {
        fields: rules_with(
            &[
                ("x-a", "{client_ip}"),
                ("x-real-ip", "none"),
                ("x-empty", "{query}"),
            ],
            &[("x-add", "1"), ("accept", "*/*")],
            &["x-gone", "x-forwarded-host", "user-agent"],
        ),
        ..RequestRules::default()
    };
    let got = sent(
        "GET / HTTP/1.1\nHost: h\nX-A: theirs\nx-gone: x\nX-ADD: 0\nUser-Agent: u\nX-Real-IP: 6\n\
         Accept: text/html\nx-empty: theirs\n\n",
        &context(&facts),
        &rules,
    );
    let names = [
        "x-a",
        "x-gone",
        "x-real",
        "x-forwarded-host",
        "user",
        "accept",
        "x-empty",
    ];
    assert_eq!(
        lines(&got.unwrap(), &names),
        "X-ADD: 0|Accept: text/html|x-a: 192.0.2.1|x-real-ip: none|x-add: 1|accept: */*"
    );
}

#[test]
fn rule_18_3_a_value_that_cannot_be_written_is_refused() {
    let facts = Facts {
        route: "bad\r\nname: x",
        ..facts()
    };
    let rules = RequestRules {
        fields: rules::FieldRules {
            written: Box::new([(
                b"x-route".as_slice().into(),
                Template::compile("{route}").unwrap(),
            )]),
            ..rules::FieldRules::default()
        },
        ..RequestRules::default()
    };
    let text = "GET / HTTP/1.1\nHost: h\n\n";
    assert_eq!(sent(text, &context(&facts), &rules), Err(Reason::Internal));
    let facts = facts_with_bad_path();
    let cx = RequestContext {
        path: b"/a b",
        ..context(&facts)
    };
    assert_eq!(
        sent(text, &cx, &RequestRules::default()),
        Err(Reason::Internal)
    );
}

fn facts_with_bad_path() -> Facts<'static> {
    Facts {
        path: b"/a b",
        ..facts()
    }
}

#[test]
fn a_client_certificate_is_told_in_fields() {
    let tls = TlsFacts {
        peer: Some(Box::new(PeerCertificate {
            subject: "CN=Zo\u{eb},O=\r\nX: y".to_owned(),
            names: vec!["DNS:a".to_owned(), "URI:b%".to_owned()],
            fingerprint: "ab12".to_owned(),
            ..PeerCertificate::default()
        })),
        ..TlsFacts::default()
    };
    let facts = Facts {
        tls: Some(&tls),
        ..facts()
    };
    let rules = RequestRules {
        certificate_fields: true,
        ..RequestRules::default()
    };
    let text = "GET / HTTP/1.1\nHost: h\nX-Client-Cert-Subject: CN=admin\n\n";
    let got = sent(text, &context(&facts), &rules).unwrap();
    assert_eq!(
        lines(&got, &["x-client", "x-forwarded-proto"]),
        "X-Forwarded-Proto: https|X-Client-Cert-Subject: CN=Zo%C3%AB,O=%0D%0AX: y|\
         X-Client-Cert-San: DNS:a, URI:b%25|X-Client-Cert-Fingerprint: ab12"
    );
    let got = sent(text, &context(&facts), &RequestRules::default()).unwrap();
    assert_eq!(
        lines(&got, &["x-client"]),
        "",
        "only when the listener says so"
    );
}

const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn response_context<'a>(facts: &'a Facts<'a>, body: BodyKind) -> ResponseContext<'a> {
    ResponseContext {
        facts,
        version: Version::Http11,
        body,
        persistence: Persistence::Keep,
        upgrade: None,
        trailers: false,
        date: DATE,
    }
}

fn answered(text: &str, method: Method, cx: &ResponseContext<'_>, rules: &ResponseRules) -> String {
    let (head, buf) = response(text, method);
    let mut out = Vec::new();
    write_response_head(&mut out, &head, &buf, cx, rules).unwrap();
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_whole_response_head() {
    let facts = facts();
    let got = answered(
        "HTTP/1.0 200 Whatever\nServer: nginx\nSet-Cookie: a=1\nContent-Length: 3\n\
         Set-Cookie: b=2\nConnection: x-hop\nX-Hop: gone\nKeep-Alive: timeout=5\n\n",
        Method::Get,
        &response_context(&facts, BodyKind::Length(3)),
        &ResponseRules::default(),
    );
    assert_eq!(
        got,
        "HTTP/1.1 200 OK\nServer: nginx\nSet-Cookie: a=1\nSet-Cookie: b=2\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Length: 3\n\n"
    );
}

/// Status, fields and method of a response, version of the client, what is sent of the framing.
type FramingCase = (&'static str, &'static str, Method, Version, &'static str);

#[rustfmt::skip]
const FRAMING: &[FramingCase] = &[
    ("200", "Content-Length: 7\n", Method::Get, Version::Http11, "Content-Length: 7"),
    ("200", "Content-Length: 0\n", Method::Get, Version::Http11, "Content-Length: 0"),
    ("200", "Transfer-Encoding: chunked\n", Method::Get, Version::Http11, "Transfer-Encoding: chunked"),
    ("200", "", Method::Get, Version::Http11, "Transfer-Encoding: chunked"),
    ("200", "", Method::Get, Version::Http10, "Connection: close"),
    ("200", "Transfer-Encoding: chunked\n", Method::Get, Version::Http10, "Connection: close"),
    ("200", "Content-Length: 7\n", Method::Get, Version::Http10, "Content-Length: 7|Connection: keep-alive"),
    // HEAD and 304: the length of the representation, no body
    ("200", "Content-Length: 7\n", Method::Head, Version::Http11, "Content-Length: 7"),
    ("200", "Transfer-Encoding: chunked\n", Method::Head, Version::Http11, ""),
    ("200", "", Method::Head, Version::Http11, ""),
    ("304", "Content-Length: 7\n", Method::Get, Version::Http11, "Content-Length: 7"),
    ("304", "", Method::Get, Version::Http11, ""),
    // never a length
    ("204", "Content-Length: 0\n", Method::Get, Version::Http11, ""),
    ("204", "", Method::Get, Version::Http11, ""),
    ("205", "Content-Length: 0\n", Method::Get, Version::Http11, "Content-Length: 0"),
    ("205", "", Method::Get, Version::Http11, "Content-Length: 0"),
];

#[test]
fn rules_7_2_to_7_4_framing_towards_the_client() {
    let facts = facts();
    let names = ["content-length", "transfer-encoding", "connection"];
    for (status, fields, method, version, want) in FRAMING {
        let text = format!("HTTP/1.1 {status} x\n{fields}\n");
        let (head, _) = response(&text, *method);
        let body = client_body(&head, *version, *method == Method::Head);
        let cx = ResponseContext {
            version: *version,
            ..response_context(&facts, body)
        };
        let got = answered(&text, *method, &cx, &ResponseRules::default());
        assert_eq!(lines(&got, &names), *want, "{text} {method:?} {version:?}");
    }
}

#[test]
fn a_connection_that_ends_says_so() {
    let facts = facts();
    for version in [Version::Http10, Version::Http11] {
        let cx = ResponseContext {
            persistence: Persistence::Close,
            version,
            ..response_context(&facts, BodyKind::Length(1))
        };
        let text = "HTTP/1.1 200 OK\nContent-Length: 1\nConnection: keep-alive\n\n";
        let got = answered(text, Method::Get, &cx, &ResponseRules::default());
        assert_eq!(lines(&got, &["connection"]), "Connection: close");
    }
}

#[test]
fn section_16_a_switch_of_protocols() {
    let facts = facts();
    let cx = ResponseContext {
        upgrade: Some(b"websocket"),
        ..response_context(&facts, BodyKind::None)
    };
    let text = "HTTP/1.1 101 x\nConnection: upgrade\nUpgrade: websocket\nDate: d\n\
                Sec-WebSocket-Accept: abc\n\n";
    assert_eq!(
        answered(text, Method::Get, &cx, &ResponseRules::default()),
        "HTTP/1.1 101 Switching Protocols\nDate: d\nSec-WebSocket-Accept: abc\n\
         Connection: Upgrade\nUpgrade: websocket\n\n"
    );
}

#[test]
fn response_rules_of_the_route() {
    let facts = facts();
    let rules = ResponseRules {
        fields: rules_with(
            &[
                ("strict-transport-security", "max-age=1"),
                ("x-by", "{host}"),
            ],
            &[("x-add", "2")],
            &["server", "x-powered-by"],
        ),
        request_id: true,
    };
    let text = "HTTP/1.1 200 OK\nServer: a\nX-Powered-By: b\nX-By: c\nDate: d\nX-Add: 1\n\
                X-Request-Id: theirs\nContent-Length: 0\n\n";
    let cx = response_context(&facts, BodyKind::Length(0));
    assert_eq!(
        answered(text, Method::Get, &cx, &rules),
        "HTTP/1.1 200 OK\nDate: d\nX-Add: 1\nX-Request-Id: id\n\
         strict-transport-security: max-age=1\nx-by: example.org\nx-add: 2\nContent-Length: 0\n\n"
    );
}

#[test]
fn rule_11_2_the_trailer_field_of_a_response() {
    let facts = facts();
    let text = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: x-sum\n\n";
    for (trailers, body, want) in [
        (true, BodyKind::Chunked, "Trailer: x-sum"),
        (false, BodyKind::Chunked, ""),
        (true, BodyKind::UntilClose, ""),
    ] {
        let cx = ResponseContext {
            trailers,
            ..response_context(&facts, body)
        };
        let got = answered(text, Method::Get, &cx, &ResponseRules::default());
        assert_eq!(lines(&got, &["trailer"]), want);
    }
}

#[test]
fn rule_10_4_early_hints_have_links_only() {
    let hints = "HTTP/1.1 103 x\nLink: </a>; rel=preload\nSet-Cookie: a=b\nlink: </b>\nX: y\n\n";
    let run = |text: &str, version| {
        let (head, buf) = response(text, Method::Get);
        let mut out = Vec::new();
        let written = write_early_hints(&mut out, &head, &buf, version).unwrap();
        assert_eq!(written, !out.is_empty());
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    };
    assert_eq!(
        run(hints, Version::Http11),
        "HTTP/1.1 103 Early Hints\nLink: </a>; rel=preload\nLink: </b>\n\n"
    );
    assert_eq!(run(hints, Version::Http10), "");
    assert_eq!(run("HTTP/1.1 103 x\nX: y\n\n", Version::Http11), "");
    assert_eq!(run("HTTP/1.1 102 x\nLink: </a>\n\n", Version::Http11), "");
}

proptest! {
    /// What was written is accepted by our own parser and means the same.
    #[test]
    fn a_sent_head_is_a_valid_head(
        fields in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "Accept", "Cookie", "X-Forwarded-For", "Connection", "Via", "X-A", "TE",
                    "Forwarded", "X-Request-Id", "Keep-Alive", "Set-Cookie", "Upgrade",
                ]),
                "[!-~]([ -~]{0,20}[!-~])?",
            ),
            0..12,
        ),
        trusted_peer: bool,
        forwarded: bool,
    ) {
        let text = fields
            .iter()
            .fold("GET / HTTP/1.1\r\nHost: h\r\n".to_owned(), |text, (name, value)| {
                format!("{text}{name}: {value}\r\n")
            }) + "\r\n";
        let mut head = RequestHead::default();
        let rules = http1::request::RequestRules::default();
        let parse = |head: &mut RequestHead, buf: &[u8]| {
            http1::request::parse(head, &mut Scan::default(), buf, &Limits::default(), rules)
        };
        prop_assume!(parse(&mut head, text.as_bytes()) == Ok(Some(())));
        let facts = Facts { client: Client { trusted_peer, ..CLIENT }, ..facts() };
        let edit = RequestRules {
            forwarded,
            via: Some(b"me".as_slice().into()),
            ..RequestRules::default()
        };
        let mut out = Vec::new();
        match write_request_head(&mut out, &head, text.as_bytes(), &context(&facts), &edit) {
            Err(reason) => prop_assert_eq!(reason, Reason::Loop),
            Ok(()) => {
                let mut again = RequestHead::default();
                prop_assert_eq!(parse(&mut again, &out), Ok(Some(())));
                prop_assert_eq!(again.len, out.len());
                prop_assert!(!again.fields.iter().any(|field| field.hop && field.id != FieldId::Host));
            }
        }
    }
}
