//! Crashes, silence, and the end, in every way in which it comes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::Case;
use crate::stage::{Stage, WEB, connect, eventually, is_alive, signal, who};

pub const CASES: &[Case] = &[
    (
        "a_killed_worker_is_replaced_at_once_then_later",
        a_killed_worker_is_replaced_at_once_then_later,
    ),
    ("an_alert_is_raised", an_alert_is_raised),
    (
        "a_crash_leaves_waiting_connections_alone",
        a_crash_leaves_waiting_connections_alone,
    ),
    ("a_silent_worker_is_replaced", a_silent_worker_is_replaced),
    (
        "a_worker_that_is_told_to_end_drains",
        a_worker_that_is_told_to_end_drains,
    ),
    (
        "children_without_a_master_leave",
        children_without_a_master_leave,
    ),
    ("a_stop_is_bounded", a_stop_is_bounded),
    ("a_second_stop_is_at_once", a_second_stop_is_at_once),
    ("a_graceful_stop_waits", a_graceful_stop_waits),
    ("a_stop_by_name", a_stop_by_name),
];

fn a_killed_worker_is_replaced_at_once_then_later() {
    let stage = Stage::start(&format!("{WEB}workers 1\nrestart_delay 600ms\n"));
    let first = stage.wait_children("proxyd: worker", 1)[0];
    signal(first, "KILL");
    stage.wait_log("worker 0 of generation 1: ended by SIGKILL; started again now");
    assert!(stage.who().starts_with("gen 1"));
    let second = stage.wait_children("proxyd: worker 0 gen 1", 1)[0];
    assert_ne!(first, second);
    let start = Instant::now();
    signal(second, "SEGV");
    stage.wait_log("ended by SIGSEGV; started again in 600ms");
    // Its socket is the master's: whoever connects meanwhile waits, and is served.
    assert!(stage.who().starts_with("gen 1"));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(500), "{took:?}");
    assert_eq!(stage.log_count("alert:"), 0);
}

fn an_alert_is_raised() {
    let dir = crate::stage::folder("");
    let script = dir.path().join("alert.sh");
    let told = dir.path().join("told");
    let text = format!("#!/bin/sh\necho \"$@\" >> {}\n", told.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "{WEB}workers 1\nrestart_delay 10ms\nalert_exec {}\n",
        script.display()
    );
    fs::write(dir.path().join("toy"), config).unwrap();
    let stage = Stage::start_with(dir, |_| {});
    stage.wait_log("ready:");
    for _ in 0..4 {
        let worker = stage.wait_children("proxyd: worker", 1)[0];
        assert!(stage.who().starts_with("gen 1"));
        signal(worker, "KILL");
        eventually("its end", || (!is_alive(worker)).then_some(()));
    }
    assert!(stage.who().starts_with("gen 1"));
    let wanted = "fixed worker 0 was started again 3 times within 5m\n";
    let text = eventually("the alert", || {
        fs::read_to_string(&told).ok().filter(|t| !t.is_empty())
    });
    assert_eq!(text, wanted);
    assert_eq!(stage.log_count("alert: worker 0"), 1);
}

fn a_crash_leaves_waiting_connections_alone() {
    let stage = Stage::start(&format!("{WEB}workers 2\n"));
    let addr = stage.addr("web");
    for pid in stage.wait_children("proxyd: worker", 2) {
        signal(pid, "STOP");
    }
    let waiting: Vec<_> = (0..20).map(|_| connect(addr).unwrap()).collect();
    for pid in stage.wait_children("proxyd: worker", 2) {
        signal(pid, "KILL");
    }
    for mut stream in waiting {
        std::io::Write::write_all(&mut stream, b"who\n").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"gen 1");
    }
}

fn a_silent_worker_is_replaced() {
    let stage = Stage::start(&format!("{WEB}workers 2\nheartbeat_timeout 2s\n"));
    let workers = stage.wait_children("proxyd: worker", 2);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.log_count("silent"), 0);
    signal(workers[0], "STOP");
    stage.wait_log("is silent for 2 s; killed");
    stage.wait_log("silent for 2 s; started again now");
    let now = stage.wait_children("proxyd: worker", 2);
    assert!(now.contains(&workers[1]) && !now.contains(&workers[0]));
}

fn a_worker_that_is_told_to_end_drains() {
    let stage = Stage::start(&format!("{WEB}workers 1\ndrain_timeout_upgraded 1s\n"));
    let worker = stage.wait_children("proxyd: worker", 1)[0];
    let _held = stage.hold();
    let start = Instant::now();
    signal(worker, "TERM");
    eventually("its end", || (!is_alive(worker)).then_some(()));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(700), "{took:?}");
    stage.wait_log("ended by code 0; started again now");
    assert!(stage.who().starts_with("gen 1"));
    // What a terminal sends to the whole group is the master's business.
    let worker = stage.wait_children("proxyd: worker", 1)[0];
    for name in ["INT", "HUP", "QUIT", "USR1", "USR2"] {
        signal(worker, name);
    }
    assert!(stage.who().starts_with("gen 1"));
    assert!(is_alive(worker));
}

fn children_without_a_master_leave() {
    let config = format!("{WEB}admin metrics=127.0.0.1:0\ndemo 1\ndrain_timeout_upgraded 1s\n");
    let stage = Stage::start(&config);
    stage.wait_children("proxyd: admin", 1);
    assert_eq!(who(stage.addr("metrics")).unwrap(), "admin 1");
    let children = stage.children("proxyd: ");
    assert_eq!(children.len(), 4);
    let mut held = stage.hold();
    let start = Instant::now();
    stage.signal("KILL");
    let mut rest = Vec::new();
    held.read_to_end(&mut rest).unwrap();
    let lived = start.elapsed();
    assert!(lived > Duration::from_millis(700), "{lived:?}");
    for (pid, title) in children {
        eventually(&format!("the end of {title}"), || {
            (!is_alive(pid)).then_some(())
        });
    }
}

fn a_stop_is_bounded() {
    let mut stage = Stage::start(&format!("{WEB}stop_timeout 700ms\n"));
    let held = stage.hold();
    let start = Instant::now();
    stage.signal("INT");
    stage.wait_log("SIGINT: stopping");
    assert_eq!(stage.wait_exit().code(), Some(0));
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(500) && took < Duration::from_secs(10),
        "{took:?}"
    );
    drop(held);
    // A worker that hears nothing is killed.
    let mut stage = Stage::start(&format!("{WEB}stop_timeout 200ms\n"));
    let worker = stage.wait_children("proxyd: worker", 2)[0];
    signal(worker, "STOP");
    stage.signal("TERM");
    assert_eq!(stage.wait_exit().code(), Some(0));
    assert!(!is_alive(worker));
}

fn a_second_stop_is_at_once() {
    let mut stage = Stage::start(&format!("{WEB}stop_timeout 60s\n"));
    let _held = stage.hold();
    stage.signal("TERM");
    stage.wait_log("stopping");
    assert!(is_alive(stage.pid()));
    let start = Instant::now();
    stage.signal("TERM");
    assert_eq!(stage.wait_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn a_graceful_stop_waits() {
    let mut stage = Stage::start(&format!("{WEB}stop_timeout 100ms\ndrain_timeout 100ms\n"));
    let held = stage.hold();
    stage.signal("QUIT");
    stage.wait_log("stopping when the last connection is over");
    std::thread::sleep(Duration::from_millis(3500));
    assert!(is_alive(stage.pid()));
    eventually("closed ports", || {
        connect(stage.addr("web")).is_err().then_some(())
    });
    drop(held);
    assert_eq!(stage.wait_exit().code(), Some(0));
}

fn a_stop_by_name() {
    for word in ["stop", "quit"] {
        let mut stage = Stage::start(WEB);
        assert_eq!(stage.ask(word), (true, "stopped".to_owned()));
        assert_eq!(stage.wait_exit().code(), Some(0));
        let (done, text) = stage.ask(word);
        assert!(!done && text.contains("does not run"), "{text}");
    }
}
