//! Payload through a wire and out of another, in every framing, with windows of every size; and
//! bodies kept on the way.

use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::http::kept::{Budget, Kept};
use crate::http::pump::{Broken, TrailerPolicy, poll_pump};
use crate::io::BoxStream;
use crate::io::pair::{PairStream, pair};
use crate::proto::head::BodyKind;
use crate::proto::http1::{Limits, Side};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A wire and the far end of its connection.
fn wire(capacity: usize) -> (Wire, PairStream) {
    let (near, far) = pair(capacity);
    let boxed: BoxStream = Box::new(near);
    (Wire::new(Conn::from(boxed), None, Vec::new()), far)
}

fn decoder(kind: BodyKind) -> Decoder {
    Decoder::of(kind, &Limits::default(), Side::Request)
}

/// Writes as much as fits.
fn put(far: &mut PairStream, bytes: &mut &[u8]) {
    while let Poll::Ready(Ok(n)) = Pin::new(&mut *far).poll_write(&mut cx(), bytes) {
        if n == 0 {
            return;
        }
        *bytes = &bytes[n..];
    }
}

/// Reads what is there.
fn get(far: &mut PairStream, most: usize) -> Vec<u8> {
    let mut space = vec![0; most];
    let mut room = ReadBuf::new(&mut space);
    let _pending = Pin::new(far).poll_read(&mut cx(), &mut room);
    room.filled().to_vec()
}

/// The payload of a message with this framing, and what is behind it.
fn decode(kind: BodyKind, mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut decoder, mut payload) = (decoder(kind), Vec::new());
    loop {
        let step = decoder.decode(bytes).unwrap();
        payload.extend_from_slice(&bytes[step.data]);
        bytes = &bytes[step.consumed..];
        if step.end || step.consumed == 0 {
            return (payload, bytes.to_vec());
        }
    }
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Pumps until it is over, with a reader that takes `gulp` bytes a time.
fn pump(
    from: &mut (Wire, PairStream),
    to: &mut (Wire, PairStream),
    mut input: &[u8],
    gulp: usize,
) -> (Result<(), Broken>, Vec<u8>) {
    let mut output = Vec::new();
    for _ in 0..1_000_000 {
        put(&mut from.1, &mut input);
        let done = poll_pump(&mut cx(), &mut from.0, &mut to.0, TrailerPolicy::Drop);
        output.extend(get(&mut to.1, gulp));
        if let Poll::Ready(result) = done {
            loop {
                let more = get(&mut to.1, 4096);
                if more.is_empty() {
                    return (result, output);
                }
                output.extend(more);
            }
        }
    }
    panic!("the pump does not end");
}

fn kinds(length: usize) -> [(BodyKind, Framing); 3] {
    [
        (
            BodyKind::Length(length as u64),
            Framing::Length(length as u64),
        ),
        (BodyKind::Chunked, Framing::Chunked { open: 0 }),
        (BodyKind::UntilClose, Framing::UntilClose),
    ]
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_goes_in_comes_out(
        (body, (into, out)) in prop_oneof![
            (bytes(12_000), (300_usize..20_000, 300_usize..20_000)),
            (bytes(200), (1_usize..20, 1_usize..20)),
        ],
        (size, gulp) in (1_usize..9000, 500_usize..20_000),
        (coded, ahead, framing) in (any::<bool>(), 0_usize..40_000, 0_usize..3),
    ) {
        let (mut from, mut to) = (wire(into), wire(out));
        let next = b"GET /next HTTP/1.1\r\n";
        let (kind, mut input) = if coded {
            (BodyKind::Chunked, chunked(&body, size))
        } else {
            (BodyKind::Length(body.len() as u64), body.clone())
        };
        input.extend_from_slice(next);
        from.0.receive(decoder(kind), u64::MAX);
        let (sent, framing) = kinds(body.len())[framing];
        to.0.outbox().extend_from_slice(b"HEAD");
        to.0.send(framing);
        to.0.set_ahead(ahead);
        let (result, output) = pump(&mut from, &mut to, &input, gulp);
        prop_assert!(result.is_ok());
        prop_assert!(to.0.is_sent() && from.0.is_received());
        prop_assert_eq!(to.0.traffic().1, output.len() as u64);
        prop_assert_eq!(from.0.payload(), body.len() as u64);
        prop_assert_eq!(from.0.body_bytes(), (input.len() - next.len()) as u64);
        let (payload, behind) = decode(sent, output.strip_prefix(b"HEAD").unwrap());
        prop_assert_eq!(payload, body);
        prop_assert!(behind.is_empty());
        // What is behind the message was not touched.
        prop_assert!(next.starts_with(from.0.unread()));
    }

    #[test]
    fn a_kept_body_is_replayed_as_often_as_wanted(
        body in bytes(20_000),
        (limit, budget) in (0_u64..30_000, 0_u64..30_000),
        (size, out) in (1_usize..5000, 500_usize..20_000),
    ) {
        let (mut from, mut far) = wire(40_000);
        from.receive(decoder(BodyKind::Chunked), u64::MAX);
        let input = chunked(&body, size);
        let mut rest = &input[..];
        put(&mut far, &mut rest);
        let all = Budget::new(budget);
        let mut kept = Kept::empty(all.clone(), false);
        while rest.is_empty() {
            match kept.poll_keep(&mut cx(), &mut from, limit) {
                Poll::Ready(result) => {
                    prop_assert!(result.is_ok());
                    break;
                }
                Poll::Pending => put(&mut far, &mut rest),
            }
        }
        prop_assert!(kept.len() <= limit.min(budget));
        prop_assert_eq!(all.in_use(), kept.len());
        prop_assert!(kept.is_whole() || kept.len() < body.len() as u64 || body.is_empty());
        let rounds = if kept.is_whole() { 3 } else { 1 };
        for _ in 0..rounds {
            let mut to = wire(out);
            to.0.send(Framing::Length(body.len() as u64));
            let (mut at, mut output) = (0, Vec::new());
            loop {
                put(&mut far, &mut rest);
                let mut source = kept.replay(&mut at, &mut from);
                let done = poll_pump(&mut cx(), &mut source, &mut to.0, TrailerPolicy::Drop);
                output.extend(get(&mut to.1, 9000));
                if let Poll::Ready(result) = done {
                    prop_assert!(result.is_ok());
                    break;
                }
            }
            output.extend(get(&mut to.1, 40_000));
            prop_assert_eq!(&output, &body);
        }
        drop(kept);
        prop_assert_eq!(all.in_use(), 0);
    }
}

#[test]
fn an_unused_payload_is_not_the_next_message() {
    let (mut from, mut far) = wire(100);
    from.receive(decoder(BodyKind::Length(5)), u64::MAX);
    assert!(!from.is_received());
    put(&mut far, &mut &b"abcdeGET"[..]);
    assert!(from.poll_fill(&mut cx()).is_ready());
    assert_eq!((from.data(), from.is_last()), (&b"abcde"[..], true));
    assert!(!from.is_received(), "nobody has used it");
    from.consume(3);
    assert!(!from.is_received());
    from.consume(2);
    assert!(from.is_received());
    assert_eq!(from.unread(), b"GET");
    assert_eq!(from.body_bytes(), 5);
}

#[test]
fn payload_beyond_the_limit_is_an_error() {
    for (kind, input) in [
        (BodyKind::Length(6), b"abcdef".to_vec()),
        (BodyKind::Chunked, chunked(b"abcdef", 2)),
    ] {
        let (mut from, mut far) = wire(100);
        from.receive(decoder(kind), 5);
        put(&mut far, &mut &input[..]);
        let outcome = loop {
            match from.poll_fill(&mut cx()) {
                Poll::Ready(Ok(())) => from.consume(from.data().len()),
                Poll::Ready(Err(reason)) => break reason,
                Poll::Pending => panic!("nothing comes"),
            }
        };
        assert_eq!(outcome, Reason::BodyTooLarge);
    }
}

#[test]
fn an_end_that_comes_too_early_or_with_a_reset_is_an_error() {
    for (kind, reason) in [
        (BodyKind::Length(5), Some(Reason::BodyCutShort)),
        (BodyKind::Chunked, Some(Reason::BodyCutShort)),
        (BodyKind::UntilClose, None),
    ] {
        let (mut from, far) = wire(100);
        from.receive(decoder(kind), u64::MAX);
        drop(far);
        let outcome = from.poll_fill(&mut cx());
        assert_eq!(outcome, Poll::Ready(reason.map_or(Ok(()), Err)), "{kind:?}");
        let (mut from, mut far) = wire(100);
        from.receive(decoder(kind), u64::MAX);
        far.reset();
        drop(far);
        let outcome = from.poll_fill(&mut cx());
        assert_eq!(
            outcome,
            Poll::Ready(Err(Reason::UpstreamTruncated)),
            "{kind:?}"
        );
    }
}

#[test]
fn a_length_is_neither_exceeded_nor_cut_short() {
    let last = || Some(End { trailers: None });
    let (mut to, _far) = wire(100);
    to.send(Framing::Length(3));
    let error = to.poll_send(&mut cx(), b"abcd", None);
    assert!(matches!(error, Poll::Ready(Err(_))));
    assert!(matches!(
        to.poll_send(&mut cx(), b"ab", None),
        Poll::Ready(Ok(2))
    ));
    assert!(matches!(
        to.poll_send(&mut cx(), b"", last()),
        Poll::Ready(Err(_))
    ));
    assert!(!to.is_sent());
    assert!(matches!(
        to.poll_send(&mut cx(), b"c", last()),
        Poll::Ready(Ok(1))
    ));
    assert!(to.is_sent());
    to.send(Framing::None);
    assert!(matches!(
        to.poll_send(&mut cx(), b"x", last()),
        Poll::Ready(Err(_))
    ));
    assert!(matches!(
        to.poll_send(&mut cx(), b"", last()),
        Poll::Ready(Ok(0))
    ));
    assert!(to.is_sent());
}

#[test]
fn what_has_not_left_can_be_taken_back() {
    let (mut to, mut far) = wire(100);
    to.outbox().extend_from_slice(b"103");
    let mark = to.mark();
    to.outbox().extend_from_slice(b"200 head");
    to.send(Framing::Chunked { open: 0 });
    assert!(matches!(
        to.poll_send(&mut cx(), b"abc", None),
        Poll::Ready(Ok(3))
    ));
    assert!(to.take_back(mark));
    to.outbox().extend_from_slice(b"502");
    assert!(to.poll_flush_all(&mut cx()).is_ready());
    assert_eq!(get(&mut far, 100), b"103502");
    let mark = to.mark();
    to.outbox().extend_from_slice(b"200 head");
    assert!(to.poll_flush_all(&mut cx()).is_ready());
    assert!(!to.take_back(mark), "the peer has seen it");
}

#[test]
fn a_silent_connection_holds_no_buffer() {
    let (mut from, mut far) = wire(100);
    assert!(from.poll_read_more(&mut cx(), 100).is_pending());
    assert!(from.inbox().is_none());
    put(&mut far, &mut &b"x"[..]);
    assert!(matches!(
        from.poll_read_more(&mut cx(), 100),
        Poll::Ready(Ok(1))
    ));
    assert!(from.inbox().is_some());
}
