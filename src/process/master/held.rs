//! What the master keeps of each generation while any of it runs: its configuration, its plan and
//! its claims on sockets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::sockets::{Claim, Sharing, Sockets};
use super::supervisor::{Params, restart};
use crate::base::addr::BindAddr;
use crate::conf::model::{AcceptMode, Affinity};
use crate::process::program::{Bound, Listen, Spec};
use crate::proto::control::Drain;
use crate::sys::limits;
use crate::sys::privilege::Identity;

/// One generation.
#[derive(Debug)]
pub struct Held<Plan> {
    /// The configuration, as far as it concerns the processes.
    pub spec: Spec,
    /// The rest of it.
    pub plan: Plan,
    /// The user of its children.
    pub identity: Option<Identity>,
    /// Its sockets.
    pub claims: Claims,
    /// It served, or serves.
    pub was_live: bool,
    /// Its workers that are to be started again, but not yet.
    pub absent: BTreeSet<u32>,
}

impl<Plan> Held<Plan> {
    /// The event loops of the absent workers.
    #[must_use]
    pub fn absent_loops(&self) -> Vec<usize> {
        let threads = usize::try_from(self.spec.worker.threads.max(1)).unwrap_or(1);
        let first = |&worker: &u32| usize::try_from(worker).unwrap_or(0) * threads;
        let loops = |first: usize| first..first + threads;
        self.absent.iter().map(first).flat_map(loops).collect()
    }
}

/// The sockets of a generation by kind of process.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Of the workers.
    pub workers: Claim,
    /// Of the admin process.
    pub admin: Claim,
    /// Of the demo servers.
    pub demo: Claim,
}

impl Claims {
    /// Opens what is missing.
    ///
    /// # Errors
    /// Which address cannot be used, and why. Nothing is left open then.
    pub fn make(sockets: &mut Sockets, spec: &Spec) -> Result<Self, String> {
        let helper = |kind| Sharing {
            kind,
            mode: AcceptMode::Shared,
            loops: 1,
        };
        let workers = sockets.claim(
            &spec.listen,
            Sharing {
                kind: "worker",
                mode: spec.worker.accept,
                loops: loops(spec),
            },
        )?;
        let admin = match sockets.claim(&spec.admin, helper("admin")) {
            Ok(admin) => admin,
            Err(text) => {
                sockets.release(&workers);
                return Err(text);
            }
        };
        let places: Vec<Listen> = spec.demo.iter().map(|n| demo_place(*n)).collect();
        match sockets.claim(&places, helper("demo")) {
            Ok(demo) => Ok(Self {
                workers,
                admin,
                demo,
            }),
            Err(text) => {
                sockets.release(&admin);
                sockets.release(&workers);
                Err(text)
            }
        }
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> [&Claim; 3] {
        [&self.workers, &self.admin, &self.demo]
    }

    /// Where everything really is.
    #[must_use]
    pub fn bound(&self, sockets: &Sockets, spec: &Spec) -> Bound {
        let demo = sockets.addresses(&self.demo);
        let pairs = spec.demo.iter().zip(demo);
        Bound {
            listen: sockets.addresses(&self.workers),
            admin: sockets.addresses(&self.admin),
            demo: pairs.filter_map(|(n, addr)| Some((*n, addr?))).collect(),
            logs: Vec::new(),
        }
    }
}

fn demo_place(number: u16) -> Listen {
    Listen {
        name: format!("demo-{number}"),
        bind: BindAddr::Ip((std::net::Ipv4Addr::LOCALHOST, 0).into()),
        backlog: 511,
        mode: 0o600,
    }
}

/// The number of workers.
#[must_use]
pub fn workers(spec: &Spec) -> u32 {
    match spec.worker.count {
        0 => u32::try_from(limits::cpu_count()).unwrap_or(1),
        count => count,
    }
}

/// The number of event loops in all workers.
fn loops(spec: &Spec) -> usize {
    let all = u64::from(workers(spec)) * u64::from(spec.worker.threads.max(1));
    usize::try_from(all).unwrap_or(1)
}

/// For each event loop of a worker, the processors it is bound to.
#[must_use]
pub fn pins(spec: &Spec, worker: u32) -> Vec<Option<Vec<usize>>> {
    let threads = usize::try_from(spec.worker.threads.max(1)).unwrap_or(1);
    let first = usize::try_from(worker).unwrap_or(0).saturating_mul(threads);
    match &spec.worker.affinity {
        Affinity::None => Vec::new(),
        Affinity::Auto => {
            let cpus = limits::cpus().unwrap_or_default();
            // Fewer loops than processors are better left to the kernel, and so are more.
            if loops(spec) != cpus.len() || limits::cpu_count() != cpus.len() {
                return Vec::new();
            }
            let own = cpus.into_iter().skip(first).take(threads);
            own.map(|cpu| Some(vec![cpu])).collect()
        }
        Affinity::Lists(lists) => {
            let index = usize::try_from(worker).unwrap_or(0);
            let list = lists.get(index % lists.len().max(1));
            let cpus = list.map(|cpus| {
                let number = |cpu: &u32| usize::try_from(*cpu).ok();
                cpus.iter().filter_map(number).collect::<Vec<usize>>()
            });
            vec![cpus.filter(|c| !c.is_empty()); threads]
        }
    }
}

/// How a worker leaves when nobody can tell it how.
#[must_use]
pub const fn alone(spec: &Spec) -> Drain {
    Drain {
        ordinary: Some(spec.master.drain_timeout),
        upgraded: Some(spec.master.drain_timeout_upgraded),
        stopping: true,
    }
}

/// Which log files any of the generations uses.
#[must_use]
pub fn logs_in_use<'a, Plan: 'a>(all: impl Iterator<Item = &'a Held<Plan>>) -> Vec<PathBuf> {
    all.flat_map(|held| held.spec.logs.iter().cloned())
        .collect()
}

/// What the supervisor must know.
#[must_use]
pub fn params(spec: &Spec) -> Params {
    let (master, watchdog) = (&spec.master, &spec.watchdog);
    Params {
        workers: workers(spec),
        admin: !spec.admin.is_empty(),
        demo: !spec.demo.is_empty(),
        ready_timeout: master.ready_timeout,
        stop_timeout: master.stop_timeout,
        drain_timeout: master.drain_timeout,
        drain_timeout_upgraded: master.drain_timeout_upgraded,
        drain_longest: master
            .drain_timeout
            .max(master.drain_timeout_upgraded)
            .max(spec.drain_longest),
        drain_memory_max: master.drain_memory_max,
        max_generations: master.max_generations.max(1),
        drain_spread: master.drain_spread,
        reload_debounce: master.reload_debounce,
        heartbeat_timeout: watchdog.heartbeat_timeout.max(HEARTBEAT_TIMEOUT_MIN),
        restart: restart::Policy {
            delay: watchdog.restart_delay,
            max: watchdog.max_restarts,
            window: watchdog.restart_window,
            alert_after: watchdog.alert_after,
        },
    }
}

/// A worker says that it is alive twice a second; less than this would be a coin toss.
const HEARTBEAT_TIMEOUT_MIN: Duration = Duration::from_secs(2);
