//! Tests of the loop on the real clock and the kernel's sockets.

use super::sock::{ConnectOpts, TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use super::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant as Wall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn real() -> Runtime {
    Runtime::new(Config::default()).unwrap()
}

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any()).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = TcpStream::connect(addr, &ConnectOpts::default())
        .await
        .unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

#[test]
fn tasks_run_and_the_result_comes_back() {
    let runtime = real();
    let sum = Rc::new(Cell::new(0));
    for n in 1..=10 {
        let sum = Rc::clone(&sum);
        let _task = runtime.spawn(async move {
            yield_now().await;
            sum.set(sum.get() + n);
        });
    }
    let total = runtime.block_on(async {
        while sum.get() < 55 {
            yield_now().await;
        }
        sum.get()
    });
    assert_eq!((total, runtime.tasks()), (55, 0));
}

#[test]
fn an_aborted_task_is_dropped_at_once() {
    let runtime = real();
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    runtime.block_on(async {
        let task = spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        yield_now().await;
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(Rc::strong_count(&alive), 1);
    });
}

#[test]
fn a_task_may_abort_itself() {
    let runtime = real();
    let slot: Rc<Cell<Option<Task>>> = Rc::default();
    let mine = Rc::clone(&slot);
    runtime.block_on(async {
        slot.set(Some(spawn(async move {
            mine.take().unwrap().abort();
            yield_now().await;
            panic!("it went on");
        })));
        sleep(ms(5)).await;
    });
    assert_eq!((runtime.tasks(), runtime.panics()), (0, 0));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}

#[test]
fn a_panic_ends_one_task_and_is_counted() {
    let runtime = real();
    runtime.block_on(async {
        let bad = spawn(async {
            yield_now().await;
            panic!("on purpose");
        });
        let worse = spawn(async {
            let _bomb = Bomb;
            yield_now().await;
        });
        let (tell, answer) = chan::oneshot();
        let _good = spawn(async move {
            sleep(ms(5)).await;
            tell.send(1).unwrap();
        });
        assert_eq!(answer.await, Ok(1));
        assert!(bad.is_finished() && worse.is_finished());
    });
    assert_eq!(runtime.panics(), 2);
}

#[test]
fn a_late_wake_of_a_dead_task_wakes_nobody_else() {
    let runtime = real();
    runtime.block_on(async {
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let keep = Rc::clone(&kept);
        let first = spawn(std::future::poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        yield_now().await;
        first.abort();
        let polls = Rc::new(Cell::new(0));
        let count = Rc::clone(&polls);
        let _second = spawn(std::future::poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::<()>::Pending
        }));
        yield_now().await;
        kept.borrow().as_ref().unwrap().wake_by_ref();
        yield_now().await;
        yield_now().await;
        assert_eq!(polls.get(), 1);
    });
}

#[test]
fn another_thread_can_wake_a_sleeping_loop() {
    let started = Wall::now();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&done);
    let mut thread = None;
    real().block_on(std::future::poll_fn(|cx| {
        if seen.load(std::sync::atomic::Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let (waker, done) = (cx.waker().clone(), std::sync::Arc::clone(&done));
        thread.get_or_insert_with(|| {
            std::thread::spawn(move || {
                std::thread::sleep(ms(20));
                done.store(true, std::sync::atomic::Ordering::SeqCst);
                waker.wake();
            })
        });
        Poll::Pending
    }));
    thread.unwrap().join().unwrap();
    assert!(started.elapsed() >= ms(20));
}

#[test]
fn several_loops_run_on_several_threads() {
    let threads: Vec<_> = (0..3_u32)
        .map(|n| {
            std::thread::spawn(move || {
                real().block_on(async {
                    let (mut a, mut b) = pair().await;
                    a.write_u32(n).await.unwrap();
                    b.read_u32().await.unwrap()
                })
            })
        })
        .collect();
    let got: Vec<u32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(got, [0, 1, 2]);
}

#[test]
fn an_idle_loop_sleeps() {
    let runtime = real();
    let turns = Rc::new(Cell::new(0_u32));
    let count = Rc::clone(&turns);
    runtime.on_turn(move |_| count.set(count.get() + 1));
    runtime.block_on(async {
        let mut far = Timer::new();
        far.set_after(Duration::from_secs(3600));
        let _idle = spawn(async move { far.wait().await });
        sleep(ms(300)).await;
    });
    // The start, the end, and where the wheel sorts the timer into a lower level.
    assert!(turns.get() <= 6, "{} turns", turns.get());
}

#[test]
fn the_hook_sees_how_long_a_turn_was() {
    let runtime = real();
    let busy = Rc::new(Cell::new(Duration::ZERO));
    let most = Rc::clone(&busy);
    runtime.on_turn(move |stats| most.set(most.get().max(stats.busy)));
    runtime.block_on(async {
        std::thread::sleep(ms(15));
        yield_now().await;
        sleep(ms(1)).await;
    });
    assert!(busy.get() >= ms(15));
}

#[test]
fn a_sleep_is_never_too_short_and_a_timeout_cuts_in() {
    real().block_on(async {
        let started = Wall::now();
        sleep(ms(30)).await;
        assert!(started.elapsed() >= ms(30));
        assert_eq!(
            timeout(ms(10), std::future::pending::<()>()).await,
            Err(Elapsed)
        );
        assert_eq!(timeout(ms(1000), async { 7 }).await, Ok(7));
    });
}

#[test]
fn a_timer_can_be_moved_both_ways_and_unset() {
    real().block_on(async {
        let started = Wall::now();
        let mut timer = Timer::new();
        timer.set_after(ms(40));
        let waiting = std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending()));
        assert!(waiting.await);
        timer.set_after(ms(80));
        timer.wait().await;
        assert!(started.elapsed() >= ms(80));
        timer.set_after(Duration::from_secs(100));
        assert!(std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending())).await);
        timer.set_after(ms(10));
        timer.wait().await;
        assert!(started.elapsed() < Duration::from_secs(50));
        timer.clear();
        assert_eq!(timer.deadline(), None);
        assert_eq!(timeout(ms(30), timer.wait()).await, Err(Elapsed));
    });
}

#[test]
fn a_greedy_task_does_not_starve_the_others() {
    real().block_on(async {
        let (mut a, mut b) = pair().await;
        a.write_all(&[1; 4000]).await.unwrap();
        let reads = Rc::new(Cell::new(0));
        let count = Rc::clone(&reads);
        let _greedy = spawn(async move {
            while b.read_u8().await.is_ok() {
                count.set(count.get() + 1);
            }
        });
        while reads.get() == 0 {
            yield_now().await;
        }
        assert!(reads.get() <= 64, "{} reads in one poll", reads.get());
        while reads.get() < 4000 {
            yield_now().await;
        }
    });
}

#[test]
fn tcp_carries_bytes_half_closes_and_ends() {
    real().block_on(async {
        let (mut client, mut server) = pair().await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello");
        server.write_all(b"bye").await.unwrap();
        drop(server);
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"bye");
    });
}

#[test]
fn a_megabyte_goes_both_ways_at_once() {
    real().block_on(async {
        let (client, server) = pair().await;
        let data: Vec<u8> = (0..1_u32 << 20).map(|n| (n ^ (n >> 8)) as u8).collect();
        let (tell, answer) = chan::oneshot();
        let expected = data.clone();
        let _other = spawn(async move {
            tell.send(exchange(server, &expected).await).unwrap();
        });
        assert_eq!(exchange(client, &data).await, data);
        assert_eq!(answer.await.unwrap(), data);
    });
}

/// Writes and reads at the same time, both from one task.
async fn exchange(mut stream: TcpStream, data: &[u8]) -> Vec<u8> {
    let (mut sent, mut got, mut ended) = (0, Vec::new(), false);
    std::future::poll_fn(|cx| {
        while sent < data.len() {
            match Pin::new(&mut stream).poll_write(cx, &data[sent..]) {
                Poll::Ready(n) => sent += n.unwrap(),
                Poll::Pending => break,
            }
        }
        if sent == data.len() && !std::mem::replace(&mut ended, true) {
            assert!(Pin::new(&mut stream).poll_shutdown(cx).is_ready());
        }
        loop {
            let mut space = [0; 5000];
            let mut buf = tokio::io::ReadBuf::new(&mut space);
            match Pin::new(&mut stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result.unwrap(),
            }
            if buf.filled().is_empty() && ended {
                return Poll::Ready(());
            }
            got.extend_from_slice(buf.filled());
        }
    })
    .await;
    got
}

use tokio::io::{AsyncRead, AsyncWrite};

#[test]
fn an_end_that_comes_with_the_last_bytes_is_not_missed() {
    real().block_on(async {
        for _ in 0..50 {
            let (mut client, mut server) = pair().await;
            client.write_all(b"x").await.unwrap();
            drop(client);
            sleep(ms(1)).await;
            let mut buf = [0; 100];
            assert_eq!(server.read(&mut buf).await.unwrap(), 1);
            let end = timeout(ms(2000), server.read(&mut buf)).await;
            assert_eq!(end.unwrap().unwrap(), 0);
        }
    });
}

#[test]
fn staleness_is_seen_for_data_end_and_reset() {
    real().block_on(async {
        let (mut client, server) = pair().await;
        assert!(!server.is_stale());
        client.write_all(b"x").await.unwrap();
        server.readable().await;
        assert!(server.is_stale());

        let (mut client, mut server) = pair().await;
        // A read that fills its buffer leaves the readiness in doubt: it must not count.
        client.write_all(b"abcd").await.unwrap();
        let mut buf = [0; 4];
        server.read_exact(&mut buf).await.unwrap();
        assert!(!server.is_stale());
        drop(client);
        server.readable().await;
        assert!(server.is_stale());

        let (client, mut server) = pair().await;
        client.reset();
        drop(client);
        server.readable().await;
        assert!(server.is_stale());
        let error = server.read(&mut buf).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn writing_to_a_peer_that_is_gone_is_an_error_not_a_signal() {
    real().block_on(async {
        let (mut client, server) = pair().await;
        server.reset();
        drop(server);
        sleep(ms(5)).await;
        assert!(client.write_all(b"x").await.is_err() || client.write_all(b"x").await.is_err());
    });
}

#[test]
fn a_vectored_write_is_one_flow() {
    real().block_on(async {
        let (mut client, mut server) = pair().await;
        assert!(client.is_write_vectored());
        let parts = [io::IoSlice::new(b"head "), io::IoSlice::new(b"body")];
        assert_eq!(client.write_vectored(&parts).await.unwrap(), 9);
        let mut got = [0; 9];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"head body");
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    real().block_on(async {
        let addr = TcpListener::bind(any()).unwrap().local_addr().unwrap();
        let error = TcpStream::connect(addr, &ConnectOpts::default())
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_connection_can_have_its_source_address_chosen() {
    real().block_on(async {
        let listener = TcpListener::bind(any()).unwrap();
        let source = Ipv4Addr::new(127, 0, 0, 2).into();
        let opts = ConnectOpts {
            source: Some(source),
            keepalive: Some(ms(5000)),
        };
        let _client = TcpStream::connect(listener.local_addr().unwrap(), &opts)
            .await
            .unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip(), source);
    });
}

#[test]
fn unix_streams_and_messages_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    real().block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        drop(client);
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
        assert!(server.is_stale());

        let (a, b) = sock::UnixDatagram::pair().unwrap();
        a.send(b"one").await.unwrap();
        a.send(b"two").await.unwrap();
        drop(a);
        let mut buf = [0; 16];
        assert_eq!(b.recv(&mut buf).await.unwrap(), 3);
        assert_eq!(&buf[..3], b"one");
        assert_eq!(b.recv(&mut buf).await.unwrap(), 3);
        assert_eq!(b.recv(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn udp_packets_keep_their_borders() {
    real().block_on(async {
        let (a, b) = (
            UdpSocket::bind(any()).unwrap(),
            UdpSocket::bind(any()).unwrap(),
        );
        let to = b.local_addr().unwrap();
        a.connect(to).unwrap();
        a.send_to(b"one", to).await.unwrap();
        a.send_to(b"", to).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(
            b.recv_from(&mut buf).await.unwrap(),
            (3, a.local_addr().unwrap())
        );
        assert_eq!(b.recv_from(&mut buf).await.unwrap().0, 0);
    });
}

#[test]
fn a_foreign_descriptor_can_be_waited_for() {
    real().block_on(async {
        use std::io::{Read as _, Write as _};
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let (a, b) = (fd::AsyncFd::new(a).unwrap(), fd::AsyncFd::new(b).unwrap());
        a.write_with(|mut s| s.write(b"xyz")).await.unwrap();
        let mut buf = [0; 8];
        assert_eq!(b.read_with(|mut s| s.read(&mut buf)).await.unwrap(), 3);
        let empty = timeout(ms(10), b.read_with(|mut s| s.read(&mut [0; 8]))).await;
        assert!(empty.is_err());
    });
}

#[test]
fn dropping_the_loop_drops_tasks_with_their_sockets() {
    let runtime = real();
    let alive = Rc::new(());
    let held = Rc::clone(&alive);
    let mut other = runtime.block_on(async {
        let (client, mut server) = pair().await;
        let _task = spawn(async move {
            let mut timer = Timer::new();
            timer.set_after(ms(60_000));
            let _never = (server.read_u8().await, timer.wait().await, held);
        });
        sleep(ms(5)).await;
        std::net::TcpStream::from(client.into_fd().unwrap())
    });
    drop(runtime);
    assert_eq!(Rc::strong_count(&alive), 1);
    other.set_nonblocking(false).unwrap();
    assert_eq!(io::Read::read(&mut other, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn what_an_idle_connection_needs_is_small() {
    // A waiting task: stream and timer in its future, its places in the tables.
    let future = size_of::<TcpStream>() + size_of::<Timer>() + 64;
    let tables =
        executor::SLOT_SIZE + reactor::SLOT_SIZE + wheel::Wheel::<Option<Waker>>::ENTRY_SIZE;
    let header = size_of::<Header>() + 16;
    assert!(
        future + tables + header <= 512,
        "{future} + {tables} + {header}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, u64),
    Clear(usize),
    Pass(u64),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0_usize..6, 0_u64..5_000).prop_map(|(i, d)| Step::Set(i, d)),
        1 => (0_usize..6).prop_map(Step::Clear),
        2 => (0_u64..3_000).prop_map(Step::Pass),
    ]
}

proptest::proptest! {
    /// Each timer is watched by a task of its own: it is woken for every deadline that stands,
    /// not before it and at most two ticks after it.
    #[test]
    fn timers_fire_on_time_in_virtual_time(seed: u64, steps in proptest::collection::vec(step(), 1..60)) {
        Runtime::simulated(seed).block_on(async {
            let late = Duration::from_millis(9);
            let timers: Vec<_> = (0..6).map(|_| Rc::new(RefCell::new(Timer::new()))).collect();
            let fired: Rc<RefCell<Vec<(usize, Instant)>>> = Rc::default();
            let kicks: Vec<_> = timers.iter().enumerate().map(|(name, timer)| {
                let (timer, fired) = (Rc::clone(timer), Rc::clone(&fired));
                let (kick, mut kicked) = chan::latest(());
                spawn(std::future::poll_fn(move |cx| {
                    while kicked.poll_changed(cx).is_ready() {}
                    let mut timer = timer.borrow_mut();
                    if let Some(at) = timer.deadline() && timer.poll(cx).is_ready() {
                        fired.borrow_mut().push((name, at));
                        timer.clear();
                    }
                    Poll::Pending
                })).detach();
                kick
            }).collect();
            let mut expected = Vec::new();
            let mut set: [Option<Instant>; 6] = [None; 6];
            for step in steps {
                match step {
                    Step::Set(i, d) => {
                        let at = now() + ms(d);
                        timers[i].borrow_mut().set(at);
                        set[i] = Some(at);
                        // An earlier deadline wakes by itself; a task that sleeps unarmed is told.
                        kicks[i].set(());
                        yield_now().await;
                    }
                    Step::Clear(i) => { timers[i].borrow_mut().clear(); set[i] = None; }
                    Step::Pass(d) => sleep(ms(d)).await,
                }
                for (name, at) in fired.borrow_mut().drain(..) {
                    assert!(at <= now(), "early");
                    assert_eq!(set[name].take(), Some(at), "a deadline that does not stand");
                    expected.push(at);
                }
                for at in set.iter().flatten() {
                    assert!(*at + late > now(), "missed");
                }
            }
        });
    }
}
