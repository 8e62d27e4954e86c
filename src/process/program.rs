//! The seam between the processes and what they run: the master knows how to keep processes
//! alive and sockets open, a [`Program`] knows what a configuration is and how it is served.
//! Nothing here does anything.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::addr::BindAddr;
use crate::conf::model::{Master, Watchdog, Worker};
use crate::metric::{Registry, Table};

use super::worker::{HelperContext, ThreadContext};

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The name of the listener.
    pub name: String,
    /// Where.
    pub bind: BindAddr,
    /// How many connections may wait.
    pub backlog: u32,
    /// The mode of the file of a Unix socket.
    pub mode: u32,
}

/// What the master must know of a configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `[master]`.
    pub master: Master,
    /// `[worker]`.
    pub worker: Worker,
    /// `[watchdog]`.
    pub watchdog: Watchdog,
    /// Where workers listen; the sockets of a thread name their place in this list.
    pub listen: Vec<Listen>,
    /// Where the admin process listens; none: there is no admin process.
    pub admin: Vec<Listen>,
    /// The demo servers, each on a loopback port of its own; none: there is no demo process.
    pub demo: Vec<u16>,
    /// Log files: the master opens them and opens them anew when asked to.
    pub logs: Vec<PathBuf>,
    /// The error log is standard error, which stays open then when the master detaches.
    pub log_to_stderr: bool,
    /// The longest that a route lets its connections live on after a reload.
    pub drain_longest: Duration,
}

/// What the master found out by carrying a [`Spec`] out.
#[derive(Debug, Default)]
pub struct Bound {
    /// Where each place of `listen` really is, in its order; `None` for a path.
    pub listen: Vec<Option<SocketAddr>>,
    /// Where each place of `admin` really is.
    pub admin: Vec<Option<SocketAddr>>,
    /// Where each demo server listens.
    pub demo: Vec<(u16, SocketAddr)>,
    /// The log files, open for appending.
    pub logs: Vec<(PathBuf, OwnedFd)>,
}

/// What [`Program::refresh`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// News for every worker, each as bytes that [`super::worker::Command::Update`] carries.
    pub updates: Vec<Vec<u8>>,
    /// Lines for the log.
    pub warnings: Vec<String>,
}

/// What the processes run. Everything but the three `run_*` functions is called in the master,
/// which has one thread and must start no other.
pub trait Program {
    /// A checked configuration, with everything that children inherit by fork.
    type Plan: Sync;

    /// Loads and checks the configuration for a generation.
    ///
    /// # Errors
    /// The findings as they are to be shown.
    fn load(&mut self, generation: u64) -> Result<(Spec, Self::Plan), String>;

    /// The sockets are bound and the logs are open: the last word before the fork.
    ///
    /// # Errors
    /// A reason not to start, as it is to be shown.
    fn bound(&mut self, plan: &mut Self::Plan, bound: Bound) -> Result<(), String>;

    /// The shared table, once the first configuration is loaded.
    fn metrics(&mut self) -> Option<(&mut Registry, Table)>;

    /// Looks, every few seconds, whether something that the live plan was built from changed.
    fn refresh(&mut self, plan: &mut Self::Plan) -> Refresh;

    /// The logs were opened anew: the master, and children forked from now on, go on with these.
    fn reopened(&mut self, plan: &mut Self::Plan, logs: &[(PathBuf, OwnedFd)]);

    /// Descriptors that children keep beside sockets, logs of their context and the standard ones:
    /// that of the error log, for one.
    fn keep(&self, plan: &Self::Plan) -> Vec<RawFd> {
        let _nothing = plan;
        Vec::new()
    }

    /// An event loop of a worker: says READY through the port, serves, returns when drained.
    ///
    /// # Errors
    /// Why it cannot serve.
    fn run_worker(plan: &Self::Plan, context: ThreadContext) -> Result<(), String>;

    /// The admin process.
    ///
    /// # Errors
    /// Why it cannot serve.
    fn run_admin(&self, plan: &Self::Plan, context: HelperContext) -> Result<(), String>;

    /// The demo servers.
    ///
    /// # Errors
    /// Why they cannot serve.
    fn run_demo(&self, plan: &Self::Plan, context: HelperContext) -> Result<(), String>;
}
