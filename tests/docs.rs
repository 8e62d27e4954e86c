//! The documentation tells the truth: every TOML example in README and `docs/`, and every
//! configuration that ships in `packaging/`, passes the checker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

use proxyd::conf::{Severity, load_str};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut pending = vec![root().join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What is wrong with a configuration, in words.
fn errors(name: &str, text: &str) -> Vec<String> {
    load_str(name, text)
        .findings
        .iter()
        .filter(|f| f.severity() == Severity::Error)
        .map(|f| format!("{name}: {}: {}", f.code.as_str(), f.message))
        .collect()
}

/// The fenced `toml` blocks of a page with the line they start on.
fn toml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.trim()) {
            (None, "```toml") => open = Some((number + 1, String::new())),
            (Some(_), "```") => found.extend(open.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    found
}

/// An example may be an excerpt: it gets a listener and a route when it has none.
fn completed(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.contains("[[listener]]") {
        text.push_str("\n[[listener]]\nbind = \":65000\"\n");
    }
    if !text.contains("[[route]]") {
        text.push_str("\n[[route]]\nrespond = { status = 200, body = \"ok\" }\n");
    }
    text
}

#[test]
fn every_toml_example_passes_the_checker() {
    let mut pages = files("docs", "md");
    pages.push(root().join("README.md"));
    let mut examples = 0;
    let mut wrong = Vec::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for (line, text) in toml_blocks(&page) {
            examples += 1;
            wrong.extend(errors(&format!("{name}:{line}"), &completed(&text)));
        }
    }
    assert!(examples > 0, "README has examples");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_shipped_configuration_passes_the_checker() {
    let mut wrong = Vec::new();
    for path in files("packaging", "toml")
        .into_iter()
        .chain(files("conf", "toml"))
    {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        wrong.extend(errors(&name, &std::fs::read_to_string(&path).unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_example_would_be_found() {
    let page = "text\n```toml\n[[listener]]\nbnid = \":80\"\n```\n";
    let blocks = toml_blocks(page);
    assert_eq!(blocks.len(), 1);
    assert!(!errors("page", &completed(&blocks[0].1)).is_empty());
}
