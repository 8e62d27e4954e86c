//! Every deadline that a server can run into (http-rules §21), and the total of a request.

use std::time::Duration;

use proxyd::base::reason::Reason;
use proxyd::metric::label::Limit;
use proxyd::rt;
use proxyd::rt::sim::net;

use super::house::{Proxy, Watch, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Kind, Server, next, ok};

const S: fn(u64) -> Duration = Duration::from_secs;
const APP: &str = "10.0.0.1:80";

#[test]
fn connecting_has_a_deadline() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        net().black_hole(APP.parse().unwrap());
        let mut client = Client::new().await;
        let watch = Watch::start();
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, "up.connect_timeout")
        );
        watch.assert_took(S(3));
        proxy.assert_quiet();
        net().heal(APP.parse().unwrap());
        let _server = Server::good(APP);
        client.assert_works().await;
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_response_head_has_a_total() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "timeouts = { response_header = \"5s\" }", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            let request = next(&mut peer, &seen).await.unwrap();
            if request.second_word() == "/works" {
                peer.send(ok("fine")).await;
                return;
            }
            // A byte now and then keeps no deadline away.
            let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100));
            peer.drip(head.as_bytes(), 1, Duration::from_millis(300))
                .await;
        });
        let mut client = Client::new().await;
        let mut other = Client::new().await;
        let watch = Watch::start();
        client.request("GET /", "", "").await;
        sleep_s(1).await;
        other.assert_works().await;
        let answer = client.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, "up.response_timeout")
        );
        watch.assert_took(S(5));
        sleep_ms(700).await;
        assert_eq!(server.seen.open.get(), 0, "the server is let go");
        client.assert_works().await;
        drop((client, other));
        proxy.assert_over().await;
    });
}

#[test]
fn the_time_for_the_head_begins_when_the_request_was_sent() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "timeouts = { response_header = \"5s\" }", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.rest().await;
        });
        let mut client = Client::new().await;
        client
            .request("POST /", "Content-Length: 8000\r\n", "")
            .await;
        assert!(client.drip(&[b'x'; 8000], 1000, S(1)).await);
        let watch = Watch::start();
        assert_eq!(client.response().await.unwrap().status(), 504);
        watch.assert_took(S(4));
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_response_body_that_stops_is_cut() {
    with_seeds(|seed| async move {
        for framing in [
            "Content-Length: 5000",
            "Transfer-Encoding: chunked",
            "X: until-close",
        ] {
            for version in ["1.1", "1.0"] {
                let proxy = Proxy::to(&[APP], "", "timeouts = { response_body = \"7s\" }", seed);
                let server = Server::raw(APP, move |mut peer, seen| async move {
                    next(&mut peer, &seen).await;
                    let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
                    peer.send(head).await;
                    sleep_s(6).await;
                    peer.send("3\r\nabc\r\n").await;
                    peer.rest().await;
                });
                let mut client = Client::new().await;
                client
                    .send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
                    .await;
                let watch = Watch::start();
                client.head().await.unwrap();
                let (_, end) = client.rest().await;
                assert_eq!(end, Broken::Reset, "{framing} {version}");
                watch.assert_took(S(13));
                assert_eq!(proxy.reasons(Reason::UpstreamStalled), 1);
                assert_eq!(proxy.server(0).metrics.failures.get(), 1);
                sleep_ms(5).await;
                assert_eq!(server.seen.open.get(), 0);
                drop(client);
                proxy.assert_over().await;
                drop((proxy, server));
                sleep_ms(50).await;
            }
        }
    });
}

#[test]
fn a_server_that_takes_no_body_has_a_deadline() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "timeouts = { response_body = \"20s\" }", seed);
        let server = Server::raw(APP, |mut peer, _| async move {
            peer.head().await.unwrap();
            sleep_s(300).await;
        });
        let mut client = Client::new().await;
        let watch = Watch::start();
        client
            .request("POST /", "Content-Length: 1000000\r\n", "")
            .await;
        let sending = client.send(vec![b'x'; 1_000_000]);
        // It is not the client that is too slow.
        assert!(rt::timeout(S(19), sending).await.is_err());
        let answer = client.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, "up.response_timeout")
        );
        watch.assert_took(S(20));
        drop((client, server));
        proxy.assert_over().await;
    });
}

#[test]
fn a_server_that_takes_the_body_slowly_is_waited_for() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, _| async move {
            peer.head().await.unwrap();
            for _ in 0..10 {
                sleep_s(20).await;
                peer.exactly(40_000).await.unwrap();
            }
            peer.send(ok("slow")).await;
            peer.rest().await;
        });
        let mut client = Client::new().await;
        client
            .request("POST /", "Content-Length: 400000\r\n", "")
            .await;
        assert!(client.send(vec![b'x'; 400_000]).await);
        assert_eq!(client.response().await.unwrap().text(), "slow");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn the_queue_has_a_deadline_and_a_bound() {
    with_seeds(|seed| async move {
        let upstream = "servers = [\"10.0.0.1:80\"]\npool = { max = 1 }\nqueue = { max = 1, timeout = \"2s\" }";
        let proxy = Proxy::with_upstream(upstream, "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_s(5).await;
                peer.send(ok("late")).await;
            }
        });
        let (mut one, mut two, mut three) = (
            Client::new().await,
            Client::new().await,
            Client::new().await,
        );
        one.request("GET /1", "", "").await;
        sleep_ms(10).await;
        let watch = Watch::start();
        two.request("GET /2", "", "").await;
        sleep_ms(10).await;
        three.request("GET /3", "", "").await;
        let answer = three.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (503, "limit.queue_full")
        );
        assert!(answer.field("retry-after").is_some());
        let answer = two.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (503, "limit.queue_timeout")
        );
        assert!(answer.field("retry-after").is_some());
        watch.assert_took(S(2));
        assert_eq!(one.response().await.unwrap().text(), "late");
        assert_eq!(
            (proxy.hits(Limit::Queue), proxy.hits(Limit::QueueTime)),
            (1, 1)
        );
        // Who waits gets the place that becomes free.
        one.request("GET /4", "", "").await;
        sleep_ms(3500).await;
        two.request("GET /5", "", "").await;
        assert_eq!(one.response().await.unwrap().text(), "late");
        assert_eq!(two.response().await.unwrap().text(), "late");
        drop((one, two, three));
        proxy.assert_over().await;
    });
}

#[test]
fn a_total_time_bounds_everything() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "timeouts = { total = \"5s\" }", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            let Ok(head) = peer.head().await else { return };
            if head.starts_with("GET /drip ") {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    .await;
                peer.drip(&[b'x'; 1000], 10, Duration::from_millis(200))
                    .await;
            } else if head.starts_with("GET /works ") {
                peer.send(ok("")).await;
            }
            let _ended = peer.body(head, Kind::Request).await;
            peer.rest().await;
            drop(seen);
        });
        let mut client = Client::new().await;
        for (line, fields) in [
            ("GET /silent", ""),
            ("POST /silent", "Content-Length: 100000\r\n"),
        ] {
            let watch = Watch::start();
            client.request(line, fields, "").await;
            let answer = if line.starts_with("POST") {
                let _cut = rt::timeout(
                    S(5),
                    client.drip(&[b'x'; 100_000], 100, Duration::from_millis(50)),
                )
                .await;
                client.response().await.unwrap()
            } else {
                client.response().await.unwrap()
            };
            assert_eq!(
                (answer.status(), answer.reason()),
                (504, "up.total_timeout")
            );
            assert!(
                watch.elapsed() < Duration::from_millis(5020),
                "{:?}",
                watch.elapsed()
            );
        }
        let mut client = Client::new().await;
        let watch = Watch::start();
        client.request("GET /drip", "", "").await;
        client.head().await.unwrap();
        assert_eq!(client.rest().await.1, Broken::Reset);
        watch.assert_took(S(5));
        assert_eq!(proxy.reasons(Reason::TotalTimeout), 3);
        drop((client, server));
        proxy.assert_over().await;
    });
}

#[test]
fn a_total_time_covers_buffering_the_queue_and_connecting() {
    with_seeds(|seed| async move {
        let upstream =
            "servers = [\"10.0.0.1:80\"]\npool = { max = 1 }\nqueue = { timeout = \"60s\" }";
        let route =
            "timeouts = { total = \"4s\", connect = \"3500ms\" }\nbuffering = { request = \"on\" }";
        let proxy = Proxy::with_upstream(upstream, "", route, seed);
        net().black_hole(APP.parse().unwrap());
        let mut one = Client::new().await;
        let mut two = Client::new().await;
        let watch = Watch::start();
        one.request("GET /", "", "").await;
        two.request("POST /", "Content-Length: 100\r\n", "x").await;
        sleep_s(1).await;
        let mut three = Client::new().await;
        three.request("GET /", "", "").await;
        assert_eq!(one.response().await.unwrap().reason(), "up.connect_timeout");
        watch.assert_took(Duration::from_millis(3500));
        let answer = two.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, "up.total_timeout")
        );
        watch.assert_took(S(4));
        // From the queue it went on to connecting.
        assert_eq!(three.response().await.unwrap().reason(), "up.total_timeout");
        watch.assert_took(S(5));
        drop((one, two, three));
        proxy.assert_over().await;
    });
}
