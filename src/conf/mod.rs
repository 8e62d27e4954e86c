//! The configuration file: parse, check, explain. The result is a [`Model`], the parameters of
//! every part with all defaults filled in, or a list of everything that is wrong, each finding
//! with its place. Nothing here opens a port, starts anything or (without `probe`) uses the network.

mod base64;
mod build;
mod check;
pub mod code;
mod effective;
mod env;
pub mod finding;
mod grammar;
mod include;
mod kernel;
pub mod key;
pub mod model;
pub mod reference;
mod reload;
pub mod render;
mod scalar;
mod schema;
mod shape;
pub mod source;
mod spell;
mod tree;
mod view;

pub use check::Options;
pub use code::Code;
pub use effective::{effective, quote};
pub use finding::{Finding, Place, Severity};
pub use model::Model;
pub use reload::reload_notes;
pub use schema::schema;
pub use source::Sources;

use std::path::{Path, PathBuf};

use finding::Findings;
use include::Loader;
use tree::Table;

/// What reading a configuration gave.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when a finding is an error.
    pub model: Option<Model>,
    /// Everything found, by file and position.
    pub findings: Vec<Finding>,
    /// The files.
    pub sources: Sources,
    /// `master.pid_file`, as far as it could be read even where something else is wrong: a running
    /// master is told about a broken file, too.
    pub pid_file: Option<PathBuf>,
}

/// Reads and checks a file with its includes, the environment and this host.
#[must_use]
pub fn load(path: &Path) -> Loaded {
    load_with(
        path,
        Options {
            host: true,
            ports: false,
            probe: false,
        },
    )
}

/// The same, with a choice of how far checking goes.
#[must_use]
pub fn load_with(path: &Path, options: Options) -> Loaded {
    let mut loader = Loader::new(&env::of_process);
    let tree = loader.main(path);
    finish(loader, &tree, options)
}

/// Checks a text as if it were a file of this name; nothing is asked of the host.
#[must_use]
pub fn load_str(name: &str, text: &str) -> Loaded {
    let mut loader = Loader::new(&env::of_process);
    let tree = loader.text(Path::new(name), text);
    finish(loader, &tree, Options::default())
}

/// The pid file that a configuration names, whatever else is wrong with it: a running master has to
/// be found with a file that was broken since.
///
/// # Errors
/// When the file cannot be read.
pub fn pid_file(path: &Path) -> Result<Option<PathBuf>, String> {
    let mut loader = Loader::new(&env::of_process);
    let tree = loader.main(path);
    if loader.sources.text_len() == 0 {
        let reason = loader.findings.into_sorted().into_iter().next();
        return Err(reason.map_or_else(|| format!("{} is empty", path.display()), |f| f.message));
    }
    let node = view::View::new(&tree).sub("master").node("pid_file");
    Ok(node.and_then(|n| {
        Some(build::resolve(
            &loader.sources,
            n.place,
            Path::new(n.text()?),
        ))
    }))
}

fn finish(loader: Loader<'_>, tree: &Table, options: Options) -> Loaded {
    let pid_file = (tree
        .table("master")
        .and_then(|master| master.get("pid_file")))
    .and_then(|node| node.text())
    .map(PathBuf::from);
    let Loader {
        sources,
        mut findings,
        broken,
        ..
    } = loader;
    if broken {
        let mut found = Findings::default();
        shape::check(tree, &sources, &mut found);
        findings.extend_elsewhere(found, &sources);
        return Loaded {
            model: None,
            findings: findings.into_sorted(),
            sources,
            pid_file,
        };
    }
    shape::check(tree, &sources, &mut findings);
    let draft = build::build(tree, &sources, &env::of_process, &mut findings);
    check::run(&draft, options, &mut findings);
    let model = (!findings.has_errors()).then(|| draft.into_model());
    Loaded {
        model,
        findings: findings.into_sorted(),
        sources,
        pid_file,
    }
}
