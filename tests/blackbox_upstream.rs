//! Upstreams end to end: pools and stale connections, retries and buffering, balancing, Unix
//! sockets, TLS towards servers, names from DNS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use support::backend::{Conn, keep_alive};
use support::dns::{Answer, Dns};
use support::{
    PATIENCE, Proxyd, Setup, Upstream, client, eventually, ms, ok, respond, tls, to, tool,
};

const LISTENER: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";

/// A proxy with one upstream `app` made of lines, and a route with keys.
fn with_upstream(upstream: &str, route: &str) -> String {
    format!(
        "{LISTENER}[[route]]\nname = \"all\"\nto = \"app\"\n{route}\n[[upstream]]\nname = \"app\"\n{upstream}\n"
    )
}

fn servers(all: &[SocketAddr]) -> String {
    let list: Vec<String> = all.iter().map(|a| format!("\"{a}\"")).collect();
    format!("servers = [{}]", list.join(", "))
}

/// An address that refuses connections.
fn refusing() -> SocketAddr {
    ([127, 0, 0, 1], tool::free_port()).into()
}

// ── pools ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_connection_to_the_server_serves_many_clients() {
    let server = Upstream::says("ok");
    let proxy = Proxyd::to(server.addr());
    for _ in 0..10 {
        proxy.get("a", "/").expect(200);
    }
    assert_eq!(server.count(), 10);
    assert_eq!(server.connections(), 1);
}

#[test]
fn connections_end_by_requests_age_and_idle_time() {
    for (pool, requests) in [
        ("max_requests = 3", 9),
        ("max_age = \"300ms\"", 0),
        ("idle_timeout = \"300ms\"", 0),
    ] {
        let server = Upstream::says("ok");
        let text = with_upstream(
            &format!("{}\npool = {{ {pool} }}", servers(&[server.addr()])),
            "",
        );
        let proxy = Proxyd::start(&text);
        let mut client = proxy.client();
        if requests > 0 {
            for _ in 0..requests {
                client.get("a", "/").expect(200);
            }
        } else {
            for _ in 0..3 {
                client.get("a", "/").expect(200);
                std::thread::sleep(ms(600));
            }
        }
        assert_eq!(server.connections(), 3, "{pool}");
    }
}

#[test]
fn idle_connections_are_bounded() {
    let server = Upstream::http(|_| {
        std::thread::sleep(ms(300));
        ok("ok")
    });
    let text = with_upstream(
        &format!("{}\npool = {{ max_idle = 2 }}", servers(&[server.addr()])),
        "",
    );
    let proxy = Proxyd::start(&text);
    let addr = proxy.web();
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || client::get(addr, "a", "/").expect(200)))
        .collect();
    threads.into_iter().for_each(|t| {
        t.join().unwrap();
    });
    assert!(server.connections() > 2);
    eventually("two stay", PATIENCE, || (server.open() <= 2).then_some(()));
}

#[test]
fn busy_connections_are_bounded_and_requests_queue() {
    let server = Upstream::http(|_| {
        std::thread::sleep(ms(100));
        ok("ok")
    });
    let upstream = format!(
        "{}\npool = {{ max = 2 }}\nqueue = {{ max = 100, timeout = \"10s\" }}",
        servers(&[server.addr()])
    );
    let proxy = Proxyd::start(&with_upstream(&upstream, ""));
    let addr = proxy.web();
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || client::get(addr, "a", "/").expect(200)))
        .collect();
    threads.into_iter().for_each(|t| {
        t.join().unwrap();
    });
    assert_eq!(server.count(), 8);
    assert!(server.connections() <= 2, "{}", server.connections());
}

#[test]
fn a_full_queue_and_a_long_wait_are_a_503() {
    let server = Upstream::http(|_| {
        std::thread::sleep(ms(1500));
        ok("ok")
    });
    let upstream = format!(
        "{}\npool = {{ max = 1 }}\nqueue = {{ max = 1, timeout = \"300ms\" }}",
        servers(&[server.addr()])
    );
    let proxy = Proxyd::start(&with_upstream(&upstream, ""));
    let addr = proxy.web();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::sleep(ms(30));
            std::thread::spawn(move || client::get(addr, "a", "/"))
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let refused: Vec<_> = answers.iter().filter(|r| r.status == 503).collect();
    assert_eq!(
        refused.len(),
        3,
        "{:?}",
        answers.iter().map(|r| r.status).collect::<Vec<_>>()
    );
    assert!(refused.iter().all(|r| r.fields.has("Retry-After")));
    let log = proxy.access_json(4);
    let reasons: Vec<&str> = log.iter().filter_map(|l| l["reason"].as_str()).collect();
    assert!(
        reasons.contains(&"limit.queue_full") && reasons.contains(&"limit.queue_timeout"),
        "{reasons:?}"
    );
}

#[test]
fn a_stale_connection_costs_no_request() {
    // the server closes every connection shortly after its answer
    let server = Upstream::raw(|conn| {
        conn.request()?;
        conn.send(ok("ok"))?;
        std::thread::sleep(ms(50));
        Ok(())
    });
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    for _ in 0..5 {
        client.get("a", "/").expect(200);
        std::thread::sleep(ms(150));
    }
    assert_eq!(server.connections(), 5);
}

#[test]
fn a_connection_that_breaks_under_a_reused_request_is_tried_again_for_idempotent_methods_only() {
    // answers the first request of each connection and resets on the second
    let handler = |conn: &mut Conn| {
        conn.request()?;
        conn.send(ok("ok"))?;
        conn.head()?;
        conn.reset();
        Ok(())
    };
    let server = Upstream::raw(handler);
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    for _ in 0..4 {
        client.get("a", "/").expect(200);
    }
    let server = Upstream::raw(handler);
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    client.get("a", "/").expect(200);
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        .response()
        .expect(502);
}

#[test]
fn a_connection_is_not_reused_when_the_server_says_close() {
    let server = Upstream::http(|_| respond(200, &[("Connection", "close")], "ok"));
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    for _ in 0..3 {
        client.get("a", "/").expect(200);
    }
    assert_eq!(server.connections(), 3);
}

// ── retries and buffering ────────────────────────────────────────────────────────────────────

#[test]
fn a_refused_server_is_passed_over() {
    let server = Upstream::says("ok");
    let text = with_upstream(&servers(&[refusing(), server.addr()]), "");
    let proxy = Proxyd::start(&text);
    let mut client = proxy.client();
    for _ in 0..10 {
        client.get("a", "/").expect(200);
    }
    assert_eq!(server.count(), 10);
    let attempts: Vec<u64> = proxy
        .access_json(10)
        .iter()
        .filter_map(|l| l["attempts"].as_u64())
        .collect();
    assert!(attempts.contains(&2), "{attempts:?}");
    assert!(
        attempts.iter().filter(|a| **a > 1).count() < 10,
        "fail_timeout keeps it out: {attempts:?}"
    );
}

#[test]
fn no_server_left_is_a_502_or_503_with_its_reason() {
    let proxy = Proxyd::start(&with_upstream(&servers(&[refusing()]), ""));
    let response = proxy.get("a", "/");
    assert!([502, 503].contains(&response.status), "{}", response.status);
    let line = &proxy.access_json(1)[0];
    let reason = line["reason"].as_str().unwrap_or_default();
    assert!(
        ["up.connect_failed", "up.no_server"].contains(&reason),
        "{line}"
    );
}

#[test]
fn a_buffered_post_survives_a_server_that_refuses() {
    let server = Upstream::echo();
    let text = with_upstream(
        &servers(&[refusing(), server.addr()]),
        "buffering = { request = \"64KiB\" }",
    );
    let proxy = Proxyd::start(&text);
    let mut client = proxy.client();
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().expect(200).text(), "body");
    }
}

#[test]
fn a_buffered_request_waits_for_its_end_before_a_server_is_used() {
    let server = Upstream::echo();
    let proxy = Proxyd::start(&to(server.addr(), "buffering = { request = \"1MiB\" }"));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    std::thread::sleep(ms(300));
    assert_eq!(server.connections(), 0, "a slow client holds no server");
    client.send("56789");
    assert_eq!(client.response().expect(200).text(), "0123456789");
}

#[test]
fn a_request_above_the_buffer_streams() {
    let server = Upstream::http(|r| ok(r.body.len().to_string()));
    let proxy = Proxyd::start(&to(
        server.addr(),
        "buffering = { request = \"4KiB\" }\nmax_body = \"unlimited\"",
    ));
    let mut client = proxy.client();
    let body = vec![b'x'; 2_000_000];
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    assert_eq!(client.response().expect(200).text(), "2000000");
}

#[test]
fn without_buffering_the_body_streams() {
    let server = Upstream::raw(|conn| {
        let mut request = conn.head()?.unwrap();
        conn.record(&request);
        conn.body(&mut request)?;
        conn.send(ok(&request.body))
    });
    let proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    eventually("the head arrives before the body ends", PATIENCE, || {
        (server.count() == 1).then_some(())
    });
    client.send("56789");
    assert_eq!(client.response().expect(200).text(), "0123456789");
}

#[test]
fn statuses_are_retried_where_the_route_says_so() {
    let failing = Upstream::http(|_| respond(503, &[], "busy"));
    let good = Upstream::says("ok");
    let all = servers(&[failing.addr(), good.addr()]);
    let proxy = Proxyd::start(&with_upstream(
        &all,
        "retry = { attempts = 2, on = [\"connect\", \"503\"], budget = \"100%\" }",
    ));
    let mut client = proxy.client();
    for _ in 0..6 {
        client.get("a", "/").expect(200);
    }
    let posts = (0..4).map(|_| {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.response().status
    });
    let posts: Vec<u16> = posts.collect();
    assert!(posts.contains(&503), "POST is not sent twice: {posts:?}");
    let plain = Proxyd::start(&with_upstream(&all, ""));
    let mut client = plain.client();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("a", "/").status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
}

// ── balancing ────────────────────────────────────────────────────────────────────────────────

#[test]
fn round_robin_follows_weights() {
    let (a, b) = (Upstream::says("a"), Upstream::says("b"));
    let upstream = format!(
        "[[upstream.server]]\nname = \"a\"\naddress = \"{}\"\nweight = 3\n[[upstream.server]]\nname = \"b\"\naddress = \"{}\"\nweight = 1\n",
        a.addr(),
        b.addr()
    );
    let proxy = Proxyd::start(&with_upstream(&upstream, ""));
    let mut client = proxy.client();
    for _ in 0..40 {
        client.get("a", "/").expect(200);
    }
    assert_eq!((a.count(), b.count()), (30, 10));
}

#[test]
fn least_connections_is_exact_over_all_workers() {
    let gate = Arc::new(AtomicBool::new(false));
    let slow = |gate: &Arc<AtomicBool>| {
        let gate = Arc::clone(gate);
        Upstream::http(move |_| {
            let start = Instant::now();
            while !gate.load(Ordering::SeqCst) && start.elapsed() < PATIENCE {
                std::thread::sleep(ms(10));
            }
            ok("ok")
        })
    };
    let all = [slow(&gate), slow(&gate), slow(&gate)];
    let addresses: Vec<SocketAddr> = all.iter().map(Upstream::addr).collect();
    let upstream = format!("{}\nbalance = \"least_connections\"", servers(&addresses));
    let proxy = Setup::new()
        .worker("count = 3")
        .start(&with_upstream(&upstream, ""));
    let addr = proxy.web();
    let threads: Vec<_> = (0..12)
        .map(|n| {
            let thread = std::thread::spawn(move || client::get(addr, "a", "/").expect(200));
            // one after another, so that every choice sees the one before
            eventually("the request arrives", PATIENCE, || {
                (all.iter().map(Upstream::count).sum::<usize>() > n).then_some(())
            });
            thread
        })
        .collect();
    let counts: Vec<usize> = all.iter().map(Upstream::count).collect();
    gate.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|t| {
        t.join().unwrap();
    });
    assert_eq!(counts, [4, 4, 4]);
}

#[test]
fn a_backup_is_used_only_while_the_others_are_out() {
    let backup = Upstream::says("backup");
    let port = tool::free_port();
    let upstream = format!(
        "[[upstream.server]]\nname = \"main\"\naddress = \"127.0.0.1:{port}\"\nfail_timeout = \"500ms\"\n\
         [[upstream.server]]\nname = \"spare\"\naddress = \"{}\"\nbackup = true\n",
        backup.addr()
    );
    let proxy = Proxyd::start(&with_upstream(&upstream, ""));
    assert_eq!(proxy.get("a", "/").expect(200).text(), "backup");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let _main = Upstream::on(listener, keep_alive(|_| ok("main")));
    eventually("the server is used again", PATIENCE, || {
        (proxy.get("a", "/").expect(200).text() == "main").then_some(())
    });
}

// ── transports ───────────────────────────────────────────────────────────────────────────────

#[test]
fn a_server_can_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let server = Upstream::unix(&path, keep_alive(|_| ok("unix")));
    for file in [folder.path(), path.as_path()] {
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
    }
    let text = format!("{LISTENER}[[route]]\nto = \"unix:{}\"\n", path.display());
    let proxy = Proxyd::start(&text);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("a", "/").expect(200).text(), "unix");
    }
    assert_eq!(server.connections(), 1);
}

struct Secure {
    authority: tls::Authority,
    server: Upstream,
    folder: tempfile::TempDir,
}

/// A TLS server for `app.test`; asks for client certificates when told.
fn secure(clients: bool) -> Secure {
    let authority = tls::Authority::new();
    let pair = authority.issue(&["app.test"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wrap = tls::server(&pair, clients.then_some(authority.cert.as_str()));
    let server = Upstream::wrapped(listener, wrap, keep_alive(|_| ok("tls")));
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    std::fs::write(folder.path().join("ca.pem"), &authority.cert).unwrap();
    Secure {
        authority,
        server,
        folder,
    }
}

impl Secure {
    fn proxy(&self, tls: &str, more: &str) -> Proxyd {
        let ca = self.folder.path().join("ca.pem");
        let tls = tls.replace("$CA", ca.to_str().unwrap());
        let upstream = format!(
            "{}\n[upstream.tls]\nenabled = true\n{tls}\n{more}",
            servers(&[self.server.addr()])
        );
        Proxyd::start(&with_upstream(&upstream, ""))
    }
}

#[test]
fn servers_are_verified_by_default() {
    let secure = secure(false);
    for (keys, status) in [
        ("ca = \"$CA\"\nsni = \"app.test\"", 200),
        ("sni = \"app.test\"", 502),
        ("ca = \"$CA\"\nsni = \"other.test\"", 502),
        ("ca = \"$CA\"", 502),
        ("ca = \"$CA\"\nverify = \"ca\"\nsni = \"other.test\"", 200),
        ("verify = \"off\"", 200),
        (
            "verify = \"pin:sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\nsni = \"app.test\"",
            502,
        ),
    ] {
        let proxy = secure.proxy(keys, "");
        let response = proxy.get("a", "/");
        assert_eq!(response.status, status, "{keys}");
        if status == 502 {
            let line = &proxy.access_json(1)[0];
            assert_eq!(line["reason"], "up.tls_failed", "{line}");
        }
    }
}

#[test]
fn a_pin_alone_is_enough() {
    let secure = secure(false);
    let pem = secure.folder.path().join("leaf.pem");
    let setup = tls::ClientSetup::trusting(&secure.authority.cert);
    let der = tls::peek(secure.server.addr(), "app.test", &setup).unwrap();
    std::fs::write(&pem, der).unwrap();
    let script = format!(
        "openssl x509 -inform der -in {} -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        pem.display()
    );
    let pin = tool::run("sh", &["-c", &script], PATIENCE).success().out;
    let proxy = secure.proxy(
        &format!("verify = \"pin:sha256/{}\"\nsni = \"app.test\"", pin.trim()),
        "",
    );
    proxy.get("a", "/").expect(200);
}

#[test]
fn a_client_certificate_is_shown_to_the_server() {
    let secure = secure(true);
    let pair = secure.authority.issue_with(&["proxy.test"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (cert, key) = pair.write(secure.folder.path(), "client");
    let certificate = format!(
        "[[certificate]]\nname = \"client\"\ncert = \"{}\"\nkey = \"{}\"\n",
        cert.display(),
        key.display()
    );
    let keys = "ca = \"$CA\"\nsni = \"app.test\"";
    secure.proxy(keys, "").get("a", "/").expect(502);
    let proxy = secure.proxy(
        &format!("{keys}\nclient_certificate = \"client\""),
        &certificate,
    );
    proxy.get("a", "/").expect(200);
}

// ── names ────────────────────────────────────────────────────────────────────────────────────

fn by_name(dns: &Dns, port: u16, keys: &str) -> String {
    format!(
        "[dns]\nservers = [\"{}\"]\n{keys}\n{LISTENER}[[route]]\nto = \"app\"\n[[upstream]]\nname = \"app\"\nservers = [\"app.test:{port}\"]\n",
        dns.addr
    )
}

#[test]
fn names_are_resolved_and_followed_by_their_time_to_live() {
    let dns = Dns::start();
    // two servers on the same port of different loopback addresses
    let first = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = std::net::TcpListener::bind(("127.0.0.3", port)).unwrap();
    let _first = Upstream::on(first, keep_alive(|_| ok("first")));
    let _second = Upstream::on(second, keep_alive(|_| ok("second")));
    dns.point("app.test", &["127.0.0.2"], 1);
    let proxy = Proxyd::start(&by_name(&dns, port, ""));
    assert_eq!(proxy.get("a", "/").expect(200).text(), "first");
    dns.point("app.test", &["127.0.0.3"], 1);
    eventually("the new address is used", PATIENCE, || {
        (proxy.get("a", "/").expect(200).text() == "second").then_some(())
    });
}

#[test]
fn the_last_good_answer_is_kept_while_dns_fails() {
    let dns = Dns::start();
    let server = Upstream::says("ok");
    dns.point("app.test", &["127.0.0.1"], 1);
    let proxy = Proxyd::start(&by_name(&dns, server.port(), ""));
    proxy.get("a", "/").expect(200);
    dns.set("app.test", Answer::Failure);
    let asked = dns.asked("app.test");
    eventually("it is asked again", PATIENCE, || {
        proxy.get("a", "/").expect(200);
        (dns.asked("app.test") > asked + 2).then_some(())
    });
    proxy.get("a", "/").expect(200);
}

#[test]
fn the_proxy_starts_without_dns_and_recovers() {
    let dns = Dns::start();
    dns.set("app.test", Answer::Silence);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&by_name(&dns, server.port(), ""));
    let response = proxy.get("a", "/");
    assert!(
        [502, 503, 504].contains(&response.status),
        "{}",
        response.status
    );
    dns.point("app.test", &["127.0.0.1"], 60);
    eventually("the name resolves", PATIENCE * 2, || {
        (proxy.get("a", "/").status == 200).then_some(())
    });
}

#[test]
fn every_address_of_a_name_is_a_server() {
    let dns = Dns::start();
    let first = std::net::TcpListener::bind("127.0.0.4:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = std::net::TcpListener::bind(("127.0.0.5", port)).unwrap();
    let hits = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let counting = |hits: &Arc<AtomicUsize>| {
        let hits = Arc::clone(hits);
        keep_alive(move |_| {
            hits.fetch_add(1, Ordering::SeqCst);
            ok("ok")
        })
    };
    let _first = Upstream::on(first, counting(&hits[0]));
    let _second = Upstream::on(second, counting(&hits[1]));
    dns.point("app.test", &["127.0.0.4", "127.0.0.5"], 60);
    let proxy = Proxyd::start(&by_name(&dns, port, ""));
    let mut client = proxy.client();
    for _ in 0..10 {
        client.get("a", "/").expect(200);
    }
    assert!(
        hits.iter().all(|h| h.load(Ordering::SeqCst) >= 3),
        "{hits:?}"
    );
}
