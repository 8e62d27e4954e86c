//! From the tree to the model: values with their defaults, references resolved, names derived,
//! nested settings merged. Everything keeps the table it came from, so that the checks can point
//! at it.

mod certificate;
mod listener;
mod process;
mod route;
mod settings;
mod upstream;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::code::Code;
use super::env::Lookup;
use super::finding::{Finding, Findings, Place};
use super::grammar;
use super::include;
use super::model::{Listener, Model};
use super::source::Sources;
use super::spell;
use super::tree::{Node, Table};
use super::view::View;
use crate::http::params::RouteParams;
use crate::net::tls::params::CertificateParams;
use crate::upstream::params::UpstreamParams;

/// A value and where it was written.
#[derive(Debug)]
pub struct Part<'t, T> {
    /// Its table; for something derived, the table it was derived from.
    pub table: &'t Table,
    /// What a finding about the whole points at.
    pub place: Place,
    /// Whether it was derived from another section.
    pub derived: bool,
    /// The value.
    pub value: T,
}

impl<T> Part<'_, T> {
    /// The place of a key's value, or of the whole.
    #[must_use]
    pub fn at(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.place, |n| n.place)
    }

    /// The place of a key's value below a sub-table, or of the whole.
    #[must_use]
    pub fn at_in(&self, table: &str, key: &str) -> Place {
        self.table
            .table(table)
            .and_then(|t| t.get(key))
            .map_or_else(|| self.at(table), |n| n.place)
    }
}

/// The model with the places of its parts.
#[derive(Debug)]
pub struct Draft<'t> {
    /// The whole file.
    pub root: View<'t>,
    /// Everything but the lists below.
    pub model: Model,
    /// `[[certificate]]`.
    pub certificates: Vec<Part<'t, CertificateParams>>,
    /// `[[listener]]`.
    pub listeners: Vec<Part<'t, Listener>>,
    /// `[[route]]`.
    pub routes: Vec<Part<'t, RouteParams>>,
    /// `[[upstream]]`.
    pub upstreams: Vec<Part<'t, UpstreamParams>>,
    /// `[sets]` that something uses.
    pub used_sets: BTreeSet<String>,
}

impl Draft<'_> {
    /// The model alone.
    #[must_use]
    pub fn into_model(self) -> Model {
        let values = |parts: Vec<Part<'_, CertificateParams>>| -> Vec<CertificateParams> {
            parts.into_iter().map(|p| p.value).collect()
        };
        Model {
            certificates: values(self.certificates),
            listeners: self.listeners.into_iter().map(|p| p.value).collect(),
            routes: self.routes.into_iter().map(|p| p.value).collect(),
            upstreams: self.upstreams.into_iter().map(|p| p.value).collect(),
            ..self.model
        }
    }
}

/// Builds the draft of a tree that passed the shape check; what is wrong beyond shape is reported.
pub fn build<'t>(
    tree: &'t Table,
    sources: &'t Sources,
    lookup: Lookup<'t>,
    findings: &mut Findings,
) -> Draft<'t> {
    let builder = Builder {
        sources,
        lookup,
        findings: RefCell::new(std::mem::take(findings)),
        sets: BTreeMap::new(),
        used_sets: RefCell::new(BTreeSet::new()),
    };
    let (draft, found) = builder.run(tree);
    *findings = found;
    draft
}

/// What the builders of the sections share.
struct Builder<'t> {
    sources: &'t Sources,
    lookup: Lookup<'t>,
    findings: RefCell<Findings>,
    sets: BTreeMap<String, Vec<IpNet>>,
    used_sets: RefCell<BTreeSet<String>>,
}

impl<'t> Builder<'t> {
    fn run(mut self, tree: &'t Table) -> (Draft<'t>, Findings) {
        let root = View::new(tree);
        self.sets = self.read_sets(root.sub("sets"));
        let mut model = Model {
            files: self
                .sources
                .iter()
                .map(|s| PathBuf::from(&s.name))
                .collect(),
            ..Model::default()
        };
        self.processes(root, &mut model);
        let mut certificates = self.certificates(root);
        let listeners = self.listeners(root, &mut certificates);
        let mut upstreams = self.upstreams(root, &certificates);
        let routes = self.routes(root, &listeners, &mut upstreams);
        let draft = Draft {
            root,
            model,
            certificates,
            listeners,
            routes,
            upstreams,
            used_sets: self.used_sets.into_inner(),
        };
        (draft, self.findings.into_inner())
    }

    fn report(&self, finding: Finding) {
        self.findings.borrow_mut().push(finding);
    }

    /// A path as the file that names it means it.
    fn path(&self, node: &Node) -> PathBuf {
        let text = node.text().unwrap_or("");
        self.resolve(node.place, Path::new(text))
    }

    fn resolve(&self, place: Place, path: &Path) -> PathBuf {
        resolve(self.sources, place, path)
    }

    /// A key file: a path, or a reference to a secret kept elsewhere.
    fn key_path(&self, node: &Node) -> Option<PathBuf> {
        let Some(table) = node.table() else {
            return Some(self.path(node));
        };
        let view = View::new(table);
        if let Some(file) = view.node("file") {
            return Some(self.path(file));
        }
        let (variable, rest) = match (view.text("credential"), view.text("env")) {
            (Some(name), _) => ("CREDENTIALS_DIRECTORY", Some(name)),
            (None, Some(variable)) => (variable, None),
            (None, None) => {
                self.report(
                    Finding::new(Code::MissingKey, node.place, "the reference is empty").help(
                        "write { file = \"...\" }, { credential = \"...\" } or { env = \"...\" }",
                    ),
                );
                return None;
            }
        };
        match (self.lookup)(variable) {
            Some(value) => Some(rest.map_or_else(
                || PathBuf::from(&value),
                |name| Path::new(&value).join(name),
            )),
            None => {
                self.report(Finding::new(
                    Code::SecretMissing,
                    node.place,
                    format!("environment variable `{variable}` is not set"),
                ));
                None
            }
        }
    }

    fn read_sets(&self, view: View<'t>) -> BTreeMap<String, Vec<IpNet>> {
        let parse = |list: &[&str]| {
            list.iter()
                .filter_map(|t| grammar::parse_network(t))
                .collect()
        };
        let mut sets: BTreeMap<String, Vec<IpNet>> = BTreeMap::from([
            ("any".to_owned(), parse(&["0.0.0.0/0", "::/0"])),
            ("loopback".to_owned(), parse(&["127.0.0.0/8", "::1"])),
            (
                "link-local".to_owned(),
                parse(&["169.254.0.0/16", "fe80::/10"]),
            ),
            (
                "private".to_owned(),
                parse(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]),
            ),
        ]);
        for entry in view
            .table()
            .map(|t| t.entries.as_slice())
            .unwrap_or_default()
        {
            let list = match entry.node.table() {
                Some(table) => View::new(table)
                    .node("file")
                    .map(|f| self.set_file(f))
                    .unwrap_or_default(),
                None => entry
                    .node
                    .elements()
                    .iter()
                    .filter_map(|n| grammar::parse_network(n.text()?))
                    .collect(),
            };
            if sets.insert(entry.key.clone(), list).is_some() {
                self.report(
                    Finding::new(
                        Code::Duplicate,
                        entry.key_place,
                        format!("set `{}` is built in", entry.key),
                    )
                    .help("choose another name"),
                );
            }
        }
        sets
    }

    fn set_file(&self, node: &Node) -> Vec<IpNet> {
        let path = self.path(node);
        let text = match include::read(&path) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read {}: {reason}", path.display());
                self.report(Finding::new(Code::Include, node.place, message));
                return Vec::new();
            }
        };
        let mut list = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            match grammar::parse_network(line) {
                Some(network) => list.push(network),
                None => {
                    self.report(
                        Finding::new(
                            Code::Malformed,
                            node.place,
                            format!("line {} of {} is not a network", number + 1, path.display()),
                        )
                        .help("one network or address per line; # begins a comment"),
                    );
                    break;
                }
            }
        }
        list
    }

    /// Networks and sets of a key.
    fn networks(&self, view: View<'t>, key: &str) -> Vec<IpNet> {
        let mut list = Vec::new();
        for node in view.nodes(key) {
            if let Some(table) = node.table() {
                list.extend(
                    View::new(table)
                        .node("file")
                        .map(|f| self.set_file(f))
                        .unwrap_or_default(),
                );
                continue;
            }
            let Some(text) = node.text() else { continue };
            if let Some(network) = grammar::parse_network(text) {
                list.push(network);
            } else if let Some(set) = self.sets.get(text) {
                self.used_sets.borrow_mut().insert(text.to_owned());
                list.extend(set.iter().copied());
            } else {
                let mut finding = Finding::new(
                    Code::UnknownSet,
                    node.place,
                    format!("set `{text}` is not defined"),
                )
                .help("define it in [sets], or write a network such as \"10.0.0.0/8\"");
                finding.label = suggestion(text, self.sets.keys());
                self.report(finding);
            }
        }
        list
    }

    /// Notes a name, and reports it when it is taken.
    fn claim(&self, names: &mut BTreeMap<String, Place>, what: &str, name: &str, place: Place) {
        if let Some(first) = names.get(name) {
            self.report(
                Finding::new(
                    Code::Duplicate,
                    place,
                    format!("{what} `{name}` is defined twice"),
                )
                .also(*first, "first defined here")
                .help("names are what logs, metrics and references use: choose another one"),
            );
        } else {
            names.insert(name.to_owned(), place);
        }
    }
}

/// A path as the file that names it means it.
pub fn resolve(sources: &Sources, place: Place, path: &Path) -> PathBuf {
    let folder = Path::new(sources.name(place)).parent();
    let joined = folder.unwrap_or(Path::new("")).join(path);
    // The master may change its folder later.
    std::path::absolute(&joined).unwrap_or(joined)
}

/// A name nobody has: the wished one, or with a number behind it.
fn free_name(wish: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wish) {
        return wish.to_owned();
    }
    (2_u32..)
        .map(|n| format!("{wish}-{n}"))
        .find(|name| !taken(name))
        .unwrap_or_default()
}

/// "did you mean" for a reference.
fn suggestion<'a>(typed: &str, known: impl IntoIterator<Item = &'a String>) -> Option<String> {
    spell::nearest(typed, known.into_iter().map(String::as_str))
        .map(|w| format!("did you mean `{w}`?"))
}
