//! The tidy rules over single source files: order of modules, where special things may stand,
//! sizes, words. Each rule is a function from a file to findings, so that it can be tested on
//! small strings.

use crate::mask::{self, Keep};
use crate::tables;
use std::collections::HashSet;

/// One file of `src/` with its masks.
pub struct Source {
    /// Path below the repository, such as `src/http/mod.rs`.
    pub path: String,
    /// The text as written.
    pub text: String,
    /// Only code is left.
    pub code: String,
    /// Code and string literals are left.
    pub strings: String,
    /// Where test code stands.
    tests: Vec<std::ops::Range<usize>>,
    /// The whole file is test code.
    all_test: bool,
}

impl Source {
    /// A file given by path and text.
    pub fn new(path: &str, text: &str) -> Self {
        let code = mask::mask(text, Keep::Code);
        let tests = mask::test_ranges(&code);
        let all_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            strings: mask::mask(text, Keep::CodeAndStrings),
            code,
            tests,
            all_test,
        }
    }

    /// Below `src/`, such as `http/mod.rs`.
    pub fn inner(&self) -> &str {
        self.path.strip_prefix("src/").unwrap_or(&self.path)
    }

    /// `["http", "h1"]` for `src/http/h1.rs` and `src/http/h1/mod.rs`; empty for the crate root.
    pub fn module(&self) -> Vec<String> {
        let stem = self.inner().trim_end_matches(".rs");
        let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
        if parts
            .last()
            .is_some_and(|p| p == "mod" || (parts.len() == 1 && (p == "lib" || p == "main")))
        {
            parts.pop();
        }
        parts
    }

    fn is_test(&self, offset: usize) -> bool {
        self.all_test || self.tests.iter().any(|r| r.contains(&offset))
    }

    fn at(&self, offset: usize, what: &str) -> String {
        format!(
            "{}:{}: {what}",
            self.path,
            mask::line_of(&self.text, offset)
        )
    }
}

/// All rules over one file.
pub fn check(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(order(source));
    found.extend(kernel(source));
    found.extend(places(source));
    found.extend(header(source));
    found.extend(size(source));
    found.extend(unfinished(source));
    found.extend(metric_names(source));
    found
}

/// No module uses one of its own or a higher rank.
pub fn order(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(top) = module.first() else {
        return Vec::new();
    };
    let Some(own) = tables::rank(top) else {
        return vec![format!(
            "{}: `{top}` is not in the rank table of tests/tidy",
            source.path
        )];
    };
    let mut found = Vec::new();
    for (at, used) in mask::crate_uses(&source.code, &module) {
        let Some(rank) = tables::rank(&used) else {
            continue;
        };
        if used != *top && rank >= own {
            found.push(source.at(
                at,
                &format!("`{top}` (rank {own}) uses `{used}` (rank {rank})"),
            ));
        }
    }
    found
}

/// `unsafe`, `libc` and `nix` stand only below `src/sys`.
pub fn kernel(source: &Source) -> Vec<String> {
    if source.inner().starts_with("sys/") {
        return Vec::new();
    }
    mask::words(&source.code)
        .into_iter()
        .filter(|(at, word)| match *word {
            "unsafe" => true,
            "libc" | "nix" => {
                source.code[at + word.len()..].starts_with("::")
                    || source.code[..*at].trim_end().ends_with("use")
            }
            _ => false,
        })
        .map(|(at, word)| source.at(at, &format!("`{word}` outside src/sys")))
        .collect()
}

/// Clocks, threads, exits and the environment are touched only where the table says so.
pub fn places(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for place in tables::PLACES {
        if place
            .files
            .iter()
            .any(|f| source.inner() == *f || (f.ends_with('/') && source.inner().starts_with(f)))
        {
            continue;
        }
        for pattern in place.patterns {
            for (at, _) in source.code.match_indices(pattern) {
                let before = source.code[..at].bytes().next_back().unwrap_or(b' ');
                let behind = source.code[at + pattern.len()..]
                    .bytes()
                    .next()
                    .unwrap_or(b' ');
                let cut = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if !source.is_test(at) && !cut(before) && !cut(behind) {
                    found.push(source.at(at, &format!("`{pattern}`: {}", place.rule)));
                }
            }
        }
    }
    found
}

/// Every file says in `//!` what it is; vague module names do not exist.
pub fn header(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let start = source.text.trim_start();
    if !start.starts_with("//! ") || start.lines().next().is_none_or(|l| l.len() < 12) {
        found.push(format!(
            "{}:1: the file does not say in `//!` what it is",
            source.path
        ));
    }
    for part in source.module() {
        if tables::BANNED_NAMES.contains(&part.as_str()) {
            found.push(format!(
                "{}: `{part}` says nothing: name the module by its subject",
                source.path
            ));
        }
    }
    found
}

/// Files and functions stay short.
pub fn size(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines = product_lines(source);
    if lines > tables::FILE_LINES_MAX {
        found.push(format!(
            "{}: {lines} product lines, the limit is {}",
            source.path,
            tables::FILE_LINES_MAX
        ));
    }
    let starts: Vec<usize> = line_starts(&source.code);
    for (name, first, last) in mask::functions(&source.code) {
        let lines = last + 1 - first;
        if source.is_test(starts[first - 1]) || lines <= tables::FUNCTION_LINES_MAX {
            continue;
        }
        let allowed = tables::LONG_FUNCTIONS
            .iter()
            .find(|f| f.path == source.path && f.function == name)
            .map_or(tables::FUNCTION_LINES_MAX, |f| f.lines);
        if lines > allowed {
            found.push(format!(
                "{}:{first}: `{name}` has {lines} lines, the limit is {allowed}",
                source.path
            ));
        }
    }
    found
}

/// The longest function of each listed exception has to be that long still.
pub fn stale_exceptions(sources: &[Source]) -> Vec<String> {
    tables::LONG_FUNCTIONS
        .iter()
        .filter(|e| {
            !sources.iter().filter(|s| s.path == e.path).any(|s| {
                mask::functions(&s.code)
                    .iter()
                    .any(|(n, a, b)| n == e.function && b + 1 - a == e.lines)
            })
        })
        .map(|e| format!("tests/tidy/tables.rs: the exception for `{}` in {} is not exact any more: shrink it or drop it", e.function, e.path))
        .collect()
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect()
}

/// Lines that are not test code.
fn product_lines(source: &Source) -> usize {
    let starts = line_starts(&source.text);
    let count = source.text.lines().count();
    starts
        .iter()
        .take(count)
        .filter(|at| !source.is_test(**at))
        .count()
}

/// Nothing unfinished, no test that does not run or that may only panic.
pub fn unfinished(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in mask::words(&source.text) {
        if tables::UNFINISHED_WORDS.contains(&word) {
            found.push(source.at(at, &format!("`{word}`: finish it, or write an issue")));
        }
    }
    for (at, word) in mask::words(&source.code) {
        let behind = &source.code[at + word.len()..];
        let before = source.code[..at].trim_end();
        let banned = match word {
            "todo" | "unimplemented" => behind.starts_with('!'),
            "ignore" | "should_panic" => before.ends_with("#["),
            _ => false,
        };
        if banned {
            found.push(source.at(at, &format!("`{word}` is not allowed")));
        }
    }
    found
}

/// Metric names are written once, in the catalogue.
pub fn metric_names(source: &Source) -> Vec<String> {
    if source.inner().starts_with("metric/catalog") {
        return Vec::new();
    }
    source
        .strings
        .match_indices("\"proxyd_")
        .filter(|(at, _)| !source.is_test(*at))
        .map(|(at, _)| source.at(at, "a metric name outside metric/catalog"))
        .collect()
}

/// Every file other than the roots is declared as a module somewhere.
pub fn orphans(files: &[(String, String)], is_root: impl Fn(&str) -> bool) -> Vec<String> {
    let mut declared = HashSet::new();
    for (_, text) in files {
        let code = mask::mask(text, Keep::Code);
        let words = mask::words(&code);
        for pair in words.windows(2) {
            if let [(_, "mod"), (at, name)] = pair
                && code[at + name.len()..].starts_with(';')
            {
                declared.insert((*name).to_owned());
            }
        }
    }
    files
        .iter()
        .filter(|(path, _)| !is_root(path))
        .filter(|(path, _)| {
            let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
            let name = match parts.as_slice() {
                [.., parent, "mod"] => *parent,
                [.., name] => *name,
                [] => "",
            };
            !declared.contains(name)
        })
        .map(|(path, _)| {
            format!("{path}: no file declares it as a module, so it is never compiled")
        })
        .collect()
}
