//! The command line: what was asked for, and the exit code. The only door through which text
//! goes to standard output.

mod flag;
mod out;
mod start;
mod test;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::conf;
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
        return start::signal(&cli.config, word);
    }
    let loaded = conf::load(&cli.config);
    start::start(cli.config, loaded, cli.daemon)
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
    start::start(PathBuf::from(name), conf::load_str(name, &text), daemon)
}
