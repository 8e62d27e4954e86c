//! The service manager: what it handed over in the environment (listening sockets, where to
//! report, how often), and the reports. Without one, everything here does nothing.

#![expect(
    unsafe_code,
    reason = "changing the environment is unsafe with threads"
)]

use std::env;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::{process, socket};
use crate::base::time::Instant;

/// The first descriptor that socket activation hands over.
const FIRST_FD: RawFd = 3;

/// What the service manager wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The start or a reload is over, well or not.
    Ready,
    /// A reload has begun.
    Reloading,
    /// The end has begun.
    Stopping,
    /// Alive.
    Watchdog,
    /// The process that is to be watched from now on.
    MainPid,
}

/// What came with the environment of the process.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// Listening sockets with their names.
    sockets: Vec<(String, OwnedFd)>,
    /// Handed-over descriptors that are no listening sockets.
    unusable: Vec<String>,
}

impl Manager {
    /// Reads the environment and removes what was meant for this process alone. Only once, before
    /// any thread.
    #[must_use]
    pub fn take() -> Self {
        let mut manager = Self {
            socket: report_socket(),
            watchdog: watchdog(),
            ..Self::default()
        };
        if is_for_us("LISTEN_PID") {
            let count = number("LISTEN_FDS").unwrap_or(0).min(1024);
            let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
            let mut names = names.split(':');
            for offset in 0..RawFd::try_from(count).unwrap_or(0) {
                let name = names.next().filter(|n| !n.is_empty()).unwrap_or("unknown");
                match socket::inherit(FIRST_FD + offset) {
                    Ok(fd) => manager.sockets.push((name.to_owned(), fd)),
                    Err(error) => manager.unusable.push(format!("{name}: {error}")),
                }
            }
        }
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
        ] {
            // SAFETY: there is one thread, so nobody reads the environment meanwhile.
            unsafe { env::remove_var(name) };
        }
        manager
    }

    /// The listening sockets, once.
    pub fn sockets(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.sockets)
    }

    /// Descriptors that came and cannot be used, with the reason.
    #[must_use]
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// How often to report that we are alive: twice as often as asked for.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|d| d / 2)
    }

    /// Reports a state with a line for people. That nobody listens is not an error of ours.
    pub fn report(&self, state: &State, status: &str, now: Instant) {
        let Some((socket, addr)) = &self.socket else {
            return;
        };
        let mut text = match state {
            State::Ready => "READY=1".to_owned(),
            State::Reloading => {
                format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_nanos() / 1000)
            }
            State::Stopping => "STOPPING=1".to_owned(),
            State::Watchdog => "WATCHDOG=1".to_owned(),
            State::MainPid => format!("MAINPID={}", process::own_pid()),
        };
        if !status.is_empty() {
            let line = status.lines().next().unwrap_or_default();
            text.push_str("\nSTATUS=");
            text.push_str(line);
        }
        let _nobody_listens = socket.send_to_addr(text.as_bytes(), addr);
    }
}

fn report_socket() -> Option<(UnixDatagram, SocketAddr)> {
    let path = env::var_os("NOTIFY_SOCKET")?;
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    Some((unbound().ok()?, addr.ok()?))
}

fn unbound() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn watchdog() -> Option<Duration> {
    let wanted = env::var_os("WATCHDOG_PID").is_none() || is_for_us("WATCHDOG_PID");
    number("WATCHDOG_USEC")
        .filter(|&usec| wanted && usec > 0)
        .map(Duration::from_micros)
}

fn is_for_us(variable: &str) -> bool {
    number(variable) == u64::try_from(process::own_pid().0).ok()
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Exit, Fork, exit_now, fork_for_test, wait_for};
    use std::os::fd::AsRawFd;

    /// Runs the body in a child with these variables; `PID` stands for its own number.
    fn with_environment(variables: &[(&str, &str)], body: impl FnOnce() -> bool) -> Exit {
        match fork_for_test().unwrap() {
            Fork::Child => {
                let own = process::own_pid().to_string();
                for (name, value) in variables {
                    // SAFETY: the child of a fork has one thread.
                    unsafe { env::set_var(name, value.replace("PID", &own)) };
                }
                let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                exit_now(i32::from(!fine.unwrap_or(false)));
            }
            Fork::Parent(pid) => wait_for(pid).unwrap(),
        }
    }

    #[test]
    fn reports_reach_the_socket_of_the_manager() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let exit = with_environment(&[("NOTIFY_SOCKET", path.to_str().unwrap())], || {
            let manager = Manager::take();
            let now = Instant::from_nanos(5_000_000);
            manager.report(&State::Reloading, "", now);
            manager.report(&State::Ready, "2 workers\nmore", now);
            env::var_os("NOTIFY_SOCKET").is_none()
        });
        assert_eq!(exit, Exit::Code(0));
        let mut buf = [0; 256];
        let mut next = || {
            let len = receiver.recv(&mut buf).unwrap();
            String::from_utf8_lossy(&buf[..len]).into_owned()
        };
        assert_eq!(next(), "RELOADING=1\nMONOTONIC_USEC=5000");
        assert_eq!(next(), "READY=1\nSTATUS=2 workers");
    }

    #[test]
    fn sockets_are_taken_with_their_names() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let variables = [
            ("LISTEN_PID", "PID"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_FDNAMES", "web:bad"),
        ];
        let exit = with_environment(&variables, || {
            super::super::file::place(&listener, FIRST_FD).unwrap();
            super::super::file::place(&std::fs::File::open("/dev/null").unwrap(), FIRST_FD + 1)
                .unwrap();
            let mut manager = Manager::take();
            let sockets = manager.sockets();
            assert_eq!(sockets.len(), 1);
            assert_eq!(
                (sockets[0].0.as_str(), sockets[0].1.as_raw_fd()),
                ("web", 3)
            );
            assert_eq!(manager.unusable().len(), 1);
            env::var_os("LISTEN_FDS").is_none()
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn what_is_meant_for_another_process_is_not_taken() {
        let variables = [
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "1"),
            ("WATCHDOG_PID", "1"),
            ("WATCHDOG_USEC", "1000000"),
        ];
        let exit = with_environment(&variables, || {
            let mut manager = Manager::take();
            manager.sockets().is_empty() && manager.watchdog_interval().is_none()
        });
        assert_eq!(exit, Exit::Code(0));
        let exit = with_environment(&[("WATCHDOG_USEC", "1000000")], || {
            Manager::take().watchdog_interval() == Some(Duration::from_millis(500))
        });
        assert_eq!(exit, Exit::Code(0));
    }
}
