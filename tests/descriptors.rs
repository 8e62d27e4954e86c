//! Descriptors run out while connections wait: some are refused cleanly, none hangs, and accepting
//! goes on when there are descriptors again. Alone in its file, since the limit holds for the
//! whole process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proxyd::base::time::Instant;
use proxyd::net::Conn;
use proxyd::net::listen::{Event, Gate, Listener, Options, Permit, Reserve, accept_loop};
use proxyd::rt::drain::{self, Deadlines};
use proxyd::rt::{self, Config, Runtime};
use std::cell::RefCell;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

const CLIENTS: usize = 60;
const ROOM: u64 = 10;

#[test]
fn connections_beyond_the_descriptors_are_refused_and_the_rest_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // They are connected although nobody has accepted them: the kernel does that.
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    let held: Rc<RefCell<Vec<(Conn, Permit)>>> = Rc::default();
    let events: Rc<RefCell<Vec<Event>>> = Rc::default();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();

    Runtime::new(Config::default()).unwrap().block_on(async {
        let (signal, drain) = drain::signal();
        let opts = Options {
            gate: Gate::new(1000),
            reserve: Reserve::new().unwrap(),
            drain,
        };
        let listener = Listener::from_fd(listener.into()).unwrap();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        setrlimit(Resource::RLIMIT_NOFILE, used + ROOM, hard).unwrap();
        let (keep, note) = (Rc::clone(&held), Rc::clone(&events));
        let _task = rt::spawn(accept_loop(
            listener,
            opts,
            move |conn, _peer, permit| keep.borrow_mut().push((conn, permit)),
            move |event| note.borrow_mut().push(event),
        ));
        rt::sleep(Duration::from_millis(50)).await;
        // The limit counts numbers, and the process may have gaps in its own.
        let got = held.borrow().len() as u64;
        assert!((ROOM..ROOM + 5).contains(&got), "{got}");
        let count = |what| {
            events
                .borrow()
                .iter()
                .filter(|event| **event == what)
                .count()
        };
        assert_eq!((count(Event::Exhausted), count(Event::Refused)), (1, 16));

        // Room is made: those who still wait come in.
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        rt::sleep(Duration::from_millis(300)).await;
        assert_eq!(held.borrow().len() + count(Event::Refused), CLIENTS);
        signal.start(Deadlines {
            ordinary: Instant::FAR,
            upgraded: Instant::FAR,
        });
        signal.over().await;
    });

    held.borrow_mut().clear();
    for mut client in clients {
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let end = client.read(&mut [0; 1]);
        let hangs = end
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hangs && !end.is_ok_and(|n| n > 0), "a connection hangs");
    }
}
