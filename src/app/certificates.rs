//! The key material of a generation: read by the master (which may), used by the workers (which
//! may not read files any more), and read again when files change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::conf::model::Model;
use crate::net::tls::load::{self, Context};
use crate::net::tls::params::{CertificateSource, ClientAuthMode};
use crate::net::tls::store::Catalog;
use crate::net::tls::trust::{self, SystemRoots};
use crate::net::tls::watch::{Fingerprints, Watcher};
use crate::net::tls::wire::{Bundle, Trust, Update, encode};

/// Certificates, CAs and roots of a generation.
#[derive(Clone)]
pub struct Certificates {
    /// By the name of their `[[certificate]]`.
    pub bundles: BTreeMap<String, Bundle>,
    /// What `bundles` hold, parsed.
    pub catalog: Catalog,
    /// Client authentication, by listener.
    pub client_trust: BTreeMap<String, Trust>,
    /// The CA of upstreams, by upstream.
    pub upstream_trust: BTreeMap<String, Trust>,
    /// The roots of the system.
    pub roots: SystemRoots,
    /// The words with the keys of session tickets.
    pub ticket_words: Option<&'static [AtomicU64]>,
    watcher: Watcher,
}

/// What looking at the files again has found.
#[derive(Debug, Default)]
pub struct Changes {
    /// For every worker.
    pub updates: Vec<Vec<u8>>,
    /// For the log: what was taken into use.
    pub loaded: Vec<String>,
    /// For the log: what could not be used.
    pub broken: Vec<(String, String)>,
}

impl Certificates {
    /// Reads everything that the model names. Self-signed certificates of `previous` are kept.
    ///
    /// # Errors
    /// What cannot be used, as it is to be shown.
    pub fn load(
        model: &Model,
        previous: Option<&Self>,
        ticket_words: Option<&'static [AtomicU64]>,
        now: i64,
    ) -> Result<Self, String> {
        let mut out = Self {
            bundles: BTreeMap::new(),
            catalog: Catalog::new(),
            client_trust: BTreeMap::new(),
            upstream_trust: BTreeMap::new(),
            roots: roots(model, previous),
            ticket_words,
            watcher: Watcher::default(),
        };
        let context = Context {
            now,
            roots: &out.roots.subjects,
            state_dir: None,
        };
        for params in &model.certificates {
            let old = previous.and_then(|previous| previous.bundles.get(&params.name));
            let loaded = load::load(params, old, context);
            if let (true, Some(finding)) = (loaded.is_broken(), loaded.findings.first()) {
                return Err(format!(
                    "certificate {}: {}",
                    params.name,
                    describe(finding)
                ));
            }
            out.catalog.insert_parsed(&params.name, loaded.certificates);
            out.bundles.insert(params.name.clone(), loaded.bundle);
        }
        for (listener, ca, crl) in client_auth(model) {
            let trust =
                read_trust(ca, crl, now).map_err(|e| format!("listener {listener}: {e}"))?;
            out.client_trust.insert(listener.to_owned(), trust);
        }
        for (upstream, ca) in upstream_ca(model) {
            let trust =
                read_trust(ca, &[], now).map_err(|e| format!("upstream {upstream}: {e}"))?;
            out.upstream_trust.insert(upstream.to_owned(), trust);
        }
        out.watcher = Watcher::new(Fingerprints::take(out.files(model)));
        Ok(out)
    }

    /// The first expiry of each certificate, in seconds since 1970.
    pub fn expiries(&self) -> impl Iterator<Item = (String, i64)> {
        self.bundles.keys().filter_map(|name| {
            let first = self
                .catalog
                .get(name)
                .map(|certificate| certificate.info.not_after)
                .min()?;
            Some((name.clone(), first))
        })
    }

    /// Every file to keep an eye on.
    fn files(&self, model: &Model) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for params in &model.certificates {
            match &params.source {
                CertificateSource::Files { cert, key } => files.extend([cert.clone(), key.clone()]),
                CertificateSource::Dir(dir) => {
                    files.push(dir.clone());
                    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
                    files.extend(entries.map(|entry| entry.path()));
                }
                CertificateSource::SelfSigned { .. } => {}
            }
        }
        for (_, ca, crl) in client_auth(model) {
            files.push(ca.clone());
            files.extend(crl.iter().cloned());
        }
        files.extend(upstream_ca(model).map(|(_, ca)| ca.clone()));
        files
    }

    /// Looks at the files again; what changed is read, checked and made into news for workers. A
    /// pair that is broken leaves the old one in use.
    pub fn refresh(&mut self, model: &Model, now: i64) -> Changes {
        let mut changes = Changes::default();
        self.renew(model, now, &mut changes);
        let changed = self.watcher.observe(Fingerprints::take(self.files(model)));
        if changed.is_empty() {
            return changes;
        }
        let touches = |paths: &[&PathBuf]| {
            changed
                .iter()
                .any(|file| paths.iter().any(|path| file.starts_with(path)))
        };
        let subjects = self.roots.subjects.clone();
        let context = Context {
            now,
            roots: &subjects,
            state_dir: None,
        };
        for params in &model.certificates {
            let concerned = match &params.source {
                CertificateSource::Files { cert, key } => touches(&[cert, key]),
                CertificateSource::Dir(dir) => touches(&[dir]),
                CertificateSource::SelfSigned { .. } => false,
            };
            if concerned {
                self.reload_one(params, context, &mut changes);
            }
        }
        for (listener, ca, crl) in client_auth(model) {
            let mut paths: Vec<&PathBuf> = crl.iter().collect();
            paths.push(ca);
            if touches(&paths) {
                let update = |trust: Trust| Update::ClientTrust(listener.to_owned(), trust);
                match read_trust(ca, crl, now) {
                    Ok(trust) => {
                        changes.take(format!("client CA of listener {listener}"), &update(trust));
                    }
                    Err(error) => changes.refuse(listener, error),
                }
            }
        }
        for (upstream, ca) in upstream_ca(model) {
            if touches(&[ca]) {
                let update = |trust: Trust| Update::UpstreamTrust(upstream.to_owned(), trust);
                match read_trust(ca, &[], now) {
                    Ok(trust) => changes.take(format!("CA of upstream {upstream}"), &update(trust)),
                    Err(error) => changes.refuse(upstream, error),
                }
            }
        }
        changes
    }

    /// Self-signed certificates have no file that changes: they are made again in good time.
    fn renew(&mut self, model: &Model, now: i64, changes: &mut Changes) {
        let context = Context {
            now,
            roots: &[],
            state_dir: None,
        };
        for params in &model.certificates {
            if matches!(params.source, CertificateSource::SelfSigned { .. }) {
                self.reload_one(params, context, changes);
            }
        }
    }

    fn reload_one(
        &mut self,
        params: &crate::net::tls::params::CertificateParams,
        context: Context<'_>,
        changes: &mut Changes,
    ) {
        let Some(old) = self.bundles.get(&params.name) else {
            return;
        };
        let loaded = load::load(params, Some(old), context);
        // A broken pair stayed what it was; the others of a directory are taken all the same.
        if let (true, Some(finding)) = (loaded.is_broken(), loaded.findings.first()) {
            changes.refuse(&params.name, describe(finding));
        }
        if let Some(delta) = loaded.bundle.delta(old) {
            changes.take(
                format!("certificate {}", params.name),
                &Update::Certificate(delta),
            );
            self.catalog
                .insert_parsed(&params.name, loaded.certificates);
            self.bundles.insert(params.name.clone(), loaded.bundle);
        }
    }
}

impl Changes {
    fn take(&mut self, what: String, update: &Update) {
        self.updates.push(encode(update));
        self.loaded.push(what);
    }

    fn refuse(&mut self, name: &str, error: String) {
        self.broken.push((name.to_owned(), error));
    }
}

fn describe(finding: &load::Finding) -> String {
    format!("{}: {}", finding.path.display(), finding.fault)
}

/// The system's roots are needed only where an upstream is verified against them.
fn roots(model: &Model, previous: Option<&Certificates>) -> SystemRoots {
    let needed = (model.upstreams.iter())
        .filter_map(|upstream| upstream.tls.as_ref())
        .any(|tls| tls.ca.is_none());
    match previous {
        _ if !needed => SystemRoots::none(),
        Some(previous) if !previous.roots.subjects.is_empty() => previous.roots.clone(),
        _ => SystemRoots::load(),
    }
}

fn client_auth(model: &Model) -> impl Iterator<Item = (&str, &PathBuf, &[PathBuf])> {
    model.listeners.iter().filter_map(|listener| {
        let auth = listener.tls.as_ref()?.client_auth.as_ref()?;
        let on = auth.mode != ClientAuthMode::Off;
        on.then_some((listener.http.name.as_str(), &auth.ca, auth.crl.as_slice()))
    })
}

fn upstream_ca(model: &Model) -> impl Iterator<Item = (&str, &PathBuf)> {
    (model.upstreams.iter())
        .filter_map(|upstream| Some((upstream.name.as_str(), upstream.tls.as_ref()?.ca.as_ref()?)))
}

fn read_trust(ca: &Path, crl: &[PathBuf], now: i64) -> Result<Trust, String> {
    let loaded = trust::load(ca, crl, now);
    match (loaded.trust, loaded.findings.first()) {
        (Some(trust), _) => Ok(trust),
        (None, Some(finding)) => Err(describe(finding)),
        (None, None) => Err(format!("{}: cannot be used", ca.display())),
    }
}
