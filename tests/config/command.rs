//! `proxyd -t` and its relatives, as a user types them.

use std::path::Path;
use std::process::{Command, Output};

fn proxyd(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proxyd"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn folder(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.toml"), text).unwrap();
    dir
}

const GOOD: &str =
    "[[listener]]\nbind = \"127.0.0.1:18080\"\n[[route]]\nto = [\"10.0.0.1:80\", \"a.b:81\"]\n";

#[test]
fn without_a_pid_file_the_command_line_says_what_to_do() {
    let dir = folder(GOOD);
    let output = proxyd(dir.path(), &["-c", "p.toml", "-s", "reload"]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(text.contains("no `pid_file`"), "{text}");
    assert!(text.contains("add one") && text.contains("HUP"), "{text}");
}

#[test]
fn many_listeners_fit_on_one_screen() {
    let mut text = "[[route]]\nto = \"10.0.0.1:80\"\n".to_owned();
    for port in 18100..18120 {
        text.push_str(&format!("[[listener]]\nbind = \"127.0.0.1:{port}\"\n"));
    }
    let dir = folder(&text);
    let output = out(&proxyd(dir.path(), &["-c", "p.toml", "-t"]));
    assert!(output.contains("127.0.0.1:18107 and 12 more\n"), "{output}");
}

#[test]
fn a_good_file_is_summed_up_and_the_exit_code_is_0() {
    let dir = folder(GOOD);
    let output = proxyd(dir.path(), &["-c", "p.toml", "-t", "--strict"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(err(&output), "");
    assert_eq!(
        out(&output),
        "p.toml: ok (1 file, 0 errors, 0 warnings)\n  1 listener    127.0.0.1:18080\n  1 route       on any host\n  \
         1 upstream    2 servers (1 by DNS)\n  one worker per CPU, sandbox strict\n"
    );
}

#[test]
fn errors_are_exit_code_1_and_warnings_2_when_strict() {
    let bad = folder(&GOOD.replace("bind", "bnd"));
    let output = proxyd(bad.path(), &["-c", "p.toml", "-t"]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.starts_with("error[E0109]: [[listener]] needs a `bind`\n --> p.toml:1:1\n"),
        "{text}"
    );
    assert!(
        text.ends_with("proxyd: p.toml: 2 errors, configuration not usable\n"),
        "{text}"
    );
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");

    let warned = folder(&GOOD.replace(":18080", ":0"));
    let run = |args: &[&str]| proxyd(warned.path(), args).status.code();
    assert_eq!(run(&["-c", "p.toml", "-t"]), Some(0));
    assert_eq!(run(&["-c", "p.toml", "-t", "--strict"]), Some(2));
}

#[test]
fn findings_are_a_json_array_for_programs() {
    let dir = folder(&GOOD.replace("[[route]]", "[[route]]\nhsot = \"a\""));
    let output = proxyd(dir.path(), &["-c", "p.toml", "-t", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "");
    let all: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    let one = &all[0];
    for (key, value) in [
        ("code", "E0103"),
        ("severity", "error"),
        ("message", "unknown key `hsot`"),
        ("file", "p.toml"),
        ("label", "did you mean `host`?"),
    ] {
        assert_eq!(one[key], value, "{key}");
    }
    assert_eq!((&one["line"], &one["column"]), (&4.into(), &1.into()));
    let span = &one["spans"][0];
    assert_eq!(
        (&span["end_line"], &span["end_column"]),
        (&4.into(), &5.into())
    );
    assert!(
        one["help"]
            .as_str()
            .unwrap()
            .starts_with("allowed here: name, ")
    );

    let good = folder(GOOD);
    let output = proxyd(good.path(), &["-c", "p.toml", "-t", "--format=json"]);
    assert_eq!((output.status.code(), out(&output).trim()), (Some(0), "[]"));
}

#[test]
fn the_effective_file_has_every_default_and_passes() {
    let dir = folder(GOOD);
    let first = proxyd(dir.path(), &["-c", "p.toml", "-T"]);
    let text = out(&first);
    assert_eq!(first.status.code(), Some(0));
    assert!(text.contains("drain_timeout_upgraded = \"1h\"\n"), "{text}");
    assert!(text.contains("response_header = \"1m\"\n"), "{text}");
    std::fs::write(dir.path().join("p.toml"), &text).unwrap();
    let again = proxyd(
        dir.path(),
        &["-c", "p.toml", "-t", "--effective", "--strict"],
    );
    assert_eq!(again.status.code(), Some(0), "{}", err(&again));
    assert_eq!(out(&again), text);
}

#[test]
fn version_schema_and_explanations() {
    let dir = folder("");
    let version = proxyd(dir.path(), &["-V"]);
    assert_eq!(
        out(&version),
        format!("proxyd {}\n", env!("CARGO_PKG_VERSION"))
    );
    let schema = proxyd(dir.path(), &["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out(&schema)).unwrap();
    assert_eq!(schema["properties"]["route"]["type"], "array");
    let text = out(&proxyd(dir.path(), &["config", "explain", "e0401"]));
    assert!(
        text.starts_with("E0401: routes that match the same requests\n"),
        "{text}"
    );
    let wrong = proxyd(dir.path(), &["config", "explain", "E9999"]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[test]
fn a_wrong_command_line_is_its_own_exit_code() {
    let dir = folder(GOOD);
    for args in [
        &["-x"][..],
        &["-s", "kill"],
        &["run"],
        &["-t", "--format", "xml"],
    ] {
        let output = proxyd(dir.path(), args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_file_with_errors_is_not_started_and_says_why() {
    let dir = folder("[[listener]]\nbind = \"1\"\n");
    let output = proxyd(dir.path(), &["-c", "p.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("error[E0107]"), "{}", err(&output));
    let output = proxyd(dir.path(), &["run", "--listen", "1", "--to", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("command line:2:8"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_signal_without_a_master_fails_with_a_reason() {
    let dir = folder(GOOD);
    let output = proxyd(dir.path(), &["-c", "p.toml", "-s", "reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no `pid_file`"), "{}", err(&output));
    let dir = folder(&format!("[master]\npid_file = \"p.pid\"\nx = 1\n{GOOD}"));
    let output = proxyd(dir.path(), &["-c", "p.toml", "-s", "stop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("proxyd does not run"),
        "{}",
        err(&output)
    );
    let output = proxyd(dir.path(), &["-c", "none.toml", "-s", "stop"]);
    assert!(
        err(&output).contains("cannot read none.toml: no such file"),
        "{}",
        err(&output)
    );
}

/// The checker opens no listening port: it works while somebody else has it.
#[test]
fn a_port_in_use_does_not_keep_the_checker_from_its_work() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = folder(&GOOD.replace("127.0.0.1:18080", &address));
    let output = proxyd(dir.path(), &["-c", "p.toml", "-t"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}
