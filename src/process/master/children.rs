//! The children as processes: their numbers, control sockets and columns. What is to become of
//! them is the supervisor's decision.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::supervisor::{ChildId, Role};
use crate::proto::control::{Order, Report};
use crate::sys::fdpass;
use crate::sys::process::Pid;

/// A child that was forked and not reaped.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: Pid,
    /// What it is for.
    pub role: Role,
    /// Its generation.
    pub generation: u64,
    /// Its columns of the shared table.
    pub columns: Vec<usize>,
    /// The log files it was given, in their order.
    pub logs: Vec<PathBuf>,
    control: OwnedFd,
    /// It said nothing more, or nonsense: the socket is not listened to any more.
    deaf: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Children {
    by_id: BTreeMap<ChildId, Child>,
}

/// What a child said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// This.
    Report(Report),
    /// Something that no child of ours says.
    Nonsense,
}

/// The token of a child; those below are the master's own.
const FIRST_TOKEN: usize = 16;

impl ChildId {
    /// Under which its control socket is registered.
    #[must_use]
    pub fn token(self) -> Token {
        Token(usize::try_from(self.0).map_or(usize::MAX, |n| n.saturating_add(FIRST_TOKEN)))
    }

    /// Back from a token.
    #[must_use]
    pub fn of_token(token: Token) -> Option<Self> {
        let number = token.0.checked_sub(FIRST_TOKEN)?;
        u64::try_from(number).ok().map(Self)
    }
}

impl Child {
    /// A child with the master's end of its control socket.
    #[must_use]
    pub const fn new(pid: Pid, role: Role, generation: u64, control: OwnedFd) -> Self {
        Self {
            pid,
            role,
            generation,
            columns: Vec::new(),
            logs: Vec::new(),
            control,
            deaf: false,
        }
    }

    /// Gives an order. One that is gone needs none; one that takes none is found out by its
    /// heartbeat or its deadline.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fdpass::send(self.control.as_fd(), &order.encode(), fds)
    }

    /// Everything that it said since.
    pub fn listen(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut buf = vec![0; fdpass::MESSAGE_MAX];
        while !self.deaf {
            match fdpass::recv(self.control.as_fd(), &mut buf) {
                Ok(received) if received.len > 0 => {
                    let bytes = buf.get(..received.len).unwrap_or_default();
                    let report = Report::decode(bytes);
                    self.deaf = report.is_err();
                    heard.push(report.map_or(Heard::Nonsense, Heard::Report));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) => self.deaf = true,
                Err(error) => {
                    self.deaf = true;
                    if error.kind() == io::ErrorKind::InvalidData {
                        heard.push(Heard::Nonsense);
                    }
                }
            }
        }
        heard
    }
}

impl Children {
    /// Adds one and listens to it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add(&mut self, id: ChildId, child: Child, poll: &Registry) -> io::Result<()> {
        let fd = child.control.as_raw_fd();
        self.by_id.insert(id, child);
        poll.register(&mut SourceFd(&fd), id.token(), Interest::READABLE)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: ChildId) -> Option<&Child> {
        self.by_id.get(&id)
    }

    /// One of them, to listen to.
    pub fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.by_id.get_mut(&id)
    }

    /// By the number of the process.
    #[must_use]
    pub fn find(&self, pid: Pid) -> Option<ChildId> {
        let mut all = self.by_id.iter();
        all.find(|(_, child)| child.pid == pid).map(|(id, _)| *id)
    }

    /// Removes one that was reaped.
    pub fn remove(&mut self, id: ChildId, poll: &Registry) -> Option<Child> {
        let child = self.by_id.remove(&id)?;
        let fd = child.control.as_raw_fd();
        // It is closed in a moment, which is what counts.
        let _closed = poll.deregister(&mut SourceFd(&fd));
        Some(child)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ChildId, &Child)> {
        self.by_id.iter().map(|(id, child)| (*id, child))
    }

    /// How many generations have a worker.
    #[must_use]
    pub fn generations(&self) -> usize {
        let workers = self.by_id.values().filter(|c| c.is_worker());
        let numbers: std::collections::BTreeSet<u64> = workers.map(|c| c.generation).collect();
        numbers.len()
    }
}

impl Child {
    /// Whether it serves connections.
    #[must_use]
    pub const fn is_worker(&self) -> bool {
        matches!(self.role, Role::Worker(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_heard_and_nonsense_ends_the_listening() {
        let (near, far) = fdpass::pair().unwrap();
        let mut child = Child::new(Pid(1), Role::Worker(0), 1, near);
        assert_eq!(child.listen(), []);
        fdpass::send(far.as_fd(), &Report::Ready.encode(), &[]).unwrap();
        fdpass::send(far.as_fd(), b"\xff\xff", &[]).unwrap();
        fdpass::send(far.as_fd(), &Report::Ready.encode(), &[]).unwrap();
        let heard = child.listen();
        assert_eq!(heard, [Heard::Report(Report::Ready), Heard::Nonsense]);
        assert_eq!(child.listen(), []);
    }

    #[test]
    fn the_last_words_of_a_child_are_heard_after_its_end() {
        let (near, far) = fdpass::pair().unwrap();
        let mut child = Child::new(Pid(1), Role::Admin, 1, near);
        let words = Report::Failed("no port".to_owned());
        fdpass::send(far.as_fd(), &words.encode(), &[]).unwrap();
        drop(far);
        assert_eq!(child.listen(), [Heard::Report(words)]);
        assert!(child.order(&Order::Reopen, &[]).is_err());
    }

    #[test]
    fn tokens_and_ids_are_the_same_thing() {
        let id = ChildId(77);
        assert_eq!(ChildId::of_token(id.token()), Some(id));
        assert_eq!(ChildId::of_token(Token(3)), None);
    }
}
