//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with the given arguments (program name first) and returns its exit code.
pub fn run(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::FAILURE
}
