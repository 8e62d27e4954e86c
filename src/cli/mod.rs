//! The command line: what was asked for, and the exit code. The only door through which text
//! goes to standard output.

mod flag;
mod out;
mod seam;
mod test;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::conf::{self, Loaded};
use flag::{Cli, Command, ConfigCommand, RunArgs};

/// A wrong command line (sysexits).
const USAGE: u8 = 64;

/// Runs the program with the given arguments (program name first) and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli),
        Err(error) if error.use_stderr() => {
            out::error(&error.to_string());
            ExitCode::from(USAGE)
        }
        Err(help) => {
            out::print(&help.to_string());
            ExitCode::SUCCESS
        }
    }
}

fn dispatch(cli: Cli) -> ExitCode {
    match cli.command {
        Some(Command::Config(ConfigCommand::Schema)) => {
            out::print(&conf::schema());
            return ExitCode::SUCCESS;
        }
        Some(Command::Config(ConfigCommand::Explain { code })) => return test::explain(&code),
        Some(Command::Run(args)) => return run_without_file(&args, cli.daemon),
        None => {}
    }
    if cli.test || cli.dump {
        return test::test(&cli);
    }
    if let Some(word) = cli.signal {
        return signal(&cli.config, word);
    }
    start(cli.config.clone(), conf::load(&cli.config), cli.daemon)
}

/// Starts the master when the configuration is usable.
fn start(config: PathBuf, loaded: Loaded, daemon: bool) -> ExitCode {
    out::error(&conf::render::text(&loaded, out::colour()));
    let Some(model) = loaded.model else {
        return ExitCode::FAILURE;
    };
    let daemon = daemon || model.master.daemon;
    seam::start(config, model, daemon)
}

/// `proxyd run --listen :8080 --to 127.0.0.1:9000`.
fn run_without_file(args: &RunArgs, daemon: bool) -> ExitCode {
    let quoted: Vec<String> = args.to.iter().map(|t| conf::quote(t)).collect();
    let text = format!(
        "[[listener]]\nbind = {}\n\n[[route]]\nto = [{}]\n",
        conf::quote(&args.listen),
        quoted.join(", ")
    );
    let name = "command line";
    start(PathBuf::from(name), conf::load_str(name, &text), daemon)
}

/// `proxyd -s WORD`: tells the running master, and waits for what comes of it.
fn signal(config: &Path, word: flag::Word) -> ExitCode {
    let loaded = conf::load_with(config, conf::Options::default());
    seam::signal(config, &loaded, word)
}
