//! What is known about the TLS session under a stream, in plain words for logs, headers and
//! metrics. Filled by `net::tls`, read by services that know nothing of rustls.

use std::time::Duration;

/// The facts of a finished handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// IANA name of the cipher suite, for example `TLS13_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// IANA name of the key exchange group, for example `X25519MLKEM768`; empty when there was
    /// no key exchange.
    pub group: &'static str,
    /// The name the client asked for, lower case.
    pub sni: Option<Box<str>>,
    /// The protocol agreed on by ALPN.
    pub alpn: Option<Box<str>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// The verified certificate of the peer (of a client only when it was asked for one).
    pub peer: Option<Box<PeerCertificate>>,
}

/// A peer's certificate in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// `DNS:…`, `URI:…`, `email:…`, `IP:…`.
    pub names: Vec<String>,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
}
