//! What an upstream needs to know: filled by `conf`, never changed afterwards.

use std::time::Duration;

use crate::base::addr::Endpoint;
use crate::net::tls::params::ClientParams;

/// `balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BalanceKind {
    /// Weights in turn.
    #[default]
    RoundRobin,
    /// The fewest requests in flight over all workers, by weight.
    LeastConnections,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// An address or name.
    Endpoint(Endpoint),
    /// `builtin = "demo"`: a small HTTP server that proxyd runs itself. The number tells the demo
    /// servers of a configuration apart.
    Demo(u16),
}

/// A server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerParams {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where it is.
    pub address: ServerAddress,
    /// Its share; 0 takes no requests.
    pub weight: u32,
    /// Used only while no other server can be.
    pub backup: bool,
    /// `max_fails`: failures within `fail_timeout` after which it is passed over; 0 never.
    pub max_fails: u32,
    /// `fail_timeout`: for how long.
    pub fail_timeout: Duration,
}

/// `pool = {...}`: connections kept to each server, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// `max_idle`: idle connections per server.
    pub max_idle: u32,
    /// `max`: connections per server, idle or busy.
    pub max: u32,
    /// `idle_timeout`.
    pub idle_timeout: Duration,
    /// `max_age`.
    pub max_age: Duration,
    /// `max_requests`.
    pub max_requests: u32,
}

impl Default for PoolParams {
    fn default() -> Self {
        Self {
            max_idle: 32,
            max: 256,
            idle_timeout: Duration::from_secs(50),
            max_age: Duration::from_secs(3600),
            max_requests: 10_000,
        }
    }
}

/// `queue = {...}`: requests that wait for a connection, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// `max`: how many may wait.
    pub max: u32,
    /// `timeout`: for how long.
    pub timeout: Duration,
}

impl Default for QueueParams {
    fn default() -> Self {
        Self {
            max: 1024,
            timeout: Duration::from_secs(1),
        }
    }
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct UpstreamParams {
    /// Its name in logs, metrics and `route.to`.
    pub name: String,
    /// `balance`.
    pub balance: BalanceKind,
    /// Its servers.
    pub servers: Vec<ServerParams>,
    /// `pool`.
    pub pool: PoolParams,
    /// `queue`.
    pub queue: QueueParams,
    /// `[upstream.tls]`, when enabled.
    pub tls: Option<ClientParams>,
    /// `bind_address`: the source address of connections.
    pub source: Option<std::net::IpAddr>,
}
