//! Every section and key of the file, once: its form, default, range, what a reload does with it,
//! and a sentence. The checker, the reference, the JSON schema and the hints all read this table.

mod http;
mod process;
mod route;
mod tls;
mod upstream;

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number in a range.
    Int(i64, i64),
    /// A number from 0 to 1.
    Share,
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `"5s"`, at least so many milliseconds.
    Duration(u64),
    /// `"16KiB"`, in a range of bytes.
    Size(u64, u64),
    /// `"500B/s"`.
    ByteRate,
    /// `"20%"`.
    Percent,
    /// `"0660"`.
    Mode,
    /// A file or folder; relative to the file it is written in.
    Path,
    /// A name of a section.
    Name,
    /// Where to listen.
    Bind,
    /// `host:port` or `unix:/path`.
    Server,
    /// `ip:port`.
    Socket,
    /// An IP address.
    Ip,
    /// Text with a grammar of its own: how it is called, and the check.
    Special(&'static str, fn(&str) -> super::grammar::Checked),
    /// A list.
    List(&'static Self),
    /// One value or a list of them.
    Many(&'static Self),
    /// Free keys with values of one kind; the keys are checked too.
    Map(&'static Self, &'static Self),
    /// A table with these keys.
    Table(&'static Section),
    /// Several forms; they differ by type, or text forms are tried one after another.
    Forms(&'static [Self]),
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With the next reload.
    Reload,
    /// With the next start of the master.
    Restart,
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// Its form.
    pub kind: Kind,
    /// Its default as TOML; empty: none.
    pub default: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// When a change takes effect.
    pub effect: Effect,
    /// What it means.
    pub doc: &'static str,
}

/// A section or inline table.
#[derive(Debug)]
pub struct Section {
    /// Path from the root, such as `upstream.server`; empty for the root.
    pub path: &'static str,
    /// Its keys in the order of the reference.
    pub keys: &'static [Key],
    /// What it is for.
    pub doc: &'static str,
}

impl Section {
    /// The key of a name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// A key with a default.
#[must_use]
const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        required: false,
        effect: Effect::Reload,
        doc,
    }
}

/// A key that has to be there.
#[must_use]
const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        required: true,
        ..key(name, kind, "", doc)
    }
}

impl Key {
    /// A change needs a restart.
    const fn restart(self) -> Self {
        Self {
            effect: Effect::Restart,
            ..self
        }
    }

    /// The section behind the key, where there is one: `(section, repeated)`.
    #[must_use]
    pub fn section(&self) -> Option<(&'static Section, bool)> {
        fn of(kind: &Kind) -> Option<(&'static Section, bool)> {
            match kind {
                Kind::Table(section) => Some((section, false)),
                Kind::List(Kind::Table(section)) => Some((section, true)),
                Kind::Many(inner) | Kind::List(inner) => of(inner),
                Kind::Map(_, inner) => of(inner),
                Kind::Forms(forms) => forms.iter().find_map(of),
                _ => None,
            }
        }
        of(&self.kind)
    }
}

/// A duration that may be zero.
const SPAN: Kind = Kind::Duration(0);
/// A duration that may not be zero.
const TIME: Kind = Kind::Duration(1);
/// A duration or `"off"`.
const TIME_OR_OFF: Kind = Kind::Forms(&[TIME, Kind::Word(&["off"])]);
/// A size of at most 1 TiB.
const SIZE: Kind = Kind::Size(0, 1 << 40);
/// A size or `"off"`.
const SIZE_OR_OFF: Kind = Kind::Forms(&[SIZE, Kind::Word(&["off"])]);
/// A size or `"unlimited"`.
const SIZE_OR_ALL: Kind = Kind::Forms(&[Kind::Size(0, 1 << 60), Kind::Word(&["unlimited"])]);
/// A number that fits where counts are kept.
const COUNT: Kind = Kind::Int(0, 1_000_000_000);

/// The root of the file.
pub static ROOT: Section = Section {
    path: "",
    doc: "The file itself. Sections may stand in any order; unknown keys and sections are errors.",
    keys: &[
        key(
            "include",
            Kind::Many(&Kind::Text),
            "[]",
            "Files merged as if written here: paths relative to this file, with `*` and `?`, read in alphabetical order. A name defined twice is an error.",
        ),
        key(
            "master",
            Kind::Table(&process::MASTER),
            "",
            "The master process.",
        ),
        key(
            "worker",
            Kind::Table(&process::WORKER),
            "",
            "The worker processes.",
        ),
        key(
            "watchdog",
            Kind::Table(&process::WATCHDOG),
            "",
            "Restarts of workers.",
        ),
        key("log", Kind::Table(&process::LOG), "", "The error log."),
        key(
            "metrics",
            Kind::Table(&process::METRICS),
            "",
            "Figures for Prometheus.",
        ),
        key("dns", Kind::Table(&process::DNS), "", "Names of servers."),
        key(
            "sets",
            Kind::Map(&Kind::Name, &process::NETWORKS_OR_FILE),
            "",
            "Named lists of networks: `lan = [\"10.0.0.0/8\"]`, or `{ file = \"...\" }` with one network per line. Always there: `any`, `loopback`, `link-local`, `private`.",
        ),
        key(
            "defaults",
            Kind::Table(&http::DEFAULTS),
            "",
            "Values for all listeners, routes and upstreams.",
        ),
        key(
            "certificate",
            Kind::List(&Kind::Table(&tls::CERTIFICATE)),
            "",
            "Certificates of TLS listeners and upstreams.",
        ),
        key(
            "listener",
            Kind::List(&Kind::Table(&http::LISTENER)),
            "",
            "Where clients connect.",
        ),
        key(
            "route",
            Kind::List(&Kind::Table(&route::ROUTE)),
            "",
            "What is done with which request.",
        ),
        key(
            "upstream",
            Kind::List(&Kind::Table(&upstream::UPSTREAM)),
            "",
            "Groups of servers.",
        ),
    ],
};

/// Every section that the file can have, the root first, sub-sections behind their parents.
#[must_use]
pub fn sections() -> Vec<&'static Section> {
    fn walk(section: &'static Section, found: &mut Vec<&'static Section>) {
        if found.iter().any(|s| s.path == section.path) {
            return;
        }
        found.push(section);
        for key in section.keys {
            if let Some((inner, _)) = key.section() {
                walk(inner, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&ROOT, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_key_is_documented_and_stands_once_in_its_section() {
        for section in sections() {
            assert!(section.doc.ends_with('.'), "{}", section.path);
            let mut names = HashSet::new();
            for key in section.keys {
                assert!(names.insert(key.name), "{}.{}", section.path, key.name);
                assert!(key.doc.ends_with('.'), "{}.{}", section.path, key.name);
                assert!(
                    !key.required || key.default.is_empty(),
                    "{}.{} is required and has a default",
                    section.path,
                    key.name
                );
            }
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for section in sections() {
            for key in section.keys.iter().filter(|k| !k.default.is_empty()) {
                let found = crate::conf::shape::check_text(key.default, &key.kind);
                assert!(found.is_empty(), "{}.{}: {found:?}", section.path, key.name);
            }
        }
    }
}
