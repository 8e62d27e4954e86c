//! An upstream in one worker: its servers, the balancer, the queue of requests that wait for a
//! connection, and the lease of a connection to one of the servers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::io::Stream;
use crate::metric::bundle::{ServerMetrics, UpstreamMetrics};
use crate::metric::label::Outcome as Connected;
use crate::net::Conn;
use crate::rt;
use crate::rt::chan::{OneReceiver, OneSender, oneshot};
use crate::upstream::balance::{Balancer, Place, Tried, View};
use crate::upstream::connect::Connector;
use crate::upstream::params::{PoolParams, QueueParams, ServerParams, UpstreamParams};
use crate::upstream::pool::{History, Pool};
use crate::upstream::retry::{Budget, Outcome};
use crate::upstream::server::{Admission, FailRule, Failures, Flight, InFlight};

/// How long a swept pool waits for the next sweep.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A server of an upstream in one worker.
pub struct Server {
    /// What the configuration says.
    pub params: ServerParams,
    /// `host:port` as it would stand in a Host field.
    pub authority: String,
    /// What is counted for it.
    pub metrics: ServerMetrics,
    rule: FailRule,
    connector: Connector,
    pool: RefCell<Pool<Kept>>,
}

/// A kept connection and where it leads.
struct Kept {
    conn: Conn,
    addr: Option<SocketAddr>,
}

impl Kept {
    /// Dead, or leading to an address that the name of the server has no more.
    fn is_stale(&mut self, connector: &Connector) -> bool {
        !connector.is_current(self.addr) || self.conn.is_stale()
    }
}

impl Server {
    /// A server reached through `connector`.
    #[must_use]
    pub fn new(
        params: ServerParams,
        pool: PoolParams,
        connector: Connector,
        metrics: ServerMetrics,
    ) -> Self {
        connector.follow();
        let rule = FailRule {
            max_fails: params.max_fails,
            fail_timeout: params.fail_timeout,
        };
        Self {
            authority: connector.authority(),
            params,
            metrics,
            rule,
            connector,
            pool: RefCell::new(Pool::new(pool)),
        }
    }

    const fn failures(&self) -> Failures<'static> {
        Failures {
            count: self.metrics.fail_window.word(),
            until: self.metrics.shut_until.word(),
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        let pool = self.pool.borrow();
        (pool.idle() > 0 || pool.may_open()) && self.failures().admission(now) != Admission::Shut
    }

    fn publish_pool(&self) {
        let pool = self.pool.borrow();
        self.metrics.idle.set(pool.idle() as u64);
        self.metrics.active.set(u64::from(pool.busy()));
    }
}

/// An upstream in one worker.
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// What is counted for it.
    pub metrics: UpstreamMetrics,
    /// Retries of the last ten seconds.
    pub budget: RefCell<Budget>,
    servers: Vec<Server>,
    balancer: RefCell<Balancer>,
    queue: QueueParams,
    waiting: RefCell<VecDeque<OneSender<()>>>,
    sweeping: Cell<bool>,
}

struct Servers<'a> {
    servers: &'a [Server],
    now: Instant,
}

impl View for Servers<'_> {
    fn len(&self) -> usize {
        self.servers.len()
    }
    fn is_usable(&self, server: usize) -> bool {
        self.servers
            .get(server)
            .is_some_and(|s| s.is_usable(self.now))
    }
    fn in_flight(&self, server: usize) -> u64 {
        self.servers
            .get(server)
            .map_or(0, |s| InFlight::read(s.metrics.in_flight.host()))
    }
    fn weight(&self, server: usize) -> u32 {
        self.servers.get(server).map_or(0, |s| s.params.weight)
    }
    fn is_backup(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|s| s.params.backup)
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// For the answer and the log.
    pub reason: Reason,
    /// For the retry rules; `None` when trying again is of no use.
    pub outcome: Option<Outcome>,
    /// The server that was tried.
    pub server: Option<usize>,
}

/// Which connection a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A kept one, if there is one.
    Any,
    /// A new one: a kept one broke just now.
    Fresh,
}

/// A connection on loan, and how it was come by.
pub struct Leased {
    /// What has to be given back.
    pub lease: Lease,
    /// The connection.
    pub conn: Conn,
    /// Whether it carried a request before.
    pub reused: bool,
    /// Time in the queue.
    pub queued: Duration,
    /// Time to connect, with TLS.
    pub connect: Duration,
}

impl Upstream {
    /// An upstream of these servers, used from `place`.
    #[must_use]
    pub fn new(
        params: &UpstreamParams,
        servers: Vec<Server>,
        metrics: UpstreamMetrics,
        place: Place,
    ) -> Self {
        let balancer = Balancer::new(
            params.balance,
            &Servers {
                servers: &servers,
                now: Instant::ZERO,
            },
            place,
        );
        Self {
            name: params.name.clone(),
            metrics,
            budget: RefCell::new(Budget::new()),
            servers,
            balancer: RefCell::new(balancer),
            queue: params.queue,
            waiting: RefCell::new(VecDeque::new()),
            sweeping: Cell::new(false),
        }
    }

    /// The server with the number.
    #[must_use]
    pub fn server(&self, index: usize) -> Option<&Server> {
        self.servers.get(index)
    }

    /// Its servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Closes the idle connections: a draining worker needs them only while requests run.
    pub fn clear_pools(&self) {
        for server in &self.servers {
            server.pool.borrow_mut().clear();
            server.publish_pool();
        }
    }

    /// A connection to the server that the balancer names, from its pool or newly opened within
    /// `connect_timeout`; `wanted` may ask for a new one. Servers in `tried` are not asked; the one
    /// asked is added.
    ///
    /// # Errors
    /// No server can be used, the queue is full or took too long, or connecting failed.
    pub async fn lease(
        self: &Rc<Self>,
        tried: &mut Tried,
        wanted: Wanted,
        connect_timeout: Duration,
        tls_timeout: Duration,
    ) -> Result<Leased, Refused> {
        let start = rt::now();
        let mut lease = self.reserve(tried, wanted).await?;
        let queued = rt::now() - start;
        let Some(server) = self.servers.get(lease.index) else {
            return Err(Refused {
                reason: Reason::Internal,
                outcome: None,
                server: None,
            });
        };
        if let Some((kept, history)) = lease.reused.take() {
            lease.history = history;
            lease.addr = kept.addr;
            let conn = kept.conn;
            server.metrics.reused.inc();
            let reused = true;
            return Ok(Leased {
                lease,
                conn,
                reused,
                queued,
                connect: Duration::ZERO,
            });
        }
        let before = rt::now();
        let connecting = (server.connector).connect(lease.addr, connect_timeout, tls_timeout);
        // Boxed, because it is large and only every so many requests connect.
        match Box::pin(connecting).await {
            Ok((conn, addr)) => {
                lease.addr = addr;
                let connect = rt::now() - before;
                server.metrics.connects.inc(Connected::Ok);
                server.metrics.connect_duration.observe(connect);
                Ok(Leased {
                    lease,
                    conn,
                    reused: false,
                    queued,
                    connect,
                })
            }
            Err(reason) => {
                server.metrics.connects.inc(Connected::Failed);
                lease.failed();
                let outcome = Some(Outcome::ConnectFailed);
                Err(Refused {
                    reason,
                    outcome,
                    server: Some(lease.index),
                })
            }
        }
    }

    /// Picks a server and a place in its pool, waiting in the queue while all are full.
    async fn reserve(self: &Rc<Self>, tried: &mut Tried, wanted: Wanted) -> Result<Lease, Refused> {
        let no_server = Refused {
            reason: Reason::NoServer,
            outcome: None,
            server: None,
        };
        let mut deadline = None;
        loop {
            if let Some(lease) = self.try_reserve(tried, wanted) {
                return Ok(lease);
            }
            if !self.is_worth_waiting(tried) {
                self.metrics.no_server.inc();
                return Err(no_server);
            }
            // Who was woken and found the place taken again is the next one all the same.
            let is_next = deadline.is_some();
            let until = *deadline.get_or_insert(rt::now() + self.queue.timeout);
            self.wait(until, is_next).await.map_err(|reason| Refused {
                reason,
                ..no_server
            })?;
        }
    }

    fn try_reserve(self: &Rc<Self>, tried: &mut Tried, wanted: Wanted) -> Option<Lease> {
        let now = rt::now();
        let view = Servers {
            servers: &self.servers,
            now,
        };
        let mut balancer = self.balancer.borrow_mut();
        loop {
            let index = balancer.pick(&view, tried)?;
            let server = self.servers.get(index)?;
            if !tried.insert(index) {
                return None;
            }
            let mut probe = false;
            if server.failures().admission(now) == Admission::Probe {
                probe = server.failures().claim(server.rule, now);
                if !probe {
                    continue;
                }
            }
            return Some(self.reserve_at((index, server), probe, wanted, now));
        }
    }

    fn reserve_at(
        self: &Rc<Self>,
        (index, server): (usize, &Server),
        probe: bool,
        wanted: Wanted,
        now: Instant,
    ) -> Lease {
        let mut pool = server.pool.borrow_mut();
        if wanted == Wanted::Fresh {
            pool.make_room();
        }
        let connector = &server.connector;
        let addr = connector.next();
        let suits = |kept: &Kept| wanted == Wanted::Any && (addr.is_none() || kept.addr == addr);
        let (mut reused, mut stale) = pool.take(now, suits, |kept| kept.is_stale(connector));
        if reused.is_none() && !pool.may_open() {
            let more;
            (reused, more) = pool.take(now, |_| true, |kept| kept.is_stale(connector));
            stale += more;
        }
        server.metrics.stale.add(stale as u64);
        let history = match &reused {
            Some((_, history)) => *history,
            None => pool.open(now),
        };
        drop(pool);
        server.publish_pool();
        let words = InFlight {
            host: server.metrics.in_flight.host(),
            own: server.metrics.in_flight.own(),
        };
        Lease {
            upstream: Rc::clone(self),
            index,
            history,
            reused,
            addr,
            probe,
            settled: false,
            in_pool: false,
            _flight: words.enter(),
        }
    }

    /// Whether there is a server besides those tried that could be asked, be it after a wait.
    #[must_use]
    pub fn has_other(&self, tried: &Tried) -> bool {
        let now = rt::now();
        self.servers.iter().enumerate().any(|(index, server)| {
            server.params.weight > 0
                && !tried.contains(index)
                && server.failures().admission(now) != Admission::Shut
        })
    }

    /// Whether a server that was not tried is merely busy.
    fn is_worth_waiting(&self, tried: &Tried) -> bool {
        let now = rt::now();
        self.servers.iter().enumerate().any(|(index, server)| {
            server.params.weight > 0
                && !tried.contains(index)
                && server.failures().admission(now) != Admission::Shut
                && !server.is_usable(now)
        })
    }

    async fn wait(&self, until: Instant, is_next: bool) -> Result<(), Reason> {
        let left = until - rt::now();
        if left.is_zero() {
            self.metrics.queue_timeouts.inc();
            return Err(Reason::QueueTimeout);
        }
        let (sender, receiver) = oneshot();
        {
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|sender| !sender.is_closed());
            if waiting.len() >= self.queue.max as usize {
                self.metrics.queue_full.inc();
                return Err(Reason::QueueFull);
            }
            if is_next {
                waiting.push_front(sender);
            } else {
                waiting.push_back(sender);
            }
        }
        let _held = self.metrics.waiting.hold();
        let mut turn = Turn {
            upstream: self,
            receiver,
        };
        let called = poll_fn(|cx| Pin::new(&mut turn.receiver).poll(cx));
        if rt::timeout(left, called).await.is_err() {
            self.metrics.queue_timeouts.inc();
            return Err(Reason::QueueTimeout);
        }
        Ok(())
    }

    fn wake_one(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(sender) = waiting.pop_front() {
            if sender.send(()).is_ok() {
                return;
            }
        }
    }

    /// Looks after idle connections as long as there are any.
    fn start_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let upstream = Rc::downgrade(self);
        rt::spawn(async move {
            loop {
                rt::sleep(SWEEP_INTERVAL).await;
                let Some(upstream) = upstream.upgrade() else {
                    return;
                };
                let mut idle = 0;
                for server in &upstream.servers {
                    let mut pool = server.pool.borrow_mut();
                    if pool.idle() > 0 {
                        pool.sweep(rt::now(), |kept| kept.is_stale(&server.connector));
                        idle += pool.idle();
                        drop(pool);
                        server.publish_pool();
                    }
                }
                if idle == 0 {
                    upstream.sweeping.set(false);
                    return;
                }
            }
        })
        .detach();
    }
}

/// A request in the queue. If it leaves without having heard that its turn has come, the next one
/// gets the turn.
struct Turn<'a> {
    upstream: &'a Upstream,
    receiver: OneReceiver<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.receiver.try_take().is_some() {
            self.upstream.wake_one();
        }
    }
}

/// A place at a server: in its pool, among its requests in flight, and perhaps as its probe.
/// Dropped without more ado it counts as closed and says nothing about the server.
pub struct Lease {
    upstream: Rc<Upstream>,
    index: usize,
    history: History,
    reused: Option<(Kept, History)>,
    addr: Option<SocketAddr>,
    probe: bool,
    settled: bool,
    in_pool: bool,
    _flight: Flight<'static>,
}

impl Lease {
    /// The upstream.
    #[must_use]
    pub const fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// The number of the server.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.upstream.servers.get(self.index)
    }

    /// The server answered as it should.
    pub fn succeeded(&mut self) {
        self.settled = true;
        if let (true, Some(server)) = (self.probe, self.server()) {
            server.failures().recovered();
        }
    }

    /// The server refused, broke or was too slow.
    pub fn failed(&mut self) {
        self.settled = true;
        let Some(server) = self.upstream.servers.get(self.index) else {
            return;
        };
        server.metrics.failures.inc();
        let rule = if self.upstream.servers.len() == 1 {
            FailRule::NEVER
        } else {
            server.rule
        };
        if server.failures().failed(rule, rt::now()) {
            log::warn!(
                target: "proxyd::upstream",
                "upstream {}: server {} is passed over for {} after {} failures",
                self.upstream.name,
                server.params.name,
                crate::base::unit::print_duration(server.rule.fail_timeout),
                server.rule.max_fails
            );
        }
    }

    /// Gives the connection back to be used again. `idle_limit` is what the server announced.
    pub fn give_back(mut self, conn: Conn, idle_limit: Option<Duration>) {
        if let Some(limit) = idle_limit {
            self.history.announce_idle_limit(limit);
        }
        let Some(server) = self.upstream.servers.get(self.index) else {
            return;
        };
        self.in_pool = true;
        let addr = self.addr;
        let kept = Kept { conn, addr };
        let closed = server
            .pool
            .borrow_mut()
            .give_back(kept, self.history, rt::now());
        if closed.is_none() {
            self.upstream.start_sweeping();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(server) = self.upstream.servers.get(self.index) else {
            return;
        };
        if !self.in_pool {
            server.pool.borrow_mut().gone();
        }
        server.publish_pool();
        if self.probe && !self.settled {
            server.failures().unclaim(rt::now());
        }
        self.upstream.wake_one();
    }
}
