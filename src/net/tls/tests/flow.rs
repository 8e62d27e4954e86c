//! Bytes through open sessions: order, ends, backpressure, damage, and the calls it takes.

use super::*;
use proptest::prelude::*;
use std::io::IoSlice;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn ends_are_half_closed_one_after_the_other() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut bench = Bench::new();
        bench.server.max_version = version;
        let (mut client, mut server) = bench.open();
        assert!(write(&mut client, b"all I have").is_ready());
        assert!(matches!(shutdown(&mut client), Poll::Ready(Ok(()))));
        assert_eq!(kind(write(&mut client, b"more")), io::ErrorKind::BrokenPipe);
        assert_eq!(read_all(&mut server), b"all I have");
        assert_eq!(
            read(&mut server, 10).map(Result::unwrap),
            Poll::Ready(vec![])
        );
        assert!(write(&mut server, b"and yet an answer").is_ready());
        assert_eq!(read_all(&mut client), b"and yet an answer");
        assert!(matches!(shutdown(&mut server), Poll::Ready(Ok(()))));
        assert_eq!(
            read(&mut client, 10).map(Result::unwrap),
            Poll::Ready(vec![])
        );
        assert_eq!(
            read(&mut client, 10).map(Result::unwrap),
            Poll::Ready(vec![])
        );
    }
}

#[test]
fn an_end_without_close_notify_is_not_a_clean_one() {
    let (mut client, mut server) = Bench::new().open();
    assert!(write(&mut client, b"part").is_ready());
    client.inner().to.borrow_mut().is_closed = true;
    assert_eq!(
        read(&mut server, 10).map(Result::unwrap),
        Poll::Ready(b"part".to_vec())
    );
    for _ in 0..2 {
        assert_eq!(kind(read(&mut server, 10)), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_reset_sends_no_close_notify() {
    let (mut client, mut server) = Bench::new().open();
    client.reset();
    assert!(shutdown(&mut client).is_ready());
    assert_eq!(kind(read(&mut server, 10)), io::ErrorKind::UnexpectedEof);
}

#[test]
fn bytes_after_close_notify_are_ignored() {
    let (mut client, mut server) = Bench::new().open();
    assert!(shutdown(&mut client).is_ready());
    client.inner().to.borrow_mut().bytes.extend([1, 2, 3]);
    assert_eq!(
        read(&mut server, 10).map(Result::unwrap),
        Poll::Ready(vec![])
    );
    assert_eq!(server.buffered(), 0);
}

#[test]
fn a_damaged_record_fails_the_session_after_what_came_before() {
    let (mut client, mut server) = Bench::new().open();
    assert!(write(&mut client, b"good").is_ready());
    let good = client.inner().to.borrow().bytes.len();
    assert!(write(&mut client, b"bad").is_ready());
    client.inner().to.borrow_mut().bytes[good + 6] ^= 1;
    assert_eq!(
        read(&mut server, 100).map(Result::unwrap),
        Poll::Ready(b"good".to_vec())
    );
    let Poll::Ready(Err(error)) = read(&mut server, 100) else {
        panic!("no error");
    };
    assert_eq!(
        failure_in(&error).alert_sent.as_deref(),
        Some("bad_record_mac")
    );
    assert_eq!(kind(write(&mut server, b"x")), io::ErrorKind::InvalidData);
    let Poll::Ready(Err(error)) = read(&mut client, 100) else {
        panic!("no error");
    };
    let received = failure_in(&error).alert_received;
    assert_eq!(received.as_deref(), Some("bad_record_mac"));
}

#[test]
fn a_reader_with_little_room_gets_everything() {
    let (mut client, mut server) = Bench::new().open();
    let sent = pattern(40_000);
    let mut at = 0;
    while at < sent.len() {
        let Poll::Ready(Ok(n)) = write(&mut client, &sent[at..]) else {
            panic!("the wire is endless");
        };
        at += n;
    }
    let mut got = Vec::new();
    while let Poll::Ready(Ok(part)) = read(&mut server, 7) {
        assert!(!part.is_empty() && part.len() <= 7);
        got.extend(part);
    }
    assert!(got == sent);
}

#[test]
fn a_write_is_possible_while_received_bytes_wait() {
    let (mut client, mut server) = Bench::new().open();
    let sent = pattern(50_000);
    assert!(matches!(write(&mut client, &sent), Poll::Ready(Ok(50_000))));
    let first = read(&mut server, 20_000).map(Result::unwrap);
    let Poll::Ready(mut got) = first else {
        panic!("nothing came");
    };
    assert!(write(&mut server, b"meanwhile").is_ready());
    assert_eq!(read_all(&mut client), b"meanwhile");
    got.extend(read_all(&mut server));
    assert!(got == sent);
}

#[test]
fn a_full_socket_holds_the_writer_back() {
    let bench = Bench::new();
    let (mut a, b) = wire();
    a.capacity = 10_000;
    let (mut client, mut server) = bench.pair_on(&bench.server(), (a, b));
    assert_eq!(shake(&mut client, &mut server), (Ok(()), Ok(())));
    client.set_buffer_limit(20_000);
    let sent = pattern(30_000);
    assert!(matches!(write(&mut client, &sent), Poll::Ready(Ok(20_000))));
    assert!(client.buffered() > 9_000 && client.buffered() < 22_000);
    assert!(write(&mut client, &sent[20_000..]).is_pending());
    assert!(flush(&mut client).is_pending());
    let mut got = Vec::new();
    let mut at = 20_000;
    for _ in 0..100 {
        got.extend(read_all(&mut server));
        match write(&mut client, &sent[at..]) {
            Poll::Ready(Ok(n)) => at += n,
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => {}
        }
    }
    assert!(flush(&mut client).is_ready());
    got.extend(read_all(&mut server));
    assert!(got == sent);
    assert_eq!(client.buffered(), 0);
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.open();
    exchange(&mut client, &mut server);
    assert!(read(&mut server, 100).is_pending());
    assert!(read(&mut client, 100).is_pending());
    assert_eq!((client.buffered(), server.buffered()), (0, 0));
    // What the session itself takes besides is a few KiB of rustls and the provider.
    assert!(size_of::<TlsStream<crate::net::Conn>>() <= 1536);
}

#[test]
fn an_exchange_takes_one_read_and_one_write() {
    let (mut client, mut server) = Bench::new().open();
    exchange(&mut client, &mut server);
    let before = (server.inner().reads, server.inner().writes);
    assert!(write(&mut client, b"request").is_ready());
    assert!(read(&mut server, 4096).is_ready());
    let bufs = [&b"head"[..], b"", b"body"].map(IoSlice::new);
    let wrote = Pin::new(&mut server).poll_write_vectored(&mut cx(), &bufs);
    assert!(matches!(wrote, Poll::Ready(Ok(8))));
    assert!(flush(&mut server).is_ready());
    let after = (server.inner().reads, server.inner().writes);
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
}

#[test]
fn a_full_handshake_and_its_exchange_take_few_calls() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.pair();
    assert!(client.poll_handshake(&mut cx()).is_pending());
    assert!(server.poll_handshake(&mut cx()).is_pending());
    assert!(client.poll_handshake(&mut cx()).is_ready());
    assert!(write(&mut client, b"request").is_ready());
    assert!(server.poll_handshake(&mut cx()).is_ready());
    assert_eq!(
        read(&mut server, 4096).map(Result::unwrap),
        Poll::Ready(b"request".to_vec())
    );
    assert!(write(&mut server, b"response").is_ready());
    // Two reads brought bytes: the hello, then the end of the handshake with the request.
    let end = server.inner();
    assert_eq!((end.reads - end.empty_reads, end.writes), (2, 2));
    assert_eq!(read_all(&mut client), b"response");
}

#[test]
fn small_pieces_share_a_record_and_large_ones_are_not_copied_together() {
    let (mut client, mut server) = Bench::new().open();
    let body = pattern(40_000);
    let bufs = [&b"head"[..], &body, b"tail"].map(IoSlice::new);
    let before = client.inner().to.borrow().bytes.len();
    let wrote = Pin::new(&mut client).poll_write_vectored(&mut cx(), &bufs);
    assert!(matches!(wrote, Poll::Ready(Ok(40_008))));
    let cipher = client.inner().to.borrow().bytes.len() - before;
    assert_eq!(cipher, 40_008 + 3 * 22, "three records");
    let got = read_all(&mut server);
    assert!(got == [&b"head"[..], &body, b"tail"].concat());
}

#[test]
fn an_empty_write_is_no_record() {
    let (mut client, _server) = Bench::new().open();
    let before = client.inner().writes;
    assert!(matches!(write(&mut client, b""), Poll::Ready(Ok(0))));
    assert_eq!(client.inner().writes, before);
}

#[test]
fn a_read_asks_for_no_more_than_the_reader_has_room_for() {
    let (mut client, mut server) = Bench::new().open();
    for _ in 0..4 {
        assert!(matches!(
            write(&mut client, &pattern(65_536)),
            Poll::Ready(Ok(65_536))
        ));
    }
    for _ in 0..16 {
        let Poll::Ready(Ok(got)) = read(&mut server, 16_384) else {
            panic!("nothing came");
        };
        assert_eq!(got.len(), 16_384);
        assert_eq!(server.buffered(), 0, "whole records only");
    }
}

#[test]
fn tls_goes_through_tls() {
    let bench = Bench::new();
    let (client, server) = bench.open();
    let inner = bench.server();
    let mut inner_client = bench
        .client()
        .connect(client, &bench.endpoint(), &bench.sessions)
        .unwrap();
    let mut inner_server = inner.accept(server).unwrap();
    let (mut c, mut s) = (Poll::Pending, Poll::Pending);
    for _ in 0..20 {
        c = inner_client.poll_handshake(&mut cx());
        s = inner_server.poll_handshake(&mut cx());
    }
    assert_eq!((c, s), (Poll::Ready(Ok(())), Poll::Ready(Ok(()))));
    let wrote = Pin::new(&mut inner_client).poll_write(&mut cx(), b"deep");
    assert!(matches!(wrote, Poll::Ready(Ok(4))));
    let mut space = [0; 16];
    let mut buf = ReadBuf::new(&mut space);
    assert!(
        Pin::new(&mut inner_server)
            .poll_read(&mut cx(), &mut buf)
            .is_ready()
    );
    assert_eq!(buf.filled(), b"deep");
}

/// One direction of a transfer: what is written so far, and what came out.
struct Way<'a> {
    sent: &'a [u8],
    at: usize,
    got: Vec<u8>,
}

impl Way<'_> {
    fn step(&mut self, from: &mut Tls, to: &mut Tls, piece: usize, room: usize) {
        let rest = &self.sent[self.at..];
        let rest = &rest[..rest.len().min(piece)];
        let (one, two) = rest.split_at(rest.len() / 3);
        let bufs = [one, two].map(IoSlice::new);
        if let Poll::Ready(n) = Pin::new(&mut *from).poll_write_vectored(&mut cx(), &bufs) {
            self.at += n.unwrap();
        }
        drop(flush(from));
        if let Poll::Ready(part) = read(to, room) {
            self.got.extend(part.unwrap());
        }
    }

    fn is_done(&self) -> bool {
        self.got.len() == self.sent.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_traffic_both_ways_arrives_in_order(
        lens in (0_usize..150_000, 0_usize..150_000),
        chunks in (1_usize..40_000, 1_usize..40_000),
        capacities in (600_usize..100_000, 600_usize..100_000),
        pieces in (1_usize..90_000, 1_usize..90_000),
        rooms in (1_usize..70_000, 1_usize..70_000),
        is_v12: bool,
    ) {
        // Small steps over long ways take their time and show nothing new.
        let scale = |len: usize, a: usize, b: usize, c: usize| len.min(a.min(b).min(c) * 300);
        let up_len = scale(lens.0, chunks.0, pieces.0, rooms.0);
        let down_len = scale(lens.1, chunks.1, pieces.1, rooms.1);
        let mut bench = Bench::new().with_tickets();
        if is_v12 {
            bench.server.max_version = TlsVersion::V12;
        }
        let (mut a, mut b) = wire();
        (a.chunk, b.chunk) = chunks;
        (a.capacity, b.capacity) = capacities;
        let (mut client, mut server) = bench.pair_on(&bench.server(), (a, b));
        prop_assert_eq!(shake(&mut client, &mut server), (Ok(()), Ok(())));
        let (up, down) = (pattern(up_len), pattern(down_len));
        let mut up = Way { sent: &up, at: 0, got: Vec::new() };
        let mut down = Way { sent: &down, at: 0, got: Vec::new() };
        for _ in 0..2_000_000 {
            up.step(&mut client, &mut server, pieces.0, rooms.0);
            down.step(&mut server, &mut client, pieces.1, rooms.1);
            if up.is_done() && down.is_done() {
                break;
            }
        }
        prop_assert!(up.got == up.sent && down.got == down.sent);
        while shutdown(&mut client).is_pending() {
            prop_assert!(read(&mut server, 100).is_pending());
        }
        prop_assert_eq!(read_all(&mut server), Vec::<u8>::new());
    }

    #[test]
    fn hostile_bytes_at_any_time_never_panic(
        junk in proptest::collection::vec(0_u8.., 1..400),
        looks_like in 20_u8..24,
        is_open: bool,
        to_client: bool,
    ) {
        let bench = Bench::new();
        let (mut client, mut server) = if is_open { bench.open() } else { bench.pair() };
        let victim = if to_client { &mut client } else { &mut server };
        let mut record = vec![looks_like, 3, 3];
        record.extend((junk.len() as u16).to_be_bytes());
        record.extend(&junk);
        victim.inner().from.borrow_mut().bytes.extend(record);
        for _ in 0..3 {
            drop(victim.poll_handshake(&mut cx()));
            drop(read(victim, 100));
            drop(write(victim, b"x"));
            drop(shutdown(victim));
        }
    }
}
