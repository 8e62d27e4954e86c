//! Bodies: their limits, those kept for another attempt, and large ones in both directions.

use super::house::{Proxy, sleep_ms, sleep_s, with_seeds};
use super::peer::{Broken, Client, Server, next, ok, response};
use proxyd::metric::label::{Class, Limit};
use proxyd::rt::sim::{Weather, net};

const APP: &str = "10.0.0.1:80";

/// Bytes that tell where they stand.
fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at * 31 + at / 251 + salt) % 251) as u8)
        .collect()
}

fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut rest, mut turn) = (Vec::new(), body, 0);
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
        turn += 1;
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = more;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

#[test]
fn large_bodies_arrive_as_they_were_sent() {
    with_seeds(|seed| async move {
        net().set_weather(Weather {
            segment_max: 1 + (seed as usize * 977) % 9000,
            window: 1000 + (seed as usize * 7919) % 100_000,
            ..Weather::default()
        });
        for route in ["", "buffering = { request = \"256KiB\" }"] {
            let proxy = Proxy::to(&[APP], "limits = { min_rate = \"off\" }", route, seed);
            let server = Server::http(APP, |request| {
                let sizes = [1, 17, 1000, 2047, 2048, 2049, 16_384, 40_000];
                if request.second_word() == "/chunked" {
                    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    [head.to_vec(), chunked(&request.body, &sizes)].concat()
                } else {
                    response("200 OK", "", &request.body)
                }
            });
            let mut client = Client::new().await;
            for (turn, length) in [1, 2048, 16_383, 100_000, 400_000].into_iter().enumerate() {
                let body = pattern(length, turn);
                let answer = client.post("/length", &body).await.unwrap();
                assert_eq!(answer.body, body, "{length}");
                let fields = "Transfer-Encoding: chunked\r\n";
                let coded = chunked(&body, &[turn + 1, 5000, 333]);
                client.request("POST /chunked", fields, coded).await;
                assert_eq!(client.response().await.unwrap().body, body, "{length}");
                assert_eq!(server.seen.last().body, body);
            }
            assert_eq!(server.seen.connections.get(), 1);
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_s(1).await;
        }
    });
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "max_body = \"1000B\"", seed);
        let server = Server::http(APP, |request| ok(request.text()));
        let mut client = Client::new().await;
        assert_eq!(
            client.post("/", &[b'x'; 1000]).await.unwrap().body.len(),
            1000
        );
        // A small one is dropped and the connection goes on (rule 5.1).
        let answer = client.post("/", &[b'x'; 1001]).await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (413, "req.body_too_large")
        );
        assert!(!answer.closes());
        client.assert_works().await;
        client
            .request("POST /", "Content-Length: 10000000\r\n", [b'x'; 5000])
            .await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.closes()), (413, true));
        client.assert_closed().await;
        assert_eq!(server.seen.count(), 2);
        assert_eq!(proxy.hits(Limit::RequestBody), 2);
        proxy.assert_quiet();
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_chunked_body_is_cut_at_the_limit() {
    with_seeds(|seed| async move {
        for route in ["", "buffering = { request = \"on\" }"] {
            let route = format!("max_body = \"1000B\"\n{route}");
            let proxy = Proxy::to(&[APP], "", &route, seed);
            let server = Server::http(APP, |request| ok(request.text()));
            let mut client = Client::new().await;
            let fields = "Transfer-Encoding: chunked\r\n";
            client
                .request("POST /", fields, chunked(&[b'x'; 1000], &[100]))
                .await;
            assert_eq!(client.response().await.unwrap().body.len(), 1000);
            client
                .request("POST /", fields, chunked(&[b'x'; 1001], &[100]))
                .await;
            let answer = client.response().await.unwrap();
            assert_eq!((answer.status(), answer.closes()), (413, true));
            client.assert_closed().await;
            sleep_ms(20).await;
            assert_eq!(server.seen.count(), 1, "the second one was never complete");
            drop((client, server));
            proxy.assert_over().await;
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn a_kept_body_holds_no_server_while_it_comes() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&[APP], "", "buffering = { request = \"10KiB\" }", seed);
        let server = Server::http(APP, |request| ok(request.text()));
        let mut client = Client::new().await;
        client
            .request("POST /", "Content-Length: 8000\r\n", [b'a'; 4000])
            .await;
        sleep_s(3).await;
        assert_eq!(server.seen.connections.get(), 0);
        assert!(proxy.house.shared.kept.in_use() >= 4000);
        client.send([b'b'; 4000]).await;
        assert_eq!(client.response().await.unwrap().body.len(), 8000);
        assert_eq!(proxy.house.shared.kept.in_use(), 0);
        // A larger one streams from where the buffer is full.
        client
            .request("POST /", "Content-Length: 30000\r\n", [b'a'; 20_000])
            .await;
        sleep_s(3).await;
        assert_eq!(server.seen.open.get(), 1);
        assert!(proxy.house.shared.kept.in_use() <= 10 << 10);
        client.send([b'b'; 10_000]).await;
        let answer = client.response().await.unwrap();
        assert_eq!(
            answer.body,
            [vec![b'a'; 20_000], vec![b'b'; 10_000]].concat()
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn the_memory_of_kept_bodies_is_bounded() {
    with_seeds(|seed| async move {
        let listener = "limits = { retry_buffer = \"10KiB\" }";
        let proxy = Proxy::to(&[APP], listener, "buffering = { request = \"8KiB\" }", seed);
        let server = Server::http(APP, |request| ok(request.text()));
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::new().await;
            client
                .request("POST /", "Content-Length: 7000\r\n", [b'a'; 6900])
                .await;
            sleep_ms(10).await;
            assert!(proxy.house.shared.kept.in_use() <= 10 << 10);
            clients.push(client);
        }
        assert!(server.seen.open.get() >= 2, "those without memory stream");
        for client in &mut clients {
            client.send([b'b'; 100]).await;
            let answer = client.response().await.unwrap();
            assert_eq!((answer.status(), answer.body.len()), (200, 7000));
        }
        assert_eq!(proxy.house.shared.kept.in_use(), 0);
        drop(clients);
        proxy.assert_over().await;
    });
}

#[test]
fn a_slow_client_need_not_hold_up_the_server() {
    with_seeds(|seed| async move {
        for (route, freed) in [("", false), ("buffering = { response = \"512KiB\" }", true)] {
            let proxy = Proxy::to(&[APP], "", route, seed);
            for coded in [false, true] {
                let server = Server::raw(APP, move |mut peer, seen| async move {
                    let _request = next(&mut peer, &seen).await;
                    let body = pattern(500_000, 1);
                    let whole = if coded {
                        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                        [head.to_vec(), chunked(&body, &[100, 3000, 20_000])].concat()
                    } else {
                        response("200 OK", "", &body)
                    };
                    peer.send(whole).await;
                    seen.broken.borrow_mut().push(Broken::Closed);
                    peer.rest().await;
                });
                let mut client = Client::new().await;
                client.request("GET /", "", "").await;
                sleep_s(5).await;
                assert_eq!(server.seen.broken.borrow().len(), usize::from(freed));
                let answer = client.response().await.unwrap();
                assert_eq!(answer.body, pattern(500_000, 1));
                drop((client, server));
                proxy.assert_over().await;
            }
            drop(proxy);
            sleep_ms(60).await;
        }
    });
}

#[test]
fn a_body_that_nobody_wants_is_dropped_within_bounds() {
    with_seeds(|seed| async move {
        let text = "[[listener]]\nname = \"web\"\nbind = \"10.0.9.1:80\"\n\
                    [[route]]\nname = \"own\"\nrespond = { status = 200, body = \"own\" }";
        let proxy = Proxy::start(text, seed);
        let mut client = Client::new().await;
        for length in [10, 5000, 60_000] {
            client
                .request("POST /", &format!("Content-Length: {length}\r\n"), "")
                .await;
            assert_eq!(client.response().await.unwrap().text(), "own");
            sleep_ms(300).await;
            client.send(vec![b'x'; length]).await;
            client.assert_works().await;
        }
        // Too large, or too late: the connection ends, after the answer.
        client
            .request("POST /", "Content-Length: 100000\r\n", "")
            .await;
        assert_eq!(client.response().await.unwrap().text(), "own");
        client.send(vec![b'x'; 100_000]).await;
        client.assert_closed().await;
        let mut client = Client::new().await;
        client
            .request("POST /", "Content-Length: 100\r\n", "")
            .await;
        assert_eq!(client.response().await.unwrap().text(), "own");
        client.assert_closed().await;
        assert_eq!(proxy.recorded(Class::Success), 8);
        drop(client);
        proxy.assert_over().await;
    });
}
