//! `[[certificate]]`, and references to certificates.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Builder, Part, free_name, suggestion};
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Place};
use crate::conf::tree::{Node, Table};
use crate::conf::view::{View, put};
use crate::net::tls::params::{CertificateParams, CertificateSource};

/// Hosts of a self-signed certificate.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long a self-signed certificate is valid.
const VALID: Duration = Duration::from_secs(30 * 86_400);

impl<'t> Builder<'t> {
    /// Every `[[certificate]]`.
    pub(super) fn certificates(&self, root: View<'t>) -> Vec<Part<'t, CertificateParams>> {
        let mut names = BTreeMap::new();
        let mut parts: Vec<Part<'t, CertificateParams>> = Vec::new();
        for table in root.rows("certificate") {
            let view = View::new(table);
            let Some(source) = self.source(table, view) else {
                continue;
            };
            let name = match view.text("name") {
                Some(name) => name.to_owned(),
                None => free_name(&derived_name(&source), |n| {
                    parts.iter().any(|p| p.value.name == n)
                }),
            };
            let place = view.node("name").map_or(table.place, |n| n.place);
            self.claim(&mut names, "certificate", &name, place);
            let hosts = view.texts("hosts").unwrap_or_default();
            parts.push(Part {
                table,
                place,
                derived: false,
                value: CertificateParams {
                    name,
                    source,
                    hosts,
                },
            });
        }
        parts
    }

    fn source(&self, table: &Table, view: View<'t>) -> Option<CertificateSource> {
        let ways = ["cert", "dir", "self_signed"];
        let written: Vec<_> = ways.iter().filter_map(|k| table.entry(k)).collect();
        match written.as_slice() {
            [] => {
                self.report(
                    Finding::new(
                        Code::MissingKey,
                        table.place,
                        "[[certificate]] needs one of `cert`, `dir`, `self_signed`",
                    )
                    .help("write cert = \"...\" and key = \"...\""),
                );
                return None;
            }
            [_one] => {}
            [first, second, ..] => {
                self.report(
                    Finding::new(
                        Code::Exclusive,
                        second.key_place,
                        format!("`{}` and `{}` exclude each other", first.key, second.key),
                    )
                    .also(first.key_place, "already written here"),
                );
                return None;
            }
        }
        if let Some(node) = view.node("dir") {
            return Some(CertificateSource::Dir(self.path(node)));
        }
        if let Some(node) = view.node("self_signed") {
            return Some(self_signed(node));
        }
        self.files(view)
    }

    /// `cert` and `key`; the key may stand in the same file.
    pub(super) fn files(&self, view: View<'t>) -> Option<CertificateSource> {
        let cert = self.path(view.node("cert")?);
        let key = match view.node("key") {
            Some(node) => self.key_path(node)?,
            None => cert.clone(),
        };
        Some(CertificateSource::Files { cert, key })
    }

    /// Reports a name that no certificate has.
    pub(super) fn know_certificate(
        &self,
        certificates: &[Part<'t, CertificateParams>],
        name: &str,
        place: Place,
    ) {
        if certificates.iter().any(|c| c.value.name == name) {
            return;
        }
        let mut finding = Finding::new(
            Code::UnknownCertificate,
            place,
            format!("certificate `{name}` is not defined"),
        )
        .help("define it with [[certificate]] name = \"...\"");
        finding.label = suggestion(name, certificates.iter().map(|c| &c.value.name));
        self.report(finding);
    }
}

/// What a self-signed certificate is for when nothing is said.
pub(super) fn local() -> CertificateSource {
    CertificateSource::SelfSigned {
        hosts: ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec(),
        valid: VALID,
    }
}

fn self_signed(node: &Node) -> CertificateSource {
    let Some(table) = node.table() else {
        return local();
    };
    let view = View::new(table);
    let mut valid = VALID;
    put(&mut valid, view.duration("valid"));
    CertificateSource::SelfSigned {
        hosts: view
            .texts("hosts")
            .unwrap_or_else(|| LOCAL.map(str::to_owned).to_vec()),
        valid,
    }
}

fn derived_name(source: &CertificateSource) -> String {
    let stem = |path: &Path| {
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        stem.map(|s| s.chars().filter(fits).collect::<String>())
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| "certificate".to_owned())
    };
    match source {
        CertificateSource::Files { cert, .. } => stem(cert),
        CertificateSource::Dir(dir) => stem(dir),
        CertificateSource::SelfSigned { .. } => "self-signed".to_owned(),
    }
}
