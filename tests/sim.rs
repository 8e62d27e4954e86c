//! The reverse proxy on virtual time and a simulated network: the same code as in a worker, with
//! the clock and the sockets replaced. A failing seed is printed and can be given back in
//! `PROXYD_SEED`.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proxyd::app::build::{self, House, Thread};
use proxyd::app::certificates::Certificates;
use proxyd::app::plan::{Plan, Slots};
use proxyd::app::serve::{self, Leave};
use proxyd::conf;
use proxyd::log::Sink;
use proxyd::log::access::AccessLog;
use proxyd::log::params::AccessParams;
use proxyd::metric::{Layout, Registry, Table};
use proxyd::net::listen::{Gate, Listener, Reserve};
use proxyd::rt::drain::{Signal, signal};
use proxyd::rt::sock::{ConnectOpts, TcpListener, TcpStream};
use proxyd::rt::{self, Runtime};
use proxyd::upstream::balance::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn seeds() -> Vec<u64> {
    match std::env::var("PROXYD_SEED") {
        Ok(seed) => vec![seed.parse().expect("PROXYD_SEED is a number")],
        Err(_) => (1..=24).collect(),
    }
}

/// Runs a scenario with every seed; the seed of a failure is printed.
fn with_seeds<F: Future<Output = ()>>(scenario: impl Fn(u64) -> F) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Runtime::simulated(seed).block_on(scenario(seed));
        }));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed: run again with PROXYD_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A worker without a process: listening on the simulated network.
struct Proxy {
    house: Rc<House>,
    leave: Signal,
    table: Table,
    registry: Registry,
}

const FRONT: &str = "10.0.9.1:80";

fn proxy(text: &str, seed: u64) -> Proxy {
    let loaded = conf::load_str("sim.toml", text);
    let Some(model) = loaded.model else {
        panic!("{:#?}", loaded.findings)
    };
    let layout = Layout::new(4, 1 << 16);
    let table = Table::heap_with(layout);
    let mut registry = Registry::new(layout, &model.metrics.buckets);
    let slots = Slots::register(&model, 1, &mut registry).unwrap();
    let certificates = Certificates::load(&model, None, None, 1_800_000_000).unwrap();
    let plan = Plan {
        model,
        table,
        slots,
        certificates,
        demo: Vec::new(),
        instance: "sim".to_owned(),
    };
    let (leave, drain) = signal();
    let wall = || Duration::from_secs(1_800_000_000);
    let log = AccessLog::new(&AccessParams::default(), Sink::off(), seed, wall).unwrap();
    let column = table.column(1);
    let thread = Thread {
        column,
        place: Place::ONLY,
        seed,
        log,
        wall,
        drain,
    };
    let house = Rc::new(build::build(&plan, thread).unwrap());
    let socket = TcpListener::bind(FRONT.parse().unwrap()).unwrap();
    let (gate, reserve) = (Gate::new(1000), Reserve::new().unwrap());
    serve::accept(&house, 0, Listener::Tcp(socket), gate, reserve);
    Proxy {
        house,
        leave,
        table,
        registry,
    }
}

/// What a server does with each request head it gets.
type Reply = Rc<dyn Fn(&str) -> Vec<u8>>;

/// A server on the simulated network that keeps connections; counts connections and requests.
#[derive(Clone, Default)]
struct Seen {
    connections: Rc<Cell<u32>>,
    requests: Rc<RefCell<Vec<String>>>,
}

fn server(addr: &str, reply: impl Fn(&str) -> Vec<u8> + 'static) -> Seen {
    let seen = Seen::default();
    let listener = TcpListener::bind(addr.parse().unwrap()).unwrap();
    let (out, reply): (_, Reply) = (seen.clone(), Rc::new(reply));
    rt::spawn(async move {
        loop {
            let Ok((stream, _)) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await else {
                return;
            };
            seen.connections.set(seen.connections.get() + 1);
            let (seen, reply) = (seen.clone(), Rc::clone(&reply));
            rt::spawn(serve_one(stream, seen, reply)).detach();
        }
    })
    .detach();
    out
}

async fn serve_one(mut stream: TcpStream, seen: Seen, reply: Reply) {
    let mut held = Vec::new();
    loop {
        let Some(request) = read_message(&mut stream, &mut held).await else {
            return;
        };
        let answer = reply(&request);
        seen.requests.borrow_mut().push(request);
        if answer.is_empty() || stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Reads a head and the body that its Content-Length or chunked coding announces.
async fn read_message(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<String> {
    let mut space = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(held).into_owned();
        if let Some(head) = text.find("\r\n\r\n").map(|at| at + 4) {
            let lower = text[..head].to_lowercase();
            let length = lower
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            let end = match length {
                Some(n) => Some(head + n.trim().parse::<usize>().unwrap()),
                None if lower.contains("transfer-encoding: chunked") => {
                    text[head..].find("0\r\n\r\n").map(|at| head + at + 5)
                }
                None => Some(head),
            };
            if let Some(end) = end.filter(|end| held.len() >= *end) {
                let message = String::from_utf8_lossy(&held[..end]).into_owned();
                held.drain(..end);
                return Some(message);
            }
        }
        match stream.read(&mut space).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => held.extend_from_slice(&space[..n]),
        }
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn connect() -> TcpStream {
    TcpStream::connect(
        FRONT.parse::<SocketAddr>().unwrap(),
        &ConnectOpts::default(),
    )
    .await
    .unwrap()
}

struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Client {
    async fn new() -> Self {
        Self {
            stream: connect().await,
            held: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn response(&mut self) -> Option<String> {
        read_message(&mut self.stream, &mut self.held).await
    }

    async fn get(&mut self, path: &str) -> Option<String> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: example.org\r\n\r\n"))
            .await;
        self.response().await
    }
}

const ONE: &str = r#"
[[listener]]
name = "web"
bind = "10.0.9.1:80"
[[route]]
name = "all"
to = ["10.0.0.1:80"]
"#;

#[test]
fn requests_are_forwarded_and_connections_are_kept() {
    with_seeds(|seed| async move {
        let _proxy = proxy(ONE, seed);
        let seen = server("10.0.0.1:80", |_| ok("hello"));
        let mut client = Client::new().await;
        for n in 0..20 {
            let response = client.get(&format!("/{n}")).await.expect("an answer");
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(response.ends_with("\r\n\r\nhello"), "{response}");
        }
        assert_eq!(
            seen.connections.get(),
            1,
            "one kept connection carries them all"
        );
        let requests = seen.requests.borrow();
        assert!(
            requests[7].starts_with("GET /7 HTTP/1.1\r\nHost: example.org\r\n"),
            "{}",
            requests[7]
        );
    });
}
