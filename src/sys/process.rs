//! Processes: fork, wait, identity, and what a child must shed. Why a process is forked, and what
//! is done when it ends, is not decided here.

#![expect(unsafe_code, reason = "fork and prctl have no safe form")]

use std::fs;
use std::io;
use std::os::fd::RawFd;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::ForkResult;

/// The number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub i32);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which side of a fork we are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The old process, with the number of the new one.
    Parent(Pid),
    /// The new process.
    Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(number) => f.write_str(&super::signal::name_of(*number)),
        }
    }
}

/// Splits the process in two.
///
/// # Errors
/// When the process has a second thread (its locks would stay locked for ever in the child), or
/// when the kernel has no room.
pub fn fork() -> io::Result<Fork> {
    if thread_count() != 1 {
        return Err(io::Error::other("a process with threads must not fork"));
    }
    // SAFETY: there is exactly one thread, so the child finds every lock free and all memory in
    // the state the parent left it.
    let result = unsafe { nix::unistd::fork() };
    Ok(match result? {
        ForkResult::Parent { child } => Fork::Parent(Pid(child.as_raw())),
        ForkResult::Child => Fork::Child,
    })
}

/// [`fork`] for tests, whose harness has threads: the child must do little and end by
/// [`exit_now`].
///
/// # Errors
/// When the kernel has no room.
#[cfg(test)]
pub fn fork_for_test() -> io::Result<Fork> {
    // SAFETY: the C library repairs its allocator in the child, and test children touch no other
    // lock that another thread may hold.
    let result = unsafe { nix::unistd::fork() };
    Ok(match result? {
        ForkResult::Parent { child } => Fork::Parent(Pid(child.as_raw())),
        ForkResult::Child => Fork::Child,
    })
}

/// The number of threads of this process.
#[must_use]
pub fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Ends this process at once: no destructor runs and no buffer is written.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// One child that has ended, if any; also orphans that were handed to us as process 1.
#[must_use]
pub fn reap() -> Option<(Pid, Exit)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Some((Pid(pid.as_raw()), Exit::Code(code)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _core)) => {
                return Some((Pid(pid.as_raw()), Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return None,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Waits for the end of one child.
///
/// # Errors
/// When it is not a child of ours.
pub fn wait_for(pid: Pid) -> io::Result<Exit> {
    loop {
        match waitpid(nix::unistd::Pid::from_raw(pid.0), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Exit::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _core)) => return Ok(Exit::Signal(signal as i32)),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Our own number.
#[must_use]
pub fn own_pid() -> Pid {
    Pid(nix::unistd::getpid().as_raw())
}

/// The number of our parent; 1 (or that of a subreaper) when it is gone.
#[must_use]
pub fn parent_pid() -> Pid {
    Pid(nix::unistd::getppid().as_raw())
}

/// Whether a process lives that we may or may not signal. A zombie does not live.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    stat_field(pid, 0).is_some_and(|state| state != "Z" && state != "X")
}

/// When a process started, in clock ticks after boot: with the number it names one process for
/// ever, though numbers are used again.
#[must_use]
pub fn start_ticks(pid: Pid) -> Option<u64> {
    stat_field(pid, 19)?.parse().ok()
}

/// A field of `/proc/PID/stat`, counted from the state, the first one after the name.
fn stat_field(pid: Pid, index: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; the last bracket ends it.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(index).map(str::to_owned)
}

/// A session of our own, without a controlling terminal.
///
/// # Errors
/// When we lead a process group already.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Closes every descriptor above the standard three that is not in `keep`.
///
/// # Errors
/// When the kernel is older than 5.9.
pub fn close_all_except(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|&fd| u32::try_from(fd).ok())
        .collect();
    keep.sort_unstable();
    let mut from = 3_u32;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd.saturating_add(1));
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: touches no memory. That no owner in this process uses a closed number afterwards is
    // the contract of `close_all_except`: it runs in a child that never returns to them.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The parent's end sends `TERM` to this process. Must run after a change of user, which lifts it.
///
/// # Errors
/// When the parent is gone already, or the kernel refuses.
pub fn end_with_parent(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    if parent_pid() != parent {
        return Err(io::Error::other("the parent is gone"));
    }
    Ok(())
}

/// Whether other processes of the same user may look into this one, and core files are written.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    nix::sys::prctl::set_dumpable(dumpable)?;
    Ok(())
}

/// Adopts orphaned grandchildren, as process 1 does by nature.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(thread_count() > 1);
        assert!(fork().is_err());
        drop(stop);
        assert!(thread.join().unwrap().is_err());
    }

    #[test]
    fn the_end_of_a_child_is_told_exactly() {
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            exit_now(7);
        };
        assert_eq!(wait_for(pid).unwrap(), Exit::Code(7));
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        };
        assert!(is_alive(pid));
        assert!(start_ticks(pid).unwrap() >= start_ticks(own_pid()).unwrap());
        crate::sys::signal::send(pid, crate::sys::signal::Signal::Kill).unwrap();
        let exit = wait_for(pid).unwrap();
        assert_eq!(exit, Exit::Signal(libc::SIGKILL));
        assert_eq!(exit.to_string(), "SIGKILL");
        assert!(!is_alive(pid));
        assert_eq!(start_ticks(pid), None);
        assert!(wait_for(pid).is_err());
    }

    #[test]
    fn a_child_closes_what_it_must_not_have() {
        let (a, b) = crate::sys::fdpass::pair().unwrap();
        let c = a.try_clone().unwrap();
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            let keep = [c.as_raw_fd(), b.as_raw_fd()];
            let closed = close_all_except(&keep).is_ok();
            let open = |fd: &std::os::fd::OwnedFd| {
                nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok()
            };
            exit_now(i32::from(!(closed && !open(&a) && open(&b) && open(&c))));
        };
        assert_eq!(wait_for(pid).unwrap(), Exit::Code(0));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            exit_now(0);
        };
        for _ in 0..500 {
            if !is_alive(pid) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!is_alive(pid));
        wait_for(pid).unwrap();
    }

    #[test]
    fn a_child_ends_with_its_parent() {
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            let fine = end_with_parent(parent_pid()).is_ok() && end_with_parent(Pid(0)).is_err();
            exit_now(i32::from(!fine));
        };
        assert_eq!(wait_for(pid).unwrap(), Exit::Code(0));
    }
}
