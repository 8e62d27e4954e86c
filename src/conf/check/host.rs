//! The configuration against this host: users, folders, limits.

use std::path::{Path, PathBuf};

use crate::base::addr::BindAddr;
use crate::conf::build::Draft;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::conf::kernel;
use crate::conf::model::Worker;
use crate::conf::view::View;
use crate::log::params::Output;
use crate::sys::privilege::{Identity, is_root};

/// Descriptors that a worker needs besides connections.
const DESCRIPTORS_BASE: u64 = 64;

/// Reports what this host cannot do.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    identity(draft, findings);
    folders(draft, findings);
    descriptors(draft, findings);
}

fn identity(draft: &Draft<'_>, findings: &mut Findings) {
    let view = draft.root.sub("master");
    let master = &draft.model.master;
    let written = view.node("user").or(view.node("group"));
    let Some(node) = written else {
        return;
    };
    if !is_root() {
        findings.push(
            Finding::new(
                Code::NeedsRoot,
                node.place,
                "`user` and `group` have no effect: proxyd was not started as root",
            )
            .help("start it as root, or remove them"),
        );
        return;
    }
    let Some(user) = &master.user else {
        findings.push(
            Finding::new(Code::MissingKey, node.place, "`group` needs `user`")
                .help("add user = \"...\""),
        );
        return;
    };
    if let Err(error) = Identity::look_up(user, None) {
        findings.push(
            Finding::new(Code::NoUser, node.place, error.to_string())
                .help(format!("create it: useradd --system {user}")),
        );
        return;
    }
    if let (Some(group), Some(node)) = (&master.group, view.node("group"))
        && let Err(error) = Identity::look_up(user, Some(group))
    {
        findings.push(
            Finding::new(Code::NoUser, node.place, error.to_string())
                .help(format!("create it: groupadd --system {group}")),
        );
    }
}

fn folders(draft: &Draft<'_>, findings: &mut Findings) {
    let mut files: Vec<(PathBuf, Place)> = Vec::new();
    let master = draft.root.sub("master");
    if let (Some(path), Some(node)) = (&draft.model.master.pid_file, master.node("pid_file")) {
        files.push((path.clone(), node.place));
    }
    let log = draft.root.sub("log");
    for (output, view) in [
        (&draft.model.log.output, log),
        (&draft.model.access_log.output, log.sub("access")),
    ] {
        if let (Output::File(path), Some(node)) = (output, view.node("output")) {
            files.push((path.clone(), node.place));
        }
    }
    let binds = draft.listeners.iter().map(|l| View::new(l.table));
    for view in binds.chain(std::iter::once(draft.root.sub("metrics"))) {
        for node in view.nodes("bind") {
            if let Some(BindAddr::Unix(path)) = node.text().and_then(|t| BindAddr::parse(t).ok()) {
                files.push((path, node.place));
            }
        }
    }
    for (path, place) in files {
        if let Some(reason) = cannot_create(&path) {
            findings.push(Finding::new(
                Code::NoDirectory,
                place,
                format!("cannot write {}: {reason}", path.display()),
            ));
        }
    }
}

/// Why a file could not be created or appended to.
fn cannot_create(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some("it is a folder".to_owned());
    }
    if path.exists() {
        return (!crate::sys::file::is_writable(path)).then(|| "permission denied".to_owned());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Some(format!("folder {} does not exist", folder.display()));
    }
    (!crate::sys::file::is_writable(folder))
        .then(|| format!("folder {} is not writable", folder.display()))
}

fn descriptors(draft: &Draft<'_>, findings: &mut Findings) {
    let worker = &draft.model.worker;
    let view = draft.root.sub("worker");
    let limit = match worker.open_files {
        0 => kernel::open_files_max(),
        n => Some(n),
    };
    let need = u64::from(worker.max_connections) * 2 + DESCRIPTORS_BASE;
    let Some(limit) = limit.filter(|l| worker.max_connections > 0 && *l < need) else {
        return;
    };
    // With the built-in value accepting stops at the limit, which is as good as any other number.
    let usual = Worker::default();
    let chosen = |key: &str, is: bool| view.node(key).filter(|_| is);
    let connections = chosen(
        "max_connections",
        worker.max_connections != usual.max_connections,
    );
    let files = chosen("open_files", worker.open_files != usual.open_files);
    let Some(node) = connections.or(files) else {
        return;
    };
    findings.push(
        Finding::new(
            Code::Descriptors,
            node.place,
            format!("a worker needs {need} file descriptors at full load, its limit is {limit}"),
        )
        .help(
            "raise the limit (LimitNOFILE= in systemd, ulimit -n), or lower worker.max_connections",
        ),
    );
}
