//! Simulated UDP: packets with latency, loss and changed order.

use super::World;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const QUEUE: usize = 256;

/// What arrives at one address.
pub struct Port {
    arrived: RefCell<VecDeque<(SocketAddr, Vec<u8>)>>,
    waker: RefCell<Option<Waker>>,
    only: Cell<Option<SocketAddr>>,
}

/// A simulated UDP socket.
pub struct UdpSocket {
    world: Rc<World>,
    port: Rc<Port>,
    local: SocketAddr,
}

impl UdpSocket {
    pub fn bind(world: &Rc<World>, mut local: SocketAddr) -> io::Result<Self> {
        if local.port() == 0 {
            local.set_port(world.ephemeral());
        }
        if local.ip().is_unspecified() {
            // A packet needs a sender's address; the simulation has one host per loop.
            local.set_ip(if local.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0, 0, 0, 0, 0, 0, 0, 1].into()
            });
        }
        let port = Rc::new(Port {
            arrived: RefCell::default(),
            waker: RefCell::default(),
            only: Cell::new(None),
        });
        let mut ports = world.ports.borrow_mut();
        if ports.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        ports.insert(local, Rc::clone(&port));
        Ok(Self {
            world: Rc::clone(world),
            port,
            local,
        })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub fn connect(&self, addr: SocketAddr) {
        self.port.only.set(Some(addr));
    }

    pub fn send_to(&self, packet: &[u8], to: SocketAddr) -> usize {
        let (world, from, len) = (&self.world, self.local, packet.len());
        let lost = world.rng.one_in(world.weather.get().udp_loss)
            || world.black_holes.borrow().contains(&to);
        if !lost {
            let packet = packet.to_vec();
            world.schedule(world.arrival(), move |world| {
                deliver(world, from, to, packet);
            });
        }
        len
    }

    pub fn poll_recv_from(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<(usize, SocketAddr)> {
        let Some((from, packet)) = self.port.arrived.borrow_mut().pop_front() else {
            let old = self.port.waker.replace(Some(cx.waker().clone()));
            drop(old);
            return Poll::Pending;
        };
        let mut len = 0;
        for (to, byte) in buf.iter_mut().zip(packet) {
            *to = byte;
            len += 1;
        }
        Poll::Ready((len, from))
    }
}

fn deliver(world: &Rc<World>, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
    if world.is_silent(from) || world.is_silent(to) {
        return;
    }
    let Some(port) = world.ports.borrow().get(&to).cloned() else {
        return;
    };
    if port.only.get().is_some_and(|only| only != from) {
        return;
    }
    if port.arrived.borrow().len() < QUEUE {
        port.arrived.borrow_mut().push_back((from, packet));
        let waker = port.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.world.ports.borrow_mut().remove(&self.local);
    }
}
