//! The process model as a whole: a real master with real children around a toy program (`toy`),
//! observed from outside by signals, sockets, files and `/proc`. A harness of its own, because a
//! master must start in a process with one thread: every test starts this binary anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod life;
mod reload;
mod stage;
mod start;
mod toy;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use proxyd::process::control::{Request, ask};
use proxyd::process::master::{Options, run};

/// A test with its name.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--master", file] => master(file, false),
        ["--master", file, "-d"] => master(file, true),
        ["--ask", pid_file, word] => {
            let answer = ask(Path::new(pid_file), Request::from_word(word).unwrap());
            println!("{}", answer.text);
            ExitCode::from(u8::from(!answer.done))
        }
        _ => tests(&words),
    }
}

fn master(file: &str, detach: bool) -> ExitCode {
    toy::log_to_stderr();
    let program = toy::Toy::new(Path::new(file));
    ExitCode::from(run(program, Options { detach }))
}

/// Understands as much of the usual arguments as tools use: a part of a name, `--list`, `--exact`.
fn tests(words: &[&str]) -> ExitCode {
    let all: Vec<Case> = [start::CASES, reload::CASES, life::CASES].concat();
    let has = |flag: &str| words.contains(&flag);
    let wanted: Vec<&&str> = words.iter().filter(|w| !w.starts_with('-')).collect();
    let matches = |name: &str| {
        let fits = |w: &&&str| {
            if has("--exact") {
                name == **w
            } else {
                name.contains(**w)
            }
        };
        !has("--ignored") && (wanted.is_empty() || wanted.iter().any(fits))
    };
    let chosen: Vec<Case> = all.into_iter().filter(|(name, _)| matches(name)).collect();
    if has("--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("running {} tests", chosen.len());
    let queue = Mutex::new(chosen.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((name, test)) = queue.lock().unwrap().next() else {
                        return;
                    };
                    let fine = std::panic::catch_unwind(test).is_ok();
                    println!("test {name} ... {}", if fine { "ok" } else { "FAILED" });
                    if !fine {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_empty() {
        println!("test result: ok");
        ExitCode::SUCCESS
    } else {
        println!("test result: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
