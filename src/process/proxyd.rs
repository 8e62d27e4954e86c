//! The program that the processes run: a configuration becomes a plan in the master, a reverse
//! proxy in the workers, metrics in the admin process.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::app::certificates::{Certificates, Changes};
use crate::app::plan::{Plan, Slots};
use crate::conf::{self, Model};
use crate::log::params::Output;
use crate::log::{self as error_log, Sink};
use crate::metric::bundle::{CertificateMetrics, CertificateSlots};
use crate::metric::{Layout, Registry, Table};
use crate::net::tls::ticket;
use crate::process::event_loop;
use crate::process::program::{Bound, Listen, Program, Refresh, Spec};
use crate::process::worker::{HelperContext, ThreadContext};
use crate::process::{admin, demo};

use crate::sys::shm::Mapping;
use crate::sys::{clock, entropy, limits, wall};
use crate::upstream::params::ServerAddress;

/// Columns of the table of metrics: event loops of all living generations, with room to spare.
const COLUMNS: usize = 512;

/// The program.
pub struct Proxyd {
    config: PathBuf,
    /// The configuration that was checked before the master started.
    first: Option<Model>,
    metrics: Option<(Registry, Table)>,
    ticket_words: Option<&'static [AtomicU64]>,
    /// Certificates of the last plan: self-signed ones stay the same over reloads.
    last: Option<Certificates>,
    instance: String,
    /// The lines for a newcomer were printed.
    greeted: bool,
}

impl Proxyd {
    /// For a configuration file that was loaded already, or one without a file.
    #[must_use]
    pub fn new(config: PathBuf, model: Model) -> Self {
        let id = entropy::number().unwrap_or_else(|_e| clock::monotonic().as_nanos());
        Self {
            config,
            first: Some(model),
            metrics: None,
            ticket_words: None,
            last: None,
            instance: format!("proxyd-{id:016x}"),
            greeted: false,
        }
    }

    /// The model of the next generation.
    fn model(&mut self) -> Result<Model, String> {
        if let Some(model) = self.first.take() {
            return Ok(model);
        }
        let loaded = conf::load(&self.config);
        let text = conf::render::text(&loaded, false);
        loaded.model.ok_or(text)
    }

    /// The shared memory, made once with room for what may come.
    fn share(&mut self, model: &Model, workers: u32) -> Result<(), String> {
        let failed = |error| format!("no shared memory: {error}");
        if self.metrics.is_none() {
            let layout = Layout::roomy(COLUMNS, Slots::words(model, workers));
            let words = Mapping::new(layout.words()).map_err(failed)?.leak();
            let table = Table::new(words, layout).ok_or("the shared memory is too small")?;
            self.metrics = Some((Registry::new(layout, &model.metrics.buckets), table));
        }
        if self.ticket_words.is_none() && model.listeners.iter().any(|l| l.tls.is_some()) {
            let shm = Mapping::new(ticket::WORDS).map_err(failed)?;
            // Keys must not end up in a core file; a kernel that cannot hide them is old.
            let _hidden = shm.hide_from_dumps();
            let words = shm.leak();
            self.ticket_words = Some(words);
        }
        self.rotate_tickets(model)
    }

    /// Tells the metrics which files could not be used, and when the new ones expire.
    fn count_certificates(&mut self, plan: &Plan, changes: &Changes) {
        let Some((registry, table)) = self.metrics.as_mut() else {
            return;
        };
        if changes.broken.is_empty() && changes.updates.is_empty() {
            return;
        }
        for (name, expiry) in plan.certificates.expiries() {
            let Ok(slots) = CertificateMetrics::register(registry, &[&name]) else {
                return;
            };
            publish_expiry(&slots, table, expiry);
            if changes.broken.iter().any(|(broken, _)| *broken == name) {
                slots.bind(&table.column(0)).failures.inc();
            }
        }
    }

    /// Makes new ticket keys when it is time.
    fn rotate_tickets(&self, model: &Model) -> Result<(), String> {
        let Some(words) = self.ticket_words else {
            return Ok(());
        };
        let tickets = || {
            model
                .listeners
                .iter()
                .filter_map(|l| Some(&l.tls.as_ref()?.tickets))
        };
        let Some(every) = tickets().map(|tickets| tickets.rotate).min() else {
            return Ok(());
        };
        let now = clock::monotonic();
        let failed = |error| format!("ticket keys: {error:?}");
        if let Some(path) = tickets().find_map(|tickets| tickets.key_file.as_ref()) {
            let secret = crate::net::tls::load::read(path).map_err(|e| e.to_string())?;
            let changed = ticket::derive(words, &secret, every, wall::now().as_secs(), now);
            return changed.map(drop).map_err(failed);
        }
        if !ticket::is_due(words, every, now) {
            return Ok(());
        }
        let mut bytes = [0; ticket::FIRST_BYTES];
        entropy::fill(&mut bytes).map_err(|error| error.to_string())?;
        ticket::rotate(words, &bytes, now).map_err(failed)
    }
}

/// The workers of a configuration: as many as asked for, or as there are processors.
pub(super) fn workers(model: &Model) -> u32 {
    match model.worker.count {
        0 => u32::try_from(limits::cpu_count()).unwrap_or(1),
        count => count,
    }
}

fn wall_seconds() -> i64 {
    i64::try_from(wall::now().as_secs()).unwrap_or(0)
}

fn places(model: &Model) -> Vec<Listen> {
    let listener = |listener: &conf::model::Listener| {
        let (name, mode) = (listener.http.name.clone(), listener.socket_mode);
        let backlog = listener.backlog;
        let bind = listener.bind.clone();
        bind.into_iter().map(move |bind| Listen {
            name: name.clone(),
            bind,
            backlog,
            mode,
        })
    };
    model.listeners.iter().flat_map(listener).collect()
}

fn spec(model: &Model) -> Spec {
    let admin = model.metrics.bind.iter().map(|bind| Listen {
        name: "metrics".to_owned(),
        bind: bind.clone(),
        backlog: 128,
        mode: 0o600,
    });
    let demo = model
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.servers);
    let demo = demo.filter_map(|server| match server.address {
        ServerAddress::Demo(number) => Some(number),
        ServerAddress::Endpoint(_) => None,
    });
    let logs = [&model.log.output, &model.access_log.output].into_iter();
    let logs = logs.filter_map(|output| match output {
        Output::File(path) => Some(path.clone()),
        _ => None,
    });
    let own = model
        .routes
        .iter()
        .filter_map(|route| route.drain_timeout)
        .max();
    Spec {
        master: model.master.clone(),
        worker: model.worker.clone(),
        watchdog: model.watchdog.clone(),
        listen: places(model),
        admin: admin.collect(),
        demo: demo.collect(),
        logs: logs.collect(),
        log_to_stderr: model.log.output == Output::Stderr,
        drain_longest: own
            .unwrap_or_default()
            .max(model.master.drain_timeout_upgraded),
    }
}

/// Opens an output of the log, with the descriptor that the master opened for a file.
pub(super) fn open_log(output: &Output, logs: &[(PathBuf, OwnedFd)]) -> Result<Sink, String> {
    let file = match output {
        Output::File(path) => Some(file_of(path, logs)?),
        _ => None,
    };
    Sink::open(output, file).map_err(|error| format!("the log cannot be opened: {error}"))
}

fn file_of(path: &Path, logs: &[(PathBuf, OwnedFd)]) -> Result<OwnedFd, String> {
    let found = logs
        .iter()
        .find(|(known, _)| known == path)
        .map(|(_, fd)| fd.try_clone());
    match found {
        Some(Ok(fd)) => Ok(fd),
        _ => Err(format!("{} is not open", path.display())),
    }
}

impl Program for Proxyd {
    type Plan = Plan;

    fn load(&mut self, _generation: u64) -> Result<(Spec, Plan), String> {
        let model = self.model()?;
        let workers = workers(&model);
        self.share(&model, workers)?;
        let certificates = Certificates::load(
            &model,
            self.last.as_ref(),
            self.ticket_words,
            wall_seconds(),
        )?;
        self.last = Some(certificates.clone());
        let Some((registry, table)) = self.metrics.as_mut() else {
            return Err("no shared memory".to_owned());
        };
        registry.set_bounds(&model.metrics.buckets);
        let full = |_full| "the table of metrics is full: restart to make it larger".to_owned();
        let slots = Slots::register(&model, workers, registry).map_err(full)?;
        for (name, expiry) in certificates.expiries() {
            let slots = CertificateMetrics::register(registry, &[&name]).map_err(full)?;
            publish_expiry(&slots, table, expiry);
        }
        let spec = spec(&model);
        let instance = self.instance.clone();
        let table = *table;
        Ok((
            spec,
            Plan {
                model,
                table,
                slots,
                certificates,
                demo: Vec::new(),
                instance,
            },
        ))
    }

    fn bound(&mut self, plan: &mut Plan, bound: Bound) -> Result<(), String> {
        plan.demo = bound.demo;
        let sink = open_log(&plan.model.log.output, &bound.logs)?;
        error_log::install(&plan.model.log, sink).map_err(|error| error.to_string())?;
        if !plan.demo.is_empty() && !self.greeted {
            self.greeted = true;
            greet(&plan.model, &bound.listen);
        }
        Ok(())
    }

    fn metrics(&mut self) -> Option<(&mut Registry, Table)> {
        self.metrics
            .as_mut()
            .map(|(registry, table)| (registry, *table))
    }

    fn refresh(&mut self, plan: &mut Plan) -> Refresh {
        let changes = plan.certificates.refresh(&plan.model, wall_seconds());
        let mut warnings: Vec<String> = (changes.broken.iter())
            .map(|(name, error)| format!("{name}: the changed files are not used: {error}"))
            .collect();
        for what in &changes.loaded {
            ::log::info!(target: "proxyd::tls", "{what}: changed, now in use");
        }
        if let Err(error) = self.rotate_tickets(&plan.model) {
            warnings.push(error);
        }
        self.count_certificates(plan, &changes);
        if !changes.updates.is_empty() {
            self.last = Some(plan.certificates.clone());
        }
        Refresh {
            updates: changes.updates,
            warnings,
        }
    }

    fn reopened(&mut self, plan: &mut Plan, logs: &[(PathBuf, OwnedFd)]) {
        reopen_error_log(&plan.model.log.output, logs);
    }

    fn keep(&self, _plan: &Plan) -> Vec<RawFd> {
        error_log::descriptor().into_iter().collect()
    }

    fn run_worker(plan: &Plan, context: ThreadContext) -> Result<(), String> {
        event_loop::run(plan, context)
    }

    fn run_admin(&self, plan: &Plan, context: HelperContext) -> Result<(), String> {
        let Some((registry, table)) = self.metrics.as_ref() else {
            return Ok(());
        };
        admin::run(&plan.model, registry, *table, context)
    }

    fn run_demo(&self, _plan: &Plan, context: HelperContext) -> Result<(), String> {
        demo::run(context)
    }
}

/// With demo servers somebody is trying things out: what to type.
fn greet(model: &Model, bound: &[Option<SocketAddr>]) {
    let places = model
        .listeners
        .iter()
        .flat_map(|listener| listener.bind.iter().map(move |_| listener.http.tls));
    for (tls, addr) in places.zip(bound) {
        let Some(addr) = addr else { continue };
        let command = if tls { "curl -k https" } else { "curl http" };
        ::log::info!(target: "proxyd::demo", "try: {command}://localhost:{}/", addr.port());
    }
}

fn publish_expiry(slots: &CertificateSlots, table: &Table, expiry: i64) {
    let metrics = slots.bind(&table.column(0));
    metrics.expiry.set(u64::try_from(expiry).unwrap_or(0));
}

/// Goes on with another file of the error log.
pub(super) fn reopen_error_log(output: &Output, logs: &[(PathBuf, OwnedFd)]) {
    let Output::File(path) = output else { return };
    if let Some((_, fd)) = logs.iter().find(|(known, _)| known == path)
        && let Err(error) = error_log::reopen(fd)
    {
        ::log::error!("{} was not opened anew: {error}", path.display());
    }
}
