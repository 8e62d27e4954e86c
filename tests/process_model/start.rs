//! Starting: titles, files, privileges, what each process holds, and how a start fails.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Case;
use crate::stage::{
    PATIENCE, Stage, WEB, command, connect, errors, eventually, folder, is_alive, status, title,
    who,
};

pub const CASES: &[Case] = &[
    ("a_master_with_its_children", a_master_with_its_children),
    ("children_hold_no_power", children_hold_no_power),
    (
        "children_hold_their_own_sockets",
        children_hold_their_own_sockets,
    ),
    ("a_start_that_fails_says_why", a_start_that_fails_says_why),
    ("a_second_master_is_refused", a_second_master_is_refused),
    ("a_stale_pid_file_is_replaced", a_stale_pid_file_is_replaced),
    ("the_background", the_background),
    ("several_loops_in_one_worker", several_loops_in_one_worker),
    ("the_service_manager_is_told", the_service_manager_is_told),
    (
        "sockets_of_the_service_manager",
        sockets_of_the_service_manager,
    ),
    ("as_process_1", as_process_1),
];

fn is_root() -> bool {
    status(i32::try_from(std::process::id()).unwrap(), "Uid").starts_with("0 ")
}

fn a_master_with_its_children() {
    let config = format!("{WEB}admin metrics=127.0.0.1:0\ndemo 2\nworkers 3\n");
    let mut stage = Stage::start(&config);
    assert_eq!(title(stage.pid()), "proxyd: master");
    stage.wait_children("proxyd: admin", 1);
    stage.wait_children("proxyd: demo", 1);
    let titles: Vec<String> = stage
        .children("proxyd: worker")
        .into_iter()
        .map(|(_, title)| title)
        .collect();
    let wanted = [0, 1, 2].map(|n| format!("proxyd: worker {n} gen 1"));
    assert_eq!(titles, wanted);
    assert!(stage.log().contains("ready: generation 1, 3 workers"));
    assert_eq!(stage.log_count("listening on "), 2);
    let answer = stage.who();
    assert!(answer.starts_with("gen 1 worker "), "{answer}");
    assert_eq!(who(stage.addr("metrics")).unwrap(), "admin 1");
    let log = stage.log();
    for number in 0..2 {
        let line = log
            .lines()
            .find(|l| l.contains(&format!("demo {number} is ")));
        let addr = line.unwrap().split(" is ").nth(1).unwrap();
        assert_eq!(who(addr.parse().unwrap()).unwrap(), "demo 1");
    }
    let pid = fs::read_to_string(stage.path("proxyd.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", stage.pid()));
    let children = stage.children("");
    stage.signal("TERM");
    assert_eq!(stage.wait_exit().code(), Some(0));
    assert!(children.iter().all(|(pid, _)| !is_alive(*pid)));
    assert!(!stage.path("proxyd.pid").exists() && !stage.path("proxyd.pid.status").exists());
    assert_eq!(stage.log_count("started again"), 0);
}

fn children_hold_no_power() {
    let user = if is_root() { "user nobody\n" } else { "" };
    let stage = Stage::start(&format!("{WEB}admin metrics=127.0.0.1:0\n{user}"));
    let mut children = stage.wait_children("proxyd: worker", 2);
    children.extend(stage.wait_children("proxyd: admin", 1));
    assert!(stage.who().starts_with("gen 1"));
    for pid in children {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000000");
        }
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        if is_root() {
            assert!(!status(pid, "Uid").split(' ').any(|id| id == "0"));
            assert!(!status(pid, "Gid").split(' ').any(|id| id == "0"));
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        assert_eq!(status(pid, "SigBlk"), "0000000000000000");
    }
}

fn children_hold_their_own_sockets() {
    let stage = Stage::start(&format!("{WEB}admin metrics=127.0.0.1:0\nworkers 4\n"));
    let inode = |link: &str| link.strip_prefix("socket:").map(str::to_owned);
    let listening: Vec<String> = fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .lines()
        .filter(|l| l.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|l| Some(format!("[{}]", l.split_whitespace().nth(9)?)))
        .collect();
    let held = |pid: i32| -> Vec<String> {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|e| fs::read_link(e.ok()?.path()).ok())
            .filter_map(|link| inode(link.to_str()?))
            .filter(|socket| listening.contains(socket))
            .collect()
    };
    let workers = stage.wait_children("proxyd: worker", 4);
    let mut all: Vec<String> = workers.iter().flat_map(|pid| held(*pid)).collect();
    assert_eq!(all.len(), 4, "one socket for each worker");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "and each one its own");
    let admin = stage.wait_children("proxyd: admin", 1)[0];
    assert_eq!(held(admin).len(), 1);
    assert!(!all.contains(&held(admin)[0]));
}

/// Runs a master that is to fail, and returns its log.
fn failing(config: &str) -> String {
    let mut stage = Stage::start_with(folder(config), |_| {});
    assert_eq!(stage.wait_exit().code(), Some(1), "{}", stage.log());
    assert!(!stage.path("proxyd.pid").exists());
    assert_eq!(stage.children(""), []);
    stage.log()
}

fn a_start_that_fails_says_why() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("listen web={}\n", busy.local_addr().unwrap());
    for (config, wanted) in [
        ("listen\n".to_owned(), "start failed: line 1: no value"),
        (taken, "the port is in use by another process"),
        (
            format!("{WEB}fail_bound x\n"),
            "not content with its sockets",
        ),
        (
            format!("{WEB}fail_worker x\n"),
            "worker 1 does not like this",
        ),
        (format!("{WEB}crash_worker x\n"), "ended by SIGABRT"),
        (
            format!("{WEB}hang_worker x\nready_timeout 300ms\n"),
            "not ready in time",
        ),
        (
            format!("{WEB}user no-such-user\n"),
            "user no-such-user does not exist",
        ),
        (format!("{WEB}log no/such/dir\n"), "no/such/dir"),
        (
            "listen web=fd:none\n".to_owned(),
            "handed over no socket of this name",
        ),
    ] {
        let log = failing(&config);
        assert!(log.contains(wanted), "{wanted:?} is not in\n{log}");
        assert!(!log.contains("ready:"));
    }
}

fn a_second_master_is_refused() {
    let stage = Stage::start(WEB);
    let second = command(&stage.path("toy")).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    let wanted = format!("proxyd runs already as process {}", stage.pid());
    assert!(text.contains(&wanted), "{text}");
    let addr = stage.addr("web");
    let log = failing(&format!("listen web={addr}\n"));
    assert!(
        log.contains("the port is in use by another process"),
        "{log}"
    );
    assert!(stage.path("proxyd.pid").exists());
    assert!(stage.who().starts_with("gen 1"));
}

fn a_stale_pid_file_is_replaced() {
    let dir = folder(WEB);
    fs::write(dir.path().join("proxyd.pid"), "4194300\n").unwrap();
    let stage = Stage::start_with(dir, |_| {});
    stage.wait_log("ready:");
    let pid = fs::read_to_string(stage.path("proxyd.pid")).unwrap();
    assert_eq!(pid.trim(), stage.pid().to_string());
    let dir = folder(WEB);
    fs::write(dir.path().join("proxyd.pid"), "mine\n").unwrap();
    let mut stage = Stage::start_with(dir, |_| {});
    assert_eq!(stage.wait_exit().code(), Some(1));
    assert_eq!(fs::read(stage.path("proxyd.pid")).unwrap(), b"mine\n");
}

fn the_background() {
    let mut stage = Stage::start_with(folder(WEB), |command| {
        command.arg("-d");
    });
    assert_eq!(stage.wait_exit().code(), Some(0));
    // The process that was started left, and everything is ready already.
    assert!(stage.log().contains("ready: generation 1"));
    let text = fs::read_to_string(stage.path("proxyd.pid")).unwrap();
    let pid: i32 = text.trim().parse().unwrap();
    assert_ne!(pid, stage.pid());
    stage.set_pid(pid);
    assert_eq!(title(pid), "proxyd: master");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_ne!(fields[3], text.trim(), "it must not lead its session");
    assert_eq!(fields[4], "0", "it has no terminal");
    assert!(stage.who().starts_with("gen 1"));
    assert_eq!(stage.ask("stop"), (true, "stopped".to_owned()));
    assert!(!is_alive(pid));
    let bad = folder("listen\n");
    let mut stage = Stage::start_with(bad, |command| {
        command.arg("-d");
    });
    assert_eq!(stage.wait_exit().code(), Some(1));
    let bad = folder(&format!("{WEB}fail_worker x\n"));
    let mut stage = Stage::start_with(bad, |command| {
        command.arg("-d");
    });
    assert_eq!(stage.wait_exit().code(), Some(1));
}

fn several_loops_in_one_worker() {
    for accept in ["reuseport", "shared"] {
        let config = format!("{WEB}workers 1\nthreads 3\naccept {accept}\n");
        let mut stage = Stage::start(&config);
        let worker = stage.wait_children("proxyd: worker", 1)[0];
        assert_eq!(status(worker, "Threads"), "4");
        let mut seen = std::collections::BTreeSet::new();
        eventually("an answer of each loop", || {
            // Held connections make the other loops accept, too.
            let _held = stage.hold();
            let answer = stage.who();
            seen.insert(answer.split(' ').nth(3)?.to_owned());
            (seen.len() == 3).then_some(())
        });
        stage.reload(&config.replace("threads 3", "threads 2"));
        eventually("gen 2", || stage.who().starts_with("gen 2").then_some(()));
        eventually("the end of the old worker", || {
            (!is_alive(worker)).then_some(())
        });
        stage.signal("TERM");
        assert_eq!(stage.wait_exit().code(), Some(0));
    }
    let log = failing(&format!("{WEB}workers 2\nthreads 2\nfail_worker x\n"));
    assert!(log.contains("worker 1 does not like this"), "{log}");
}

fn the_service_manager_is_told() {
    let dir = folder(WEB);
    let path = dir.path().join("notify");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buf = [0; 512];
        let len = receiver.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..len]).into_owned()
    };
    let without_pings = || loop {
        let text = next();
        if text != "WATCHDOG=1" {
            return text;
        }
    };
    let mut stage = Stage::start_with(dir, |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000");
    });
    let ready = without_pings();
    assert_eq!(ready, "READY=1\nSTATUS=generation 1, 2 workers");
    assert_eq!(next(), "WATCHDOG=1");
    assert_eq!(next(), "WATCHDOG=1");
    stage.signal("HUP");
    let reloading = without_pings();
    let (first, second) = reloading.split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    let usec = second.strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(usec.split('\n').next().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(without_pings(), "READY=1\nSTATUS=generation 2, 2 workers");
    stage.write("listen\n");
    stage.signal("HUP");
    assert!(without_pings().starts_with("RELOADING=1"));
    assert!(without_pings().starts_with("READY=1\nSTATUS=reload failed"));
    stage.signal("TERM");
    assert!(without_pings().starts_with("STOPPING=1"));
    assert_eq!(stage.wait_exit().code(), Some(0));
    let worker = stage.children("proxyd: worker");
    assert_eq!(worker, []);
}

fn sockets_of_the_service_manager() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = "listen web=fd:front\n";
    let dir = folder(config);
    let file = dir.path().join("toy");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=front \
                  exec \"$0\" --master \"$1\" 3<&0 </dev/null";
    let stderr = errors(dir.path());
    let mut stage = Stage::start_with(dir, |command| {
        *command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(file)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .stderr(stderr);
    });
    stage.wait_log("ready: generation 1");
    assert_eq!(stage.addr("web"), addr);
    assert!(stage.who().starts_with("gen 1"));
    stage.reload(config);
    eventually("gen 2", || stage.who().starts_with("gen 2").then_some(()));
    stage.signal("TERM");
    assert_eq!(stage.wait_exit().code(), Some(0));
    assert!(connect(addr).is_err());
}

/// As the first process of a container: orphans come to the master and must not stay as zombies.
fn as_process_1() {
    let probe = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|s| s.success()) {
        eprintln!("as_process_1: namespaces are not allowed here; nothing was tested");
        return;
    }
    let dir = folder(&format!("{WEB}workers 1\n"));
    let file = dir.path().join("toy");
    let exe = std::env::current_exe().unwrap();
    let stderr = errors(dir.path());
    let mut stage = Stage::start_with(dir, |command| {
        *command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(&exe)
            .arg("--master")
            .arg(&file)
            .stderr(stderr);
    });
    stage.wait_log("ready: generation 1");
    let text = fs::read_to_string(stage.path("proxyd.pid")).unwrap();
    assert_eq!(text, "1\n");
    let master = stage.wait_children("proxyd: master", 1)[0];
    // A shell inside leaves an orphan that ends by itself.
    let inside = |script: &str| {
        let status = Command::new("nsenter")
            .args([
                "--pid",
                "--mount",
                "--target",
                &master.to_string(),
                "sh",
                "-c",
                script,
            ])
            .status();
        status.is_ok_and(|s| s.success())
    };
    assert!(inside("(sleep 0.2 &) ; exit 0"));
    std::thread::sleep(Duration::from_millis(600));
    let zombies = fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .any(|e| {
            let stat = fs::read_to_string(e.path().join("stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map_or("", |(_, r)| r);
            rest.starts_with(&format!("Z {master} "))
        });
    assert!(!zombies, "an orphan was not reaped");
    assert!(Path::new(&format!("/proc/{master}")).exists());
    crate::stage::signal(master, "TERM");
    assert_eq!(stage.wait_exit().code(), Some(0), "{}", stage.log());
}
