//! What the machine lets us use: descriptors, processors, memory of a process.

use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Raises the number of open files to `want`, or as far as it goes without it, and returns what
/// holds now. Without privilege the hard limit is the end.
///
/// # Errors
/// When the limits cannot be read.
pub fn raise_open_files(want: Option<u64>) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let target = want.unwrap_or(hard);
    if target > hard && setrlimit(Resource::RLIMIT_NOFILE, target, target).is_ok() {
        return Ok(target);
    }
    let reachable = target.min(hard);
    if reachable > soft {
        setrlimit(Resource::RLIMIT_NOFILE, reachable, hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// The processors this process may use: its affinity and the quota of its control group.
#[must_use]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The numbers of the processors this process may run on.
///
/// # Errors
/// When the kernel does not tell.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Binds the calling thread to the processors.
///
/// # Errors
/// When one of them does not exist or may not be used.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// The resident memory of a process in bytes.
#[must_use]
pub fn resident_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size()))
}

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|s| u64::try_from(s).ok())
        .unwrap_or(4096)
}

/// No core file from this process, whatever kills it.
///
/// # Errors
/// When the limit cannot be set.
pub fn forbid_core_files() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_never_sink() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0;
        assert!(raise_open_files(Some(16)).unwrap() >= before);
        assert!(raise_open_files(None).unwrap() >= before);
    }

    #[test]
    fn there_is_a_processor_and_a_thread_can_be_bound_to_it() {
        let all = cpus().unwrap();
        assert!(cpu_count() >= 1 && cpu_count() <= all.len());
        std::thread::spawn(move || {
            let one = vec![*all.last().unwrap()];
            pin(&one).unwrap();
            assert_eq!(cpus().unwrap(), one);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn own_memory_is_known_and_that_of_nobody_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert_eq!(resident_bytes(0), None);
    }
}
