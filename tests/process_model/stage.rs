//! A master on a stage of its own: a folder, a configuration, and questions about what can be
//! seen from outside. Everything is taken down when the stage is.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every configuration begins with.
pub const WEB: &str = "listen web=127.0.0.1:0\n";

/// A running master.
pub struct Stage {
    dir: tempfile::TempDir,
    child: Child,
    pid: i32,
}

/// How a test program is called.
pub fn command(file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--master").arg(file);
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
    command
}

/// A folder that every user may enter, with a configuration.
pub fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("toy"), config).unwrap();
    dir
}

/// The error log of a folder as a place to write to.
pub fn errors(dir: &Path) -> Stdio {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).append(true).open(dir.join("stderr"));
    Stdio::from(file.unwrap())
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Stage {
    /// Starts a master and waits until it is ready.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        let stage = Self::start_with(folder(config), |_| {});
        stage.wait_log("ready: generation 1");
        stage
    }

    /// Starts a master in a folder, with changes to the command; does not wait.
    pub fn start_with(dir: tempfile::TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(&dir.path().join("toy"));
        command.stderr(errors(dir.path()));
        change(&mut command);
        let child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        Self { dir, child, pid }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Of a master that went to the background.
    pub fn set_pid(&mut self, pid: i32) {
        self.pid = pid;
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        self.wait_log_count(text, 1);
    }

    #[track_caller]
    pub fn wait_log_count(&self, text: &str, count: usize) {
        let start = Instant::now();
        while self.log_count(text) < count {
            let late = start.elapsed() > PATIENCE;
            assert!(!late, "{count} times {text:?} is not in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log_count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Where a listener listens, by its line in the log.
    #[track_caller]
    pub fn addr(&self, name: &str) -> SocketAddr {
        let mark = format!(" (listener {name})");
        eventually(&format!("address of {name}"), || {
            let log = self.log();
            let line = log.lines().rfind(|l| l.ends_with(&mark))?;
            let rest = line.split("listening on ").nth(1)?;
            rest.strip_suffix(&mark)?.parse().ok()
        })
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// Writes another configuration; the old one stays until all of the new one is there.
    pub fn write(&self, config: &str) {
        fs::write(self.path("toy.new"), config).unwrap();
        fs::rename(self.path("toy.new"), self.path("toy")).unwrap();
    }

    /// Reloads and waits until the next generation is live.
    #[track_caller]
    pub fn reload(&self, config: &str) {
        let before = self.log_count(" is live");
        self.write(config);
        self.signal("HUP");
        self.wait_log_count(" is live", before + 1);
    }

    /// `-s`: the exit code and what is printed.
    pub fn ask(&self, word: &str) -> (bool, String) {
        let output = Command::new(std::env::current_exe().unwrap())
            .arg("--ask")
            .arg(self.path("proxyd.pid"))
            .arg(word)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text.trim_end().to_owned())
    }

    /// Living children with a title that begins so, by number.
    pub fn children(&self, title: &str) -> Vec<(i32, String)> {
        children_of(self.pid)
            .into_iter()
            .filter(|(_, t)| t.starts_with(title))
            .collect()
    }

    /// The same, once there are so many.
    #[track_caller]
    pub fn wait_children(&self, title: &str, count: usize) -> Vec<i32> {
        eventually(&format!("{count} children {title:?}"), || {
            let found = self.children(title);
            (found.len() == count).then(|| found.into_iter().map(|(pid, _)| pid).collect())
        })
    }

    /// One question to the listener `web`.
    #[track_caller]
    pub fn who(&self) -> String {
        who(self.addr("web")).unwrap()
    }

    /// A connection that stays: the far side holds it until its drain bound.
    #[track_caller]
    pub fn hold(&self) -> TcpStream {
        let mut stream = connect(self.addr("web")).unwrap();
        stream.write_all(b"hold\n").unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"holding\n");
        stream
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end", || child.try_wait().unwrap())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let children = children_of(self.pid);
        signal(self.pid, "KILL");
        for (pid, _) in children {
            signal(pid, "KILL");
        }
        let _gone = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log was:\n{}", self.log());
        }
    }
}

/// Sends a signal; that the process is gone is fine.
pub fn signal(pid: i32, name: &str) {
    let _gone = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

pub fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, asks, and returns the answer.
pub fn who(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = connect(addr)?;
    stream.write_all(b"who\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.ends_with('\n') {
        Ok(line.trim_end().to_owned())
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// Whether a process lives.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn children_of(parent: i32) -> Vec<(i32, String)> {
    let mut found: Vec<(i32, String)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            rest.split(' ').nth(1) == Some(&parent.to_string()) && !rest.starts_with('Z')
        })
        .map(|pid| (pid, title(pid)))
        .collect();
    found.sort_unstable();
    found
}

/// What `ps` shows.
pub fn title(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line);
    text.trim_end_matches('\0').to_owned()
}

/// A line of `/proc/PID/status`.
pub fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(&format!("{field}:")));
    let value = line.and_then(|l| l.split_once(':')).map_or("", |(_, v)| v);
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
