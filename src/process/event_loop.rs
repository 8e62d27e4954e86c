//! One event loop of a worker, from its first instruction to its last: the house is built, sockets
//! are accepted from, and the orders of the master are carried out until nothing is left to do.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use crate::app::build::{self, House, Thread};
use crate::app::plan::Plan;
use crate::app::serve::{self, Leave};
use crate::conf::model::{Sandbox, Worker};
use crate::io::buf;
use crate::log::Sink;
use crate::log::access::AccessLog;
use crate::metric::Column;
use crate::metric::bundle::WorkerMetrics;
use crate::net::listen::{Gate, Listener, Reserve};
use crate::process::proxyd::{open_log, reopen_error_log, workers};
use crate::process::worker::{Command, Listening, LoopPort, ThreadContext, beat};
use crate::rt::drain::{Signal, signal};
use crate::rt::{self, Runtime};
use crate::sys::{clock, entropy, limits, sandbox, wall};
use crate::upstream::balance::Place;

/// Runs the loop.
///
/// # Errors
/// Why it cannot serve.
pub fn run(plan: &Plan, mut context: ThreadContext) -> Result<(), String> {
    let column = context.take_column(plan.table, clock::monotonic());
    let worker = &plan.model.worker;
    let threads = worker.threads.max(1);
    buf::configure(buf::Params {
        buffer_size: worker.buffer_size,
        max: usize::try_from(worker.buffer_pool_max).unwrap_or(usize::MAX) / threads as usize,
    });
    let seed = entropy::number().map_err(|error| error.to_string())?;
    let access_sink = open_log(&plan.model.access_log.output, &context.logs)?;
    let log = AccessLog::new(&plan.model.access_log, access_sink.clone(), seed, wall::now)
        .map_err(|error| error.what)?;
    let slots = plan.slots.workers.get(context.worker as usize);
    let slots = slots.ok_or("there are fewer workers than this one's number")?;
    let metrics = slots.bind(&column);
    let runtime = runtime(&metrics)?;
    let place = Place {
        index: (context.worker * threads + context.thread) as usize,
        count: (workers(&plan.model) * threads) as usize,
    };
    runtime.block_on(async move {
        let (leave, drain) = signal();
        let wall = wall::now;
        let (own, sockets) = (context.column, std::mem::take(&mut context.sockets));
        let thread = Thread {
            column,
            place,
            seed,
            log,
            wall,
            drain,
        };
        let house = Rc::new(build::build(plan, thread)?);
        let entrances = Entrances::open(plan, sockets)?;
        start_chores(&house, plan.table.column(own), &metrics);
        let port = context.port.in_loop().map_err(|error| error.to_string())?;
        confine(plan.model.worker.sandbox, &port);
        if !port.begin().await {
            return Ok(());
        }
        entrances.accept(&house);
        let orders = Orders {
            plan,
            house: &house,
            port: &port,
            leave: &leave,
            access_sink,
        };
        orders.obey().await;
        serve::publish_once(&house, &metrics);
        serve::flush_log(&house);
        Ok(())
    })
}

/// The sandbox, now that everything is open. What the kernel does not offer is told, not fatal.
fn confine(sandbox: Sandbox, port: &LoopPort) {
    if sandbox != Sandbox::Strict {
        return;
    }
    match sandbox::restrict() {
        Ok(enforced) if enforced.landlock && enforced.seccomp => {}
        Ok(enforced) => port.warn(&format!("the sandbox is not whole: {enforced:?}")),
        Err(error) => port.warn(&format!("there is no sandbox: {error}")),
    }
}

fn runtime(metrics: &WorkerMetrics) -> Result<Runtime, String> {
    let runtime = Runtime::new(rt::Config::default()).map_err(|error| error.to_string())?;
    let metrics = metrics.clone();
    runtime.on_turn(move |turn| {
        metrics.loop_lag.observe(turn.busy);
        let nanos = u64::try_from(turn.busy.as_nanos()).unwrap_or(u64::MAX);
        metrics.busy.add(nanos);
    });
    Ok(runtime)
}

/// Where connections will come from: everything that can fail is done before READY.
struct Entrances {
    gate: Gate,
    reserve: Reserve,
    /// With the number of the listener that each socket belongs to.
    listeners: Vec<(usize, Listener)>,
}

impl Entrances {
    fn open(plan: &Plan, sockets: Vec<Listening>) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let fronts: Vec<usize> = (plan.model.listeners.iter().enumerate())
            .flat_map(|(front, listener)| listener.bind.iter().map(move |_| front))
            .collect();
        let mut listeners = Vec::new();
        for socket in sockets {
            let front = fronts.get(socket.place).copied().unwrap_or(usize::MAX);
            listeners.push((front, Listener::from_fd(socket.fd).map_err(failed)?));
        }
        Ok(Self {
            gate: Gate::new(connection_limit(&plan.model.worker)),
            reserve: Reserve::new().map_err(failed)?,
            listeners,
        })
    }

    fn accept(self, house: &Rc<House>) {
        for (front, listener) in self.listeners {
            serve::accept(
                house,
                front,
                listener,
                self.gate.clone(),
                self.reserve.clone(),
            );
        }
    }
}

/// Heartbeat, and numbers written down.
fn start_chores(house: &Rc<House>, column: Column, metrics: &WorkerMetrics) {
    rt::spawn(beat(column)).detach();
    serve::publish(house, metrics.clone());
}

/// Carries out what the master says.
struct Orders<'a> {
    plan: &'a Plan,
    house: &'a Rc<House>,
    port: &'a LoopPort,
    leave: &'a Signal,
    access_sink: Sink,
}

impl Orders<'_> {
    /// Until the worker has been told to leave and no connection is left.
    async fn obey(&self) {
        let mut leaving = false;
        loop {
            match serve::next_command(self.house, self.port.command(), leaving).await {
                None => return,
                Some(Command::Drain(drain)) => {
                    leaving = true;
                    let how = Leave {
                        ordinary: drain.ordinary,
                        upgraded: drain.upgraded,
                        stopping: drain.stopping,
                    };
                    serve::leave(self.house, self.leave, how);
                }
                Some(Command::Close { spread }) => {
                    leaving = true;
                    serve::close_all(self.house, spread);
                }
                Some(Command::Reopen(logs)) => self.reopen(&logs),
                Some(Command::Update(bytes)) => {
                    if let Err(error) = serve::update(self.house, self.plan, &bytes) {
                        self.port.warn(&error);
                    }
                }
            }
        }
    }

    fn reopen(&self, logs: &[(PathBuf, OwnedFd)]) {
        let model = &self.plan.model;
        reopen_error_log(&model.log.output, logs);
        let access = &model.access_log.output;
        serve::reopen_access_log(self.house, &self.access_sink, access, logs);
    }
}

/// Client connections of one event loop: as configured, or from the descriptor limit, less a
/// reserve for connections to servers (http-rules §22).
fn connection_limit(worker: &Worker) -> usize {
    let threads = worker.threads.max(1);
    match worker.max_connections {
        0 => {
            let files = limits::raise_open_files(None).unwrap_or(1024);
            usize::try_from(files / 10 * 9 / 2 / u64::from(threads)).unwrap_or(usize::MAX)
        }
        most => (most / threads).max(1) as usize,
    }
}
