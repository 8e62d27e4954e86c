//! What the master is doing, in a small file beside the pid file: how `proxyd -s` learns what
//! came of its request. Written by the master as a whole after each change; nobody else writes.
//!
//! The counts tie an answer to a request without a connection: a command reads `received`, sends
//! its signal, and waits until `covered` is larger. A load that covers a later signal began after
//! the command looked, so it has read what the operator had written by then.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::sys::file;
use crate::sys::process::Pid;

/// The state of a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The process.
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    pub start: u64,
    /// The generation that serves; 0 before the first one.
    pub generation: u64,
    /// Requests to reload that arrived.
    pub received: u64,
    /// How many of them the last finished reload covers.
    pub covered: u64,
    /// How often the logs were opened anew.
    pub reopened: u64,
    /// The end has begun.
    pub stopping: bool,
    /// What went wrong with the last start or reload; `None`: it went well.
    pub failure: Option<String>,
}

impl Status {
    /// Where it stands for a pid file.
    #[must_use]
    pub fn path(pid_file: &Path) -> PathBuf {
        let mut name = pid_file.as_os_str().to_owned();
        name.push(".status");
        PathBuf::from(name)
    }

    /// As text: a line for each value, and the failure after an empty line.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("pid", u64::try_from(self.pid).unwrap_or(0)),
            ("start", self.start),
            ("generation", self.generation),
            ("received", self.received),
            ("covered", self.covered),
            ("reopened", self.reopened),
            ("stopping", u64::from(self.stopping)),
            ("failed", u64::from(self.failure.is_some())),
        ] {
            let _infallible = writeln!(text, "{name} {value}");
        }
        if let Some(failure) = &self.failure {
            text.push('\n');
            text.push_str(failure);
        }
        text
    }

    /// From text; `None` when it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, failure) = text.split_once("\n\n").unwrap_or((text, ""));
        let value = |wanted: &str| -> Option<u64> {
            let mut lines = head.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self {
            pid: i32::try_from(value("pid")?).ok()?,
            start: value("start")?,
            generation: value("generation")?,
            received: value("received")?,
            covered: value("covered")?,
            reopened: value("reopened")?,
            stopping: value("stopping")? != 0,
            failure: (value("failed")? != 0).then(|| failure.to_owned()),
        })
    }

    /// The status of this very process, if its file tells of it.
    #[must_use]
    pub fn read(pid_file: &Path, pid: Pid, start: u64) -> Option<Self> {
        let text = std::fs::read_to_string(Self::path(pid_file)).ok()?;
        Self::parse(&text).filter(|s| s.pid == pid.0 && s.start == start)
    }

    /// Writes it for the owner alone: a failure may quote the configuration.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, pid_file: &Path) -> std::io::Result<()> {
        file::write_atomic(&Self::path(pid_file), self.print().as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_parses(
            numbers in proptest::array::uniform5(0_u64..u64::MAX),
            pid in 1_i32..i32::MAX, stopping: bool,
            failure in proptest::option::of("(?s).{0,200}"),
        ) {
            let [start, generation, received, covered, reopened] = numbers;
            let status = Status { pid, start, generation, received, covered, reopened, stopping, failure };
            prop_assert_eq!(Status::parse(&status.print()), Some(status));
        }

        #[test]
        fn any_text_parses_or_not(text in "(?s).{0,300}") {
            let _either = Status::parse(&text);
        }
    }

    #[test]
    fn only_the_file_of_that_very_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("p.pid");
        let status = Status {
            pid: 17,
            start: 99,
            ..Status::default()
        };
        status.write(&pid_file).unwrap();
        assert_eq!(Status::read(&pid_file, Pid(17), 99), Some(status));
        assert_eq!(Status::read(&pid_file, Pid(18), 99), None);
        assert_eq!(Status::read(&pid_file, Pid(17), 98), None);
    }
}
