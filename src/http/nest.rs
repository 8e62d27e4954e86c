//! Places for the futures of active connections: a place whose future has ended is used again by
//! the next one, so that a connection which becomes active allocates nothing in steady state. It
//! knows one kind of future for each thread; another kind takes over from the one before.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Places kept for later; more are freed, so that a burst gives its memory back.
const KEPT_MAX: usize = 64;

type Places<F> = Vec<Pin<Box<F>>>;

thread_local! {
    static FREE: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Does something with the free places for futures of this kind.
fn with<F: 'static, R>(what: impl FnOnce(&mut Places<F>) -> R) -> Option<R> {
    FREE.with_borrow_mut(|free| {
        if !free.as_ref().is_some_and(|free| free.is::<Places<F>>()) {
            *free = Some(Box::new(Places::<F>::new()));
        }
        free.as_mut()?.downcast_mut().map(what)
    })
}

/// A future in a place of its own.
pub struct Nested<F: Future + 'static>(Option<Pin<Box<F>>>);

/// Puts a future into a place.
pub fn nest<F: Future + 'static>(future: F) -> Nested<F> {
    let place = match with(Places::<F>::pop).flatten() {
        Some(mut place) => {
            place.set(future);
            place
        }
        None => Box::pin(future),
    };
    Nested(Some(place))
}

impl<F: Future + 'static> Future for Nested<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(place) = self.0.as_mut() else {
            return Poll::Pending;
        };
        let outcome = place.as_mut().poll(cx);
        if outcome.is_ready()
            && let Some(place) = self.0.take()
        {
            with(|free| {
                if free.len() < KEPT_MAX {
                    free.push(place);
                }
            });
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::rc::Rc;

    fn poll<F: Future + 'static>(nested: &mut Nested<F>) -> Poll<F::Output> {
        Pin::new(nested).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    fn at<F: Future>(nested: &Nested<F>) -> *const F {
        nested.0.as_deref().unwrap() as *const F
    }

    #[test]
    fn the_place_of_an_ended_future_is_used_again() {
        let mut first = nest(ready(1));
        let place = at(&first);
        assert_eq!(poll(&mut first), Poll::Ready(1));
        let mut second = nest(ready(2));
        assert_eq!(at(&second), place);
        assert_eq!(poll(&mut second), Poll::Ready(2));
        let mut other = nest(ready("another kind"));
        assert_eq!(poll(&mut other), Poll::Ready("another kind"));
    }

    #[test]
    fn what_a_future_holds_goes_when_it_is_dropped_or_has_ended() {
        let held = Rc::new(());
        let wait = |held: Rc<()>, ends: bool| async move {
            if !ends {
                pending::<()>().await;
            }
            drop(held);
        };
        let mut cut = nest(wait(Rc::clone(&held), false));
        assert!(poll(&mut cut).is_pending());
        assert_eq!(Rc::strong_count(&held), 2);
        drop(cut);
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(poll(&mut nest(wait(Rc::clone(&held), true))).is_ready());
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
