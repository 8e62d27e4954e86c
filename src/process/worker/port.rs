//! A child's end of its control socket: orders come in, reports go out. Orders that concern the
//! whole process and need no event loop (new log files) are carried out here.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::proto::control::{Drain, Order, Report};
use crate::rt::fd::AsyncFd;
use crate::sys::{fdpass, file};

/// The most bytes of one update.
pub const UPDATE_BYTES_MAX: usize = 256 << 20;

/// What an event loop is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop accepting, finish, and leave.
    Drain(Drain),
    /// Close everything that is still open, spread over this time, and leave.
    Close {
        /// The time over which connections are closed.
        spread: Duration,
    },
    /// News of [`crate::process::program::Program::refresh`].
    Update(Vec<u8>),
}

/// The control socket of a child, or of an event loop in a child with several.
#[derive(Debug)]
pub struct Port {
    control: OwnedFd,
    /// The log descriptors of the process, in the order in which new files come.
    logs: Vec<RawFd>,
    /// How to leave when the master is gone.
    alone: Drain,
    ended: Cell<bool>,
}

impl Port {
    /// Over a control socket.
    #[must_use]
    pub const fn new(control: OwnedFd, logs: Vec<RawFd>, alone: Drain) -> Self {
        Self {
            control,
            logs,
            alone,
            ended: Cell::new(false),
        }
    }

    /// Tells the master that this loop serves.
    pub fn ready(&self) {
        self.report(&Report::Ready);
    }

    /// Tells the master why this loop cannot serve; it should return soon.
    pub fn failed(&self, text: &str) {
        self.report(&Report::Failed(text.to_owned()));
    }

    /// Gives the master a line for the log.
    pub fn warn(&self, text: &str) {
        self.report(&Report::Warning(text.to_owned()));
    }

    fn report(&self, report: &Report) {
        // A master that is gone needs no report, and one that reads nothing must not stop us.
        let _lost = fdpass::send(self.control.as_fd(), &report.encode(), &[]);
    }

    /// The next command.
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; `NotConnected` after the one that the end of the
    /// master stands for; `InvalidData` for a message that makes no sense, to be passed over.
    pub fn next(&self) -> io::Result<Command> {
        if self.ended.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut buf = vec![0; fdpass::MESSAGE_MAX];
        loop {
            let received = match fdpass::recv(self.control.as_fd(), &mut buf) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => fdpass::Received {
                    len: 0,
                    fds: Vec::new(),
                },
                Err(error) => return Err(error),
            };
            if received.len == 0 {
                self.ended.set(true);
                return Ok(Command::Drain(self.alone));
            }
            let bytes = buf.get(..received.len).unwrap_or_default();
            let order = Order::decode(bytes).map_err(|_e| io::ErrorKind::InvalidData)?;
            match order {
                Order::Drain(drain) => return Ok(Command::Drain(drain)),
                Order::Close { spread } => return Ok(Command::Close { spread }),
                Order::Reopen => self.reopen(&received.fds),
                Order::Update => {
                    let mut fds = received.fds.into_iter();
                    let fd = fds.next().ok_or(io::ErrorKind::InvalidData)?;
                    return Ok(Command::Update(file::read_all(fd, UPDATE_BYTES_MAX)?));
                }
            }
        }
    }

    fn reopen(&self, files: &[OwnedFd]) {
        for (number, new) in self.logs.iter().zip(files) {
            if let Err(error) = file::replace(*number, new) {
                self.warn(&format!("a log stays with its old file: {error}"));
            }
        }
    }

    /// For an event loop.
    ///
    /// # Errors
    /// When the loop cannot register it.
    pub fn in_loop(self) -> io::Result<LoopPort> {
        AsyncFd::new(self).map(LoopPort)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// A [`Port`] registered with the event loop of its thread.
pub struct LoopPort(AsyncFd<Port>);

impl LoopPort {
    /// Tells the master that this loop serves.
    pub fn ready(&self) {
        self.0.get_ref().ready();
    }

    /// Gives the master a line for the log.
    pub fn warn(&self, text: &str) {
        self.0.get_ref().warn(text);
    }

    /// Waits for the next command. When the master is gone there comes a drain, and then nothing
    /// more. May be dropped while it waits.
    pub async fn command(&self) -> Command {
        loop {
            match self.0.read_with(Port::next).await {
                Ok(command) => return command,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    pending::<()>().await;
                }
                Err(error) => self.warn(&format!("an order was not understood: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{Config, Runtime};
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    const ALONE: Drain = Drain {
        ordinary: Some(Duration::from_secs(3)),
        upgraded: None,
        stopping: true,
    };

    fn pair(logs: Vec<RawFd>) -> (OwnedFd, Port) {
        let (master, child) = fdpass::pair().unwrap();
        (master, Port::new(child, logs, ALONE))
    }

    fn send(master: &OwnedFd, order: &Order, fds: &[BorrowedFd<'_>]) {
        fdpass::send(master.as_fd(), &order.encode(), fds).unwrap();
    }

    #[test]
    fn orders_become_commands() {
        let (master, port) = pair(Vec::new());
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let spread = Duration::from_secs(1);
        send(&master, &Order::Close { spread }, &[]);
        assert_eq!(port.next().unwrap(), Command::Close { spread });
        let content = file::in_memory(c"update", b"news").unwrap();
        send(&master, &Order::Update, &[content.as_fd()]);
        assert_eq!(port.next().unwrap(), Command::Update(b"news".to_vec()));
        send(&master, &Order::Update, &[]);
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_master_is_one_drain() {
        let (master, port) = pair(Vec::new());
        drop(master);
        assert_eq!(port.next().unwrap(), Command::Drain(ALONE));
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::NotConnected);
        port.ready(); // nobody listens: not an error
    }

    #[test]
    fn logs_move_to_their_new_files_without_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let old = File::from(file::open_log(&dir.path().join("old")).unwrap());
        let new = file::open_log(&dir.path().join("new")).unwrap();
        let (master, port) = pair(vec![old.as_raw_fd()]);
        send(&master, &Order::Reopen, &[new.as_fd()]);
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        (&old).write_all(b"line\n").unwrap();
        assert_eq!(std::fs::read(dir.path().join("new")).unwrap(), b"line\n");
    }

    #[test]
    fn a_loop_hears_orders_and_the_end() {
        let (master, port) = pair(Vec::new());
        let runtime = Runtime::new(Config::default()).unwrap();
        let commands = runtime.block_on(async move {
            let port = port.in_loop().unwrap();
            crate::rt::spawn(async move {
                crate::rt::sleep(Duration::from_millis(5)).await;
                fdpass::send(master.as_fd(), b"\xff", &[]).unwrap();
                send(&master, &Order::Drain(ALONE), &[]);
                crate::rt::sleep(Duration::from_millis(5)).await;
                drop(master);
            })
            .detach();
            let first = port.command().await;
            let second = port.command().await;
            let none = crate::rt::timeout(Duration::from_millis(5), port.command()).await;
            (first, second, none.is_err())
        });
        let drain = Command::Drain(ALONE);
        assert_eq!(commands, (drain.clone(), drain, true));
    }
}
