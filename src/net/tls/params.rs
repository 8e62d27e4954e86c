//! What TLS needs to know: filled by `conf`.

use std::path::PathBuf;
use std::time::Duration;

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// `cert` and `key`.
    Files {
        /// PEM chain, leaf first.
        cert: PathBuf,
        /// PEM key; the same file as `cert` is allowed.
        key: PathBuf,
    },
    /// `dir`: every `*.pem` with its key.
    Dir(PathBuf),
    /// `self_signed = { hosts, valid }`.
    SelfSigned {
        /// Names and addresses.
        hosts: Vec<String>,
        /// How long.
        valid: Duration,
    },
}

/// `[[certificate]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateParams {
    /// Its name in `tls.certificates`.
    pub name: String,
    /// Where it comes from.
    pub source: CertificateSource,
    /// `hosts`: overrides the names in the certificate; empty takes those.
    pub hosts: Vec<String>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// `tls_client_auth.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    #[default]
    Off,
    /// Asked for, and checked when one comes.
    Optional,
    /// The handshake fails without one.
    Required,
}

/// `[listener.tls_client_auth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthParams {
    /// `mode`.
    pub mode: ClientAuthMode,
    /// `ca`: PEM file.
    pub ca: PathBuf,
    /// `crl`: PEM files.
    pub crl: Vec<PathBuf>,
}

/// `[listener.session_tickets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketParams {
    /// `rotate`.
    pub rotate: Duration,
    /// `key_file`: keys shared by several machines.
    pub key_file: Option<PathBuf>,
}

impl Default for TicketParams {
    fn default() -> Self {
        Self {
            rotate: Duration::from_secs(6 * 3600),
            key_file: None,
        }
    }
}

/// `listener.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerParams {
    /// `certificates`: names.
    pub certificates: Vec<String>,
    /// `default`: for clients without SNI or with an unknown one; the first certificate otherwise.
    pub default: String,
    /// `min_version`.
    pub min_version: TlsVersion,
    /// `max_version`.
    pub max_version: TlsVersion,
    /// `alpn`, in order of preference.
    pub alpn: Vec<String>,
    /// `tls_client_auth`.
    pub client_auth: Option<ClientAuthParams>,
    /// `session_tickets`.
    pub tickets: TicketParams,
}

/// `upstream.tls.verify`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Verify {
    /// Chain and name.
    #[default]
    Full,
    /// Chain only.
    Ca,
    /// SHA-256 of the leaf's public key (SPKI).
    Pin([u8; 32]),
    /// Nothing (warned).
    Off,
}

/// `[upstream.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientParams {
    /// `verify`.
    pub verify: Verify,
    /// `ca`: PEM file; the system's roots otherwise.
    pub ca: Option<PathBuf>,
    /// `sni`: the name sent and verified; the server's host otherwise.
    pub sni: Option<String>,
    /// `client_certificate`: a certificate's name.
    pub client_certificate: Option<String>,
    /// `min_version`.
    pub min_version: TlsVersion,
    /// `alpn`.
    pub alpn: Vec<String>,
}
