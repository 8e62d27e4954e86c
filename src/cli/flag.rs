//! Every flag and sub-command, once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where the configuration is when nothing is said.
const CONFIG: &str = "/etc/proxyd.toml";

/// A master/worker reverse proxy.
#[derive(Debug, Parser)]
#[command(
    name = "proxyd",
    version,
    disable_version_flag = true,
    about = "A master/worker reverse proxy",
    args_conflicts_with_subcommands = false
)]
pub(super) struct Cli {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,

    /// Check the configuration and leave: 0 good, 1 errors, 2 warnings with --strict
    #[arg(short = 't', long = "test")]
    pub(super) test: bool,

    /// Check, and print the configuration with every default
    #[arg(short = 'T', long = "dump")]
    pub(super) dump: bool,

    /// With -t: warnings make the exit code 2
    #[arg(long)]
    pub(super) strict: bool,

    /// With -t: how findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,

    /// With -t: the same as -T
    #[arg(long)]
    pub(super) effective: bool,

    /// With -t: also resolve names and connect to servers
    #[arg(long)]
    pub(super) probe: bool,

    /// Run in the background
    #[arg(short = 'd', long = "daemon")]
    pub(super) daemon: bool,

    /// Tell the running proxyd of this configuration, and wait for the outcome
    #[arg(short = 's', long = "signal", value_name = "SIGNAL", conflicts_with_all = ["test", "dump", "daemon"])]
    pub(super) signal: Option<Word>,

    /// Print the version
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// What to do instead
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One JSON array
    Json,
}

/// What a running master can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Word {
    /// Load the configuration again
    Reload,
    /// Stop within bounds
    Stop,
    /// Stop when everything is done
    Quit,
    /// Open log files again
    Reopen,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// About the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run without a configuration file
    Run(RunArgs),
}

/// About the configuration file.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print a JSON schema, for editors
    Schema,
    /// Explain a finding
    Explain {
        /// Such as E0103
        code: String,
    },
}

/// A listener and its servers.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: String,
    /// Server to forward to; may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(super) to: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn documented_invocations_are_understood() {
        for line in [
            "proxyd -c /etc/proxyd.toml",
            "proxyd -c x -t --strict --format json",
            "proxyd -t --effective --probe",
            "proxyd -T",
            "proxyd -d -c x",
            "proxyd -s reload",
            "proxyd -c x -s quit",
            "proxyd config schema",
            "proxyd config explain E0103",
            "proxyd run --listen :8080 --to 127.0.0.1:9000 --to 127.0.0.1:9001",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "proxyd -s kill",
            "proxyd -x",
            "proxyd run",
            "proxyd -s stop -t",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.use_stderr(), "{line}");
        }
    }
}
