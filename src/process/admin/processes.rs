//! The living processes: who they are from the shared table, what they use from `/proc`.

use crate::base::time::Instant;
use crate::metric::{Owner, Role, Sample, Table, catalog, sample};
use crate::sys::usage::Usage;
use std::time::Duration;

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// `master`, `admin` or `worker-N`.
    pub(super) name: String,
    /// Who it is; of a worker with several event loops, the first.
    pub(super) owner: Owner,
    /// What it uses.
    pub(super) usage: Usage,
}

/// Everybody who owns a column and is alive, in order of name and generation.
pub(super) fn living(table: &Table) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    for owner in table.used().filter_map(|column| table.owner(column)) {
        if found.iter().any(|known| known.owner.pid == owner.pid) {
            continue;
        }
        if let Some(usage) = Usage::of(owner.pid) {
            found.push(Process {
                name: name(&owner),
                owner,
                usage,
            });
        }
    }
    found.sort_by_key(|p| (rank(p.owner.role), p.owner.worker, p.owner.generation));
    found
}

/// What a scrape shows of them.
pub(super) fn samples(processes: &[Process]) -> Vec<Sample> {
    let mut samples = vec![sample(
        &catalog::BUILD_INFO,
        &[env!("CARGO_PKG_VERSION")],
        1,
    )];
    for process in processes {
        let labels = [&*process.name, &*process.owner.generation.to_string()];
        let cpu = u64::try_from(process.usage.cpu.as_nanos()).unwrap_or(u64::MAX);
        samples.push(sample(&catalog::PROCESS_UP, &labels, 1));
        samples.push(sample(&catalog::PROCESS_CPU, &labels, cpu));
        samples.push(sample(
            &catalog::PROCESS_MEMORY,
            &labels,
            process.usage.resident,
        ));
        if let Some(descriptors) = process.usage.descriptors {
            samples.push(sample(&catalog::PROCESS_FDS, &labels, descriptors));
        }
    }
    samples
}

/// Whether a worker lives whose event loop turned not longer ago than `fresh`.
pub(super) fn serves(table: &Table, now: Instant, fresh: Duration) -> bool {
    let mut owners = table.used().filter_map(|column| table.owner(column));
    owners.any(|owner| owner.role == Role::Worker && now - owner.heartbeat <= fresh)
}

fn name(owner: &Owner) -> String {
    match owner.role {
        Role::Master => "master".to_owned(),
        Role::Admin => "admin".to_owned(),
        Role::Worker => format!("worker-{}", owner.worker),
    }
}

const fn rank(role: Role) -> u8 {
    match role {
        Role::Master => 0,
        Role::Worker => 1,
        Role::Admin => 2,
    }
}
