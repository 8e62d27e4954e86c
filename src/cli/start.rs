//! Where the command line hands over to the processes: becoming the master, and telling one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::flag::Word;
use super::out;
use crate::conf::{self, Loaded, Model};
use crate::log::params::{Output, Params};
use crate::log::{self, Sink};
use crate::process::control::{self, Request};
use crate::process::master::{self, Options};
use crate::process::proxyd::Proxyd;

/// Becomes the master when the configuration is usable.
pub(super) fn start(config: PathBuf, loaded: Loaded, daemon: bool) -> ExitCode {
    out::error(&conf::render::text(&loaded, out::colour()));
    let Some(model) = loaded.model else {
        return ExitCode::FAILURE;
    };
    early_log(&model);
    let detach = daemon || model.master.daemon;
    ExitCode::from(master::run(Proxyd::new(config, model), Options { detach }))
}

/// `proxyd -s WORD`: tells the running master, and waits for what comes of it.
pub(super) fn signal(config: &Path, word: Word) -> ExitCode {
    let pid_file = match conf::pid_file(config) {
        Ok(Some(path)) => path,
        Ok(None) => {
            let name = config.display();
            out::error(&format!(
                "proxyd: {name} has no `pid_file` in [master], so the running proxyd cannot be found: add one and start proxyd again, or send HUP, TERM, QUIT or USR1 to the master yourself\n"
            ));
            return ExitCode::FAILURE;
        }
        Err(reason) => {
            out::error(&format!("proxyd: {reason}\n"));
            return ExitCode::FAILURE;
        }
    };
    let request = match word {
        Word::Reload => Request::Reload,
        Word::Stop => Request::Stop,
        Word::Quit => Request::Quit,
        Word::Reopen => Request::Reopen,
    };
    let answer = control::ask(&pid_file, request);
    let text = format!("proxyd: {}\n", answer.text.trim_end());
    if answer.done {
        out::print(&text);
        ExitCode::SUCCESS
    } else {
        out::error(&text);
        ExitCode::FAILURE
    }
}

/// What goes wrong before the configured log is open is told on standard error.
fn early_log(model: &Model) {
    let params = Params {
        output: Output::Stderr,
        ..model.log.clone()
    };
    let Ok(sink) = Sink::open(&Output::Stderr, None) else {
        return;
    };
    // A second logger can only be one of a test.
    let _only_one = log::install(&params, sink);
}
