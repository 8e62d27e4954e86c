//! What the black-box tests share: the real binary under test, mock servers, raw clients, TLS
//! material, external programs. Everything is bounded in time and bound to port 0; nothing here
//! knows the inside of proxyd.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unused_imports,
    reason = "test code; not every test binary uses every helper"
)]

pub mod backend;
pub mod client;
pub mod dns;
pub mod message;
pub mod metrics;
pub mod proxyd;
pub mod tls;
pub mod tool;

use std::time::{Duration, Instant};

pub use backend::{Upstream, ok, respond};
pub use client::Client;
pub use message::{Request, Response};
pub use proxyd::{Proxyd, Setup, to};

/// How long anything may take that should be quick. Generous: test machines are busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Whether the tests run as root; some behaviour exists only there.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}

/// Says why a test has nothing to do here.
pub fn skip(why: &str) {
    println!("skipped: {why}");
}

/// Milliseconds, to keep tests readable.
pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
