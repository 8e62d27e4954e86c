//! Simulated TCP: ordered bytes in random pieces, half-close, reset, a bounded window.

use super::World;
use crate::base::time::Instant;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

const BACKLOG: usize = 1024;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    /// Sent, not arrived.
    under_way: usize,
    /// Nothing overtakes what was sent before.
    last: Instant,
    /// The writer has ended its side; no more is taken.
    ended: bool,
    /// The end has arrived.
    end_arrived: bool,
    /// A reset has arrived at the reader of this pipe (who is the writer of the other).
    reset: bool,
    /// Nobody will read any more.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Both directions: pipe 0 leads from the connecting side to the accepting one.
pub struct Link {
    ends: [SocketAddr; 2],
    pipes: [RefCell<Pipe>; 2],
}

impl Link {
    pub fn touches(&self, addr: SocketAddr) -> bool {
        self.ends.contains(&addr)
    }

    pub fn reset(&self) {
        for pipe in &self.pipes {
            reset_pipe(pipe);
        }
    }
}

/// A reset arrives at the reader of pipe `side`, who may be waiting to write to the other one.
fn reset_reader(link: &Link, side: usize) {
    if let Some(pipe) = link.pipes.get(side) {
        reset_pipe(pipe);
    }
    if let Some(other) = link.pipes.get(1 - side) {
        wake(other, |_| {});
    }
}

fn reset_pipe(pipe: &RefCell<Pipe>) {
    wake(pipe, |pipe| pipe.reset = true);
}

/// Changes a pipe, then wakes both who may wait at it.
fn wake(pipe: &RefCell<Pipe>, change: impl FnOnce(&mut Pipe)) {
    let (reader, writer) = {
        let mut pipe = pipe.borrow_mut();
        change(&mut pipe);
        (pipe.reader.take(), pipe.writer.take())
    };
    for waker in [reader, writer].into_iter().flatten() {
        waker.wake();
    }
}

/// Connections that wait to be accepted.
#[derive(Default)]
pub struct Backlog {
    waiting: RefCell<VecDeque<TcpStream>>,
    waker: RefCell<Option<Waker>>,
}

/// A simulated listener.
pub struct TcpListener {
    world: Rc<World>,
    backlog: Rc<Backlog>,
    local: SocketAddr,
}

impl TcpListener {
    pub fn bind(world: &Rc<World>, mut local: SocketAddr) -> io::Result<Self> {
        if local.port() == 0 {
            local.set_port(world.ephemeral());
        }
        let mut listeners = world.listeners.borrow_mut();
        if listeners.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = Rc::<Backlog>::default();
        listeners.insert(local, Rc::clone(&backlog));
        Ok(Self {
            world: Rc::clone(world),
            backlog,
            local,
        })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub fn poll_accept(&self, cx: &Context<'_>) -> Poll<TcpStream> {
        let next = self.backlog.waiting.borrow_mut().pop_front();
        if let Some(stream) = next {
            return Poll::Ready(stream);
        }
        let old = self.backlog.waker.replace(Some(cx.waker().clone()));
        drop(old);
        Poll::Pending
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.world.listeners.borrow_mut().remove(&self.local);
        let waiting = self.backlog.waiting.take();
        // Nobody will ever accept them.
        waiting.iter().for_each(TcpStream::reset_on_close);
    }
}

/// One end of a simulated connection.
pub struct TcpStream {
    world: Rc<World>,
    link: Rc<Link>,
    /// 0 for the connecting side, 1 for the accepting one.
    side: usize,
    reset: Cell<bool>,
}

impl TcpStream {
    pub async fn connect(
        world: &Rc<World>,
        to: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<Self> {
        let ip = source.unwrap_or(if to.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        });
        let from = SocketAddr::new(ip, world.ephemeral());
        let there = world.arrival();
        let back = there + there.saturating_since(world.now.get());
        let hangs = || {
            world.black_holes.borrow().contains(&to) || world.is_silent(to) || world.is_silent(from)
        };
        if hangs() {
            std::future::pending::<()>().await;
        }
        let (tell, answer) = crate::rt::chan::oneshot();
        world.schedule(there, move |world| {
            let result = if world.refusing.borrow().contains(&to) {
                None
            } else {
                arrive(world, from, to)
            };
            world.schedule(back, move |_| {
                // Who has given up meanwhile drops the stream, which closes it.
                let _given_up = tell.send(result);
            });
        });
        match answer.await {
            Ok(Some(stream)) if !hangs() => Ok(stream),
            Ok(None) => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => std::future::pending().await,
        }
    }

    pub fn peer_addr(&self) -> SocketAddr {
        let [connecting, accepting] = self.link.ends;
        if self.side == 0 {
            accepting
        } else {
            connecting
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        let [connecting, accepting] = self.link.ends;
        if self.side == 0 {
            connecting
        } else {
            accepting
        }
    }

    fn incoming(&self) -> &RefCell<Pipe> {
        let [to_accepting, to_connecting] = &self.link.pipes;
        if self.side == 0 {
            to_connecting
        } else {
            to_accepting
        }
    }

    fn outgoing(&self) -> &RefCell<Pipe> {
        let [to_accepting, to_connecting] = &self.link.pipes;
        if self.side == 0 {
            to_accepting
        } else {
            to_connecting
        }
    }

    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if crate::rt::poll_budget(cx).is_pending() {
            return Poll::Pending;
        }
        let mut pipe = self.incoming().borrow_mut();
        if !pipe.arrived.is_empty() || pipe.end_arrived || pipe.reset {
            return Poll::Ready(());
        }
        let old = pipe.reader.replace(cx.waker().clone());
        drop(pipe);
        drop(old);
        Poll::Pending
    }

    pub fn poll_read(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut pipe = self.incoming().borrow_mut();
        if pipe.arrived.is_empty() {
            return Poll::Ready(if pipe.reset {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                Ok(())
            });
        }
        let (front, _) = pipe.arrived.as_slices();
        let len = front.len().min(buf.remaining());
        buf.put_slice(front.get(..len).unwrap_or_default());
        pipe.arrived.drain(..len);
        let writer = pipe.writer.take();
        drop(pipe);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_write(&self, cx: &Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if crate::rt::poll_budget(cx).is_pending() {
            return Poll::Pending;
        }
        if self.incoming().borrow().reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let (room, ended) = {
            let pipe = self.outgoing().borrow();
            let used = pipe.under_way + pipe.arrived.len();
            (
                self.world.weather.get().window.saturating_sub(used),
                pipe.ended,
            )
        };
        if ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if room == 0 {
            let old = self
                .outgoing()
                .borrow_mut()
                .writer
                .replace(cx.waker().clone());
            drop(old);
            return Poll::Pending;
        }
        let mut len = total.min(room);
        if self.world.rng.one_in(4) {
            // A socket may take less than it could.
            len = 1 + self.world.rng.below(len);
        }
        let mut bytes = Vec::with_capacity(len);
        for buf in bufs {
            bytes.extend_from_slice(
                buf.get(..buf.len().min(len - bytes.len()))
                    .unwrap_or_default(),
            );
        }
        self.send(&bytes);
        Poll::Ready(Ok(len))
    }

    fn send(&self, mut bytes: &[u8]) {
        let most = self.world.weather.get().segment_max.max(1);
        while !bytes.is_empty() {
            let len = (1 + self.world.rng.below(most)).min(bytes.len());
            let (segment, rest) = bytes.split_at(len);
            bytes = rest;
            self.outgoing().borrow_mut().under_way += len;
            let segment = segment.to_vec();
            self.in_order(move |world, link, side| deliver(world, link, side, &segment));
        }
    }

    /// Schedules an arrival at the other end, not before those scheduled earlier.
    fn in_order(&self, event: impl FnOnce(&Rc<World>, &Rc<Link>, usize) + 'static) {
        let at = self.world.arrival().max(self.outgoing().borrow().last);
        self.outgoing().borrow_mut().last = at;
        let (link, side) = (Rc::clone(&self.link), self.side);
        self.world.schedule(at, move |world| {
            let [a, b] = link.ends;
            if !world.is_silent(a) && !world.is_silent(b) {
                event(world, &link, side);
            }
        });
    }

    pub fn shutdown_write(&self) -> io::Result<()> {
        if !std::mem::replace(&mut self.outgoing().borrow_mut().ended, true) {
            self.in_order(|_, link, side| {
                if let Some(pipe) = link.pipes.get(side) {
                    wake(pipe, |pipe| pipe.end_arrived = true);
                }
            });
        }
        Ok(())
    }

    pub fn is_stale(&self) -> bool {
        let pipe = self.incoming().borrow();
        !pipe.arrived.is_empty() || pipe.end_arrived || pipe.reset
    }

    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        let mut pipe = self.incoming().borrow_mut();
        if pipe.reset {
            return Poll::Ready(());
        }
        let old = pipe.reader.replace(cx.waker().clone());
        drop(pipe);
        drop(old);
        Poll::Pending
    }

    pub fn reset_on_close(&self) {
        self.reset.set(true);
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let unread = {
            let mut pipe = self.incoming().borrow_mut();
            pipe.unread = true;
            pipe.reader = None;
            !pipe.arrived.is_empty()
        };
        self.outgoing().borrow_mut().writer = None;
        if self.reset.get() || unread {
            // As the kernel does when it has to throw data away.
            self.in_order(|_, link, side| reset_reader(link, side));
        }
        // Closing tells the end; after a reset it changes nothing.
        let _always_ok = self.shutdown_write();
    }
}

/// A connection request arrives: the accepting end goes to the listener, the other is given back.
fn arrive(world: &Rc<World>, from: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
    let any = SocketAddr::new(
        if to.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0_u16; 8].into()
        },
        to.port(),
    );
    let backlog = {
        let listeners = world.listeners.borrow();
        Rc::clone(listeners.get(&to).or_else(|| listeners.get(&any))?)
    };
    if backlog.waiting.borrow().len() >= BACKLOG {
        return None;
    }
    let link = Rc::new(Link {
        ends: [from, to],
        pipes: Default::default(),
    });
    world.links.borrow_mut().push(Rc::downgrade(&link));
    let end = |side| TcpStream {
        world: Rc::clone(world),
        link: Rc::clone(&link),
        side,
        reset: Cell::new(false),
    };
    backlog.waiting.borrow_mut().push_back(end(1));
    let waker = backlog.waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
    Some(end(0))
}

/// Bytes arrive at the reader of pipe `side`.
fn deliver(world: &Rc<World>, link: &Rc<Link>, side: usize, segment: &[u8]) {
    let Some(pipe) = link.pipes.get(side) else {
        return;
    };
    let unread = {
        let mut pipe = pipe.borrow_mut();
        pipe.under_way = pipe.under_way.saturating_sub(segment.len());
        pipe.unread
    };
    if unread {
        // Nobody is there any more: the sender gets a reset.
        let link = Rc::clone(link);
        world.schedule(world.arrival(), move |_| reset_reader(&link, 1 - side));
        return;
    }
    wake(pipe, |pipe| {
        if !pipe.reset {
            pipe.arrived.extend(segment);
        }
    });
}
