//! Two connected streams in memory, with half-close, reset and a bounded window: for tests and for
//! talking to a service inside the process. No clock: bytes arrive at once.

use super::stream::Stream;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Nothing more is written.
    ended: bool,
    /// The writer has thrown the connection away.
    reset: bool,
    /// Nobody reads any more.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            bytes: VecDeque::new(),
            capacity: capacity.max(1),
            ended: false,
            reset: false,
            unread: false,
            reader: None,
            writer: None,
        }))
    }
}

/// Changes a pipe, then wakes both who may wait at it.
fn change<R>(pipe: &RefCell<Pipe>, f: impl FnOnce(&mut Pipe) -> R) -> R {
    let (result, reader, writer) = {
        let mut pipe = pipe.borrow_mut();
        let result = f(&mut pipe);
        (result, pipe.reader.take(), pipe.writer.take())
    };
    for waker in [reader, writer].into_iter().flatten() {
        waker.wake();
    }
    result
}

/// One end of a pair. Dropping it closes both directions.
pub struct PairStream {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

/// Two connected streams; each direction holds at most `capacity` (at least 1) bytes.
#[must_use]
pub fn pair(capacity: usize) -> (PairStream, PairStream) {
    let (there, back) = (Pipe::new(capacity), Pipe::new(capacity));
    let a = PairStream {
        incoming: Rc::clone(&back),
        outgoing: Rc::clone(&there),
    };
    (
        a,
        PairStream {
            incoming: there,
            outgoing: back,
        },
    )
}

impl PairStream {
    fn wait_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if crate::rt::poll_budget(cx).is_pending() {
            return Poll::Pending;
        }
        let mut pipe = self.incoming.borrow_mut();
        if !pipe.bytes.is_empty() || pipe.ended || pipe.reset {
            return Poll::Ready(());
        }
        let old = pipe.reader.replace(cx.waker().clone());
        drop(pipe);
        drop(old);
        Poll::Pending
    }
}

impl AsyncRead for PairStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.wait_readable(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(change(&self.incoming, |pipe| {
            if pipe.bytes.is_empty() && pipe.reset {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let len = pipe.bytes.len().min(buf.remaining());
            let (front, back) = pipe.bytes.as_slices();
            let of_front = front.len().min(len);
            buf.put_slice(front.get(..of_front).unwrap_or_default());
            buf.put_slice(back.get(..len - of_front).unwrap_or_default());
            pipe.bytes.drain(..len);
            Ok(())
        }))
    }
}

impl AsyncWrite for PairStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if crate::rt::poll_budget(cx).is_pending() {
            return Poll::Pending;
        }
        if self.incoming.borrow().reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut pipe = self.outgoing.borrow_mut();
        if pipe.ended || pipe.unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bytes.len().min(pipe.capacity - pipe.bytes.len());
        if len == 0 && !bytes.is_empty() {
            let old = pipe.writer.replace(cx.waker().clone());
            drop(pipe);
            drop(old);
            return Poll::Pending;
        }
        drop(pipe);
        change(&self.outgoing, |pipe| {
            pipe.bytes.extend(bytes.get(..len).unwrap_or_default());
        });
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        change(&self.outgoing, |pipe| pipe.ended = true);
        Poll::Ready(Ok(()))
    }
}

impl Stream for PairStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wait_readable(cx).map(Ok)
    }

    fn is_stale(&mut self) -> bool {
        let pipe = self.incoming.borrow();
        !pipe.bytes.is_empty() || pipe.ended || pipe.reset
    }

    fn reset(&mut self) {
        change(&self.outgoing, |pipe| pipe.reset = true);
    }
}

impl Drop for PairStream {
    fn drop(&mut self) {
        change(&self.outgoing, |pipe| pipe.ended = true);
        change(&self.incoming, |pipe| {
            pipe.unread = true;
            pipe.bytes.clear();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{Runtime, spawn};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn bytes_ends_and_resets_arrive() {
        Runtime::simulated(1).block_on(async {
            let (mut a, mut b) = pair(3);
            spawn(async move {
                a.write_all(b"hello").await.unwrap();
                a.shutdown().await.unwrap();
                assert!(a.write_all(b"x").await.is_err());
                assert_eq!(a.read_u8().await.unwrap(), b'!');
                a.reset();
            })
            .detach();
            let mut got = Vec::new();
            b.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"hello");
            b.write_all(b"!").await.unwrap();
            std::future::poll_fn(|cx| b.poll_readable(cx))
                .await
                .unwrap();
            crate::rt::yield_now().await;
            assert_eq!(
                b.read_u8().await.unwrap_err().kind(),
                io::ErrorKind::ConnectionReset
            );
        });
    }

    #[test]
    fn an_idle_end_is_not_stale_until_something_comes() {
        Runtime::simulated(1).block_on(async {
            let (mut a, b) = pair(3);
            assert!(!a.is_stale());
            drop(b);
            assert!(a.is_stale());
            assert_eq!(
                a.write_all(b"x").await.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
        });
    }
}
