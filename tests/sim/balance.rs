//! Which server is asked: weights, load, backups, and servers that are passed over for a while.

use super::house::{Proxy, sleep_ms, sleep_s, with_seeds};
use super::peer::{Client, Server, next, ok};
use proxyd::base::reason::Reason;
use proxyd::rt::sim::net;

fn servers(count: usize) -> Vec<Server> {
    (1..=count)
        .map(|n| Server::good(&format!("10.0.0.{n}:80")))
        .collect()
}

fn counts(servers: &[Server]) -> Vec<usize> {
    servers.iter().map(|server| server.seen.count()).collect()
}

/// Servers `10.0.0.1` and so on with further keys each.
fn upstream(keys: &[&str], more: &str) -> String {
    let mut text = format!("{more}\n");
    for (n, keys) in keys.iter().enumerate() {
        text += &format!(
            "[[upstream.server]]\naddress = \"10.0.0.{}:80\"\n{keys}\n",
            n + 1
        );
    }
    text
}

#[test]
fn weights_are_shares() {
    with_seeds(|seed| async move {
        let text = upstream(
            &["weight = 5", "weight = 3", "weight = 2", "weight = 0"],
            "",
        );
        let proxy = Proxy::with_upstream(&text, "", "", seed);
        let servers = servers(4);
        let mut client = Client::new().await;
        for _ in 0..100 {
            client.assert_works().await;
        }
        assert_eq!(counts(&servers), [50, 30, 20, 0]);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_route_splits_its_requests_by_weight() {
    with_seeds(|seed| async move {
        let text = "[[listener]]\nname = \"web\"\nbind = \"10.0.9.1:80\"\n\
                    [[route]]\nname = \"all\"\n\
                    to = [{ upstream = \"a\", weight = 9 }, { upstream = \"b\", weight = 1 }]\n\
                    [[upstream]]\nname = \"a\"\nservers = [\"10.0.0.1:80\"]\n\
                    [[upstream]]\nname = \"b\"\nservers = [\"10.0.0.2:80\"]\n";
        let proxy = Proxy::start(text, seed);
        let servers = servers(2);
        let mut client = Client::new().await;
        for _ in 0..400 {
            client.assert_works().await;
        }
        let counts = counts(&servers);
        assert_eq!(counts.iter().sum::<usize>(), 400);
        assert!((10..=80).contains(&counts[1]), "{counts:?}");
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn the_server_with_the_least_to_do_is_asked() {
    with_seeds(|seed| async move {
        let text = upstream(&["", "", ""], "balance = \"least_connections\"");
        let proxy = Proxy::with_upstream(&text, "", "", seed);
        let servers: Vec<Server> = (1..=3)
            .map(|n| {
                Server::raw(
                    &format!("10.0.0.{n}:80"),
                    move |mut peer, seen| async move {
                        while next(&mut peer, &seen).await.is_some() {
                            // The first one is slow.
                            sleep_ms(if n == 1 { 5000 } else { 50 }).await;
                            peer.send(ok("")).await;
                        }
                    },
                )
            })
            .collect();
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::new().await);
        }
        for _ in 0..20 {
            for client in &mut clients {
                client.request("GET /", "", "").await;
            }
            for client in &mut clients[1..] {
                let _slow_ones_too =
                    proxyd::rt::timeout(std::time::Duration::from_millis(120), client.response())
                        .await;
            }
            clients.retain(|_| true);
            let mut fresh = Vec::new();
            while fresh.len() < 4 {
                fresh.push(Client::new().await);
            }
            clients = fresh;
            sleep_ms(200).await;
        }
        let counts = counts(&servers);
        assert!(
            counts[0] * 2 < counts[1] && counts[0] * 2 < counts[2],
            "{counts:?}"
        );
        drop(clients);
        sleep_s(6).await;
        proxy.assert_over().await;
    });
}

#[test]
fn backups_wait_for_their_hour() {
    with_seeds(|seed| async move {
        let text = upstream(&["max_fails = 1", "backup = true"], "");
        let proxy = Proxy::with_upstream(&text, "", "", seed);
        let servers = servers(2);
        let mut client = Client::new().await;
        for _ in 0..10 {
            client.assert_works().await;
        }
        assert_eq!(counts(&servers), [10, 0]);
        net().refuse(servers[0].addr());
        net().reset_connections(servers[0].addr());
        for _ in 0..10 {
            client.assert_works().await;
        }
        assert_eq!(counts(&servers), [10, 10]);
        net().heal(servers[0].addr());
        sleep_s(11).await;
        for _ in 0..10 {
            client.assert_works().await;
        }
        assert_eq!(counts(&servers), [20, 10]);
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn a_failed_server_is_passed_over_and_probed_once() {
    with_seeds(|seed| async move {
        let keys = "max_fails = 2\nfail_timeout = \"10s\"";
        let proxy = Proxy::with_upstream(&upstream(&[keys, keys], ""), "", "", seed);
        let _good = Server::good("10.0.0.2:80");
        let first = "10.0.0.1:80".parse().unwrap();
        net().refuse(first);
        let failed = || {
            proxy
                .server(0)
                .metrics
                .connects
                .get(proxyd::metric::label::Outcome::Failed)
        };
        let mut client = Client::new().await;
        for _ in 0..20 {
            client.assert_works().await;
        }
        assert_eq!(failed(), 2, "then it is passed over");
        sleep_ms(9500).await;
        for _ in 0..10 {
            client.assert_works().await;
        }
        assert_eq!(failed(), 2);
        sleep_ms(600).await;
        // Its time is over: one request tries it, the others do not.
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = Client::new().await;
            client.request("GET /works", "", "").await;
            clients.push(client);
        }
        for client in &mut clients {
            assert_eq!(client.response().await.unwrap().status(), 200);
        }
        assert_eq!(failed(), 3, "one probe");
        net().heal(first);
        let back = Server::good("10.0.0.1:80");
        sleep_s(11).await;
        for _ in 0..20 {
            client.assert_works().await;
        }
        assert!(
            back.seen.count() >= 9,
            "it is in order again: {}",
            back.seen.count()
        );
        drop((client, clients));
        proxy.assert_over().await;
    });
}

#[test]
fn a_probe_that_its_client_breaks_off_says_nothing() {
    with_seeds(|seed| async move {
        let keys = "max_fails = 1\nfail_timeout = \"10s\"";
        let proxy = Proxy::with_upstream(&upstream(&[keys, "backup = true"], ""), "", "", seed);
        let _backup = Server::good("10.0.0.2:80");
        let first = "10.0.0.1:80".parse().unwrap();
        net().refuse(first);
        let mut client = Client::new().await;
        client.assert_works().await;
        net().heal(first);
        let slow = Server::raw("10.0.0.1:80", |mut peer, seen| async move {
            while next(&mut peer, &seen).await.is_some() {
                sleep_ms(500).await;
                peer.send(ok("slow")).await;
            }
        });
        sleep_ms(10_100).await;
        let mut impatient = Client::new().await;
        impatient.request("GET /", "", "").await;
        sleep_ms(100).await;
        impatient.0.reset();
        sleep_ms(100).await;
        assert_eq!(slow.seen.count(), 1);
        assert_eq!(
            client.get("/").await.unwrap().text(),
            "slow",
            "the next one probes"
        );
        assert_eq!(
            client.get("/").await.unwrap().text(),
            "slow",
            "and it is in order"
        );
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn without_any_server_there_is_a_503() {
    with_seeds(|seed| async move {
        let keys = "max_fails = 1";
        let proxy = Proxy::with_upstream(&upstream(&[keys, keys], ""), "", "", seed);
        let mut client = Client::new().await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (502, "up.connect_failed")
        );
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status(), answer.reason()), (503, "up.no_server"));
        assert!(answer.field("retry-after").is_some() && !answer.closes());
        assert_eq!(proxy.reasons(Reason::NoServer), 1);
        let _servers = servers(2);
        sleep_s(11).await;
        client.assert_works().await;
        drop(client);
        proxy.assert_over().await;
    });
}

#[test]
fn the_only_server_is_always_asked() {
    with_seeds(|seed| async move {
        let proxy = Proxy::to(&["10.0.0.1:80"], "", "", seed);
        let mut client = Client::new().await;
        for _ in 0..20 {
            let answer = client.get("/").await.unwrap();
            assert_eq!(
                (answer.status(), answer.reason()),
                (502, "up.connect_failed")
            );
        }
        let _server = servers(1);
        client.assert_works().await;
        drop(client);
        proxy.assert_over().await;
    });
}
