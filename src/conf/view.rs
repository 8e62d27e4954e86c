//! Reading typed values out of a tree that passed the shape check. A value that is absent, or was
//! reported already, leaves the default as it is; so nothing here reports anything.

use std::time::Duration;

use super::scalar;
use super::tree::{Node, Table, Value};
use crate::base::unit;

/// A table that may be absent.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(Option<&'a Table>);

impl<'a> View<'a> {
    /// A table.
    #[must_use]
    pub const fn new(table: &'a Table) -> Self {
        Self(Some(table))
    }

    /// No table.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether the table was written.
    #[must_use]
    pub const fn exists(self) -> bool {
        self.0.is_some()
    }

    /// The table itself.
    #[must_use]
    pub const fn table(self) -> Option<&'a Table> {
        self.0
    }

    /// The value of a key.
    #[must_use]
    pub fn node(self, key: &str) -> Option<&'a Node> {
        self.0?.get(key)
    }

    /// The table of a key.
    #[must_use]
    pub fn sub(self, key: &str) -> Self {
        Self(self.node(key).and_then(Node::table))
    }

    /// The tables of a key that repeats.
    #[must_use]
    pub fn rows(self, key: &str) -> Vec<&'a Table> {
        self.node(key)
            .map(|n| n.elements().iter().filter_map(Node::table).collect())
            .unwrap_or_default()
    }

    /// The elements of a key that takes one value or a list.
    #[must_use]
    pub fn nodes(self, key: &str) -> &'a [Node] {
        self.node(key).map_or(&[], Node::elements)
    }

    /// A string.
    #[must_use]
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.node(key)?.text()
    }

    /// Strings of a key that takes one or a list; `None` when the key is absent.
    #[must_use]
    pub fn texts(self, key: &str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        Some(
            node.elements()
                .iter()
                .filter_map(|n| n.text().map(ToOwned::to_owned))
                .collect(),
        )
    }

    /// `true` or `false`.
    #[must_use]
    pub fn flag(self, key: &str) -> Option<bool> {
        match self.node(key)?.value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// A whole number.
    #[must_use]
    pub fn number<T: TryFrom<i64>>(self, key: &str) -> Option<T> {
        match self.node(key)?.value {
            Value::Int(n) => T::try_from(n?).ok(),
            _ => None,
        }
    }

    /// A duration.
    #[must_use]
    pub fn duration(self, key: &str) -> Option<Duration> {
        unit::parse_duration(self.text(key)?).ok()
    }

    /// A size that fits its type.
    #[must_use]
    pub fn size<T: TryFrom<u64>>(self, key: &str) -> Option<T> {
        T::try_from(unit::parse_size(self.text(key)?).ok()?).ok()
    }

    /// A share.
    #[must_use]
    pub fn percent(self, key: &str) -> Option<u32> {
        scalar::parse_percent(self.text(key)?)
    }
}

/// Overwrites a default when there is a value.
pub fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
