//! Reads the main file and everything it includes into one tree. Syntax errors, files that cannot
//! be read and circles of includes are reported where they are written.

use std::path::{Component, Path, PathBuf};

use super::code::Code;
use super::env::{self, Lookup};
use super::finding::{Finding, Findings, Place};
use super::source::Sources;
use super::tree::{self, Node, Table};
use toml::de::DeTable;

/// More files than anybody includes on purpose.
const FILES_MAX: usize = 1000;
/// Larger than any configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads files into one tree.
pub struct Loader<'a> {
    /// Everything read so far.
    pub sources: Sources,
    /// What was found so far.
    pub findings: Findings,
    /// Whether a file could not be read, or was not valid TOML.
    pub broken: bool,
    lookup: Lookup<'a>,
    /// Files that are being read, outermost first.
    stack: Vec<PathBuf>,
    /// Files that were read.
    seen: Vec<PathBuf>,
}

impl<'a> Loader<'a> {
    /// A loader that takes variables from `lookup`.
    #[must_use]
    pub fn new(lookup: Lookup<'a>) -> Self {
        Self {
            sources: Sources::default(),
            findings: Findings::default(),
            broken: false,
            lookup,
            stack: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Reads the main file.
    pub fn main(&mut self, path: &Path) -> Table {
        match read(path) {
            Ok(text) => self.text(path, &text),
            Err(reason) => {
                self.broken = true;
                let file = self.sources.add(path.display().to_string(), "");
                let place = Place::new(file, 0..0);
                self.findings.push(Finding::new(
                    Code::Include,
                    place,
                    format!("cannot read {}: {reason}", path.display()),
                ));
                Table::default()
            }
        }
    }

    /// Takes a text as the content of a file and adds what it includes.
    pub fn text(&mut self, path: &Path, text: &str) -> Table {
        let file = self.sources.add(path.display().to_string(), text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut lines = Vec::new();
        for error in errors {
            self.broken = true;
            self.syntax(file, text, &error, &mut lines);
        }
        let mut table = tree::from_document(file, document);
        env::expand(&mut table, self.lookup, &mut self.findings);
        let includes: Vec<Node> = table
            .get("include")
            .map(|n| n.elements().to_vec())
            .unwrap_or_default();
        let identity = std::fs::canonicalize(path).unwrap_or_else(|_e| path.to_owned());
        self.seen.push(identity.clone());
        self.stack.push(identity);
        for include in includes {
            if let Some(pattern) = include.text() {
                self.include(path, pattern, include.place, &mut table);
            }
        }
        self.stack.pop();
        table
    }

    fn syntax(&mut self, file: u32, text: &str, error: &toml::de::Error, lines: &mut Vec<usize>) {
        let span = error.span().unwrap_or(0..0);
        let mut place = Place::new(file, span);
        // A mistake at a line end is marked there and not on the next line.
        if place.start > 0 && place.start == text.len() && text.ends_with('\n') {
            place = Place::new(file, place.start - 1..place.start - 1);
        }
        let line = self.sources.position(place).0;
        if lines.contains(&line) {
            return;
        }
        lines.push(line);
        let finding = if error.message() == "duplicate key" {
            let key = self.sources.text(place).to_owned();
            Finding::new(Code::Duplicate, place, format!("`{key}` is defined twice"))
                .label("second definition")
        } else if let Some(word) = bare_word(self.sources.text(place)) {
            // The parser takes `info` for a number that begins with `inf`.
            Finding::new(Code::Syntax, place, "not valid TOML: a string needs quotes")
                .label(format!("write \"{word}\""))
        } else {
            Finding::new(
                Code::Syntax,
                place,
                format!("not valid TOML: {}", error.message()),
            )
        };
        self.findings.push(finding);
    }

    fn include(&mut self, from: &Path, pattern: &str, place: Place, table: &mut Table) {
        let base = from.parent().unwrap_or(Path::new(""));
        let found = expand_pattern(base, pattern);
        let wild = pattern.contains(['*', '?']);
        if found.is_empty() && !wild {
            self.cannot(place, &format!("included file `{pattern}` does not exist"));
        }
        for path in found {
            let identity = std::fs::canonicalize(&path).unwrap_or_else(|_e| path.clone());
            if self.stack.contains(&identity) {
                if !wild {
                    self.cannot(place, &format!("`{pattern}` includes itself in a circle"));
                }
                // A pattern that also covers the including file does not mean that file.
                continue;
            }
            if self.seen.contains(&identity) {
                self.cannot(place, &format!("{} is included twice", path.display()));
                continue;
            }
            if self.sources.len() >= FILES_MAX {
                self.cannot(place, "more than 1000 files are included");
                return;
            }
            match read(&path) {
                Ok(text) => {
                    let mut other = self.text(&path, &text);
                    other.entries.retain(|e| e.key != "include");
                    table.merge(other, &mut self.findings);
                }
                Err(reason) => {
                    self.cannot(place, &format!("cannot read {}: {reason}", path.display()));
                }
            }
        }
    }

    fn cannot(&mut self, place: Place, message: &str) {
        self.findings
            .push(Finding::new(Code::Include, place, message));
    }
}

/// A value that was probably meant as a string.
fn bare_word(text: &str) -> Option<&str> {
    let word = text.trim();
    let fits = |c: char| c.is_alphanumeric() || "_-./:*".contains(c);
    let begins = word.starts_with(|c: char| c.is_alphabetic() || c == '/');
    (begins && word.chars().all(fits)).then_some(word)
}

/// Reads a file, with a reason in words.
///
/// # Errors
/// Why not.
pub fn read(path: &Path) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|e| reason(&e))?;
    if meta.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err("it is larger than 16 MiB".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|e| reason(&e))?;
    String::from_utf8(bytes).map_err(|_e| "it is not UTF-8 text".to_owned())
}

/// An operating system error in words.
#[must_use]
pub fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::NotFound => "no such file".to_owned(),
        E::PermissionDenied => "permission denied".to_owned(),
        E::NotADirectory => "a part of the path is not a folder".to_owned(),
        E::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

/// The files that a pattern means, in alphabetical order.
fn expand_pattern(base: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let full = base.join(pattern);
    for component in full.components() {
        let part = component.as_os_str().to_string_lossy();
        let wild = matches!(component, Component::Normal(_)) && part.contains(['*', '?']);
        let mut next = Vec::new();
        for path in found {
            if wild {
                next.extend(matching(&path, &part));
            } else {
                next.push(path.join(component));
            }
        }
        found = next;
    }
    found.retain(|p| p.exists());
    found.sort();
    found
}

fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let list = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(list) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') || pattern.starts_with('.'))
        .filter(|name| glob(pattern.as_bytes(), name.as_bytes()))
        .map(|name| folder.join(name))
        .collect()
}

/// `*` is any text, `?` one byte. Linear in memory, and the work is bounded by the product.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut reachable = vec![false; name.len() + 1];
    if let Some(first) = reachable.first_mut() {
        *first = true;
    }
    for p in pattern {
        let mut next = vec![false; name.len() + 1];
        for i in 0..=name.len() {
            let here = reachable.get(i).copied().unwrap_or(false);
            let stays = *p == b'*' && (here || (i > 0 && next.get(i - 1) == Some(&true)));
            let steps = *p != b'*'
                && i > 0
                && reachable.get(i - 1) == Some(&true)
                && (*p == b'?' || name.get(i - 1) == Some(p));
            if let Some(slot) = next.get_mut(i) {
                *slot = stays || steps;
            }
        }
        reachable = next;
    }
    reachable.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.tom", false),
            ("a?c*", "abc", true),
            ("a?c*", "ac", false),
            ("*", "", true),
            ("**x*", "yyxz", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    fn load(dir: &Path) -> (Table, Vec<Finding>) {
        let none = |_: &str| None;
        let mut loader = Loader::new(&none);
        let table = loader.main(&dir.join("main.toml"));
        (table, loader.findings.into_sorted())
    }

    #[test]
    fn included_files_are_read_in_alphabetical_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        for (name, text) in [
            (
                "main.toml",
                "include = [\"conf.d/*.toml\"]\n[[route]]\nname = \"0\"\n",
            ),
            ("conf.d/b.toml", "[[route]]\nname = \"2\"\n"),
            ("conf.d/a.toml", "[[route]]\nname = \"1\"\n"),
            ("conf.d/a.toml.bak", "broken"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (table, findings) = load(dir.path());
        assert_eq!(findings, []);
        let names: Vec<&str> = table
            .get("route")
            .unwrap()
            .elements()
            .iter()
            .filter_map(|n| n.table()?.get("name")?.text())
            .collect();
        assert_eq!(names, ["0", "1", "2"]);
    }

    #[test]
    fn circles_missing_files_and_second_inclusions_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "main.toml",
                "include = [\"a.toml\", \"none.toml\", \"b.toml\"]\n",
            ),
            ("a.toml", "include = \"main.toml\"\n"),
            ("b.toml", "include = \"a.toml\"\n"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (_, findings) = load(dir.path());
        let texts: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert_eq!(texts[0], "included file `none.toml` does not exist");
        assert_eq!(texts[1], "`main.toml` includes itself in a circle");
        assert!(texts[2].ends_with("a.toml is included twice"), "{texts:?}");
    }
}
