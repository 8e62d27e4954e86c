//! Where the command line hands over to the processes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::flag::Word;
use super::out;
use crate::conf::{Loaded, Model};

/// Becomes the master.
pub(super) fn start(_config: PathBuf, _model: Model, _daemon: bool) -> ExitCode {
    out::error("proxyd: this build has no master\n");
    ExitCode::FAILURE
}

/// Tells a running master.
pub(super) fn signal(_config: &Path, _loaded: &Loaded, _word: Word) -> ExitCode {
    out::error("proxyd: this build has no master\n");
    ExitCode::FAILURE
}
