//! Limits and deadlines end to end: sizes, counts, and peers that are too slow in every way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Proxyd, Setup, Upstream, client, eventually, ms, ok, to, tool};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A listener with keys, and a route to a server.
fn listener(server: &Upstream, keys: &str, route: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{keys}\n[[route]]\nname = \"all\"\nto = \"{}\"\n{route}\n",
        server.addr()
    )
}

/// The reason in the last line of the access log.
#[track_caller]
fn reason(proxy: &Proxyd) -> String {
    let lines = proxy.access_json(1);
    lines.last().unwrap()["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

// ── sizes ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn heads_are_bounded_with_the_right_status() {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    let long = |count: usize| "x".repeat(count);
    for (name, status, bytes) in [
        (
            "request line",
            414,
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(9000)),
        ),
        (
            "field line",
            431,
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(9000)),
        ),
        (
            "head",
            431,
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                format!("X: {}\r\n", long(4000)).repeat(9)
            ),
        ),
        (
            "fields",
            431,
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(101)
            ),
        ),
    ] {
        let mut client = proxy.client();
        client.try_send(&bytes).ok();
        let response = client
            .try_response("GET")
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(response.status, status, "{name}");
        assert!(client.is_closed_within(PATIENCE), "{name}");
    }
    assert_eq!(server.count(), 0);
    let close = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n{}\r\n",
        long(8000),
        "X: y\r\n".repeat(98)
    );
    client::send(proxy.web(), close).expect(200);
}

#[test]
fn an_endless_head_costs_one_bounded_answer() {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    let piece = format!("X: {}\r\n", "y".repeat(1000));
    let mut sent = client.try_send("GET / HTTP/1.1\r\nHost: a\r\n").is_ok();
    for _ in 0..1000 {
        sent = sent && client.try_send(&piece).is_ok();
    }
    let status = client.try_response("GET").map(|r| r.status);
    assert!(!matches!(status, Ok(code) if code != 431), "{status:?}");
    assert_eq!(proxy.get("a", "/").status, 200);
}

#[test]
fn bodies_are_bounded_by_the_route() {
    let server = Upstream::echo();
    let proxy = Proxyd::start(&listener(&server, "", "max_body = \"1KiB\""));
    let mut client = proxy.client();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n")
        .send("x".repeat(1024));
    client.response().expect(200);
    let over = client::send(
        proxy.web(),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{}",
            "x".repeat(1025)
        ),
    );
    over.expect(413);
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let mut client = proxy.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    ));
    client.try_send(format!("{chunk}0\r\n\r\n")).ok();
    client.response().expect(413);
    assert_eq!(
        server.count(),
        1,
        "an over-long body is never complete at the server"
    );
    assert_eq!(reason(&proxy), "req.body_too_large");
}

#[test]
fn limits_of_the_listener_can_be_set() {
    let server = Upstream::echo();
    let keys = "limits = { request_line = \"64B\", field_line = \"100B\", fields = 3 }";
    let proxy = Proxyd::start(&listener(&server, keys, ""));
    let path = "x".repeat(80);
    client::send(
        proxy.web(),
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"),
    )
    .expect(414);
    client::send(
        proxy.web(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {path}{path}\r\n\r\n"),
    )
    .expect(431);
    client::send(
        proxy.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nX: 3\r\n\r\n",
    )
    .expect(431);
    proxy.get("a", "/").expect(200);
}

#[test]
fn large_responses_heads_are_a_502() {
    let server = Upstream::http(|_| {
        format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
            "y".repeat(40_000)
        )
        .into_bytes()
    });
    let proxy = Proxyd::to(server.addr());
    proxy.get("a", "/").expect(502);
    assert_eq!(reason(&proxy), "up.bad_head");
}

// ── counts ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_client_connection_carries_a_bounded_number_of_requests() {
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&listener(&server, "keepalive = { requests = 3 }", ""));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert!(!client.get("a", "/").expect(200).fields.has("connection"));
    }
    assert_eq!(
        client.get("a", "/").expect(200).fields.get("connection"),
        Some("close")
    );
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn one_address_holds_a_bounded_number_of_connections() {
    let server = Upstream::says("ok");
    let proxy = Setup::new().worker("count = 1").start(&listener(
        &server,
        "max_connections_per_ip = 3",
        "",
    ));
    let mut held: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.get("a", "/").expect(200);
    }
    let mut refused = proxy.client();
    refused.try_send(GET).ok();
    let answer = refused.try_response("GET").map(|r| r.status);
    assert!(!matches!(answer, Ok(200)), "{answer:?}");
    drop(held.pop());
    eventually("a place is free again", PATIENCE, || {
        proxy
            .client()
            .try_get("a", "/")
            .ok()
            .filter(|r| r.status == 200)
    });
}

#[test]
fn at_the_connection_limit_new_ones_wait_and_the_others_go_on() {
    let server = Upstream::says("ok");
    let proxy = Setup::new()
        .worker("count = 1\nmax_connections = 4")
        .start(&listener(&server, "", ""));
    let mut held: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.get("a", "/").expect(200);
    }
    let mut waiting = proxy.client();
    waiting.send(GET);
    waiting.patience(ms(400));
    let early = waiting
        .try_response("GET")
        .map(|r| r.status)
        .map_err(|e| e.kind());
    assert!(
        matches!(
            early,
            Ok(503)
                | Err(std::io::ErrorKind::WouldBlock
                    | std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::ConnectionReset)
        ),
        "{early:?}"
    );
    for client in &mut held {
        client.get("a", "/").expect(200);
    }
    held.clear();
    eventually("new connections are served", PATIENCE, || {
        proxy
            .client()
            .try_get("a", "/")
            .ok()
            .filter(|r| r.status == 200)
    });
}

#[test]
fn out_of_descriptors_the_rest_goes_on() {
    let server = Upstream::says("ok");
    let proxy = Setup::new()
        .worker("count = 1\nopen_files = 64")
        .start(&listener(&server, "", ""));
    let mut first = proxy.client();
    first.get("a", "/").expect(200);
    let mut flood = Vec::new();
    for _ in 0..150 {
        if let Ok(client) = Client::try_connect(proxy.web()) {
            flood.push(client);
        }
    }
    first.get("a", "/").expect(200);
    let cpu = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let rest: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|v| v.parse().unwrap())
            .collect();
        rest[0] + rest[1]
    };
    let worker = proxy.worker();
    let before = cpu(worker);
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu(worker) - before < 60, "the worker spins at the limit");
    drop(flood);
    eventually("it recovers", PATIENCE, || {
        proxy
            .client()
            .try_get("a", "/")
            .ok()
            .filter(|r| r.status == 200)
    });
    assert_eq!(proxy.worker(), worker, "nothing crashed");
}

// ── slow clients ─────────────────────────────────────────────────────────────────────────────

/// How long it takes until the proxy ends the connection.
fn until_closed(client: &mut Client) -> Duration {
    let start = Instant::now();
    let _ = client.read_to_end();
    start.elapsed()
}

#[test]
fn slowloris_ends_at_the_total_time_of_the_head() {
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&listener(
        &server,
        "timeouts = { request_header = \"1s\" }",
        "",
    ));
    let mut client = proxy.client();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\n");
    let mut alive = true;
    while alive && start.elapsed() < PATIENCE {
        // every byte arrives in time, the head never does
        alive = client.try_send("X").is_ok() && !client.is_closed_within(ms(100));
        if start.elapsed() > ms(1900) {
            break;
        }
    }
    let took = start.elapsed();
    assert!(took >= ms(900), "{took:?}");
    eventually("it is logged", PATIENCE, || {
        (reason(&proxy) == "client.head_timeout").then_some(())
    });
}

#[test]
fn a_late_head_gets_a_408_and_silence_gets_nothing() {
    let server = Upstream::says("ok");
    let keys =
        "timeouts = { request_header = \"500ms\", first_byte = \"500ms\", idle = \"500ms\" }";
    let proxy = Proxyd::start(&listener(&server, keys, ""));
    client::send(proxy.web(), "GET / HT").expect(408);
    let mut silent = proxy.client();
    assert_eq!(silent.read_to_end().unwrap(), b"");
    let mut idle = proxy.client();
    idle.get("a", "/").expect(200);
    let start = Instant::now();
    assert_eq!(idle.read_to_end().unwrap(), b"");
    assert!(
        (ms(300)..ms(5000)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_body_that_stops_gets_a_408() {
    let server = Upstream::echo();
    let proxy = Proxyd::start(&to(
        server.addr(),
        "timeouts = { request_body = \"500ms\" }",
    ));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    client.response().expect(408);
    assert!(client.is_closed_within(PATIENCE));
    assert_eq!(reason(&proxy), "client.body_timeout");
    assert_eq!(server.count(), 0);
}

#[test]
fn a_body_that_drips_ends_by_its_rate() {
    let server = Upstream::echo();
    let keys = "limits = { min_rate = \"500B/s\", min_rate_request_grace = \"1s\" }";
    let proxy = Proxyd::start(&listener(
        &server,
        keys,
        "timeouts = { request_body = \"5s\" }",
    ));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(16) {
        if client.try_send("x").is_err() || client.is_closed_within(ms(100)) {
            break;
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "the drip was never ended"
    );
    eventually("it is logged", PATIENCE, || {
        (reason(&proxy) == "client.body_too_slow").then_some(())
    });
}

#[test]
fn a_client_that_stops_reading_is_cut() {
    let server = Upstream::http(|_| ok(vec![b'x'; 30_000_000]));
    let proxy = Proxyd::start(&to(server.addr(), "timeouts = { client_write = \"1s\" }"));
    let mut client = proxy.client();
    client.send(GET);
    client.read(100);
    eventually("the server side is released", PATIENCE, || {
        let log = proxy.access_log();
        log.iter()
            .any(|l| l.contains("client.write_timeout"))
            .then_some(())
    });
    let took = until_closed(&mut client);
    assert!(took < PATIENCE, "{took:?}");
}

// ── slow servers ─────────────────────────────────────────────────────────────────────────────

#[test]
fn servers_have_deadlines_too() {
    let server = Upstream::raw(|conn| {
        let request = conn.request()?.unwrap();
        match request.target.as_str() {
            "/silent" => std::thread::sleep(Duration::from_secs(5)),
            "/stalls" => {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")?;
                std::thread::sleep(Duration::from_secs(5));
            }
            _ => {
                for byte in b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyyyyyyy\r\n\r\n" {
                    conn.send([*byte])?;
                    std::thread::sleep(ms(100));
                }
            }
        }
        Ok(())
    });
    let keys = "timeouts = { response_header = \"700ms\", response_body = \"700ms\" }";
    let proxy = Proxyd::start(&to(server.addr(), keys));
    for path in ["/silent", "/drips"] {
        let start = Instant::now();
        proxy.get("a", path).expect(504);
        assert!(
            (ms(600)..ms(4000)).contains(&start.elapsed()),
            "{path}: {:?}",
            start.elapsed()
        );
        assert_eq!(reason(&proxy), "up.response_timeout", "{path}");
    }
    let mut client = proxy.client();
    let start = Instant::now();
    client.send("GET /stalls HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").is_err());
    assert!(start.elapsed() < ms(4000), "{:?}", start.elapsed());
    eventually("it is logged", PATIENCE, || {
        (reason(&proxy) == "up.stalled").then_some(())
    });
}

#[test]
fn connecting_has_a_deadline() {
    // a listener whose queue is full: further connections hang
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, ms(200)) {
        fill.push(stream);
        assert!(fill.len() < 64);
    }
    let proxy = Proxyd::start(&to(
        addr,
        "timeouts = { connect = \"500ms\" }\nretry = { attempts = 0 }",
    ));
    let start = Instant::now();
    proxy.get("a", "/").expect(504);
    assert!(start.elapsed() < ms(5000), "{:?}", start.elapsed());
    assert_eq!(reason(&proxy), "up.connect_timeout");
}

#[test]
fn a_total_time_bounds_the_exchange() {
    let server = Upstream::raw(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        for _ in 0..50 {
            conn.send("x")?;
            std::thread::sleep(ms(100));
        }
        Ok(())
    });
    let proxy = Proxyd::start(&to(
        server.addr(),
        "timeouts = { connect = \"500ms\", total = \"1s\" }",
    ));
    let mut client = proxy.client();
    let start = Instant::now();
    client.send(GET);
    assert!(client.try_response("GET").is_err());
    assert!(
        (ms(700)..ms(4000)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_idle_tunnel_ends() {
    let server = Upstream::raw(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        while let Ok(bytes) = conn.some() {
            if bytes.is_empty() {
                break;
            }
            conn.send(bytes)?;
        }
        Ok(())
    });
    let proxy = Proxyd::start(&to(
        server.addr(),
        "timeouts = { upgraded_idle = \"700ms\" }",
    ));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    client.response().expect(101);
    for _ in 0..4 {
        std::thread::sleep(ms(400));
        assert_eq!(client.send("x").read(1), b"x", "traffic keeps it open");
    }
    let took = until_closed(&mut client);
    assert!((ms(400)..ms(5000)).contains(&took), "{took:?}");
}

#[test]
fn memory_stays_bounded_for_a_large_streamed_upload() {
    let server = Upstream::raw(|conn| {
        conn.head()?;
        std::thread::sleep(ms(1000));
        let mut total = 0;
        while total < 100_000_000 {
            let bytes = conn.some()?;
            if bytes.is_empty() {
                break;
            }
            total += bytes.len();
        }
        conn.send(ok(total.to_string()))
    });
    let proxy = Proxyd::start(&to(server.addr(), "max_body = \"unlimited\""));
    let worker = proxy.worker();
    let rss = || -> u64 {
        support::proxyd::status_line(worker, "VmRSS")
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let before = rss();
    let mut client = proxy.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let block = vec![b'x'; 1_000_000];
    let mut peak = before;
    for _ in 0..100 {
        client.send(&block);
        peak = peak.max(rss());
    }
    assert_eq!(client.response().expect(200).text(), "100000000");
    assert!(peak - before < 8 * 1024, "from {before} KiB to {peak} KiB");
}

#[test]
fn curl_is_told_the_right_things_at_the_limits() {
    let server = Upstream::echo();
    let proxy = Proxyd::start(&listener(&server, "", "max_body = \"10KiB\""));
    let url = format!("http://{}/", proxy.web());
    let file = proxy.file("big");
    std::fs::write(&file, vec![b'x'; 5_000_000]).unwrap();
    let data = format!("@{}", file.display());
    let args = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--data-binary",
        &data,
        &url,
    ];
    let output = tool::curl(&args);
    assert_eq!(
        output.out, "413",
        "curl gets the response and no reset: {}",
        output.err
    );
}
