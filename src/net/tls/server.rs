//! TLS towards clients: what a listener's parameters become. Certificates, the CA and the
//! revocation lists can be replaced while connections are open: those keep what they began
//! with, the next handshake has the new.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::cert::Fault;
use super::crypto;
use super::params::{ClientAuthMode, ServerParams, TlsVersion};
use super::store::{Catalog, Store};
use super::stream::{CannotBegin, TlsStream};
use super::ticket::{self, Ticketer};
use super::trust;
use super::wire::Trust;

/// Tickets sent after a full handshake: browsers open a few connections at a time.
const TICKETS_SENT: usize = 2;

/// What a listener's TLS is made of.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Its name: sessions are bound to it.
    pub listener: &'a str,
    /// From the configuration.
    pub params: &'a ServerParams,
    /// All certificates of the worker.
    pub catalog: &'a Catalog,
    /// CA and lists for client authentication; needed unless that is off.
    pub trust: Option<&'a Trust>,
    /// The words with the ticket keys; without them there are no tickets.
    pub ticket_words: Option<&'static [AtomicU64]>,
}

/// TLS of one listener.
pub struct Server {
    listener: Box<str>,
    params: ServerParams,
    ticket_words: Option<&'static [AtomicU64]>,
    store: Arc<Store>,
    config: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// The versions from `least` to `most`.
pub(super) fn versions(
    least: TlsVersion,
    most: TlsVersion,
) -> Vec<&'static SupportedProtocolVersion> {
    [
        (TlsVersion::V13, &version::TLS13),
        (TlsVersion::V12, &version::TLS12),
    ]
    .into_iter()
    .filter(|(v, _)| (least..=most).contains(v))
    .map(|(_, version)| version)
    .collect()
}

impl Server {
    /// Builds it.
    ///
    /// # Errors
    /// What is wrong with the CA or a list, or that no protocol version is left.
    pub fn new(setup: Setup<'_>) -> Result<Self, Fault> {
        let params = setup.params;
        let names = &params.certificates;
        let store = Arc::new(Store::new(names, &params.default, setup.catalog));
        let config = config(setup, &store)?;
        Ok(Self {
            listener: setup.listener.into(),
            params: params.clone(),
            ticket_words: setup.ticket_words,
            store,
            config: ArcSwap::from_pointee(config),
        })
    }

    /// Wraps a connection that a client has opened. The handshake is still to come.
    ///
    /// # Errors
    /// When rustls refuses to begin.
    pub fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, CannotBegin> {
        TlsStream::server(stream, self.config.load_full())
    }

    /// Which certificate is for which host.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same, to be kept by a service.
    #[must_use]
    pub fn share_store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// The present CA and lists for client authentication, from now on. Sessions of clients
    /// verified with the old ones cannot be resumed any more.
    ///
    /// # Errors
    /// What is wrong with them; the old ones then stay.
    pub fn set_trust(&self, trust: &Trust) -> Result<(), Fault> {
        let setup = Setup {
            listener: &self.listener,
            params: &self.params,
            catalog: &Catalog::new(),
            trust: Some(trust),
            ticket_words: self.ticket_words,
        };
        self.config.store(Arc::new(config(setup, &self.store)?));
        Ok(())
    }
}

const fn mode_name(mode: ClientAuthMode) -> &'static str {
    match mode {
        ClientAuthMode::Off => "off",
        ClientAuthMode::Optional => "optional",
        ClientAuthMode::Required => "required",
    }
}

fn config(setup: Setup<'_>, store: &Arc<Store>) -> Result<ServerConfig, Fault> {
    let params = setup.params;
    let auth = params.client_auth.as_ref();
    let mode = auth.map_or(ClientAuthMode::Off, |auth| auth.mode);
    let versions = versions(params.min_version, params.max_version);
    let no_version = |_e| Fault::NoVersion;
    let builder = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&versions)
        .map_err(no_version)?;
    let nobody = Trust::default();
    let trust = setup.trust.unwrap_or(&nobody);
    let verifier = match mode {
        ClientAuthMode::Off => WebPkiClientVerifier::no_client_auth(),
        ClientAuthMode::Optional | ClientAuthMode::Required => verifier(trust, mode)?,
    };
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(store) as _);
    config.alpn_protocols = params.alpn.iter().map(|p| p.clone().into_bytes()).collect();
    // Sessions are remembered by tickets alone: memory of one process helps no other.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if let Some(words) = setup.ticket_words {
        let (ca, crls): (&[u8], &[Vec<u8>]) = match mode {
            ClientAuthMode::Off => (&[], &[]),
            ClientAuthMode::Optional | ClientAuthMode::Required => (&trust.ca, &trust.crls),
        };
        let binding = ticket::binding(setup.listener, mode_name(mode), ca, crls);
        config.ticketer = Arc::new(Ticketer::new(words, binding, params.tickets.rotate));
        config.send_tls13_tickets = TICKETS_SENT;
    }
    Ok(config)
}

fn verifier(trust: &Trust, mode: ClientAuthMode) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let roots = Arc::new(trust::roots(&trust.ca)?);
    let mut crls = Vec::new();
    for file in &trust.crls {
        crls.extend(trust::crls(file)?);
    }
    // A list says who is revoked; an issuer without a list has revoked nobody.
    let builder = WebPkiClientVerifier::builder_with_provider(roots, crypto::provider())
        .with_crls(crls)
        .allow_unknown_revocation_status();
    let builder = match mode {
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
        ClientAuthMode::Off | ClientAuthMode::Required => builder,
    };
    builder.build().map_err(|_e| Fault::BadCrl)
}
