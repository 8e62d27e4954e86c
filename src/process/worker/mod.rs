//! What a child does between the fork and its first connection: it becomes a process of its own,
//! gives up what it must not have, and starts its event loops. How connections are served is the
//! program's business.

mod port;
mod threads;

use std::iter::repeat;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

pub use port::{Command, LoopPort, Port, UPDATE_BYTES_MAX};

use crate::base::time::Instant;
use crate::metric;
use crate::process::master::supervisor::Role;
use crate::process::program::Program;
use crate::proto::control::Drain;
use crate::sys::privilege::{self, Identity};
use crate::sys::process::{self, Pid};
use crate::sys::socket::Local;
use crate::sys::title::Title;
use crate::sys::{limits, signal};

/// A socket to accept from. Several may belong to the same place.
#[derive(Debug)]
pub struct Listening {
    /// Which place of [`super::program::Spec::listen`] (or `admin`, or `demo`) it belongs to.
    pub place: usize,
    /// Where it listens.
    pub local: Local,
    /// The socket: non-blocking, shared with other processes.
    pub fd: OwnedFd,
}

/// What an event loop of a worker is given.
#[derive(Debug)]
pub struct ThreadContext {
    /// The number of the worker in its generation.
    pub worker: u32,
    /// The number of the loop in its worker.
    pub thread: u32,
    /// The generation.
    pub generation: u64,
    /// Where to accept.
    pub sockets: Vec<Listening>,
    /// How to hear the master and report to it.
    pub port: Port,
    /// The column of the shared table that this loop alone writes.
    pub column: usize,
    /// The log files, open for appending.
    pub logs: Vec<(PathBuf, OwnedFd)>,
}

/// What the admin process and the demo process are given.
#[derive(Debug)]
pub struct HelperContext {
    /// The generation.
    pub generation: u64,
    /// Where to accept.
    pub sockets: Vec<Listening>,
    /// How to hear the master and report to it.
    pub port: Port,
    /// The column of the shared table that this process alone writes, if it has one.
    pub column: Option<usize>,
    /// The log files, open for appending.
    pub logs: Vec<(PathBuf, OwnedFd)>,
}

impl ThreadContext {
    /// Takes possession of the column: before anything is counted.
    #[must_use]
    pub fn take_column(&self, table: metric::Table, now: Instant) -> metric::Column {
        let column = table.column(self.column);
        column.take(metric::Owner {
            pid: own_pid(),
            role: metric::Role::Worker,
            worker: self.worker,
            thread: self.thread,
            generation: self.generation,
            started: now,
            heartbeat: now,
        });
        column
    }
}

impl HelperContext {
    /// Takes possession of the column of the admin process.
    #[must_use]
    pub fn take_column(&self, table: metric::Table, now: Instant) -> Option<metric::Column> {
        let column = table.column(self.column?);
        column.take(metric::Owner {
            pid: own_pid(),
            role: metric::Role::Admin,
            worker: 0,
            thread: 0,
            generation: self.generation,
            started: now,
            heartbeat: now,
        });
        Some(column)
    }
}

fn own_pid() -> u32 {
    u32::try_from(process::own_pid().0).unwrap_or(0)
}

/// How often a loop says that it is alive.
const BEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Says again and again that the loop is alive: a task for every loop of a worker. It stops when
/// the loop hangs, which is the point.
pub async fn beat(column: metric::Column) {
    loop {
        column.beat(crate::rt::now());
        crate::rt::sleep(BEAT_INTERVAL).await;
    }
}

/// Everything that a child takes over from its master.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) role: Role,
    pub(super) generation: u64,
    /// The master, to see whether it is there still.
    pub(super) master: Pid,
    pub(super) control: OwnedFd,
    /// For each event loop its sockets.
    pub(super) sockets: Vec<Vec<Listening>>,
    /// For each event loop its column.
    pub(super) columns: Vec<usize>,
    /// For each event loop its processors, if it is bound to any.
    pub(super) pins: Vec<Option<Vec<usize>>>,
    pub(super) logs: Vec<(PathBuf, OwnedFd)>,
    /// Descriptors beyond sockets and logs.
    pub(super) keep: Vec<RawFd>,
    pub(super) identity: Option<Identity>,
    pub(super) core_dumps: bool,
    /// How to leave when the master is gone.
    pub(super) alone: Drain,
}

/// Never returns to the code of the master: whatever happens, the child ends here, and no
/// destructor of the master's things runs in it.
pub(super) fn enter<P: Program>(start: Start, title: &Title, program: &P, plan: &P::Plan) -> ! {
    // A failure is told through a descriptor of its own, because the port moves into the loop.
    let teller = start.control.try_clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let keep = teller.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        become_child(&start, keep, title)?;
        run(start, program, plan)
    }));
    let code = match result {
        Ok(Ok(())) => 0,
        Ok(Err(text)) => {
            if let Ok(teller) = teller {
                teller_port(teller).failed(&text);
            }
            1
        }
        Err(_the_panic_was_printed) => 101,
    };
    process::exit_now(code)
}

/// A port that only reports.
const fn teller_port(control: OwnedFd) -> Port {
    let never = Drain {
        ordinary: None,
        upgraded: None,
        stopping: true,
    };
    Port::new(control, Vec::new(), never)
}

/// The order matters: signals first, because the mask of the master blocks them; descriptors
/// before power is given up, so that nothing of the master is in reach of a weaker process.
fn become_child(start: &Start, teller: RawFd, title: &Title) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let name = title_of(start);
    title.set(&name);
    crate::log::identify(name.strip_prefix("proxyd: ").unwrap_or(&name));
    signal::reset_in_child().map_err(|e| failed("cannot set signals", e))?;
    let sockets = start.sockets.iter().flatten().map(|s| s.fd.as_raw_fd());
    let logs = start.logs.iter().map(|(_, fd)| fd.as_raw_fd());
    let mut keep: Vec<RawFd> = sockets.chain(logs).collect();
    keep.extend(&start.keep);
    keep.extend([teller, start.control.as_raw_fd()]);
    process::close_all_except(&keep).map_err(|e| failed("cannot close descriptors", e))?;
    let is_worker = matches!(start.role, Role::Worker(_));
    if is_worker {
        signal::drain_on_term(start.control.as_raw_fd())
            .map_err(|e| failed("cannot set signals", e))?;
    }
    if !start.core_dumps {
        limits::forbid_core_files().map_err(|e| failed("cannot forbid core files", e))?;
    }
    privilege::shed(start.identity.as_ref()).map_err(|e| failed("cannot give up privileges", e))?;
    // A change of user makes the kernel decide on its own; what counts is the setting.
    process::set_dumpable(start.core_dumps).map_err(|e| failed("cannot set dumpable", e))?;
    if !is_worker {
        process::end_with_parent(start.master).map_err(|e| failed("too late", e))?;
    }
    Ok(())
}

fn title_of(start: &Start) -> String {
    match start.role {
        Role::Worker(index) => format!("proxyd: worker {index} gen {}", start.generation),
        Role::Admin => "proxyd: admin".to_owned(),
        Role::Demo => "proxyd: demo".to_owned(),
    }
}

fn run<P: Program>(start: Start, program: &P, plan: &P::Plan) -> Result<(), String> {
    let paths: Vec<PathBuf> = start.logs.iter().map(|(path, _)| path.clone()).collect();
    let port = Port::new(start.control, paths.clone(), start.alone);
    if let Role::Worker(worker) = start.role {
        let mut ports = vec![port];
        let mut hub = None;
        if start.sockets.len() > 1 {
            let (lines, loop_ports) =
                threads::Hub::new(start.sockets.len(), &paths, start.alone)
                    .map_err(|e| format!("no control sockets for the event loops: {e}"))?;
            hub = ports.pop().map(|port| (lines, port));
            ports = loop_ports;
        }
        let mut contexts = Vec::new();
        let columns = start.columns.into_iter().chain(repeat(usize::MAX));
        let pins = start.pins.into_iter().chain(repeat(None));
        let sockets = start.sockets.into_iter().zip(ports);
        for (thread, ((own, column), pin)) in (0_u32..).zip(sockets.zip(columns).zip(pins)) {
            let (sockets, port) = own;
            let context = ThreadContext {
                worker,
                thread,
                generation: start.generation,
                sockets,
                port,
                column,
                logs: copies(&start.logs)?,
            };
            contexts.push((context, pin));
        }
        return match hub {
            Some((hub, port)) => run_loops::<P>(plan, contexts, hub, &port),
            None => contexts
                .into_iter()
                .try_for_each(|(context, pin)| run_loop::<P>(plan, context, pin)),
        };
    }
    let context = HelperContext {
        generation: start.generation,
        sockets: start.sockets.into_iter().flatten().collect(),
        port,
        column: start.columns.first().copied(),
        logs: start.logs,
    };
    match start.role {
        Role::Demo => program.run_demo(plan, context),
        Role::Admin | Role::Worker(_) => program.run_admin(plan, context),
    }
}

/// The same log files once more, for another event loop.
fn copies(logs: &[(PathBuf, OwnedFd)]) -> Result<Vec<(PathBuf, OwnedFd)>, String> {
    let copy = |(path, fd): &(PathBuf, OwnedFd)| Ok((path.clone(), fd.try_clone()?));
    logs.iter()
        .map(copy)
        .collect::<std::io::Result<_>>()
        .map_err(|e| format!("no descriptors for the logs: {e}"))
}

fn run_loop<P: Program>(
    plan: &P::Plan,
    context: ThreadContext,
    pin: Option<Vec<usize>>,
) -> Result<(), String> {
    if let Some(cpus) = pin
        && let Err(error) = limits::pin(&cpus)
    {
        context
            .port
            .warn(&format!("cannot be bound to CPUs {cpus:?}: {error}"));
    }
    P::run_worker(plan, context)
}

/// One thread for each loop; the first failure is the failure of the worker.
fn run_loops<P: Program>(
    plan: &P::Plan,
    contexts: Vec<(ThreadContext, Option<Vec<usize>>)>,
    hub: threads::Hub,
    port: &Port,
) -> Result<(), String> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (context, pin) in contexts {
            let name = format!("loop {}", context.thread);
            let spawned = std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, move || {
                    let teller = context.port.as_fd().try_clone_to_owned();
                    let result = run_loop::<P>(plan, context, pin);
                    if let (Err(text), Ok(teller)) = (&result, teller) {
                        teller_port(teller).failed(text);
                    }
                    result
                });
            match spawned {
                Ok(handle) => running.push(handle),
                Err(error) => {
                    // The other threads cannot be called back: the process ends as a whole.
                    port.failed(&format!("cannot start a thread: {error}"));
                    process::exit_now(1);
                }
            }
        }
        let heard = hub.run(port).map_err(|e| format!("control sockets: {e}"));
        let results: Result<Vec<()>, String> = running
            .into_iter()
            .map(|handle| match handle.join() {
                Ok(result) => result,
                Err(_the_panic_was_printed) => process::exit_now(101),
            })
            .collect();
        heard.and(results.map(|_all| ()))
    })
}
