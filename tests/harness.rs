//! The test harness itself: if a mock server or a raw client were wrong, every black-box test
//! would be. No proxy is started here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};
use support::backend::keep_alive;
use support::dns::{Answer, Dns};
use support::message::Reader;
use support::{Client, PATIENCE, Upstream, client, eventually, ms, ok, respond, tls, tool};

#[test]
fn a_client_and_a_keep_alive_server_understand_each_other() {
    let server = Upstream::http(|r| respond(200, &[("x-target", &r.target)], &r.body));
    let mut client = Client::connect(server.addr());
    for path in ["/a", "/b"] {
        let answer = client.get("h", path).expect(200);
        assert_eq!(answer.fields.get("X-Target"), Some(path));
    }
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_in_pieces("3\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n", 4, ms(1));
    assert_eq!(client.response().text(), "abcde");
    assert_eq!(server.count(), 3);
    assert_eq!(server.connections(), 1);
    assert_eq!(server.last().trailers.get("x-t"), Some("1"));
    drop(client);
    eventually("close", PATIENCE, || (server.open() == 0).then_some(()));
}

#[test]
fn the_strict_reader_refuses_what_a_proxy_must_not_send() {
    for bad in [
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
    ] {
        assert!(Reader::new(bad.as_bytes()).request().is_err(), "{bad:?}");
    }
}

#[test]
fn responses_are_read_by_their_framing() {
    let read = |method: &str, text: &str| Reader::new(text.as_bytes()).response(method);
    assert_eq!(
        read("GET", "HTTP/1.1 200 OK\r\n\r\nabc").unwrap().text(),
        "abc"
    );
    assert_eq!(
        read("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .unwrap()
            .text(),
        ""
    );
    assert_eq!(
        read("GET", "HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n")
            .unwrap()
            .status,
        304
    );
    assert!(read("GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_err());
    assert!(
        read(
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        .is_err()
    );
    assert!(read("GET", "").is_err());
}

#[test]
fn a_server_can_reset_and_a_client_notices_the_close() {
    let server = Upstream::raw(|conn| {
        conn.head()?;
        conn.reset();
        Ok(())
    });
    let mut client = Client::connect(server.addr());
    assert!(!client.is_closed_within(ms(50)));
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.try_response("GET").is_err());
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn a_server_on_a_unix_socket_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let server = Upstream::unix(&path, keep_alive(|_| ok("unix")));
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(Reader::new(stream).response("GET").unwrap().text(), "unix");
    assert_eq!(server.count(), 1);
}

#[test]
fn tls_material_works_and_a_stranger_is_refused() {
    let authority = tls::Authority::new();
    let pair = authority.issue(&["a.test"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wrap = tls::server(&pair, None);
    let server = Upstream::wrapped(listener, wrap, keep_alive(|_| ok("tls")));
    let setup = tls::ClientSetup::trusting(&authority.cert);
    let mut client = Client::tls(server.addr(), "a.test", &setup).unwrap();
    assert_eq!(client.get("a.test", "/").text(), "tls");
    assert_eq!(
        tls::peek(server.addr(), "a.test", &setup).unwrap(),
        tls::der(&pair)
    );
    let stranger = tls::ClientSetup::trusting(&tls::Authority::new().cert);
    assert!(Client::tls(server.addr(), "a.test", &stranger).is_err());
    assert!(Client::tls(server.addr(), "b.test", &setup).is_err());
}

#[test]
fn the_dns_server_answers_what_it_was_told() {
    let dns = Dns::start();
    dns.point("a.test", &["192.0.2.1", "2001:db8::1"], 7);
    let ask = |name: &str| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut packet = simple_dns::Packet::new_query(9);
        let name = simple_dns::Name::new(name).unwrap();
        let class = simple_dns::QCLASS::CLASS(simple_dns::CLASS::IN);
        let kind = simple_dns::QTYPE::TYPE(simple_dns::TYPE::A);
        packet
            .questions
            .push(simple_dns::Question::new(name, kind, class, false));
        socket
            .send_to(&packet.build_bytes_vec().unwrap(), dns.addr)
            .unwrap();
        let mut reply = [0_u8; 512];
        let count = socket.recv(&mut reply).ok()?;
        let reply = simple_dns::Packet::parse(&reply[..count]).unwrap();
        Some((reply.rcode(), reply.answers.len()))
    };
    assert_eq!(ask("a.test"), Some((simple_dns::RCODE::NoError, 1)));
    assert_eq!(ask("b.test"), Some((simple_dns::RCODE::NameError, 0)));
    dns.set("c.test", Answer::Silence);
    assert_eq!(ask("c.test"), None);
    assert_eq!(dns.asked("a.test"), 1);
}

#[test]
fn a_program_is_ended_at_its_limit() {
    let start = Instant::now();
    let output = tool::run("sleep", &["30"], ms(200));
    assert_eq!(output.code, -1);
    assert!(start.elapsed() < Duration::from_secs(10));
    let output = tool::run("sh", &["-c", "echo out; echo err >&2; exit 3"], PATIENCE);
    assert_eq!(
        (output.code, output.out.as_str(), output.err.as_str()),
        (3, "out\n", "err\n")
    );
}

#[test]
fn nginx_serves_as_a_real_peer() {
    let nginx = tool::nginx("server { listen 127.0.0.1:$PORT; location / { return 200 'hi'; } }");
    assert_eq!(client::get(nginx.addr, "h", "/").expect(200).text(), "hi");
    let url = format!("http://{}/", nginx.addr);
    assert_eq!(tool::curl(&[&url]).success().out, "hi");
}

#[test]
fn metrics_of_two_scrapes_are_compared() {
    let text = |a: u32, b: u32| {
        let text =
            format!("# TYPE x_total counter\nx_total{{l=\"a\"}} {a}\n# TYPE g gauge\ng {b}\n");
        support::metrics::Metrics::new(text)
    };
    assert!(text(1, 5).gone_back(&text(1, 2)).is_empty());
    assert_eq!(text(2, 5).gone_back(&text(1, 5)).len(), 1);
    assert_eq!(
        text(2, 5)
            .gone_back(&support::metrics::Metrics::new(String::new()))
            .len(),
        1
    );
    assert!((text(2, 5).sum("x_total", &["l=\"a\""]) - 2.0).abs() < f64::EPSILON);
    assert!(ok("x").ends_with(b"\r\n\r\nx"));
}
