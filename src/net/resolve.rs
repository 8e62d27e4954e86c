//! Names to addresses: our own stub resolver, so that a lookup never blocks the loop and never
//! starts a thread. It reads `/etc/hosts`, asks the servers of the configuration or of
//! `/etc/resolv.conf` for A and AAAA, keeps answers for their time to live, and goes on with the
//! last good answer for a while when DNS fails. What it is not: a recursive or validating resolver.

mod ask;
mod cache;
mod message;
mod system;

pub use system::System;

use crate::base::addr::Host;
use crate::base::time::Instant;
use crate::rt::{self, chan};
use cache::{Cache, Limits};
use message::{Kind, Reply};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The longest time that one lookup takes, whatever the servers do.
const LOOKUP_MAX: Duration = Duration::from_secs(15);

/// Lookups that run at the same time.
const RUNNING_MAX: usize = 256;

/// The least time between two lookups of a name that is followed.
const FOLLOW_MIN: Duration = Duration::from_secs(1);

/// Settings (`[dns]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Whom to ask; empty for the servers of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// An answer holds at least so long.
    pub min_ttl: Duration,
    /// An answer holds at most so long.
    pub max_ttl: Duration,
    /// The last good answer is used so long beyond its time while DNS fails.
    pub stale: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            stale: Duration::from_secs(3600),
        }
    }
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// At least one.
    pub addrs: Rc<[IpAddr]>,
    /// When to ask again; `FAR` for what never changes.
    pub until: Instant,
    /// DNS fails at the moment, and this is the last good answer.
    pub stale: bool,
}

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A server says that the name, or an address of it, does not exist.
    Missing,
    /// No server gave an answer.
    Failed,
    /// Too many lookups are running.
    Busy,
}

/// There are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub why: Why,
    /// When to ask again.
    pub until: Instant,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::Missing => "the name has no address",
            Why::Failed => "no name server answers",
            Why::Busy => "too many lookups are running",
        })
    }
}

impl std::error::Error for Failure {}

type Outcome = Result<Answer, Failure>;

struct Inner {
    system: System,
    cache: RefCell<Cache>,
    running: RefCell<BTreeMap<Rc<str>, Vec<chan::OneSender<Outcome>>>>,
}

/// The resolver of a worker. Clones share what is known.
#[derive(Clone)]
pub struct Resolver(Rc<Inner>);

/// What asking for a name gave.
enum Found {
    Addresses(Vec<IpAddr>, Duration),
    Missing(Option<Duration>),
    Failed,
}

impl Resolver {
    /// A resolver that knows nothing yet. `system` is read beforehand ([`System::load`]), since
    /// that blocks.
    #[must_use]
    pub fn new(params: Params, mut system: System) -> Self {
        if !params.servers.is_empty() {
            system.servers = params.servers;
        }
        let limits = Limits {
            min_ttl: params.min_ttl,
            max_ttl: params.max_ttl,
            stale: params.stale,
        };
        Self(Rc::new(Inner {
            system,
            cache: RefCell::new(Cache::new(limits)),
            running: RefCell::default(),
        }))
    }

    /// The addresses of a host. Lookups of the same name at the same time are one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn lookup_host(&self, host: &Host) -> Outcome {
        match host {
            Host::Ip(ip) => Ok(fixed(&[*ip])),
            Host::Name(name) => self.lookup(name).await,
        }
    }

    /// The addresses of a name or literal.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn lookup(&self, name: &str) -> Outcome {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(fixed(&[ip]));
        }
        let name = name.to_ascii_lowercase();
        if let Some(list) = self.0.system.fixed(name.trim_end_matches('.')) {
            return Ok(fixed(&list));
        }
        if let Some(known) = self.0.cache.borrow().get(&name, rt::now()) {
            return known;
        }
        let answer = self.join(name.into());
        match answer {
            Some(answer) => answer
                .await
                .unwrap_or_else(|_closed| Err(failure(Why::Failed))),
            None => Err(failure(Why::Busy)),
        }
    }

    /// Joins the lookup of this name that is running, or starts one.
    fn join(&self, name: Rc<str>) -> Option<chan::OneReceiver<Outcome>> {
        let (tell, answer) = chan::oneshot();
        let mut running = self.0.running.borrow_mut();
        if let Some(waiting) = running.get_mut(&name) {
            waiting.push(tell);
            return Some(answer);
        }
        if running.len() >= RUNNING_MAX {
            return None;
        }
        running.insert(Rc::clone(&name), vec![tell]);
        let lookup = Lookup {
            resolver: self.clone(),
            name,
        };
        rt::spawn(lookup.run()).detach();
        Some(answer)
    }

    /// Calls `each` with the addresses of a name now and whenever it was looked up again, by its
    /// time to live, for ever. To be run as a task of its own.
    pub async fn follow(&self, name: &str, mut each: impl FnMut(&Outcome)) {
        loop {
            let outcome = self.lookup(name).await;
            each(&outcome);
            let (Ok(Answer { until, .. }) | Err(Failure { until, .. })) = outcome;
            if until == Instant::FAR {
                return;
            }
            rt::sleep_until(until.max(rt::now() + FOLLOW_MIN)).await;
        }
    }
}

fn fixed(list: &[IpAddr]) -> Answer {
    Answer {
        addrs: list.into(),
        until: Instant::FAR,
        stale: false,
    }
}

fn failure(why: Why) -> Failure {
    Failure {
        why,
        until: rt::now() + FOLLOW_MIN,
    }
}

/// One lookup that runs; dropping it lets everybody who waits know.
struct Lookup {
    resolver: Resolver,
    name: Rc<str>,
}

impl Lookup {
    async fn run(self) {
        let inner = &self.resolver.0;
        let find = Box::pin(inner.find(&self.name));
        let found = rt::timeout(LOOKUP_MAX, find).await.unwrap_or(Found::Failed);
        let outcome = {
            let (mut cache, now) = (inner.cache.borrow_mut(), rt::now());
            match found {
                Found::Addresses(addrs, ttl) => Ok(cache.good(&self.name, &addrs, ttl, now)),
                Found::Missing(ttl) => Err(cache.missing(&self.name, ttl, now)),
                Found::Failed => cache.failed(&self.name, now),
            }
        };
        let waiting = inner
            .running
            .borrow_mut()
            .remove(&self.name)
            .unwrap_or_default();
        for tell in waiting {
            // Who has given up meanwhile does not need it.
            let _given_up = tell.send(outcome.clone());
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let waiting = self.resolver.0.running.borrow_mut().remove(&self.name);
        drop(waiting);
    }
}

impl Inner {
    /// Asks for the name in every form that it may have.
    async fn find(&self, name: &str) -> Found {
        let mut least: Option<Duration> = None;
        let mut failed = false;
        for candidate in self.system.candidates(name) {
            match self.find_candidate(&candidate).await {
                Found::Missing(ttl) => least = [least, ttl].into_iter().flatten().min(),
                Found::Failed => failed = true,
                found => return found,
            }
        }
        if failed {
            Found::Failed
        } else {
            Found::Missing(least)
        }
    }

    /// Asks for both kinds of addresses at once.
    async fn find_candidate(&self, name: &str) -> Found {
        let mut v4 = pin!(self.ask_all(name, Kind::A));
        let mut v6 = pin!(self.ask_all(name, Kind::Aaaa));
        let (mut first, mut second) = (None, None);
        let both = std::future::poll_fn(|cx| {
            if first.is_none()
                && let Poll::Ready(reply) = v4.as_mut().poll(cx)
            {
                first = Some(reply);
            }
            if second.is_none()
                && let Poll::Ready(reply) = v6.as_mut().poll(cx)
            {
                second = Some(reply);
            }
            match (first.take(), second.take()) {
                (Some(a), Some(b)) => Poll::Ready((a, b)),
                (a, b) => {
                    (first, second) = (a, b);
                    Poll::Pending
                }
            }
        });
        let (v4, v6) = both.await;
        merge(v4, v6)
    }

    /// Asks one server after the other until one says something.
    async fn ask_all(&self, name: &str, kind: Kind) -> Reply {
        for _ in 0..self.system.attempts {
            for server in &self.system.servers {
                let asked = rt::timeout(self.system.timeout, ask::ask(*server, name, kind)).await;
                match asked {
                    Ok(Ok(Reply::Failed | Reply::Truncated)) => {}
                    Ok(Ok(reply)) => return reply,
                    Ok(Err(error)) => log::debug!("asking {server} for {name} failed: {error}"),
                    Err(rt::Elapsed) => log::debug!("{server} did not answer for {name}"),
                }
            }
        }
        Reply::Failed
    }
}

/// Puts the answers for both kinds together. Addresses of one kind are enough.
fn merge(v4: Reply, v6: Reply) -> Found {
    match (v4, v6) {
        (Reply::Addresses(mut list, a), Reply::Addresses(more, b)) => {
            list.extend(more);
            Found::Addresses(list, a.min(b))
        }
        (Reply::Addresses(list, ttl), _) | (_, Reply::Addresses(list, ttl)) => {
            Found::Addresses(list, ttl)
        }
        (Reply::Empty(a) | Reply::Unknown(a), Reply::Empty(b) | Reply::Unknown(b)) => {
            Found::Missing([a, b].into_iter().flatten().min())
        }
        _ => Found::Failed,
    }
}

#[cfg(test)]
mod tests;
