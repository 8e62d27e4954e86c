//! A checked configuration: references resolved, every default filled in. What belongs to a part
//! of the program is that part's own parameter type; only what the processes need stands here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::addr::BindAddr;
use crate::http::params::{ListenerParams, RouteParams};
use crate::log::params::{AccessParams, Params as LogParams};
use crate::net::tls::params::{CertificateParams, ServerParams as TlsServerParams};
use crate::upstream::params::UpstreamParams;

/// `[master]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// `user`; `None`: stay who we are (the only choice without root).
    pub user: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `pid_file`; `None`: none is written.
    pub pid_file: Option<PathBuf>,
    /// `daemon`.
    pub daemon: bool,
    /// `stop_timeout`: TERM, wait, KILL.
    pub stop_timeout: Duration,
    /// `drain_timeout`.
    pub drain_timeout: Duration,
    /// `drain_timeout_upgraded`.
    pub drain_timeout_upgraded: Duration,
    /// `drain_memory_max`, in bytes.
    pub drain_memory_max: u64,
    /// `max_generations`.
    pub max_generations: u32,
    /// `drain_spread`.
    pub drain_spread: Duration,
    /// `reload_debounce`.
    pub reload_debounce: Duration,
    /// `ready_timeout`: how long new workers may take to say READY.
    pub ready_timeout: Duration,
}

impl Default for Master {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            user: None,
            group: None,
            pid_file: None,
            daemon: false,
            stop_timeout: s(30),
            drain_timeout: s(30),
            drain_timeout_upgraded: s(3600),
            drain_memory_max: 512 << 20,
            max_generations: 4,
            drain_spread: s(10),
            reload_debounce: s(1),
            ready_timeout: s(30),
        }
    }
}

/// `worker.cpu_affinity`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Affinity {
    /// Left to the kernel.
    None,
    /// Worker n on the n-th usable CPU when there are as many workers as CPUs.
    #[default]
    Auto,
    /// For each worker its CPUs.
    Lists(Vec<Vec<u32>>),
}

/// `worker.accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AcceptMode {
    /// One socket per worker, kept by the master.
    #[default]
    Reuseport,
    /// One socket for all.
    Shared,
}

/// `worker.sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// The same as [`Sandbox::Basic`]: the change of user, `no_new_privs` and the loss of all
    /// capabilities are never left out.
    Off,
    /// `no_new_privs`, no capability.
    Basic,
    /// Besides, no files (Landlock) and only the system calls that a proxy needs (seccomp).
    #[default]
    Strict,
}

/// `[worker]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// `count`; 0: usable CPUs.
    pub count: u32,
    /// `threads`: event loops per process.
    pub threads: u32,
    /// `cpu_affinity`.
    pub affinity: Affinity,
    /// `max_connections` per worker; 0: from the descriptor limit.
    pub max_connections: u32,
    /// `open_files`; 0: as far as the hard limit allows.
    pub open_files: u64,
    /// `accept`.
    pub accept: AcceptMode,
    /// `buffer_size`, in bytes.
    pub buffer_size: usize,
    /// `buffer_pool_max`, in bytes per worker.
    pub buffer_pool_max: u64,
    /// `sandbox`.
    pub sandbox: Sandbox,
    /// `core_dumps`.
    pub core_dumps: bool,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            count: 0,
            threads: 1,
            affinity: Affinity::Auto,
            max_connections: 16_384,
            open_files: 0,
            accept: AcceptMode::Reuseport,
            buffer_size: 16 << 10,
            buffer_pool_max: 256 << 20,
            sandbox: Sandbox::Strict,
            core_dumps: false,
        }
    }
}

/// `[watchdog]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// `check_interval`.
    pub check_interval: Duration,
    /// `heartbeat_timeout`: a worker silent for so long is killed and replaced.
    pub heartbeat_timeout: Duration,
    /// `start_grace`.
    pub start_grace: Duration,
    /// `restart_delay`: doubles with every restart; the first restart of a worker is immediate.
    pub restart_delay: Duration,
    /// `max_restarts` within `restart_window`.
    pub max_restarts: u32,
    /// `restart_window`.
    pub restart_window: Duration,
    /// `alert_after` restarts.
    pub alert_after: u32,
    /// `alert_exec`: program and arguments.
    pub alert_exec: Vec<String>,
}

impl Default for Watchdog {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            check_interval: s(30),
            heartbeat_timeout: s(10),
            start_grace: s(2),
            restart_delay: s(5),
            max_restarts: 5,
            restart_window: s(300),
            alert_after: 3,
            alert_exec: Vec::new(),
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// `bind`; `None`: no metrics port.
    pub bind: Option<BindAddr>,
    /// `path`.
    pub path: String,
    /// `histogram_buckets`.
    pub buckets: Vec<Duration>,
}

impl Default for Metrics {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            bind: None,
            path: "/metrics".to_owned(),
            buckets: [1, 5, 25, 100, 250, 500, 1000, 2500, 10_000]
                .map(ms)
                .to_vec(),
        }
    }
}

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `servers`; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// `min_ttl`.
    pub min_ttl: Duration,
    /// `max_ttl`.
    pub max_ttl: Duration,
    /// `stale`: how long the last good answer is kept while DNS fails.
    pub stale: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            servers: Vec::new(),
            min_ttl: s(1),
            max_ttl: s(300),
            stale: s(3600),
        }
    }
}

/// A listener with its sockets.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Addresses: one or several.
    pub bind: Vec<BindAddr>,
    /// `backlog` of the listen socket.
    pub backlog: u32,
    /// `socket_mode` of a Unix socket.
    pub socket_mode: u32,
    /// `tls`.
    pub tls: Option<TlsServerParams>,
    /// The service behind it.
    pub http: ListenerParams,
}

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
    /// `[master]`.
    pub master: Master,
    /// `[worker]`.
    pub worker: Worker,
    /// `[watchdog]`.
    pub watchdog: Watchdog,
    /// `[log]`.
    pub log: LogParams,
    /// `[log.access]`.
    pub access_log: AccessParams,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[dns]`.
    pub dns: Dns,
    /// `[[certificate]]`.
    pub certificates: Vec<CertificateParams>,
    /// `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// `[[route]]`.
    pub routes: Vec<RouteParams>,
    /// `[[upstream]]`, and those derived from `route.to`.
    pub upstreams: Vec<UpstreamParams>,
}
