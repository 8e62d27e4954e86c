//! Carrying out what the supervisor says: loading, forking, killing, telling.

use std::collections::BTreeSet;
use std::time::Duration;

use super::children::Child;
use super::detach::Waiting;
use super::held::{self, Claims, Held};
use super::supervisor::{Action, ChildId, Event, Params, Role};
use super::{LOG, Master, State, Status};
use crate::base::unit::print_duration;
use crate::process::pidfile::{self, PidFile};
use crate::process::program::{Program, Refresh, Spec};
use crate::process::worker::{self, Start};
use crate::proto::control::{Drain, Order};
use crate::sys::privilege::{self, Identity};
use crate::sys::process::{self, Fork};
use crate::sys::signal::Signal;
use crate::sys::{clock, fdpass, file, limits};
use std::os::fd::{AsFd, OwnedFd};

impl<P: Program> Master<P> {
    /// Carries out one action; what comes of it at once is returned.
    pub(super) fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Load(generation) => return Some(Event::Loaded(self.load(generation))),
            Action::Fork {
                child,
                role,
                generation,
            } => {
                if let Err(text) = self.fork(child, role, generation) {
                    log::error!(target: LOG, "{role} of generation {generation} cannot be started: {text}");
                    return Some(Event::ForkFailed(child, text));
                }
            }
            Action::Terminate(child) => self.order(child, &Order::Drain(SOON)),
            Action::Kill(child) => self.signal_child(child, Signal::Kill),
            Action::Serve(child) => {
                self.order(child, &Order::Serve);
                if let Some(Child {
                    role, generation, ..
                }) = self.children.get(child)
                {
                    self.attendance(*role, *generation, true);
                }
            }
            Action::Drain(child, drain) => self.order(child, &Order::Drain(drain)),
            Action::Close(child, spread) => {
                self.tell_closing(child);
                self.order(child, &Order::Close { spread });
            }
            Action::Live(generation) => self.live(generation),
            Action::Discard(generation) => self.discard(generation),
            Action::Outcome(result) => self.outcome(result),
            Action::Restart {
                role,
                generation,
                cause,
                after,
            } => {
                if let Role::Worker(index) = role {
                    self.counts.restarted(index);
                }
                self.attendance(role, generation, after == Duration::ZERO);
                let when = if after == Duration::ZERO {
                    "now".to_owned()
                } else {
                    format!("in {}", print_duration(after))
                };
                log::warn!(target: LOG, "{role} of generation {generation}: {cause}; started again {when}");
            }
            Action::Alert { role, restarts } => self.alert(role, restarts),
            Action::Silent(child, silence) => {
                if let Some(child) = self.children.get(child) {
                    let (role, pid, seconds) = (child.role, child.pid, silence.as_secs());
                    log::error!(target: LOG, "{role} (process {pid}) is silent for {seconds} s; killed");
                }
            }
            Action::Stopping => {
                self.status.stopping = true;
                self.write_status();
                let now = clock::monotonic();
                self.manager.report(&State::Stopping, "stopping", now);
            }
            Action::Leave(code) => self.exit = Some(code),
        }
        None
    }

    // === loading ===

    fn load(&mut self, generation: u64) -> Result<Box<Params>, String> {
        self.covering = self.status.received;
        if generation > 1 {
            let now = clock::monotonic();
            self.manager.report(&State::Reloading, "reloading", now);
        }
        let (spec, plan) = self.program.load(generation)?;
        let is_first = self.poll.is_none();
        if let (true, Some(path)) = (is_first, &spec.master.pid_file) {
            // Before the sockets: "runs already" tells more than "port in use".
            pidfile::check_free(path).map_err(|problem| problem.to_string())?;
        }
        let identity = identity(&spec)?;
        let open_files = Some(spec.worker.open_files).filter(|&n| n > 0);
        limits::raise_open_files(open_files)
            .map_err(|e| format!("the limit of open files: {e}"))?;
        let claims = Claims::make(&mut self.sockets, &spec)?;
        let mut held = Held {
            spec,
            plan,
            identity,
            claims,
            was_live: false,
            absent: BTreeSet::new(),
        };
        let prepared = self.prepare(&mut held).and_then(|()| {
            if is_first {
                self.settle_down(&held.spec)
            } else {
                Ok(())
            }
        });
        if let Err(text) = prepared {
            for claim in held.claims.all() {
                self.sockets.release(claim);
            }
            return Err(text);
        }
        let params = held::params(&held.spec);
        self.held.insert(generation, held);
        Ok(Box::new(params))
    }

    fn prepare(&mut self, held: &mut Held<P::Plan>) -> Result<(), String> {
        let mut bound = held.claims.bound(&self.sockets, &held.spec);
        bound.logs = self.logs.open(&held.spec.logs)?;
        self.program.bound(&mut held.plan, bound)?;
        if let Some((registry, table)) = self.program.metrics() {
            let workers = held::workers(&held.spec);
            self.counts
                .prepare(registry, table, workers, clock::monotonic())
                .map_err(|full| full.to_string())?;
        }
        Ok(())
    }

    /// The first configuration is good: this becomes the process that stays.
    fn settle_down(&mut self, spec: &Spec) -> Result<(), String> {
        if self.options.detach || spec.master.daemon {
            self.waiting =
                Waiting::detach().map_err(|e| format!("cannot go to the background: {e}"))?;
            let now = clock::monotonic();
            self.manager.report(&State::MainPid, "", now);
        }
        self.title.set("proxyd: master");
        let pid = process::own_pid();
        self.status.pid = pid.0;
        self.status.start = process::start_ticks(pid).unwrap_or(0);
        if let Some(path) = &spec.master.pid_file {
            self.pid_file = Some(PidFile::claim(path).map_err(|problem| problem.to_string())?);
            self.status
                .write(path)
                .map_err(|e| format!("status file {}: {e}", Status::path(path).display()))?;
        }
        self.open_poll()
            .map_err(|e| format!("cannot wait for events: {e}"))
    }

    // === children ===

    fn fork(&mut self, child: ChildId, role: Role, generation: u64) -> Result<(), String> {
        let held = self
            .held
            .get(&generation)
            .ok_or("its generation is unknown")?;
        let threads = usize::try_from(held.spec.worker.threads.max(1)).unwrap_or(1);
        let columns = self.counts.take(match role {
            Role::Worker(_) => threads,
            Role::Admin => 1,
            Role::Demo => 0,
        })?;
        let master = process::own_pid();
        let forked = fdpass::pair().and_then(|(near, far)| Ok((near, far, process::fork()?)));
        let (near, far, side) = match forked {
            Ok(forked) => forked,
            Err(error) => {
                self.counts.give_back(None, &columns);
                return Err(error.to_string());
            }
        };
        match side {
            Fork::Child => {
                let start = Start {
                    role,
                    generation,
                    master,
                    control: far,
                    sockets: Vec::new(),
                    columns,
                    pins: Vec::new(),
                    logs: Vec::new(),
                    keep: self.program.keep(&held.plan),
                    identity: held.identity.clone(),
                    core_dumps: held.spec.worker.core_dumps,
                    alone: held::alone(&held.spec),
                };
                let filled = fill(self, held, start, threads);
                worker::enter(filled, &self.title, &self.program, &held.plan)
            }
            Fork::Parent(pid) => {
                drop(far);
                let mut new = Child::new(pid, role, generation, near);
                new.columns = columns;
                new.logs.clone_from(&held.spec.logs);
                let poll = self.poll.as_ref().ok_or("there is no poll")?;
                let added = self.children.add(child, new, poll.registry());
                if let Err(error) = added {
                    // Nobody could talk to it.
                    self.signal(pid, Signal::Kill);
                    if let Some(lost) = self.children.remove(child, poll.registry()) {
                        self.counts.give_back(None, &lost.columns);
                    }
                    return Err(format!("its control socket: {error}"));
                }
                self.counts.generations(self.children.generations());
                Ok(())
            }
        }
    }

    fn signal_child(&self, child: ChildId, signal: Signal) {
        if let Some(child) = self.children.get(child) {
            self.signal(child.pid, signal);
        }
    }

    fn order(&self, child: ChildId, order: &Order) {
        if let Some(child) = self.children.get(child)
            && let Err(error) = child.order(order, &[])
        {
            log::debug!(target: LOG, "{} does not take an order: {error}", child.role);
        }
    }

    fn tell_closing(&self, child: ChildId) {
        if let Some(child) = self.children.get(child)
            && let Role::Worker(0) = child.role
        {
            let number = child.generation;
            log::warn!(target: LOG, "generation {number} is over its bounds and closes its connections");
        }
    }

    // === generations ===

    fn live(&mut self, generation: u64) {
        let Some(held) = self.held.get_mut(&generation) else {
            return;
        };
        held.was_live = true;
        for trouble in self.sockets.settle(&held.claims.all()) {
            log::warn!(target: LOG, "new connections are spread over all sockets: {trouble}");
        }
        for claim in [&held.claims.workers, &held.claims.admin] {
            for line in self.sockets.announce(claim) {
                log::info!(target: LOG, "{line}");
            }
        }
        self.status.generation = generation;
    }

    /// New connections pass over the sockets of a worker that is not there for a while.
    fn attendance(&mut self, role: Role, generation: u64, present: bool) {
        let (Role::Worker(index), true) = (role, generation == self.status.generation) else {
            return;
        };
        let Some(held) = self.held.get_mut(&generation) else {
            return;
        };
        let changed = if present {
            held.absent.remove(&index)
        } else {
            held.absent.insert(index)
        };
        if changed {
            let absent = held.absent_loops();
            for trouble in self.sockets.spread(&held.claims.workers, &absent) {
                log::debug!("connections wait for {role}: {trouble}");
            }
        }
    }

    fn discard(&mut self, generation: u64) {
        if let Some(held) = self.held.remove(&generation) {
            if held.was_live {
                log::info!(target: LOG, "generation {generation} is gone");
            } else {
                for claim in held.claims.all() {
                    self.sockets.release(claim);
                }
            }
        }
        let used = held::logs_in_use(self.held.values());
        self.logs.keep(&used);
        self.counts.generations(self.children.generations());
    }

    /// A start or reload is over, well or not: everybody is told.
    fn outcome(&mut self, result: Result<u64, String>) {
        self.counts.outcome(result.as_ref().ok().copied());
        self.counts.generations(self.children.generations());
        self.status.covered = self.covering;
        let now = clock::monotonic();
        match result {
            Ok(generation) => {
                self.status.failure = None;
                let workers = self.workers(generation);
                log::info!(target: LOG, "ready: generation {generation}, {workers} workers");
                if generation > 1 {
                    log::info!(target: LOG, "generation {generation} is live");
                }
                let line = format!("generation {generation}, {workers} workers");
                self.manager.report(&State::Ready, &line, now);
                let to_stderr = self
                    .held
                    .get(&generation)
                    .is_some_and(|h| h.spec.log_to_stderr);
                self.waiting.release(0, to_stderr);
            }
            Err(text) if self.status.generation == 0 => {
                log::error!(target: LOG, "start failed: {text}");
                self.status.failure = Some(text);
            }
            Err(text) => {
                let serving = self.status.generation;
                log::error!(target: LOG, "reload failed: {text}");
                let line = format!("reload failed; generation {serving} serves on");
                self.manager.report(&State::Ready, &line, now);
                self.status.failure = Some(text);
            }
        }
        self.write_status();
    }

    fn workers(&self, generation: u64) -> u32 {
        self.held
            .get(&generation)
            .map_or(0, |h| held::workers(&h.spec))
    }

    /// Tells whoever is to be told that a process does not stay up.
    fn alert(&self, role: Role, restarts: u32) {
        self.counts.alerted();
        let live = self.held.get(&self.status.generation);
        let Some(watchdog) = live.map(|h| &h.spec.watchdog) else {
            return;
        };
        let window = print_duration(watchdog.restart_window);
        let text = format!("{role} was started again {restarts} times within {window}");
        log::error!(target: LOG, "alert: {text}");
        let Some((program, arguments)) = watchdog.alert_exec.split_first() else {
            return;
        };
        let spawned = std::process::Command::new(program)
            .args(arguments)
            .arg(&text)
            .stdin(std::process::Stdio::null())
            .spawn();
        // It is reaped like every child; nobody waits for it.
        if let Err(error) = spawned {
            log::error!(target: LOG, "alert_exec {program}: {error}");
        }
    }

    // === files ===

    pub(super) fn reopen_logs(&mut self) {
        for trouble in self.logs.reopen() {
            log::error!(target: LOG, "{trouble}");
        }
        for (number, held) in &mut self.held {
            match self.logs.open(&held.spec.logs) {
                Ok(files) => self.program.reopened(&mut held.plan, &files),
                Err(text) => log::error!(target: LOG, "generation {number}: {text}"),
            }
        }
        for (_, child) in self.children.iter() {
            let files = self.logs.descriptors(&child.logs);
            if !files.is_empty()
                && let Err(error) = child.order(&Order::Reopen, &files)
            {
                log::warn!(target: LOG, "{} keeps its old logs: {error}", child.role);
            }
        }
        log::info!(target: LOG, "the logs are open anew");
        self.status.reopened += 1;
        self.write_status();
    }

    /// Certificates and the like that changed on disk go to the workers without a reload.
    pub(super) fn refresh(&mut self) {
        let number = self.status.generation;
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        let Refresh { updates, warnings } = self.program.refresh(&mut held.plan);
        for line in warnings {
            log::warn!(target: LOG, "{line}");
        }
        for update in updates {
            let content = match file::in_memory(c"update", &update) {
                Ok(content) => content,
                Err(error) => {
                    log::error!(target: LOG, "an update cannot be handed on: {error}");
                    continue;
                }
            };
            self.hand_on(number, &content);
        }
    }

    fn hand_on(&self, generation: u64, content: &OwnedFd) {
        let of_it = |c: &Child| c.generation == generation && c.is_worker();
        for (_, child) in self.children.iter().filter(|(_, c)| of_it(c)) {
            if let Err(error) = child.order(&Order::Update, &[content.as_fd()]) {
                log::warn!(target: LOG, "{} does not take an update: {error}", child.role);
            }
        }
    }
}

/// How a helper leaves: with an answer to what it was asked, but without waiting for more. (A
/// signal would end it in the middle of an answer.)
const SOON: Drain = Drain {
    ordinary: Some(Duration::from_secs(1)),
    upgraded: Some(Duration::from_secs(1)),
    stopping: true,
};

/// In the child: its own descriptors of everything that it serves. What is missing then is told
/// by the child itself.
fn fill<P: Program>(
    master: &Master<P>,
    held: &Held<P::Plan>,
    mut start: Start,
    threads: usize,
) -> Start {
    let (claim, loops, first) = match start.role {
        Role::Worker(index) => {
            let first = usize::try_from(index).unwrap_or(0).saturating_mul(threads);
            start.pins = held::pins(&held.spec, index);
            (&held.claims.workers, threads, first)
        }
        Role::Admin => (&held.claims.admin, 1, 0),
        Role::Demo => (&held.claims.demo, 1, 0),
    };
    for own in first..first.saturating_add(loops) {
        match master.sockets.of_loop(claim, own) {
            Ok(sockets) => start.sockets.push(sockets),
            Err(_no_descriptor) => start.sockets.push(Vec::new()),
        }
    }
    let files = master.logs.descriptors(&held.spec.logs);
    for (path, fd) in held.spec.logs.iter().zip(files) {
        if let Ok(fd) = fd.try_clone_to_owned() {
            start.logs.push((path.clone(), fd));
        }
    }
    start
}

/// Users that children of root take on when the configuration names none.
const DEFAULT_USERS: [&str; 2] = ["proxyd", "nobody"];

/// Root never serves as root only because nobody said otherwise.
fn default_identity() -> Option<Identity> {
    if !privilege::is_root() {
        return None;
    }
    let found = DEFAULT_USERS
        .iter()
        .find_map(|user| Identity::look_up(user, None).ok());
    if found.is_none() {
        log::warn!(target: LOG, "there is no user proxyd or nobody: children stay root");
    }
    found
}

/// The user of the children; without root, only a word about it.
fn identity(spec: &Spec) -> Result<Option<Identity>, String> {
    let Some(user) = &spec.master.user else {
        return Ok(default_identity());
    };
    let group = spec.master.group.as_deref();
    let identity = Identity::look_up(user, group).map_err(|e| e.to_string())?;
    if !privilege::is_root() && !identity.is_current() {
        log::warn!(target: LOG, "not started as root: the user {user} is not taken on");
    }
    Ok(Some(identity))
}
