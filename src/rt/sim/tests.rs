//! Tests of the simulation: that it is honest, and the same for the same seed.

use super::*;
use crate::rt::sock::{ConnectOpts, TcpListener, TcpStream, UdpSocket};
use crate::rt::{Runtime, now, sleep, spawn, timeout};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(to, &ConnectOpts::default()).await
}

async fn pair(to: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(to).unwrap();
    let client = connect(to).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

#[test]
fn hours_pass_in_no_time() {
    let wall = std::time::Instant::now();
    Runtime::simulated(1).block_on(async {
        let before = now();
        sleep(Duration::from_secs(86_400)).await;
        assert!(now() - before >= Duration::from_secs(86_400));
        assert!(now() - before < Duration::from_secs(86_401));
    });
    assert!(wall.elapsed() < Duration::from_secs(5));
}

/// A busy little world; what happened, in order.
fn story(seed: u64) -> (Vec<(u64, u64)>, u64) {
    Runtime::simulated(seed).block_on(async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let listener = TcpListener::bind(addr("10.0.0.9:80")).unwrap();
        let _server = spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn(async move {
                    let mut buf = [0; 300];
                    while let Ok(n @ 1..) = stream.read(&mut buf).await {
                        stream.write_all(&buf[..n]).await.unwrap();
                    }
                })
                .detach();
            }
        });
        let (tell, mut all) = crate::rt::chan::queue(10);
        for name in 0..5_u64 {
            let (log, tell) = (Rc::clone(&log), tell.clone());
            spawn(async move {
                let mut stream = connect(addr("10.0.0.9:80")).await.unwrap();
                for round in 0..5 {
                    stream.write_all(&[name as u8; 700]).await.unwrap();
                    stream.read_exact(&mut [0; 700]).await.unwrap();
                    sleep(Duration::from_millis(net().random() % 50)).await;
                    log.borrow_mut().push((name * 10 + round, now().as_nanos()));
                }
                tell.send(()).await.unwrap();
            })
            .detach();
        }
        for _ in 0..5 {
            all.recv().await.unwrap();
        }
        (log.take(), net().fingerprint())
    })
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    for seed in 0..10 {
        assert_eq!(story(seed), story(seed));
    }
    assert_ne!(story(1), story(2));
}

#[test]
fn bytes_arrive_in_order_in_pieces_with_an_end() {
    for seed in 0..20 {
        Runtime::simulated(seed).block_on(async {
            let (mut client, mut server) = pair(addr("10.0.0.1:80")).await;
            let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
            let sent = data.clone();
            let _writer = spawn(async move {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                // Half-closed: the other direction goes on.
                assert_eq!(client.read_u8().await.unwrap(), 7);
            });
            let mut got = Vec::new();
            let mut pieces = 0;
            let mut buf = [0; 4096];
            loop {
                let n = server.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                pieces += 1;
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, data);
            assert!(pieces > 50);
            server.write_all(&[7]).await.unwrap();
        });
    }
}

#[test]
fn a_writer_waits_when_nobody_reads() {
    Runtime::simulated(3).block_on(async {
        let (mut client, server) = pair(addr("10.0.0.1:80")).await;
        let full = timeout(Duration::from_secs(10), client.write_all(&[0; 1 << 20])).await;
        assert!(full.is_err());
        drop(server);
        // The peer left unread data behind: that is a reset.
        let gone = timeout(Duration::from_secs(10), client.write_all(&[0; 10])).await;
        assert_eq!(
            gone.unwrap().unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn connecting_fails_as_it_does_in_the_world() {
    Runtime::simulated(4).block_on(async {
        let there = addr("10.0.0.1:80");
        let error = connect(there).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = TcpListener::bind(there).unwrap();
        assert!(connect(there).await.is_ok());
        net().refuse(there);
        assert!(connect(there).await.is_err());
        net().black_hole(there);
        assert!(
            timeout(Duration::from_secs(60), connect(there))
                .await
                .is_err()
        );
        net().heal(there);
        assert!(connect(there).await.is_ok());
    });
}

#[test]
fn a_vanished_peer_says_nothing_and_a_reset_one_says_so() {
    Runtime::simulated(5).block_on(async {
        let there = addr("10.0.0.1:80");
        let (mut client, mut server) = pair(there).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        assert!(!client.is_stale());
        assert_eq!(net().reset_connections(there), 1);
        assert!(client.is_stale());
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let (mut client, server) = pair(addr("10.0.0.2:80")).await;
        net().vanish(server.local_addr().unwrap().ip());
        drop(server);
        assert!(
            timeout(Duration::from_secs(600), client.read_u8())
                .await
                .is_err()
        );
    });
}

#[test]
fn a_reset_reaches_the_peer_after_its_data() {
    Runtime::simulated(6).block_on(async {
        let (mut client, mut server) = pair(addr("10.0.0.1:80")).await;
        client.write_all(b"ab").await.unwrap();
        client.reset();
        drop(client);
        assert_eq!(server.read_u16().await.unwrap(), 0x6162);
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(server.write_all(b"x").await.is_err());
    });
}

#[test]
fn udp_loses_and_reorders_when_told_to() {
    Runtime::simulated(7).block_on(async {
        let to = addr("10.0.0.1:53");
        let (a, b) = (
            UdpSocket::bind(addr("10.0.0.2:0")).unwrap(),
            UdpSocket::bind(to).unwrap(),
        );
        net().set_weather(Weather {
            udp_loss: 3,
            ..Weather::default()
        });
        for n in 0..60 {
            a.send_to(&[n], to).await.unwrap();
        }
        let mut got = Vec::new();
        let mut buf = [0; 4];
        while let Ok(packet) = timeout(Duration::from_secs(1), b.recv_from(&mut buf)).await {
            assert_eq!(packet.unwrap(), (1, a.local_addr().unwrap()));
            got.push(buf[0]);
        }
        assert!((20..60).contains(&got.len()), "{} of 60", got.len());
        assert!(!got.is_sorted());
    });
}

#[test]
fn a_dropped_listener_resets_who_waited() {
    Runtime::simulated(8).block_on(async {
        let there = addr("10.0.0.1:80");
        let listener = TcpListener::bind(there).unwrap();
        let mut client = connect(there).await.unwrap();
        drop(listener);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(TcpListener::bind(there).is_ok());
    });
}

#[test]
fn a_world_that_stands_still_is_a_failure_not_a_hang() {
    let stuck = std::panic::catch_unwind(|| {
        Runtime::simulated(9).block_on(std::future::pending::<()>());
    });
    assert!(stuck.is_err());
}

#[test]
fn a_failed_assertion_in_a_task_fails_the_test_unless_it_is_allowed() {
    let run = |allowed| {
        std::panic::catch_unwind(|| {
            Runtime::simulated(10).block_on(async {
                if allowed {
                    net().allow_panics();
                }
                spawn(async { panic!("on purpose") }).detach();
                sleep(Duration::from_millis(1)).await;
            });
        })
    };
    assert!(run(false).is_err());
    assert!(run(true).is_ok());
}
