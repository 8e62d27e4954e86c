//! Processes end to end: titles and privileges, signals, the pid file, reloads under load, workers
//! that crash or hang.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::proxyd::{BINARY, alive, signal, status_line};
use support::{
    Client, PATIENCE, Proxyd, Setup, Upstream, client, eventually, is_root, ms, ok, skip, to, tool,
};

/// A body whose answer names the configuration it comes from.
fn answers(word: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\nrespond = {{ status = 200, body = \"{word}\" }}\n"
    )
}

// ── processes ────────────────────────────────────────────────────────────────────────────────

#[test]
fn processes_carry_titles_and_generations() {
    let proxy = Setup::new().worker("count = 2").start(&answers("one"));
    eventually("titles", PATIENCE, || {
        let titles: Vec<String> = proxy.children().into_iter().map(|(_, t)| t).collect();
        let wanted = [
            "proxyd: worker 0 gen 1",
            "proxyd: worker 1 gen 1",
            "proxyd: admin",
        ];
        wanted
            .iter()
            .all(|w| titles.iter().any(|t| t == w))
            .then_some(())
    });
    assert_eq!(support::proxyd::title(proxy.pid()), "proxyd: master");
    proxy.reload();
    eventually("the next generation", PATIENCE, || {
        let workers = proxy.workers();
        let new = workers.iter().filter(|(_, t)| t.ends_with("gen 2")).count();
        (new == 2 && workers.len() == 2).then_some(())
    });
}

#[test]
fn workers_and_admin_hold_no_privilege() {
    if !is_root() {
        return skip("dropping privileges needs root");
    }
    let proxy = Proxyd::start(&answers("x"));
    for pid in [proxy.worker(), proxy.admin()] {
        assert_eq!(status_line(pid, "Uid"), "65534 65534 65534 65534");
        assert_eq!(status_line(pid, "Gid").split(' ').next(), Some("65534"));
        assert!(
            !status_line(pid, "Groups").split(' ').any(|g| g == "0"),
            "{}",
            status_line(pid, "Groups")
        );
        assert_eq!(status_line(pid, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status_line(pid, set), "0000000000000000", "{set}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|l| l.starts_with("Max core file size"))
            .unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
    // the default sandbox: a filter of system calls is in force
    assert_eq!(status_line(proxy.worker(), "Seccomp"), "2");
    assert_eq!(
        status_line(proxy.pid(), "Threads"),
        "1",
        "the master has one thread"
    );
}

#[test]
fn an_ordinary_user_can_run_it() {
    let mut proxy = Setup::new().unprivileged().start(&answers("plain"));
    assert_eq!(proxy.get("a", "/").expect(200).text(), "plain");
    proxy.reload();
    assert_eq!(proxy.get("a", "/").expect(200).text(), "plain");
    assert!(proxy.stop().success());
}

#[test]
fn a_port_in_use_is_an_error_with_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = answers("x").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let mut proxy = Setup::new().without_waiting().start(&text);
    assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(1));
    let log = proxy.log();
    assert!(
        log.contains(&taken.local_addr().unwrap().port().to_string()) && log.contains("in use"),
        "{log}"
    );
}

#[test]
fn a_bad_configuration_at_start_is_an_exit_code_and_a_caret() {
    let mut proxy = Setup::new()
        .without_waiting()
        .start("[[listener]]\nbnid = \"127.0.0.1:0\"\n");
    assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(1));
    let log = proxy.log();
    assert!(
        log.contains("bnid") && log.contains("bind") && log.contains('^'),
        "{log}"
    );
}

#[test]
fn it_detaches_when_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let user = if is_root() {
        "user = \"nobody\"\ngroup = \"nogroup\"\n"
    } else {
        ""
    };
    let text = format!(
        "[master]\n{user}pid_file = \"{}\"\n[log]\noutput = \"{}\"\n{}",
        path("pid"),
        path("log"),
        answers("far")
    );
    std::fs::write(path("c.toml"), text).unwrap();
    tool::run(BINARY, &["-c", &path("c.toml"), "-d"], PATIENCE).success();
    let pid: u32 = eventually("the pid file", PATIENCE, || {
        std::fs::read_to_string(path("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    });
    assert!(alive(pid));
    eventually("it is ready", PATIENCE, || {
        std::fs::read_to_string(path("log"))
            .ok()
            .filter(|l| l.contains("ready: generation 1"))
    });
    tool::run(BINARY, &["-c", &path("c.toml"), "-s", "stop"], PATIENCE).success();
    eventually("it is gone", PATIENCE, || (!alive(pid)).then_some(()));
    assert!(!std::path::Path::new(&path("pid")).exists());
}

#[test]
fn a_dead_master_takes_its_workers_along() {
    let proxy = Proxyd::start(&answers("x"));
    proxy.admin();
    let family = proxy.children();
    assert!(family.len() >= 2, "{family:?}");
    signal(proxy.pid(), "KILL");
    eventually("the children leave", PATIENCE, || {
        family.iter().all(|(pid, _)| !alive(*pid)).then_some(())
    });
}

// ── signals ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn term_finishes_what_is_running_and_leaves_with_zero() {
    let server = Upstream::http(|_| {
        std::thread::sleep(ms(800));
        ok("done")
    });
    let mut proxy = Proxyd::to(server.addr());
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is under way", PATIENCE, || {
        (server.count() == 1).then_some(())
    });
    proxy.signal("TERM");
    let response = client.response().expect(200);
    assert_eq!(response.text(), "done");
    assert_eq!(response.fields.get("connection"), Some("close"));
    assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(0));
    assert!(
        !proxy.file("proxyd.pid").exists(),
        "the pid file is removed"
    );
}

#[test]
fn the_stop_is_bounded_and_a_second_signal_ends_it_at_once() {
    let hang = Upstream::http(|_| {
        std::thread::sleep(Duration::from_secs(15));
        ok("late")
    });
    let start = |master: &str| {
        let proxy = Setup::new().master(master).start(&to(hang.addr(), ""));
        let before = hang.count();
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the request is under way", PATIENCE, || {
            (hang.count() > before).then_some(())
        });
        (proxy, client)
    };
    let (mut bounded, _client) = start("stop_timeout = \"1s\"\ndrain_timeout = \"1s\"");
    let clock = Instant::now();
    bounded.signal("TERM");
    bounded.wait_exit(Duration::from_secs(8));
    assert!(clock.elapsed() >= ms(500), "{:?}", clock.elapsed());
    let (mut twice, _client) = start("");
    let clock = Instant::now();
    twice.signal("TERM");
    std::thread::sleep(ms(300));
    assert!(alive(twice.pid()));
    twice.signal("TERM");
    twice.wait_exit(Duration::from_secs(5));
    assert!(
        clock.elapsed() < Duration::from_secs(6),
        "{:?}",
        clock.elapsed()
    );
}

#[test]
fn quit_waits_without_bound() {
    let server = Upstream::http(|_| {
        std::thread::sleep(ms(2500));
        ok("done")
    });
    let mut proxy = Setup::new()
        .master("stop_timeout = \"1s\"\ndrain_timeout = \"1s\"")
        .start(&to(server.addr(), ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is under way", PATIENCE, || {
        (server.count() == 1).then_some(())
    });
    proxy.signal("QUIT");
    assert_eq!(client.response().expect(200).text(), "done");
    assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn idle_clients_do_not_hold_up_a_stop() {
    for word in ["TERM", "QUIT"] {
        let mut proxy = Proxyd::start(&answers("x"));
        let mut idle = proxy.client();
        idle.get("a", "/").expect(200);
        let clock = Instant::now();
        proxy.signal(word);
        assert_eq!(idle.read_to_end().unwrap(), b"", "{word}: closed with FIN");
        assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(0), "{word}");
        assert!(
            clock.elapsed() < Duration::from_secs(6),
            "{word}: {:?}",
            clock.elapsed()
        );
    }
}

#[test]
fn usr1_reopens_the_logs() {
    let proxy = Proxyd::start(&answers("x"));
    proxy.get("a", "/before").expect(200);
    proxy.access_lines(1);
    std::fs::rename(proxy.file("access.log"), proxy.file("access.log.1")).unwrap();
    proxy.signal("USR1");
    eventually("a new file is written", PATIENCE, || {
        proxy.get("a", "/after").expect(200);
        Some(()).filter(|()| proxy.access_log().iter().any(|l| l.contains("/after")))
    });
    let old = std::fs::read_to_string(proxy.file("access.log.1")).unwrap();
    assert!(old.contains("/before"));
}

#[test]
fn the_pid_file_is_checked() {
    let mut proxy = Proxyd::start(&answers("x"));
    let pid: u32 = std::fs::read_to_string(proxy.file("proxyd.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(pid, proxy.pid());
    // a second one with the same pid file does not start
    let config = proxy.config();
    let second = tool::run(BINARY, &["-c", config.to_str().unwrap()], PATIENCE);
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(second.err.contains(&pid.to_string()), "{}", second.err);
    assert!(proxy.stop().success());
    // stale files: a dead pid, a living stranger, nonsense
    for content in [
        pid.to_string(),
        std::process::id().to_string(),
        "walrus".to_owned(),
    ] {
        std::fs::write(proxy.file("proxyd.pid"), &content).unwrap();
        let output = proxy.control("reload");
        assert_eq!(output.code, 1, "{content}: {}{}", output.out, output.err);
        assert!(alive(std::process::id()));
    }
    std::fs::write(proxy.file("proxyd.pid"), pid.to_string()).unwrap();
    let next = Setup::new()
        .master(&format!(
            "pid_file = \"{}\"",
            proxy.file("proxyd.pid").display()
        ))
        .start(&answers("y"));
    assert_eq!(next.get("a", "/").expect(200).text(), "y");
}

// ── reload ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_reload_changes_what_is_answered_and_keeps_the_port() {
    let proxy = Proxyd::start(&answers("one"));
    let addr = proxy.web();
    assert_eq!(proxy.get("a", "/").expect(200).text(), "one");
    proxy.write(&answers("two"));
    proxy.reload();
    assert_eq!(client::get(addr, "a", "/").expect(200).text(), "two");
    assert!((proxy.metrics().sum("proxyd_config_generation", &[]) - 2.0).abs() < 0.1);
}

#[test]
fn listeners_come_and_go_with_a_reload() {
    let port = tool::free_port();
    let more = format!(
        "{}[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:{port}\"\n",
        answers("x")
    );
    let proxy = Proxyd::start(&answers("x"));
    let second: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    assert!(Client::try_connect(second).is_err());
    proxy.write(&more);
    proxy.reload();
    assert_eq!(client::get(second, "a", "/").expect(200).text(), "x");
    proxy.write(&answers("x"));
    proxy.reload();
    eventually("the port is closed", PATIENCE, || {
        Client::try_connect(second).is_err().then_some(())
    });
}

#[test]
fn a_bad_configuration_leaves_everything_as_it_was() {
    let proxy = Proxyd::start(&answers("good"));
    let worker = proxy.worker();
    let mut held = proxy.client();
    held.get("a", "/").expect(200);
    for broken in [
        "[[listener",
        "[[listener]]\nbnid = 1\n",
        "[[route]]\nto = \"nowhere\"\n",
    ] {
        proxy.write(broken);
        proxy.reload_fails();
        assert_eq!(held.get("a", "/").expect(200).text(), "good");
        assert_eq!(proxy.get("a", "/").expect(200).text(), "good");
    }
    assert_eq!(proxy.worker(), worker);
    assert!(
        proxy
            .metrics()
            .sum("proxyd_config_last_reload_successful", &[])
            < 0.5
    );
    assert!(
        proxy
            .metrics()
            .sum("proxyd_config_reloads_total", &["result=\"failed\""])
            > 2.5
    );
    // a port that cannot be had
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    proxy.write(&format!(
        "{}[[listener]]\nname = \"no\"\nbind = \"127.0.0.1:{port}\"\n",
        answers("good")
    ));
    proxy.reload_fails();
    assert_eq!(held.get("a", "/").expect(200).text(), "good");
    proxy.write(&answers("better"));
    proxy.reload();
    assert_eq!(proxy.get("a", "/").expect(200).text(), "better");
    assert!(
        proxy
            .metrics()
            .sum("proxyd_config_last_reload_successful", &[])
            > 0.5
    );
}

#[test]
fn the_command_line_waits_for_the_outcome() {
    let mut proxy = Proxyd::start(&answers("one"));
    proxy.write(&answers("two"));
    let output = proxy.control("reload").success();
    assert!(
        format!("{}{}", output.out, output.err).contains("generation 2"),
        "{output:?}"
    );
    assert_eq!(
        proxy.get("a", "/").expect(200).text(),
        "two",
        "live when the command returns"
    );
    proxy.write("[[route]]\nto = \"nowhere\"\n");
    let output = proxy.control("reload");
    assert_eq!(output.code, 1, "{output:?}");
    assert!(!output.err.is_empty() || !output.out.is_empty());
    assert_eq!(proxy.get("a", "/").expect(200).text(), "two");
    proxy.write(&answers("two"));
    proxy.control("reopen").success();
    proxy.control("stop").success();
    assert_eq!(proxy.wait_exit(PATIENCE).code(), Some(0));
    let output = proxy.control("stop");
    assert_eq!(output.code, 1, "nothing runs: {output:?}");
    let mut other = Proxyd::start(&answers("x"));
    other.control("quit").success();
    assert_eq!(other.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn an_idle_client_is_still_answered_after_a_reload_and_then_closed() {
    let proxy = Proxyd::start(&answers("x"));
    let mut idle = proxy.client();
    assert!(!idle.get("a", "/").expect(200).fields.has("connection"));
    proxy.reload();
    std::thread::sleep(ms(700));
    let response = idle.get("a", "/").expect(200);
    assert_eq!(response.fields.get("connection"), Some("close"));
    assert!(idle.is_closed_within(PATIENCE));
    eventually("the old worker leaves", PATIENCE, || {
        (proxy.workers().len() == 1).then_some(())
    });
}

#[test]
fn idle_clients_are_closed_at_the_drain_timeout() {
    let proxy = Setup::new()
        .master("drain_timeout = \"1s\"")
        .start(&answers("x"));
    let mut idle = proxy.client();
    idle.get("a", "/").expect(200);
    proxy.reload();
    let start = Instant::now();
    assert_eq!(
        idle.read_to_end().unwrap(),
        b"",
        "closed with FIN, never a reset"
    );
    assert!(
        (ms(500)..ms(6000)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn many_hups_in_a_row_make_few_reloads() {
    let proxy = Setup::new()
        .master("reload_debounce = \"500ms\"")
        .start(&answers("x"));
    for _ in 0..20 {
        proxy.signal("HUP");
        std::thread::sleep(ms(10));
    }
    proxy.wait_log_count(" is live", 1);
    std::thread::sleep(ms(1500));
    let reloads = proxy.metrics().sum("proxyd_config_reloads_total", &[]);
    assert!((1.0..=3.0).contains(&reloads), "{reloads} reloads");
}

#[test]
fn old_generations_are_bounded_in_number() {
    let server = tunnel_server();
    let master = "max_generations = 2\nreload_debounce = \"10ms\"\ndrain_spread = \"200ms\"";
    let proxy = Setup::new().master(master).start(&to(server.addr(), ""));
    let mut tunnels = Vec::new();
    for _ in 0..5 {
        tunnels.push(open_tunnel(&proxy));
        proxy.reload();
    }
    eventually("old generations are closed", PATIENCE, || {
        let workers = proxy.workers();
        (workers.len() <= 3).then_some(())
    });
    assert!(tunnels[0].is_closed_within(PATIENCE));
    let last = tunnels.last_mut().unwrap();
    assert_eq!(last.send("still").read(5), b"still");
}

/// Counts what went wrong and what went well in a thread until told to stop.
struct Load {
    thread: JoinHandle<Vec<String>>,
    done: Arc<AtomicUsize>,
}

fn load(
    stop: &Arc<AtomicBool>,
    mut turn: impl FnMut() -> Result<(), String> + Send + 'static,
) -> Load {
    let done = Arc::new(AtomicUsize::new(0));
    let (stop, count) = (Arc::clone(stop), Arc::clone(&done));
    let thread = std::thread::spawn(move || {
        let mut failures = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            match turn() {
                Ok(()) => {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Err(e) => failures.push(e),
            }
        }
        failures
    });
    Load { thread, done }
}

fn tunnel_server() -> Upstream {
    Upstream::raw(|conn| {
        while let Some(request) = conn.request()? {
            if !request.fields.has("upgrade") {
                conn.send(ok(&request.body))?;
                continue;
            }
            conn.send("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            loop {
                let bytes = conn.some()?;
                if bytes.is_empty() {
                    return Ok(());
                }
                conn.send(bytes)?;
            }
        }
        Ok(())
    })
}

fn open_tunnel(proxy: &Proxyd) -> Client {
    let mut client = proxy.client();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    client.response().expect(101);
    client
}

/// A request on a kept connection, or on a new one when the last answer said close.
fn keep_alive_turn(addr: std::net::SocketAddr) -> impl FnMut() -> Result<(), String> + Send {
    let mut kept: Option<Client> = None;
    move || {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::try_connect(addr).map_err(|e| format!("connect: {e}"))?,
        };
        let response = client
            .try_get("a", "/")
            .map_err(|e| format!("keep-alive: {e}"))?;
        if response.status != 200 {
            return Err(format!("keep-alive: {}", response.status));
        }
        if response.fields.get("connection") != Some("close") {
            kept = Some(client);
        }
        std::thread::sleep(ms(2));
        Ok(())
    }
}

/// One request on a connection of its own.
fn new_connection_turn(addr: std::net::SocketAddr) -> Result<(), String> {
    let mut client = Client::try_connect(addr).map_err(|e| format!("connect: {e}"))?;
    let response = client
        .try_get("a", "/")
        .map_err(|e| format!("new connection: {e}"))?;
    std::thread::sleep(ms(3));
    if response.status == 200 {
        Ok(())
    } else {
        Err(format!("new: {}", response.status))
    }
}

/// One upload that takes longer than a reload.
fn slow_upload_turn(addr: std::net::SocketAddr) -> Result<(), String> {
    let mut client = Client::try_connect(addr).map_err(|e| format!("connect: {e}"))?;
    let fail = |e: std::io::Error| format!("upload: {e}");
    client
        .try_send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
        .map_err(fail)?;
    for _ in 0..10 {
        std::thread::sleep(ms(60));
        client.try_send("data").map_err(fail)?;
    }
    let response = client.try_response("POST").map_err(fail)?;
    if response.body == b"data".repeat(10) {
        Ok(())
    } else {
        Err("upload: body".to_owned())
    }
}

/// Bytes through a tunnel that was opened once.
fn tunnel_turn(mut tunnel: Client) -> impl FnMut() -> Result<(), String> + Send {
    move || {
        tunnel
            .try_send("ping")
            .map_err(|e| format!("tunnel: {e}"))?;
        let echoed = tunnel.try_read(4).map_err(|e| format!("tunnel: {e}"))?;
        std::thread::sleep(ms(10));
        if echoed == b"ping" {
            Ok(())
        } else {
            Err(format!("tunnel: {echoed:?}"))
        }
    }
}

fn reload_under_load(accept: &str) {
    let server = tunnel_server();
    let master = "max_generations = 50\nreload_debounce = \"10ms\"\ndrain_timeout = \"20s\"";
    let worker = format!("count = 2\naccept = \"{accept}\"");
    let text = to(server.addr(), "");
    let proxy = Setup::new().master(master).worker(&worker).start(&text);
    let addr = proxy.web();
    let stop = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for _ in 0..3 {
        loads.push(("keep-alive", load(&stop, keep_alive_turn(addr))));
    }
    for _ in 0..2 {
        loads.push((
            "new connections",
            load(&stop, move || new_connection_turn(addr)),
        ));
        loads.push(("slow uploads", load(&stop, move || slow_upload_turn(addr))));
        loads.push(("tunnels", load(&stop, tunnel_turn(open_tunnel(&proxy)))));
    }
    for _ in 0..8 {
        std::thread::sleep(ms(400));
        proxy.reload();
    }
    std::thread::sleep(ms(500));
    stop.store(true, Ordering::SeqCst);
    let mut failures = Vec::new();
    for (what, load) in loads {
        let done = load.done.load(Ordering::SeqCst);
        failures.extend(load.thread.join().expect("no load thread panics"));
        assert!(done > 2, "{what}: only {done}: {failures:?}");
    }
    let first = &failures[..failures.len().min(5)];
    assert!(
        failures.is_empty(),
        "{} failures: {first:?}",
        failures.len()
    );
}

#[test]
fn no_request_fails_because_of_a_reload_with_a_socket_per_worker() {
    reload_under_load("reuseport");
}

#[test]
fn no_request_fails_because_of_a_reload_with_a_shared_socket() {
    reload_under_load("shared");
}

#[test]
fn connections_in_the_kernel_queue_survive_a_reload_and_a_crash() {
    for accept in ["reuseport", "shared"] {
        let proxy = Setup::new()
            .worker(&format!("count = 2\naccept = \"{accept}\""))
            .start(&answers("x"));
        let stop = |name: &str| {
            for (pid, _) in proxy.workers() {
                signal(pid, name);
            }
        };
        // nobody accepts while the connections arrive
        stop("STOP");
        let mut waiting: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut waiting {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for (pid, _) in proxy.workers() {
            signal(pid, "KILL");
        }
        for client in &mut waiting {
            client.response().expect(200);
        }
    }
}

// ── crashes ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_killed_worker_is_replaced_at_once() {
    let proxy = Proxyd::start(&answers("x"));
    let before = proxy.worker();
    let clock = Instant::now();
    signal(before, "KILL");
    let after = eventually("a new worker", PATIENCE, || {
        proxy
            .workers()
            .last()
            .map(|(pid, _)| *pid)
            .filter(|pid| *pid != before)
    });
    assert!(
        clock.elapsed() < Duration::from_secs(4),
        "{:?}",
        clock.elapsed()
    );
    assert_ne!(before, after);
    proxy.get("a", "/").expect(200);
    eventually("it is counted", PATIENCE, || {
        (proxy.metrics().sum("proxyd_worker_restarts_total", &[]) > 0.5).then_some(())
    });
}

#[test]
fn the_others_serve_while_a_worker_is_replaced() {
    let proxy = Setup::new()
        .worker("count = 2\naccept = \"shared\"")
        .start(&answers("x"));
    let addr = proxy.web();
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&stop, move || {
        let response = Client::try_connect(addr).and_then(|mut c| c.try_get("a", "/"));
        std::thread::sleep(ms(2));
        response.map(|_| ()).map_err(|e| e.to_string())
    });
    std::thread::sleep(ms(200));
    signal(proxy.workers()[0].0, "KILL");
    std::thread::sleep(ms(800));
    stop.store(true, Ordering::SeqCst);
    let done = load.done.load(Ordering::SeqCst);
    let failures = load.thread.join().unwrap();
    // what the killed worker had in its hands is lost, nothing else
    assert!(
        failures.len() <= 2 && done > 50,
        "{done} done, failures: {failures:?}"
    );
    eventually("two workers", PATIENCE, || {
        (proxy.workers().len() == 2).then_some(())
    });
}

#[test]
fn nobody_waits_for_a_worker_that_waits_for_its_restart() {
    let text = format!("[watchdog]\nrestart_delay = \"2s\"\n{}", answers("x"));
    let proxy = Setup::new()
        .worker("count = 2\naccept = \"reuseport\"")
        .start(&text);
    let first = || {
        let workers = proxy.workers();
        let found = workers.iter().find(|(_, t)| t.contains("worker 0"));
        found.map(|(pid, _)| *pid)
    };
    let killed = eventually("worker 0", PATIENCE, first);
    signal(killed, "KILL");
    let again = eventually("worker 0 again", PATIENCE, || {
        first().filter(|pid| *pid != killed)
    });
    proxy.wait_log("started again now");
    signal(again, "KILL");
    proxy.wait_log("started again in 2s");
    for _ in 0..40 {
        let mut client = Client::connect(proxy.web());
        client.patience(ms(800));
        client.try_get("a", "/").unwrap().expect(200);
    }
    let back = eventually("worker 0 after its delay", PATIENCE, first);
    eventually("it is served again", PATIENCE, || {
        proxy.get("a", "/").expect(200);
        let descriptors = std::fs::read_dir(format!("/proc/{back}/fd")).unwrap();
        (descriptors.count() > 0).then_some(())
    });
}

#[test]
fn a_worker_that_keeps_crashing_raises_an_alert() {
    let folder = tempfile::tempdir().unwrap();
    let alert = folder.path().join("alert");
    let text = format!(
        "[watchdog]\nrestart_delay = \"100ms\"\nalert_after = 2\nalert_exec = [\"/bin/sh\", \"-c\", \"echo alert >> {}\"]\n{}",
        alert.display(),
        answers("x")
    );
    let proxy = Proxyd::start(&text);
    for round in 0..3 {
        let pid = eventually("a worker", PATIENCE, || {
            proxy.workers().first().map(|(pid, _)| *pid)
        });
        std::thread::sleep(ms(200));
        signal(pid, "KILL");
        eventually(&format!("replacement {round}"), PATIENCE, || {
            proxy
                .workers()
                .first()
                .filter(|(p, _)| *p != pid)
                .map(|_| ())
        });
    }
    eventually("the alert program ran", PATIENCE, || {
        alert.exists().then_some(())
    });
    eventually("the alert is counted", PATIENCE, || {
        (proxy.metrics().sum("proxyd_alerts_total", &[]) > 0.5).then_some(())
    });
    proxy.get("a", "/").expect(200);
}

#[test]
fn a_worker_without_heartbeat_is_killed_and_replaced() {
    let text = format!(
        "[watchdog]\ncheck_interval = \"500ms\"\nheartbeat_timeout = \"2s\"\n{}",
        answers("x")
    );
    let proxy = Proxyd::start(&text);
    let before = proxy.worker();
    signal(before, "STOP");
    eventually("another worker", PATIENCE, || {
        let others = proxy.workers().into_iter().any(|(pid, _)| pid != before);
        (others && !alive(before)).then_some(())
    });
    proxy.get("a", "/").expect(200);
}

#[test]
fn the_admin_process_may_die() {
    let proxy = Proxyd::start(&answers("x"));
    let before = proxy.admin();
    signal(before, "KILL");
    proxy.get("a", "/").expect(200);
    eventually("another one serves metrics", PATIENCE, || {
        let admin = proxy
            .children()
            .into_iter()
            .find(|(_, t)| t.starts_with("proxyd: admin"))?;
        let addr = proxy.addr("metrics");
        let answer = Client::try_connect(addr)
            .and_then(|mut c| c.try_get("localhost", "/metrics"))
            .ok()?;
        (admin.0 != before && answer.status == 200).then_some(())
    });
}

#[test]
fn a_worker_that_dies_while_draining_is_not_replaced() {
    let server = tunnel_server();
    let proxy = Proxyd::start(&to(server.addr(), ""));
    let mut tunnel = open_tunnel(&proxy);
    let old = proxy.worker();
    proxy.reload();
    assert_eq!(tunnel.send("x").read(1), b"x");
    signal(old, "KILL");
    eventually("one worker", PATIENCE, || {
        (proxy.workers().len() == 1 && !alive(old)).then_some(())
    });
    std::thread::sleep(ms(500));
    assert_eq!(proxy.workers().len(), 1);
}

#[test]
fn it_is_correct_as_process_one() {
    if !is_root() {
        return skip("a process namespace needs root");
    }
    let mut proxy = Setup::new().in_own_namespace().start(&answers("first"));
    assert_eq!(proxy.get("a", "/").expect(200).text(), "first");
    let namespaced = status_line(proxy.pid(), "NSpid");
    assert_eq!(namespaced.split(' ').next_back(), Some("1"));
    let before = proxy.worker();
    signal(before, "KILL");
    eventually("a new worker", PATIENCE, || {
        proxy
            .workers()
            .last()
            .filter(|(pid, _)| *pid != before)
            .map(|_| ())
    });
    proxy.reload();
    assert_eq!(proxy.get("a", "/").expect(200).text(), "first");
    // process 1 gets no signal that it does not handle
    assert_eq!(proxy.stop().code(), Some(0));
}

// ── service managers ─────────────────────────────────────────────────────────────────────────

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let wait = |word: &str| {
        let mut seen = String::new();
        let start = Instant::now();
        while !seen.contains(word) {
            assert!(start.elapsed() < PATIENCE, "no {word} in {seen:?}");
            let mut buffer = [0_u8; 4096];
            let count = socket
                .recv(&mut buffer)
                .unwrap_or_else(|e| panic!("{word}: {e}: {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            seen.push('\n');
        }
        seen
    };
    let setup = Setup::new()
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "1000000");
    let mut proxy = setup.start(&answers("x"));
    wait("READY=1");
    wait("WATCHDOG=1");
    proxy.signal("HUP");
    let seen = wait("RELOADING=1");
    assert!(seen.contains("MONOTONIC_USEC="), "{seen}");
    wait("READY=1");
    proxy.signal("TERM");
    wait("STOPPING=1");
    proxy.wait_exit(PATIENCE);
}

#[test]
fn sockets_can_come_from_the_service_manager() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let script = "import os, socket, sys\n\
                  s = socket.socket()\n\
                  s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
                  s.bind(('127.0.0.1', int(sys.argv[1])))\n\
                  s.listen(64)\n\
                  os.dup2(s.fileno(), 3)\n\
                  os.set_inheritable(3, True)\n\
                  os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='http', LISTEN_PID=str(os.getpid()))\n\
                  os.execv(sys.argv[2], sys.argv[2:])\n";
    let port = addr.port().to_string();
    let text = answers("activated").replace("127.0.0.1:0", "fd:http");
    let proxy = Setup::new()
        .behind(&["python3", "-c", script, &port])
        .start(&text);
    assert_eq!(client::get(addr, "a", "/").expect(200).text(), "activated");
    proxy.write(&text.replace("activated", "again"));
    proxy.reload();
    assert_eq!(client::get(addr, "a", "/").expect(200).text(), "again");
}
