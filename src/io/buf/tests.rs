//! The laws of buffers and of their pool.

use super::*;
use crate::rt::{Runtime, sleep};
use proptest::prelude::*;

const SMALL: Params = Params {
    buffer_size: 1024,
    max: 10 * 1024,
};

#[test]
fn the_pool_is_bounded_and_counts() {
    configure(SMALL);
    let before = stats();
    let mut held: Vec<Buf> = (0..10).map(|_| Buf::take().unwrap()).collect();
    assert!(Buf::take().is_none());
    assert!(Buf::take_large().is_none());
    let full = stats();
    assert_eq!(
        (full.in_use, full.high_water, full.refused),
        (10 * 1024, 10 * 1024, before.refused + 2)
    );
    held.pop();
    assert!(Buf::take().is_some());
    drop(held);
    assert_eq!(stats().in_use, 0);
    configure(Params::default());
}

#[test]
fn an_empty_buffer_owns_nothing() {
    let mut buf = Buf::default();
    assert_eq!((buf.capacity(), buf.len(), buf.space().len()), (0, 0, 0));
    assert_eq!(buf.put(b"x"), 0);
    assert_eq!(stats().in_use, 0);
    assert!(buf.reserve(10, LARGE));
    assert_eq!(buf.put(b"x"), 1);
}

#[test]
fn growing_keeps_the_content_and_stops_at_the_limit() {
    let mut buf = Buf::take().unwrap();
    buf.put(b"abcdef");
    buf.consume(2);
    assert!(buf.grow(LARGE));
    assert_eq!((buf.capacity(), buf.readable()), (LARGE, &b"cdef"[..]));
    assert!(!buf.grow(LARGE));
    assert!(!buf.grow(0));
    assert!(buf.grow(LARGE + 1));
    assert_eq!((buf.capacity(), buf.readable()), (LARGE + 1, &b"cdef"[..]));
    assert_eq!(stats().in_use, LARGE + 1);
    drop(buf);
    assert_eq!(stats().in_use, 0);
}

#[test]
fn spare_memory_is_used_again_and_is_gone_within_ten_seconds() {
    Runtime::simulated(1).block_on(async {
        let held: Vec<Buf> = (0..100).map(|_| Buf::take().unwrap()).collect();
        let large: Vec<Buf> = (0..10).map(|_| Buf::take_large().unwrap()).collect();
        drop((held, large));
        let size = Params::default().buffer_size;
        assert_eq!(stats().spare, 100 * size + 10 * LARGE);
        let again = Buf::take().unwrap();
        assert_eq!(stats().spare, 99 * size + 10 * LARGE);
        drop(again);
        // What is in steady use stays.
        for _ in 0..30 {
            sleep(Duration::from_secs(1)).await;
            drop((Buf::take(), Buf::take()));
            let two = (Buf::take(), Buf::take());
            drop(two);
        }
        assert_eq!(stats().spare, 2 * size);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(stats().spare, 0);
    });
}

#[test]
fn an_idle_pool_keeps_no_task() {
    let runtime = Runtime::simulated(1);
    runtime.block_on(async {
        drop(Buf::take());
        sleep(Duration::from_secs(20)).await;
    });
    assert_eq!(runtime.tasks(), 0);
    // And the next loop on this thread trims again.
    let runtime = Runtime::simulated(2);
    runtime.block_on(async { drop(Buf::take()) });
    drop(runtime);
    assert_eq!(stats().spare, 0);
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>),
    Consume(usize),
    Compact,
    Reserve(usize),
    Grow,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400).prop_map(Op::Put),
        (0_usize..500).prop_map(Op::Consume),
        Just(Op::Compact),
        (0_usize..3_000).prop_map(Op::Reserve),
        Just(Op::Grow),
    ]
}

proptest! {
    /// Whatever is done, the bytes come out in the order in which they went in.
    #[test]
    fn a_buffer_is_a_queue_of_bytes(ops in proptest::collection::vec(op(), 0..60)) {
        configure(SMALL);
        let mut buf = Buf::take().unwrap();
        let mut model: Vec<u8> = Vec::new();
        for op in ops {
            match op {
                Op::Put(bytes) => {
                    let room = buf.space().len();
                    let n = buf.put(&bytes);
                    prop_assert_eq!(n, room.min(bytes.len()));
                    model.extend_from_slice(&bytes[..n]);
                }
                Op::Consume(n) => {
                    buf.consume(n);
                    model.drain(..n.min(model.len()));
                }
                Op::Compact => {
                    buf.compact();
                    prop_assert_eq!(buf.space().len(), buf.capacity() - model.len());
                }
                Op::Reserve(n) => {
                    let fits = buf.reserve(n, 2_000);
                    prop_assert_eq!(fits, buf.space().len() >= n);
                    prop_assert!(fits || model.len() + n > 2_000);
                }
                Op::Grow => { buf.grow(2_000); }
            }
            prop_assert_eq!(buf.readable(), &model[..]);
            prop_assert_eq!((buf.len(), buf.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(buf.capacity() <= 2_000);
        }
        drop(buf);
        prop_assert_eq!(stats().in_use, 0);
        configure(Params::default());
    }
}
