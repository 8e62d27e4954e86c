//! A child's end of its control socket: orders come in, reports go out. What an order means for
//! connections is not known here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::control::{Drain, Order, Report};
use crate::rt::fd::AsyncFd;
use crate::sys::{fdpass, file};

/// The most bytes of one update.
pub const UPDATE_BYTES_MAX: usize = 256 << 20;

/// What an event loop is told.
#[derive(Debug)]
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
    /// The logs were opened anew: go on with these files.
    Reopen(Vec<(PathBuf, OwnedFd)>),
}

/// What comes from the master: a command, or the word to begin.
#[derive(Debug)]
pub(super) enum Heard {
    Serve,
    Command(Command),
}

/// The control socket of a child, or of an event loop in a child with several.
#[derive(Debug)]
pub struct Port {
    control: OwnedFd,
    /// The log files of the process, in the order in which new ones come.
    logs: Vec<PathBuf>,
    /// How to leave when the master is gone.
    alone: Drain,
    ended: Cell<bool>,
}

impl Port {
    /// Over a control socket.
    #[must_use]
    pub const fn new(control: OwnedFd, logs: Vec<PathBuf>, alone: Drain) -> Self {
        Self {
            control,
            logs,
            alone,
            ended: Cell::new(false),
        }
    }

    /// Tells the master that everything is built. A worker waits for the word to begin then
    /// ([`LoopPort::begin`]); a helper serves at once.
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
        loop {
            if let Heard::Command(command) = self.hear()? {
                return Ok(command);
            }
        }
    }

    /// As [`Port::next`], with the word to begin.
    pub(super) fn hear(&self) -> io::Result<Heard> {
        if self.ended.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut buf = vec![0; fdpass::MESSAGE_MAX];
        let received = match fdpass::recv(self.control.as_fd(), &mut buf) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => fdpass::Received {
                len: 0,
                fds: Vec::new(),
            },
            done => done?,
        };
        if received.len == 0 {
            self.ended.set(true);
            return Ok(Heard::Command(Command::Drain(self.alone)));
        }
        let bytes = buf.get(..received.len).unwrap_or_default();
        let order = Order::decode(bytes).map_err(|_e| io::ErrorKind::InvalidData)?;
        let mut fds = received.fds.into_iter();
        Ok(Heard::Command(match order {
            Order::Serve => return Ok(Heard::Serve),
            Order::Drain(drain) => Command::Drain(drain),
            Order::Close { spread } => Command::Close { spread },
            Order::Reopen => Command::Reopen(self.logs.iter().cloned().zip(fds).collect()),
            Order::Update => {
                let fd = fds.next().ok_or(io::ErrorKind::InvalidData)?;
                Command::Update(file::read_all(fd, UPDATE_BYTES_MAX)?)
            }
        }))
    }

    /// For an event loop.
    ///
    /// # Errors
    /// When the loop cannot register it.
    pub fn in_loop(self) -> io::Result<LoopPort> {
        let early = RefCell::default();
        AsyncFd::new(self).map(|port| LoopPort { port, early })
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// A [`Port`] registered with the event loop of its thread.
pub struct LoopPort {
    port: AsyncFd<Port>,
    /// Commands that came before the word to begin.
    early: RefCell<VecDeque<Command>>,
}

impl LoopPort {
    /// Tells the master that everything is built, and waits for its word to accept connections:
    /// it comes when every worker of the generation is ready. A loop that accepted before could
    /// take connections with it when another worker fails and the generation is given up.
    ///
    /// Returns false when the process should leave instead.
    pub async fn begin(&self) -> bool {
        self.port.get_ref().ready();
        loop {
            match self.hear().await {
                Heard::Serve => return true,
                Heard::Command(Command::Drain(_) | Command::Close { .. }) => return false,
                Heard::Command(other) => self.early.borrow_mut().push_back(other),
            }
        }
    }

    /// Gives the master a line for the log.
    pub fn warn(&self, text: &str) {
        self.port.get_ref().warn(text);
    }

    /// Waits for the next command. When the master is gone there comes a drain, and then nothing
    /// more. May be dropped while it waits.
    pub async fn command(&self) -> Command {
        let early = self.early.borrow_mut().pop_front();
        if let Some(command) = early {
            return command;
        }
        loop {
            if let Heard::Command(command) = self.hear().await {
                return command;
            }
        }
    }

    async fn hear(&self) -> Heard {
        loop {
            match self.port.read_with(Port::hear).await {
                Ok(heard) => return heard,
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

    const ALONE: Drain = Drain {
        ordinary: Some(Duration::from_secs(3)),
        upgraded: None,
        stopping: true,
    };

    fn pair(logs: Vec<PathBuf>) -> (OwnedFd, Port) {
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
        assert!(matches!(port.next().unwrap(), Command::Close { spread: s } if s == spread));
        let content = file::in_memory(c"update", b"news").unwrap();
        send(&master, &Order::Update, &[content.as_fd()]);
        assert!(matches!(port.next().unwrap(), Command::Update(bytes) if bytes == b"news"));
        send(&master, &Order::Update, &[]);
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_master_is_one_drain() {
        let (master, port) = pair(Vec::new());
        drop(master);
        assert!(matches!(port.next().unwrap(), Command::Drain(ALONE)));
        assert_eq!(port.next().unwrap_err().kind(), io::ErrorKind::NotConnected);
        port.ready(); // nobody listens: not an error
    }

    #[test]
    fn new_log_files_come_with_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let new = file::open_log(&path).unwrap();
        let (master, port) = pair(vec![path.clone()]);
        send(&master, &Order::Reopen, &[new.as_fd()]);
        let Command::Reopen(mut logs) = port.next().unwrap() else {
            panic!("another command");
        };
        let (name, fd) = logs.remove(0);
        File::from(fd).write_all(b"line\n").unwrap();
        assert_eq!(
            (name, std::fs::read(&path).unwrap()),
            (path, b"line\n".to_vec())
        );
    }

    #[test]
    fn a_loop_hears_orders_and_the_end() {
        let (master, port) = pair(Vec::new());
        let runtime = Runtime::new(Config::default()).unwrap();
        let (first, second, nothing) = runtime.block_on(async move {
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
        assert!(matches!(first, Command::Drain(ALONE)));
        assert!(matches!(second, Command::Drain(ALONE)));
        assert!(nothing);
    }

    #[test]
    fn nothing_is_accepted_before_the_word_and_nothing_is_lost_of_what_came_early() {
        let (master, port) = pair(Vec::new());
        let (gone, abandoned) = pair(Vec::new());
        drop(gone);
        let runtime = Runtime::new(Config::default()).unwrap();
        runtime.block_on(async move {
            let port = port.in_loop().unwrap();
            let waits = crate::rt::timeout(Duration::from_millis(5), port.begin()).await;
            assert!(waits.is_err());
            send(&master, &Order::Reopen, &[]);
            send(&master, &Order::Serve, &[]);
            assert!(port.begin().await);
            assert!(matches!(port.command().await, Command::Reopen(_)));
            assert!(!abandoned.in_loop().unwrap().begin().await);
        });
    }
}
