//! Certificates for the tests of this module: a small authority, its leaves and its list.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

use super::wire::{Bundle, Pair};
use crate::base::secret::Secret;

/// "Now" of the tests, in Unix seconds: close to the real one, as rustls looks at the clock.
pub(crate) const NOW: i64 = 1_790_000_000;
/// Seconds.
pub(crate) const DAY: i64 = 86_400;

fn names(params: &mut CertificateParams, common_name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
}

/// The rcgen time of a Unix second.
macro_rules! at {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from($seconds).unwrap())
    };
}

/// A chain (leaf first) and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) serial: u64,
}

impl Leaf {
    pub(crate) fn write(&self, dir: &Path, name: &str) {
        std::fs::write(dir.join(format!("{name}.pem")), &self.chain).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), &self.key).unwrap();
    }

    pub(crate) fn pair(&self) -> Pair {
        Pair {
            label: String::new(),
            chain: self.chain.clone().into_bytes(),
            key: Secret::new(self.key.clone().into_bytes()),
        }
    }

    pub(crate) fn bundle(&self, name: &str) -> Bundle {
        Bundle {
            name: name.into(),
            hosts: Vec::new(),
            pairs: vec![self.pair()],
        }
    }
}

/// What a test wants from a leaf.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) hosts: &'a [&'a str],
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) algorithm: &'static rcgen::SignatureAlgorithm,
    pub(crate) serial: u64,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            hosts: &["a.example"],
            from: NOW - 1000 * DAY,
            to: NOW + 10_000 * DAY,
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            serial: 7,
        }
    }
}

/// A certificate authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        names(&mut params, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = at!(NOW - 1000 * DAY);
        params.not_after = at!(NOW + 10_000 * DAY);
        params
    }

    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(Self::params(name), key).unwrap())
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(Self::params(name), key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn leaf(&self, hosts: &[&str]) -> Leaf {
        self.wish(Wish {
            hosts,
            ..Wish::default()
        })
    }

    pub(crate) fn wish(&self, wish: Wish<'_>) -> Leaf {
        let hosts: Vec<String> = wish.hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        names(&mut params, wish.hosts.first().unwrap_or(&"nobody"));
        params.not_before = at!(wish.from);
        params.not_after = at!(wish.to);
        params.serial_number = Some(SerialNumber::from(wish.serial));
        let key = KeyPair::generate_for(wish.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            serial: wish.serial,
        }
    }

    /// A revocation list with these serial numbers, due in 30 days.
    pub(crate) fn crl(&self, revoked: &[u64]) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at!(NOW - DAY),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: at!(NOW - DAY),
            next_update: at!(NOW + 30 * DAY),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}
