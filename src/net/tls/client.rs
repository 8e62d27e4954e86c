//! TLS towards upstreams: verified by default, with sessions remembered per server.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;

use super::cert::Fault;
use super::crypto;
use super::params::{ClientParams, TlsVersion, Verify};
use super::server::versions;
use super::store::Catalog;
use super::stream::{CannotBegin, TlsStream};
use super::trust::{self, SystemRoots};
use super::verify::{Lenient, Rule};
use super::wire::Trust;
use crate::base::addr::{Endpoint, Host};

/// Tickets remembered for one server.
const TICKETS_KEPT: usize = 8;

/// What an upstream's TLS is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// From the configuration.
    pub params: &'a ClientParams,
    /// The system's roots, used where no `ca` is given.
    pub roots: &'a SystemRoots,
    /// The contents of `ca`, and revocation lists.
    pub trust: Option<&'a Trust>,
    /// All certificates of the worker, for `client_certificate`.
    pub catalog: &'a Catalog,
}

/// TLS of one upstream.
pub struct Client {
    sni: Option<Box<str>>,
    /// The CA that came after the first.
    trust: ArcSwapOption<Trust>,
    config: ArcSwap<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("sni", &self.sni)
            .finish_non_exhaustive()
    }
}

/// The sessions remembered of one server.
#[derive(Default)]
pub struct Sessions(RefCell<Option<Remembered>>);

struct Remembered {
    /// The configuration of the upstream that `own` was made from.
    base: Arc<ClientConfig>,
    own: Arc<ClientConfig>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration with this server's sessions. After a change of the upstream's
    /// configuration they begin anew: what was verified then says nothing now.
    fn config(&self, base: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        let Ok(mut slot) = self.0.try_borrow_mut() else {
            return Arc::clone(base);
        };
        match &*slot {
            Some(known) if Arc::ptr_eq(&known.base, base) => Arc::clone(&known.own),
            _ => {
                let mut own = (**base).clone();
                own.resumption = Resumption::in_memory_sessions(TICKETS_KEPT);
                let own = Arc::new(own);
                *slot = Some(Remembered {
                    base: Arc::clone(base),
                    own: Arc::clone(&own),
                });
                own
            }
        }
    }
}

impl Client {
    /// Builds it.
    ///
    /// # Errors
    /// What is wrong with the CA, a list, the client certificate, or that there are no roots.
    pub fn new(setup: Setup<'_>) -> Result<Self, Fault> {
        if let Some(sni) = &setup.params.sni {
            name(sni).map_err(|_e| Fault::BadHost(sni.clone()))?;
        }
        Ok(Self {
            sni: setup.params.sni.as_deref().map(Into::into),
            trust: ArcSwapOption::empty(),
            config: ArcSwap::from_pointee(config(setup)?),
        })
    }

    /// Takes the present client certificate of the catalog into use for the connections from now
    /// on. A CA that was set later than the one of `setup` stays.
    ///
    /// # Errors
    /// What is wrong; all stays as it was then.
    pub fn refresh(&self, setup: Setup<'_>) -> Result<(), Fault> {
        let later = self.trust.load_full();
        let setup = Setup {
            trust: later.as_deref().or(setup.trust),
            ..setup
        };
        self.config.store(Arc::new(config(setup)?));
        Ok(())
    }

    /// Takes a new CA into use for the connections from now on.
    ///
    /// # Errors
    /// What is wrong with it; the old one then stays.
    pub fn set_trust(&self, setup: Setup<'_>, trust: Trust) -> Result<(), Fault> {
        let setup = Setup {
            trust: Some(&trust),
            ..setup
        };
        self.config.store(Arc::new(config(setup)?));
        self.trust.store(Some(Arc::new(trust)));
        Ok(())
    }

    /// Wraps a connection to `server`. The handshake is still to come.
    ///
    /// # Errors
    /// When the name of the server cannot be used in TLS.
    pub fn connect<S>(
        &self,
        stream: S,
        server: &Endpoint,
        sessions: &Sessions,
    ) -> Result<TlsStream<S>, CannotBegin> {
        let base = self.config.load_full();
        let name = match (&self.sni, server) {
            (Some(sni), _) => name(sni)?,
            (None, Endpoint::Tcp { host, .. }) => host_name(host)?,
            (None, Endpoint::Unix(_)) => name("localhost")?,
        };
        TlsStream::client(stream, sessions.config(&base), name)
    }
}

fn name(text: &str) -> Result<ServerName<'static>, CannotBegin> {
    ServerName::try_from(text.to_owned())
        .map_err(|_e| CannotBegin(format!("`{text}` is not a host name")))
}

fn host_name(host: &Host) -> Result<ServerName<'static>, CannotBegin> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Name(text) => name(text),
    }
}

fn verifier(setup: Setup<'_>) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let rule = match &setup.params.verify {
        Verify::Full => return chain_verifier(setup),
        Verify::Ca => Rule::Chain(chain_verifier(setup)?),
        Verify::Pin(pin) => Rule::Pin(*pin),
        Verify::Off => Rule::Nothing,
    };
    Ok(Arc::new(Lenient::new(rule)))
}

fn chain_verifier(setup: Setup<'_>) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let (roots, files): (Arc<RootCertStore>, &[Vec<u8>]) = match setup.trust {
        Some(trust) => (Arc::new(trust::roots(&trust.ca)?), &trust.crls),
        None => (Arc::clone(&setup.roots.store), &[]),
    };
    if roots.is_empty() {
        return Err(Fault::NoRoots);
    }
    let mut crls = Vec::new();
    for file in files {
        crls.extend(trust::crls(file)?);
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, crypto::provider())
        .with_crls(crls)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|_e| Fault::BadCrl)?;
    Ok(verifier)
}

fn config(setup: Setup<'_>) -> Result<ClientConfig, Fault> {
    let params = setup.params;
    let versions = versions(params.min_version, TlsVersion::V13);
    let builder = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&versions)
        .map_err(|_e| Fault::NoVersion)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(setup)?);
    let mut config = match &params.client_certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let own = setup.catalog.get(name).next();
            let key = own.map(|own| Arc::clone(&own.key));
            let key = key.ok_or_else(|| Fault::NoSuchCertificate(name.clone()))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols = params.alpn.iter().map(|p| p.clone().into_bytes()).collect();
    // Servers have sessions of their own, see `Sessions`.
    config.resumption = Resumption::disabled();
    Ok(config)
}
