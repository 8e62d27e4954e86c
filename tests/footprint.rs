//! How little a connection and a request take: allocations, system calls, memory, wake-ups. All
//! of it is counted, none of it is timed, so that a busy machine changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    reason = "test code"
)]

#[path = "../benches/support/heap.rs"]
mod heap;
#[path = "../benches/support/house.rs"]
mod house;
mod support;

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use house::{Client, REQUEST, RESPONSE, ask_all};
use proxyd::log::Sink;
use proxyd::rt;
use support::client::Wire;
use support::tls::{self, Authority, ClientSetup};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Allocations of each request once everything is warm.
fn allocations(connections: usize, body: usize, request: &'static [u8]) -> u64 {
    house::runtime().block_on(async {
        let server = house::server(body, RESPONSE);
        let open = house::open(&house::one_route(server), &Sink::off());
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::new(open.addr).await);
        }
        ask_all(&mut clients, 50, request).await;
        // The list of clients is the only thing that the measurement itself allocates.
        let before = heap::count();
        ask_all(&mut clients, 0, request).await;
        let own = heap::count() - before;
        let before = heap::count();
        heap::trap(std::env::var_os("PROXYD_TRAP").is_some());
        ask_all(&mut clients, 100, request).await;
        heap::trap(false);
        heap::count() - before - own
    })
}

#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    assert_eq!(allocations(1, 0, REQUEST), 0);
}

type Dial = dyn Fn(SocketAddr) -> Box<dyn Wire> + Send + Sync;

/// Bytes that the loop holds for each of so many idle connections that have had a response. Tables
/// double when they are full: a number a little below a power of two leaves little room in them.
fn idle(connections: usize, keys: &str, dial: &Arc<Dial>) -> i64 {
    house::runtime().block_on(async {
        let server = house::server(0, RESPONSE);
        let text = house::one_route(server).replace("bind =", &format!("{keys}\nbind ="));
        let open = house::open(&text, &Sink::off());
        let held = || heap::held() - proxyd::io::buf::stats().spare as i64;
        // The first one brings pools and whatever else is shared to its size.
        drop(visitors(open.addr, 1, dial).await);
        let (before, blocks) = (held(), heap::blocks());
        let visitors = visitors(open.addr, connections, dial).await;
        let bytes = (held() - before) / connections as i64;
        for (class, (now, then)) in heap::blocks().iter().zip(blocks).enumerate() {
            if (now - then).unsigned_abs() as usize >= connections / 2 {
                eprintln!(
                    "{} blocks of {} to {}",
                    now - then,
                    class * 16,
                    class * 16 + 15
                );
            }
        }
        let open = open.house.shared.connections.borrow().len();
        assert_eq!(open, connections);
        drop(visitors);
        bytes
    })
}

/// Clients on a thread of their own, whose memory is not counted; they have had one response each.
async fn visitors(addr: SocketAddr, count: usize, dial: &Arc<Dial>) -> Vec<Box<dyn Wire>> {
    let (sender, receiver) = mpsc::channel();
    let dial = Arc::clone(dial);
    std::thread::spawn(move || {
        for _ in 0..count {
            let mut stream = dial(addr);
            stream.write_all(REQUEST).unwrap();
            let mut space = [0; 4096];
            let mut len = 0;
            while !space[..len].ends_with(&RESPONSE[RESPONSE.len() - 16..]) {
                len += stream.read(&mut space[len..]).unwrap();
            }
            sender.send(stream).unwrap();
        }
    });
    let mut open = Vec::new();
    while open.len() < count {
        open.extend(receiver.try_iter());
        rt::sleep(Duration::from_millis(5)).await;
    }
    open
}

#[test]
fn an_idle_plain_connection_holds_half_a_kibibyte() {
    let dial: Arc<Dial> = Arc::new(|addr| Box::new(TcpStream::connect(addr).unwrap()));
    let bytes = idle(2040, "", &dial);
    eprintln!("{bytes} bytes for an idle plain connection");
    assert!(bytes <= 560, "{bytes}");
}

#[test]
fn an_idle_tls_connection_holds_a_session_and_no_buffers() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = authority.issue(&["localhost"]).write(folder.path(), "site");
    let setup = ClientSetup::trusting(&authority.cert);
    let dial: Arc<Dial> = Arc::new(move |addr| {
        let plain = TcpStream::connect(addr).unwrap();
        Box::new(tls::handshake(plain, "localhost", &setup).unwrap())
    });
    let keys = format!("tls = {{ cert = {cert:?}, key = {key:?} }}");
    let bytes = idle(250, &keys, &dial);
    eprintln!("{bytes} bytes for an idle TLS connection");
    assert!(bytes <= 9 << 10, "{bytes}");
}
