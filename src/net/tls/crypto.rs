//! The crypto provider, and the few primitives of it that proxyd uses itself: SHA-256, HKDF, an
//! AEAD for session tickets, random bytes. Everything comes out of the provider that rustls
//! uses, so there is one implementation of each in the binary.

use std::sync::{Arc, LazyLock};

use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::crypto::{CryptoProvider, tls13::Hkdf};
use rustls::{CipherSuite, Tls13CipherSuite, quic};

/// Length of an AEAD key.
pub const KEY_LEN: usize = 32;
/// Length of an AEAD nonce.
pub const NONCE_LEN: usize = 12;
/// Length of an AEAD tag.
pub const TAG_LEN: usize = 16;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(build()));

#[cfg(feature = "aws-lc")]
fn build() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc")))]
fn build() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "aws-lc", feature = "ring")))]
compile_error!("one of the features `aws-lc` and `ring` is needed: they are the TLS provider");

/// The provider that every configuration is built with.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Makes the provider the default of the process, so that code which asks for "the default"
/// never has to guess between two compiled ones. Starts no thread and may be called again.
pub fn install_provider() {
    // An error only says that a default is there already.
    drop(CryptoProvider::install_default((*provider()).clone()));
}

/// Fills `out` from the provider's random generator, which notices a `fork`.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random(out: &mut [u8]) -> Result<(), NoRandom> {
    PROVIDER.secure_random.fill(out).map_err(|_e| NoRandom)
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandom;

fn suite(wanted: CipherSuite) -> Option<&'static Tls13CipherSuite> {
    PROVIDER
        .cipher_suites
        .iter()
        .filter_map(rustls::SupportedCipherSuite::tls13)
        .find(|suite| suite.common.suite == wanted)
}

static SHA256: LazyLock<Option<&'static dyn Hash>> = LazyLock::new(|| {
    PROVIDER
        .cipher_suites
        .iter()
        .filter_map(rustls::SupportedCipherSuite::tls13)
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == HashAlgorithm::SHA256)
});

static HKDF: LazyLock<Option<&'static dyn Hkdf>> =
    LazyLock::new(|| suite(CipherSuite::TLS13_AES_256_GCM_SHA384).map(|s| s.hkdf_provider));

// QUIC protects a packet with exactly the plain AEAD that a ticket needs: key, nonce, associated
// data, payload in place. rustls offers the AEAD in no simpler form.
static AEAD: LazyLock<Option<&'static dyn quic::Algorithm>> = LazyLock::new(|| {
    suite(CipherSuite::TLS13_AES_256_GCM_SHA384)
        .and_then(|s| s.quic)
        .filter(|algorithm| algorithm.aead_key_len() == KEY_LEN)
});

/// SHA-256 of the parts, one after the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    if let Some(hash) = *SHA256 {
        let mut context = hash.start();
        for part in parts {
            context.update(part);
        }
        let digest = context.finish();
        if let Some(bytes) = digest.as_ref().first_chunk() {
            out = *bytes;
        }
    }
    out
}

/// HKDF (RFC 5869): fills `out` from a secret and a purpose. False when the provider lacks it.
#[must_use]
pub fn hkdf(secret: &[u8], purpose: &[&[u8]], out: &mut [u8]) -> bool {
    HKDF.is_some_and(|hkdf| {
        hkdf.extract_from_secret(None, secret)
            .expand_slice(purpose, out)
            .is_ok()
    })
}

/// Encrypts `payload` in place (AES-256-GCM) and returns the tag.
#[must_use]
pub fn seal(
    key: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    payload: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    let sealing = (*AEAD)?.packet_key(AeadKey::from(*key), Iv::new(*nonce));
    // Packet number 0 leaves the nonce as it is.
    let tag = sealing.encrypt_in_place(0, associated, payload).ok()?;
    tag.as_ref().first_chunk().copied()
}

/// Decrypts `payload` (ciphertext and tag) in place and returns the plain text.
#[must_use]
pub fn open<'a>(
    key: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    payload: &'a mut [u8],
) -> Option<&'a [u8]> {
    let opening = (*AEAD)?.packet_key(AeadKey::from(*key), Iv::new(*nonce));
    opening.decrypt_in_place(0, associated, payload).ok()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        assert_eq!(
            hex(&sha256(&[b"a", b"bc"])),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_nonce_and_data() {
        let (key, nonce) = ([7; 32], [9; 12]);
        let mut text = b"plain".to_vec();
        let tag = seal(&key, &nonce, b"ad", &mut text).unwrap();
        assert_ne!(text, b"plain");
        text.extend_from_slice(&tag);
        assert_eq!(
            open(&key, &nonce, b"ad", &mut text.clone()),
            Some(&b"plain"[..])
        );
        assert_eq!(open(&[8; 32], &nonce, b"ad", &mut text.clone()), None);
        assert_eq!(open(&key, &[8; 12], b"ad", &mut text.clone()), None);
        assert_eq!(open(&key, &nonce, b"other", &mut text.clone()), None);
        text[0] ^= 1;
        assert_eq!(open(&key, &nonce, b"ad", &mut text), None);
    }

    #[test]
    fn keys_derived_for_different_purposes_differ() {
        let (mut a, mut b, mut c) = ([0; 48], [0; 48], [0; 48]);
        assert!(hkdf(b"secret", &[b"x", b"1"], &mut a));
        assert!(hkdf(b"secret", &[b"x", b"2"], &mut b));
        assert!(hkdf(b"secret", &[b"x", b"1"], &mut c));
        assert_ne!(a, b);
        assert_eq!(a, c);
    }

    #[test]
    fn random_bytes_are_not_the_same_twice() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        random(&mut a).unwrap();
        random(&mut b).unwrap();
        assert_ne!(a, b);
    }

    #[cfg(feature = "aws-lc")]
    #[test]
    fn the_hybrid_group_is_preferred() {
        let first = provider().kx_groups.first().map(|g| g.name());
        assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
    }
}
