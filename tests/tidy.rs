//! Keeps the house in order: ranks of modules, where `unsafe` and clocks may stand, sizes, words,
//! the list of dependencies, references in the documentation. The rules are data and plain
//! functions in `tests/tidy/`; this file runs them over the repository and over small samples.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

#[path = "tidy/mask.rs"]
mod mask;
#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/tables.rs"]
mod tables;

use mask::Keep;
use rules::Source;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with an extension below a folder, as paths below the repository, with their text.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let mut pending = vec![root().join(dir)];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
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
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn sources() -> Vec<Source> {
    let found = files("src", "rs");
    assert!(found.len() > 10, "src/ was not found");
    found
        .iter()
        .map(|(path, text)| Source::new(path, text))
        .collect()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn none(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}\n",
        findings.len(),
        findings.join("\n")
    );
}

fn over_sources(rule: impl Fn(&Source) -> Vec<String>) {
    none(&sources().iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn modules_use_only_lower_ranks() {
    over_sources(rules::order);
}

#[test]
fn the_kernel_is_behind_sys() {
    over_sources(rules::kernel);
}

#[test]
fn clocks_threads_exits_and_the_environment_have_their_places() {
    over_sources(rules::places);
}

#[test]
fn every_file_says_what_it_is() {
    over_sources(rules::header);
    let tests = files("tests", "rs");
    let silent: Vec<String> = tests
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{path}:1: the file does not say in `//!` what it is"))
        .collect();
    none(&silent);
}

#[test]
fn files_and_functions_stay_short() {
    over_sources(rules::size);
    none(&rules::stale_exceptions(&sources()));
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    over_sources(rules::unfinished);
    let tests = files("tests", "rs");
    none(
        &tests
            .iter()
            .flat_map(|(p, t)| rules::unfinished(&Source::new(p, t)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn metric_names_stand_in_the_catalogue_only() {
    over_sources(rules::metric_names);
}

#[test]
fn every_file_is_compiled() {
    none(&rules::orphans(&files("src", "rs"), |p| {
        p == "src/lib.rs" || p == "src/main.rs"
    }));
    let is_target = |p: &str| {
        p.matches('/').count() == 1 || (p.matches('/').count() == 2 && p.ends_with("/main.rs"))
    };
    none(&rules::orphans(&files("tests", "rs"), is_target));
}

#[test]
fn dependencies_are_listed_with_their_reason() {
    none(&papers::dependencies(
        &page("Cargo.toml"),
        &page("docs/dependencies.md"),
    ));
}

#[test]
fn the_changelog_has_an_open_head() {
    none(&papers::changelog(&page("docs/CHANGELOG.md")));
}

#[test]
fn what_the_documentation_names_exists() {
    let mut pages = files("docs", "md");
    pages.push(("README.md".to_owned(), page("README.md")));
    none(
        &pages
            .iter()
            .flat_map(|(path, text)| papers::references(path, text, root()))
            .collect::<Vec<_>>(),
    );
}

/// The linter itself, on small samples.
mod itself {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, &format!("//! A file for a test.\n{text}"))
    }

    #[test]
    fn masking_blanks_comments_and_literals_and_keeps_offsets() {
        let text =
            "a // b\nlet s = \"c\\\"d\"; /* e /* f */ g */ h('i', b'j', '\\'', 'k) r#\"l\"m\"# n";
        let masked = mask::mask(text, Keep::Code);
        assert_eq!(masked.len(), text.len());
        for gone in ["b\n", "c", "d", "e", "f", "g", "'i'", "'j'", "l", "m"] {
            let rest = masked.replace("let", "");
            assert!(!rest.contains(gone), "{gone:?} is still in {masked:?}");
        }
        for kept in ["a ", "let s = \"", " h(", "'k)", " n"] {
            assert!(masked.contains(kept), "{kept:?} is not in {masked:?}");
        }
        assert!(
            mask::mask("x(\"proxyd_a\") // \"proxyd_b\"", Keep::CodeAndStrings)
                .contains("proxyd_a")
        );
        assert!(!mask::mask("x(\"y\") // \"proxyd_b\"", Keep::CodeAndStrings).contains("proxyd_b"));
    }

    #[test]
    fn masking_survives_non_ascii_text() {
        let masked = mask::mask("f(\"é\", 'ü'); // ö\n/* ß */ g", Keep::Code);
        assert!(masked.ends_with(" g"));
    }

    #[test]
    fn an_upward_use_is_found() {
        for text in [
            "use crate::conf::Model;",
            "use crate::{base::addr, conf};",
            "use crate::{\n    base::{addr, unit},\n    conf::{self, Model},\n};",
            "fn f() { crate::conf::load(); }",
            "use super::conf::Model;",
            "macro_rules! m { () => { $crate::conf::load() } }",
        ] {
            let found = rules::order(&source("src/http/mod.rs", text));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("uses `conf` (rank 8)"), "{found:?}");
        }
    }

    #[test]
    fn a_use_of_the_same_rank_is_found() {
        assert_eq!(
            rules::order(&source("src/sys/shm.rs", "use crate::proto::head;")).len(),
            1
        );
        assert_eq!(
            rules::order(&source("src/log/mod.rs", "use crate::metric::Counter;")).len(),
            1
        );
    }

    #[test]
    fn lower_ranks_own_children_comments_and_strings_are_fine() {
        for text in [
            "use crate::base::addr;",
            "use crate::http::h1;",
            "use super::h1;",
            "// crate::conf::Model",
            "const A: &str = \"crate::conf::Model\";",
            "mod tests { use super::conf::X; }",
            "use crate::{base::{conf, addr}};",
        ] {
            let found = rules::order(&source("src/http/mod.rs", text));
            assert!(found.is_empty(), "{text}: {found:?}");
        }
        let deep = "use super::super::conf::X;";
        assert!(rules::order(&source("src/http/h1/head.rs", deep)).is_empty());
        assert_eq!(rules::order(&source("src/http/h1.rs", deep)).len(), 1);
    }

    #[test]
    fn a_module_without_rank_is_found() {
        assert_eq!(rules::order(&source("src/novelty/mod.rs", "")).len(), 1);
    }

    #[test]
    fn unsafe_and_kernel_crates_are_found_outside_sys() {
        assert_eq!(
            rules::kernel(&source("src/rt/a.rs", "unsafe { f() }")).len(),
            1
        );
        assert_eq!(
            rules::kernel(&source("src/rt/a.rs", "use nix;\nlet x = libc::AF_INET;")).len(),
            2
        );
        assert!(
            rules::kernel(&source("src/rt/a.rs", "#![deny(unsafe_code)] // unsafe")).is_empty()
        );
        assert!(rules::kernel(&source("src/sys/a.rs", "unsafe { libc::f() }")).is_empty());
    }

    #[test]
    fn a_clock_read_is_found_except_in_tests_and_its_places() {
        assert_eq!(
            rules::places(&source("src/http/a.rs", "let t = Instant::now();")).len(),
            1
        );
        assert!(rules::places(&source("src/rt/a.rs", "let t = Instant::now();")).is_empty());
        let test = "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }";
        assert!(rules::places(&source("src/http/a.rs", test)).is_empty());
    }

    #[test]
    fn a_missing_header_and_a_vague_name_are_found() {
        assert_eq!(
            rules::header(&Source::new("src/http/a.rs", "use x;")).len(),
            1
        );
        assert_eq!(rules::header(&source("src/http/util.rs", "")).len(), 1);
        assert!(rules::header(&source("src/http/a.rs", "")).is_empty());
    }

    #[test]
    fn long_files_and_functions_are_found_but_not_tests() {
        let long = "let a = 1;\n".repeat(601);
        assert_eq!(rules::size(&source("src/http/a.rs", &long)).len(), 1);
        let body = "    a();\n".repeat(80);
        let function = format!("pub fn f(a: [u8; 3]) -> u8 {{\n{body}}}\n");
        let found = rules::size(&source("src/http/a.rs", &function));
        assert!(
            found.len() == 1 && found[0].contains("`f` has 82 lines"),
            "{found:?}"
        );
        let test = format!("#[cfg(test)]\nmod tests {{\n{function}}}\n");
        assert!(rules::size(&source("src/http/a.rs", &test)).is_empty());
        assert!(
            rules::size(&source(
                "src/http/a.rs",
                "trait T { fn f(); }\nconst F: fn(u8) = g;"
            ))
            .is_empty()
        );
    }

    #[test]
    fn unfinished_work_is_found() {
        for text in [
            concat!("// TO", "DO: later"),
            "fn f() { todo!() }",
            "fn f() { unimplemented!() }",
            "#[ignore]\nfn f() {}",
            "#[should_panic(expected = \"x\")]\nfn f() {}",
        ] {
            assert_eq!(
                rules::unfinished(&source("src/http/a.rs", text)).len(),
                1,
                "{text}"
            );
        }
        assert!(rules::unfinished(&source("src/http/a.rs", "let ignore = todo_list;")).is_empty());
    }

    #[test]
    fn a_metric_name_outside_the_catalogue_is_found() {
        let text = "let a = \"proxyd_requests_total\";";
        assert_eq!(rules::metric_names(&source("src/http/a.rs", text)).len(), 1);
        assert!(rules::metric_names(&source("src/metric/catalog.rs", text)).is_empty());
        assert!(rules::metric_names(&source("src/http/a.rs", "// \"proxyd_x\"")).is_empty());
    }

    #[test]
    fn all_rules_run_over_a_file() {
        let found = rules::check(&source(
            "src/http/a.rs",
            "use crate::conf;\nunsafe fn f() { todo!() }",
        ));
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_file_that_nobody_declares_is_found() {
        let tree = |names: &[(&str, &str)]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|(p, t)| ((*p).to_owned(), (*t).to_owned()))
                .collect()
        };
        let files = tree(&[
            ("src/lib.rs", "pub mod a;"),
            ("src/a/mod.rs", "mod b;"),
            ("src/a/b.rs", ""),
            ("src/a/c.rs", ""),
        ]);
        let found = rules::orphans(&files, |p| p == "src/lib.rs");
        assert!(
            found.len() == 1 && found[0].starts_with("src/a/c.rs"),
            "{found:?}"
        );
    }

    #[test]
    fn dependencies_without_row_and_rows_without_dependency_are_found() {
        let manifest =
            "[dependencies]\na = \"1\"\nb = { version = \"1\" }\n[dev-dependencies]\nc = \"1\"";
        let page =
            "| crate | for | kind |\n| `a` | this | x |\n| `c` | that | |\n| `d` | it | x |\n";
        let found = papers::dependencies(manifest, page);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_changelog_without_open_head_is_found() {
        assert!(papers::changelog("# Changes\n\n## Unreleased\n\n### Added\n").is_empty());
        assert_eq!(
            papers::changelog("# Changes\n\n## 1.0\n\n### Stuff\n").len(),
            2
        );
    }

    #[test]
    fn dead_references_in_a_page_are_found() {
        let page = "See `src/lib.rs`, `base::addr::Host` and `base::addr`.\n\
                    Not `src/nothing.rs`, `base::addr::Nothing`, `std::io::Read`, `src/lib.rs:3`.\n\
                    ```\n`src/fenced.rs`\n```\n";
        let found = papers::references("docs/x.md", page, root());
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
