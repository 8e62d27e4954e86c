//! The master: a thin shell around the supervisor. It turns signals, ends of children, their
//! words and the time into events, and carries the actions out. It has one thread for life, reads
//! no byte of the network, and decides nothing that the supervisor could decide.

mod act;
mod children;
mod counts;
mod detach;
mod held;
mod logs;
pub mod sockets;
pub mod supervisor;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::pidfile::PidFile;
use super::program::Program;
use super::status::Status;
use crate::base::time::Instant;
use crate::proto::control::Report;
use crate::sys::notify::{Manager, State};
use crate::sys::process::{self, Pid};
use crate::sys::signal::{Signal, Signals};
use crate::sys::title::Title;
use crate::sys::{clock, limits};

use children::{Children, Heard};
use counts::Counts;
use detach::Waiting;
use held::Held;
use logs::LogFiles;
use sockets::Sockets;
use supervisor::{ChildId, Event, Supervisor};

/// What the lines of the master are filed under.
const LOG: &str = "proxyd::process::master";

/// How the master is started, beyond what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-d`: go to the background when ready.
    pub detach: bool,
}

/// Runs the master to its end and returns the exit code. Must be called while the process has one
/// thread.
pub fn run<P: Program>(program: P, options: Options) -> u8 {
    let title = Title::capture();
    let mut manager = Manager::take();
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!(target: LOG, "cannot receive signals: {error}");
            return 1;
        }
    };
    let inherited = manager.sockets();
    for trouble in manager.unusable() {
        log::warn!(target: LOG, "a handed-over descriptor is of no use: {trouble}");
    }
    let mut master = Master {
        program,
        options,
        title,
        manager,
        signals,
        poll: None,
        supervisor: Supervisor::new(),
        children: Children::default(),
        held: BTreeMap::new(),
        sockets: Sockets::new(inherited),
        logs: LogFiles::default(),
        counts: Counts::default(),
        status: Status::default(),
        covering: 0,
        pid_file: None,
        waiting: Waiting::default(),
        chores: Chores::new(clock::monotonic()),
        exit: None,
    };
    master.happen(Event::Reload);
    let code = master.serve();
    master.clean_up(code);
    code
}

/// Everything the master has.
struct Master<P: Program> {
    program: P,
    options: Options,
    title: Title,
    manager: Manager,
    signals: Signals,
    /// Made after the last fork into the background: a poll of signals belongs to one process.
    poll: Option<Poll>,
    supervisor: Supervisor,
    children: Children,
    held: BTreeMap<u64, Held<P::Plan>>,
    sockets: Sockets,
    logs: LogFiles,
    counts: Counts,
    status: Status,
    /// The requests to reload that the load in progress covers.
    covering: u64,
    pid_file: Option<PidFile>,
    waiting: Waiting,
    chores: Chores,
    /// The supervisor said to leave.
    exit: Option<u8>,
}

/// When the things that are done again and again are due.
#[derive(Clone, Copy, Debug)]
struct Chores {
    beats: Instant,
    rare: Instant,
    watchdog: Instant,
}

impl Chores {
    const fn new(now: Instant) -> Self {
        Self {
            beats: now,
            rare: now,
            watchdog: now,
        }
    }

    fn next(&self) -> Instant {
        self.beats.min(self.rare).min(self.watchdog)
    }
}

const SIGNALS: Token = Token(0);

/// How often heartbeats are looked at; more often where the timeout is short.
const BEATS_INTERVAL: Duration = Duration::from_secs(1);

/// How often files and memory are looked at.
const RARE_INTERVAL: Duration = Duration::from_secs(2);

impl<P: Program> Master<P> {
    /// Takes an event to the supervisor and does what it says, and what follows from that.
    fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.supervisor.step(clock::monotonic(), event);
            for action in actions {
                events.extend(self.act(action));
            }
        }
    }

    /// The loop, until the supervisor says to leave.
    fn serve(&mut self) -> u8 {
        let mut events = Events::with_capacity(64);
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            if let Err(error) = self.wait(&mut events) {
                log::error!(target: LOG, "the master cannot wait for events: {error}");
                return 1;
            }
            for event in &events {
                match event.token() {
                    SIGNALS => self.take_signals(),
                    token => {
                        if let Some(child) = ChildId::of_token(token) {
                            self.listen(child);
                        }
                    }
                }
            }
            self.do_chores();
            self.happen(Event::Tick);
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = clock::monotonic();
        let next = self.chores.next();
        let due = self.supervisor.deadline().map_or(next, |at| at.min(next));
        // A whole millisecond more, because the kernel counts in those and would wake us early.
        let timeout = due.saturating_since(now) + Duration::from_millis(1);
        let Some(poll) = &mut self.poll else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            done => done,
        }
    }

    /// Begins to listen to signals and children.
    fn open_poll(&mut self) -> io::Result<()> {
        let poll = Poll::new()?;
        let fd = self.signals.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
        self.poll = Some(poll);
        Ok(())
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(signal)) => self.take_signal(signal),
                Ok(None) => return,
                Err(error) => {
                    log::error!(target: LOG, "signals cannot be read: {error}");
                    return;
                }
            }
        }
    }

    fn take_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Chld => self.reap(),
            Signal::Hup => {
                log::info!(target: LOG, "{}: reloading", signal.name());
                self.status.received += 1;
                self.write_status();
                self.happen(Event::Reload);
            }
            Signal::Term | Signal::Int => {
                log::info!(target: LOG, "{}: stopping", signal.name());
                self.happen(Event::Stop);
            }
            Signal::Quit => {
                log::info!(target: LOG,
                    "{}: stopping when the last connection is over",
                    signal.name()
                );
                self.happen(Event::Quit);
            }
            Signal::Usr1 => self.reopen_logs(),
            Signal::Usr2 | Signal::Kill => {
                log::warn!(target: LOG, "{}: nothing to do", signal.name());
            }
        }
    }

    /// Children that ended, and orphans that became ours as process 1.
    fn reap(&mut self) {
        while let Some((pid, exit)) = process::reap() {
            let Some(child) = self.children.find(pid) else {
                continue;
            };
            // Its last words come first: they say why.
            self.listen(child);
            let poll = self.poll.as_ref().map(Poll::registry);
            let gone = poll.and_then(|poll| self.children.remove(child, poll));
            if let Some(gone) = gone {
                let registry = self.program.metrics().map(|(registry, _)| &*registry);
                self.counts.give_back(registry, &gone.columns);
            }
            self.counts.generations(self.children.generations());
            self.happen(Event::Exited(child, exit));
        }
    }

    fn listen(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let (role, generation, pid) = (child.role, child.generation, child.pid);
        for heard in child.listen() {
            match heard {
                Heard::Report(Report::Ready) => self.happen(Event::Ready(id)),
                Heard::Report(Report::Failed(text)) => self.happen(Event::Failed(id, text)),
                Heard::Report(Report::Warning(text)) => {
                    log::warn!(target: LOG, "{role} of generation {generation}: {text}");
                }
                Heard::Nonsense => {
                    log::error!(target: LOG, "{role} of generation {generation} talks nonsense; killed");
                    self.signal(pid, Signal::Kill);
                }
            }
        }
    }

    fn signal(&self, pid: Pid, signal: Signal) {
        if let Err(error) = crate::sys::signal::send(pid, signal) {
            log::error!(target: LOG, "process {pid} cannot be sent {}: {error}", signal.name());
        }
    }

    /// What is done again and again.
    fn do_chores(&mut self) {
        let now = clock::monotonic();
        if now >= self.chores.beats {
            self.chores.beats = now + self.beats_interval();
            self.counts.beat(now);
            crate::log::tick();
            self.look_at_beats();
        }
        if now >= self.chores.rare {
            self.chores.rare = now + RARE_INTERVAL;
            self.weigh_children();
            self.refresh();
            if let Some((registry, table)) = self.program.metrics() {
                registry.settle(&table);
            }
        }
        if now >= self.chores.watchdog {
            let interval = self.manager.watchdog_interval();
            self.chores.watchdog = interval.map_or(Instant::FAR, |i| now + i);
            if interval.is_some() {
                self.manager.report(&State::Watchdog, "", now);
            }
        }
    }

    fn beats_interval(&self) -> Duration {
        let timeouts = self
            .held
            .values()
            .map(|h| h.spec.watchdog.heartbeat_timeout);
        timeouts.min().map_or(BEATS_INTERVAL, |t| {
            (t / 4).clamp(Duration::from_millis(250), BEATS_INTERVAL)
        })
    }

    fn look_at_beats(&mut self) {
        let workers = self.children.iter().filter(|(_, c)| c.is_worker());
        let beats: Vec<Event> = workers
            .filter_map(|(id, c)| Some(Event::Beat(id, self.counts.oldest_beat(&c.columns)?)))
            .collect();
        beats.into_iter().for_each(|beat| self.happen(beat));
    }

    fn weigh_children(&mut self) {
        if self.children.generations() < 2 {
            return; // only what drains has a bound
        }
        let workers = self.children.iter().filter(|(_, c)| c.is_worker());
        let weights: Vec<Event> = workers
            .filter_map(|(id, c)| Some(Event::Memory(id, limits::resident_bytes(c.pid.0)?)))
            .collect();
        weights.into_iter().for_each(|weight| self.happen(weight));
    }

    fn write_status(&self) {
        let live = self.held.get(&self.status.generation);
        let held = live.or_else(|| self.held.values().next());
        let path = held.and_then(|h| h.spec.master.pid_file.as_ref());
        if let (Some(path), true) = (path, self.pid_file.is_some())
            && let Err(error) = self.status.write(path)
        {
            log::warn!(target: LOG, "status file {}: {error}", Status::path(path).display());
        }
    }

    /// The end: files that only a running master has.
    fn clean_up(&mut self, code: u8) {
        self.sockets.close_all();
        if let Some(file) = self.pid_file.take() {
            let _gone = std::fs::remove_file(Status::path(file.path()));
        }
        if code == 0 {
            log::info!(target: LOG, "stopped");
        }
        crate::log::tick();
        self.waiting.release(code, true);
    }
}
