//! The real binary under test: started with a generated configuration in a folder of its own,
//! on port 0, observed through its log, its metrics and `/proc`, and always taken down again.

use super::metrics::Metrics;
use super::{PATIENCE, client, eventually, is_root};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The path of the binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_proxyd");

/// How the proxy is started. Sections that a test sets here must not stand in its body.
#[derive(Clone, Debug)]
pub struct Setup {
    master: String,
    worker: String,
    log: String,
    access: String,
    metrics: String,
    env: Vec<(String, String)>,
    prefix: Vec<String>,
    forks: bool,
    ready: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            master: String::new(),
            worker: "count = 1\n".to_owned(),
            log: "level = \"info\"\nformat = \"text\"\noutput = \"stderr\"\n".to_owned(),
            access: "output = \"$DIR/access.log\"\nformat = \"json\"\n".to_owned(),
            metrics: "bind = \"127.0.0.1:0\"\n".to_owned(),
            env: Vec::new(),
            prefix: Vec::new(),
            forks: false,
            ready: true,
        }
    }
}

impl Setup {
    /// The defaults: one worker, text log on standard error, JSON access log, metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds lines to `[master]`.
    pub fn master(mut self, lines: &str) -> Self {
        self.master = format!("{lines}\n");
        self
    }

    /// Replaces the lines of `[worker]`.
    pub fn worker(mut self, lines: &str) -> Self {
        self.worker = format!("{lines}\n");
        self
    }

    /// Replaces the lines of `[log]`.
    pub fn log(mut self, lines: &str) -> Self {
        self.log = format!("{lines}\n");
        self
    }

    /// Replaces the lines of `[log.access]`.
    pub fn access(mut self, lines: &str) -> Self {
        self.access = format!("{lines}\n");
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs as an ordinary user even when the tests are root.
    pub fn unprivileged(mut self) -> Self {
        if is_root() {
            let drop = [
                "setpriv",
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
            ];
            self.prefix = drop.map(str::to_owned).to_vec();
        }
        self
    }

    /// Runs as process 1 of its own namespace. Needs root.
    pub fn in_own_namespace(mut self) -> Self {
        let space = [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
        ];
        self.prefix = space.map(str::to_owned).to_vec();
        self.forks = true;
        self
    }

    /// Runs behind a program that executes the rest of its arguments.
    pub fn behind(mut self, program: &[&str]) -> Self {
        self.prefix = program.iter().map(|p| (*p).to_owned()).collect();
        self
    }

    /// Does not wait until the proxy is ready.
    pub fn without_waiting(mut self) -> Self {
        self.ready = false;
        self
    }

    /// Starts the proxy.
    #[track_caller]
    pub fn start(self, body: &str) -> Proxyd {
        let folder = tempfile::Builder::new()
            .prefix("proxyd-test-")
            .tempdir()
            .unwrap();
        self.start_in(folder, body)
    }

    /// Starts the proxy in a folder that the test has prepared.
    #[track_caller]
    pub fn start_in(self, folder: tempfile::TempDir, body: &str) -> Proxyd {
        let dir = folder.path().to_owned();
        // workers run as another user and have to reach what is in here
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let wait = self.ready;
        let stderr = fs::File::create(dir.join("stderr.log")).unwrap();
        fs::set_permissions(dir.join("stderr.log"), fs::Permissions::from_mode(0o666)).unwrap();
        let config = dir.join("proxyd.toml");
        fs::write(&config, self.render(&dir, body)).unwrap();
        let mut words = self.prefix.clone();
        words.push(BINARY.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(stderr);
        command.stdout(fs::File::create(dir.join("stdout.log")).unwrap());
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        let child = command.spawn().expect("the binary starts");
        let pid = match self.forks {
            false => child.id(),
            true => eventually("the forked child", PATIENCE, || {
                children_of(child.id()).first().map(|(pid, _)| *pid)
            }),
        };
        let proxy = Proxyd {
            child,
            pid,
            dir,
            folder: Some(folder),
            setup: self,
            status: None,
        };
        if wait {
            proxy.wait_log("ready: generation 1");
        }
        proxy
    }

    fn render(&self, dir: &Path, body: &str) -> String {
        let drops = self.prefix.first().is_some_and(|p| p == "setpriv");
        let user = if is_root() && !drops {
            "user = \"nobody\"\ngroup = \"nogroup\"\n"
        } else {
            ""
        };
        let pid = if self.master.contains("pid_file") {
            ""
        } else {
            "pid_file = \"$DIR/proxyd.pid\"\n"
        };
        let text = format!(
            "[master]\n{user}{pid}{}\n[worker]\n{}\n[log]\n{}\n[log.access]\n{}\n[metrics]\n{}\n{body}",
            self.master, self.worker, self.log, self.access, self.metrics
        );
        text.replace("$DIR", dir.to_str().unwrap())
    }
}

/// A running proxy. Dropping it takes down the master and every child.
#[derive(Debug)]
pub struct Proxyd {
    child: Child,
    pid: u32,
    dir: PathBuf,
    folder: Option<tempfile::TempDir>,
    setup: Setup,
    status: Option<ExitStatus>,
}

/// A listener and a route to one server, with more keys for the route.
pub fn to(server: SocketAddr, route: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\n[[route]]\nname = \"all\"\nto = \"{server}\"\n{route}\n"
    )
}

impl Proxyd {
    /// Starts with the default setup.
    #[track_caller]
    pub fn start(body: &str) -> Self {
        Setup::new().start(body)
    }

    /// Starts with one listener `web` and one route to a server.
    #[track_caller]
    pub fn to(server: SocketAddr) -> Self {
        Self::start(&to(server, ""))
    }

    /// The folder of this proxy.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.file("proxyd.toml")
    }

    /// The pid of the master.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What is in the error log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.file("stderr.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The access log, line by line.
    pub fn access_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The access log once it has so many lines.
    #[track_caller]
    pub fn access_lines(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} access log lines"), PATIENCE, || {
            Some(self.access_log()).filter(|lines| lines.len() >= count)
        })
    }

    /// The access log as JSON objects once it has so many lines.
    #[track_caller]
    pub fn access_json(&self, count: usize) -> Vec<serde_json::Value> {
        let parse =
            |l: &String| serde_json::from_str(l).unwrap_or_else(|e| panic!("not JSON ({e}): {l}"));
        self.access_lines(count).iter().map(parse).collect()
    }

    /// Waits for a text in the error log and returns its line.
    #[track_caller]
    pub fn wait_log(&self, text: &str) -> String {
        self.wait_log_for(text, PATIENCE)
    }

    /// The same with another bound.
    #[track_caller]
    pub fn wait_log_for(&self, text: &str, limit: Duration) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|l| l.contains(text)) {
                return line.to_owned();
            }
            let gone = !alive(self.pid()) || start.elapsed() > limit;
            assert!(!gone, "no {text:?} in the log within {limit:?}:\n{log}");
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// How often a text stands in the error log.
    pub fn log_count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until a text stands so often in the error log.
    #[track_caller]
    pub fn wait_log_count(&self, text: &str, count: usize) {
        let what = format!("{count} times {text:?} in the log");
        eventually(&what, PATIENCE, || {
            (self.log_count(text) >= count).then_some(())
        });
    }

    /// Where a listener listens: the last `listening on ADDR (listener NAME)` of the log.
    #[track_caller]
    pub fn addr(&self, listener: &str) -> SocketAddr {
        let mark = format!("(listener {listener})");
        let line = eventually(&format!("address of {listener}"), PATIENCE, || {
            self.log()
                .lines()
                .rfind(|l| l.contains("listening on") && l.contains(&mark))
                .map(str::to_owned)
        });
        let rest = line.split("listening on ").nth(1).unwrap();
        rest.split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    /// The address of the listener `web`.
    #[track_caller]
    pub fn web(&self) -> SocketAddr {
        self.addr("web")
    }

    /// A client connection to `web`.
    #[track_caller]
    pub fn client(&self) -> client::Client {
        client::Client::connect(self.web())
    }

    /// One GET to `web`.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> super::Response {
        client::get(self.web(), host, path)
    }

    /// One scrape.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let addr = self.addr("metrics");
        Metrics::new(
            client::get(addr, "localhost", "/metrics")
                .expect(200)
                .text(),
        )
    }

    /// Sends a signal to the master.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Writes another configuration; the sections of the setup stay.
    pub fn write(&self, body: &str) {
        self.write_raw(&self.setup.render(&self.dir, body));
    }

    /// Writes a configuration as it is.
    pub fn write_raw(&self, text: &str) {
        let next = self.file("proxyd.toml.new");
        let mut file = fs::File::create(&next).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        fs::rename(next, self.config()).unwrap();
    }

    /// Sends HUP and waits until the next generation is live.
    #[track_caller]
    pub fn reload(&self) {
        let before = self.log_count(" is live");
        self.signal("HUP");
        self.wait_log_count(" is live", before + 1);
    }

    /// Sends HUP and waits until the reload is refused.
    #[track_caller]
    pub fn reload_fails(&self) {
        let before = self.log_count("reload failed");
        self.signal("HUP");
        self.wait_log_count("reload failed", before + 1);
    }

    /// Runs `proxyd -c THIS -s WORD`.
    pub fn control(&self, word: &str) -> super::tool::Output {
        let config = self.config();
        super::tool::run(
            BINARY,
            &["-c", config.to_str().unwrap(), "-s", word],
            PATIENCE,
        )
    }

    /// Pids of living workers, oldest first, with their titles.
    pub fn workers(&self) -> Vec<(u32, String)> {
        self.children()
            .into_iter()
            .filter(|(_, t)| t.starts_with("proxyd: worker"))
            .collect()
    }

    /// The pid of the only worker of the newest generation.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        eventually("a worker", PATIENCE, || {
            self.workers().last().map(|(pid, _)| *pid)
        })
    }

    /// The pid of the admin process.
    #[track_caller]
    pub fn admin(&self) -> u32 {
        eventually("the admin process", PATIENCE, || {
            self.children()
                .into_iter()
                .find(|(_, t)| t.starts_with("proxyd: admin"))
                .map(|(p, _)| p)
        })
    }

    /// Living children of the master with their titles, by pid.
    pub fn children(&self) -> Vec<(u32, String)> {
        children_of(self.pid())
    }

    /// Waits for the exit of the master.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.status = Some(status);
                return status;
            }
            assert!(
                start.elapsed() < limit,
                "still running after {limit:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Sends TERM and waits for the exit.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(PATIENCE)
    }
}

impl Drop for Proxyd {
    fn drop(&mut self) {
        let family = children_of(self.pid);
        if self.status.is_none() && self.child.try_wait().ok().flatten().is_none() {
            if alive(self.pid) {
                signal(self.pid, "KILL");
            }
            self.child.kill().ok();
            self.child.wait().ok();
        }
        for (pid, title) in family {
            if alive(pid) && title.starts_with("proxyd") {
                signal(pid, "KILL");
            }
        }
        if std::thread::panicking() {
            eprintln!(
                "---- error log of {} ----\n{}\n----",
                self.dir.display(),
                without_warnings(&self.log())
            );
        }
        drop(self.folder.take());
    }
}

/// The log without the warnings of the configuration checker: port 0 is meant in tests.
fn without_warnings(log: &str) -> String {
    let paragraphs = log
        .split("\n\n")
        .filter(|p| !p.trim_start().starts_with("warning["));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Sends a signal by name to a process that a test started.
pub fn signal(pid: u32, name: &str) {
    assert!(pid > 1);
    Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
}

/// Whether a process exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// The title (command line) of a process.
pub fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// One line of `/proc/PID/status`.
pub fn status_line(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn children_of(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap();
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(state, ppid)| ppid == parent && state != 'Z'))
        .map(|pid| (pid, title(pid)))
        .collect();
    found.sort_unstable();
    found
}
