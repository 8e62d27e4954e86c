//! Holds the tree against the table of keys and reports whatever has not the form that the table
//! asks for: unknown keys and sections, wrong types, units, ranges, words, missing keys. It goes on
//! after every finding, so one run shows all of them.

use super::code::Code;
use super::finding::{Finding, Findings, Place};
use super::grammar::Fault;
use super::key::{Key, Kind, ROOT, Section};
use super::scalar;
use super::source::Sources;
use super::spell;
use super::tree::{Entry, Node, Table, Value};

/// Checks a whole tree.
pub fn check(tree: &Table, sources: &Sources, findings: &mut Findings) {
    let mut checker = Checker {
        sources,
        findings,
        levels: Vec::new(),
    };
    checker.section(&ROOT, tree);
}

/// A section that encloses the one being checked.
struct Level<'a> {
    section: &'static Section,
    table: &'a Table,
}

struct Checker<'a, 'f> {
    sources: &'a Sources,
    findings: &'f mut Findings,
    levels: Vec<Level<'a>>,
}

impl<'a> Checker<'a, '_> {
    fn section(&mut self, section: &'static Section, table: &'a Table) {
        for entry in &table.entries {
            match section.key(&entry.key) {
                Some(key) => {
                    self.levels.push(Level { section, table });
                    self.value(&key.kind, &entry.key, &entry.node);
                    self.levels.pop();
                }
                None => self.unknown(section, entry),
            }
        }
        for key in section.keys.iter().filter(|k| k.required) {
            if table.entry(key.name).is_none() {
                self.findings.push(
                    Finding::new(
                        Code::MissingKey,
                        table.place,
                        format!("{} needs a `{}`", self.called(section, table), key.name),
                    )
                    .help(format!(
                        "add {} = {}",
                        key.name,
                        scalar::example(&key.kind)
                    )),
                );
            }
        }
    }

    /// `[[route]]`, or `this table` for an inline one.
    fn called(&self, section: &Section, table: &Table) -> String {
        let text = self.sources.text(table.place);
        if text.starts_with('[') {
            text.to_owned()
        } else if section.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{}`", section.path)
        }
    }

    fn unknown(&mut self, section: &'static Section, entry: &Entry) {
        if self.is_section(&entry.node) {
            let path = if section.path.is_empty() {
                entry.key.clone()
            } else {
                format!("{}.{}", section.path, entry.key)
            };
            let known = section.keys.iter().filter(|k| k.section().is_some());
            let mut finding = Finding::new(
                Code::UnknownSection,
                entry.key_place,
                format!("unknown section `{path}`"),
            );
            finding.label = self.suggestion(&entry.key, known);
            self.findings.push(finding);
            return;
        }
        let mut finding = Finding::new(
            Code::UnknownKey,
            entry.key_place,
            format!("unknown key `{}`", entry.key),
        );
        finding.help = self.misplaced(entry);
        if finding.help.is_none() {
            finding.label = self.suggestion(&entry.key, section.keys.iter());
            let names: Vec<&str> = section.keys.iter().map(|k| k.name).collect();
            finding.help = Some(format!("allowed here: {}", names.join(", ")));
        }
        self.findings.push(finding);
    }

    fn suggestion(&self, typed: &str, known: impl Iterator<Item = &'static Key>) -> Option<String> {
        spell::nearest(typed, known.map(|k| k.name)).map(|w| format!("did you mean `{w}`?"))
    }

    /// A key that an enclosing section knows was probably written below the wrong header.
    fn misplaced(&self, entry: &Entry) -> Option<String> {
        let level = self
            .levels
            .iter()
            .rev()
            .find(|l| l.section.key(&entry.key).is_some())?;
        let owner = match level.section.path {
            "" => "the file itself".to_owned(),
            _ => self.called(level.section, level.table),
        };
        let first_header = level
            .table
            .entries
            .iter()
            .filter(|e| self.is_section(&e.node))
            .map(|e| e.node.elements().first().map_or(e.node.place, |n| n.place))
            .filter(|p| p.file == entry.key_place.file && p.start < entry.key_place.start)
            .min();
        Some(match first_header {
            Some(header) => format!(
                "`{}` is a key of {owner}: move it above line {}",
                entry.key,
                self.sources.position(header).0
            ),
            None => format!("`{}` is a key of {owner}: write it there", entry.key),
        })
    }

    /// Whether a value was written as `[section]` or `[[section]]`.
    fn is_section(&self, node: &Node) -> bool {
        match &node.value {
            Value::Table(_) => !self.sources.text(node.place).starts_with('{'),
            Value::List(list) => list.first().is_some_and(|n| {
                n.table().is_some() && self.sources.text(n.place).starts_with("[[")
            }),
            _ => false,
        }
    }

    fn value(&mut self, kind: &Kind, key: &str, node: &'a Node) {
        match (kind, &node.value) {
            (Kind::Table(section), Value::Table(table)) => self.section(section, table),
            (Kind::List(inner) | Kind::Many(inner), Value::List(list)) => {
                for element in list {
                    self.value(inner, key, element);
                }
            }
            (Kind::Many(inner), _) => self.value(inner, key, node),
            (Kind::Map(keys, values), Value::Table(table)) => {
                for entry in &table.entries {
                    if let Err(fault) = scalar::check_key(keys, &entry.key) {
                        self.report(fault, &entry.key, entry.key_place);
                    }
                    self.value(values, &entry.key, &entry.node);
                }
            }
            (Kind::Forms(forms), _) => self.forms(kind, forms, key, node),
            _ => match scalar::check(kind, node) {
                Some(Ok(())) => {}
                Some(Err(fault)) => {
                    let echo = self.echo(node);
                    self.report(fault, &echo, node.place);
                }
                None => self.wrong_type(kind, key, node),
            },
        }
    }

    fn forms(&mut self, kind: &Kind, forms: &'static [Kind], key: &str, node: &'a Node) {
        let fitting: Vec<&Kind> = forms.iter().filter(|k| scalar::fits(k, node)).collect();
        if let Some(composite) = fitting.iter().find(|k| scalar::is_composite(k)) {
            return self.value(composite, key, node);
        }
        let outcomes: Vec<_> = fitting
            .iter()
            .filter_map(|k| scalar::check(k, node))
            .collect();
        if outcomes.iter().any(Result::is_ok) {
            return;
        }
        // The words of a form are its exceptions: the other form knows better what is wrong.
        let best = fitting
            .iter()
            .position(|k| !matches!(k, Kind::Word(_)))
            .unwrap_or(0);
        match outcomes.into_iter().nth(best) {
            Some(Err(mut fault)) => {
                if let Some(words) = scalar::words(forms)
                    && fault.help.is_none()
                {
                    fault.help = Some(format!("also allowed here: {words}"));
                }
                let echo = self.echo(node);
                self.report(fault, &echo, node.place);
            }
            _ => self.wrong_type(kind, key, node),
        }
    }

    fn wrong_type(&mut self, kind: &Kind, key: &str, node: &Node) {
        let brackets = match (kind, &node.value) {
            (Kind::List(Kind::Table(_)), Value::Table(_)) => Some(format!("[[{key}]]")),
            (Kind::Table(_), Value::List(_)) => Some(format!("[{key}]")),
            _ => None,
        };
        if let Some(right) = brackets.filter(|_| self.is_section(node)) {
            self.findings.push(
                Finding::new(
                    Code::WrongType,
                    node.place,
                    format!("section `{key}` is written {right}"),
                )
                .label(format!("write {right}")),
            );
            return;
        }
        self.findings.push(
            Finding::new(
                Code::WrongType,
                node.place,
                format!(
                    "`{key}` takes {}, not {}",
                    scalar::describe(kind),
                    node.value.kind()
                ),
            )
            .help(format!("for example: {key} = {}", scalar::example(kind))),
        );
    }

    /// A value as the user wrote it, without quotes.
    fn echo(&self, node: &Node) -> String {
        node.text().map_or_else(
            || self.sources.text(node.place).to_owned(),
            ToOwned::to_owned,
        )
    }

    fn report(&mut self, fault: Fault, echo: &str, place: Place) {
        let inner = fault.at.as_ref().and_then(|at| {
            // Only a string without escapes has its bytes where the file has them.
            let raw = self.sources.text(place);
            let plain = raw.len() == echo.len() + 2 && raw.get(1..raw.len() - 1) == Some(echo);
            plain.then(|| {
                Place::new(
                    place.file,
                    place.start + 1 + at.start..place.start + 1 + at.end,
                )
            })
        });
        let message = if fault.whole {
            fault.message
        } else {
            format!("`{}` {}", shorten(echo), fault.message)
        };
        let mut finding = Finding::new(fault.code, inner.unwrap_or(place), message);
        finding.label = fault.label;
        finding.help = fault.help;
        self.findings.push(finding);
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    let head: String = text.chars().take(57).collect();
    format!("{head}...")
}

/// Checks one value given as TOML text.
#[cfg(test)]
pub(super) fn check_text(value: &str, kind: &Kind) -> Vec<Finding> {
    let text = format!("x = {value}");
    let mut sources = Sources::default();
    let file = sources.add("value", text.as_str());
    let tree = super::tree::from_document(file, toml::de::DeTable::parse(&text).unwrap());
    let mut findings = Findings::default();
    let mut checker = Checker {
        sources: &sources,
        findings: &mut findings,
        levels: Vec::new(),
    };
    checker.value(kind, "x", tree.get("x").unwrap());
    findings.into_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str, kind: &Kind) -> (&'static str, String) {
        let found = check_text(value, kind);
        assert_eq!(found.len(), 1, "{value}: {found:?}");
        (found[0].code.as_str(), found[0].message.clone())
    }

    fn all(cases: &[(&str, Kind, &str, &str)]) {
        for (value, kind, code, message) in cases {
            assert_eq!(one(value, kind), (*code, (*message).to_owned()), "{value}");
        }
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        const LIST: &str = "write a number and one of ms, s, m, h, d (for example \"5s\")";
        let time = Kind::Duration(1);
        let forms = Kind::Forms(&[Kind::Duration(1), Kind::Word(&["off"])]);
        let list = format!("`5q` is not a duration: {LIST}");
        let unit = "`30` has no unit: write \"30s\" or \"30ms\"";
        all(&[
            ("30", time, "E0104", unit),
            ("\"30\"", time, "E0104", unit),
            (
                "\"0s\"",
                time,
                "E0108",
                "`0s` is out of range: more than 0s",
            ),
            (
                "true",
                time,
                "E0106",
                "`x` takes a duration, not true or false",
            ),
            ("\"5q\"", forms, "E0104", &list),
        ]);
    }

    #[test]
    fn sizes_and_numbers_have_ranges() {
        let many = "`99999999999999999999` is out of range: 1 to 64";
        let gib = "`1GiB` is out of range: 1B to 1MiB";
        let unit = "`1` has no unit: write \"1B\" or \"1KiB\"";
        all(&[
            ("1", Kind::Size(0, 10), "E0105", unit),
            ("\"1GiB\"", Kind::Size(1, 1 << 20), "E0108", gib),
            (
                "70",
                Kind::Int(1, 64),
                "E0108",
                "`70` is out of range: 1 to 64",
            ),
            ("99999999999999999999", Kind::Int(1, 64), "E0108", many),
            ("2.5", Kind::Share, "E0108", "`2.5` is out of range: 0 to 1"),
        ]);
    }

    #[test]
    fn other_texts_say_what_they_should_be() {
        let percent = "`20` is not a percentage: write a number from 0 to 100 and %";
        let mode = "`99` is not a file mode: write an octal number such as \"0640\"";
        let rate = "`5` is not a rate: write a size per second such as \"500B/s\"";
        all(&[
            (
                "\"a\"",
                Kind::Word(&["b"]),
                "E0112",
                "`a` is not allowed here",
            ),
            ("\"20\"", Kind::Percent, "E0105", percent),
            ("\"99\"", Kind::Mode, "E0105", mode),
            ("\"5\"", Kind::ByteRate, "E0105", rate),
            ("\"\"", Kind::Path, "E0115", "`` is not a path"),
        ]);
    }

    #[test]
    fn all_elements_of_a_list_are_checked() {
        let found = check_text("[\"a b\", \"ok\", \"\"]", &Kind::Many(&Kind::Name));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].place.start, 5);
    }
}
