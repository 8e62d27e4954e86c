//! The laws of the channels: nothing lost, nothing twice, in order, bounded, and nobody waits for
//! what cannot come.

use super::*;
use crate::rt::{Runtime, sleep, spawn, timeout, yield_now};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn one_value_arrives_or_the_end_does() {
    Runtime::simulated(1).block_on(async {
        let (tell, answer) = oneshot();
        spawn(async move { tell.send(5).unwrap() }).detach();
        assert_eq!(answer.await, Ok(5));

        let (tell, answer) = oneshot::<u8>();
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            drop(tell);
        })
        .detach();
        assert_eq!(answer.await, Err(Closed));

        let (tell, answer) = oneshot();
        assert!(!tell.is_closed());
        drop(answer);
        assert!(tell.is_closed());
        assert_eq!(tell.send(7), Err(7));
    });
}

#[test]
fn the_queue_is_bounded_and_says_why_it_refuses() {
    let (tx, mut rx) = queue(2);
    assert_eq!(tx.try_send(1), Ok(()));
    assert_eq!(tx.try_send(2), Ok(()));
    assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!((rx.len(), rx.is_empty()), (2, false));
    assert_eq!(rx.try_recv(), Ok(Some(1)));
    assert_eq!(rx.try_recv(), Ok(Some(2)));
    assert_eq!(rx.try_recv(), Ok(None));
    drop(rx);
    assert_eq!(tx.try_send(4), Err(TrySendError::Closed(4)));
    assert!(tx.is_closed());
}

#[test]
fn nobody_overtakes_those_in_line() {
    Runtime::simulated(2).block_on(async {
        let (tx, mut rx) = queue(1);
        tx.try_send(0).unwrap();
        for n in 1..=3 {
            let tx = tx.clone();
            spawn(async move { tx.send(n).await.unwrap() }).detach();
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(rx.try_recv(), Ok(Some(0)));
        // The freed place belongs to the first in line, even before its task has run.
        assert_eq!(tx.try_send(99), Err(TrySendError::Full(99)));
        for n in 1..=3 {
            assert_eq!(rx.recv().await, Some(n));
        }
    });
}

#[test]
fn a_sender_that_leaves_the_line_passes_its_place_on() {
    Runtime::simulated(3).block_on(async {
        let (tx, mut rx) = queue(1);
        tx.try_send(0).unwrap();
        let (first, second) = (tx.clone(), tx.clone());
        let leaver = spawn(async move { first.send(1).await.unwrap() });
        sleep(Duration::from_millis(5)).await;
        spawn(async move { second.send(2).await.unwrap() }).detach();
        sleep(Duration::from_millis(5)).await;
        assert_eq!(rx.try_recv(), Ok(Some(0)));
        leaver.abort();
        assert_eq!(
            timeout(Duration::from_secs(1), rx.recv()).await,
            Ok(Some(2))
        );
    });
}

#[test]
fn both_ends_learn_that_the_other_is_gone() {
    Runtime::simulated(4).block_on(async {
        let (tx, mut rx) = queue::<u8>(1);
        let other = tx.clone();
        drop(tx);
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            other.send(1).await.unwrap();
        })
        .detach();
        assert_eq!((rx.recv().await, rx.recv().await), (Some(1), None));
        assert_eq!(rx.try_recv(), Err(Closed));

        let (tx, rx) = queue(1);
        tx.try_send(1).unwrap();
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            drop(rx);
        })
        .detach();
        assert_eq!(tx.send(2).await, Err(2));
    });
}

#[test]
fn readers_see_each_change_once_and_only_the_latest() {
    let (tx, mut a) = latest(1);
    assert_eq!(a.poll_changed(&cx()), Poll::Ready(Ok(())));
    assert!(a.poll_changed(&cx()).is_pending());
    tx.set(2);
    tx.set(3);
    let mut b = tx.subscribe();
    assert_eq!(a.poll_changed(&cx()), Poll::Ready(Ok(())));
    assert_eq!((*a.get(), *b.get(), *tx.get()), (3, 3, 3));
    assert!(a.poll_changed(&cx()).is_pending());
    assert_eq!(b.poll_changed(&cx()), Poll::Ready(Ok(())));
    tx.set(4);
    drop(tx);
    assert_eq!(
        a.poll_changed(&cx()),
        Poll::Ready(Ok(())),
        "the last value is still news"
    );
    assert_eq!(a.poll_changed(&cx()), Poll::Ready(Err(Closed)));
}

#[test]
fn a_change_wakes_every_reader() {
    Runtime::simulated(5).block_on(async {
        let (tx, rx) = latest(0);
        let seen = Rc::new(RefCell::new(0));
        for _ in 0..10 {
            let (mut rx, seen) = (rx.clone(), Rc::clone(&seen));
            spawn(async move {
                while rx.changed().await.is_ok() {
                    *seen.borrow_mut() += *rx.get();
                }
            })
            .detach();
        }
        sleep(Duration::from_millis(5)).await;
        tx.set(3);
        sleep(Duration::from_millis(5)).await;
        assert_eq!(*seen.borrow(), 30);
    });
}

proptest! {
    /// Any number of senders, some of which give up: what arrives is what was taken, per sender
    /// in order, and never more than `capacity` waits.
    #[test]
    fn the_queue_loses_nothing(
        seed: u64,
        capacity in 1_usize..5,
        senders in proptest::collection::vec((1_u64..30, proptest::bool::weighted(0.3)), 1..6),
    ) {
        let (sent, got) = Runtime::simulated(seed).block_on(async {
            let (tx, mut rx) = queue(capacity);
            let sent = Rc::new(RefCell::new(Vec::new()));
            for (name, (count, hasty)) in senders.iter().copied().enumerate() {
                let (tx, sent) = (tx.clone(), Rc::clone(&sent));
                spawn(async move {
                    for n in 0..count {
                        let patience = Duration::from_millis(if hasty { 1 } else { 1_000_000 });
                        if timeout(patience, tx.send((name, n))).await == Ok(Ok(())) {
                            sent.borrow_mut().push((name, n));
                        }
                    }
                })
                .detach();
            }
            drop(tx);
            let mut got = Vec::new();
            while let Some(item) = rx.recv().await {
                assert!(rx.len() < capacity + 1);
                got.push(item);
                if got.len() % 3 == 0 {
                    sleep(Duration::from_millis(3)).await;
                } else {
                    yield_now().await;
                }
            }
            (sent.take(), got)
        });
        for name in 0..senders.len() {
            let of = |list: &[(usize, u64)]| -> Vec<u64> {
                list.iter().filter(|item| item.0 == name).map(|item| item.1).collect()
            };
            prop_assert_eq!(of(&sent), of(&got));
        }
    }
}
