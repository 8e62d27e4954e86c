//! Connections to servers: kept, found dead, let go in time, bounded (http-rules §13).

use super::house::{Proxy, sleep_ms, sleep_s, with_seeds};
use super::peer::{Client, Server, next, ok, response};
use proxyd::rt::sim::net;

const APP: &str = "10.0.0.1:80";

fn app(pool: &str, seed: u64) -> Proxy {
    let upstream = format!("servers = [\"{APP}\"]\npool = {{ {pool} }}");
    Proxy::with_upstream(&upstream, "", "", seed)
}

#[test]
fn idle_connections_are_let_go_in_time() {
    with_seeds(|seed| async move {
        let proxy = app("idle_timeout = \"20s\"", seed);
        let server = Server::good(APP);
        let mut client = Client::new().await;
        client.assert_works().await;
        sleep_s(19).await;
        client.assert_works().await;
        assert_eq!(
            (server.seen.connections.get(), server.seen.open.get()),
            (1, 1)
        );
        sleep_s(18).await;
        assert_eq!(server.seen.open.get(), 1);
        sleep_ms(3100).await;
        assert_eq!(server.seen.open.get(), 0, "closed without being asked for");
        assert_eq!(proxy.server(0).metrics.idle.get(), 0);
        client.assert_works().await;
        assert_eq!(server.seen.connections.get(), 2);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn the_idle_time_of_the_server_is_undercut() {
    with_seeds(|seed| async move {
        let proxy = app("", seed);
        let server = Server::http(APP, |request| {
            let fields = match request.second_word() {
                "/short" => "Keep-Alive: timeout=1\r\n",
                _ => "Keep-Alive: timeout=5, max=100\r\n",
            };
            response("200 OK", fields, b"")
        });
        let mut client = Client::new().await;
        client.get("/").await.unwrap();
        sleep_ms(3900).await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            answer.field("keep-alive"),
            None,
            "it is between the two of them"
        );
        assert_eq!(server.seen.connections.get(), 1);
        sleep_ms(4050).await;
        client.get("/").await.unwrap();
        assert_eq!(server.seen.connections.get(), 2);
        client.get("/short").await.unwrap();
        client.get("/").await.unwrap();
        assert_eq!(
            server.seen.connections.get(),
            3,
            "nothing is left of a second"
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn use_and_age_are_bounded() {
    with_seeds(|seed| async move {
        let proxy = app("max_requests = 4", seed);
        let server = Server::good(APP);
        let mut client = Client::new().await;
        for _ in 0..12 {
            client.assert_works().await;
        }
        assert_eq!(server.seen.connections.get(), 3);
        drop((client, server, proxy));
        sleep_ms(60).await;
        let proxy = app("max_age = \"30s\"", seed);
        let server = Server::good(APP);
        let mut client = Client::new().await;
        for _ in 0..10 {
            client.assert_works().await;
            sleep_s(10).await;
        }
        let opened = server.seen.connections.get();
        assert!((3..=4).contains(&opened), "{opened}");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_connection_that_the_server_closed_is_not_used() {
    with_seeds(|seed| async move {
        let proxy = app("", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            let Some(request) = next(&mut peer, &seen).await else {
                return;
            };
            peer.send(ok("")).await;
            sleep_ms(100).await;
            match request.second_word() {
                "/fin" => {}
                "/reset" => peer.reset(),
                _ => {
                    // Nobody asked for this (rule 13.2).
                    peer.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
                        .await;
                    peer.rest().await;
                }
            }
        });
        let mut client = Client::new().await;
        for path in ["/fin", "/reset", "/unasked", "/fin"] {
            assert_eq!(client.get(path).await.unwrap().status(), 200);
            sleep_ms(if seed % 2 == 0 { 200 } else { 3000 }).await;
            assert_eq!(
                client.post("/fin", b"x").await.unwrap().status(),
                200,
                "{path}"
            );
            sleep_ms(200).await;
        }
        assert_eq!(server.seen.count(), 8);
        assert_eq!(proxy.server(0).metrics.failures.get(), 0);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn what_makes_a_connection_unfit_for_others() {
    with_seeds(|seed| async move {
        let proxy = app("", seed);
        let server = Server::http(APP, |request| match request.second_word() {
            "/close" => response("200 OK", "Connection: close\r\n", b""),
            "/old" => b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/more" => [ok("x"), ok("evil")].concat(),
            "/ntlm" => response("401 X", "WWW-Authenticate: NTLM\r\n", b""),
            "/negotiate" => response("401 X", "WWW-Authenticate: negotiate abc\r\n", b""),
            "/basic" => response("401 X", "WWW-Authenticate: Basic realm=x\r\n", b""),
            _ => ok("fine"),
        });
        let mut client = Client::new().await;
        let mut count = 1;
        for (path, fit) in [
            ("/fine", true),
            ("/basic", true),
            ("/close", false),
            ("/old", false),
            ("/more", false),
            ("/ntlm", false),
            ("/negotiate", false),
        ] {
            client.get(path).await.unwrap();
            sleep_ms(5).await;
            let answer = client.get("/fine").await.unwrap();
            assert_eq!(answer.text(), "fine", "{path}");
            count += u32::from(!fit);
            assert_eq!(server.seen.connections.get(), count, "{path}");
        }
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn connections_to_a_server_are_bounded_and_the_rest_waits() {
    with_seeds(|seed| async move {
        let upstream =
            "servers = [\"10.0.0.1:80\"]\npool = { max = 3 }\nqueue = { timeout = \"60s\" }";
        let proxy = Proxy::with_upstream(upstream, "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_ms(1000).await;
                peer.send(ok("")).await;
            }
        });
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = Client::new().await;
            client.request("GET /", "", "").await;
            clients.push(client);
        }
        sleep_ms(500).await;
        assert_eq!(proxy.house.upstreams[0].metrics.waiting.get(), 7);
        assert_eq!(server.seen.open.get(), 3);
        for client in &mut clients {
            assert_eq!(client.response().await.unwrap().status(), 200);
            assert!(server.seen.open.get() <= 3);
        }
        assert_eq!(server.seen.connections.get(), 3);
        drop(clients);
        proxy.assert_over().await;
    });
}

#[test]
fn who_leaves_the_queue_takes_nobodys_turn() {
    with_seeds(|seed| async move {
        let upstream =
            "servers = [\"10.0.0.1:80\"]\npool = { max = 1 }\nqueue = { timeout = \"60s\" }";
        let proxy = Proxy::with_upstream(upstream, "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_ms(1000).await;
                peer.send(ok("")).await;
            }
        });
        let mut clients = Vec::new();
        for n in 0..6 {
            let mut client = Client::new().await;
            client.request(&format!("GET /{n}"), "", "").await;
            sleep_ms(20).await;
            clients.push(client);
        }
        // Some of those who wait go away, one of them at the moment when its turn comes.
        clients.remove(3).0.reset();
        sleep_ms(870 + seed * 2).await;
        clients.remove(1).0.reset();
        for client in &mut clients {
            assert_eq!(client.response().await.unwrap().status(), 200);
        }
        let count = server.seen.count() + server.seen.broken.borrow().len();
        assert!(count <= 5, "{count}");
        drop(clients);
        sleep_s(2).await;
        proxy.assert_over().await;
    });
}

#[test]
fn few_idle_connections_are_kept() {
    with_seeds(|seed| async move {
        let proxy = app("max_idle = 2", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_ms(100).await;
                peer.send(ok("")).await;
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
        sleep_ms(20).await;
        assert_eq!(
            (server.seen.connections.get(), server.seen.open.get()),
            (6, 2)
        );
        assert_eq!(proxy.server(0).metrics.idle.get(), 2);
        drop(clients);
        proxy.assert_over().await;
    });
}

#[test]
fn a_server_that_vanishes_holds_nothing_for_ever() {
    with_seeds(|seed| async move {
        let proxy = app("", seed);
        let server = Server::good(APP);
        let mut client = Client::new().await;
        client.assert_works().await;
        net().vanish(server.addr().ip());
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (504, "up.response_timeout")
        );
        net().heal(server.addr());
        client.assert_works().await;
        drop((client, server));
        proxy.assert_over().await;
    });
}
