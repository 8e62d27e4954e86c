//! The simulation behind `Runtime::simulated`: a virtual clock that jumps to the next event when
//! nothing can run, and a network in memory with latency, segments, refusals, black holes, resets
//! and vanished hosts, all drawn from one seed. The same seed gives the same run.
//!
//! It stands behind the same socket types as the kernel, so everything above runs unchanged; it is
//! part of the library, not of its tests, so that other modules' tests can use it. What it does
//! not model: bandwidth, congestion, Unix sockets, descriptors.

mod rng;
mod tcp;
mod udp;

pub use rng::Rng;
pub(super) use tcp::{TcpListener, TcpStream};
pub(super) use udp::UdpSocket;

use super::context::{self, Driver};
use crate::base::time::Instant;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// When every simulation starts.
pub const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// How the network behaves.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The least time that a packet is under way.
    pub latency_min: Duration,
    /// The most time that a packet is under way.
    pub latency_max: Duration,
    /// The longest piece in which bytes arrive; every piece has a random length up to it.
    pub segment_max: usize,
    /// Bytes under way or not yet read, in each direction of a connection.
    pub window: usize,
    /// One in so many UDP packets is lost; 0 for none.
    pub udp_loss: u32,
    /// Whether runnable tasks run in random order.
    pub shuffle: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_micros(500),
            segment_max: 1460,
            window: 64 * 1024,
            udp_loss: 0,
            shuffle: true,
        }
    }
}

type Event = Box<dyn FnOnce(&Rc<World>)>;

/// The state of one simulation.
pub struct World {
    rng: Rng,
    weather: Cell<Weather>,
    now: Cell<Instant>,
    events: RefCell<BTreeMap<(Instant, u64), Event>>,
    sequence: Cell<u64>,
    next_port: Cell<u16>,
    listeners: RefCell<BTreeMap<SocketAddr, Rc<tcp::Backlog>>>,
    ports: RefCell<BTreeMap<SocketAddr, Rc<udp::Port>>>,
    links: RefCell<Vec<std::rc::Weak<tcp::Link>>>,
    black_holes: RefCell<BTreeSet<SocketAddr>>,
    refusing: RefCell<BTreeSet<SocketAddr>>,
    silent: RefCell<BTreeSet<IpAddr>>,
    fingerprint: Cell<u64>,
    panics_allowed: Cell<bool>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            weather: Cell::new(Weather::default()),
            now: Cell::new(START),
            events: RefCell::default(),
            sequence: Cell::new(0),
            next_port: Cell::new(40_000),
            listeners: RefCell::default(),
            ports: RefCell::default(),
            links: RefCell::default(),
            black_holes: RefCell::default(),
            refusing: RefCell::default(),
            silent: RefCell::default(),
            fingerprint: Cell::new(seed),
            panics_allowed: Cell::new(false),
        }
    }

    /// Which of `len` runnable tasks is next.
    pub(super) fn pick(&self, len: usize) -> usize {
        if self.weather.get().shuffle {
            self.rng.below(len)
        } else {
            0
        }
    }

    pub(super) const fn rng(&self) -> &Rng {
        &self.rng
    }

    pub(super) const fn panics_allowed(&self) -> bool {
        self.panics_allowed.get()
    }

    /// Lets time pass until something happens, when nothing else can; gives the new time.
    #[expect(
        clippy::panic,
        reason = "a simulation in which nothing can ever happen is a defect of the test"
    )]
    pub(super) fn turn(
        self: &Rc<Self>,
        now: Instant,
        idle: bool,
        next_timer: Option<Instant>,
    ) -> Instant {
        let mut now = now;
        if idle {
            let next_event = self.events.borrow().first_key_value().map(|(key, _)| key.0);
            let next = [next_timer, next_event].into_iter().flatten().min();
            let Some(next) = next else {
                panic!("the simulation stands still: no task can run, no timer is set");
            };
            now = now.max(next);
        }
        self.now.set(now);
        loop {
            let event = {
                let mut events = self.events.borrow_mut();
                match events.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove_entry(),
                    _ => break,
                }
            };
            let ((at, sequence), event) = event;
            self.trace(at.as_nanos() ^ sequence.rotate_left(40));
            event(self);
        }
        now
    }

    /// Drops what is under way, at the end of the simulation.
    pub(super) fn clear(&self) {
        let events = std::mem::take(&mut *self.events.borrow_mut());
        drop(events);
        self.listeners.borrow_mut().clear();
        self.ports.borrow_mut().clear();
    }

    fn trace(&self, what: u64) {
        let mixed = (self.fingerprint.get() ^ what).wrapping_mul(0x0000_0100_0000_01b3);
        self.fingerprint.set(mixed.rotate_left(17));
    }

    fn schedule(&self, at: Instant, event: impl FnOnce(&Rc<Self>) + 'static) {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        self.events
            .borrow_mut()
            .insert((at, sequence), Box::new(event));
    }

    /// When a packet that is sent now arrives.
    fn arrival(&self) -> Instant {
        let weather = self.weather.get();
        self.now.get() + self.rng.between(weather.latency_min, weather.latency_max)
    }

    fn ephemeral(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port
            .set(if port == u16::MAX { 40_000 } else { port + 1 });
        port
    }

    fn is_silent(&self, addr: SocketAddr) -> bool {
        self.silent.borrow().contains(&addr.ip())
    }
}

/// What a test does to the network of the simulation it runs in.
pub struct Net(Rc<World>);

/// The network of the simulated loop of this thread.
///
/// # Panics
/// Outside of a simulated loop.
#[must_use]
#[expect(
    clippy::panic,
    reason = "a call outside of a simulation is a defect of the test"
)]
pub fn net() -> Net {
    match &context::current().driver {
        Driver::Sim(world) => Net(Rc::clone(world)),
        Driver::Real(_) => panic!("this event loop is not simulated"),
    }
}

impl Net {
    /// How the network behaves now.
    #[must_use]
    pub fn weather(&self) -> Weather {
        self.0.weather.get()
    }

    /// Changes how the network behaves from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.weather.set(weather);
    }

    /// A panic of a task is part of this test, not a failure of it.
    pub fn allow_panics(&self) {
        self.0.panics_allowed.set(true);
    }

    /// A number from the generator of the simulation.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.rng.next()
    }

    /// A number that depends on every event so far: equal for equal runs.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.0.fingerprint.get()
    }

    /// Connections to `addr` are neither accepted nor refused from now on, UDP packets are lost.
    pub fn black_hole(&self, addr: SocketAddr) {
        self.0.black_holes.borrow_mut().insert(addr);
    }

    /// Connections to `addr` are refused from now on, even if somebody listens there.
    pub fn refuse(&self, addr: SocketAddr) {
        self.0.refusing.borrow_mut().insert(addr);
    }

    /// Ends `black_hole` and `refuse` for `addr` and `vanish` for its host.
    pub fn heal(&self, addr: SocketAddr) {
        self.0.black_holes.borrow_mut().remove(&addr);
        self.0.refusing.borrow_mut().remove(&addr);
        self.0.silent.borrow_mut().remove(&addr.ip());
    }

    /// The host is gone without a word: nothing from or to it arrives any more.
    pub fn vanish(&self, host: IpAddr) {
        self.0.silent.borrow_mut().insert(host);
    }

    /// Resets every open connection that has `addr` at one end; both ends see it. Gives their number.
    pub fn reset_connections(&self, addr: SocketAddr) -> usize {
        let links: Vec<Rc<tcp::Link>> = {
            let mut links = self.0.links.borrow_mut();
            links.retain(|link| link.strong_count() != 0);
            links.iter().filter_map(std::rc::Weak::upgrade).collect()
        };
        links
            .into_iter()
            .filter(|link| link.touches(addr))
            .map(|link| link.reset())
            .count()
    }
}

#[cfg(test)]
mod tests;
