//! External programs as real peers: run with a time limit, or kept running for a test.

use super::{PATIENCE, eventually};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a program said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; -1 when it was ended by a signal or by the limit.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Output {
    /// Fails unless the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// Runs a program to its end, or kills it at the limit.
pub fn run(program: &str, args: &[&str], limit: Duration) -> Output {
    run_with(Command::new(program).args(args), b"", limit)
}

/// Runs a prepared command with something on its standard input.
pub fn run_with(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("in"), input).unwrap();
    command.stdin(fs::File::open(path("in")).unwrap());
    command.stdout(fs::File::create(path("out")).unwrap());
    command.stderr(fs::File::create(path("err")).unwrap());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        if start.elapsed() > limit {
            child.kill().ok();
            child.wait().ok();
            break -1;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = |name: &str| String::from_utf8_lossy(&fs::read(path(name)).unwrap()).into_owned();
    Output {
        code,
        out: text("out"),
        err: text("err"),
    }
}

/// curl with sensible bounds.
pub fn curl(args: &[&str]) -> Output {
    let mut all = vec!["--silent", "--show-error", "--max-time", "20"];
    all.extend(args);
    run("curl", &all, PATIENCE * 2)
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts a command that will listen on the address.
    pub fn start(command: &mut Command, addr: SocketAddr, folder: tempfile::TempDir) -> Self {
        command.stdin(Stdio::null());
        command.stdout(fs::File::create(folder.path().join("out")).unwrap());
        command.stderr(fs::File::create(folder.path().join("err")).unwrap());
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let running = Self {
            child,
            addr,
            folder,
        };
        eventually(&format!("{command:?} listens"), PATIENCE, || {
            TcpStream::connect(addr).ok()
        });
        running
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // TERM, so that a master takes its workers along
        super::proxyd::signal(self.child.id(), "TERM");
        let start = Instant::now();
        while self.child.try_wait().ok().flatten().is_none() {
            if start.elapsed() > Duration::from_secs(3) {
                self.child.kill().ok();
                self.child.wait().ok();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// nginx with our own `http` block content, on a free port (`$PORT` in the text).
pub fn nginx(http: &str) -> Running {
    let folder = tempfile::Builder::new()
        .prefix("proxyd-nginx-")
        .tempdir()
        .unwrap();
    let port = free_port();
    let dir = folder.path().to_str().unwrap().to_owned();
    let user = if super::is_root() { "user root;\n" } else { "" };
    let text = format!(
        "{user}daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n{}\n}}\n",
        http.replace("$PORT", &port.to_string())
            .replace("$DIR", &dir)
    );
    let config = folder.path().join("nginx.conf");
    fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin");
    command.args(["-c", config.to_str().unwrap(), "-p", &dir]);
    Running::start(&mut command, ([127, 0, 0, 1], port).into(), folder)
}
