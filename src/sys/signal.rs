//! Signals as a descriptor that can be waited for like any other, and as orders to children. No
//! handler runs code of ours, with one exception: a worker that gets `TERM` shuts its own control
//! socket, which it then sees as the end of its master.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{self as nix_signal, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::process::Pid;

/// The signals that mean something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Reload.
    Hup,
    /// Bounded graceful stop.
    Term,
    /// As `Term`, from a terminal.
    Int,
    /// Graceful stop without bound.
    Quit,
    /// Reopen the logs.
    Usr1,
    /// Binary upgrade.
    Usr2,
    /// A child ended.
    Chld,
    /// The end, at once.
    Kill,
}

const ALL: [Signal; 8] = [
    Signal::Hup,
    Signal::Term,
    Signal::Int,
    Signal::Quit,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Chld,
    Signal::Kill,
];

impl Signal {
    const fn native(self) -> nix_signal::Signal {
        match self {
            Self::Hup => nix_signal::Signal::SIGHUP,
            Self::Term => nix_signal::Signal::SIGTERM,
            Self::Int => nix_signal::Signal::SIGINT,
            Self::Quit => nix_signal::Signal::SIGQUIT,
            Self::Usr1 => nix_signal::Signal::SIGUSR1,
            Self::Usr2 => nix_signal::Signal::SIGUSR2,
            Self::Chld => nix_signal::Signal::SIGCHLD,
            Self::Kill => nix_signal::Signal::SIGKILL,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        ALL.into_iter()
            .find(|s| u32::try_from(s.native() as i32) == Ok(number))
    }

    /// Its usual name, `SIGHUP`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Chld => "SIGCHLD",
            Self::Kill => "SIGKILL",
        }
    }
}

/// The name of any signal by its number, for messages about children that died.
#[must_use]
pub fn name_of(number: i32) -> String {
    nix_signal::Signal::try_from(number)
        .map_or_else(|_e| format!("signal {number}"), |s| s.as_str().to_owned())
}

/// The signals of this process, to be waited for.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal of the calling thread, except those that report a defect of the
    /// program itself, and collects ours. Call before anything else.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn block() -> io::Result<Self> {
        let mut blocked = SigSet::all();
        for defect in [
            nix_signal::Signal::SIGSEGV,
            nix_signal::Signal::SIGBUS,
            nix_signal::Signal::SIGFPE,
            nix_signal::Signal::SIGILL,
            nix_signal::Signal::SIGABRT,
            nix_signal::Signal::SIGTRAP,
            nix_signal::Signal::SIGSYS,
        ] {
            blocked.remove(defect);
        }
        nix_signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
        let mut ours = SigSet::empty();
        for signal in ALL {
            if signal != Signal::Kill {
                ours.add(signal.native());
            }
        }
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&ours, flags)?))
    }

    /// The next signal that came, if any.
    ///
    /// # Errors
    /// When the descriptor is broken.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        loop {
            match self.0.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => {
                    if let Some(signal) = Signal::from_number(info.ssi_signo) {
                        return Ok(Some(signal));
                    }
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The control socket that `TERM` shuts; -1 before it is set.
static CONTROL: AtomicI32 = AtomicI32::new(-1);

#[expect(unsafe_code, reason = "a handler may call nothing but system calls")]
extern "C" fn shut_control(_signal: i32) {
    let fd = CONTROL.load(Ordering::Relaxed);
    if fd >= 0 {
        // SAFETY: shutdown is async-signal-safe and touches no memory. errno is put back, so
        // that the interrupted code does not notice.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            libc::shutdown(fd, libc::SHUT_RD);
            *errno = before;
        }
    }
}

/// In a child: signals meant for the master (a terminal sends them to the whole group) are
/// ignored, the others get their default action, and the mask of the master is lifted.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn reset_in_child() -> io::Result<()> {
    for signal in [
        Signal::Hup,
        Signal::Int,
        Signal::Quit,
        Signal::Usr1,
        Signal::Usr2,
    ] {
        dispose(signal.native(), SigHandler::SigIgn)?;
    }
    dispose(nix_signal::Signal::SIGPIPE, SigHandler::SigIgn)?;
    for signal in [
        nix_signal::Signal::SIGTERM,
        nix_signal::Signal::SIGCHLD,
        // The handlers of the standard library survive these when they come from outside.
        nix_signal::Signal::SIGSEGV,
        nix_signal::Signal::SIGBUS,
    ] {
        dispose(signal, SigHandler::SigDfl)?;
    }
    nix_signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// In a worker: `TERM` makes the control socket look closed, so that the worker drains and
/// leaves as if its master were gone. (A service manager may send `TERM` to the whole group.)
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn drain_on_term(control: RawFd) -> io::Result<()> {
    CONTROL.store(control, Ordering::Relaxed);
    dispose(
        nix_signal::Signal::SIGTERM,
        SigHandler::Handler(shut_control),
    )
}

#[expect(
    unsafe_code,
    reason = "setting a handler is unsafe because of what it may call"
)]
fn dispose(signal: nix_signal::Signal, handler: SigHandler) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the only handler of ours is `shut_control`, which is async-signal-safe.
    unsafe { nix_signal::sigaction(signal, &action) }?;
    Ok(())
}

/// Sends a signal to a process. That it is gone already is not an error.
///
/// # Errors
/// When we may not.
pub fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    match nix_signal::kill(nix::unistd::Pid::from_raw(pid.0), signal.native()) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Exit, Fork, exit_now, fork_for_test, wait_for};
    use crate::sys::{fdpass, process};
    use std::os::fd::AsRawFd;

    /// Runs the body in a child of its own, so that masks and handlers stay there.
    fn in_child(body: impl FnOnce() -> bool) -> Exit {
        match fork_for_test().unwrap() {
            Fork::Child => {
                let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                exit_now(i32::from(!fine.unwrap_or(false)));
            }
            Fork::Parent(pid) => wait_for(pid).unwrap(),
        }
    }

    #[test]
    fn signals_come_through_the_descriptor() {
        let exit = in_child(|| {
            let signals = Signals::block().unwrap();
            assert!(signals.next().unwrap().is_none());
            send(process::own_pid(), Signal::Hup).unwrap();
            send(process::own_pid(), Signal::Term).unwrap();
            let mut got = Vec::new();
            while let Some(signal) = signals.next().unwrap() {
                got.push(signal);
            }
            got.sort_by_key(|s| s.name());
            got == [Signal::Hup, Signal::Term]
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn a_child_ignores_what_is_meant_for_the_master() {
        let exit = in_child(|| {
            let _signals = Signals::block().unwrap();
            reset_in_child().unwrap();
            for signal in [Signal::Hup, Signal::Int, Signal::Quit, Signal::Usr1] {
                send(process::own_pid(), signal).unwrap();
            }
            true
        });
        assert_eq!(exit, Exit::Code(0));
        let exit = in_child(|| {
            let _signals = Signals::block().unwrap();
            reset_in_child().unwrap();
            send(process::own_pid(), Signal::Term).unwrap();
            true
        });
        assert_eq!(exit, Exit::Signal(libc::SIGTERM));
    }

    #[test]
    fn term_looks_like_the_end_of_the_master() {
        let exit = in_child(|| {
            let (master, worker) = fdpass::pair().unwrap();
            reset_in_child().unwrap();
            drain_on_term(worker.as_raw_fd()).unwrap();
            let mut buf = [0; 8];
            assert!(fdpass::recv(worker.as_fd(), &mut buf).is_err());
            send(process::own_pid(), Signal::Term).unwrap();
            assert_eq!(fdpass::recv(worker.as_fd(), &mut buf).unwrap().len, 0);
            // The other direction still works: the worker can report.
            fdpass::send(worker.as_fd(), b"bye", &[]).unwrap();
            fdpass::recv(master.as_fd(), &mut buf).unwrap().len == 3
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn names() {
        assert_eq!(name_of(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(name_of(99), "signal 99");
        assert_eq!(Signal::from_number(1), Some(Signal::Hup));
        assert_eq!(Signal::from_number(11), None);
    }
}
