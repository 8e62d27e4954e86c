//! A worker's event loop without its process: a house that serves on loopback, a server behind it
//! and clients in front of it, all in one loop, none of them allocating for a request. What is left
//! to count is the proxy's own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proxyd::app::build::{self, House, Thread};
use proxyd::app::certificates::Certificates;
use proxyd::app::plan::{Plan, Slots};
use proxyd::app::serve;
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

/// What the server answers: a head and 128 bytes.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 13 Jan 2026 08:00:00 GMT\r\n\
Content-Type: text/plain\r\nContent-Length: 128\r\nConnection: keep-alive\r\n\r\n\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a client asks.
pub const REQUEST: &[u8] =
    b"GET /some/path?x=1 HTTP/1.1\r\nHost: example.org\r\nUser-Agent: bench/1.0\r\n\
Accept: text/html,application/json\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\n\r\n";

/// A house that serves until it is dropped.
pub struct Open {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it runs.
    pub house: Rc<House>,
    _leave: Signal,
}

/// Opens a house for a configuration whose first listener is served, whatever its `bind` says.
pub fn open(text: &str, log: &Sink) -> Open {
    let loaded = conf::load_str("bench.toml", text);
    let Some(model) = loaded.model else {
        panic!("{:#?}", loaded.findings)
    };
    let layout = Layout::new(2, 1 << 18);
    let table = Table::heap_with(layout);
    let mut registry = Registry::new(layout, &model.metrics.buckets);
    let slots = Slots::register(&model, 1, &mut registry).unwrap();
    let certificates = Certificates::load(&model, None, None, 1_800_000_000).unwrap();
    let wall = || Duration::from_secs(1_800_000_000);
    let log = AccessLog::new(&AccessParams::default(), log.clone(), 1, wall).unwrap();
    let plan = Plan {
        model,
        table,
        slots,
        certificates,
        demo: Vec::new(),
        instance: "bench".to_owned(),
    };
    let (leave, drain) = signal();
    let thread = Thread {
        column: table.column(1),
        place: Place::ONLY,
        seed: 1,
        log,
        wall,
        drain,
    };
    let house = Rc::new(build::build(&plan, thread).unwrap());
    let socket = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    let (gate, reserve) = (Gate::new(100_000), Reserve::new().unwrap());
    serve::accept(&house, 0, Listener::Tcp(socket), gate, reserve);
    Open {
        addr,
        house,
        _leave: leave,
    }
}

/// One listener, one route to one server; more lines may follow.
pub fn one_route(server: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:1\"\nmax_connections_per_ip = 0\n\
         [[route]]\nname = \"all\"\nto = [\"{server}\"]\n"
    )
}

/// A server that answers every head with the same bytes; bodies of so many bytes come first.
pub fn server(body: usize, answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = listener.local_addr().unwrap();
    rt::spawn(async move {
        while let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await {
            rt::spawn(answer_all(stream, body, answer)).detach();
        }
    })
    .detach();
    addr
}

async fn answer_all(mut stream: TcpStream, body: usize, answer: &'static [u8]) {
    let mut space = [0; 4096];
    let mut len = 0;
    loop {
        match stream.read(&mut space[len..]).await {
            Ok(0) | Err(_) => return,
            Ok(n) => len += n,
        }
        // Whoever asks sends one request at a time.
        if len >= body + 4 && space[..len - body].ends_with(b"\r\n\r\n") {
            len = 0;
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// A client connection.
pub struct Client {
    stream: TcpStream,
    expected: usize,
    space: Box<[u8; 4096]>,
}

impl Client {
    /// Connects.
    pub async fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr, &ConnectOpts::default()).await;
        Self {
            stream: stream.unwrap(),
            expected: 0,
            space: Box::new([0; 4096]),
        }
    }

    /// Asks once. All responses have the length of the first, which ends with `end`.
    pub async fn ask(&mut self, request: &[u8], end: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        let space = &mut self.space;
        let mut len = 0;
        loop {
            let n = self.stream.read(&mut space[len..]).await.unwrap();
            assert!(n > 0, "closed: {}", String::from_utf8_lossy(&space[..len]));
            len += n;
            if self.expected == 0 && space[..len].ends_with(end) {
                assert!(space.starts_with(b"HTTP/1.1 200 "));
                self.expected = len;
            }
            if self.expected == len {
                return;
            }
        }
    }
}

/// Runs `clients` at once, each asking `times`.
pub async fn ask_all(clients: &mut [Client], times: usize, request: &'static [u8]) {
    let mut left = clients.len();
    let mut running: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            Box::pin(async move {
                for _ in 0..times {
                    client.ask(request, &RESPONSE[RESPONSE.len() - 16..]).await;
                }
            })
        })
        .map(Some)
        .collect();
    poll_fn(|cx| {
        for place in &mut running {
            if let Some(client) = place
                && client.as_mut().poll(cx).is_ready()
            {
                *place = None;
                left -= 1;
            }
        }
        if left == 0 {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// A loop on the real clock and real sockets.
pub fn runtime() -> Runtime {
    Runtime::new(rt::Config::default()).unwrap()
}
