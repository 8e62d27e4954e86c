//! Whom to believe: the system's roots, CA files, revocation lists, and what is wrong with them.
//! The verifiers built from them are in `server` and `client`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use super::cert::{Fault, Severity};
use super::load::{self, Finding, Part};
use super::wire::Trust;

/// A CA file may hold a whole collection of roots.
pub const CA_LEN_MAX: usize = 10_000;

/// The roots that the system trusts: read once by the master, while it still may.
#[derive(Clone, Debug)]
pub struct SystemRoots {
    /// For verifying servers.
    pub store: Arc<RootCertStore>,
    /// Their subjects, as DER, for telling an incomplete chain.
    pub subjects: Vec<Vec<u8>>,
    /// How many certificates of the system could not be read or used.
    pub unusable: usize,
}

impl SystemRoots {
    /// No roots at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            store: Arc::new(RootCertStore::empty()),
            subjects: Vec::new(),
            unusable: 0,
        }
    }

    /// Reads those of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` are obeyed).
    #[must_use]
    pub fn load() -> Self {
        let native = rustls_native_certs::load_native_certs();
        let subjects = native.certs.iter().filter_map(|der| subject(der)).collect();
        let mut store = RootCertStore::empty();
        let (_, ignored) = store.add_parsable_certificates(native.certs);
        Self {
            store: Arc::new(store),
            subjects,
            unusable: ignored + native.errors.len(),
        }
    }
}

fn subject(der: &[u8]) -> Option<Vec<u8>> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(cert.subject().as_raw().to_vec())
}

/// The certificates of a CA file as a root store.
///
/// # Errors
/// Not PEM, none in it, or one that cannot be a root.
pub fn roots(ca: &[u8]) -> Result<RootCertStore, Fault> {
    let mut store = RootCertStore::empty();
    for (at, der) in super::cert::pem_certificates(ca, CA_LEN_MAX)?
        .into_iter()
        .enumerate()
    {
        store
            .add(der)
            .map_err(|_e| Fault::BadCertificate { position: at + 1 })?;
    }
    Ok(store)
}

/// The revocation lists of a file: PEM, or one in DER.
///
/// # Errors
/// Neither, or none in it.
pub fn crls(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(list) if list.is_empty() => Err(Fault::NoCrl),
        Ok(list) => Ok(list),
        Err(_) => Err(Fault::BadCrl),
    }
}

/// What is wrong with a CA file at `now` (Unix seconds).
#[must_use]
pub fn inspect_ca(ca: &[u8], now: i64) -> Vec<Fault> {
    let ders = match super::cert::pem_certificates(ca, CA_LEN_MAX) {
        Ok(ders) => ders,
        Err(fault) => return vec![fault],
    };
    let mut out = Vec::new();
    for (at, der) in ders.iter().enumerate() {
        let position = at + 1;
        let Ok((_, cert)) = x509_parser::parse_x509_certificate(der) else {
            out.push(Fault::BadCertificate { position });
            continue;
        };
        let ends = cert.validity().not_after.timestamp();
        if now > ends {
            let ago = now.saturating_sub(ends);
            out.push(Fault::CaExpired { position, ago });
        }
    }
    if out.is_empty() && roots(ca).is_err() {
        out.push(Fault::BadCertificate { position: 1 });
    }
    out
}

/// What is wrong with a file of revocation lists at `now`, for the CAs of `ca`.
#[must_use]
pub fn inspect_crl(bytes: &[u8], ca: &[u8], now: i64) -> Vec<Fault> {
    let list = match crls(bytes) {
        Ok(list) => list,
        Err(fault) => return vec![fault],
    };
    let ders = super::cert::pem_certificates(ca, CA_LEN_MAX).unwrap_or_default();
    let subjects: Vec<_> = ders.iter().filter_map(|der| subject(der)).collect();
    let mut out = Vec::new();
    for der in &list {
        let Ok((_, crl)) = x509_parser::parse_x509_crl(der) else {
            out.push(Fault::BadCrl);
            continue;
        };
        let ago = crl
            .next_update()
            .map_or(0, |next| now.saturating_sub(next.timestamp()));
        if ago > 0 {
            out.push(Fault::CrlExpired { ago });
        }
        let issuer = crl.issuer().as_raw();
        if !subjects.iter().any(|subject| subject.as_slice() == issuer) {
            let issuer = crl.issuer().to_string();
            out.push(Fault::CrlOfAnotherCa { issuer });
        }
    }
    out
}

/// What came of a CA file and its revocation lists.
#[derive(Debug)]
pub struct LoadedTrust {
    /// Present when nothing is broken.
    pub trust: Option<Trust>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// What to watch.
    pub files: Vec<PathBuf>,
}

/// Reads a CA file and its revocation lists and judges them at `now` (Unix seconds).
#[must_use]
pub fn load(ca: &Path, crl: &[PathBuf], now: i64) -> LoadedTrust {
    let mut findings = Vec::new();
    let mut report = |part: Part, path: &Path, faults: Vec<Fault>| {
        findings.extend(faults.into_iter().map(|fault| Finding {
            part,
            path: path.to_owned(),
            fault,
        }));
    };
    let mut trust = Trust::default();
    match load::read(ca) {
        Ok(bytes) => {
            report(Part::Ca, ca, inspect_ca(&bytes, now));
            trust.ca = bytes;
        }
        Err(fault) => report(Part::Ca, ca, vec![fault]),
    }
    for path in crl {
        match load::read(path) {
            Ok(bytes) => {
                report(Part::Crl, path, inspect_crl(&bytes, &trust.ca, now));
                trust.crls.push(bytes);
            }
            Err(fault) => report(Part::Crl, path, vec![fault]),
        }
    }
    let is_broken = findings
        .iter()
        .any(|finding| finding.fault.severity() == Severity::Error);
    LoadedTrust {
        trust: (!is_broken).then_some(trust),
        findings,
        files: std::iter::once(ca.to_owned())
            .chain(crl.iter().cloned())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::testing::{Ca, DAY, NOW};

    #[test]
    fn a_good_ca_and_its_list_have_no_faults() {
        let ca = Ca::new("clients");
        assert_eq!(inspect_ca(ca.pem().as_bytes(), NOW), []);
        assert_eq!(roots(ca.pem().as_bytes()).unwrap().len(), 1);
        let crl = ca.crl(&[]);
        assert_eq!(inspect_crl(crl.as_bytes(), ca.pem().as_bytes(), NOW), []);
        assert_eq!(crls(crl.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_list_may_be_der() {
        let ca = Ca::new("clients");
        let der = crls(ca.crl(&[]).as_bytes()).unwrap().remove(0);
        assert_eq!(inspect_crl(&der, ca.pem().as_bytes(), NOW), []);
    }

    #[test]
    fn expired_foreign_and_damaged_lists_are_told_apart() {
        let (ca, other) = (Ca::new("clients"), Ca::new("others"));
        let late = NOW + 1000 * DAY;
        let faults = inspect_crl(other.crl(&[]).as_bytes(), ca.pem().as_bytes(), late);
        assert!(matches!(
            faults.as_slice(),
            [Fault::CrlExpired { ago }, Fault::CrlOfAnotherCa { issuer }]
                if *ago > 0 && issuer.contains("others")
        ));
        assert!(faults.iter().all(|f| f.severity() == Severity::Warning));
        assert_eq!(inspect_crl(b"junk", b"", NOW), [Fault::NoCrl]);
        assert_eq!(inspect_crl(&[0x30, 1, 2], b"", NOW), [Fault::BadCrl]);
    }

    #[test]
    fn an_expired_ca_is_a_warning_and_no_ca_an_error() {
        let ca = Ca::new("clients");
        let faults = inspect_ca(ca.pem().as_bytes(), NOW + 100_000 * DAY);
        assert!(matches!(
            faults.as_slice(),
            [Fault::CaExpired { position: 1, .. }]
        ));
        assert_eq!(faults[0].severity(), Severity::Warning);
        assert_eq!(inspect_ca(b"", NOW), [Fault::NotPem { der: false }]);
        assert!(roots(b"").is_err());
    }

    #[test]
    fn broken_files_give_no_trust_and_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (ca_path, crl_path) = (dir.path().join("ca.pem"), dir.path().join("list.crl"));
        let ca = Ca::new("clients");
        std::fs::write(&ca_path, ca.pem()).unwrap();
        let got = load(&ca_path, std::slice::from_ref(&crl_path), NOW);
        assert!(got.trust.is_none());
        assert_eq!(got.findings[0].path, crl_path);
        assert_eq!(
            (got.findings[0].part, &got.findings[0].fault),
            (Part::Crl, &Fault::Missing)
        );
        std::fs::write(&crl_path, ca.crl(&[])).unwrap();
        let got = load(&ca_path, std::slice::from_ref(&crl_path), NOW);
        assert_eq!(got.trust.unwrap().crls.len(), 1);
        assert_eq!(got.files, [ca_path, crl_path]);
    }
}
