//! Every deadline that a client can run into (http-rules §21): it ends at its time, with its
//! status and reason, and others do not notice.

use std::time::Duration;

use proxyd::base::reason::Reason;
use proxyd::rt;

use super::house::{Proxy, Watch, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Server, ok, response};

const S: fn(u64) -> Duration = Duration::from_secs;
const APP: &str = "10.0.0.1:80";

#[test]
fn silence_on_a_new_connection_ends_without_an_answer() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        let mut other = Client::new().await;
        other.assert_works().await;
        let watch = Watch::start();
        let mut client = Client::new().await;
        client.assert_closed().await;
        watch.assert_took(S(15));
        assert_eq!(proxy.refused(Reason::FirstByteTimeout), 1);
        other.assert_works().await;
        drop((client, other));
        proxy.assert_over().await;
    });
}

#[test]
fn a_head_that_drips_ends_in_total() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::good(APP);
        for first in [true, false] {
            let mut client = Client::new().await;
            if !first {
                client.assert_works().await;
                sleep_s(7).await;
            }
            let mut other = Client::new().await;
            other.assert_works().await;
            let watch = Watch::start();
            let head = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "y".repeat(200)
            );
            let dripping = client.drip(head.as_bytes(), 1, Duration::from_millis(500));
            rt::timeout(Duration::from_millis(15_100), dripping)
                .await
                .unwrap_err();
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.reason()),
                (408, "client.head_timeout")
            );
            assert!(answer.closes());
            assert!(watch.elapsed() < Duration::from_millis(15_120));
            client.assert_closed().await;
            other.assert_works().await;
        }
        assert_eq!(proxy.reasons(Reason::HeadTimeout), 2);
        assert_eq!(server.seen.count(), 5, "nothing of it reached the server");
        proxy.assert_over().await;
    });
}

#[test]
fn the_deadline_of_a_head_is_exact() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "timeouts = { request_header = \"5s\" }", "", seed);
        let _server = Server::good(APP);
        let mut client = Client::new().await;
        sleep_s(9).await;
        let watch = Watch::start();
        client.send("GET / HT").await;
        assert_eq!(client.response().await.unwrap().status(), 408);
        watch.assert_took(S(5));
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn an_idle_connection_is_closed_in_good_order() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        let mut client = Client::new().await;
        client.assert_works().await;
        sleep_s(59).await;
        client.assert_works().await;
        proxy.assert_quiet();
        let watch = Watch::start();
        client.assert_closed().await;
        watch.assert_took(S(60));
        assert_eq!(proxy.refused(Reason::IdleTimeout), 1);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_body_that_stops_is_a_408_and_no_request_for_the_server() {
    with_seeds(|seed| async move {
        for (route, reached) in [("", true), ("buffering = { request = \"on\" }", false)] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            let server = Server::good(APP);
            let mut client = Client::new().await;
            client
                .request("POST /", "Content-Length: 30000\r\n", [b'x'; 9000])
                .await;
            sleep_s(5).await;
            let watch = Watch::start();
            client.send([b'x'; 9000]).await;
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.reason()),
                (408, "client.body_timeout")
            );
            watch.assert_took(S(15));
            client.assert_closed().await;
            sleep_ms(10).await;
            assert_eq!(server.seen.count(), 0);
            assert_eq!(server.seen.connections.get(), u32::from(reached));
            let broken = server.seen.broken.borrow().clone();
            assert!(
                broken == [Broken::Short] || broken == [Broken::Reset] || !reached,
                "{broken:?}"
            );
            drop(client);
            proxy.assert_over().await;
            drop(server);
            drop(proxy);
            sleep_ms(50).await;
        }
    });
}

#[test]
fn a_body_below_the_least_rate_ends() {
    with_seeds(|seed| async move {
        for route in ["", "buffering = { request = \"on\" }"] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            let server = Server::good(APP);
            let mut client = Client::new().await;
            let watch = Watch::start();
            client
                .request("POST /", "Content-Length: 30000\r\n", "")
                .await;
            let dripping = client.drip(&[b'x'; 5000], 40, Duration::from_millis(100));
            // 400 bytes a second, where 500 are wanted.
            rt::timeout(Duration::from_millis(10_050), dripping)
                .await
                .unwrap_err();
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.reason()),
                (408, "client.body_too_slow"),
                "{route}"
            );
            assert!(
                watch.elapsed() < Duration::from_millis(10_070),
                "{:?}",
                watch.elapsed()
            );
            assert_eq!(server.seen.count(), 0);
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(50).await;
        }
    });
}

#[test]
fn a_body_above_the_least_rate_may_take_long() {
    with_seeds(|seed| async move {
        for route in ["", "buffering = { request = \"on\" }"] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            let server = Server::good(APP);
            let mut client = Client::new().await;
            client
                .request("POST /", "Content-Length: 60000\r\n", "")
                .await;
            assert!(client.drip(&[b'x'; 60000], 600, S(1)).await);
            assert_eq!(client.response().await.unwrap().status(), 200);
            assert_eq!(server.seen.last().body.len(), 60000);
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(50).await;
        }
    });
}

/// A response much larger than what all buffers on the way can hold.
fn large() -> Vec<u8> {
    response("200 OK", "", &vec![b'z'; 4 << 20])
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, |request| match request.second_word() {
            "/large" => large(),
            _ => ok("small"),
        });
        let mut client = Client::new().await;
        let mut other = Client::new().await;
        other.assert_works().await;
        let watch = Watch::start();
        client.request("GET /large", "", "").await;
        sleep_s(29).await;
        assert_eq!(proxy.connections(), 2);
        other.assert_works().await;
        while proxy.connections() == 2 {
            sleep_ms(1).await;
        }
        assert!(watch.elapsed() > S(30) && watch.elapsed() < Duration::from_millis(30_100));
        assert_eq!(proxy.reasons(Reason::WriteTimeout), 1);
        sleep_ms(5).await;
        assert_eq!(
            server.seen.open.get(),
            1,
            "the connection of the other one is left"
        );
        let (bytes, end) = client.rest().await;
        assert!(bytes.len() < 4 << 20);
        assert_eq!(end, Broken::Reset, "nobody takes it for complete");
        other.assert_works().await;
        drop((client, other));
        proxy.assert_over().await;
    });
}

#[test]
fn a_client_that_reads_too_slowly_is_cut() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::http(APP, |_| large());
        let mut client = Client::new().await;
        let watch = Watch::start();
        client.request("GET /", "", "").await;
        while proxy.connections() == 1 {
            sleep_s(1).await;
            client.exactly(300).await.unwrap();
            assert!(watch.elapsed() < S(62), "it was never cut");
        }
        assert!(watch.elapsed() > S(30), "{:?}", watch.elapsed());
        assert_eq!(proxy.reasons(Reason::ReadTooSlow), 1);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_client_that_reads_fast_enough_may_take_long() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::http(APP, |_| response("200 OK", "", &[b'z'; 900_000]));
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        let mut left = 900_000;
        client.head().await.unwrap();
        while left > 0 {
            let n = left.min(5000);
            client.exactly(n).await.unwrap();
            left -= n;
            sleep_s(1).await;
        }
        client
            .request("GET /again", "Connection: close\r\n", "")
            .await;
        assert_eq!(client.response().await.unwrap().body.len(), 900_000);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn an_own_answer_has_a_reader_with_a_deadline_too() {
    with_seeds(|seed| async move {
        let body = "a".repeat(300_000);
        let proxy = Proxy::start(
            &format!(
                "[[listener]]\nname = \"web\"\nbind = \"10.0.9.1:80\"\nlimits = {{ min_rate = \"off\" }}\n\
                 [[route]]\nname = \"all\"\nrespond = {{ status = 200, body = \"{body}\" }}"
            ),
            seed,
        );
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        sleep_s(10).await;
        client.exactly(100_000).await.unwrap();
        sleep_s(25).await;
        assert_eq!(proxy.connections(), 1, "a byte moved within the time");
        sleep_s(6).await;
        assert_eq!(proxy.connections(), 0);
        assert_eq!(proxy.reasons(Reason::WriteTimeout), 1);
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        assert_eq!(client.response().await.unwrap().body.len(), 300_000);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_lingering_close_is_short() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        let mut client = Client::new().await;
        client.request("GET /", "Connection: close\r\n", "").await;
        let watch = Watch::start();
        assert!(client.response().await.unwrap().closes());
        client.assert_closed().await;
        assert!(
            watch.elapsed() < Duration::from_millis(30),
            "the end comes at once"
        );
        while proxy.connections() == 1 {
            client.send("x").await;
            sleep_ms(1).await;
        }
        watch.assert_took(S(2));
        // 256 KiB are enough as well.
        let mut client = Client::new().await;
        client.request("GET /", "Connection: close\r\n", "").await;
        client.response().await.unwrap();
        let watch = Watch::start();
        client.send(vec![b'x'; 300 << 10]).await;
        sleep_ms(50).await;
        assert_eq!(proxy.connections(), 0, "{:?}", watch.elapsed());
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn blanks_in_front_of_a_request_are_no_request() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        let mut client = Client::new().await;
        // Some clients send a line end behind a body; then they are idle as others are.
        client
            .request("POST /", "Content-Length: 1\r\n", "x\r\n")
            .await;
        assert_eq!(client.response().await.unwrap().status(), 200);
        sleep_s(30).await;
        client.assert_works().await;
        drop(client);
        proxy.assert_over().await;
    });
}
