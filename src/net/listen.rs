//! The accept loop: connections of one listener in bounded batches, under a limit shared by all
//! listeners of the worker, with a pause when the limit is reached or descriptors run out. What
//! is done with a connection is the caller's business.

use super::Conn;
use crate::rt::drain::Watch;
use crate::rt::sock::{self, TcpListener, UnixListener};
use crate::rt::{self, Timer};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Connections accepted before other tasks get their turn.
const BATCH: u32 = 16;

/// How long to wait after descriptors ran out, or after an error of the listener.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that are refused by closing them, for each pause, when descriptors ran out.
const REFUSE_BATCH: u32 = 16;

/// Batches that are still accepted when the drain starts.
const LAST_BATCHES: u32 = 512;

/// A listening socket of any kind.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix stream.
    Unix(UnixListener),
}

impl Listener {
    /// Takes over the descriptor of a listening socket.
    ///
    /// # Errors
    /// When it is not a socket or cannot be registered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        if socket.local_addr()?.is_unix() {
            Ok(Self::Unix(UnixListener::from_std(
                OwnedFd::from(socket).into(),
            )?))
        } else {
            Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Conn, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, peer)| (stream.into(), Some(peer))),
            Self::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|stream| (stream.into(), None)),
        }
    }
}

#[derive(Default)]
struct GateState {
    limit: Cell<usize>,
    open: Cell<usize>,
    paused: Cell<bool>,
    pauses: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl GateState {
    /// Open connections at which accepting goes on: 5 % of the limit are free, at least one.
    fn resume_at(&self) -> usize {
        let limit = self.limit.get();
        limit - (limit / 20).max(1).min(limit)
    }

    fn leave(&self) {
        let open = self.open.get().saturating_sub(1);
        self.open.set(open);
        if self.paused.get() && open <= self.resume_at() {
            self.paused.set(false);
            let waiting = self.waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// The limit of open connections of a worker, shared by its listeners. At the limit accepting
/// stops, so that connections wait in the kernel, and goes on when 5 % are free again.
#[derive(Clone)]
pub struct Gate(Rc<GateState>);

/// One open connection; dropping it makes room for another.
pub struct Permit(Rc<GateState>);

impl Gate {
    /// A gate for `limit` (at least 1) connections.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let state = GateState::default();
        state.limit.set(limit.max(1));
        Self(Rc::new(state))
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.get()
    }

    /// Whether the limit was reached and too few have closed since.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.paused.get()
    }

    /// How often the limit was reached.
    #[must_use]
    pub fn pauses(&self) -> u64 {
        self.0.pauses.get()
    }

    /// Ready when a connection may be accepted.
    pub fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.0.paused.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Counts a connection. It is counted even beyond the limit: what was accepted is there.
    #[must_use]
    pub fn enter(&self) -> Permit {
        let open = self.0.open.get() + 1;
        self.0.open.set(open);
        if open >= self.0.limit.get() && !self.0.paused.replace(true) {
            self.0.pauses.set(self.0.pauses.get() + 1);
        }
        Permit(Rc::clone(&self.0))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A descriptor kept for the moment when there is none left: closing it makes it possible to
/// accept a connection and close it, instead of letting it hang.
#[derive(Clone)]
pub struct Reserve(Rc<RefCell<Option<File>>>);

impl Reserve {
    /// Opens it. To be done early, before a sandbox.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Rc::new(RefCell::new(Some(File::open("/dev/null")?)))))
    }

    /// Accepts and closes one waiting connection. False when none waits or it did not work.
    fn refuse_one(&self, listener: &Listener, cx: &mut Context<'_>) -> bool {
        self.0.borrow_mut().take();
        let refused = matches!(listener.poll_accept(cx), Poll::Ready(Ok(_)));
        // If there is none to be had, the next refusal goes without.
        *self.0.borrow_mut() = File::open("/dev/null").ok();
        refused
    }
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The limit of connections was reached: accepting stops.
    Full,
    /// Descriptors or memory ran out: accepting pauses.
    Exhausted,
    /// A waiting connection was closed because there was no descriptor for it.
    Refused,
    /// A connection failed before it was accepted.
    Failed,
}

/// What an accept loop needs.
pub struct Options {
    /// The limit.
    pub gate: Gate,
    /// The reserve.
    pub reserve: Reserve,
    /// Accepting ends when this drain starts.
    pub drain: Watch,
}

/// Accepts connections and gives each to `connected`, with the address of the peer (TCP) and its
/// place under the limit, until the drain starts; then what waits already is accepted, because
/// closing could reset it, and the listener is closed. `noted` is told what is worth counting.
pub async fn accept_loop(
    listener: Listener,
    mut opts: Options,
    mut connected: impl FnMut(Conn, Option<SocketAddr>, Permit),
    mut noted: impl FnMut(Event),
) {
    let mut pause = Timer::new();
    loop {
        let next = std::future::poll_fn(|cx| {
            if opts.drain.poll_started(cx).is_ready() {
                return Poll::Ready(None);
            }
            if pause.deadline().is_some() {
                if pause.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                pause.clear();
            }
            if opts.gate.poll_open(cx).is_pending() {
                return Poll::Pending;
            }
            poll_batch(&listener, &opts, cx, &mut connected, &mut noted).map(Some)
        });
        match next.await {
            None => break,
            Some(Batch::Full) => rt::yield_now().await,
            Some(Batch::Broken) => pause.set_after(PAUSE),
        }
    }
    // A turn of the loop, so that it has heard of everything that waits.
    rt::sleep(Duration::from_millis(1)).await;
    for _ in 0..LAST_BATCHES {
        if opts.gate.is_paused() {
            return;
        }
        let batch = std::future::poll_fn(|cx| {
            Poll::Ready(poll_batch(&listener, &opts, cx, &mut connected, &mut noted))
        });
        match batch.await {
            Poll::Ready(Batch::Full) => rt::yield_now().await,
            Poll::Ready(Batch::Broken) | Poll::Pending => return,
        }
    }
}

/// How a batch ended, other than by an empty queue.
enum Batch {
    /// It was large enough, or the limit was reached.
    Full,
    /// The listener has to pause.
    Broken,
}

fn poll_batch(
    listener: &Listener,
    opts: &Options,
    cx: &mut Context<'_>,
    connected: &mut impl FnMut(Conn, Option<SocketAddr>, Permit),
    noted: &mut impl FnMut(Event),
) -> Poll<Batch> {
    for _ in 0..BATCH {
        match std::task::ready!(listener.poll_accept(cx)) {
            Ok((conn, peer)) => {
                connected(conn, peer, opts.gate.enter());
                if opts.gate.is_paused() {
                    noted(Event::Full);
                    break;
                }
            }
            Err(error) if sock::is_transient(&error) => noted(Event::Failed),
            Err(error) if sock::is_exhausted(&error) => {
                noted(Event::Exhausted);
                for _ in 0..REFUSE_BATCH {
                    if !opts.reserve.refuse_one(listener, cx) {
                        break;
                    }
                    noted(Event::Refused);
                }
                return Poll::Ready(Batch::Broken);
            }
            Err(error) => {
                log::error!("accepting a connection failed: {error}");
                return Poll::Ready(Batch::Broken);
            }
        }
    }
    Poll::Ready(Batch::Full)
}

#[cfg(test)]
mod tests;
