//! From files to certificates, in the master: reads what the configuration names, makes
//! self-signed ones, and reports what is wrong with each file. A pair that is broken now but was
//! good before keeps its old bytes. Workers get the result as bytes and never open a key file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::cert::{self, Certificate, Fault, Severity};
use super::params::{CertificateParams, CertificateSource};
use super::self_signed;
use super::wire::{Bundle, Pair};
use crate::base::secret::Secret;

/// No certificate, key or revocation list file is larger.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// No directory of certificates has more pairs.
pub const DIR_PAIRS_MAX: usize = 100_000;

/// Which file of a certificate (or of client authentication) a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `cert`, or the certificate half of a file in `dir`.
    Chain,
    /// `key`.
    Key,
    /// `dir` itself.
    Dir,
    /// `self_signed`.
    SelfSigned,
    /// `ca`.
    Ca,
    /// `crl`.
    Crl,
    /// `key_file`.
    Tickets,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which key of the configuration it belongs to.
    pub part: Part,
    /// The file; empty for `self_signed`.
    pub path: PathBuf,
    /// What.
    pub fault: Fault,
}

/// What [`load`] needs besides the parameters.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Unix seconds.
    pub now: i64,
    /// Subjects of the system's roots ([`super::trust::SystemRoots::subjects`]); may be empty.
    pub roots: &'a [Vec<u8>],
    /// Where self-signed certificates outlive the master; `None` keeps them in memory.
    pub state_dir: Option<&'a Path>,
}

/// What came of one `[[certificate]]`.
#[derive(Debug)]
pub struct Loaded {
    /// As bytes, for the workers.
    pub bundle: Bundle,
    /// The same, parsed, one per pair.
    pub certificates: Vec<(String, Certificate)>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// What to watch: every file read, and the directory.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Whether there is an error among the findings.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.fault.severity() == Severity::Error)
    }

    /// The hosts of all its certificates.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.certificates
            .iter()
            .flat_map(|(_, certificate)| certificate.hosts.iter().map(String::as_str))
    }
}

/// Reads a file that must not be larger than [`FILE_BYTES_MAX`].
///
/// # Errors
/// Missing, unreadable, too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::Missing,
        std::io::ErrorKind::PermissionDenied => Fault::Unreadable("permission denied".into()),
        std::io::ErrorKind::IsADirectory => Fault::Unreadable("it is a directory".into()),
        kind => Fault::Unreadable(kind.to_string()),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut out = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut out)
        .map_err(unreadable)?;
    if out.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    Ok(out)
}

/// Loads one certificate. With `previous`, a pair that cannot be used now is kept as it was, and
/// a self-signed certificate that still fits is not made again.
#[must_use]
pub fn load(params: &CertificateParams, previous: Option<&Bundle>, context: Context<'_>) -> Loaded {
    let mut job = Job {
        params,
        previous,
        context,
        out: Loaded {
            bundle: Bundle {
                name: params.name.clone(),
                hosts: params.hosts.clone(),
                pairs: Vec::new(),
            },
            certificates: Vec::new(),
            findings: Vec::new(),
            files: Vec::new(),
        },
    };
    match &params.source {
        CertificateSource::Files { cert, key } => job.files("", cert, key),
        CertificateSource::Dir(dir) => job.dir(dir),
        CertificateSource::SelfSigned { hosts, valid } => {
            let name = params.name.as_str();
            let wanted = self_signed::Wanted {
                name,
                hosts,
                valid: *valid,
            };
            let old = previous.and_then(|bundle| bundle.pairs.first());
            match self_signed::obtain(wanted, old, context.state_dir, context.now) {
                Ok(pair) => job.pair(pair, Path::new(""), Path::new("")),
                Err(fault) => job.report(Part::SelfSigned, Path::new(""), fault),
            }
        }
    }
    job.out
}

struct Job<'a> {
    params: &'a CertificateParams,
    previous: Option<&'a Bundle>,
    context: Context<'a>,
    out: Loaded,
}

impl Job<'_> {
    fn report(&mut self, part: Part, path: &Path, fault: Fault) {
        self.out.findings.push(Finding {
            part,
            path: path.to_owned(),
            fault,
        });
    }

    fn read(&mut self, part: Part, path: &Path) -> Option<Vec<u8>> {
        self.out.files.push(path.to_owned());
        match read(path) {
            Ok(bytes) => Some(bytes),
            Err(fault) => {
                self.report(part, path, fault);
                None
            }
        }
    }

    fn files(&mut self, label: &str, cert_path: &Path, key_path: &Path) {
        let chain = self.read(Part::Chain, cert_path);
        let key = if key_path == cert_path {
            chain.clone()
        } else {
            self.read(Part::Key, key_path)
        };
        if let (Some(chain), Some(key)) = (chain, key) {
            let pair = Pair {
                label: label.to_owned(),
                chain,
                key: Secret::new(key),
            };
            self.pair(pair, cert_path, key_path);
        } else {
            self.keep_old(label);
        }
    }

    fn dir(&mut self, dir: &Path) {
        self.out.files.push(dir.to_owned());
        let mut paths = Vec::new();
        match std::fs::read_dir(dir) {
            Ok(entries) => paths.extend(
                entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
                    .take(DIR_PAIRS_MAX),
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.report(Part::Dir, dir, Fault::Missing);
            }
            Err(error) => {
                let why = error.kind().to_string();
                self.report(Part::Dir, dir, Fault::Unreadable(why));
            }
        }
        if paths.is_empty() && self.out.findings.is_empty() {
            self.report(Part::Dir, dir, Fault::EmptyDir);
        }
        paths.sort();
        for path in paths {
            let beside = path.with_extension("key");
            let key = if beside.exists() { &beside } else { &path };
            let label = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            self.files(&label, &path, key);
        }
    }

    fn pair(&mut self, pair: Pair, cert_path: &Path, key_path: &Path) {
        let found = cert::inspect(
            &pair.chain,
            pair.key.expose_secret(),
            &self.params.hosts,
            self.context.roots,
            self.context.now,
        );
        let is_ours = matches!(self.params.source, CertificateSource::SelfSigned { .. });
        for fault in found.faults {
            // One that proxyd renews by itself may be short-lived.
            if !(is_ours && matches!(fault, Fault::ExpiresSoon { .. })) {
                self.report(Part::Chain, cert_path, fault);
            }
        }
        for fault in found.key_faults {
            self.report(Part::Key, key_path, fault);
        }
        match found.certificate {
            Some(certificate) => {
                self.out
                    .certificates
                    .push((pair.label.clone(), certificate));
                self.out.bundle.pairs.push(pair);
            }
            None => self.keep_old(&pair.label),
        }
    }

    /// A pair that was good before stays in service, even if it has run out meanwhile.
    fn keep_old(&mut self, label: &str) {
        let old = self
            .previous
            .and_then(|bundle| bundle.pairs.iter().find(|pair| pair.label == label));
        let Some(pair) = old.cloned() else { return };
        if let Ok(certificate) = pair.build(&self.params.hosts) {
            self.out
                .certificates
                .push((pair.label.clone(), certificate));
            self.out.bundle.pairs.push(pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::testing::{Ca, NOW};
    use std::time::Duration;

    fn context() -> Context<'static> {
        Context {
            now: NOW,
            roots: &[],
            state_dir: None,
        }
    }

    fn files(dir: &Path, cert: &str, key: &str) -> CertificateParams {
        CertificateParams {
            name: "site".into(),
            source: CertificateSource::Files {
                cert: dir.join(cert),
                key: dir.join(key),
            },
            hosts: Vec::new(),
        }
    }

    #[test]
    fn a_pair_of_files_becomes_a_certificate_with_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let leaf = Ca::new("r").leaf(&["A.example", "10.0.0.1"]);
        leaf.write(dir.path(), "a");
        let got = load(&files(dir.path(), "a.pem", "a.key"), None, context());
        assert!(!got.is_broken(), "{:?}", got.findings);
        assert_eq!(got.hosts().collect::<Vec<_>>(), ["a.example", "10.0.0.1"]);
        assert_eq!(got.files.len(), 2);
        assert_eq!(got.bundle.pairs.len(), 1);
    }

    #[test]
    fn configured_hosts_override_those_of_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        Ca::new("r").leaf(&["a.example"]).write(dir.path(), "a");
        let mut params = files(dir.path(), "a.pem", "a.key");
        params.hosts = vec!["Other.Example".into()];
        let got = load(&params, None, context());
        assert_eq!(got.hosts().collect::<Vec<_>>(), ["other.example"]);
    }

    #[test]
    fn each_fault_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("r");
        ca.leaf(&["a.example"]).write(dir.path(), "a");
        ca.leaf(&["b.example"]).write(dir.path(), "b");
        std::fs::write(dir.path().join("junk.pem"), "junk").unwrap();
        for (cert, key, part, fault) in [
            ("no.pem", "a.key", Part::Chain, Fault::Missing),
            ("a.pem", "no.key", Part::Key, Fault::Missing),
            (
                "junk.pem",
                "a.key",
                Part::Chain,
                Fault::NotPem { der: false },
            ),
            ("a.pem", "junk.pem", Part::Key, Fault::NotPem { der: false }),
            ("a.pem", "b.key", Part::Key, Fault::KeyMismatch),
            ("a.key", "a.key", Part::Chain, Fault::NoCertificate),
            ("a.pem", "a.pem", Part::Key, Fault::NoKey),
        ] {
            let got = load(&files(dir.path(), cert, key), None, context());
            let found: Vec<_> = got.findings.iter().map(|f| (f.part, &f.fault)).collect();
            assert_eq!(found, [(part, &fault)], "{cert} {key}");
            assert!(got.is_broken());
            assert!(got.bundle.pairs.is_empty());
            let part_path = if part == Part::Key { key } else { cert };
            assert_eq!(got.findings[0].path, dir.path().join(part_path));
        }
    }

    #[test]
    fn a_directory_gives_every_pem_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("r");
        ca.leaf(&["a.example"]).write(dir.path(), "a");
        let b = ca.leaf(&["b.example"]);
        let both = format!("{}{}", b.chain, b.key);
        std::fs::write(dir.path().join("b.pem"), both).unwrap();
        std::fs::write(dir.path().join("readme.txt"), "no").unwrap();
        let mut params = files(dir.path(), "", "");
        params.source = CertificateSource::Dir(dir.path().into());
        let got = load(&params, None, context());
        assert!(!got.is_broken(), "{:?}", got.findings);
        assert_eq!(got.hosts().collect::<Vec<_>>(), ["a.example", "b.example"]);
        let labels: Vec<_> = got.bundle.pairs.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(labels, ["a.pem", "b.pem"]);
        assert!(got.files.contains(&dir.path().to_path_buf()));
    }

    #[test]
    fn an_empty_or_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut params = files(dir.path(), "", "");
        params.source = CertificateSource::Dir(dir.path().into());
        assert_eq!(
            load(&params, None, context()).findings[0].fault,
            Fault::EmptyDir
        );
        params.source = CertificateSource::Dir(dir.path().join("none"));
        assert_eq!(
            load(&params, None, context()).findings[0].fault,
            Fault::Missing
        );
    }

    #[test]
    fn a_broken_pair_keeps_the_old_one_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("r");
        ca.leaf(&["a.example"]).write(dir.path(), "a");
        ca.leaf(&["b.example"]).write(dir.path(), "b");
        let mut params = files(dir.path(), "", "");
        params.source = CertificateSource::Dir(dir.path().into());
        let good = load(&params, None, context());
        std::fs::write(dir.path().join("a.pem"), "half written").unwrap();
        ca.leaf(&["c.example"]).write(dir.path(), "b");
        let got = load(&params, Some(&good.bundle), context());
        assert_eq!(got.hosts().collect::<Vec<_>>(), ["a.example", "c.example"]);
        assert!(got.is_broken());
        assert_eq!(got.bundle.pairs[0], good.bundle.pairs[0]);
    }

    #[test]
    fn a_removed_pair_of_a_directory_goes() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("r");
        ca.leaf(&["a.example"]).write(dir.path(), "a");
        ca.leaf(&["b.example"]).write(dir.path(), "b");
        let mut params = files(dir.path(), "", "");
        params.source = CertificateSource::Dir(dir.path().into());
        let good = load(&params, None, context());
        std::fs::remove_file(dir.path().join("a.pem")).unwrap();
        let got = load(&params, Some(&good.bundle), context());
        assert_eq!(got.hosts().collect::<Vec<_>>(), ["b.example"]);
    }

    #[test]
    fn a_self_signed_certificate_is_made_once() {
        let mut params = files(Path::new(""), "", "");
        params.source = CertificateSource::SelfSigned {
            hosts: vec!["lab.internal".into(), "127.0.0.1".into()],
            valid: Duration::from_secs(30 * 86_400),
        };
        let first = load(&params, None, context());
        assert!(!first.is_broken(), "{:?}", first.findings);
        assert_eq!(
            first.hosts().collect::<Vec<_>>(),
            ["lab.internal", "127.0.0.1"]
        );
        let again = load(&params, Some(&first.bundle), context());
        assert_eq!(again.bundle, first.bundle);
    }

    #[test]
    fn a_short_lived_self_signed_certificate_is_not_complained_about() {
        let mut params = files(Path::new(""), "", "");
        params.source = CertificateSource::SelfSigned {
            hosts: vec!["lab.internal".into()],
            valid: Duration::from_secs(86_400),
        };
        assert_eq!(load(&params, None, context()).findings, []);
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.pem");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(read(&path), Err(Fault::TooLarge));
        assert!(matches!(read(dir.path()), Err(Fault::Unreadable(_))));
    }
}
