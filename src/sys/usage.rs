//! What a process of this machine uses, from `/proc`. A process that is gone uses nothing.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open descriptors; `None` where the kernel does not tell.
    pub descriptors: Option<u64>,
}

impl Usage {
    /// Of a living process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu: cpu(&stat, ticks_per_second())?,
            resident: resident(&status)?,
            descriptors: descriptors(pid),
        })
    }
}

fn ticks_per_second() -> u64 {
    let known = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    known.and_then(|n| u64::try_from(n).ok()).unwrap_or(100)
}

/// The name in the second field may hold anything, so fields are counted after its last bracket.
fn cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let nanos = (user + system).saturating_mul(1_000_000_000 / ticks_per_second.max(1));
    Some(Duration::from_nanos(nanos))
}

/// A zombie has no memory and no such line.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Listing the folder needs more rights than asking for its size, which newer kernels set to the
/// number of descriptors.
fn descriptors(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    if let Ok(list) = fs::read_dir(&folder) {
        return u64::try_from(list.count()).ok();
    }
    let size = fs::metadata(&folder).ok()?.len();
    (size > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000);
        assert!(usage.descriptors.unwrap() >= 3);
    }

    #[test]
    fn nobody_uses_nothing() {
        assert_eq!(Usage::of(u32::MAX), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(cpu("7 (a) S", 100), None);
        assert_eq!(resident("Name:\ta\nVmRSS:\t  12 kB\n"), Some(12288));
        assert_eq!(resident("Name:\ta\n"), None);
    }
}
