//! What a child does between the fork and its first connection: it becomes a process of its own,
//! gives up what it must not have, and starts its event loops. How connections are served is the
//! program's business.

mod port;
mod threads;

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
use crate::sys::privilege::{self, Identity, Note};
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
    /// The descriptor of each log file.
    pub logs: Vec<(PathBuf, RawFd)>,
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
    /// The descriptor of each log file.
    pub logs: Vec<(PathBuf, RawFd)>,
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
    pub(super) logs: Vec<(PathBuf, RawFd)>,
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
    let spare = start.control.try_clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        become_child(&start, title)?;
        run(start, program, plan)
    }));
    let code = match result {
        Ok(Ok(())) => 0,
        Ok(Err(text)) => {
            if let Ok(spare) = spare {
                Port::new(spare, Vec::new(), NEVER).failed(&text);
            }
            1
        }
        Err(_the_panic_was_printed) => 101,
    };
    process::exit_now(code)
}

/// For a port that only reports.
const NEVER: Drain = Drain {
    ordinary: None,
    upgraded: None,
    stopping: true,
};

/// The order matters: signals first, because the mask of the master blocks them; descriptors
/// before power is given up, so that nothing of the master is in reach of a weaker process.
fn become_child(start: &Start, title: &Title) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    title.set(&title_of(start));
    signal::reset_in_child().map_err(|e| failed("cannot set signals", e))?;
    let mut keep: Vec<RawFd> = start
        .sockets
        .iter()
        .flatten()
        .map(|s| s.fd.as_raw_fd())
        .collect();
    keep.extend(start.logs.iter().map(|(_, fd)| *fd));
    keep.extend(&start.keep);
    keep.push(start.control.as_raw_fd());
    // The copy that reports a failure of this very function.
    let is_worker = matches!(start.role, Role::Worker(_));
    let spare = start.control.as_fd();
    let late = spare
        .try_clone_to_owned()
        .map_err(|e| failed("no descriptor left", e))?;
    keep.push(late.as_raw_fd());
    process::close_all_except(&keep).map_err(|e| failed("cannot close descriptors", e))?;
    if is_worker {
        signal::drain_on_term(start.control.as_raw_fd())
            .map_err(|e| failed("cannot set signals", e))?;
    }
    if !start.core_dumps {
        limits::forbid_core_files().map_err(|e| failed("cannot forbid core files", e))?;
    }
    let note = privilege::shed(start.identity.as_ref())
        .map_err(|e| failed("cannot give up privileges", e))?;
    if note == Some(Note::KeptUser) && matches!(start.role, Role::Worker(0)) {
        let port = Port::new(late, Vec::new(), NEVER);
        port.warn("not started as root: the user of [master] is not taken on");
    }
    // After a change of user the kernel decided on its own; what counts is the setting.
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
    let numbers: Vec<RawFd> = start.logs.iter().map(|(_, fd)| *fd).collect();
    let port = Port::new(start.control, numbers, start.alone);
    let Role::Worker(worker) = start.role else {
        let context = HelperContext {
            generation: start.generation,
            sockets: start.sockets.into_iter().flatten().collect(),
            port,
            column: start.columns.first().copied(),
            logs: start.logs,
        };
        return match start.role {
            Role::Demo => program.run_demo(plan, context),
            Role::Admin | Role::Worker(_) => program.run_admin(plan, context),
        };
    };
    let several = start.sockets.len() > 1;
    let (ports, hub) = if several {
        let loops = u32::try_from(start.sockets.len()).unwrap_or(u32::MAX);
        let (hub, ports) = threads::Hub::new(loops, start.alone)
            .map_err(|e| format!("no control sockets for the event loops: {e}"))?;
        (ports, Some((hub, port)))
    } else {
        (vec![port], None)
    };
    let columns = start
        .columns
        .into_iter()
        .chain(std::iter::repeat(usize::MAX));
    let pins = start.pins.into_iter().chain(std::iter::repeat(None));
    let each = start.sockets.into_iter().zip(ports).zip(columns).zip(pins);
    let contexts: Vec<(ThreadContext, Option<Vec<usize>>)> = (0_u32..)
        .zip(each)
        .map(|(thread, (((sockets, port), column), pin))| {
            let context = ThreadContext {
                worker,
                thread,
                generation: start.generation,
                sockets,
                port,
                column,
                logs: start.logs.clone(),
            };
            (context, pin)
        })
        .collect();
    match hub {
        None => contexts
            .into_iter()
            .try_for_each(|(context, pin)| run_loop::<P>(plan, context, pin)),
        Some((hub, port)) => run_loops::<P>(plan, contexts, hub, &port),
    }
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
                    let report = context.port.as_fd().try_clone_to_owned();
                    let result = run_loop::<P>(plan, context, pin);
                    if let (Err(text), Ok(report)) = (&result, report) {
                        Port::new(report, Vec::new(), NEVER).failed(text);
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
