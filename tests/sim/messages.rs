//! Messages of every shape on their way through: framing, methods and statuses without a body,
//! versions, trailers, pipelining, and what happens when one breaks off.

use std::cell::Cell;
use std::rc::Rc;

use proxyd::base::reason::Reason;

use super::house::{Proxy, sleep_ms, with_seeds};
use super::peer::{Broken, Client, Kind, Message, Server, next, ok, response};

const APP: &str = "10.0.0.1:80";

#[test]
fn requests_are_forwarded_and_connections_are_kept() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, |request| ok(request.second_word()));
        let mut client = Client::new().await;
        for n in 0..20 {
            let answer = client.get(&format!("/{n}")).await.unwrap();
            assert_eq!((answer.status(), answer.text()), (200, &*format!("/{n}")));
            assert!(!answer.closes());
        }
        assert_eq!(
            server.seen.connections.get(),
            1,
            "one kept connection carries them all"
        );
        assert_eq!(server.seen.requests.borrow()[7].second_word(), "/7");
        assert_eq!(server.seen.last().field("host"), Some("example.org"));
        drop(client);
        proxy.assert_over().await;
    });
}

/// Answers by path, in every framing there is.
fn shapes(request: &Message) -> Vec<u8> {
    let chunks = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-sum: 5\r\nhost: evil\r\n\r\n";
    match request.second_word() {
        "/length" => response("200 OK", "", b"abcde"),
        "/chunked" => {
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes()
        }
        "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde".to_vec(),
        "/old" => b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabcde".to_vec(),
        "/old-kept" => {
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nabcde".to_vec()
        }
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/205" => b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/205-body" => response("205 Reset Content", "", b"abcde"),
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_framing_of_a_response_arrives() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, shapes);
        let mut client = Client::new().await;
        for round in 0..3 {
            for path in ["/length", "/chunked", "/close", "/old", "/old-kept"] {
                let answer = client.get(path).await.unwrap();
                assert_eq!(
                    (answer.status(), answer.text()),
                    (200, "abcde"),
                    "{path} {round}"
                );
                assert!(!answer.closes(), "the client's connection goes on");
                assert!(answer.head.starts_with("HTTP/1.1 "), "{path}");
                assert_eq!(answer.trailers, "", "nobody asked for trailers");
            }
            for (path, status) in [
                ("/204", 204),
                ("/304", 304),
                ("/205", 205),
                ("/205-body", 205),
            ] {
                let answer = client.get(path).await.unwrap();
                assert_eq!((answer.status(), answer.text()), (status, ""), "{path}");
                let length = (status == 205)
                    .then_some("0")
                    .or((status == 304).then_some("5"));
                assert_eq!(answer.field("content-length"), length, "{path}");
                assert_eq!(answer.field("transfer-encoding"), None);
            }
            client.request("HEAD /head", "", "").await;
            let answer = client.message(Kind::Bodiless).await.unwrap();
            assert_eq!(answer.field("content-length"), Some("5"));
        }
        sleep_ms(10).await;
        assert!(server.seen.broken.borrow().is_empty());
        proxy.assert_quiet();
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn old_clients_get_what_they_understand() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, shapes);
        for path in ["/length", "/chunked", "/close", "/old"] {
            let mut client = Client::new().await;
            client.send(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
            let answer = client.response().await.unwrap();
            assert_eq!(answer.text(), "abcde");
            assert!(
                answer.closes() && answer.field("transfer-encoding").is_none(),
                "{path}"
            );
            client.assert_closed().await;
        }
        let mut client = Client::new().await;
        for path in ["/length", "/old-kept", "/chunked"] {
            let fields = "Host: a\r\nConnection: keep-alive\r\n";
            client
                .send(format!("GET {path} HTTP/1.0\r\n{fields}\r\n"))
                .await;
            let answer = client.response().await.unwrap();
            assert_eq!(answer.text(), "abcde");
            let kept = answer.field("connection") == Some("keep-alive");
            assert_eq!(kept, path != "/chunked", "its end must be seen");
        }
        client.assert_closed().await;
        assert!(server.seen.last().head.contains(" HTTP/1.1\r\n"));
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn trailers_go_where_they_are_wanted() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "trailers = true", seed);
        let server = Server::http(APP, shapes);
        let mut client = Client::new().await;
        let body = "2\r\nhi\r\n0\r\nX-Check: 1\r\nContent-Length: 7\r\n\r\n";
        let fields = "TE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n";
        client.request("POST /chunked", fields, body).await;
        let answer = client.response().await.unwrap();
        assert_eq!(
            (answer.text(), &*answer.trailers),
            ("abcde", "x-sum: 5\r\n")
        );
        assert_eq!(server.seen.last().trailers, "X-Check: 1\r\n");
        assert_eq!(
            client.get("/chunked").await.unwrap().trailers,
            "",
            "not asked for"
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn bodies_of_requests_are_framed_anew() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, |request| ok(&format!("{}", request.body.len())));
        let mut client = Client::new().await;
        for (fields, body, text) in [
            ("Content-Length: 5\r\n", "abcde", "abcde"),
            (
                "Transfer-Encoding: chunked\r\n",
                "0005;ext\r\nabcde\r\n0\r\nA: b\r\n\r\n",
                "abcde",
            ),
            ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", ""),
            ("Content-Length: 0\r\n", "", ""),
            ("", "", ""),
        ] {
            for method in ["POST", "GET", "DELETE"] {
                client.request(&format!("{method} /"), fields, body).await;
                assert_eq!(
                    client.response().await.unwrap().text(),
                    text.len().to_string()
                );
                let seen = server.seen.last();
                assert_eq!(
                    (seen.first_word(), seen.text(), &*seen.trailers),
                    (method, text, "")
                );
                let framing = seen.field("content-length").is_some();
                assert_eq!(framing, fields.starts_with("Content"), "{fields}");
            }
        }
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, |request| {
            ok(&format!("{} {}", request.second_word(), request.text()))
        });
        let mut client = Client::new().await;
        let mut all = String::new();
        for n in 0..60 {
            let body = "b".repeat(n * 37 % 400);
            let length = body.len();
            let host = "Host: a\r\n";
            all += &match n % 3 {
                0 => format!("GET /{n} HTTP/1.1\r\n{host}\r\n"),
                1 => format!("POST /{n} HTTP/1.1\r\n{host}Content-Length: {length}\r\n\r\n{body}"),
                _ => format!(
                    "POST /{n} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n\
                     {:x}\r\nb{body}\r\n0\r\n\r\n",
                    length + 1
                ),
            };
        }
        assert!(client.send(all).await);
        for n in 0..60 {
            let answer = client.response().await.unwrap();
            assert!(
                answer.text().starts_with(&format!("/{n} ")),
                "{n}: {}",
                answer.text()
            );
        }
        let order: Vec<String> = server
            .seen
            .requests
            .borrow()
            .iter()
            .map(|r| r.second_word().to_owned())
            .collect();
        assert_eq!(order, (0..60).map(|n| format!("/{n}")).collect::<Vec<_>>());
        assert_eq!(server.seen.connections.get(), 1, "one after the other");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn nothing_behind_a_closing_request_is_served() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::good(APP);
        for (first, status) in [
            (
                "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                200,
            ),
            ("GET /1 HTTP/1.0\r\nHost: a\r\n\r\n", 200),
            (
                "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
                400,
            ),
            ("GET /1 HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
        ] {
            let before = server.seen.count();
            let mut client = Client::new().await;
            client
                .send(format!("{first}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            let answer = client.response().await.unwrap();
            assert_eq!((answer.status(), answer.closes()), (status, true));
            client.assert_closed().await;
            assert_eq!(server.seen.count() - before, usize::from(status == 200));
        }
        proxy.assert_over().await;
    });
}

#[test]
fn a_body_that_was_not_taken_is_not_a_request() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        // The connection ends at once, perhaps after some of the request was written to it.
        let doors = Rc::new(Cell::new(0));
        let count = Rc::clone(&doors);
        let server = Server::raw(APP, move |peer, _| {
            count.set(count.get() + 1);
            let abrupt = count.get() % 2 == 0;
            async move {
                if abrupt {
                    peer.reset();
                }
            }
        });
        for size in [60, 600, 6000, 60_000] {
            let mut client = Client::new().await;
            let evil = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
            let body = evil.repeat(1 + size / evil.len());
            let fields = format!("Content-Length: {}\r\n", body.len());
            let tail = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            client
                .request("POST /", &fields, format!("{body}{tail}"))
                .await;
            let (bytes, _) = client.rest().await;
            let text = String::from_utf8(bytes).unwrap();
            let answers = text.matches("HTTP/1.1 502").count();
            assert!(
                answers <= 2 && !text.contains("HTTP/1.1 200"),
                "{size}: {text}"
            );
            assert!(
                !server
                    .seen
                    .requests
                    .borrow()
                    .iter()
                    .any(|r| r.second_word() == "/evil")
            );
        }
        assert_eq!(proxy.reasons(Reason::BadRequestLine), 0);
        proxy.assert_over().await;
    });
}

#[test]
fn a_truncated_response_is_seen_as_such() {
    with_seeds(|seed| async move {
        for framing in ["Content-Length: 50", "Transfer-Encoding: chunked"] {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                for reset in [false, true] {
                    let proxy = Proxy::to(&[APP], "", "", seed);
                    let server = Server::raw(APP, move |mut peer, seen| async move {
                        next(&mut peer, &seen).await;
                        peer.send(format!(
                            "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nabcde\r\n"
                        ))
                        .await;
                        sleep_ms(3).await;
                        if reset {
                            peer.reset();
                        }
                    });
                    let mut client = Client::new().await;
                    client
                        .send(format!("GET / {version}\r\nHost: a\r\n\r\n"))
                        .await;
                    client.head().await.unwrap();
                    assert_eq!(
                        client.rest().await.1,
                        Broken::Reset,
                        "{framing} {version} {reset}"
                    );
                    assert_eq!(proxy.reasons(Reason::UpstreamTruncated), 1);
                    assert_eq!(proxy.server(0).metrics.failures.get(), 1);
                    drop((client, server));
                    proxy.assert_over().await;
                    drop(proxy);
                    sleep_ms(60).await;
                }
            }
        }
    });
}

#[test]
fn a_reset_ends_no_response_in_good_order() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
            sleep_ms(3).await;
            peer.reset();
        });
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut client = Client::new().await;
            client
                .send(format!("GET / {version}\r\nHost: a\r\n\r\n"))
                .await;
            client.head().await.unwrap();
            assert_eq!(client.rest().await.1, Broken::Reset, "{version}");
        }
        proxy.assert_over().await;
    });
}

#[test]
fn malformed_responses_are_a_502() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::http(APP, |request| {
            let head = match request.second_word() {
                "/0" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "/1" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "/2" => "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
                "/3" => "220 smtp ready\r\n",
                "/4" => "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
                "/5" => {
                    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
                }
                "/6" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            };
            head.as_bytes().to_vec()
        });
        let mut client = Client::new().await;
        for n in 0..7 {
            let answer = client.get(&format!("/{n}")).await.unwrap();
            assert_eq!(answer.status(), 502, "{n}");
            assert!(!answer.closes(), "it is not the client's fault");
        }
        client.request("GET /body", "", "").await;
        match client.response().await {
            // The client had not seen anything of the response yet.
            Ok(answer) => assert_eq!((answer.status(), answer.reason()), (502, "up.bad_body")),
            Err(broken) => assert_eq!(broken, Broken::Reset),
        }
        assert_eq!(proxy.reasons(Reason::UpstreamBadBody), 1);
        assert_eq!(proxy.server(0).metrics.failures.get(), 8);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_client_that_leaves_is_told_to_the_server() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            let request = next(&mut peer, &seen).await.unwrap();
            if request.second_word() == "/body" {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
                    .await;
            }
            peer.rest().await;
        });
        for path in ["/head", "/body"] {
            let mut client = Client::new().await;
            client.request(&format!("GET {path}"), "", "").await;
            sleep_ms(20).await;
            assert_eq!(server.seen.open.get(), 1);
            client.0.reset();
            sleep_ms(20).await;
            assert_eq!(server.seen.open.get(), 0, "{path}");
        }
        assert_eq!(proxy.reasons(Reason::ClientGone), 2);
        assert_eq!(
            proxy.server(0).metrics.failures.get(),
            0,
            "not the server's fault"
        );
        proxy.assert_over().await;
    });
}

#[test]
fn a_client_that_has_said_all_gets_its_answer() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_ms(200).await;
                peer.send(ok("patience")).await;
            }
        });
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        client.finish().await;
        assert_eq!(client.response().await.unwrap().text(), "patience");
        client.assert_closed().await;
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_request_body_that_breaks_off_is_no_request() {
    with_seeds(|seed| async move {
        for fields in ["Content-Length: 9000\r\n", "Transfer-Encoding: chunked\r\n"] {
            for reset in [false, true] {
                let proxy = Proxy::to(&[APP], "", "", seed);
                let server = Server::good(APP);
                let mut client = Client::new().await;
                let part = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                client.request("POST /", fields, part).await;
                sleep_ms(seed).await;
                if reset {
                    client.0.reset();
                } else {
                    client.finish().await;
                    let answer = client.response().await.unwrap();
                    assert_eq!((answer.status(), answer.reason()), (400, "client.body_cut"));
                    client.assert_closed().await;
                }
                sleep_ms(20).await;
                assert_eq!(server.seen.count(), 0);
                assert_eq!(server.seen.open.get(), 0);
                let reason = if reset {
                    Reason::ClientGone
                } else {
                    Reason::BodyCutShort
                };
                assert_eq!(proxy.reasons(reason), 1, "{fields} {reset}");
                proxy.assert_over().await;
                drop((proxy, server));
                sleep_ms(60).await;
            }
        }
    });
}

#[test]
fn a_malformed_body_is_a_400_and_no_request() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::good(APP);
        for body in [
            "5\r\nabcdeX",
            "5 \r\nabcde\r\n",
            "-1\r\n",
            "5\nabcde",
            "0\r\nbad trailer\r\n\r\n",
        ] {
            let mut client = Client::new().await;
            client
                .request("POST /", "Transfer-Encoding: chunked\r\n", body)
                .await;
            let answer = client.response().await.unwrap();
            assert_eq!(answer.status(), 400, "{body}");
            client.assert_closed().await;
        }
        sleep_ms(20).await;
        assert_eq!(server.seen.count(), 0);
        proxy.assert_over().await;
    });
}

#[test]
fn connections_are_bounded_in_requests_and_age() {
    with_seeds(|seed| async move {
        let keys = "keepalive = { requests = 5, max_age = \"100s\" }";
        let proxy = Proxy::to(&[APP], keys, "", seed);
        let _server = Server::good(APP);
        let mut client = Client::new().await;
        for n in 1..=5 {
            assert_eq!(client.get("/").await.unwrap().closes(), n == 5);
        }
        client.assert_closed().await;
        let mut client = Client::new().await;
        assert!(!client.get("/").await.unwrap().closes());
        super::house::sleep_s(55).await;
        assert!(!client.get("/").await.unwrap().closes());
        super::house::sleep_s(55).await;
        assert!(client.get("/").await.unwrap().closes());
        client.assert_closed().await;
        drop(client);
        proxy.assert_over().await;
    });
}
