//! The accept loop: batches, the limit, the drain, and descriptors that run out.

use super::*;
use crate::base::time::Instant;
use crate::rt::drain::{self, Deadlines, Signal};
use crate::rt::sock::{ConnectOpts, TcpStream, UnixStream};
use crate::rt::{Config, Runtime, sleep, spawn, timeout};
use proptest::prelude::*;

struct Loop {
    addr: SocketAddr,
    gate: Gate,
    signal: Signal,
    held: Rc<RefCell<Vec<(Conn, Permit)>>>,
    events: Rc<RefCell<Vec<Event>>>,
}

fn start(addr: &str, limit: usize) -> Loop {
    let listener = TcpListener::bind(addr.parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let (signal, drain) = drain::signal();
    let gate = Gate::new(limit);
    let opts = Options {
        gate: gate.clone(),
        reserve: Reserve::new().unwrap(),
        drain,
    };
    let (held, events) = (
        Rc::<RefCell<Vec<_>>>::default(),
        Rc::<RefCell<Vec<_>>>::default(),
    );
    let (keep, note) = (Rc::clone(&held), Rc::clone(&events));
    spawn(accept_loop(
        Listener::Tcp(listener),
        opts,
        move |conn, peer, permit| {
            assert!(peer.is_some());
            keep.borrow_mut().push((conn, permit));
        },
        move |event| note.borrow_mut().push(event),
    ))
    .detach();
    Loop {
        addr,
        gate,
        signal,
        held,
        events,
    }
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr, &ConnectOpts::default())
        .await
        .unwrap()
}

#[test]
fn at_the_limit_connections_wait_and_come_in_when_room_is_made() {
    Runtime::simulated(1).block_on(async {
        let it = start("10.0.0.1:80", 40);
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(connect(it.addr).await);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            (it.held.borrow().len(), it.gate.open(), it.gate.is_paused()),
            (40, 40, true)
        );
        assert_eq!(*it.events.borrow(), [Event::Full]);
        // One free is not enough: 5 % of 40 are two.
        let first = it.held.borrow_mut().pop();
        drop(first);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(it.gate.open(), 39);
        let second = it.held.borrow_mut().pop();
        drop(second);
        sleep(Duration::from_secs(1)).await;
        assert_eq!((it.gate.open(), it.gate.pauses()), (40, 2));
        it.held.borrow_mut().clear();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(it.held.borrow().len(), 8);
    });
}

#[test]
fn two_listeners_share_the_limit() {
    Runtime::simulated(2).block_on(async {
        let gate = Gate::new(2);
        let permits = (gate.enter(), gate.enter());
        assert!(gate.is_paused());
        drop(permits);
        assert!(!gate.is_paused());
        assert_eq!(gate.open(), 0);
    });
}

#[test]
fn a_drain_closes_the_listener() {
    Runtime::simulated(3).block_on(async {
        let it = start("10.0.0.1:80", 40);
        let _client = connect(it.addr).await;
        it.signal.start(Deadlines {
            ordinary: Instant::FAR,
            upgraded: Instant::FAR,
        });
        it.signal.over().await;
        assert!(
            TcpStream::connect(it.addr, &ConnectOpts::default())
                .await
                .is_err()
        );
        assert_eq!(it.held.borrow().len(), 1, "what was accepted stays");
    });
}

#[test]
fn what_waits_when_the_drain_starts_is_accepted() {
    let runtime = Runtime::new(Config::default()).unwrap();
    runtime.block_on(async {
        let it = start("127.0.0.1:0", 1000);
        sleep(Duration::from_millis(1)).await;
        // The loop of this thread does not run meanwhile: all of them wait in the queue.
        let waiting: Vec<_> = (0..100)
            .map(|_| std::net::TcpStream::connect(it.addr).unwrap())
            .collect();
        it.signal.start(Deadlines {
            ordinary: Instant::FAR,
            upgraded: Instant::FAR,
        });
        sleep(Duration::from_millis(50)).await;
        assert_eq!(it.held.borrow().len(), waiting.len());
        assert!(std::net::TcpStream::connect(it.addr).is_err());
    });
}

#[test]
fn real_listeners_of_both_kinds_are_taken_over_by_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    Runtime::new(Config::default()).unwrap().block_on(async {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (signal, drain) = drain::signal();
        let (gate, reserve) = (Gate::new(10), Reserve::new().unwrap());
        let seen = Rc::new(RefCell::new(Vec::new()));
        for fd in [OwnedFd::from(tcp), OwnedFd::from(unix)] {
            let opts = Options {
                gate: gate.clone(),
                reserve: reserve.clone(),
                drain: drain.clone(),
            };
            let seen = Rc::clone(&seen);
            spawn(accept_loop(
                Listener::from_fd(fd).unwrap(),
                opts,
                move |conn, peer, _permit| {
                    seen.borrow_mut().push((matches!(conn, Conn::Tcp(_)), peer));
                },
                |event| panic!("{event:?}"),
            ))
            .detach();
        }
        drop(drain);
        let client = connect(addr).await;
        timeout(Duration::from_secs(5), client.readable())
            .await
            .unwrap();
        let _unix = UnixStream::connect(&path).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        let from = client.local_addr().unwrap();
        assert_eq!(*seen.borrow(), [(true, Some(from)), (false, None)]);
        signal.start(Deadlines {
            ordinary: Instant::FAR,
            upgraded: Instant::FAR,
        });
        signal.over().await;
    });
}

proptest! {
    /// Against a plain count: the gate is shut from the limit on until 5 % are free.
    #[test]
    fn the_gate_keeps_its_limit(limit in 1_usize..200, moves in proptest::collection::vec(0_u8..5, 0..600)) {
        let gate = Gate::new(limit);
        let mut permits = Vec::new();
        let mut shut = false;
        for step in moves {
            if step < 3 && !gate.is_paused() {
                permits.push(gate.enter());
            } else {
                permits.pop();
            }
            if permits.len() >= limit {
                shut = true;
            } else if permits.len() <= limit - (limit / 20).max(1) {
                shut = false;
            }
            prop_assert_eq!((gate.open(), gate.is_paused()), (permits.len(), shut));
            prop_assert!(gate.open() <= limit);
        }
    }
}
