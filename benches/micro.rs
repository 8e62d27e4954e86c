//! Small pieces of the data path, each alone. `cargo bench --bench micro` prints times;
//! `benches/count` runs each piece twice under callgrind with different numbers of rounds, and the
//! difference is the instructions of one round, which no other load of the machine can change.
//!
//!     micro [PIECE [ROUNDS]]

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a benchmark"
)]

#[path = "support/house.rs"]
mod house;

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use house::{Client, REQUEST, RESPONSE};
use proxyd::base::time::Instant;
use proxyd::conf;
use proxyd::http::client_addr;
use proxyd::http::edit::{RequestContext, RequestRules, write_request_head};
use proxyd::http::router::{Ask, Router};
use proxyd::http::template::Facts;
use proxyd::http::trace::{Hop, Trace};
use proxyd::log::Sink;
use proxyd::proto::head::{Method, RequestHead, ResponseHead};
use proxyd::proto::http1::request::{self, RequestRules as ParseRules};
use proxyd::proto::http1::{Limits, Scan, response};
use proxyd::rt::wheel::Wheel;
use proxyd::upstream::balance::{Balancer, Place, Tried, View};
use proxyd::upstream::params::BalanceKind;

/// A piece: its name, its rounds by default, and what runs so many rounds.
type Piece = (&'static str, u32, fn(u32));

const PIECES: &[Piece] = &[
    ("request", 20_000, |n| exchange(n, 1)),
    ("requests-64", 20_000, |n| exchange(n, 64)),
    ("direct", 20_000, direct),
    ("parse-request", 200_000, parse_request),
    ("parse-response", 200_000, parse_response),
    ("write-request", 200_000, write_request),
    ("route-10", 200_000, |n| route(n, 10)),
    ("route-10000", 200_000, |n| route(n, 10_000)),
    ("pick-2", 500_000, |n| pick(n, 2, BalanceKind::RoundRobin)),
    ("pick-1000", 500_000, |n| {
        pick(n, 1000, BalanceKind::RoundRobin);
    }),
    ("pick-least-2", 500_000, |n| {
        pick(n, 2, BalanceKind::LeastConnections);
    }),
    ("pick-least-1000", 5_000, |n| {
        pick(n, 1000, BalanceKind::LeastConnections);
    }),
    ("timer", 500_000, timer),
];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|w| !w.starts_with("--"))
        .collect();
    let wanted = words.first().map(String::as_str);
    let rounds = words.get(1).map(|n| n.parse().expect("a number of rounds"));
    for (name, usual, run) in PIECES {
        if wanted.is_some_and(|wanted| wanted != *name) {
            continue;
        }
        let rounds = rounds.unwrap_or(*usual);
        let start = std::time::Instant::now();
        run(rounds);
        let nanos = start.elapsed().as_nanos() / u128::from(rounds.max(1));
        println!("{name:16} {nanos:8} ns");
    }
}

/// Requests through the proxy, on kept connections, with client and server in the same loop.
fn exchange(rounds: u32, connections: u32) {
    house::runtime().block_on(async {
        let server = house::server(0, RESPONSE);
        let open = house::open(&house::one_route(server), &Sink::off());
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::new(open.addr).await);
        }
        house::ask_all(&mut clients, (rounds / connections) as usize, REQUEST).await;
    });
}

/// The same client and server without a proxy: to be taken off `request`.
fn direct(rounds: u32) {
    house::runtime().block_on(async {
        let server = house::server(0, RESPONSE);
        let mut clients = [Client::new(server).await];
        house::ask_all(&mut clients, rounds as usize, REQUEST).await;
    });
}

fn parsed() -> RequestHead {
    let (mut head, mut scan) = (RequestHead::default(), Scan::default());
    let rules = ParseRules::default();
    request::parse(&mut head, &mut scan, REQUEST, &Limits::default(), rules).unwrap();
    head
}

fn parse_request(rounds: u32) {
    let mut head = RequestHead::default();
    let limits = Limits::default();
    for _ in 0..rounds {
        let (mut scan, rules) = (Scan::default(), ParseRules::default());
        let parsed = request::parse(&mut head, &mut scan, black_box(REQUEST), &limits, rules);
        black_box(parsed.is_ok());
    }
}

fn parse_response(rounds: u32) {
    let mut head = ResponseHead::default();
    let limits = Limits::default();
    for _ in 0..rounds {
        let mut scan = Scan::default();
        let bytes = black_box(RESPONSE);
        let parsed = response::parse(&mut head, &mut scan, bytes, &limits, Method::Get);
        black_box(parsed.is_ok());
    }
}

fn write_request(rounds: u32) {
    let text = house::one_route(([127, 0, 0, 1], 80).into());
    let model = conf::load_str("bench.toml", &text).model.unwrap();
    let rules = RequestRules::compile(&model.listeners[0].http, &model.routes[0], "b").unwrap();
    let head = parsed();
    let peer = Some(IpAddr::from([192, 0, 2, 17]));
    let facts = Facts {
        client: client_addr::Client {
            addr: peer,
            peer,
            trusted_peer: false,
        },
        client_port: 12345,
        tls: None,
        listener: "web",
        listener_port: 80,
        route: "all",
        upstream: "all",
        server: "one",
        method: b"GET",
        authority: b"example.org",
        host: b"example.org",
        path: b"/some/path",
        query: Some(b"x=1"),
        request_id: b"0123456789abcdef0123456789abcdef",
        status: 0,
    };
    let cx = RequestContext {
        facts: &facts,
        path: b"/some/path",
        body: head.body,
        server_host: b"server",
        upgrade: None,
        trace: Some(Hop {
            trace: Trace::create(7, 9),
            continued: false,
        }),
        trailers: false,
        close: false,
    };
    let mut out = Vec::new();
    for _ in 0..rounds {
        out.clear();
        let written = write_request_head(&mut out, black_box(&head), REQUEST, &cx, &rules);
        black_box(written.is_ok());
    }
}

/// So many routes, half by host, half by path of one host; every lookup another one.
fn route(rounds: u32, count: u32) {
    let mut text = house::one_route(([127, 0, 0, 1], 80).into());
    let host_of = |n: u32| match n % 2 {
        0 => format!("h{n}.example.org"),
        _ => "example.org".to_owned(),
    };
    for n in 0..count {
        let host = host_of(n);
        text += &format!(
            "[[route]]\nname = \"r{n}\"\nhost = [\"{host}\"]\npath = [\"/p{n}/\"]\nto = [\"127.0.0.1:80\"]\n"
        );
    }
    let loaded = conf::load_str("bench.toml", &text);
    let model = loaded
        .model
        .unwrap_or_else(|| panic!("{:#?}", loaded.findings));
    let router = Router::new(&["web"], &model.routes);
    let asked: Vec<(String, String)> = (0..100)
        .map(|n| n * 7919 % count)
        .map(|n| (host_of(n), format!("/p{n}/and/more")))
        .collect();
    for (host, path) in asked.iter().cycle().take(rounds as usize) {
        let ask = Ask {
            host: host.as_bytes(),
            path: path.as_bytes(),
            method: b"GET",
            query: None,
            fields: &[],
            buf: &[],
        };
        black_box(router.find(0, black_box(&ask)).is_ok());
    }
}

struct Servers(Vec<u64>);

impl View for Servers {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn is_usable(&self, _server: usize) -> bool {
        true
    }
    fn in_flight(&self, server: usize) -> u64 {
        self.0[server]
    }
    fn weight(&self, _server: usize) -> u32 {
        1
    }
    fn is_backup(&self, _server: usize) -> bool {
        false
    }
}

fn pick(rounds: u32, count: u64, kind: BalanceKind) {
    let view = Servers((0..count).map(|n| n * 37 % 11).collect());
    let mut balancer = Balancer::new(kind, &view, Place::ONLY);
    for _ in 0..rounds {
        black_box(balancer.pick(black_box(&view), &Tried::new()));
    }
}

/// Ten thousand timers; each round moves one to a later time, as a request does, and turns the
/// wheel now and then.
fn timer(rounds: u32) {
    let mut now = Instant::from_nanos(1_000_000_000);
    let mut wheel = Wheel::new(now);
    let keys: Vec<_> = (0..10_000).map(|_| wheel.insert(())).collect();
    for (round, key) in (0..rounds).zip(keys.iter().cycle()) {
        now = now + Duration::from_micros(20);
        wheel.set(*key, now + Duration::from_secs(60));
        if round % 16 == 0 {
            wheel.expire(now, |key, ()| {
                black_box(key);
            });
        }
    }
}
