//! What can be wrong with a certificate, a key, a CA file or a revocation list, and how it is
//! told to people. The codes of findings are the business of the configuration.

use std::fmt;

/// Weaker RSA keys are refused.
pub const RSA_BITS_MIN: usize = 2048;

/// Whether a finding stops the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// The certificate cannot be used.
    Error,
}

/// One thing that is wrong with a certificate, a key, a CA file or a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is not there.
    Missing,
    /// The file cannot be read, and why.
    Unreadable(String),
    /// The file is larger than any certificate file may be.
    TooLarge,
    /// The directory has no `*.pem` file.
    EmptyDir,
    /// Not PEM; `der` when it looks like DER.
    NotPem {
        /// Looks like the binary form.
        der: bool,
    },
    /// PEM, but without a certificate.
    NoCertificate,
    /// PEM, but without a private key.
    NoKey,
    /// PEM, but without a revocation list.
    NoCrl,
    /// The key is protected by a passphrase.
    KeyEncrypted,
    /// The provider cannot use the key.
    BadKey,
    /// Certificate number `position` (from 1) cannot be parsed.
    BadCertificate {
        /// From 1.
        position: usize,
    },
    /// More certificates than a file of this kind may hold.
    TooMany {
        /// How many it may.
        most: usize,
    },
    /// The key belongs to no certificate of the file.
    KeyMismatch,
    /// Certificate `position` (from 1) should stand where `expected` stands.
    OutOfOrder {
        /// From 1.
        position: usize,
        /// From 1.
        expected: usize,
    },
    /// Nothing in the file issued certificate `position`, but others follow it.
    Gap {
        /// From 1.
        position: usize,
        /// Who issued it.
        issuer: String,
    },
    /// The issuer of the last certificate is neither in the file nor a root of this system.
    Incomplete {
        /// Who issued it.
        issuer: String,
    },
    /// Ran out this many seconds ago.
    Expired {
        /// Certificate number, from 1.
        position: usize,
        /// Seconds since.
        ago: i64,
    },
    /// Runs out in this many seconds.
    ExpiresSoon {
        /// Certificate number, from 1.
        position: usize,
        /// Seconds left.
        left: i64,
    },
    /// Becomes valid in this many seconds.
    NotYetValid {
        /// Certificate number, from 1.
        position: usize,
        /// Seconds to go.
        wait: i64,
    },
    /// The RSA key has too few bits.
    WeakKey {
        /// Certificate number, from 1.
        position: usize,
        /// Bits.
        bits: usize,
    },
    /// Signed with SHA-1.
    WeakSignature {
        /// Certificate number, from 1.
        position: usize,
    },
    /// The certificate names no host and none is configured.
    NoNames,
    /// A CA certificate ran out this many seconds ago.
    CaExpired {
        /// Certificate number, from 1.
        position: usize,
        /// Seconds since.
        ago: i64,
    },
    /// The revocation list should have been replaced this many seconds ago.
    CrlExpired {
        /// Seconds since.
        ago: i64,
    },
    /// The revocation list cannot be parsed.
    BadCrl,
    /// The revocation list was issued by nobody in the CA file.
    CrlOfAnotherCa {
        /// Who issued it.
        issuer: String,
    },
    /// A host name that cannot stand in a certificate.
    BadHost(String),
    /// No protocol version lies between the least and the most.
    NoVersion,
    /// There is no root to verify a server with.
    NoRoots,
    /// A client certificate of this name has no usable pair.
    NoSuchCertificate(String),
    /// The provider failed to make a self-signed certificate.
    CannotGenerate(String),
}

impl Fault {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Incomplete { .. }
            | Self::ExpiresSoon { .. }
            | Self::NoNames
            | Self::CaExpired { .. }
            | Self::CrlExpired { .. }
            | Self::CrlOfAnotherCa { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

fn days(seconds: i64) -> String {
    match seconds {
        ..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the file does not exist"),
            Self::Unreadable(why) => write!(f, "the file cannot be read: {why}"),
            Self::TooLarge => f.write_str("the file is too large"),
            Self::EmptyDir => f.write_str("the directory has no *.pem file"),
            Self::NotPem { der: true } => f.write_str("the file is DER, not PEM"),
            Self::NotPem { der: false } => f.write_str("the file is not PEM"),
            Self::NoCertificate => f.write_str("the file has no certificate"),
            Self::NoKey => f.write_str("the file has no private key"),
            Self::NoCrl => f.write_str("the file has no revocation list"),
            Self::KeyEncrypted => f.write_str("the key is protected by a passphrase"),
            Self::BadKey => f.write_str("the key cannot be used: unknown kind or damaged"),
            Self::BadCertificate { position } => {
                write!(f, "certificate {position} of the file is damaged")
            }
            Self::TooMany { most } => write!(f, "more than {most} certificates in the file"),
            Self::KeyMismatch => f.write_str("the key does not match the certificate"),
            Self::OutOfOrder { position, expected } => write!(
                f,
                "the chain is out of order: certificate {position} belongs in place {expected}"
            ),
            Self::Gap { position, issuer } => write!(
                f,
                "the chain is incomplete: the issuer of certificate {position} ({issuer}) is not in the file"
            ),
            Self::Incomplete { issuer } => write!(
                f,
                "the chain may be incomplete: its issuer ({issuer}) is neither in the file nor among the roots of this system"
            ),
            Self::Expired { position, ago } => {
                write!(f, "certificate {position} expired {} ago", days(*ago))
            }
            Self::ExpiresSoon { position, left } => {
                write!(f, "certificate {position} expires in {}", days(*left))
            }
            Self::NotYetValid { position, wait } => {
                write!(
                    f,
                    "certificate {position} is not valid for another {}",
                    days(*wait)
                )
            }
            Self::WeakKey { position, bits } => write!(
                f,
                "certificate {position} has a weak RSA key of {bits} bits: at least {RSA_BITS_MIN} are needed"
            ),
            Self::WeakSignature { position } => {
                write!(f, "certificate {position} is signed with SHA-1")
            }
            Self::NoNames => {
                f.write_str("the certificate names no host: it is served only as default")
            }
            Self::CaExpired { position, ago } => {
                write!(f, "CA certificate {position} expired {} ago", days(*ago))
            }
            Self::CrlExpired { ago } => write!(
                f,
                "the revocation list should have been replaced {} ago",
                days(*ago)
            ),
            Self::BadCrl => f.write_str("the revocation list is damaged"),
            Self::CrlOfAnotherCa { issuer } => write!(
                f,
                "the revocation list was issued by {issuer}, which is not in the CA file"
            ),
            Self::NoVersion => f.write_str("no TLS version lies between the least and the most"),
            Self::NoRoots => {
                f.write_str("this system has no root certificates: name a CA file with `ca`")
            }
            Self::NoSuchCertificate(name) => {
                write!(f, "certificate `{name}` has no usable certificate and key")
            }
            Self::BadHost(host) => write!(f, "`{host}` is not a host name or address"),
            Self::CannotGenerate(why) => write!(f, "no certificate could be made: {why}"),
        }
    }
}
