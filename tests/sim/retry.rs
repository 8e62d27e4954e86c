//! When a request is sent once more, and when it must not be (http-rules §15).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::house::{Proxy, Watch, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Message, Server, next, ok, response};
use proxyd::base::reason::Reason;
use proxyd::rt::sim::net;

const APP: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";
const BOTH: &str = "servers = [\"10.0.0.1:80\", \"10.0.0.2:80\"]";

/// A server that answers the first request of each connection and breaks off at the second.
fn fickle(addr: &str, reset: bool) -> Server {
    Server::raw(addr, move |mut peer, seen| async move {
        if next(&mut peer, &seen).await.is_none() || !peer.send(ok("first")).await {
            return;
        }
        if next(&mut peer, &seen).await.is_some() && reset {
            peer.reset();
        }
    })
}

#[test]
fn a_refused_connection_leads_to_another_server() {
    with_seeds(|seed| async move {
        let proxy = Proxy::with_upstream(BOTH, "", "", seed);
        let server = Server::http(TWO, |request| ok(request.text()));
        let mut client = Client::new().await;
        for n in 0..6 {
            let answer = client.post("/", b"body").await.unwrap();
            assert_eq!((answer.status(), answer.text()), (200, "body"), "{n}");
        }
        assert_eq!(server.seen.count(), 6);
        assert!(proxy.house.upstreams[0].metrics.retries.get() >= 1);
        // With nobody left it is the failure that is told.
        drop(server);
        sleep_s(60).await;
        let mut client = Client::new().await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.reason(), "up.connect_failed");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_kept_connection_that_breaks_is_replaced_for_idempotent_requests() {
    with_seeds(|seed| async move {
        for reset in [false, true] {
            let proxy = Proxy::to(&[APP], "", "", seed);
            let server = fickle(APP, reset);
            let mut client = Client::new().await;
            for n in 0..4 {
                let answer = client.get(&format!("/{n}")).await.unwrap();
                assert_eq!((answer.status(), answer.text()), (200, "first"), "{n}");
            }
            assert_eq!(server.seen.connections.get(), 4);
            assert_eq!(
                proxy.server(0).metrics.failures.get(),
                0,
                "it is no fault of the server"
            );
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn what_may_have_been_done_is_not_done_again() {
    with_seeds(|seed| async move {
        for (line, fields) in [
            ("POST /", "Content-Length: 1\r\n"),
            ("PATCH /", "Content-Length: 1\r\n"),
            ("BREW /", ""),
        ] {
            let proxy = Proxy::to(&[APP], "", "", seed);
            let server = fickle(APP, seed % 2 == 0);
            let mut client = Client::new().await;
            assert_eq!(client.get("/").await.unwrap().status(), 200);
            let body = if fields.is_empty() { "" } else { "x" };
            client.request(line, fields, body).await;
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.reason()),
                (502, "up.reset"),
                "{line}"
            );
            assert_eq!(server.seen.count(), 2, "{line}");
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn many_dead_connections_cost_one_retry() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let doors = Rc::new(Cell::new(true));
        let shut = Rc::clone(&doors);
        let _server = Server::raw(APP, move |mut peer, seen| {
            let shut = Rc::clone(&shut);
            async move {
                let mut used = false;
                while next(&mut peer, &seen).await.is_some() {
                    if used && !shut.get() {
                        // All connections of before the change are dead, and nobody can tell.
                        return;
                    }
                    used = true;
                    sleep_ms(50).await;
                    peer.send(ok("")).await;
                }
            }
        });
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = Client::new().await;
            client.request("GET /", "", "").await;
            clients.push(client);
        }
        for client in &mut clients {
            client.response().await.unwrap();
        }
        assert_eq!(proxy.server(0).metrics.idle.get(), 6);
        doors.set(false);
        let mut client = clients.pop().unwrap();
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        assert_eq!(proxy.house.upstreams[0].metrics.retries.get(), 1);
        drop((client, clients));
        proxy.assert_over().await;
    });
}

#[test]
fn a_fresh_connection_that_breaks_is_not_tried_again() {
    with_seeds(|seed| async move {
        let proxy = Proxy::with_upstream(BOTH, "", "", seed);
        let bad = |addr| {
            Server::raw(addr, |mut peer, seen| async move {
                next(&mut peer, &seen).await;
            })
        };
        let (one, two) = (bad(APP), bad(TWO));
        let mut client = Client::new().await;
        let answer = client.get("/deadly").await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (502, "up.reset"));
        assert_eq!(
            one.seen.count() + two.seen.count(),
            1,
            "it kills one server, not all"
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_kept_body_is_sent_again_byte_for_byte() {
    with_seeds(|seed| async move {
        let route = "buffering = { request = \"64KiB\" }\nretry = { on = [\"503\"] }";
        let proxy = Proxy::with_upstream(BOTH, "", route, seed);
        let no = |_: &Message| response("503 Busy", "", b"busy");
        let (one, two) = (Server::http(APP, no), Server::http(TWO, no));
        let mut client = Client::new().await;
        let body: Vec<u8> = (0..50_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        for chunked in [false, true] {
            let fields = if chunked {
                "Transfer-Encoding: chunked\r\n".to_owned()
            } else {
                format!("Content-Length: {}\r\n", body.len())
            };
            let sent = if chunked {
                [
                    format!("{:x}\r\n", body.len()).as_bytes(),
                    &body,
                    b"\r\n0\r\n\r\n",
                ]
                .concat()
            } else {
                body.clone()
            };
            client.request("PUT /", &fields, sent).await;
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.text()),
                (503, "busy"),
                "the last one is passed on"
            );
            assert_eq!(
                (&one.seen.last().body, &two.seen.last().body),
                (&body, &body)
            );
        }
        assert_eq!((one.seen.count(), two.seen.count()), (2, 2));
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_status_is_tried_elsewhere_only_if_there_is_somewhere_else() {
    with_seeds(|seed| async move {
        let route = "retry = { on = [\"503\"] }";
        let proxy = Proxy::with_upstream(BOTH, "", route, seed);
        let one = Server::http(APP, |_| response("503 Busy", "", b"busy"));
        let two = Server::http(TWO, |request| match request.second_word() {
            "/500" => response("500 Bug", "", b"bug"),
            _ => ok("two"),
        });
        let mut client = Client::new().await;
        for _ in 0..4 {
            assert_eq!(client.get("/").await.unwrap().text(), "two");
        }
        let before = one.seen.count();
        // Not idempotent: the answer of whoever was asked is passed on.
        let mut busy = 0;
        for _ in 0..4 {
            busy += usize::from(client.post("/", b"x").await.unwrap().text() == "busy");
        }
        assert_eq!((busy, one.seen.count() - before), (2, 2));
        // A body that was streamed cannot be sent again.
        client
            .request("PUT /", "Content-Length: 100000\r\n", [b'x'; 100_000])
            .await;
        let first = client.response().await.unwrap();
        client
            .request("PUT /", "Content-Length: 100000\r\n", [b'x'; 100_000])
            .await;
        let second = client.response().await.unwrap();
        let mut texts = [first.text(), second.text()];
        texts.sort_unstable();
        assert_eq!(texts, ["busy", "two"]);
        drop((client, one, two));
        proxy.assert_over().await;
        drop(proxy);
        sleep_ms(60).await;
        let proxy = Proxy::to(&[APP], "", route, seed);
        let _one = Server::http(APP, |_| response("503 Busy", "Retry-After: 7\r\n", b"busy"));
        let mut client = Client::new().await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.text(), answer.field("retry-after")),
            ("busy", Some("7"))
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_timeout_is_tried_elsewhere_if_the_route_says_so() {
    with_seeds(|seed| async move {
        let route = "retry = { on = [\"timeout\"] }\ntimeouts = { response_header = \"3s\" }";
        let proxy = Proxy::with_upstream(BOTH, "", route, seed);
        let _slow = Server::raw(APP, |mut peer, _| async move {
            peer.rest().await;
        });
        let _two = Server::good(TWO);
        let mut slow = 0;
        for _ in 0..4 {
            let mut client = Client::new().await;
            let watch = Watch::start();
            assert_eq!(client.get("/").await.unwrap().text(), "good");
            slow += u32::from(watch.elapsed() > Duration::from_secs(2));
        }
        assert!(slow >= 1);
        proxy.assert_over().await;
    });
}

#[test]
fn retries_cannot_multiply_an_outage() {
    with_seeds(|seed| async move {
        let route = "retry = { on = [\"503\"], budget = \"20%\" }";
        let proxy = Proxy::with_upstream(BOTH, "", route, seed);
        let no = |_: &Message| response("503 Busy", "", b"");
        let (one, two) = (Server::http(APP, no), Server::http(TWO, no));
        let mut client = Client::new().await;
        for _ in 0..100 {
            assert_eq!(client.get("/").await.unwrap().status(), 503);
        }
        let extra = one.seen.count() + two.seen.count() - 100;
        assert_eq!(extra, 20, "20 % of 100 requests");
        assert_eq!(proxy.house.upstreams[0].metrics.retries.get(), 20);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn attempts_are_counted() {
    with_seeds(|seed| async move {
        let upstream =
            "servers = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\", \"10.0.0.4:80\"]";
        for (route, attempts) in [
            ("retry = { on = [\"503\"] }", 3),
            ("retry = { on = [\"503\"], attempts = 1 }", 2),
            ("retry = { on = [\"503\"], attempts = 0 }", 1),
        ] {
            let proxy = Proxy::with_upstream(upstream, "", route, seed);
            let servers: Vec<Server> = (1..=4)
                .map(|n| Server::http(&format!("10.0.0.{n}:80"), |_| response("503 No", "", b"")))
                .collect();
            let mut client = Client::new().await;
            client.get("/").await.unwrap();
            let seen: Vec<usize> = servers.iter().map(|server| server.seen.count()).collect();
            assert_eq!(seen.iter().sum::<usize>(), attempts);
            assert!(
                seen.iter().all(|count| *count <= 1),
                "each time another one: {seen:?}"
            );
            drop((client, servers));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn nobody_is_asked_for_a_client_that_has_gone() {
    with_seeds(|seed| async move {
        let route = "timeouts = { connect = \"3s\" }";
        let proxy = Proxy::with_upstream(BOTH, "", route, seed);
        net().black_hole(APP.parse().unwrap());
        net().black_hole(TWO.parse().unwrap());
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        sleep_s(1).await;
        net().heal(APP.parse().unwrap());
        net().heal(TWO.parse().unwrap());
        let (one, two) = (Server::good(APP), Server::good(TWO));
        client.0.reset();
        sleep_s(10).await;
        assert_eq!((one.seen.count(), two.seen.count()), (0, 0));
        assert_eq!(proxy.reasons(Reason::ClientGone), 1);
        proxy.assert_over().await;
    });
}

#[test]
fn a_response_that_has_begun_is_never_tried_again() {
    with_seeds(|seed| async move {
        let proxy = Proxy::with_upstream(BOTH, "", "", seed);
        let half = |addr| {
            Server::raw(addr, |mut peer, seen| async move {
                if next(&mut peer, &seen).await.is_some() {
                    peer.send(ok("whole")).await;
                }
                if next(&mut peer, &seen).await.is_some() {
                    peer.send("HTTP/1.1 200 O").await;
                }
            })
        };
        let (one, two) = (half(APP), half(TWO));
        let mut client = Client::new().await;
        for _ in 0..2 {
            assert_eq!(client.get("/").await.unwrap().text(), "whole");
        }
        let answer = client.get("/").await;
        match answer {
            Ok(answer) => assert_eq!((answer.status(), answer.reason()), (502, "up.reset")),
            Err(broken) => assert_eq!(broken, Broken::Reset),
        }
        assert_eq!(one.seen.count() + two.seen.count(), 3);
        drop(client);
        proxy.assert_over().await;
    });
}
