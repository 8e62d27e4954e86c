//! What an operator sees: access log formats, error log, metrics that promtool accepts and that
//! never go back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use support::proxyd::signal;
use support::{PATIENCE, Proxyd, Setup, Upstream, client, eventually, ms, respond, to, tool};

fn good_and_bad() -> Upstream {
    Upstream::http(|r| match r.target.as_str() {
        "/503" => respond(503, &[], "no"),
        "/404" => respond(404, &[], "no"),
        _ => respond(200, &[], "hello"),
    })
}

#[test]
fn json_lines_say_everything_about_a_request() {
    let server = good_and_bad();
    let proxy = Proxyd::to(server.addr());
    let request = "POST /path?q=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: test \"x\"\r\nContent-Length: 3\r\n\r\nabc";
    client::send(proxy.web(), request).expect(200);
    let line = &proxy.access_json(1)[0];
    for (key, value) in [
        ("listener", "web"),
        ("route", "all"),
        ("method", "POST"),
        ("host", "a.test"),
        ("client_ip", "127.0.0.1"),
        ("reason", "ok"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["attempts"], 1, "{line}");
    for key in [
        "time",
        "upstream",
        "server",
        "path",
        "protocol",
        "request_id",
    ] {
        assert!(
            line[key].as_str().is_some_and(|v| !v.is_empty()),
            "{key}: {line}"
        );
    }
    assert_eq!(line["server"], server.addr().to_string(), "{line}");
}

#[test]
fn a_head_that_was_never_read_has_no_trace() {
    let server = good_and_bad();
    let proxy = Proxyd::to(server.addr());
    client::send(proxy.web(), "nonsense\r\n\r\n").expect(400);
    let line = &proxy.access_json(1)[0];
    assert!(line.get("traceparent").is_none(), "{line}");
    assert!(line["request_id"].is_string(), "{line}");
}

#[test]
fn the_combined_format_is_the_one_of_others() {
    let server = good_and_bad();
    let setup = Setup::new().access("output = \"$DIR/access.log\"\nformat = \"combined\"");
    let proxy = setup.start(&to(server.addr(), ""));
    let request =
        "GET /a?b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: test/1\r\nReferer: http://r/\r\n\r\n";
    client::send(proxy.web(), request).expect(200);
    let line = proxy.access_lines(1).remove(0);
    assert!(line.starts_with("127.0.0.1 - "), "{line}");
    assert!(
        line.ends_with("\"GET /a?b HTTP/1.1\" 200 5 \"http://r/\" \"test/1\""),
        "{line}"
    );
}

#[test]
fn a_template_is_compiled() {
    let server = good_and_bad();
    let setup = Setup::new().access(
        "output = \"$DIR/access.log\"\nformat = \"{client_ip} {method} {path} {status} {reason}\"",
    );
    let proxy = setup.start(&to(server.addr(), ""));
    proxy.get("a", "/404").expect(404);
    proxy.get("a", "/x").expect(200);
    let lines = proxy.access_lines(2);
    assert_eq!(
        lines,
        ["127.0.0.1 GET /404 404 ok", "127.0.0.1 GET /x 200 ok"]
    );
}

#[test]
fn hostile_bytes_are_escaped_and_cannot_make_lines() {
    let server = good_and_bad();
    for format in ["combined", "json", "{method} {path} {header:user-agent}"] {
        let setup = Setup::new().access(&format!(
            "output = \"$DIR/access.log\"\nformat = \"{format}\""
        ));
        let proxy = setup.start(&to(server.addr(), ""));
        let request =
            b"GET /\\x22\" HTTP/1.1\r\nHost: a\r\nUser-Agent: \x80\xff\"\t\\ \xe2\x80\xa8\r\n\r\n";
        client::send(proxy.web(), request).expect(200);
        let text = {
            proxy.access_lines(1);
            std::fs::read(proxy.file("access.log")).unwrap()
        };
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), 1, "{format}");
        assert!(
            text.iter()
                .all(|b| *b == b'\n' || (0x20..=0x7e).contains(b)),
            "{format}: {:?}",
            String::from_utf8_lossy(&text)
        );
        if format == "json" {
            proxy.access_json(1);
        }
    }
}

#[test]
fn secrets_are_redacted_and_routes_can_be_silent() {
    let server = good_and_bad();
    let setup = Setup::new()
        .access("output = \"$DIR/access.log\"\nformat = \"combined\"\nredact = [\"query:token\"]");
    let text = format!(
        "{}[[route]]\nname = \"quiet\"\npath = \"/quiet\"\naccess_log = false\nto = \"{}\"\n",
        to(server.addr(), ""),
        server.addr()
    );
    let proxy = setup.start(&text);
    proxy.get("a", "/quiet").expect(200);
    proxy.get("a", "/x?token=walrus&b=c").expect(200);
    let lines = proxy.access_lines(1);
    assert!(
        lines.len() == 1 && !lines[0].contains("walrus") && lines[0].contains("b=c"),
        "{lines:?}"
    );
}

#[test]
fn lines_of_all_workers_are_whole() {
    let server = good_and_bad();
    let proxy = Setup::new()
        .worker("count = 3")
        .start(&to(server.addr(), ""));
    let addr = proxy.web();
    let threads: Vec<_> = (0..6)
        .map(|_| {
            std::thread::spawn(move || {
                for i in 0..60 {
                    client::get(addr, "a", &format!("/{i}/{}", "long".repeat(100))).expect(200);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let lines = proxy.access_json(360);
    assert_eq!(lines.len(), 360);
}

#[test]
fn a_full_disk_drops_lines_and_says_so_once() {
    if !std::path::Path::new("/dev/full").exists() {
        return support::skip("no /dev/full");
    }
    let server = good_and_bad();
    let setup = Setup::new().access("output = \"/dev/full\"\nformat = \"json\"");
    let proxy = setup.start(&to(server.addr(), ""));
    for _ in 0..5 {
        proxy.get("a", "/").expect(200);
        std::thread::sleep(ms(300));
    }
    eventually("drops are counted", PATIENCE, || {
        (proxy
            .metrics()
            .sum("proxyd_worker_access_log_lines_dropped_total", &[])
            > 0.5)
            .then_some(())
    });
    let told = proxy
        .log()
        .lines()
        .filter(|l| l.to_lowercase().contains("access log"))
        .count();
    assert_eq!(told, 1, "{}", proxy.log());
}

#[test]
fn the_error_log_is_text_without_colour_or_json() {
    let proxy = Proxyd::start(&to(good_and_bad().addr(), ""));
    assert!(
        !proxy.log().contains('\x1b'),
        "colour goes to terminals only"
    );
    let server = good_and_bad();
    let proxy = Setup::new()
        .log("level = \"info\"\nformat = \"json\"\noutput = \"stderr\"")
        .start(&to(server.addr(), ""));
    // what the checker finds comes before the log and is written for people
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().skip_while(|l| !l.starts_with('{')).collect();
    assert!(lines.len() > 1, "{log}");
    for line in lines {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "{line}");
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let server = good_and_bad();
    let proxy = Setup::new()
        .worker("count = 2")
        .start(&to(server.addr(), ""));
    for path in ["/", "/503", "/404"] {
        proxy.get("a", path);
    }
    client::send(proxy.web(), "GET / HTTP/1.1\r\n\r\n").expect(400);
    let metrics = proxy.metrics();
    let mut command = std::process::Command::new("promtool");
    command.args(["check", "metrics"]);
    let output = tool::run_with(&mut command, metrics.text.as_bytes(), PATIENCE);
    assert!(
        output.code == 0 && output.err.trim().is_empty(),
        "{}{}",
        output.out,
        output.err
    );
}

#[test]
fn requests_are_counted_exactly_by_class_route_and_server() {
    let server = good_and_bad();
    let proxy = Setup::new()
        .worker("count = 3")
        .start(&to(server.addr(), ""));
    for _ in 0..20 {
        proxy.get("a", "/").expect(200);
        proxy.get("a", "/404").expect(404);
    }
    proxy.get("a", "/503").expect(503);
    client::send(proxy.web(), "GET / HTTP/1.1\r\n\r\n").expect(400);
    eventually("all are counted", PATIENCE, || {
        let m = proxy.metrics();
        let listener = |class: &str| {
            m.sum(
                "proxyd_listener_requests_total",
                &["listener=\"web\"", &format!("class=\"{class}\"")],
            )
        };
        let route = |class: &str| {
            m.sum(
                "proxyd_route_requests_total",
                &["route=\"all\"", &format!("class=\"{class}\"")],
            )
        };
        let right = [
            (listener("2xx"), 20.0),
            (listener("4xx"), 21.0),
            (listener("5xx"), 1.0),
            (route("2xx"), 20.0),
            (
                m.sum("proxyd_server_requests_total", &["class=\"4xx\""]),
                20.0,
            ),
            (
                m.sum(
                    "proxyd_listener_request_failures_total",
                    &["reason=\"h1.bad_host\""],
                ),
                1.0,
            ),
            (
                m.sum(
                    "proxyd_listener_request_duration_seconds_count",
                    &["listener=\"web\""],
                ),
                42.0,
            ),
        ];
        right
            .iter()
            .all(|(have, want)| (have - want).abs() < 0.1)
            .then_some(())
    });
    let m = proxy.metrics();
    assert!(
        m.sum("proxyd_route_requests_active", &[]).abs() < 0.1,
        "nothing is in flight"
    );
    assert!(
        m.sum("proxyd_process_up", &[]) > 4.5,
        "three workers, admin and master"
    );
    assert!(m.sum("proxyd_process_resident_memory_bytes", &[]) > 1e6);
    assert!((m.sum("proxyd_config_last_reload_successful", &[]) - 1.0).abs() < 0.1);
}

#[test]
fn an_answer_that_a_route_is_there_to_give_is_no_failure() {
    let proxy = Proxyd::start(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npath = \"/ok\"\nrespond = 200\n[[route]]\npath = \"/old\"\nredirect = { to = \"https://a.test/\" }\n[[route]]\npath = \"/closed\"\nrespond = 503\n",
    );
    for (path, status) in [("/ok", 200), ("/old", 308), ("/closed", 503)] {
        let response = proxy.get("a.test", path);
        assert_eq!(response.status, status, "{path}");
    }
    let failures = "proxyd_listener_request_failures_total";
    let metrics = eventually("the failure is counted", PATIENCE, || {
        let metrics = proxy.metrics();
        (metrics.sum(failures, &[]) > 0.5).then_some(metrics)
    });
    assert!((metrics.sum(failures, &[]) - 1.0).abs() < 0.1);
    assert!((metrics.sum(failures, &["route.respond"]) - 1.0).abs() < 0.1);
    eventually("tasks of the worker", PATIENCE, || {
        (proxy.metrics().sum("proxyd_worker_tasks", &[]) > 0.5).then_some(())
    });
}

#[test]
fn counters_never_go_back() {
    let server = good_and_bad();
    let proxy = Setup::new()
        .master("reload_debounce = \"10ms\"")
        .worker("count = 2")
        .start(&to(server.addr(), ""));
    let exercise = || {
        for path in ["/", "/404", "/503", "/"] {
            proxy.get("a", path);
        }
        std::thread::sleep(ms(300));
    };
    exercise();
    let mut before = proxy.metrics();
    for step in ["reload", "crash", "reload", "admin"] {
        match step {
            "reload" => proxy.reload(),
            "admin" => {
                let admin = proxy.admin();
                signal(admin, "KILL");
                eventually("another admin process", PATIENCE, || {
                    let found = proxy
                        .children()
                        .into_iter()
                        .find(|(_, t)| t.starts_with("proxyd: admin"));
                    found.filter(|(pid, _)| *pid != admin)
                });
                eventually("metrics are served", PATIENCE, || {
                    let addr = proxy.addr("metrics");
                    support::Client::try_connect(addr)
                        .and_then(|mut c| c.try_get("localhost", "/metrics"))
                        .ok()
                });
            }
            _ => {
                let victim = proxy.worker();
                signal(victim, "KILL");
                eventually("a replacement", PATIENCE, || {
                    let workers = proxy.workers();
                    (workers.len() >= 2 && workers.iter().all(|(pid, _)| *pid != victim))
                        .then_some(())
                });
            }
        }
        let after = proxy.metrics();
        let back: Vec<String> = before
            .gone_back(&after)
            .into_iter()
            // those of a process end with it, its generation is in the label
            .filter(|line| !line.starts_with("proxyd_process_"))
            .collect();
        assert!(back.is_empty(), "after {step}: {back:#?}");
        exercise();
        before = proxy.metrics();
    }
    let total = before.sum("proxyd_listener_requests_total", &["class=\"2xx\""]);
    assert!(
        (total - 10.0).abs() < 0.1,
        "every request of all generations: {total}"
    );
}

#[test]
fn the_metrics_port_serves_nothing_else() {
    let server = good_and_bad();
    let proxy = Proxyd::to(server.addr());
    let addr = proxy.addr("metrics");
    client::get(addr, "localhost", "/nothing").expect(404);
    let response = client::get(addr, "localhost", "/metrics").expect(200);
    assert!(
        response
            .fields
            .get("content-type")
            .unwrap_or_default()
            .starts_with("text/plain")
    );
    let mut client = support::Client::connect(addr);
    client.send("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    client.response().expect(405);
}

#[test]
fn request_ids_tie_log_server_and_client_together() {
    let server = good_and_bad();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nrequest_id_response = true\n[[route]]\nto = \"{}\"\n",
        server.addr()
    );
    let proxy = Proxyd::start(&text);
    let response = proxy.get("a", "/").expect(200);
    let told = response.fields.get("X-Request-Id").expect("returned");
    assert_eq!(server.only().fields.get("X-Request-Id"), Some(told));
    assert_eq!(proxy.access_json(1)[0]["request_id"], told);
}

#[test]
fn alert_rules_are_valid() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let mut rules = Vec::new();
    let mut pending = vec![dir];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(".rules.yml") {
                rules.push(path);
            }
        }
    }
    assert!(!rules.is_empty(), "packaging ships alert rules");
    for path in rules {
        tool::run(
            "promtool",
            &["check", "rules", path.to_str().unwrap()],
            PATIENCE,
        )
        .success();
    }
}
