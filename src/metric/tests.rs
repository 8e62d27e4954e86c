//! Tests that what `packaging/` ships speaks of metrics that exist, with the labels they have.

use super::catalog::{self, Desc, Kind};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The metric behind a name in a query.
fn described(name: &str) -> Option<&'static Desc> {
    let is = |desc: &&&Desc| {
        desc.name == name
            || desc.kind == Kind::Histogram
                && ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| name.strip_suffix(end) == Some(desc.name))
    };
    let shown = catalog::ALL.iter().filter(|d| d.kind != Kind::Hidden);
    shown.copied().find(|desc| is(&desc))
}

/// Names that look like metrics.
fn names(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c: char| !is_name(c))
        .filter(|word| word.starts_with("proxyd_"))
        .collect()
}

/// The labels that a selector `{a="b",c=~"d"}` right after a name asks for.
fn selected(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("proxyd_") {
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = tail;
        if let Some(selector) = tail.strip_prefix('{') {
            let selector = selector.split('}').next().unwrap();
            let labels = selector
                .split(',')
                .filter_map(|part| part.split(['=', '!']).next());
            found.push((name, labels.filter(|l| !l.is_empty()).collect()));
        }
    }
    found
}

fn check(query: &str) {
    for name in names(query) {
        assert!(
            described(name).is_some(),
            "{name} is not in the catalogue: {query}"
        );
    }
    for (name, labels) in selected(query) {
        let desc = described(name).unwrap();
        for label in labels {
            let known = desc.labels.contains(&label) || ["job", "instance"].contains(&label);
            assert!(known, "{name} has no label {label}: {query}");
        }
    }
}

/// Every query of the dashboard.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "expr" || key == "definition" => {
                        found.push(text.clone());
                    }
                    value => queries(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

fn dashboard() -> (Value, Vec<String>) {
    let value: Value = serde_json::from_str(&read("grafana/proxyd.json")).unwrap();
    let mut found = Vec::new();
    queries(&value, &mut found);
    (value, found)
}

/// Runs promtool; false when it is not there.
fn promtool(args: &[&str], file: &Path) -> bool {
    let Ok(output) = Command::new("promtool").args(args).arg(file).output() else {
        println!("promtool is not installed: skipped");
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    true
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let (value, found) = dashboard();
    assert!(found.len() > 50);
    found.iter().for_each(|query| check(query));
    assert_eq!(value["uid"], "proxyd");
    let panels = value["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels {
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(right <= 24, "{}", panel["title"]);
    }
}

#[test]
fn the_queries_of_the_dashboard_are_promql() {
    let (_, found) = dashboard();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let expressions = found.iter().filter(|q| !q.starts_with("label_values"));
    for (i, query) in expressions.enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
        rules.push_str(&format!("  - record: r:{i}\n    expr: '{query}'\n"));
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rules.as_bytes()).unwrap();
    promtool(&["check", "rules", "--lint=none"], file.path());
}

#[test]
fn the_alerts_ask_for_what_there_is() {
    let rules = read("prometheus/proxyd.rules.yml");
    let code = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let text: String = code.collect::<Vec<_>>().join("\n");
    assert!(names(&text).len() > 15);
    check(&text);
    let listed = promtool(&["check", "rules"], &path("prometheus/proxyd.rules.yml"));
    if listed {
        promtool(
            &["test", "rules"],
            &path("prometheus/proxyd.rules.test.yml"),
        );
    }
}

#[test]
fn a_name_that_is_not_there_is_found() {
    assert!(described("proxyd_worker_loop_lag_seconds_bucket").is_some());
    assert!(described("proxyd_worker_loop_lag_seconds_total").is_none());
    assert!(described("proxyd_server_up_bucket").is_none());
    assert_eq!(
        selected("a(proxyd_x{b=\"c\",d!~\"e\"}) / proxyd_y"),
        [("proxyd_x", vec!["b", "d"])]
    );
}
