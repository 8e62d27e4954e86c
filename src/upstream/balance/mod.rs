//! Which server is asked next. One file per algorithm; all of them obey the same laws, which are
//! tested here over every kind. Pure: the state of the servers comes in through [`View`], and
//! connecting, counting and passing over failed servers happen elsewhere.
//!
//! A server is a *candidate* when it is usable, has a weight above 0 and was not tried yet for
//! this request. Backups are candidates only while no other server is one.

mod least_connections;
mod round_robin;

use least_connections::LeastConnections;
use round_robin::RoundRobin;

pub use super::params::BalanceKind as Kind;

/// What a balancer may ask about the servers of its upstream. Weights and backups are fixed for
/// the life of a balancer; when they change, a new one is made.
pub trait View {
    /// How many servers there are.
    fn len(&self) -> usize;
    /// Whether the server may be asked now.
    fn is_usable(&self, server: usize) -> bool;
    /// Requests in flight at the server, over all workers.
    fn in_flight(&self, server: usize) -> u64;
    /// Its share; 0 is never asked.
    fn weight(&self, server: usize) -> u32;
    /// Whether it stands in only when no other server can be asked.
    fn is_backup(&self, server: usize) -> bool;
    /// Whether there is no server at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The servers that one request was already sent to. Holds a few numbers and allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    servers: [u32; Self::MAX],
    len: usize,
}

impl Tried {
    /// How many servers can be remembered.
    pub const MAX: usize = 16;

    /// Nothing tried yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            servers: [0; Self::MAX],
            len: 0,
        }
    }

    /// Remembers a server; false when no more can be remembered, which ends the attempts.
    pub fn insert(&mut self, server: usize) -> bool {
        if self.contains(server) {
            return true;
        }
        let (Some(slot), Ok(server)) = (self.servers.get_mut(self.len), u32::try_from(server))
        else {
            return false;
        };
        *slot = server;
        self.len += 1;
        true
    }

    /// Forgets a server: it may be asked again.
    pub fn remove(&mut self, server: usize) {
        let used = self.servers.get_mut(..self.len).unwrap_or(&mut []);
        if let Some(at) = used.iter().position(|s| *s as usize == server) {
            used.copy_within(at + 1.., at);
            self.len -= 1;
        }
    }

    /// Whether the server was tried.
    #[must_use]
    pub fn contains(&self, server: usize) -> bool {
        self.servers
            .iter()
            .take(self.len)
            .any(|s| *s as usize == server)
    }

    /// How many servers were tried.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was tried.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The place of one user of an upstream among all of them, so that the workers do not all begin
/// with the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl Place {
    /// The only user.
    pub const ONLY: Self = Self { index: 0, count: 1 };
}

/// One upstream's balancer in one worker.
#[derive(Clone, Debug)]
pub struct Balancer {
    algorithm: Algorithm,
}

#[derive(Clone, Debug)]
enum Algorithm {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
}

impl Balancer {
    /// Makes a balancer for the servers of the view.
    #[must_use]
    pub fn new(kind: Kind, view: &impl View, place: Place) -> Self {
        Self {
            algorithm: match kind {
                Kind::RoundRobin => Algorithm::RoundRobin(RoundRobin::new(view, place)),
                Kind::LeastConnections => {
                    Algorithm::LeastConnections(LeastConnections::new(view, place))
                }
            },
        }
    }

    /// The server to ask next; `None` when there is no candidate.
    pub fn pick(&mut self, view: &impl View, tried: &Tried) -> Option<usize> {
        match &mut self.algorithm {
            Algorithm::RoundRobin(a) => a.pick(view, tried),
            Algorithm::LeastConnections(a) => a.pick(view, tried),
        }
    }
}

fn is_candidate(view: &impl View, tried: &Tried, server: usize) -> bool {
    server < view.len()
        && view.weight(server) > 0
        && !tried.contains(server)
        && view.is_usable(server)
}

#[cfg(test)]
mod laws;
