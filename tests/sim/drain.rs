//! Leaving: after a reload, and for good. Nobody loses a request because of it.

use std::time::Duration;

use super::house::{Proxy, Watch, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Server, next, ok};
use proxyd::app::serve;
use proxyd::base::reason::Reason;
use proxyd::rt;

const APP: &str = "10.0.0.1:80";
const S: fn(u64) -> Duration = Duration::from_secs;
const ASK: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: abc\r\n\
                   Sec-WebSocket-Version: 13\r\n";
const SWITCH: &str = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[test]
fn an_idle_connection_gets_one_more_answer() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        let (mut soon, mut late) = (Client::new().await, Client::new().await);
        soon.assert_works().await;
        late.assert_works().await;
        sleep_ms(seed * 40).await;
        proxy.drain(S(30), S(60));
        let answer = soon.get("/").await.unwrap();
        assert_eq!((answer.status(), answer.closes()), (200, true));
        soon.assert_closed().await;
        sleep_s(25).await;
        let answer = late.get("/").await.unwrap();
        assert_eq!((answer.status(), answer.closes()), (200, true));
        late.assert_closed().await;
        drop((soon, late));
        rt::timeout(S(1), serve::all_gone(&proxy.house))
            .await
            .unwrap();
        proxy.assert_over().await;
    });
}

#[test]
fn what_is_in_flight_is_completed() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            sleep_s(5).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                .await;
            peer.drip(b"0123456789", 1, S(1)).await;
            peer.rest().await;
        });
        let mut client = Client::new().await;
        client.request("GET /", "", "").await;
        let mut upload = Client::new().await;
        upload
            .request("POST /", "Content-Length: 9000\r\n", [b'x'; 4000])
            .await;
        sleep_s(2).await;
        proxy.drain(S(30), S(60));
        sleep_s(2).await;
        upload.send([b'x'; 5000]).await;
        for client in [&mut client, &mut upload] {
            let answer = client.response().await.unwrap();
            assert_eq!((answer.text(), answer.closes()), ("0123456789", true));
            client.assert_closed().await;
        }
        drop((client, upload));
        proxy.assert_over().await;
    });
}

#[test]
fn nobody_new_is_let_in() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::good(APP);
        Client::new().await.assert_works().await;
        proxy.drain(S(30), S(60));
        sleep_ms(5).await;
        let front = "10.0.9.1:80".parse().unwrap();
        let opts = rt::sock::ConnectOpts::default();
        let refused = rt::sock::TcpStream::connect(front, &opts).await;
        assert!(refused.is_err(), "its socket is closed");
        proxy.assert_over().await;
    });
}

#[test]
fn the_deadline_cuts_what_is_left() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let server = Server::raw(APP, |mut peer, seen| async move {
            let request = next(&mut peer, &seen).await.unwrap();
            if request.second_word() != "/silent" {
                peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome of it")
                    .await;
            }
            peer.rest().await;
        });
        let mut idle = Client::new().await;
        let (mut silent, mut half, mut old) = (
            Client::new().await,
            Client::new().await,
            Client::new().await,
        );
        let mut slow = Client::new().await;
        silent.request("GET /silent", "", "").await;
        half.request("GET /half", "", "").await;
        old.send("GET /half HTTP/1.0\r\n\r\n").await;
        slow.send("GET /slow HT").await;
        half.head().await.unwrap();
        old.head().await.unwrap();
        proxy.drain(S(8), S(60));
        let watch = Watch::start();
        assert_eq!(silent.rest().await.0, b"");
        assert!(watch.elapsed() >= S(8) && watch.elapsed() < Duration::from_millis(8100));
        assert_eq!(
            half.rest().await.1,
            Broken::Reset,
            "nobody takes it for complete"
        );
        assert_eq!(old.rest().await.1, Broken::Reset, "nor this one");
        assert_eq!(slow.rest().await.0, b"");
        assert_eq!(idle.rest().await, (Vec::new(), Broken::Closed));
        sleep_ms(100).await;
        assert_eq!(proxy.reasons(Reason::DrainLimit), 3);
        assert_eq!(server.seen.open.get(), 0);
        assert_eq!(proxy.server(0).metrics.failures.get(), 0);
        drop((idle, silent, half, old, slow));
        proxy.assert_over().await;
    });
}

#[test]
fn whoever_waits_for_a_server_is_cut_as_well() {
    with_seeds(|seed| async move {
        let upstream =
            "servers = [\"10.0.0.1:80\"]\npool = { max = 1 }\nqueue = { timeout = \"60s\" }";
        let route = "buffering = { request = \"on\" }";
        let proxy = Proxy::with_upstream(upstream, "", route, seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            next(&mut peer, &seen).await;
            peer.rest().await;
        });
        let mut clients = Vec::new();
        for n in 0..4 {
            let mut client = Client::new().await;
            if n < 2 {
                client.request("GET /", "", "").await;
            } else {
                client
                    .request("POST /", "Content-Length: 100\r\n", "x")
                    .await;
            }
            clients.push(client);
        }
        sleep_ms(20).await;
        proxy.drain(S(5), S(60));
        let watch = Watch::start();
        for client in &mut clients {
            assert_eq!(client.rest().await.0, b"");
        }
        assert!(watch.elapsed() < Duration::from_millis(5060));
        assert_eq!(proxy.reasons(Reason::DrainLimit), 4);
        drop(clients);
        proxy.assert_over().await;
    });
}

fn switching() -> Server {
    Server::raw(APP, |mut peer, seen| async move {
        next(&mut peer, &seen).await;
        peer.send(SWITCH).await;
        while let Ok(bytes) = peer.some().await {
            peer.send(bytes).await;
        }
    })
}

async fn tunnel(path: &str) -> Client {
    let mut client = Client::new().await;
    client.request(&format!("GET {path}"), ASK, "").await;
    client.head().await.unwrap();
    client
}

#[test]
fn tunnels_live_to_their_own_limit() {
    with_seeds(|seed| async move {
        let text = "[[listener]]\nname = \"web\"\nbind = \"10.0.9.1:80\"\n\
                    [[route]]\nname = \"short\"\npath = \"/short\"\nto = [\"10.0.0.1:80\"]\ndrain_timeout = \"10s\"\n\
                    [[route]]\nname = \"long\"\npath = \"/long\"\nto = [\"10.0.0.1:80\"]\ndrain_timeout = \"100s\"\n\
                    [[route]]\nname = \"any\"\npath = \"/any\"\nto = [\"10.0.0.1:80\"]\n";
        for (stop, ends) in [(false, [10, 50, 100]), (true, [10, 50, 50])] {
            let proxy = Proxy::start(text, seed);
            let server = switching();
            let mut short = tunnel("/short").await;
            let mut any = tunnel("/any").await;
            let mut long = tunnel("/long").await;
            if stop {
                proxy.stop(S(5), S(50));
            } else {
                proxy.drain(S(5), S(50));
            }
            let watch = Watch::start();
            for (client, end) in [
                (&mut short, ends[0]),
                (&mut any, ends[1]),
                (&mut long, ends[2]),
            ] {
                if watch.elapsed() + S(1) < S(end) {
                    client.send("x").await;
                    assert_eq!(client.exactly(1).await.unwrap(), b"x");
                }
                client.rest().await;
                let took = watch.elapsed();
                assert!(
                    took + Duration::from_millis(5) > S(end) && took < S(end + 1),
                    "{took:?}"
                );
            }
            assert_eq!(proxy.reasons(Reason::DrainLimit), 3);
            sleep_ms(100).await;
            assert_eq!(server.seen.open.get(), 0);
            drop((short, any, long));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(100).await;
        }
    });
}

#[test]
fn a_graceful_stop_closes_idle_connections_soon() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = Server::raw(APP, |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_s(4).await;
                peer.send(ok("")).await;
            }
        });
        let (mut idle, mut busy) = (Client::new().await, Client::new().await);
        let mut recent = Client::new().await;
        idle.get("/").await.unwrap();
        sleep_s(1).await;
        busy.request("GET /", "", "").await;
        recent.get("/").await.unwrap();
        busy.request("GET /", "", "").await;
        sleep_ms(100).await;
        proxy.stop(S(30), S(30));
        let watch = Watch::start();
        idle.assert_closed().await;
        assert!(
            watch.elapsed() < Duration::from_millis(2300),
            "{:?}",
            watch.elapsed()
        );
        recent.assert_closed().await;
        assert!(
            watch.elapsed() < Duration::from_millis(2800),
            "{:?}",
            watch.elapsed()
        );
        assert_eq!(busy.response().await.unwrap().status(), 200);
        assert!(busy.response().await.unwrap().closes());
        busy.assert_closed().await;
        drop((idle, busy, recent));
        rt::timeout(S(1), serve::all_gone(&proxy.house))
            .await
            .unwrap();
        proxy.assert_over().await;
    });
}

#[test]
fn a_second_order_to_leave_is_heard() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "drain_timeout = \"1h\"", seed);
        let _server = switching();
        let mut client = tunnel("/").await;
        proxy.drain(S(30), S(3600));
        sleep_s(60).await;
        client.send("x").await;
        assert_eq!(client.exactly(1).await.unwrap(), b"x");
        proxy.stop(S(5), S(5));
        let watch = Watch::start();
        client.rest().await;
        assert!(
            watch.elapsed() < Duration::from_millis(5100),
            "{:?}",
            watch.elapsed()
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn everything_can_be_closed_over_a_time() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "", seed);
        let _server = switching();
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(tunnel("/").await);
        }
        serve::close_all(&proxy.house, S(10));
        let watch = Watch::start();
        sleep_ms(5050).await;
        assert!(
            (4..=6).contains(&proxy.connections()),
            "{}",
            proxy.connections()
        );
        for client in &mut clients {
            client.rest().await;
        }
        assert!(watch.elapsed() < S(10), "{:?}", watch.elapsed());
        drop(clients);
        proxy.assert_over().await;
    });
}
