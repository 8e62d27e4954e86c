//! Serving: sockets are accepted from, connections become sessions, orders of the master are
//! carried out, and the numbers of the worker are written down.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::app::build::{Front, House, tls_client_setup};
use crate::app::plan::Plan;
use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::service::{Connection, Origin, Service, Shared, Stage};
use crate::http::session;
use crate::io::Stream;
use crate::log::Sink;
use crate::log::params::Output;
use crate::metric::bundle::WorkerMetrics;
use crate::metric::label::{Handshake, Limit, TlsVersion};
use crate::net::Conn;
use crate::net::listen::{Event, Gate, Listener, Options, Permit, Reserve, accept_loop};
use crate::net::tls::cert::Fault;
use crate::net::tls::client::{self, Client as TlsClient};
use crate::net::tls::store::Catalog;
use crate::net::tls::wire::{self, Update};
use crate::rt;
use crate::rt::drain::{Deadlines, Signal};
use crate::upstream::params::UpstreamParams;

/// How often the numbers of the worker are written down.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// Within which time idle connections are closed when the service ends (rule 12.7).
const IDLE_CLOSE_SPREAD_MS: u64 = 2000;
/// How often they are looked for then.
const IDLE_CLOSE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a connection that was told to end may take to do so.
const END_GRACE: Duration = Duration::from_millis(50);

/// Accepts from one socket until the drain begins.
pub fn accept(house: &Rc<House>, front: usize, listener: Listener, gate: Gate, reserve: Reserve) {
    let Some(front) = house.fronts.get(front).map(Rc::clone) else {
        return;
    };
    let options = Options {
        gate,
        reserve,
        drain: house.shared.drain.clone(),
    };
    let service = Rc::clone(&front.service);
    rt::spawn(async move {
        let connected = |conn: Conn, peer, permit| connected(&front, conn, peer, permit);
        let noted = |event| note(&service, event);
        accept_loop(listener, options, connected, noted).await;
    })
    .detach();
}

fn note(service: &Service, event: Event) {
    let (limit, text) = match event {
        Event::Full => (
            Limit::WorkerConnections,
            "the worker holds as many connections as it may",
        ),
        Event::Exhausted => (Limit::OpenFiles, "no descriptor is left: accepting pauses"),
        Event::Refused => {
            service.count_refused(Reason::TooManyConnections);
            return;
        }
        Event::Failed => return,
    };
    service.shared.limits.hits.inc(limit);
    log::warn!(target: "proxyd::net", "listener {}: {text}", service.params.name);
}

/// A connection was accepted: it gets a task of its own.
fn connected(front: &Rc<Front>, conn: Conn, peer: Option<SocketAddr>, permit: Permit) {
    let service = &front.service;
    let shared = &service.shared;
    service.metrics.connections.inc();
    if !shared.admit_address(&service.params, &service.trusted, peer) {
        service.count_refused(Reason::TooManyPerClient);
        shared.limits.hits.inc(Limit::ClientConnections);
        return;
    }
    let key = shared
        .connections
        .borrow_mut()
        .insert(Connection::new(peer.map(|p| p.ip())));
    let held = service.metrics.active.hold();
    let guard = Guard {
        service: Rc::clone(service),
        key,
        _permit: permit,
        _held: held,
    };
    let origin = Origin {
        peer,
        port: conn.local_addr().map_or(0, |addr| addr.port()),
        tls: None,
        key,
    };
    let service = Rc::clone(service);
    let task = if front.tls.is_some() {
        // Boxed, because it is much larger than a connection that waits.
        let shaken = Box::pin(handshake(Rc::clone(front), conn, origin));
        rt::spawn(async move {
            if let Some((conn, origin)) = shaken.await {
                session::serve(conn, service, origin, guard).await;
            }
        })
    } else {
        rt::spawn(session::serve(conn, service, origin, guard))
    };
    if let Some(connection) = shared.connections.borrow_mut().get_mut(key) {
        connection.task = Some(task);
    }
}

/// What ends with a connection, however it ends.
struct Guard {
    service: Rc<Service>,
    key: usize,
    _permit: Permit,
    _held: crate::metric::Held,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.service.shared.forget(self.key);
    }
}

/// The TLS handshake of a new connection.
async fn handshake(front: Rc<Front>, conn: Conn, mut origin: Origin) -> Option<(Conn, Origin)> {
    let metrics = &front.service.metrics;
    let start = rt::now();
    let mut stream = front.tls.as_ref()?.accept(conn).ok()?;
    if let Err(failure) = stream.handshake(front.service.params.timeouts.tls).await {
        metrics.handshakes.inc(Handshake::Failed);
        front.service.count_refused(failure.reason);
        log::debug!(target: "proxyd::tls", "listener {}: {}", front.service.params.name, failure.detail);
        return None;
    }
    metrics.handshake_duration.observe(rt::now() - start);
    let conn = Conn::Tls(Box::new(stream));
    if let Some(facts) = conn.tls_facts() {
        metrics.handshakes.inc(if facts.resumed {
            Handshake::Resumed
        } else {
            Handshake::Full
        });
        let version = match facts.version {
            "TLSv1.2" => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        metrics.tls_versions.inc(version);
        origin.tls = Some(Rc::new(facts.clone()));
    }
    Some((conn, origin))
}

/// How a worker leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// How long ordinary exchanges may go on; `None`: to their end.
    pub ordinary: Option<Duration>,
    /// How long tunnels may go on; `None`: to their end.
    pub upgraded: Option<Duration>,
    /// Nobody takes over: idle connections are closed soon.
    pub stopping: bool,
}

fn deadline(limit: Option<Duration>) -> Instant {
    limit.map_or(Instant::FAR, |limit| rt::now() + limit)
}

/// Tells connections to end, and ends those that take too long for it; returns how many.
async fn end(shared: &Shared, wanted: impl Fn(&Connection) -> bool) -> usize {
    let count = shared.tell(wanted);
    rt::sleep(END_GRACE).await;
    shared.cut_told();
    count
}

/// Begins to leave: no more accepting, answers say `Connection: close`.
pub fn leave(house: &Rc<House>, signal: &Signal, how: Leave) {
    let (ordinary, upgraded) = (deadline(how.ordinary), deadline(how.upgraded));
    house.shared.draining.set(true);
    house.shared.stopping.set(how.stopping);
    signal.start(Deadlines { ordinary, upgraded });
    if how.stopping {
        rt::spawn(close_idle(Rc::clone(&house.shared))).detach();
    }
    // Tunnels know the limits of their routes; this is for those of all.
    let last = match longest_route(house) {
        Some(longest) if !how.stopping => upgraded.max(rt::now() + longest),
        _ => upgraded,
    };
    let shared = Rc::clone(&house.shared);
    rt::spawn(async move {
        rt::sleep_until(ordinary).await;
        let cut = end(&shared, |connection| connection.stage != Stage::Tunnel).await;
        if cut > 0 {
            shared.limits.hits.inc(Limit::DrainTime);
            log::warn!(target: "proxyd::worker", "{cut} connections were cut at the drain deadline");
        }
        rt::sleep_until(last).await;
        end(&shared, |_| true).await;
    })
    .detach();
}

/// The longest `drain_timeout` of all routes.
fn longest_route(house: &House) -> Option<Duration> {
    let routes = house.fronts.first()?.service.routes.iter();
    routes.filter_map(|route| route.params.drain_timeout).max()
}

/// Closes the connections that wait for a request, after a moment in which they may send one, and
/// those that begin to wait later.
async fn close_idle(shared: Rc<Shared>) {
    let pause = shared.rng.borrow_mut().below(IDLE_CLOSE_SPREAD_MS);
    rt::sleep(Duration::from_millis(pause)).await;
    while !shared.connections.borrow().is_empty() {
        shared.tell(|connection| connection.stage == Stage::Idle);
        rt::sleep(IDLE_CLOSE_INTERVAL).await;
    }
}

/// Closes everything, spread over a time.
pub fn close_all(house: &Rc<House>, spread: Duration) {
    let shared = Rc::clone(&house.shared);
    rt::spawn(async move {
        let count = shared.connections.borrow().len().max(1);
        let pause = spread / u32::try_from(count).unwrap_or(u32::MAX);
        while shared.tell_one() {
            rt::sleep(pause).await;
        }
        end(&shared, |_| true).await;
    })
    .detach();
}

/// Waits until no connection is left.
pub async fn all_gone(house: &House) {
    let mut timer = rt::Timer::new();
    poll_fn(|cx| {
        loop {
            if house.shared.connections.borrow().is_empty() {
                return Poll::Ready(());
            }
            timer.set_after(Duration::from_millis(50));
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Takes changed key material into use.
///
/// # Errors
/// Why it cannot be used; what was there stays.
pub fn update(house: &House, plan: &Plan, bytes: &[u8]) -> Result<(), String> {
    let update = wire::decode(bytes).map_err(|error| format!("{error:?}"))?;
    match update {
        Update::Certificate(delta) => {
            let mut catalog = house.catalog.borrow_mut();
            catalog.apply(&delta).map_err(|fault| fault.to_string())?;
            for tls in house.fronts.iter().filter_map(|front| front.tls.as_ref()) {
                if tls.store().uses(&delta.name) {
                    tls.store().refresh(&catalog);
                }
            }
            let presents_it = |params: &UpstreamParams| {
                let tls = params.tls.as_ref();
                tls.and_then(|tls| tls.client_certificate.as_ref()) == Some(&delta.name)
            };
            each_client(house, plan, &catalog, presents_it, TlsClient::refresh)
        }
        Update::ClientTrust(listener, trust) => {
            let front = house
                .fronts
                .iter()
                .find(|f| f.service.params.name == listener);
            match front.and_then(|front| front.tls.as_ref()) {
                Some(tls) => tls.set_trust(&trust).map_err(|fault| fault.to_string()),
                None => Ok(()),
            }
        }
        Update::UpstreamTrust(upstream, trust) => {
            let catalog = house.catalog.borrow();
            let is_it = |params: &UpstreamParams| params.name == upstream;
            each_client(house, plan, &catalog, is_it, |tls, setup| {
                tls.set_trust(setup, trust.clone())
            })
        }
    }
}

/// Changes the TLS of the upstreams that are meant.
fn each_client(
    house: &House,
    plan: &Plan,
    catalog: &Catalog,
    is_meant: impl Fn(&UpstreamParams) -> bool,
    change: impl Fn(&TlsClient, client::Setup<'_>) -> Result<(), Fault>,
) -> Result<(), String> {
    for (params, tls) in plan.model.upstreams.iter().zip(&house.upstream_tls) {
        if let (true, Some(tls)) = (is_meant(params), tls)
            && let Some(setup) = tls_client_setup(plan, params, catalog)
        {
            change(tls, setup).map_err(|fault| format!("upstream {}: {fault}", params.name))?;
        }
    }
    Ok(())
}

/// Writes the numbers of the worker down once a second and flushes the access log when it is due.
pub fn publish(house: &Rc<House>, metrics: WorkerMetrics) {
    let house = Rc::clone(house);
    rt::spawn(async move {
        loop {
            publish_once(&house, &metrics);
            rt::sleep(PUBLISH_INTERVAL).await;
        }
    })
    .detach();
}

/// Writes the numbers of the worker down.
pub fn publish_once(house: &House, metrics: &WorkerMetrics) {
    metrics
        .connections
        .set(house.shared.connections.borrow().len() as u64);
    let buffers = crate::io::buf::stats();
    metrics
        .buffer_bytes
        .set((buffers.in_use + buffers.spare) as u64);
    metrics.retry_bytes.set(house.shared.kept.in_use());
    metrics.tasks.set(rt::tasks() as u64);
    crate::log::tick();
    let hits = &house.shared.limits.hits;
    hits.add(Limit::BufferPool, crate::io::buf::take_refused());
    hits.add(Limit::RetryBuffer, house.shared.kept.take_refused());
    if let Some(log) = house.shared.log.borrow_mut().as_mut() {
        log.flush_due(rt::now());
        let counts = log.take_counts();
        metrics.log_lines.add(counts.written);
        metrics.log_dropped.add(counts.dropped);
        hits.add(Limit::AccessLog, counts.dropped);
    }
}

/// The next order of the master; `None` when the worker is leaving and no connection is left.
pub async fn next_command<C>(
    house: &House,
    command: impl Future<Output = C>,
    leaving: bool,
) -> Option<C> {
    let mut command = pin!(command);
    let mut gone = pin!(all_gone(house));
    poll_fn(|cx| {
        if let Poll::Ready(command) = command.as_mut().poll(cx) {
            return Poll::Ready(Some(command));
        }
        if leaving && gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Goes on with another access log file.
pub fn reopen_access_log(house: &House, sink: &Sink, output: &Output, logs: &[(PathBuf, OwnedFd)]) {
    flush_log(house);
    let Output::File(path) = output else { return };
    if let Some((_, fd)) = logs.iter().find(|(known, _)| known == path)
        && let Err(error) = sink.reopen(fd)
    {
        log::error!("{} was not opened anew: {error}", path.display());
    }
}

/// Writes the access log lines that wait.
pub fn flush_log(house: &House) {
    if let Some(log) = house.shared.log.borrow_mut().as_mut() {
        log.flush(rt::now());
    }
}
