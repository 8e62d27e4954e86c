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

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use house::{Client, REQUEST, RESPONSE, ask_all};
use proxyd::log::Sink;
use proxyd::rt;

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

/// Bytes that the loop holds for each of so many idle connections that have had a response.
fn idle(connections: usize, listener: &str, secure: bool) -> i64 {
    house::runtime().block_on(async {
        let server = house::server(0, RESPONSE);
        let text = house::one_route(server).replace("bind =", &format!("{listener}\nbind ="));
        let open = house::open(&text, &Sink::off());
        // The first ones bring everything to its size: pools, tables, tickets.
        let warm = visitors(open.addr, 200, secure).await;
        rt::sleep(Duration::from_millis(800)).await;
        drop(warm);
        rt::sleep(Duration::from_millis(8000)).await;
        let (before, blocks) = (heap::held(), heap::blocks());
        let visitors = visitors(open.addr, connections, secure).await;
        rt::sleep(Duration::from_millis(8000)).await;
        let held = heap::held() - before;
        for (class, (now, then)) in heap::blocks().iter().zip(blocks).enumerate() {
            if now - then != 0 {
                eprintln!("{:6} bytes: {} blocks", class * 16, now - then);
            }
        }
        let shared = &open.house.shared;
        assert_eq!(shared.connections.borrow().len(), connections);
        drop(visitors);
        held / connections as i64
    })
}

/// Clients on a thread of their own, whose memory is not counted; they have had one response each.
async fn visitors(addr: SocketAddr, count: usize, _secure: bool) -> Vec<TcpStream> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..count {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(REQUEST).unwrap();
            let mut space = [0; 4096];
            let mut len = 0;
            while !space[..len].ends_with(&RESPONSE[RESPONSE.len() - 16..]) {
                len += stream.read(&mut space[len..]).unwrap();
            }
            sender.send(stream).unwrap();
        }
    });
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        open.extend(receiver.try_iter());
        rt::sleep(Duration::from_millis(5)).await;
    }
    open
}

#[test]
fn an_idle_connection_is_small() {
    let plain = idle(1000, "", false);
    eprintln!("{plain} bytes for an idle plain connection");
}
