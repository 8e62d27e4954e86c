//! `proxyd -s`: sends a signal to a running master and waits for what comes of it. Prints nothing;
//! the command line does.

use std::path::Path;
use std::time::Duration;

use super::pidfile::{self, Found};
use super::status::Status;
use crate::sys::clock;
use crate::sys::process::{self, Pid};
use crate::sys::signal::{self, Signal};

/// What a running master can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Load the configuration anew.
    Reload,
    /// Stop, gracefully within `stop_timeout`.
    Stop,
    /// Stop when the last connection is over.
    Quit,
    /// Open the logs anew.
    Reopen,
}

impl Request {
    /// By its word on the command line.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "reload" => Some(Self::Reload),
            "stop" => Some(Self::Stop),
            "quit" => Some(Self::Quit),
            "reopen" => Some(Self::Reopen),
            _ => None,
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Reload => Signal::Hup,
            Self::Stop => Signal::Term,
            Self::Quit => Signal::Quit,
            Self::Reopen => Signal::Usr1,
        }
    }
}

/// What came of a request: the text to print, and the exit code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was done.
    pub done: bool,
    /// What to tell.
    pub text: String,
}

/// A master that does not answer for so long is taken for hung.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks the master of the pid file, and waits.
#[must_use]
pub fn ask(pid_file: &Path, request: Request) -> Answer {
    let pid = match pidfile::read(pid_file) {
        Ok(Found::Running(pid)) => pid,
        Ok(Found::Nothing) => {
            return not_done(format!(
                "proxyd does not run: there is no pid file {}",
                pid_file.display()
            ));
        }
        Ok(Found::Stale(pid)) => {
            // The next start would replace it; until then it only misleads.
            let _left = std::fs::remove_file(pid_file);
            let _left = std::fs::remove_file(Status::path(pid_file));
            return not_done(format!(
                "proxyd does not run: process {pid} of {} is gone; the stale file was removed",
                pid_file.display()
            ));
        }
        Err(problem) => return not_done(problem.to_string()),
    };
    let Some(start) = process::start_ticks(pid) else {
        return not_done("proxyd has just ended".to_owned());
    };
    let target = Target {
        pid_file,
        pid,
        start,
    };
    let before = target.status().unwrap_or_default();
    if let Err(error) = signal::send(pid, request.signal()) {
        return not_done(format!("process {pid} cannot be signalled: {error}"));
    }
    match request {
        Request::Reload => target.wait_for_reload(&before),
        Request::Reopen => target.wait_for_reopen(&before),
        Request::Stop | Request::Quit => target.wait_for_end(),
    }
}

/// The master that was asked; the start time tells it from a later process with its number.
struct Target<'a> {
    pid_file: &'a Path,
    pid: Pid,
    start: u64,
}

impl Target<'_> {
    fn status(&self) -> Option<Status> {
        Status::read(self.pid_file, self.pid, self.start)
    }

    fn is_alive(&self) -> bool {
        process::is_alive(self.pid) && process::start_ticks(self.pid) == Some(self.start)
    }

    /// Looks until `found` is content; `None` when the master is gone or does not answer.
    fn wait(&self, found: impl Fn(&Status) -> bool) -> Result<Status, Answer> {
        let deadline = clock::monotonic() + PATIENCE;
        loop {
            let alive = self.is_alive();
            if let Some(status) = self.status().filter(&found) {
                return Ok(status);
            }
            if !alive {
                return Err(not_done("proxyd has ended meanwhile".to_owned()));
            }
            if clock::monotonic() >= deadline {
                let text = format!("process {} does not answer", self.pid);
                return Err(not_done(text));
            }
            pause();
        }
    }

    fn wait_for_reload(&self, before: &Status) -> Answer {
        let covered = |s: &Status| s.covered > before.received || s.stopping;
        match self.wait(covered) {
            Err(answer) => answer,
            Ok(status) if status.covered <= before.received => {
                not_done("reload failed: proxyd is stopping".to_owned())
            }
            Ok(Status {
                failure: Some(text),
                generation,
                ..
            }) => not_done(format!(
                "reload failed: {text}\ngeneration {generation} serves on"
            )),
            Ok(status) => done(format!("generation {} is live", status.generation)),
        }
    }

    fn wait_for_reopen(&self, before: &Status) -> Answer {
        match self.wait(|s| s.reopened > before.reopened || s.stopping) {
            Err(answer) => answer,
            Ok(_) => done("the logs are open anew".to_owned()),
        }
    }

    /// A stop takes as long as its configuration allows; a quit, as long as its connections.
    fn wait_for_end(&self) -> Answer {
        while self.is_alive() {
            pause();
        }
        done("stopped".to_owned())
    }
}

fn pause() {
    std::thread::sleep(INTERVAL);
}

const fn done(text: String) -> Answer {
    Answer { done: true, text }
}

const fn not_done(text: String) -> Answer {
    Answer { done: false, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_master_the_answer_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.pid");
        let answer = ask(&path, Request::Reload);
        assert!(
            !answer.done && answer.text.contains("no pid file"),
            "{answer:?}"
        );
        std::fs::write(&path, "4194300\n").unwrap();
        let answer = ask(&path, Request::Stop);
        assert!(!answer.done && answer.text.contains("stale"), "{answer:?}");
        assert!(!path.exists());
        std::fs::write(&path, "text\n").unwrap();
        let answer = ask(&path, Request::Quit);
        assert!(!answer.done && answer.text.contains("number"), "{answer:?}");
        assert!(path.exists());
    }

    #[test]
    fn words() {
        assert_eq!(Request::from_word("reload"), Some(Request::Reload));
        assert_eq!(Request::from_word("restart"), None);
    }

    #[test]
    fn a_reload_counts_only_when_it_covers_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("p.pid");
        let pid = process::own_pid();
        let start = process::start_ticks(pid).unwrap();
        let target = Target {
            pid_file: &pid_file,
            pid,
            start,
        };
        let mut status = Status {
            pid: pid.0,
            start,
            generation: 3,
            received: 4,
            covered: 3,
            ..Status::default()
        };
        let before = status.clone();
        // An earlier reload that is still going on does not count.
        status.covered = 4;
        status.write(&pid_file).unwrap();
        let writer = std::thread::spawn({
            let pid_file = pid_file.clone();
            let mut status = status.clone();
            move || {
                std::thread::sleep(Duration::from_millis(100));
                status.covered = 5;
                status.generation = 4;
                status.write(&pid_file).unwrap();
            }
        });
        assert_eq!(
            target.wait_for_reload(&before),
            done("generation 4 is live".to_owned())
        );
        writer.join().unwrap();
        status.covered = 6;
        status.failure = Some("error: bad\nline 2".to_owned());
        status.write(&pid_file).unwrap();
        let answer = target.wait_for_reload(&before);
        assert!(!answer.done);
        assert!(
            answer
                .text
                .starts_with("reload failed: error: bad\nline 2\n")
        );
        status.stopping = true;
        status.covered = 4;
        status.write(&pid_file).unwrap();
        assert!(!target.wait_for_reload(&before).done);
    }
}
