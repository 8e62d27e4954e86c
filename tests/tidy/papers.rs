//! The tidy rules over what is not code: dependencies, documentation, changelog.

use std::collections::BTreeSet;
use std::path::Path;

/// Direct dependencies of Cargo.toml are the rows of docs/dependencies.md, and each says why.
pub fn dependencies(manifest: &str, page: &str) -> Vec<String> {
    let table: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let mut found = Vec::new();
    let mut wanted = BTreeSet::new();
    for section in ["dependencies", "dev-dependencies"] {
        if let Some(toml::Value::Table(entries)) = table.get(section) {
            wanted.extend(entries.keys().cloned());
        }
    }
    let mut listed = BTreeSet::new();
    for line in page.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells
            .first()
            .copied()
            .unwrap_or_default()
            .trim_matches('`')
            .to_owned();
        if cells.len() < 3 || cells.iter().any(|c| c.is_empty()) {
            found.push(format!(
                "docs/dependencies.md: `{name}`: every cell of the row has to say something"
            ));
        }
        if !listed.insert(name.clone()) {
            found.push(format!("docs/dependencies.md: `{name}` stands there twice"));
        }
    }
    for name in wanted.difference(&listed) {
        found.push(format!("docs/dependencies.md: no row for `{name}`"));
    }
    for name in listed.difference(&wanted) {
        found.push(format!(
            "docs/dependencies.md: `{name}` is no direct dependency"
        ));
    }
    found
}

/// The changelog starts with what is not released yet, grouped by kind.
pub fn changelog(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let first = page
        .lines()
        .find(|l| l.starts_with("## "))
        .unwrap_or_default();
    if first.trim() != "## Unreleased" {
        found.push("docs/CHANGELOG.md: the first section has to be `## Unreleased`".to_owned());
    }
    const KINDS: &[&str] = &[
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    ];
    for line in page.lines().filter(|l| l.starts_with("### ")) {
        if !KINDS.contains(&line.trim_start_matches("### ").trim()) {
            found.push(format!(
                "docs/CHANGELOG.md: `{line}`: groups are {}",
                KINDS.join(", ")
            ));
        }
    }
    found
}

/// The code spans of a page outside fenced blocks, with their lines.
fn code_spans(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.map(|s| (number + 1, s.to_owned())));
        }
    }
    found
}

/// Every file and every `module::symbol` that a page names exists.
pub fn references(path: &str, page: &str, root: &Path) -> Vec<String> {
    code_spans(page)
        .into_iter()
        .filter_map(|(line, span)| {
            let problem = if is_path(&span) {
                let (file, symbol) = span.split_once("::").unwrap_or((&span, ""));
                if file.rsplit_once(".rs:").is_some() {
                    Some("cites a line number, which goes stale")
                } else {
                    (!file_has(root, file.trim_end_matches('/'), symbol))
                        .then_some("does not exist")
                }
            } else {
                symbol_problem(&span, root)
            };
            problem.map(|p| format!("{path}:{line}: `{span}` {p}"))
        })
        .collect()
}

/// A span that names something of this repository by path.
fn is_path(span: &str) -> bool {
    const TOPS: &[&str] = &[
        "src/",
        "tests/",
        "benches/",
        "fuzz/",
        "packaging/",
        "docs/",
        "conf/",
        ".ci/",
    ];
    TOPS.iter().any(|t| span.starts_with(t))
        && !span.contains(|c: char| c.is_whitespace() || "*<>{}$".contains(c))
}

fn file_has(root: &Path, file: &str, symbol: &str) -> bool {
    let full = root.join(file);
    if symbol.is_empty() {
        return full.exists();
    }
    let name = symbol.rsplit("::").next().unwrap_or(symbol);
    std::fs::read_to_string(full).is_ok_and(|text| has_word(&text, name))
}

fn symbol_problem(span: &str, root: &Path) -> Option<&'static str> {
    let plain = span.trim_end_matches("()");
    let mut parts: Vec<&str> = plain.split("::").collect();
    if parts.len() < 2
        || !plain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    {
        return None;
    }
    if matches!(parts[0], "crate" | "proxyd") {
        parts.remove(0);
    }
    crate::tables::rank(parts[0])?;
    let mut at = root.join("src");
    let mut file = at.join("lib.rs");
    let mut left = parts.as_slice();
    while let [first, rest @ ..] = left {
        let (flat, nested) = (
            at.join(format!("{first}.rs")),
            at.join(first).join("mod.rs"),
        );
        if flat.exists() {
            file = flat;
        } else if nested.exists() {
            file = nested;
        } else {
            break;
        }
        at = at.join(first);
        left = rest;
    }
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Some("does not exist");
    };
    left.iter()
        .any(|name| !has_word(&text, name))
        .then_some("does not exist")
}

fn has_word(text: &str, word: &str) -> bool {
    crate::mask::words(text).iter().any(|(_, w)| *w == word)
}
