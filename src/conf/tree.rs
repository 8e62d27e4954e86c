//! The files as one tree of values, each with its place. The tree owns its text, so that included
//! files can be merged; entries keep the order of the file.

use super::code::Code;
use super::finding::{Finding, Findings, Place};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value stands; for a section its header.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string, after `${NAME}` was replaced.
    Text(String),
    /// A whole number; `None` when it does not fit 64 bits.
    Int(Option<i64>),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date or time: no key takes one.
    Date,
    /// A list.
    List(Vec<Node>),
    /// A table or section.
    Table(Table),
}

impl Value {
    /// The type as people call it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The string, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    #[must_use]
    pub const fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements of a list; any other value is a list of itself.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match &self.value {
            Value::List(list) => list,
            _ => std::slice::from_ref(self),
        }
    }
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub node: Node,
}

/// A table: entries in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The header, or the whole inline table.
    pub place: Place,
    /// What is in it.
    pub entries: Vec<Entry>,
}

impl Table {
    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// The table of a key.
    #[must_use]
    pub fn table(&self, key: &str) -> Option<&Self> {
        self.get(key).and_then(Node::table)
    }

    /// Whether a place lies in this table: in its header, or in anything below it.
    #[must_use]
    pub fn holds(&self, place: Place) -> bool {
        let inside = |outer: Place| {
            outer.file == place.file && outer.start <= place.start && place.end <= outer.end
        };
        inside(self.place)
            || self.entries.iter().any(|e| {
                inside(e.key_place)
                    || inside(e.node.place)
                    || e.node.elements().iter().any(|n| match &n.value {
                        Value::Table(table) => table.holds(place),
                        _ => inside(n.place),
                    })
            })
    }

    /// Takes in the content of another file as if it were written here. Lists of sections are
    /// appended, tables merged; anything else that stands in both is reported.
    pub fn merge(&mut self, other: Self, findings: &mut Findings) {
        for entry in other.entries {
            let Some(mine) = self.entries.iter_mut().find(|e| e.key == entry.key) else {
                self.entries.push(entry);
                continue;
            };
            match (&mut mine.node.value, entry.node.value) {
                (Value::Table(mine), Value::Table(theirs)) => mine.merge(theirs, findings),
                (Value::List(mine), Value::List(theirs)) if sections(mine) && sections(&theirs) => {
                    mine.extend(theirs);
                }
                _ => findings.push(
                    Finding::new(
                        Code::Duplicate,
                        entry.key_place,
                        format!("key `{}` is set in two files", entry.key),
                    )
                    .also(mine.key_place, "also set here")
                    .help("included files count as if they were written in the including file: remove one of the two"),
                ),
            }
        }
    }
}

fn sections(list: &[Node]) -> bool {
    list.iter().all(|n| matches!(n.value, Value::Table(_)))
}

/// Takes over a parsed document.
#[must_use]
pub fn from_document(file: u32, document: Spanned<DeTable<'_>>) -> Table {
    let range = document.span();
    table(file, range.start..range.start, document.into_inner())
}

fn table(file: u32, range: std::ops::Range<usize>, table: DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_place: Place::new(file, key.span()),
            key: key.into_inner().into_owned(),
            node: node(file, value),
        })
        .collect();
    entries.sort_by_key(|e| e.key_place);
    Table {
        place: Place::new(file, range),
        entries,
    }
}

fn node(file: u32, value: Spanned<DeValue<'_>>) -> Node {
    let range = value.span();
    let place = Place::new(file, range.clone());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(int) => Value::Int(i64::from_str_radix(int.as_str(), int.radix()).ok()),
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(list) => Value::List(list.into_iter().map(|v| node(file, v)).collect()),
        DeValue::Table(t) => Value::Table(table(file, range, t)),
    };
    Node { place, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: u32, text: &str) -> Table {
        from_document(file, DeTable::parse(text).unwrap())
    }

    #[test]
    fn entries_keep_the_order_and_the_places_of_the_file() {
        let tree = parse(0, "z = 1\na = \"x\"\n[[route]]\nhost = \"h\"\n");
        let keys: Vec<&str> = tree.entries.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["z", "a", "route"]);
        assert_eq!(tree.get("a").unwrap().place, Place::new(0, 10..13));
        let routes = tree.get("route").unwrap().elements();
        assert_eq!(routes[0].place, Place::new(0, 14..23));
    }

    #[test]
    fn merging_appends_sections_and_reports_what_is_set_twice() {
        let mut findings = Findings::default();
        let mut tree = parse(0, "[master]\nuser = \"a\"\n[[route]]\nname = \"1\"\n");
        tree.merge(
            parse(
                1,
                "[master]\nuser = \"b\"\ngroup = \"g\"\n[[route]]\nname = \"2\"\n",
            ),
            &mut findings,
        );
        assert_eq!(tree.get("route").unwrap().elements().len(), 2);
        assert_eq!(
            tree.table("master").unwrap().get("group").unwrap().text(),
            Some("g")
        );
        let found = findings.into_sorted();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, Code::Duplicate);
        assert_eq!(found[0].place.file, 1);
        assert_eq!(found[0].also.as_ref().unwrap().0.file, 0);
    }

    #[test]
    fn numbers_of_every_radix_and_too_large_ones() {
        let tree = parse(
            0,
            "a = 0x10\nb = 99999999999999999999\nc = -1_000\nd = 0.5\n",
        );
        assert_eq!(tree.get("a").unwrap().value, Value::Int(Some(16)));
        assert_eq!(tree.get("b").unwrap().value, Value::Int(None));
        assert_eq!(tree.get("c").unwrap().value, Value::Int(Some(-1000)));
        assert_eq!(tree.get("d").unwrap().value, Value::Float(0.5));
    }
}
