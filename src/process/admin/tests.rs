//! The admin process over a real socket, in a thread of the test.

use super::*;
use crate::metric::bundle::{ListenerMetrics, MasterMetrics, ServerMetrics, WorkerMetrics};
use crate::metric::label::Class;
use crate::metric::{Owner, Role};
use crate::process::worker::{Listening, Port};
use crate::proto::control::Drain;
use crate::sys::fdpass;
use crate::sys::socket::Local;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

struct Running {
    addr: SocketAddr,
    table: Table,
    control: Option<OwnedFd>,
    thread: Option<std::thread::JoinHandle<Result<(), String>>>,
}

fn owner(role: Role, now: crate::base::time::Instant) -> Owner {
    Owner {
        pid: std::process::id(),
        role,
        worker: 0,
        thread: 0,
        generation: 3,
        started: now,
        heartbeat: now,
    }
}

fn context(listener: TcpListener) -> (OwnedFd, HelperContext) {
    let (master, child) = fdpass::pair().unwrap();
    let alone = Drain {
        ordinary: None,
        upgraded: None,
        stopping: true,
    };
    let local = Local::Ip(listener.local_addr().unwrap());
    let sockets = vec![Listening {
        place: 0,
        local,
        fd: listener.into(),
    }];
    let context = HelperContext {
        generation: 3,
        sockets,
        port: Port::new(child, Vec::new(), alone),
        column: Some(7),
        logs: Vec::new(),
    };
    (master, context)
}

fn start() -> Running {
    let table = Table::heap();
    let mut registry = Registry::new(table.layout(), &[Duration::from_millis(5)]);
    let listener = ListenerMetrics::register(&mut registry, &["<web>"]).unwrap();
    let server = ServerMetrics::register(&mut registry, &["up", "s1"]).unwrap();
    let worker = WorkerMetrics::register(&mut registry, &["0"]).unwrap();
    let master = MasterMetrics::register(&mut registry, &[]).unwrap();
    let column = table.column(1);
    let listener = listener.bind(&column);
    listener.connections.add(41);
    listener.requests.add(Class::ServerError, 2);
    server.bind(&column).shut_until.set(1);
    worker.bind(&column).connections.add(17);
    master.bind(&column).reload_time.set(1);

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let (control, context) = context(socket);
    let thread = std::thread::spawn(move || run(&Model::default(), &registry, table, context));
    Running {
        addr,
        table,
        control: Some(control),
        thread: Some(thread),
    }
}

impl Running {
    fn serving(self) -> Self {
        let now = clock::monotonic();
        self.table.column(1).take(owner(Role::Worker, now));
        self
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn leave(&mut self) -> Result<(), String> {
        self.control = None;
        self.thread.take().unwrap().join().unwrap()
    }
}

#[test]
fn metrics_health_and_page_are_served() {
    let running = start().serving();
    let metrics = running.ask("GET /metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.contains("proxyd_listener_connections_total{listener=\"<web>\"} 41\n"));
    assert!(metrics.contains("proxyd_process_up{process=\"worker-0\",generation=\"3\"} 1\n"));
    let memory = "proxyd_process_resident_memory_bytes{process=\"worker-0\",generation=\"3\"} ";
    assert!(metrics.contains(memory));

    assert!(running.ask("GET /healthz").ends_with("\r\n\r\nok\n"));
    assert!(running.ask("HEAD /healthz").ends_with("\r\n\r\n"));

    let page = running.ask("GET /");
    assert!(page.contains("content-type: text/html"));
    assert!(page.contains("&lt;web&gt;") && !page.contains("<web>"));
    assert!(page.contains("<td>41</td>") && page.contains("<td>17</td>"));
    assert!(page.contains("passed over") && page.contains("up / s1"));
    assert!(page.contains("The last reload failed."));
    assert!(page.ends_with("</body></html>\n"));
}

#[test]
fn other_paths_and_methods_are_refused() {
    let running = start();
    assert!(running.ask("GET /x").starts_with("HTTP/1.1 404 "));
    let refused = running.ask("POST /metrics");
    assert!(refused.starts_with("HTTP/1.1 405 "));
    assert!(refused.contains("allow: GET, HEAD\r\n"));
}

#[test]
fn without_a_fresh_worker_the_health_is_bad() {
    let running = start();
    assert!(running.ask("GET /healthz").starts_with("HTTP/1.1 503 "));
    let long_ago = crate::base::time::Instant::from_nanos(1);
    running.table.column(1).take(owner(Role::Worker, long_ago));
    assert!(running.ask("GET /healthz").starts_with("HTTP/1.1 503 "));
    let running = running.serving();
    assert!(running.ask("GET /healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_end_of_the_master_is_the_end_of_admin() {
    let mut running = start();
    let mut idle = TcpStream::connect(running.addr).unwrap();
    assert!(running.ask("GET /").starts_with("HTTP/1.1 200 "));
    let begun = std::time::Instant::now();
    running.leave().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0, "closed");
    assert!(TcpStream::connect(running.addr).is_err());
}
