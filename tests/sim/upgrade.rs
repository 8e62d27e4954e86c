//! WebSocket and other upgrades: when the tunnel begins, what it carries, how it ends
//! (http-rules §16).

use std::time::Duration;

use super::house::{Proxy, Watch, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Server, next, ok, response};
use proxyd::base::reason::Reason;
use proxyd::io::buf;

const APP: &str = "10.0.0.1:80";
const ASK: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: abc\r\n\
                   Sec-WebSocket-Version: 13\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: xyz\r\n\r\n";

/// Switches, then echoes until the client has said all, then says good-bye.
fn echo() -> Server {
    Server::raw(APP, |mut peer, seen| async move {
        loop {
            let Some(request) = next(&mut peer, &seen).await else {
                return;
            };
            if request.field("upgrade").is_some() {
                break;
            }
            peer.send(ok("plain")).await;
        }
        peer.send(format!("{SWITCH}hello ")).await;
        while let Ok(bytes) = peer.some().await {
            peer.send(bytes).await;
        }
        peer.send("bye").await;
    })
}

async fn tunnel() -> Client {
    let mut client = Client::new().await;
    client.request("GET /ws", ASK, "").await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n"));
    assert!(head.contains("Sec-WebSocket-Accept: xyz\r\n"));
    client
}

#[test]
fn a_tunnel_carries_bytes_and_half_closes() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = echo();
        let mut client = tunnel().await;
        assert_eq!(
            client.exactly(6).await.unwrap(),
            b"hello ",
            "bytes behind the 101"
        );
        let request = server.seen.last();
        assert_eq!(request.field("upgrade"), Some("websocket"));
        assert_eq!(request.field("connection"), Some("Upgrade"));
        assert_eq!(request.field("sec-websocket-key"), Some("abc"));
        let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in body.chunks(30_000) {
            client.send(piece).await;
            assert_eq!(client.exactly(piece.len()).await.unwrap(), piece);
        }
        sleep_ms(50).await;
        assert_eq!(proxy.route().metrics.tunnels.get(), 1);
        assert_eq!(buf::stats().in_use, 0, "a silent tunnel holds no buffer");
        client.finish().await;
        let (rest, end) = client.rest().await;
        assert_eq!((&*rest, end), (&b"bye"[..], Broken::Closed));
        drop(client);
        proxy.assert_over().await;
        assert!(proxy.service().metrics.sent.get() > 200_000);
        assert!(proxy.server(0).metrics.sent.get() > 200_000);
    });
}

#[test]
fn the_server_may_end_first() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.send(SWITCH).await;
            peer.finish().await;
            let (bytes, _) = peer.rest().await;
            assert_eq!(bytes, b"still talking");
            seen.requests.borrow_mut().clear();
        });
        let mut client = tunnel().await;
        let (_, end) = client.rest().await;
        assert_eq!(end, Broken::Closed);
        client.send("still talking").await;
        sleep_s(1).await;
        assert_eq!(
            proxy.route().metrics.tunnels.get(),
            1,
            "one direction is open"
        );
        client.finish().await;
        sleep_ms(20).await;
        assert_eq!(server.seen.count(), 0, "the server heard the end");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_reset_goes_through() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.send(SWITCH).await;
            let (_, end) = peer.rest().await;
            seen.broken.borrow_mut().push(end);
        });
        let client = tunnel().await;
        client.0.reset();
        sleep_ms(20).await;
        assert_eq!(*server.seen.broken.borrow(), [Broken::Reset]);
        let mut client = tunnel().await;
        proxyd::rt::sim::net().reset_connections(server.addr());
        assert_eq!(client.rest().await.1, Broken::Reset);
        assert_eq!(proxy.reasons(Reason::ClientGone), 1);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_silent_tunnel_ends() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "timeouts = { upgraded_idle = \"90s\" }", seed);
        let server = echo();
        let mut client = tunnel().await;
        client.exactly(6).await.unwrap();
        for _ in 0..5 {
            sleep_s(80).await;
            client.send("x").await;
            client.exactly(1).await.unwrap();
        }
        let watch = Watch::start();
        client.rest().await;
        watch.assert_took(Duration::from_secs(90));
        assert_eq!(proxy.reasons(Reason::TunnelIdle), 1);
        sleep_ms(10).await;
        assert_eq!(server.seen.open.get(), 0);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::http(APP, |request| match request.second_word() {
            "/ws" => response("403 Forbidden", "", b"no"),
            _ => ok("plain"),
        });
        let mut client = Client::new().await;
        // What came behind the request is the next one.
        let next = "GET /works HTTP/1.1\r\nHost: a\r\n\r\n";
        client.request("GET /ws", ASK, next).await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.text()), (403, "no"));
        assert_eq!(client.response().await.unwrap().text(), "plain");
        client.assert_works().await;
        assert_eq!(server.seen.connections.get(), 1);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn nothing_of_the_tunnel_goes_before_the_101() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            sleep_ms(500).await;
            assert!(peer.held.is_empty(), "{:?}", peer.held);
            let early = proxyd::rt::timeout(Duration::from_millis(500), peer.some()).await;
            assert!(early.is_err(), "{early:?}");
            peer.send(SWITCH).await;
            let bytes = peer.exactly(5).await.unwrap();
            peer.send(bytes).await;
        });
        let mut client = Client::new().await;
        client.request("GET /ws", ASK, "eager").await;
        client.head().await.unwrap();
        assert_eq!(client.rest().await.0, b"eager");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn what_is_no_upgrade_is_an_ordinary_request() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = echo();
        let mut client = Client::new().await;
        for (line, fields) in [
            (
                "GET /ws",
                ASK.replace("Connection: Upgrade", "Connection: keep-alive"),
            ),
            ("POST /ws", ASK.to_owned()),
            ("GET /ws", ASK.replace("websocket", "h2c")),
            ("GET /ws", ASK.replace("websocket", "tcp")),
            ("GET /ws", format!("{ASK}Content-Length: 0\r\n")),
        ] {
            client.request(line, &fields, "").await;
            let answer = client.response().await.unwrap();
            assert_eq!(
                (answer.status(), answer.text()),
                (200, "plain"),
                "{line} {fields}"
            );
            assert_eq!(server.seen.last().field("upgrade"), None);
            assert_eq!(server.seen.last().field("connection"), None);
        }
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_handshake_has_to_be_complete() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = echo();
        let mut client = Client::new().await;
        client
            .request("GET /ws", &ASK.replace(": 13", ": 8"), "")
            .await;
        let answer = client.response().await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (426, "req.upgrade_version")
        );
        assert_eq!(answer.field("sec-websocket-version"), Some("13"));
        client = Client::new().await;
        client
            .request(
                "GET /ws",
                &ASK.replace("Sec-WebSocket-Key: abc\r\n", ""),
                "",
            )
            .await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (400, "req.bad_upgrade"));
        assert_eq!(server.seen.count(), 0);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn other_protocols_pass_where_the_route_names_them() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "upgrade = [\"tcp\"]", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            let request = next(&mut peer, &seen).await.unwrap();
            let protocol = match request.second_word() {
                "/right" => "TCP",
                _ => "udp",
            };
            let head = "HTTP/1.1 101 OK\r\nConnection: Upgrade";
            peer.send(format!("{head}\r\nUpgrade: {protocol}\r\n\r\nhi"))
                .await;
            peer.rest().await;
        });
        let fields = "Upgrade: tcp\r\nConnection: Upgrade\r\n";
        let mut client = Client::new().await;
        client.request("GET /right", fields, "").await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.exactly(2).await.unwrap(), b"hi");
        let mut other = Client::new().await;
        other.request("GET /wrong", fields, "").await;
        let answer = other.response().await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (502, "up.bad_upgrade"));
        drop((client, other));
        sleep_ms(20).await;
        proxy.assert_over().await;
    });
}
