//! The `proxyd` program: hands the command line to the library and leaves with its exit code.

fn main() -> std::process::ExitCode {
    proxyd::cli::run(std::env::args_os())
}
