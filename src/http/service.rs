//! The HTTP service of one listener in one worker thread: everything that its connections share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::base::reason::Reason;
use crate::base::rng::Rng;
use crate::base::time::Instant;
use crate::http::client_addr::Networks;
use crate::http::edit::{RequestRules, ResponseRules};
use crate::http::kept;
use crate::http::params::{ListenerParams, RouteParams};
use crate::http::reply::Answer;
use crate::http::router::Router;
use crate::io::facts::TlsFacts;
use crate::log::access::AccessLog;
use crate::metric::bundle::{LimitMetrics, ListenerMetrics, RouteMetrics};
use crate::net::tls::store::Store;
use crate::proto::http1::date::{LEN, imf_fixdate};
use crate::rt;
use crate::rt::drain::Watch;
use crate::upstream::group::Upstream;

/// Where a connection came from.
#[derive(Clone)]
pub struct Origin {
    /// The peer's address; none for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The port that it came to; 0 for a Unix socket.
    pub port: u16,
    /// The TLS session.
    pub tls: Option<Rc<TlsFacts>>,
    /// The entry in [`Shared::connections`].
    pub key: usize,
}

impl Origin {
    /// The peer's address without its port.
    #[must_use]
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.peer.map(|addr| addr.ip().to_canonical())
    }
}

/// The header rules of a route on one listener.
pub struct Rules {
    /// Towards the server.
    pub request: RequestRules,
    /// Towards the client.
    pub response: ResponseRules,
}

/// What a route does, ready to be done.
pub enum Action {
    /// Send the request to one of [`Route::targets`].
    Forward,
    /// Answer.
    Answer(Answer),
}

/// A route with all that is derived from its parameters.
pub struct Route {
    /// What the configuration says.
    pub params: RouteParams,
    /// What it does.
    pub action: Action,
    /// Where it sends to, with the running sum of the weights.
    pub targets: Vec<(Rc<Upstream>, u64)>,
    /// What is counted for it.
    pub metrics: RouteMetrics,
}

impl Route {
    /// The upstream for one request: by weight, when there are several.
    #[must_use]
    pub fn upstream(&self, rng: &mut Rng) -> Option<&Rc<Upstream>> {
        let all = self.targets.last().map_or(0, |(_, sum)| *sum);
        let point = if self.targets.len() > 1 {
            rng.below(all)
        } else {
            0
        };
        self.targets
            .iter()
            .find(|(_, sum)| point < *sum)
            .map(|(upstream, _)| upstream)
    }
}

/// What a client connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a request.
    Idle,
    /// Being served, or in its handshake.
    Active,
    /// A tunnel, which may live longer than the worker's other connections.
    Tunnel,
}

/// An open client connection, for the drain and for limits.
pub struct Connection {
    /// Its task.
    pub task: Option<rt::Task>,
    /// What it is doing.
    pub stage: Stage,
    /// It was told to end.
    told: bool,
    address: Option<IpAddr>,
}

impl Connection {
    /// A new one.
    #[must_use]
    pub const fn new(address: Option<IpAddr>) -> Self {
        Self {
            task: None,
            stage: Stage::Active,
            told: false,
            address,
        }
    }
}

/// What all HTTP listeners of a worker thread share.
pub struct Shared {
    /// The worker is leaving: answers say `Connection: close`.
    pub draining: Cell<bool>,
    /// It leaves and nobody takes over.
    pub stopping: Cell<bool>,
    /// Open connections.
    pub connections: RefCell<Slab<Connection>>,
    /// How many of them each address holds.
    pub addresses: RefCell<HashMap<IpAddr, u32>>,
    /// Memory of kept request bodies.
    pub kept: kept::Budget,
    /// For ids, sampling, weights.
    pub rng: RefCell<Rng>,
    /// The access log.
    pub log: RefCell<Option<AccessLog>>,
    /// Limits that bit.
    pub limits: LimitMetrics,
    /// Tells when the worker leaves.
    pub drain: Watch,
    /// The date for responses.
    pub date: Dates,
}

/// The date of responses, written anew once a second.
pub struct Dates {
    wall: fn() -> Duration,
    text: Cell<[u8; LEN]>,
    until: Cell<Instant>,
}

impl Dates {
    /// From a calendar clock.
    #[must_use]
    pub const fn new(wall: fn() -> Duration) -> Self {
        Self {
            wall,
            text: Cell::new([0; LEN]),
            until: Cell::new(Instant::ZERO),
        }
    }

    /// The date of now.
    #[must_use]
    pub fn get(&self) -> [u8; LEN] {
        let now = rt::now();
        if now >= self.until.get() {
            let wall = (self.wall)();
            self.text.set(imf_fixdate(wall.as_secs()));
            let rest = 1_000_000_000 - wall.subsec_nanos();
            self.until.set(now + Duration::from_nanos(rest.into()));
        }
        self.text.get()
    }
}

impl Shared {
    /// The date of now, as HTTP writes it.
    #[must_use]
    pub fn date(&self) -> [u8; LEN] {
        self.date.get()
    }

    /// Tells the connections for which `wanted` says so to end: they break what they do, write it
    /// down and close. Returns how many were told now; see [`Shared::cut_told`].
    pub fn tell(&self, wanted: impl Fn(&Connection) -> bool) -> usize {
        let mut connections = self.connections.borrow_mut();
        let found = connections
            .iter_mut()
            .map(|(_, connection)| connection)
            .filter(|connection| !connection.told && wanted(connection));
        let mut count = 0;
        for connection in found {
            connection.told = true;
            count += 1;
            if let Some(task) = &connection.task {
                task.wake();
            }
        }
        count
    }

    /// Tells any one connection to end; false when there is none left to tell.
    pub fn tell_one(&self) -> bool {
        let first = Cell::new(true);
        self.tell(|_| first.replace(false)) > 0
    }

    /// Whether a connection was told to end.
    #[must_use]
    pub fn is_told(&self, key: usize) -> bool {
        self.connections
            .borrow()
            .get(key)
            .is_some_and(|connection| connection.told)
    }

    /// Ends those that were told to end and did not.
    pub fn cut_told(&self) {
        let keys: Vec<usize> = (self.connections.borrow().iter())
            .filter(|(_, connection)| connection.told)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.cut_at(key);
        }
    }

    fn cut_at(&self, key: usize) {
        let task = self
            .connections
            .borrow_mut()
            .get_mut(key)
            .and_then(|c| c.task.take());
        match task {
            Some(task) => task.abort(),
            // Its task is gone already: it must not be found again.
            None => self.forget(key),
        }
    }

    /// Notes what a connection is doing.
    pub fn stage(&self, key: usize, stage: Stage) {
        if let Some(connection) = self.connections.borrow_mut().get_mut(key) {
            connection.stage = stage;
        }
    }

    /// Whether the address may hold one more connection; counts it.
    pub fn admit_address(
        &self,
        params: &ListenerParams,
        trusted: &Networks,
        peer: Option<SocketAddr>,
    ) -> bool {
        let Some(ip) = peer.map(|addr| addr.ip().to_canonical()) else {
            return true;
        };
        let mut addresses = self.addresses.borrow_mut();
        let count = addresses.entry(ip).or_insert(0);
        let most = params.max_connections_per_ip;
        if most != 0 && *count >= most && !trusted.contains(ip) {
            return false;
        }
        *count += 1;
        true
    }

    /// The connection has ended.
    pub fn forget(&self, key: usize) {
        let Some(connection) = self.connections.borrow_mut().try_remove(key) else {
            return;
        };
        let Some(ip) = connection.address.map(|ip| ip.to_canonical()) else {
            return;
        };
        let mut addresses = self.addresses.borrow_mut();
        if let Some(count) = addresses.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&ip);
            }
        }
    }
}

/// The HTTP service of one listener.
pub struct Service {
    /// What the configuration says.
    pub params: ListenerParams,
    /// Its number among the listeners.
    pub index: usize,
    /// From request to route.
    pub router: Rc<Router>,
    /// All routes, by the router's numbers.
    pub routes: Rc<[Route]>,
    /// Their header rules here; none where a route does not apply to this listener.
    pub rules: Vec<Option<Rules>>,
    /// Peers whose word is taken.
    pub trusted: Networks,
    /// Which certificate is for which host, where TLS ends here.
    pub certificates: Option<Arc<Store>>,
    /// What is counted for it.
    pub metrics: ListenerMetrics,
    /// What all listeners share.
    pub shared: Rc<Shared>,
}

impl Service {
    /// Whether a host may be asked for on a connection that was opened for another name
    /// (rule 4.6): only when it has the same certificate.
    pub fn is_misdirected(&self, sni: Option<&str>, host: &[u8]) -> bool {
        let (Some(store), Some(sni)) = (&self.certificates, sni) else {
            return false;
        };
        std::str::from_utf8(host).is_ok_and(|host| !store.is_same_site(sni, host))
    }

    /// Counts an end without a response.
    pub fn count_refused(&self, reason: Reason) {
        self.metrics.refused.inc(reason);
    }
}
