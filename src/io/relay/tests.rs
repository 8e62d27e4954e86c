//! The laws of the relay, over pairs in memory and over the simulated network.

use super::*;
use crate::base::time::Instant;
use crate::io::buf;
use crate::io::pair::{PairStream, pair};
use crate::rt::drain::{self, Deadlines};
use crate::rt::sim::{self, Weather};
use crate::rt::sock::{ConnectOpts, TcpListener, TcpStream};
use crate::rt::{Runtime, chan, now, sleep, spawn, timeout};
use proptest::prelude::*;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|n| (n ^ (n >> 9)) as u8 ^ salt).collect()
}

/// Writes `data` and ends its side, and at the same time reads to the end.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    data: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let (mut sent, mut ended, mut got) = (0, false, Vec::new());
    std::future::poll_fn(|cx| {
        while sent < data.len() {
            match Pin::new(&mut stream).poll_write(cx, &data[sent..]) {
                Poll::Ready(n) => sent += n?,
                Poll::Pending => break,
            }
        }
        if sent == data.len() && !ended {
            ended = Pin::new(&mut stream).poll_shutdown(cx).is_ready();
        }
        loop {
            let mut space = [0; 3000];
            let mut buf = tokio::io::ReadBuf::new(&mut space);
            ready!(Pin::new(&mut stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            got.extend_from_slice(buf.filled());
        }
        if ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
    .map(|()| got)
}

type Answer = chan::OneReceiver<Outcome>;

/// A relay between the two inner ends of two pairs.
fn over_pairs(capacity: usize, opts: Options) -> (PairStream, PairStream, Answer) {
    let ((client, mut a), (mut b, server)) = (pair(capacity), pair(capacity));
    let (tell, answer) = chan::oneshot();
    spawn(async move { tell.send(relay(&mut a, &mut b, opts).await).unwrap() }).detach();
    (client, server, answer)
}

/// A relay between two simulated connections.
async fn over_tcp(opts: Options) -> (TcpStream, TcpStream, Answer) {
    let front: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let back: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let (fronts, backs) = (
        TcpListener::bind(front).unwrap(),
        TcpListener::bind(back).unwrap(),
    );
    let client = TcpStream::connect(front, &ConnectOpts::default())
        .await
        .unwrap();
    let mut a = fronts.accept().await.unwrap().0;
    let mut b = TcpStream::connect(back, &ConnectOpts::default())
        .await
        .unwrap();
    let server = backs.accept().await.unwrap().0;
    let (tell, answer) = chan::oneshot();
    spawn(async move {
        let outcome = relay(&mut a, &mut b, opts).await;
        tell.send(outcome).unwrap();
    })
    .detach();
    (client, server, answer)
}

/// Both sides talk at the same time; everything arrives, and both ends.
async fn both_ways<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    (client, server, answer): (S, S, Answer),
    (up, down): (usize, usize),
) {
    let (tell, other) = chan::oneshot();
    spawn(async move { tell.send(talk(server, bytes(down, 1)).await).unwrap() }).detach();
    assert!(talk(client, bytes(up, 2)).await.unwrap() == bytes(down, 1));
    assert!(other.await.unwrap().unwrap() == bytes(up, 2));
    let outcome = answer.await.unwrap();
    let expected = Outcome {
        a_to_b: up as u64,
        b_to_a: down as u64,
        end: End::Closed,
    };
    assert_eq!(outcome, expected);
}

#[test]
fn a_megabyte_each_way_at_once() {
    Runtime::simulated(1).block_on(async {
        both_ways(over_pairs(1 << 15, Options::default()), (1 << 20, 1 << 20)).await;
        both_ways(over_tcp(Options::default()).await, (1 << 20, 1 << 20)).await;
        assert_eq!(buf::stats().in_use, 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn everything_arrives_in_any_weather(
        seed: u64,
        up in 0_usize..50_000,
        down in 0_usize..50_000,
        capacity in 1_usize..5_000,
        segment_max in 1_usize..3_000,
        window in 1_usize..20_000,
    ) {
        Runtime::simulated(seed).block_on(async {
            both_ways(over_pairs(capacity, Options::default()), (up, down)).await;
            sim::net().set_weather(Weather {
                segment_max,
                window: window.max(64),
                latency_max: Duration::from_millis(20),
                ..Weather::default()
            });
            both_ways(over_tcp(Options::default()).await, (up, down)).await;
        });
        prop_assert_eq!(buf::stats().in_use, 0);
    }
}

#[test]
fn a_half_close_is_passed_on_while_the_other_way_goes_on() {
    Runtime::simulated(2).block_on(async {
        let (mut client, mut server, answer) = over_tcp(Options::default()).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        sleep(Duration::from_secs(100)).await;
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        assert_eq!(reply, "answer");
        assert_eq!(answer.await.unwrap().end, End::Closed);
    });
}

#[test]
fn silence_ends_it_but_traffic_in_one_direction_keeps_both_alive() {
    Runtime::simulated(3).block_on(async {
        let opts = Options {
            idle: Some(Duration::from_secs(60)),
            drain: None,
        };
        let (mut client, mut server, answer) = over_pairs(100, opts);
        for _ in 0..10 {
            sleep(Duration::from_secs(59)).await;
            server.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
        let quiet = now();
        let outcome = answer.await.unwrap();
        assert_eq!((outcome.b_to_a, outcome.end), (10, End::Idle));
        let waited = now() - quiet;
        assert!(waited >= Duration::from_secs(60) && waited < Duration::from_secs(61));
    });
}

#[test]
fn a_reset_is_passed_on() {
    Runtime::simulated(4).block_on(async {
        let (mut client, mut server, answer) = over_tcp(Options::default()).await;
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        client.reset();
        drop(client);
        let outcome = answer.await.unwrap();
        assert_eq!(
            outcome.end,
            End::Failed(Side::A, io::ErrorKind::ConnectionReset)
        );
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_peer_that_stops_reading_and_goes_breaks_the_other_side() {
    Runtime::simulated(5).block_on(async {
        let (client, server, answer) = over_tcp(Options::default()).await;
        spawn(async move {
            sleep(Duration::from_secs(5)).await;
            server.reset();
        })
        .detach();
        assert!(talk(client, bytes(1 << 20, 0)).await.is_err());
        assert!(matches!(answer.await.unwrap().end, End::Failed(Side::B, _)));
    });
}

#[test]
fn a_vanished_peer_is_found_by_the_idle_limit() {
    Runtime::simulated(6).block_on(async {
        let opts = Options {
            idle: Some(Duration::from_secs(30)),
            drain: None,
        };
        let (client, server, answer) = over_tcp(opts).await;
        sim::net().vanish(server.local_addr().unwrap().ip());
        let write = talk(client, bytes(1 << 20, 0));
        assert!(
            timeout(Duration::from_secs(300), write)
                .await
                .unwrap()
                .is_err()
        );
        assert_eq!(answer.await.unwrap().end, End::Idle);
    });
}

#[test]
fn a_drain_lets_it_go_on_until_the_deadline_of_upgraded_connections() {
    Runtime::simulated(7).block_on(async {
        let (signal, watch) = drain::signal();
        let opts = Options {
            idle: None,
            drain: Some(watch),
        };
        let (mut client, mut server, answer) = over_pairs(100, opts);
        let start = now();
        let after = |seconds| start + Duration::from_secs(seconds);
        signal.start(Deadlines {
            ordinary: after(10),
            upgraded: after(100),
        });
        sleep(Duration::from_secs(90)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        assert_eq!(answer.await.unwrap().end, End::Drained);
        assert!(now() >= after(100) && now() < after(101));
        signal.over().await;
    });
}

#[test]
fn an_idle_relay_holds_no_buffer_and_a_cancelled_one_gives_it_back() {
    Runtime::simulated(8).block_on(async {
        let ((mut client, mut a), (mut b, server)) = (pair(1 << 20), pair(10));
        let task = spawn(async move {
            relay(&mut a, &mut b, Options::default()).await;
        });
        sleep(Duration::from_secs(1)).await;
        assert_eq!(buf::stats().in_use, 0);
        client.write_all(&bytes(100_000, 0)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(
            buf::stats().in_use > 0,
            "the server does not read, so bytes wait"
        );
        task.abort();
        assert_eq!(buf::stats().in_use, 0);
        drop(server);
    });
}

#[test]
fn an_exhausted_pool_delays_but_loses_nothing() {
    Runtime::simulated(9).block_on(async {
        buf::configure(buf::Params {
            buffer_size: 1024,
            max: 1024,
        });
        let taken = Buf::take().unwrap();
        let (mut client, mut server, _answer) = over_pairs(100, Options::default());
        client.write_all(b"late").await.unwrap();
        let nothing = timeout(Duration::from_secs(1), server.read_u8()).await;
        assert!(nothing.is_err());
        assert!(buf::stats().refused > 0);
        drop(taken);
        let mut four = [0; 4];
        timeout(Duration::from_secs(1), server.read_exact(&mut four))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&four, b"late");
        buf::configure(buf::Params::default());
    });
}

#[test]
fn deadlines_far_away_do_not_matter() {
    // The default watch of a service that never drains.
    Runtime::simulated(10).block_on(async {
        let (signal, watch) = drain::signal();
        signal.start(Deadlines {
            ordinary: Instant::FAR,
            upgraded: Instant::FAR,
        });
        let opts = Options {
            idle: None,
            drain: Some(watch),
        };
        both_ways(over_pairs(10, opts), (1000, 1000)).await;
    });
}
