//! Certificates as bytes: what a PEM chain and its key hold, and everything that is wrong with
//! them. Pure functions over bytes and the time; reading files is the business of `load`, and
//! choosing a certificate for a client that of `store`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use super::crypto;
pub use super::fault::{Fault, RSA_BITS_MIN, Severity};
use crate::io::facts::PeerCertificate;

/// Warned about when a certificate has less than this left.
pub const EXPIRY_WARNING_SECS: i64 = 14 * 24 * 3600;
/// More certificates in one file are refused.
pub const CHAIN_LEN_MAX: usize = 16;

const SHA1_SIGNATURES: [&str; 3] = [
    "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1",
    "1.2.840.10040.4.3",
];

/// What a leaf certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Hosts, lower case; addresses in their usual text form.
    pub names: Vec<String>,
    /// The subject, as text.
    pub subject: String,
    /// The issuer, as text.
    pub issuer: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// SHA-256 of the DER form.
    pub fingerprint: [u8; 32],
}

/// A usable certificate: chain, key, and the hosts it is for.
#[derive(Clone)]
pub struct Certificate {
    /// Lower case; from the configuration, or from the certificate itself.
    pub hosts: Vec<String>,
    /// About the leaf.
    pub info: Info,
    /// For rustls.
    pub key: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("hosts", &self.hosts)
            .field("subject", &self.info.subject)
            .finish_non_exhaustive()
    }
}

/// What came of a pair: a certificate when no fault is an error, and all faults.
#[derive(Debug, Default)]
pub struct Inspection {
    /// Present when the pair can be used.
    pub certificate: Option<Certificate>,
    /// Everything found, in the order of the file; faults of the key in `key_faults`.
    pub faults: Vec<Fault>,
    /// What is wrong with the key alone.
    pub key_faults: Vec<Fault>,
}

impl Inspection {
    fn is_broken(&self) -> bool {
        self.faults
            .iter()
            .chain(&self.key_faults)
            .any(|fault| fault.severity() == Severity::Error)
    }
}

/// Why `bytes` gave no object: not PEM at all, or PEM of another kind.
fn nothing_found(bytes: &[u8], other: Fault) -> Fault {
    let der = bytes.first() == Some(&0x30);
    if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        other
    } else {
        Fault::NotPem { der }
    }
}

/// The chain of a PEM file, as DER.
///
/// # Errors
/// Not PEM, none in it, too many, or one that cannot be decoded.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    pem_certificates(bytes, CHAIN_LEN_MAX)
}

/// At most `most` certificates of a PEM file, as DER.
///
/// # Errors
/// As [`certificates`].
pub fn pem_certificates(bytes: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut out = Vec::new();
    for item in CertificateDer::pem_slice_iter(bytes) {
        let position = out.len() + 1;
        if position > most {
            return Err(Fault::TooMany { most });
        }
        out.push(item.map_err(|_e| Fault::BadCertificate { position })?);
    }
    if out.is_empty() {
        return Err(nothing_found(bytes, Fault::NoCertificate));
    }
    Ok(out)
}

/// The first private key of a PEM file.
///
/// # Errors
/// Not PEM, none in it, or one with a passphrase.
pub fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let needle = b"ENCRYPTED";
        let is_encrypted = bytes.windows(needle.len()).any(|window| window == needle);
        match error {
            _ if is_encrypted => Fault::KeyEncrypted,
            pem::Error::NoItemsFound => nothing_found(bytes, Fault::NoKey),
            _ => Fault::BadKey,
        }
    })
}

/// Looks at a chain and its key and says everything that is wrong, at `now` (Unix seconds).
/// `hosts` override the names of the certificate; `roots` are the subjects of the system's
/// roots, used to tell an incomplete chain, and may be empty.
#[must_use]
pub fn inspect(
    chain: &[u8],
    key: &[u8],
    hosts: &[String],
    roots: &[Vec<u8>],
    now: i64,
) -> Inspection {
    let mut out = Inspection::default();
    let ders = match certificates(chain) {
        Ok(ders) => ders,
        Err(fault) => {
            out.faults.push(fault);
            Vec::new()
        }
    };
    let parsed = parse_all(&ders, &mut out.faults);
    let key = match private_key(key) {
        Ok(key) => Some(key),
        Err(fault) => {
            out.key_faults.push(fault);
            None
        }
    };
    let signing = key.and_then(|key| {
        let loaded = crypto::provider().key_provider.load_private_key(key);
        if loaded.is_err() {
            out.key_faults.push(Fault::BadKey);
        }
        loaded.ok()
    });
    if ders.is_empty() || parsed.len() != ders.len() {
        return out;
    }
    if let Some(signing) = &signing {
        check_key(&ders, signing, &mut out);
    }
    check_order(&parsed, roots, &mut out.faults);
    for (at, certificate) in parsed.iter().enumerate() {
        check_one(certificate, at + 1, now, &mut out.faults);
    }
    let Some(leaf) = parsed.first() else {
        return out;
    };
    let certificate = signing.map(|signing| assemble(leaf, ders.clone(), signing, hosts));
    if certificate.as_ref().is_some_and(|c| c.hosts.is_empty()) {
        out.faults.push(Fault::NoNames);
    }
    if !out.is_broken() {
        out.certificate = certificate;
    }
    out
}

/// The certificate of a pair that was inspected before: dates and order are not judged again.
///
/// # Errors
/// When the bytes are no pair.
pub fn build(chain: &[u8], key: &[u8], hosts: &[String]) -> Result<Certificate, Fault> {
    let ders = certificates(chain)?;
    let signing = crypto::provider()
        .key_provider
        .load_private_key(private_key(key)?)
        .map_err(|_e| Fault::BadKey)?;
    let damaged = Fault::BadCertificate { position: 1 };
    let Some(der) = ders.first().cloned() else {
        return Err(damaged);
    };
    if !key_matches(&der, &signing) {
        return Err(Fault::KeyMismatch);
    }
    match x509_parser::parse_x509_certificate(&der) {
        Ok((_, leaf)) => Ok(assemble(&leaf, ders, signing, hosts)),
        Err(_) => Err(damaged),
    }
}

fn assemble(
    leaf: &X509Certificate<'_>,
    chain: Vec<CertificateDer<'static>>,
    signing: Arc<dyn SigningKey>,
    hosts: &[String],
) -> Certificate {
    let info = info(leaf);
    let hosts = if hosts.is_empty() {
        info.names.clone()
    } else {
        hosts.iter().map(|host| host.to_ascii_lowercase()).collect()
    };
    Certificate {
        hosts,
        info,
        key: Arc::new(CertifiedKey::new(chain, signing)),
    }
}

fn parse_all<'a>(
    ders: &'a [CertificateDer<'static>],
    faults: &mut Vec<Fault>,
) -> Vec<X509Certificate<'a>> {
    let mut out = Vec::with_capacity(ders.len());
    for (at, der) in ders.iter().enumerate() {
        match x509_parser::parse_x509_certificate(der) {
            Ok(([], certificate)) => out.push(certificate),
            _ => faults.push(Fault::BadCertificate { position: at + 1 }),
        }
    }
    out
}

fn key_matches(der: &CertificateDer<'static>, signing: &Arc<dyn SigningKey>) -> bool {
    let pair = CertifiedKey::new(vec![der.clone()], Arc::clone(signing));
    match pair.keys_match() {
        Ok(()) => true,
        // A key that does not tell its public half is given the benefit of the doubt.
        Err(error) => error == rustls::InconsistentKeys::Unknown.into(),
    }
}

fn check_key(
    ders: &[CertificateDer<'static>],
    signing: &Arc<dyn SigningKey>,
    out: &mut Inspection,
) {
    match ders.iter().position(|der| key_matches(der, signing)) {
        Some(0) => {}
        Some(at) => out.faults.push(Fault::OutOfOrder {
            position: at + 1,
            expected: 1,
        }),
        None => out.key_faults.push(Fault::KeyMismatch),
    }
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// Every certificate must be issued by the one after it; a root at the end is harmless.
fn check_order(chain: &[X509Certificate<'_>], roots: &[Vec<u8>], faults: &mut Vec<Fault>) {
    for (at, pair) in chain.windows(2).enumerate() {
        let [child, parent] = pair else { continue };
        let issuer = child.issuer().as_raw();
        if parent.subject().as_raw() == issuer && !is_self_issued(child) {
            continue;
        }
        let elsewhere = chain
            .iter()
            .position(|other| other.subject().as_raw() == issuer);
        faults.push(match elsewhere {
            // A self-issued certificate in the middle: what follows it belongs before it.
            Some(_) if is_self_issued(child) => Fault::OutOfOrder {
                position: at + 2,
                expected: at + 1,
            },
            Some(found) => Fault::OutOfOrder {
                position: found + 1,
                expected: at + 2,
            },
            None => Fault::Gap {
                position: at + 1,
                issuer: child.issuer().to_string(),
            },
        });
        return;
    }
    if let Some(last) = chain.last() {
        let issuer = last.issuer().as_raw();
        let is_known = is_self_issued(last) || roots.is_empty();
        if !is_known && !roots.iter().any(|root| root.as_slice() == issuer) {
            faults.push(Fault::Incomplete {
                issuer: last.issuer().to_string(),
            });
        }
    }
}

fn check_one(cert: &X509Certificate<'_>, position: usize, now: i64, faults: &mut Vec<Fault>) {
    let starts = cert.validity().not_before.timestamp();
    let ends = cert.validity().not_after.timestamp();
    if now < starts {
        let wait = starts.saturating_sub(now);
        faults.push(Fault::NotYetValid { position, wait });
    }
    if now > ends {
        let ago = now.saturating_sub(ends);
        faults.push(Fault::Expired { position, ago });
    } else if ends.saturating_sub(now) < EXPIRY_WARNING_SECS {
        let left = ends.saturating_sub(now);
        faults.push(Fault::ExpiresSoon { position, left });
    }
    if let Ok(PublicKey::RSA(rsa)) = cert.public_key().parsed() {
        let bits = rsa.key_size();
        if bits < RSA_BITS_MIN {
            faults.push(Fault::WeakKey { position, bits });
        }
    }
    let algorithm = cert.signature_algorithm.algorithm.to_id_string();
    // Nobody checks the signature of a root, so its algorithm does not matter; that of a
    // self-signed leaf does.
    let is_root = position > 1 && is_self_issued(cert);
    if SHA1_SIGNATURES.contains(&algorithm.as_str()) && !is_root {
        faults.push(Fault::WeakSignature { position });
    }
}

fn info(leaf: &X509Certificate<'_>) -> Info {
    Info {
        names: names(leaf),
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        fingerprint: crypto::sha256(&[leaf.as_raw()]),
    }
}

/// The hosts a certificate is for: its subject alternative names, else its common name.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if let Ok(Some(extension)) = leaf.subject_alternative_name() {
        out.extend(extension.value.general_names.iter().filter_map(name_text));
    } else if let Some(Ok(name)) = leaf.subject().iter_common_name().next().map(|n| n.as_str()) {
        out.push(name.to_ascii_lowercase());
    }
    out
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

/// What a peer's certificate says, for headers and logs: subject, subject alternative names (DNS,
/// URI, address, mail, as `TYPE:value`) and the SHA-256 of the certificate.
#[must_use]
pub fn describe_peer(der: &[u8]) -> PeerCertificate {
    let mut out = PeerCertificate {
        fingerprint: crypto::hex(&crypto::sha256(&[der])),
        ..PeerCertificate::default()
    };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(der) else {
        return out;
    };
    out.subject = cert.subject().to_string();
    out.issuer = cert.issuer().to_string();
    out.serial = crypto::hex(cert.raw_serial());
    if let Ok(Some(extension)) = cert.subject_alternative_name() {
        let names = extension.value.general_names.iter();
        out.names = names.filter_map(typed_name).collect();
    }
    out
}

fn typed_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(format!("DNS:{dns}")),
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::RFC822Name(mail) => Some(format!("email:{mail}")),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| format!("IP:{ip}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::testing::{Ca, DAY, Leaf, NOW, Wish};

    fn faults(chain: &str, key: &str) -> Vec<Fault> {
        let found = inspect(chain.as_bytes(), key.as_bytes(), &[], &[], NOW);
        let broken = found.is_broken();
        assert_eq!(found.certificate.is_none(), broken, "{found:?}");
        found.faults.into_iter().chain(found.key_faults).collect()
    }

    fn timed(from: i64, to: i64) -> Leaf {
        Ca::new("r").wish(Wish {
            from,
            to,
            ..Wish::default()
        })
    }

    #[test]
    fn a_good_pair_has_no_faults_and_tells_its_names() {
        let leaf = Ca::new("r").leaf(&["A.example", "*.b.example", "::1"]);
        let found = inspect(leaf.chain.as_bytes(), leaf.key.as_bytes(), &[], &[], NOW);
        assert!(found.faults.is_empty() && found.key_faults.is_empty());
        let certificate = found.certificate.unwrap();
        assert_eq!(certificate.hosts, ["a.example", "*.b.example", "::1"]);
        assert_eq!(certificate.info.issuer, "CN=r");
        assert_eq!(certificate.info.subject, "CN=A.example");
    }

    #[test]
    fn keys_of_every_usual_kind_are_taken() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let leaf = Ca::new("r").wish(Wish {
                algorithm,
                ..Wish::default()
            });
            assert_eq!(faults(&leaf.chain, &leaf.key), []);
        }
    }

    #[test]
    fn what_is_not_a_pair_is_told_apart() {
        let leaf = Ca::new("r").leaf(&["a.example"]);
        let other = Ca::new("r").leaf(&["a.example"]);
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let junk_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let junk_cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain, key, fault) in [
            ("", leaf.key.as_str(), Fault::NotPem { der: false }),
            ("0\u{1}", &leaf.key, Fault::NotPem { der: true }),
            (&leaf.key, &leaf.key, Fault::NoCertificate),
            (&leaf.chain, &leaf.chain, Fault::NoKey),
            (&leaf.chain, "x", Fault::NotPem { der: false }),
            (&leaf.chain, encrypted, Fault::KeyEncrypted),
            (&leaf.chain, legacy, Fault::KeyEncrypted),
            (&leaf.chain, junk_key, Fault::BadKey),
            (junk_cert, &leaf.key, Fault::BadCertificate { position: 1 }),
            (&leaf.chain, &other.key, Fault::KeyMismatch),
        ] {
            assert_eq!(faults(chain, key), [fault]);
        }
    }

    #[test]
    fn dates_are_judged_at_the_given_time() {
        let gone = timed(NOW - 100 * DAY, NOW - DAY);
        let ago = DAY;
        assert_eq!(
            faults(&gone.chain, &gone.key),
            [Fault::Expired { position: 1, ago }]
        );
        let early = timed(NOW + DAY, NOW + 100 * DAY);
        let wait = DAY;
        assert_eq!(
            faults(&early.chain, &early.key),
            [Fault::NotYetValid { position: 1, wait }]
        );
        let soon = timed(NOW - 100 * DAY, NOW + 6 * DAY);
        let left = 6 * DAY;
        assert_eq!(
            faults(&soon.chain, &soon.key),
            [Fault::ExpiresSoon { position: 1, left }]
        );
        let fortnight = timed(NOW - 100 * DAY, NOW + 14 * DAY);
        assert_eq!(faults(&fortnight.chain, &fortnight.key), []);
    }

    #[test]
    fn the_order_of_the_chain_is_checked() {
        let root = Ca::new("root");
        let upper = root.intermediate("upper");
        let leaf = upper.leaf(&["a.example"]);
        let stranger = Ca::new("stranger").intermediate("other");
        let check = |parts: &[&str]| faults(&parts.concat(), &leaf.key);
        let (l, u, r, s) = (leaf.chain.as_str(), upper.pem(), root.pem(), stranger.pem());
        assert_eq!(check(&[l, &u]), []);
        assert_eq!(check(&[l, &u, &r]), [], "a root at the end is harmless");
        let swapped = Fault::OutOfOrder {
            position: 3,
            expected: 2,
        };
        assert_eq!(check(&[l, &r, &u]), [swapped]);
        let leaf_last = Fault::OutOfOrder {
            position: 2,
            expected: 1,
        };
        assert_eq!(check(&[&u, l])[0], leaf_last);
        let gap = Fault::Gap {
            position: 1,
            issuer: "CN=upper".into(),
        };
        for wrong in [&r, &s] {
            assert_eq!(check(&[l, wrong]), std::slice::from_ref(&gap));
        }
    }

    #[test]
    fn a_chain_that_ends_before_a_known_root_may_be_incomplete() {
        let root = Ca::new("root");
        let upper = root.intermediate("upper");
        let leaf = upper.leaf(&["a.example"]);
        let root_der = certificates(root.pem().as_bytes()).unwrap().remove(0);
        let (_, parsed) = x509_parser::parse_x509_certificate(&root_der).unwrap();
        let roots = [parsed.subject().as_raw().to_vec()];
        let check =
            |chain: &str| inspect(chain.as_bytes(), leaf.key.as_bytes(), &[], &roots, NOW).faults;
        assert_eq!(check(&format!("{}{}", leaf.chain, upper.pem())), []);
        let issuer = "CN=upper".to_owned();
        assert_eq!(check(&leaf.chain), [Fault::Incomplete { issuer }]);
    }

    #[cfg(feature = "aws-lc")]
    #[test]
    fn weak_keys_and_signatures_are_refused() {
        let chain = include_str!("testdata/weak-rsa1024-sha1.pem");
        let key = include_str!("testdata/weak-rsa1024-sha1.key");
        let got = faults(chain, key);
        let bits = 1024;
        assert!(
            got.contains(&Fault::WeakKey { position: 1, bits }),
            "{got:?}"
        );
        assert!(
            got.contains(&Fault::WeakSignature { position: 1 }),
            "{got:?}"
        );
    }

    #[test]
    fn a_certificate_without_names_is_served_as_default_only() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert_eq!(faults(&pem, &key.serialize_pem()), [Fault::NoNames]);
    }

    #[test]
    fn a_pair_that_was_inspected_builds_again_at_any_time() {
        let gone = timed(NOW - 100 * DAY, NOW - DAY);
        let pair = gone.pair();
        assert!(pair.build(&[]).is_ok());
        let mut wrong = pair;
        wrong.key = Ca::new("r").leaf(&["x"]).pair().key;
        assert!(matches!(wrong.build(&[]), Err(Fault::KeyMismatch)));
    }

    #[test]
    fn a_peer_is_described_in_words() {
        let leaf = Ca::new("r").leaf(&["a.example", "10.0.0.1"]);
        let der = certificates(leaf.chain.as_bytes()).unwrap().remove(0);
        let peer = describe_peer(&der);
        assert_eq!(peer.subject, "CN=a.example");
        assert_eq!(peer.issuer, "CN=r");
        assert_eq!(peer.names, ["DNS:a.example", "IP:10.0.0.1"]);
        assert_eq!(peer.serial, "07");
        assert_eq!(peer.fingerprint.len(), 64);
        assert!(describe_peer(b"junk").subject.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn hostile_files_never_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let found = inspect(&bytes, &bytes, &[], &[], NOW);
            proptest::prop_assert!(found.certificate.is_none());
        }

        #[test]
        fn a_damaged_certificate_never_panics(at in 0_usize..700, byte in 0_u8..) {
            let leaf = Ca::new("r").leaf(&["a.example"]);
            let mut chain = leaf.chain.into_bytes();
            let at = at % chain.len();
            chain[at] = byte;
            drop(inspect(&chain, leaf.key.as_bytes(), &[], &[], NOW));
        }
    }
}
