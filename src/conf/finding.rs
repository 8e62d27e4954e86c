//! What the checker has to say: findings with their places, and the collector that keeps them in
//! the order of the files.

use super::code::Code;
use super::source::Sources;
use super::tree::Table;
use std::ops::Range;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and is probably not what was meant.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// `error`, `warning`, `info`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A range of bytes in one of the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Number of the source in [`super::source::Sources`].
    pub file: u32,
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl Place {
    /// A place in a source.
    #[must_use]
    pub const fn new(file: u32, range: Range<usize>) -> Self {
        Self {
            file,
            start: range.start,
            end: range.end,
        }
    }

    /// The bytes as a range.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// Where it is.
    pub place: Place,
    /// The thing, then the reason: lower case, one sentence, no full stop.
    pub message: String,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// A second place that belongs to it, with its own label.
    pub also: Option<(Place, String)>,
}

impl Finding {
    /// A finding with its message only.
    #[must_use]
    pub fn new(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            place,
            message: message.into(),
            label: None,
            help: None,
            also: None,
        }
    }

    /// With a text beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With a last line that says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a second place.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some((place, label.into()));
        self
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// Collects findings while the files are read and checked.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Adds what was found in a tree that was recovered from broken text: nothing on lines that
    /// have a finding already, and nothing about what is missing, for it may stand there.
    pub fn extend_elsewhere(&mut self, other: Self, sources: &Sources) {
        let line = |p: Place| (p.file, sources.position(p).0);
        let known: Vec<_> = self.0.iter().map(|f| line(f.place)).collect();
        self.0.extend(
            other
                .0
                .into_iter()
                .filter(|f| f.code != Code::MissingKey && !known.contains(&line(f.place))),
        );
    }

    /// Whether there is an error inside a table.
    #[must_use]
    pub fn spoil(&self, table: &Table) -> bool {
        self.0
            .iter()
            .any(|f| f.severity() == Severity::Error && table.holds(f.place))
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|f| f.severity() == Severity::Error)
    }

    /// All of them by file, position and code, each once. Where a variable is not set, nothing
    /// else can be said about the value.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        let unset = |f: &&Finding| f.code == Code::Environment;
        let unset: Vec<Place> = self.0.iter().filter(unset).map(|f| f.place).collect();
        self.0
            .retain(|f| f.code == Code::Environment || !unset.contains(&f.place));
        self.0
            .sort_by(|a, b| (a.place, a.code, &a.message).cmp(&(b.place, b.code, &b.message)));
        self.0.dedup();
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_variable_is_the_only_finding_about_its_value() {
        let mut all = Findings::default();
        let place = Place::new(0, 9..10);
        all.push(Finding::new(Code::WrongType, place, "not a name"));
        all.push(Finding::new(Code::Environment, place, "not set"));
        all.push(Finding::new(Code::WrongType, Place::new(0, 1..2), "other"));
        let sorted = all.into_sorted();
        let texts: Vec<&str> = sorted.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(texts, ["other", "not set"]);
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_once() {
        let mut all = Findings::default();
        let late = Finding::new(Code::WrongType, Place::new(0, 9..10), "late");
        all.push(late.clone());
        all.push(Finding::new(
            Code::UnknownKey,
            Place::new(1, 0..1),
            "other file",
        ));
        all.push(Finding::new(Code::UnknownKey, Place::new(0, 1..2), "early"));
        all.push(late);
        assert!(all.has_errors());
        let texts: Vec<String> = all.into_sorted().into_iter().map(|f| f.message).collect();
        assert_eq!(texts, ["early", "late", "other file"]);
    }

    #[test]
    fn warnings_alone_are_no_error() {
        let mut all = Findings::default();
        all.push(Finding::new(Code::UnusedSet, Place::default(), "x"));
        assert!(!all.has_errors());
    }
}
