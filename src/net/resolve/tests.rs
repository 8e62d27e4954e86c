//! The resolver against name servers of the simulated network.

use super::*;
use crate::rt::sim::{self, Weather};
use crate::rt::sock::{TcpListener, UdpSocket};
use crate::rt::{Runtime, now, sleep, spawn};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a server does with a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Answer { ttl: u32, last: u8 },
    Unknown,
    Fail,
    Silent,
    Truncate,
    Forge,
}

struct Server {
    addr: SocketAddr,
    mood: Rc<Cell<Mood>>,
    asked: Rc<Cell<u32>>,
}

const GOOD: Mood = Mood::Answer { ttl: 30, last: 1 };

fn reply(question: &[u8], mood: Mood, tcp: bool) -> Vec<u8> {
    let packet = Packet::parse(question).unwrap();
    let (name, kind) = (packet.questions[0].qname.clone(), packet.questions[0].qtype);
    let mut reply = Packet::new_reply(packet.id());
    reply.questions.push(packet.questions[0].clone());
    match mood {
        Mood::Unknown => *reply.rcode_mut() = RCODE::NameError,
        Mood::Fail => *reply.rcode_mut() = RCODE::ServerFailure,
        Mood::Truncate if !tcp => reply.set_flags(PacketFlag::TRUNCATION),
        _ => {
            let (ttl, last) = if let Mood::Answer { ttl, last } = mood {
                (ttl, last)
            } else {
                (30, 1)
            };
            let data = if kind == QTYPE::TYPE(TYPE::A) {
                RData::A(A {
                    address: u32::from(Ipv4Addr::new(10, 1, 1, last)),
                })
            } else {
                RData::AAAA(AAAA {
                    address: u128::from(Ipv6Addr::from([7, 0, 0, 0, 0, 0, 0, u16::from(last)])),
                })
            };
            reply
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, ttl, data));
        }
    }
    reply.build_bytes_vec().unwrap()
}

fn serve(addr: &str, mood: Mood) -> Server {
    let addr: SocketAddr = addr.parse().unwrap();
    let (mood, asked) = (Rc::new(Cell::new(mood)), Rc::new(Cell::new(0)));
    let (udp, tcp) = (
        UdpSocket::bind(addr).unwrap(),
        TcpListener::bind(addr).unwrap(),
    );
    let (how, count) = (Rc::clone(&mood), Rc::clone(&asked));
    spawn(async move {
        let mut buf = [0; 600];
        loop {
            let (len, from) = udp.recv_from(&mut buf).await.unwrap();
            count.set(count.get() + 1);
            if how.get() == Mood::Silent {
                continue;
            }
            let mut bytes = reply(&buf[..len], how.get(), false);
            if how.get() == Mood::Forge {
                // A guess of the id comes before the right answer.
                let right = bytes.clone();
                bytes[1] ^= 1;
                udp.send_to(&bytes, from).await.unwrap();
                udp.send_to(b"noise", from).await.unwrap();
                bytes = right;
            }
            udp.send_to(&bytes, from).await.unwrap();
        }
    })
    .detach();
    let how = Rc::clone(&mood);
    spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut buf = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut buf).await.unwrap();
            let bytes = reply(&buf, how.get(), true);
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    })
    .detach();
    Server { addr, mood, asked }
}

fn resolver(servers: &[&Server]) -> Resolver {
    let servers = servers.iter().map(|server| server.addr).collect();
    Resolver::new(
        Params {
            servers,
            ..Params::default()
        },
        System::default(),
    )
}

fn addresses(last: u8) -> Vec<IpAddr> {
    let v6 = Ipv6Addr::from([7, 0, 0, 0, 0, 0, 0, u16::from(last)]);
    vec![Ipv4Addr::new(10, 1, 1, last).into(), v6.into()]
}

#[test]
fn both_kinds_come_and_are_kept_for_their_time() {
    Runtime::simulated(1).block_on(async {
        let server = serve("10.0.0.1:53", GOOD);
        let resolver = resolver(&[&server]);
        let answer = resolver.lookup("API.example.").await.unwrap();
        assert_eq!((&*answer.addrs, answer.stale), (&addresses(1)[..], false));
        assert!(answer.until > now() + Duration::from_secs(29));
        server.mood.set(Mood::Answer { ttl: 30, last: 2 });
        sleep(Duration::from_secs(29)).await;
        assert_eq!(
            &*resolver.lookup("api.example.").await.unwrap().addrs,
            &addresses(1)[..]
        );
        assert_eq!(server.asked.get(), 2);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(
            &*resolver.lookup("api.example.").await.unwrap().addrs,
            &addresses(2)[..]
        );
    });
}

#[test]
fn literals_and_the_names_of_the_host_need_no_server() {
    Runtime::simulated(2).block_on(async {
        let hosts = [("db".to_owned(), vec!["10.9.9.9".parse().unwrap()])].into();
        let system = System {
            hosts,
            ..System::default()
        };
        let resolver = Resolver::new(Params::default(), system);
        let one = async |name: &str| resolver.lookup(name).await.unwrap().addrs[0].to_string();
        assert_eq!(one("192.0.2.1").await, "192.0.2.1");
        assert_eq!(one("::1").await, "::1");
        assert_eq!(one("DB").await, "10.9.9.9");
        assert_eq!(one("localhost").await, "127.0.0.1");
        let host = crate::base::addr::parse_host("[::1]").unwrap();
        assert_eq!(
            resolver.lookup_host(&host).await.unwrap().until,
            Instant::FAR
        );
    });
}

#[test]
fn lookups_of_one_name_at_one_time_are_one() {
    Runtime::simulated(3).block_on(async {
        let server = serve("10.0.0.1:53", GOOD);
        let resolver = resolver(&[&server]);
        let (tell, mut done) = chan::queue(100);
        for _ in 0..50 {
            let (resolver, tell) = (resolver.clone(), tell.clone());
            spawn(async move {
                tell.send(resolver.lookup("api.example").await)
                    .await
                    .unwrap();
            })
            .detach();
        }
        for _ in 0..50 {
            assert!(done.recv().await.unwrap().is_ok());
        }
        assert_eq!(server.asked.get(), 2);
    });
}

#[test]
fn the_next_server_is_asked_when_one_fails_or_is_silent() {
    for mood in [Mood::Fail, Mood::Silent] {
        Runtime::simulated(4).block_on(async {
            let (bad, good) = (serve("10.0.0.1:53", mood), serve("10.0.0.2:53", GOOD));
            let answer = resolver(&[&bad, &good])
                .lookup("api.example")
                .await
                .unwrap();
            assert_eq!(&*answer.addrs, &addresses(1)[..]);
            assert_eq!(bad.asked.get(), 2);
        });
    }
}

#[test]
fn a_truncated_answer_is_fetched_by_tcp_and_a_forged_one_passed_over() {
    for mood in [Mood::Truncate, Mood::Forge] {
        Runtime::simulated(5).block_on(async {
            let server = serve("10.0.0.1:53", mood);
            let answer = resolver(&[&server]).lookup("api.example").await.unwrap();
            assert_eq!(&*answer.addrs, &addresses(1)[..]);
        });
    }
}

#[test]
fn the_last_good_answer_lives_on_while_dns_fails() {
    Runtime::simulated(6).block_on(async {
        let server = serve("10.0.0.1:53", GOOD);
        let resolver = resolver(&[&server]);
        resolver.lookup("api.example").await.unwrap();
        server.mood.set(Mood::Silent);
        sleep(Duration::from_secs(40)).await;
        let answer = resolver.lookup("api.example").await.unwrap();
        assert!(answer.stale);
        assert_eq!(&*answer.addrs, &addresses(1)[..]);
        // The next ones do not wait for the servers again.
        let (before, asked) = (now(), server.asked.get());
        assert!(resolver.lookup("api.example").await.unwrap().stale);
        assert_eq!((now(), server.asked.get()), (before, asked));
        sleep(Duration::from_secs(3700)).await;
        assert_eq!(
            resolver.lookup("api.example").await.unwrap_err().why,
            Why::Failed
        );
        server.mood.set(GOOD);
        sleep(Duration::from_secs(40)).await;
        assert!(!resolver.lookup("api.example").await.unwrap().stale);
    });
}

#[test]
fn a_name_that_does_not_exist_is_known_to() {
    Runtime::simulated(7).block_on(async {
        let server = serve("10.0.0.1:53", Mood::Unknown);
        let resolver = resolver(&[&server]);
        assert_eq!(
            resolver.lookup("no.example").await.unwrap_err().why,
            Why::Missing
        );
        let asked = server.asked.get();
        assert_eq!(
            resolver.lookup("no.example").await.unwrap_err().why,
            Why::Missing
        );
        assert_eq!(server.asked.get(), asked);
        assert!(resolver.lookup(&"x".repeat(300)).await.is_err());
    });
}

#[test]
fn a_lookup_ends_in_time_whatever_the_servers_do() {
    Runtime::simulated(8).block_on(async {
        let servers: Vec<Server> = (1..=8)
            .map(|n| serve(&format!("10.0.0.{n}:53"), Mood::Silent))
            .collect();
        let before = now();
        let failure = resolver(&servers.iter().collect::<Vec<_>>())
            .lookup("api.example")
            .await;
        assert_eq!(failure.unwrap_err().why, Why::Failed);
        assert!(now() - before < Duration::from_secs(16));
    });
}

#[test]
fn lost_packets_are_made_up_for() {
    let mut good = 0;
    for seed in 0..30 {
        Runtime::simulated(seed).block_on(async {
            sim::net().set_weather(Weather {
                udp_loss: 5,
                ..Weather::default()
            });
            let server = serve("10.0.0.1:53", GOOD);
            good += u32::from(resolver(&[&server]).lookup("api.example").await.is_ok());
        });
    }
    assert!(good >= 28, "{good} of 30");
}

#[test]
fn a_followed_name_is_told_when_it_changes() {
    Runtime::simulated(9).block_on(async {
        let server = serve("10.0.0.1:53", Mood::Silent);
        let resolver = resolver(&[&server]);
        let seen: Rc<RefCell<Vec<Option<IpAddr>>>> = Rc::default();
        let log = Rc::clone(&seen);
        spawn(async move {
            resolver
                .follow("api.example", |outcome| {
                    log.borrow_mut()
                        .push(outcome.as_ref().ok().map(|answer| answer.addrs[0]));
                })
                .await;
        })
        .detach();
        sleep(Duration::from_secs(20)).await;
        server.mood.set(GOOD);
        sleep(Duration::from_secs(60)).await;
        server.mood.set(Mood::Answer { ttl: 0, last: 2 });
        sleep(Duration::from_secs(60)).await;
        let seen = seen.borrow();
        assert_eq!(seen[0], None);
        assert!(seen.contains(&Some(addresses(1)[0])));
        assert_eq!(seen.last(), Some(&Some(addresses(2)[0])));
        assert!(server.asked.get() < 150, "no more than once a second");
    });
}

#[test]
fn too_many_lookups_are_refused_and_an_abandoned_one_frees_its_place() {
    Runtime::simulated(10).block_on(async {
        let server = serve("10.0.0.1:53", Mood::Silent);
        let resolver = resolver(&[&server]);
        for n in 0..RUNNING_MAX {
            let resolver = resolver.clone();
            spawn(async move {
                assert!(resolver.lookup(&format!("n{n}.example")).await.is_err());
            })
            .detach();
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            resolver.lookup("more.example").await.unwrap_err().why,
            Why::Busy
        );
        sleep(Duration::from_secs(60)).await;
        assert!(resolver.0.running.borrow().is_empty());
        assert_eq!(
            resolver.lookup("more.example").await.unwrap_err().why,
            Why::Failed
        );
    });
}
