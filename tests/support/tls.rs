//! TLS for tests: a small certificate authority, blocking rustls clients and servers.

use super::client::Wire;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    #[cfg(feature = "aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The chain.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key` into a folder.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        replace(&cert, &self.cert);
        replace(&key, &self.key);
        (cert, key)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes())
            .map(Result::unwrap)
            .collect()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Replaces a file at once, as deployment tools do; readable by every user.
pub fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub cert: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "proxyd test authority");
        let cert = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    /// A certificate for names or addresses.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    /// A certificate with something special.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, names[0].clone());
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// What a TLS client of a test does.
#[derive(Clone, Debug)]
pub struct ClientSetup(pub Arc<ClientConfig>);

impl ClientSetup {
    /// Trusts one authority.
    pub fn trusting(authority: &str) -> Self {
        Self::build(authority, None)
    }

    /// Trusts one authority and shows a certificate.
    pub fn with_certificate(authority: &str, pair: &Pair) -> Self {
        Self::build(authority, Some(pair))
    }

    fn build(authority: &str, pair: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match pair {
            Some(pair) => builder
                .with_client_auth_cert(pair.chain(), pair.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        Self(Arc::new(config))
    }
}

/// A client handshake.
pub fn handshake(
    mut tcp: TcpStream,
    name: &str,
    setup: &ClientSetup,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(&setup.0), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// The end-entity certificate that a server shows for a name, and whether the session was resumed.
pub fn peek(addr: std::net::SocketAddr, name: &str, setup: &ClientSetup) -> io::Result<Vec<u8>> {
    let tcp = TcpStream::connect(addr)?;
    tcp.set_read_timeout(Some(super::PATIENCE))?;
    let stream = handshake(tcp, name, setup)?;
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    Ok(chain.first().map(|c| c.to_vec()).unwrap_or_default())
}

/// The first certificate of a pair in binary form, for comparison with [`peek`].
pub fn der(pair: &Pair) -> Vec<u8> {
    pair.chain()[0].to_vec()
}

/// Makes TLS servers out of accepted connections; asks for client certificates when given an authority.
pub fn server(
    pair: &Pair,
    clients: Option<&str>,
) -> impl Fn(TcpStream) -> io::Result<Box<dyn Wire>> + use<> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
                .unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider(),
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let config = Arc::new(
        builder
            .with_single_cert(pair.chain(), pair.private_key())
            .unwrap(),
    );
    move |mut tcp| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        tcp.flush()?;
        Ok(Box::new(StreamOwned::new(tls, tcp)))
    }
}
