//! How the certificate of an upstream is judged where it is not the whole check of chain and
//! name: the chain alone, one known key, or nothing. The signature of the handshake is checked
//! in every case, so the peer has the key of the certificate it shows.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::crypto;

/// What is asked of the certificate.
#[derive(Debug)]
pub(super) enum Rule {
    /// A chain to a root, whatever the name.
    Chain(Arc<dyn ServerCertVerifier>),
    /// The key with this SHA-256, whatever else.
    Pin([u8; 32]),
    /// Nothing.
    Nothing,
}

/// Judges by a [`Rule`].
#[derive(Debug)]
pub(super) struct Lenient {
    rule: Rule,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Lenient {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            rule,
            algorithms: crypto::provider().signature_verification_algorithms,
        }
    }
}

/// SHA-256 of the public key (SPKI) of a certificate, as a pin names it.
///
/// # Errors
/// When it is no certificate.
pub fn pin_of(der: &CertificateDer<'_>) -> Result<[u8; 32], Error> {
    let spki = ParsedCertificate::try_from(der)?.subject_public_key_info();
    Ok(crypto::sha256(&[&spki]))
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            Rule::Chain(full) => {
                let verdict = full.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                match verdict {
                    // The name is looked at last: this says that the chain is good.
                    Err(Error::InvalidCertificate(
                        CertificateError::NotValidForName
                        | CertificateError::NotValidForNameContext { .. },
                    )) => Ok(ServerCertVerified::assertion()),
                    other => other,
                }
            }
            Rule::Pin(pin) if pin_of(end_entity)? == *pin => Ok(ServerCertVerified::assertion()),
            Rule::Pin(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Rule::Nothing => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
