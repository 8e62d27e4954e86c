//! Reloading: no connection is lost, a failure changes nothing, and whoever asked is told.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::Case;
use crate::stage::{Stage, WEB, connect, eventually, is_alive, who};

pub const CASES: &[Case] = &[
    ("a_reload_loses_no_connection", a_reload_loses_no_connection),
    (
        "a_reload_keeps_ports_and_closes_others",
        a_reload_keeps_ports_and_closes_others,
    ),
    (
        "a_bad_configuration_changes_nothing",
        a_bad_configuration_changes_nothing,
    ),
    (
        "workers_that_fail_change_nothing",
        workers_that_fail_change_nothing,
    ),
    (
        "requests_in_a_row_are_one_reload",
        requests_in_a_row_are_one_reload,
    ),
    (
        "old_connections_live_to_their_bound",
        old_connections_live_to_their_bound,
    ),
    (
        "old_generations_are_bounded_in_number",
        old_generations_are_bounded_in_number,
    ),
    ("the_admin_process_follows", the_admin_process_follows),
    ("logs_are_opened_anew", logs_are_opened_anew),
    (
        "news_reaches_workers_without_a_reload",
        news_reaches_workers_without_a_reload,
    ),
];

/// Clients that connect, ask and go, all the time; counts what goes wrong.
fn under_load(stage: &Stage, work: impl FnOnce()) -> (usize, Vec<String>) {
    let addr = stage.addr("web");
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match who(addr) {
                        Ok(_) => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => failures.lock().unwrap().push(error.to_string()),
                    }
                }
            });
        }
        work();
        over.store(true, Ordering::Relaxed);
    });
    (served.into_inner(), failures.into_inner().unwrap())
}

/// The old generation may answer until it hears that it is over.
fn becomes(stage: &Stage, wanted: &str) {
    let what = format!("an answer of {wanted}");
    eventually(&what, || stage.who().starts_with(wanted).then_some(()));
}

fn a_reload_loses_no_connection() {
    for accept in ["reuseport", "shared"] {
        let stage = Stage::start(&format!("{WEB}accept {accept}\n"));
        let (served, failures) = under_load(&stage, || {
            // More workers, fewer, and the other way to share them.
            for (workers, mode) in [
                (2, accept),
                (4, accept),
                (1, accept),
                (3, "shared"),
                (2, "reuseport"),
                (4, accept),
                (2, accept),
            ] {
                stage.reload(&format!("{WEB}workers {workers}\naccept {mode}\n"));
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        assert_eq!(failures, Vec::<String>::new(), "{accept}: of {served}");
        assert!(served > 100, "only {served}");
        becomes(&stage, "gen 8 ");
        stage.wait_children("proxyd: worker", 2);
    }
}

fn a_reload_keeps_ports_and_closes_others() {
    let two = "listen web=127.0.0.1:0,other=127.0.0.1:0\n";
    let stage = Stage::start(two);
    let (web, other) = (stage.addr("web"), stage.addr("other"));
    stage.reload(WEB);
    assert_eq!(
        stage.log_count("listening on"),
        2,
        "no line for a kept port"
    );
    assert_eq!(stage.addr("web"), web);
    becomes(&stage, "gen 2");
    eventually("the end of the old listener", || {
        connect(other).is_err().then_some(())
    });
    stage.reload("listen web=127.0.0.1:0,third=127.0.0.1:0\n");
    assert_eq!(stage.log_count("listening on"), 3);
    assert!(who(stage.addr("third")).unwrap().starts_with("gen 3"));
    becomes(&stage, "gen 3");
}

fn a_bad_configuration_changes_nothing() {
    let stage = Stage::start(WEB);
    let before = stage.wait_children("proxyd: worker", 2);
    stage.write("listen web=127.0.0.1:0\nworkers\n");
    let (done, text) = stage.ask("reload");
    assert!(!done);
    let wanted = "reload failed: line 2: no value\n  workers\n  ^\ngeneration 1 serves on";
    assert_eq!(text, wanted);
    assert!(stage.log().contains("reload failed: line 2: no value"));
    assert_eq!(stage.wait_children("proxyd: worker", 2), before);
    assert!(stage.who().starts_with("gen 1"));
    stage.write(WEB);
    assert_eq!(
        stage.ask("reload"),
        (true, "generation 2 is live".to_owned())
    );
    becomes(&stage, "gen 2");
}

fn workers_that_fail_change_nothing() {
    let stage = Stage::start(WEB);
    let before = stage.wait_children("proxyd: worker", 2);
    let addr = stage.addr("web");
    let (_, failures) = under_load(&stage, || {
        for (config, wanted) in [
            ("fail_worker x", "worker 1 does not like this configuration"),
            ("fail_bound x", "not content with its sockets"),
            ("crash_worker x\nworkers 4", "ended by SIGABRT"),
            (
                "hang_worker x\nready_timeout 300ms\nworkers 3",
                "not ready in time",
            ),
        ] {
            let listen = "listen web=127.0.0.1:0,new=127.0.0.1:0";
            stage.write(&format!("{listen}\n{config}\n"));
            let (done, text) = stage.ask("reload");
            assert!(!done && text.contains(wanted), "{text}");
        }
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(stage.wait_children("proxyd: worker", 2), before);
    assert_eq!(stage.log_count("listening on"), 1);
    assert!(who(addr).unwrap().starts_with("gen 1"));
    assert_eq!(stage.log_count("started again"), 0);
}

fn requests_in_a_row_are_one_reload() {
    let stage = Stage::start(&format!("{WEB}reload_debounce 500ms\n"));
    for _ in 0..5 {
        stage.signal("HUP");
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.wait_log("generation 2 is live");
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(stage.log_count(" is live"), 1);
    // Two who ask at the same time are both told.
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| stage.ask("reload")))
            .collect();
        for answer in asking {
            let (done, text) = answer.join().unwrap();
            assert!(done && text.ends_with("is live"), "{text}");
        }
    });
}

fn old_connections_live_to_their_bound() {
    let config = format!("{WEB}workers 1\ndrain_timeout_upgraded 1s\n");
    let stage = Stage::start(&config);
    let mut held = stage.hold();
    let old = stage.wait_children("proxyd: worker", 1)[0];
    stage.reload(&config);
    let start = std::time::Instant::now();
    assert!(is_alive(old));
    becomes(&stage, "gen 2");
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut held, &mut rest).unwrap();
    let lived = start.elapsed();
    assert!(lived > Duration::from_millis(700), "{lived:?}");
    eventually("the end of the old worker", || {
        (!is_alive(old)).then_some(())
    });
    stage.wait_log("generation 1 is gone");
    assert_eq!(stage.log_count("started again"), 0);
}

fn old_generations_are_bounded_in_number() {
    let config = format!("{WEB}workers 1\nmax_generations 2\n");
    let stage = Stage::start(&config);
    let _first = stage.hold();
    let first = stage.wait_children("proxyd: worker", 1)[0];
    stage.reload(&config);
    let _second = stage.hold();
    assert!(is_alive(first));
    stage.reload(&config);
    eventually("the end of the first generation", || {
        (!is_alive(first)).then_some(())
    });
    stage.wait_log("generation 1 is over its bounds");
    stage.wait_children("proxyd: worker 0 gen 2", 1);
    stage.wait_children("proxyd: worker 0 gen 3", 1);
}

fn the_admin_process_follows() {
    let with = format!("{WEB}admin metrics=127.0.0.1:0\n");
    let stage = Stage::start(&with);
    let addr = stage.addr("metrics");
    assert_eq!(who(addr).unwrap(), "admin 1");
    let (_, failures) = under_load(&stage, || {
        stage.reload(&with);
        eventually("the new admin process", || {
            (who(addr).ok()? == "admin 2").then_some(())
        });
        stage.wait_children("proxyd: admin", 1);
        let admin = stage.wait_children("proxyd: admin", 1)[0];
        crate::stage::signal(admin, "KILL");
        eventually("another admin process", || {
            let now = stage.children("proxyd: admin");
            (now.len() == 1 && now[0].0 != admin).then_some(())
        });
    });
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(who(addr).unwrap(), "admin 2");
    stage.reload(WEB);
    stage.wait_children("proxyd: admin", 0);
    assert!(connect(addr).is_err());
}

fn logs_are_opened_anew() {
    let stage = Stage::start(&format!("{WEB}log access.log\nthreads 2\n"));
    let path = stage.path("access.log");
    fs::rename(&path, stage.path("access.log.1")).unwrap();
    let answer = stage.ask("reopen");
    assert_eq!(answer, (true, "the logs are open anew".to_owned()));
    let lines = eventually("a line of each worker", || {
        let text = fs::read_to_string(&path).ok()?;
        let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        (lines.len() == 2).then_some(lines)
    });
    let wanted = [0, 1].map(|n| format!("worker {n} of 1 writes here"));
    assert!(lines.iter().eq(wanted.iter()), "{lines:?}");
    assert_eq!(fs::read(stage.path("access.log.1")).unwrap(), b"");
}

fn news_reaches_workers_without_a_reload() {
    let stage = Stage::start(&format!("{WEB}threads 2\nworkers 1\n"));
    assert!(stage.who().ends_with("news none"));
    let worker = stage.wait_children("proxyd: worker", 1)[0];
    let _held = stage.hold();
    fs::write(stage.path("toy.news"), "fresh").unwrap();
    eventually("the news", || {
        stage.who().ends_with("news fresh").then_some(())
    });
    stage.wait_log("there is news");
    assert_eq!(stage.wait_children("proxyd: worker", 1)[0], worker);
    // One that is started later has it from the plan.
    crate::stage::signal(worker, "KILL");
    stage.wait_log("started again now");
    let answer = eventually("another worker", || who(stage.addr("web")).ok());
    assert!(answer.ends_with("news fresh"), "{answer}");
}
