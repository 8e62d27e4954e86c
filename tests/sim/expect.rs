//! Expectations, interim responses and responses that come before the request is complete
//! (http-rules §10 and §14).

use std::time::Duration;

use super::house::{Proxy, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Kind, Server, next, ok, response};
use proxyd::base::reason::Reason;
use proxyd::rt;

const APP: &str = "10.0.0.1:80";
const EXPECT: &str = "Content-Length: 10\r\nExpect: 100-continue\r\n";

async fn no_byte_within(client: &mut Client, time: Duration) {
    assert!(
        rt::timeout(time, client.some()).await.is_err(),
        "a byte came"
    );
}

#[test]
fn a_client_that_waits_is_asked_for_its_body() {
    with_seeds(|seed| async move {
        for route in ["", "buffering = { request = \"on\" }"] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            let server = Server::http(APP, |request| ok(request.text()));
            let mut client = Client::new().await;
            for n in 0..3 {
                client.request("POST /", EXPECT, "").await;
                assert_eq!(client.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n");
                client.send(format!("body 1234{n}")).await;
                let answer = client.response().await.unwrap();
                assert_eq!(answer.text(), format!("body 1234{n}"));
                assert!(
                    server.seen.last().field("expect").is_none(),
                    "it is consumed"
                );
            }
            // Who does not wait needs no 100.
            client.request("POST /", EXPECT, "0123456789").await;
            let mut first = client.response().await.unwrap();
            if first.status() == 100 {
                first = client.response().await.unwrap();
            }
            assert_eq!(first.text(), "0123456789");
            // An old client does not know it.
            client
                .send(format!("POST / HTTP/1.0\r\nHost: a\r\n{EXPECT}\r\n"))
                .await;
            no_byte_within(&mut client, Duration::from_secs(3)).await;
            client.send("0123456789").await;
            assert_eq!(client.response().await.unwrap().text(), "0123456789");
            drop(client);
            proxy.assert_over().await;
            drop((proxy, server));
            sleep_ms(60).await;
        }
    });
}

#[test]
fn a_refusal_comes_instead_of_a_100() {
    with_seeds(|seed| async move {
        let text = "[[listener]]\nname = \"web\"\nbind = \"10.0.9.1:80\"\n\
                    [[route]]\nname = \"all\"\npath = \"/app\"\nto = [\"10.0.0.1:80\"]\nmax_body = \"100B\"\n\
                    [[route]]\nname = \"own\"\npath = \"/own\"\nrespond = { status = 200, body = \"own\" }";
        let proxy = Proxy::start(text, seed);
        for (path, length, status) in [("/none", 10, 404), ("/app", 101, 413), ("/own", 10, 200)] {
            let mut client = Client::new().await;
            let fields = format!("Content-Length: {length}\r\nExpect: 100-continue\r\n");
            client.request(&format!("POST {path}"), &fields, "").await;
            let answer = client.response().await.unwrap();
            assert_eq!(answer.status(), status);
            // Nobody knows whether the body comes now.
            assert!(answer.closes(), "{path}");
            client.assert_closed().await;
        }
        // No server: nobody asked for the body, unless a connection was there first.
        let mut client = Client::new().await;
        client.request("POST /app", EXPECT, "").await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.closes()), (502, true));
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn one_100_is_enough_for_several_attempts() {
    with_seeds(|seed| async move {
        let text = "servers = [\"10.0.0.1:80\", \"10.0.0.2:80\"]";
        let proxy = Proxy::with_upstream(
            text,
            "",
            "retry = { on = [\"503\"], non_idempotent = true }",
            seed,
        );
        let _bad = Server::raw(APP, |mut peer, _| async move {
            peer.head().await.unwrap();
            peer.send(response("503 No", "", b"")).await;
            peer.rest().await;
        });
        let _good = Server::http("10.0.0.2:80", |request| ok(request.text()));
        for _ in 0..4 {
            let mut client = Client::new().await;
            client.request("POST /", EXPECT, "").await;
            assert_eq!(client.response().await.unwrap().status(), 100);
            no_byte_within(&mut client, Duration::from_secs(1)).await;
            client.send("0123456789").await;
            let answer = client.response().await.unwrap();
            assert_eq!(answer.text(), "0123456789");
            client.assert_works().await;
        }
        proxy.assert_over().await;
    });
}

#[test]
fn interim_responses_stay_where_they_belong() {
    with_seeds(|seed| async move {
        for (route, hints) in [("early_hints = true", true), ("early_hints = false", false)] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            let _server = Server::http(APP, |_| {
                let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Secret: 1\r\n\r\n";
                let others = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
                let mut all = format!("{others}{hint}HTTP/1.1 103 X\r\nX: y\r\n\r\n").into_bytes();
                all.extend(ok("final"));
                all
            });
            let mut client = Client::new().await;
            for _ in 0..2 {
                let mut answer = client.get("/").await.unwrap();
                if hints {
                    assert_eq!(
                        answer.head,
                        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n"
                    );
                    answer = client.response().await.unwrap();
                }
                assert_eq!((answer.status(), answer.text()), (200, "final"));
            }
            client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
            assert_eq!(
                client.response().await.unwrap().status(),
                200,
                "nothing 1xx for 1.0"
            );
            drop(client);
            proxy.assert_over().await;
            drop((proxy, _server));
            sleep_ms(60).await;
        }
    });
}

#[test]
fn a_103_does_not_wait_for_the_response() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "early_hints = true", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
                .await;
            sleep_s(5).await;
            peer.send(ok("final")).await;
            peer.rest().await;
        });
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        let early = rt::timeout(Duration::from_secs(1), client.response())
            .await
            .unwrap();
        assert_eq!(early.unwrap().status(), 103);
        assert_eq!(client.response().await.unwrap().text(), "final");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_flood_of_interim_responses_ends() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::http(APP, |request| {
            let n: usize = request.second_word()[1..].parse().unwrap();
            let size = if n > 100 { n } else { 0 };
            let one = format!("HTTP/1.1 102 Processing\r\nX: {}\r\n\r\n", "y".repeat(size));
            let count = if n > 100 { 3 } else { n };
            [one.repeat(count).into_bytes(), ok("final")].concat()
        });
        let mut client = Client::new().await;
        for (n, status) in [(16, 200), (17, 502), (15_000, 200), (30_000, 502), (1, 200)] {
            assert_eq!(
                client.get(&format!("/{n}")).await.unwrap().status(),
                status,
                "{n}"
            );
        }
        assert_eq!(proxy.reasons(Reason::UpstreamInterim), 2);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn an_early_refusal_arrives_and_ends_the_upload() {
    with_seeds(|seed| async move {
        for close in [true, false] {
            let proxy = Proxy::to(&[APP], "", "timeouts = { response_body = \"20s\" }", seed);
            let server = Server::raw(APP, move |mut peer, _| async move {
                let Ok(head) = peer.head().await else { return };
                if head.starts_with("POST /big") {
                    let fields = if close { "Connection: close\r\n" } else { "" };
                    peer.send(response("403 Forbidden", fields, b"no")).await;
                    // It reads no byte of the body.
                    sleep_s(100).await;
                } else {
                    peer.body(head, Kind::Request).await.unwrap();
                    peer.send(ok("")).await;
                    peer.rest().await;
                }
            });
            let mut client = Client::new().await;
            client
                .request("POST /big", "Content-Length: 5000000\r\n", "")
                .await;
            let sent = rt::timeout(Duration::from_secs(40), client.send(vec![b'x'; 5_000_000]));
            let outcome = sent.await;
            let answer = client.response().await;
            // The client gets the refusal unless it insists on sending all of it first.
            if let Ok(answer) = answer {
                assert_eq!((answer.status(), answer.text()), (403, "no"));
            } else {
                assert_ne!(outcome, Ok(true));
            }
            assert_eq!(proxy.recorded(proxyd::metric::label::Class::ClientError), 1);
            drop((client, server));
            sleep_s(3).await;
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn an_early_refusal_of_a_small_body_costs_nothing() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            loop {
                let Ok(head) = peer.head().await else { return };
                let refused = head.starts_with("POST");
                if refused {
                    peer.send(response("401 Who", "", b"")).await;
                }
                let Ok(request) = peer.body(head, Kind::Request).await else {
                    return;
                };
                seen.requests.borrow_mut().push(request);
                if !refused {
                    peer.send(ok("")).await;
                }
            }
        });
        let mut client = Client::new().await;
        for _ in 0..3 {
            client
                .request("POST /", "Content-Length: 20000\r\n", [b'x'; 9000])
                .await;
            assert_eq!(client.response().await.unwrap().status(), 401);
            sleep_ms(100).await;
            client.send([b'x'; 11_000]).await;
            client.assert_works().await;
        }
        assert_eq!(
            server.seen.connections.get(),
            1,
            "each request was completed"
        );
        assert_eq!(server.seen.last().body.len(), 0);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn an_early_success_goes_on_with_the_upload() {
    with_seeds(|seed| async move {
        for fields in ["", "Connection: close\r\n"] {
            let proxy = Proxy::to(&[APP], "", "", seed);
            let server = Server::raw(APP, move |mut peer, seen| async move {
                let head = peer.head().await.unwrap();
                peer.send(response("200 OK", fields, b"early")).await;
                let request = peer.body(head, Kind::Request).await;
                match request {
                    Ok(request) => seen.requests.borrow_mut().push(request),
                    Err(broken) => seen.broken.borrow_mut().push(broken),
                }
            });
            let mut client = Client::new().await;
            client
                .request("POST /", "Content-Length: 20000\r\n", [b'x'; 9000])
                .await;
            assert_eq!(client.response().await.unwrap().text(), "early");
            sleep_ms(500).await;
            client.send([b'y'; 11_000]).await;
            sleep_ms(20).await;
            assert_eq!(*server.seen.broken.borrow(), []);
            assert_eq!(server.seen.last().body.len(), 20_000, "{fields}");
            client.assert_works().await;
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn a_stalled_upload_behind_a_complete_response_does_no_harm() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, _| async move {
            peer.head().await.unwrap();
            peer.send(ok("early")).await;
            peer.rest().await;
        });
        let mut client = Client::new().await;
        client
            .request("POST /", "Content-Length: 20000\r\n", [b'x'; 9000])
            .await;
        assert_eq!(client.response().await.unwrap().text(), "early");
        client.assert_closed().await;
        assert_eq!(proxy.recorded(proxyd::metric::label::Class::Success), 1);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_response_is_not_lost_when_the_server_stops_reading() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, _| async move {
            peer.head().await.unwrap();
            peer.send(response(
                "413 Too Large",
                "Connection: close\r\n",
                b"too large",
            ))
            .await;
            // Closing with unread bytes resets the connection.
        });
        let mut lost = 0;
        for _ in 0..10 {
            let mut client = Client::new().await;
            client
                .request("POST /", "Content-Length: 40000\r\n", [b'x'; 40_000])
                .await;
            match client.response().await {
                Ok(answer) if answer.status() == 413 => assert_eq!(answer.text(), "too large"),
                // Its reset may overtake the response, as on a real network.
                Ok(answer) => {
                    assert_eq!(answer.status(), 502);
                    lost += 1;
                }
                Err(broken) => panic!("{broken:?}"),
            }
        }
        assert!(lost < 10);
        proxy.assert_over().await;
    });
}

#[test]
fn a_bad_expectation_is_refused() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let mut client = Client::new().await;
        client.request("GET /", "Expect: a-miracle\r\n", "").await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (417, "req.bad_expect"));
        assert!(matches!(client.rest().await.1, Broken::Closed));
        drop(client);
        proxy.assert_over().await;
    });
}
