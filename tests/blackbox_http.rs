//! HTTP/1.1 end to end over raw sockets: what a client may send, what the server then receives,
//! and what comes back. The server side checks strictly that
//! every message was framed afresh.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use support::backend::{Conn, keep_alive};
use support::{PATIENCE, Proxyd, Setup, Upstream, client, eventually, ms, ok, respond, to};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A proxy in front of a server that answers 200 with what it received as body.
fn echo() -> (Upstream, Proxyd) {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    (server, proxy)
}

/// A proxy in front of a server made of a closure.
fn raw(
    handler: impl Fn(&mut Conn) -> std::io::Result<()> + Send + Sync + 'static,
) -> (Upstream, Proxyd) {
    let server = Upstream::raw(handler);
    let proxy = Proxyd::to(server.addr());
    (server, proxy)
}

// ── requests that must not pass ──────────────────────────────────────────────────────────────

/// Head (with body) and the status that answers it. Nothing of it may reach the server.
const REFUSED: &[(&str, u16, &str)] = &[
    ("bare LF line end", 400, "GET / HTTP/1.1\nHost: a\n\n"),
    (
        "bare LF in one field",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
    ),
    (
        "bare CR in a value",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    ),
    (
        "NUL in a value",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    ),
    (
        "two blanks in the request line",
        400,
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "tab in the request line",
        400,
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "blank behind the version",
        400,
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    ),
    ("no version", 400, "GET /\r\nHost: a\r\n\r\n"),
    ("version 2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (
        "lower-case version",
        400,
        "GET / http/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "method with a colon",
        400,
        "GE:T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "blank before the colon",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    ),
    (
        "blank before the colon of Transfer-Encoding",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "field without colon",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    ),
    (
        "empty field name",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    ),
    (
        "folded line",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    ),
    (
        "blank before the first field",
        400,
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ),
    ("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
    ("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (
        "two equal Hosts",
        400,
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    ),
    ("Host list", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    (
        "Host with userinfo",
        400,
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    ),
    (
        "Host with a path",
        400,
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ),
    (
        "Host with a long port",
        400,
        "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n",
    ),
    (
        "absolute form against Host",
        400,
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "absolute form with userinfo",
        400,
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "unknown scheme",
        400,
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "https on a plain listener",
        421,
        "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("fragment", 400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad escape", 400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("escaped NUL", 400, "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "above the root",
        400,
        "GET /../x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "asterisk with GET",
        400,
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "CONNECT",
        501,
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ),
    ("TRACE", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "both lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both lengths, other order",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "two equal lengths",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    ),
    (
        "length list",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
    ),
    (
        "length with a sign",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
    ),
    (
        "hexadecimal length",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
    ),
    (
        "empty length",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na",
    ),
    (
        "huge length",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\na",
    ),
    (
        "chunked twice",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two coding lines",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked not last",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "only identity",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "other coding",
        501,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding with a parameter",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "vertical tab before chunked",
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding in 1.0",
        400,
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "unknown expectation",
        417,
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: the-worst\r\nContent-Length: 1\r\n\r\na",
    ),
    ("HTTP/2 preface", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];

#[test]
fn what_is_ambiguous_is_refused_and_never_forwarded() {
    let (server, proxy) = echo();
    let addr = proxy.web();
    for (name, status, bytes) in REFUSED {
        let mut client = client::Client::connect(addr);
        // a second request behind it must never be read as one
        client.send(format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client
            .try_response("GET")
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(response.status, *status, "{name}");
        if ![405, 417, 421].contains(status) {
            assert!(
                client.is_closed_within(PATIENCE),
                "{name}: the connection stays open"
            );
        }
    }
    let leaked = server.requests();
    let leaked: Vec<_> = leaked
        .iter()
        .filter(|r| r.target != "/smuggled" && r.target != "/")
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    assert!(server.requests().len() <= 3, "{:?}", server.requests());
}

#[test]
fn an_error_names_its_reason_and_echoes_nothing() {
    let (_server, proxy) = echo();
    let bytes = "POST / HTTP/1.1\r\nHost: a\r\nX-Secret: walrus\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = client::send(proxy.web(), bytes).expect(400);
    assert!(!response.text().contains("walrus"));
    assert_eq!(response.fields.get("server"), Some("proxyd"));
    assert_eq!(response.fields.get("cache-control"), Some("no-store"));
    let status = response.fields.get("proxy-status").unwrap_or_default();
    assert!(status.contains("h1.cl_te"), "{status:?}");
    let line = &proxy.access_json(1)[0];
    assert_eq!(line["reason"], "h1.cl_te", "{line}");
}

#[test]
fn broken_chunks_are_refused_and_the_server_never_sees_a_complete_body() {
    let bodies = [
        ("blank behind the size", "3 \r\nabc\r\n0\r\n\r\n"),
        ("prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("no CRLF behind the data", "3\r\nabcXX0\r\n\r\n"),
        ("bare LF", "3\nabc\n0\n\n"),
        ("size too long", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("size too large", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("bad trailer", "0\r\nx y: z\r\n\r\n"),
    ];
    let (server, proxy) = echo();
    for (name, body) in bodies {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = proxy.client();
        client.send(format!(
            "{head}{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        match client.try_response("POST") {
            Ok(response) => assert_eq!(response.status, 400, "{name}"),
            Err(e) => panic!("{name}: {e}"),
        }
        assert!(client.is_closed_within(PATIENCE), "{name}");
    }
    assert_eq!(server.count(), 0, "{:?}", server.requests());
}

#[test]
fn underscored_names_are_dropped() {
    let (server, proxy) = echo();
    client::send(
        proxy.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\nX-Y: z\r\n\r\n",
    )
    .expect(200);
    let seen = server.only();
    assert!(!seen.fields.has("X_Forwarded_For"));
    assert_eq!(seen.fields.get("X-Y"), Some("z"));
}

// ── requests that pass, and how they look behind the proxy ───────────────────────────────────

#[test]
fn a_request_is_written_afresh() {
    let (server, proxy) = echo();
    let bytes = "GET /a/b?c=d%20e&f HTTP/1.1\r\nhOsT: A.Test:8080\r\nX-Empty:\r\nX-Pad: \t v \t\r\n\
                 Accept: */*\r\nCookie: a=1\r\nCookie: b=2\r\nX-Bytes: \u{e9}\r\n\r\n";
    client::send(proxy.web(), bytes).expect(200);
    let seen = server.only();
    assert_eq!(seen.target, "/a/b?c=d%20e&f");
    assert_eq!(seen.fields.get("Host"), Some("A.Test:8080"));
    assert_eq!(seen.fields.get("X-Empty"), Some(""));
    assert_eq!(seen.fields.get("X-Pad"), Some("v"));
    assert_eq!(seen.fields.get("X-Bytes"), Some("\u{e9}"));
    assert_eq!(seen.fields.all("Cookie"), ["a=1; b=2"]);
    assert!(seen.raw.starts_with(b"GET /a/b?c=d%20e&f HTTP/1.1\r\n"));
}

#[test]
fn a_head_in_single_bytes_is_the_same_request() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    let bytes = "POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    client.send_in_pieces(bytes, 1, ms(1));
    assert_eq!(client.response().expect(200).text(), "abc");
    assert_eq!(server.only().target, "/slow");
}

#[test]
fn hop_by_hop_fields_stop_at_the_proxy() {
    let (server, proxy) = echo();
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Named, Cookie, X-Forwarded-For\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nX-Named: gone\r\nCookie: kept=1\r\nTE: trailers\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABk\r\nProxy-Authorization: Basic eA==\r\nX-Kept: yes\r\n\r\n";
    client::send(proxy.web(), bytes).expect(200);
    let seen = server.only();
    for name in [
        "X-Named",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Upgrade",
        "HTTP2-Settings",
        "Proxy-Authorization",
    ] {
        assert!(!seen.fields.has(name), "{name}: {:?}", seen.fields);
    }
    assert_eq!(seen.fields.get("X-Kept"), Some("yes"));
    assert_eq!(
        seen.fields.get("Cookie"),
        Some("kept=1"),
        "Connection cannot name Cookie away (8.2)"
    );
    assert_eq!(seen.fields.get("X-Forwarded-For"), Some("127.0.0.1"));
}

#[test]
fn absolute_form_becomes_origin_form() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    client
        .send("GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .response()
        .expect(200);
    client
        .send("GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .response()
        .expect(200);
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/x?y", "/"]);
}

#[test]
fn the_path_is_sent_in_the_form_that_was_matched() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    for path in [
        "/a/./b/../c",
        "/%61%2f%2e%2e",
        "/a%2Fb",
        "/x//y",
        "/a/%2e%2e/z",
    ] {
        client.get("a", path).expect(200);
    }
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/a/c", "/a%2F..", "/a%2Fb", "/x//y", "/z"]);
}

#[test]
fn chunked_requests_are_re_framed_and_their_extensions_dropped() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
    client.send_in_pieces(
        "5;ext=\"a;b\"\r\nhello\r\n000006\r\n world\r\n0;last\r\nX-T: 1\r\n\r\n",
        3,
        ms(1),
    );
    assert_eq!(client.response().expect(200).text(), "hello world");
    let seen = server.only();
    assert_eq!(seen.body, b"hello world");
    assert!(!seen.fields.has("content-length"));
    assert_eq!(client.get("a", "/next").expect(200).text(), "");
}

#[test]
fn trailers_pass_only_where_the_route_says_so() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n";
    for (route, passes) in [("trailers = true", true), ("", false)] {
        let server = Upstream::http(move |_| answer.as_bytes().to_vec());
        let proxy = Proxyd::start(&to(server.addr(), route));
        let bytes = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n\
                     1\r\nx\r\n0\r\nX-Check: 2\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
        let response = client::send(proxy.web(), bytes).expect(200);
        assert_eq!(response.text(), "ok");
        assert_eq!(response.trailers.has("X-Sum"), passes, "{route:?}");
        let seen = server.only();
        assert_eq!(seen.trailers.has("X-Check"), passes, "{route:?}");
        for never in ["Host", "X-Forwarded-For", "Content-Length"] {
            assert!(
                !seen.trailers.has(never) && !response.trailers.has(never),
                "{never}"
            );
        }
    }
}

#[test]
fn get_with_a_body_is_forwarded_with_its_framing() {
    let (server, proxy) = echo();
    let response = client::send(
        proxy.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(response.expect(200).text(), "hi");
    assert_eq!(server.only().fields.get("Content-Length"), Some("2"));
}

#[test]
fn unknown_methods_pass() {
    let (server, proxy) = echo();
    client::send(proxy.web(), "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    assert_eq!(server.only().method, "BREW");
}

#[test]
fn options_asterisk_is_answered_by_the_proxy() {
    let (server, proxy) = echo();
    let response = client::send(proxy.web(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect(204);
    assert!(response.fields.has("Allow"));
    assert_eq!(server.count(), 0);
    client::send(proxy.web(), "OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n").expect(200);
    assert_eq!(server.only().target, "/x");
}

#[test]
fn max_forwards_counts_down_on_options_only() {
    let (server, proxy) = echo();
    client::send(
        proxy.web(),
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    )
    .expect(204);
    assert_eq!(server.count(), 0);
    client::send(
        proxy.web(),
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    )
    .expect(200);
    assert_eq!(server.only().fields.get("Max-Forwards"), Some("2"));
    client::send(
        proxy.web(),
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n",
    )
    .expect(400);
}

#[test]
fn http_1_0_closes_unless_it_asks_otherwise() {
    let (_server, proxy) = echo();
    let mut client = proxy.client();
    client
        .send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        .response()
        .expect(200);
    assert!(client.is_closed_within(PATIENCE));
    let mut client = proxy.client();
    let response = client
        .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        .response()
        .expect(200);
    assert_eq!(
        response
            .fields
            .get("Connection")
            .map(str::to_ascii_lowercase)
            .as_deref(),
        Some("keep-alive")
    );
    client.send(GET).response().expect(200);
}

#[test]
fn connection_close_is_obeyed_in_both_directions() {
    let (_server, proxy) = echo();
    let mut client = proxy.client();
    let response = client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n")
        .response();
    assert_eq!(response.expect(200).fields.get("Connection"), Some("close"));
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn a_half_closed_client_still_gets_its_response() {
    let (_server, proxy) = raw(|conn| {
        conn.request()?;
        std::thread::sleep(ms(200));
        conn.send(ok("late"))
    });
    let mut client = proxy.client();
    client.send(GET).finish();
    assert_eq!(client.response().expect(200).text(), "late");
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Upstream::http(|r| {
        std::thread::sleep(ms(if r.target == "/0" { 100 } else { 1 }));
        ok(&r.target)
    });
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    let all: String = (0..20)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(all);
    for i in 0..20 {
        assert_eq!(client.response().expect(200).text(), format!("/{i}"));
    }
}

#[test]
fn two_empty_lines_before_a_request_are_skipped() {
    let (_server, proxy) = echo();
    let mut client = proxy.client();
    client.send(format!("\r\n\r\n{GET}")).response().expect(200);
    client
        .send(format!("\r\n\r\n\r\n{GET}"))
        .response()
        .expect(400);
}

#[test]
fn tls_bytes_on_a_plain_listener_are_closed_without_an_answer() {
    let (_server, proxy) = echo();
    let mut client = proxy.client();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert_eq!(client.read_to_end().unwrap_or_default(), b"");
}

// ── Expect and interim responses ─────────────────────────────────────────────────────────────

#[test]
fn the_proxy_sends_100_itself_and_forwards_no_expectation() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.response().status, 100);
    assert_eq!(client.send("hi").response().expect(200).text(), "hi");
    assert!(!server.only().fields.has("Expect"));
}

#[test]
fn a_body_that_does_not_wait_needs_no_100() {
    let (_server, proxy) = echo();
    let mut client = proxy.client();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    let mut response = client.response();
    if response.status == 100 {
        response = client.response();
    }
    assert_eq!(response.expect(200).text(), "hi");
}

#[test]
fn a_refusal_comes_instead_of_100_and_closes() {
    let server = Upstream::echo();
    let proxy = Proxyd::start(&to(server.addr(), "max_body = \"1KiB\""));
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
    );
    client.response().expect(413);
    assert!(client.is_closed_within(PATIENCE));
    assert_eq!(server.count(), 0);
}

#[test]
fn interim_responses_of_the_server_are_swallowed_but_early_hints_may_pass() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Other: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = Upstream::http(move |_| answer.as_bytes().to_vec());
    let proxy = Proxyd::start(&to(server.addr(), ""));
    assert_eq!(proxy.get("a", "/").expect(200).text(), "ok");
    let proxy = Proxyd::start(&to(server.addr(), "early_hints = true"));
    let mut client = proxy.client();
    let hints = client.send(GET).response().expect(103);
    assert!(
        hints.fields.has("Link") && !hints.fields.has("X-Other"),
        "{:?}",
        hints.fields
    );
    assert_eq!(client.response().expect(200).text(), "ok");
    let old = client::send(proxy.web(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(old.expect(200).text(), "ok", "nothing 1xx goes to HTTP/1.0");
}

#[test]
fn too_many_interim_responses_are_a_502() {
    let server = Upstream::http(|_| "HTTP/1.1 102 P\r\n\r\n".repeat(40).into_bytes());
    let proxy = Proxyd::to(server.addr());
    proxy.get("a", "/").expect(502);
}

// ── responses ────────────────────────────────────────────────────────────────────────────────

#[test]
fn responses_without_body_have_none() {
    let server = Upstream::http(|r| match r.target.as_str() {
        "/204" => b"HTTP/1.1 204 X\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 X\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n".to_vec(),
        "/205" => b"HTTP/1.1 205 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n".to_vec(),
    });
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    let response = client.get("a", "/204").expect(204);
    assert!(!response.fields.has("content-length") && !response.fields.has("transfer-encoding"));
    let response = client.get("a", "/304").expect(304);
    assert_eq!(response.fields.get("Content-Length"), Some("10"));
    assert_eq!(client.get("a", "/205").expect(205).text(), "");
    let response = client
        .send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .response_to("HEAD")
        .expect(200);
    assert_eq!(response.fields.get("Content-Length"), Some("10"));
    assert_eq!(server.connections(), 1, "all of it on one connection");
}

#[test]
fn a_response_until_close_is_sent_chunked() {
    let (_server, proxy) = raw(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    });
    let mut client = proxy.client();
    let response = client.send(GET).response().expect(200);
    assert!(response.chunked);
    assert_eq!(response.text(), "until the end");
    client.send(GET).response().expect(200);
    let mut old = proxy.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let text = String::from_utf8(old.read_to_end().unwrap()).unwrap();
    assert!(text.ends_with("\r\n\r\nuntil the end"), "{text:?}");
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"));
}

#[test]
fn malformed_responses_are_a_502_and_nothing_of_them_is_passed() {
    let answers: &[(&str, &str)] = &[
        ("no status line", "hello\r\n\r\n"),
        (
            "wrong version",
            "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "status of two digits",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("status 600", "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"),
        ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        (
            "folded field",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "blank before the colon",
            "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ),
        (
            "length and coding",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "other coding",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "unasked switch",
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ),
    ];
    for (name, answer) in answers {
        let bytes = answer.as_bytes().to_vec();
        let server = Upstream::http(move |_| bytes.clone());
        let proxy = Proxyd::to(server.addr());
        let response = proxy.get("a", "/").expect(502);
        assert!(
            response
                .fields
                .get("proxy-status")
                .unwrap_or_default()
                .contains("up."),
            "{name}"
        );
    }
}

#[test]
fn equal_lengths_in_a_response_are_one_length() {
    let server = Upstream::http(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let proxy = Proxyd::to(server.addr());
    let response = proxy.get("a", "/").expect(200);
    assert_eq!(response.fields.all("content-length"), ["2"]);
}

#[test]
fn a_truncated_response_is_never_complete_for_the_client() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
    ] {
        let (_server, proxy) = raw(move |conn| {
            conn.request()?;
            conn.send(answer)
        });
        let mut client = proxy.client();
        let outcome = client.send(GET).try_response("GET");
        // A malformed body is a 502 as long as the client has seen nothing (rule 6.6).
        let refused = matches!(&outcome, Ok(response) if response.status == 502);
        let malformed = answer.contains("zz");
        assert!(
            outcome.is_err() || (malformed && refused),
            "{answer:?}: {outcome:?}"
        );
        let line = &proxy.access_json(1)[0];
        let reason = line["reason"].as_str().unwrap_or_default();
        assert!(["up.truncated", "up.bad_body"].contains(&reason), "{line}");
    }
}

#[test]
fn bytes_behind_a_response_reach_nobody() {
    let server = Upstream::http(|r| {
        let mut bytes = ok(&r.target);
        bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        bytes
    });
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.get("a", path).expect(200).text(), path);
    }
    assert_eq!(
        server.connections(),
        3,
        "a connection with left-over bytes is not used again"
    );
}

#[test]
fn set_cookie_lines_stay_separate_and_hop_by_hop_fields_go() {
    let server = Upstream::http(|_| {
        let fields = [
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "x-named"),
            ("X-Named", "1"),
            ("Keep-Alive", "timeout=9"),
            ("X-Kept", "1"),
            ("Server", "mock"),
        ];
        respond(200, &fields, "")
    });
    let proxy = Proxyd::to(server.addr());
    let response = proxy.get("a", "/").expect(200);
    assert_eq!(response.fields.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(response.fields.get("Server"), Some("mock"));
    assert!(response.fields.has("Date") && response.fields.has("X-Kept"));
    assert!(!response.fields.has("X-Named") && !response.fields.has("Keep-Alive"));
}

#[test]
fn a_large_response_passes_unchanged() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let sent = body.clone();
    let server = Upstream::http(move |_| ok(&sent));
    let proxy = Proxyd::to(server.addr());
    let response = proxy.get("a", "/").expect(200);
    assert!(response.body == body);
}

#[test]
fn a_large_request_streams_unchanged() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
    let server = Upstream::http(|r| ok(r.body.len().to_string()));
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    assert_eq!(client.response().expect(200).text(), body.len().to_string());
    assert!(server.only().body == body);
}

#[test]
fn server_sent_events_are_flushed_at_once() {
    let (_server, proxy) = raw(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..2 {
            conn.send("9\r\ndata: x\n\n\r\n")?;
            std::thread::sleep(ms(1500));
        }
        conn.send("0\r\n\r\n")
    });
    let mut client = proxy.client();
    let start = std::time::Instant::now();
    client.send(GET);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("data: x") {
        seen.extend(client.read(1));
    }
    assert!(
        start.elapsed() < ms(1300),
        "the first event took {:?}",
        start.elapsed()
    );
}

// ── early and late ends ──────────────────────────────────────────────────────────────────────

#[test]
fn a_response_before_the_end_of_the_request_body_is_forwarded_at_once() {
    let (_server, proxy) = raw(|conn| {
        conn.head()?;
        conn.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        std::thread::sleep(ms(300));
        Ok(())
    });
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart");
    assert_eq!(client.response().expect(403).text(), "no");
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn a_client_that_ends_its_body_early_never_completes_a_request() {
    let (server, proxy) = echo();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nshort");
    client.finish();
    let _ = client.read_to_end();
    eventually("the server loses the connection", PATIENCE, || {
        (server.open() == 0).then_some(())
    });
    assert_eq!(server.count(), 0);
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_server() {
    let (server, proxy) = raw(|conn| {
        conn.request()?;
        // the proxy closes: this read ends
        conn.read_to_end().map(|_| ())
    });
    let mut client = proxy.client();
    client.send(GET);
    eventually("the request arrives", PATIENCE, || {
        (server.count() == 1).then_some(())
    });
    client.reset();
    eventually("the server is told", PATIENCE, || {
        (server.open() == 0).then_some(())
    });
}

// ── upgrade ──────────────────────────────────────────────────────────────────────────────────

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_websocket_becomes_a_tunnel_with_half_close() {
    let (server, proxy) = raw(|conn| {
        let request = conn.request()?.unwrap();
        assert_eq!(
            request
                .fields
                .get("Upgrade")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("websocket")
        );
        // bytes behind the 101 in the same segment belong to the tunnel
        conn.send(format!("{SWITCH}first"))?;
        let all = conn.read_to_end()?;
        conn.send(format!("got {}", String::from_utf8_lossy(&all)))
    });
    let mut client = proxy.client();
    let response = client.send(UPGRADE).response().expect(101);
    assert_eq!(
        response.fields.get("Sec-WebSocket-Accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(client.read(5), b"first");
    client.send("\x00\x01binary");
    client.finish();
    assert_eq!(client.read_to_end().unwrap(), b"got \x00\x01binary");
    assert_eq!(server.count(), 1);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let server = Upstream::http(|_| respond(426, &[], "no"));
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    assert_eq!(client.send(UPGRADE).response().expect(426).text(), "no");
    client.get("a", "/next").expect(426);
}

#[test]
fn bad_upgrades_are_answered_or_become_ordinary_requests() {
    let (server, proxy) = echo();
    let without_key = UPGRADE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    client::send(proxy.web(), without_key).expect(400);
    client::send(proxy.web(), UPGRADE.replace("Version: 13", "Version: 8")).expect(426);
    assert_eq!(server.count(), 0);
    // another protocol: the fields are removed
    client::send(proxy.web(), UPGRADE.replace("WebSocket\r\n", "tcp\r\n")).expect(200);
    assert!(!server.only().fields.has("Upgrade"));
}

#[test]
fn a_switch_to_another_protocol_than_asked_is_a_502() {
    let (_server, proxy) = raw(|conn| {
        conn.request()?;
        conn.send(SWITCH.replace("Upgrade: websocket", "Upgrade: other"))
    });
    client::send(proxy.web(), UPGRADE).expect(502);
}

#[test]
fn a_named_upgrade_passes_where_the_route_allows_it() {
    let server = Upstream::raw(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
        let bytes = conn.some()?;
        conn.send(bytes)
    });
    let proxy = Proxyd::start(&to(server.addr(), "upgrade = [\"websocket\", \"tcp\"]"));
    let mut client = proxy.client();
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
        .response()
        .expect(101);
    assert_eq!(client.send("ping").read(4), b"ping");
}

// ── real peers ───────────────────────────────────────────────────────────────────────────────

#[test]
fn curl_and_nginx_are_content() {
    let nginx = support::tool::nginx(
        "client_max_body_size 10m; server { listen 127.0.0.1:$PORT; location / { root $DIR; } \
         location /echo { return 200 \"$request_method $http_x_forwarded_for $http_host\"; } }",
    );
    std::fs::write(nginx.dir().join("file"), "x".repeat(200_000)).unwrap();
    let proxy = Proxyd::to(nginx.addr);
    let base = format!("http://{}", proxy.web());
    let out = support::tool::curl(&["-H", "Host: site.test", &format!("{base}/echo")])
        .success()
        .out;
    assert_eq!(out, "GET 127.0.0.1 site.test");
    let file = support::tool::curl(&[&format!("{base}/file")])
        .success()
        .out;
    assert_eq!(file.len(), 200_000);
    let range = support::tool::curl(&["-r", "0-9", &format!("{base}/file")])
        .success()
        .out;
    assert_eq!(range, "x".repeat(10));
    let head = support::tool::curl(&["-I", &format!("{base}/file")])
        .success()
        .out;
    assert!(
        head.contains("Content-Length: 200000") || head.contains("content-length: 200000"),
        "{head}"
    );
    let missing = support::tool::curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("{base}/nothing"),
    ]);
    assert_eq!(missing.success().out, "404");
}

#[test]
fn wrk_gets_no_error() {
    let server = support::tool::nginx(
        "keepalive_requests 1000000; server { listen 127.0.0.1:$PORT; location / { return 200 'ok'; } }",
    );
    let proxy = Setup::new().worker("count = 2").start(&to(server.addr, ""));
    let url = format!("http://{}/", proxy.web());
    let out = support::tool::run("wrk", &["-t1", "-c32", "-d2s", &url], PATIENCE)
        .success()
        .out;
    assert!(out.contains("requests in"), "{out}");
    assert!(
        !out.contains("Non-2xx") && !out.contains("Socket errors"),
        "{out}"
    );
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let server = Upstream::raw(keep_alive(|r| ok(&r.target)));
    let proxy = Setup::new()
        .worker("count = 2")
        .start(&to(server.addr(), ""));
    let addr = proxy.web();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut client = client::Client::connect(addr);
                for i in 0..50 {
                    let path = format!("/{n}/{i}");
                    assert_eq!(client.get("a", &path).expect(200).text(), path);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(server.count(), 400);
}
