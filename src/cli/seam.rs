//! Where the command line hands over to the processes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::flag::Word;
use super::out;
use crate::conf::{Loaded, Model};
use crate::process::control::{self, Request};
use crate::process::master::{self, Options};
use crate::process::proxyd::Proxyd;

/// Becomes the master.
pub(super) fn start(config: PathBuf, model: Model, daemon: bool) -> ExitCode {
    let program = Proxyd::new(config, model);
    ExitCode::from(master::run(program, Options { detach: daemon }))
}

/// Tells a running master, and waits for what comes of it.
pub(super) fn signal(config: &Path, loaded: &Loaded, word: Word) -> ExitCode {
    let Some(pid_file) = loaded.pid_file.as_deref() else {
        out::error(&format!(
            "proxyd: {}: `master.pid_file` is not set\n",
            config.display()
        ));
        return ExitCode::FAILURE;
    };
    let request = match word {
        Word::Reload => Request::Reload,
        Word::Stop => Request::Stop,
        Word::Quit => Request::Quit,
        Word::Reopen => Request::Reopen,
    };
    let answer = control::ask(pid_file, request);
    out::error(&format!("proxyd: {}\n", answer.text.trim_end()));
    if answer.done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
