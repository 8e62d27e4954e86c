//! Which certificate a client gets: by the name it asks for, exact before wildcard before the
//! default, and among several of one name the first it can verify. The index of a listener is
//! replaced as a whole while handshakes go on with the old one.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};

use super::cert::{Certificate, Fault};
use super::wire::{Bundle, Delta};

/// All certificates of a worker, by the name of their `[[certificate]]` and the label of the
/// pair. Listeners and upstreams build what they need from it.
#[derive(Clone, Debug, Default)]
pub struct Catalog(BTreeMap<String, BTreeMap<String, Arc<Certificate>>>);

impl Catalog {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a whole certificate; an older one of the name goes.
    ///
    /// # Errors
    /// When a pair is none; the catalog is then as before.
    pub fn insert(&mut self, bundle: &Bundle) -> Result<(), Fault> {
        let mut pairs = BTreeMap::new();
        for pair in &bundle.pairs {
            let certificate = pair.build(&bundle.hosts)?;
            pairs.insert(pair.label.clone(), Arc::new(certificate));
        }
        self.0.insert(bundle.name.clone(), pairs);
        Ok(())
    }

    /// Adds what the master parsed already.
    pub fn insert_parsed(
        &mut self,
        name: &str,
        pairs: impl IntoIterator<Item = (String, Certificate)>,
    ) {
        let pairs = pairs.into_iter().map(|(label, c)| (label, Arc::new(c)));
        self.0.insert(name.to_owned(), pairs.collect());
    }

    /// Applies a change of one certificate.
    ///
    /// # Errors
    /// When a pair is none; the catalog is then as before.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), Fault> {
        let mut built = Vec::with_capacity(delta.put.len());
        for pair in &delta.put {
            built.push((pair.label.clone(), Arc::new(pair.build(&delta.hosts)?)));
        }
        let pairs = self.0.entry(delta.name.clone()).or_default();
        for label in &delta.remove {
            pairs.remove(label);
        }
        pairs.extend(built);
        Ok(())
    }

    /// The pairs of a name, in the order of their labels.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &Arc<Certificate>> {
        self.0.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// The hosts of a name.
    pub fn hosts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name)
            .flat_map(|c| c.hosts.iter().map(String::as_str))
    }
}

type Candidates = Vec<Arc<Certificate>>;

/// The names of one listener.
#[derive(Default)]
struct Index {
    exact: HashMap<Box<str>, Candidates>,
    /// Under the part after `*.`.
    wildcard: HashMap<Box<str>, Candidates>,
    default: Candidates,
}

/// The cheaper signature first: a client that can verify it gets it.
fn cost(certificate: &Certificate) -> u8 {
    match certificate.key.key.algorithm() {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        SignatureAlgorithm::RSA => 2,
        _ => 3,
    }
}

impl Index {
    fn build(names: &[String], default: &str, catalog: &Catalog) -> Self {
        let mut out = Self::default();
        for certificate in names.iter().flat_map(|name| catalog.get(name)) {
            for host in &certificate.hosts {
                let (map, key) = match host.strip_prefix("*.") {
                    Some(parent) => (&mut out.wildcard, parent),
                    None => (&mut out.exact, host.as_str()),
                };
                let list = map.entry(key.into()).or_default();
                list.push(Arc::clone(certificate));
            }
        }
        // The default is one site: the first pair of the name, and its twins of other key kinds.
        let first_name = names.first().map_or("", String::as_str);
        let default = if default.is_empty() {
            first_name
        } else {
            default
        };
        if let Some(first) = catalog.get(default).next() {
            let all = names.iter().flat_map(|name| catalog.get(name));
            let twins = all.filter(|c| c.hosts == first.hosts && !Arc::ptr_eq(c, first));
            out.default = std::iter::once(first).chain(twins).cloned().collect();
        }
        let lists = out.exact.values_mut().chain(out.wildcard.values_mut());
        for list in lists.chain([&mut out.default]) {
            list.sort_by_key(|certificate| cost(certificate));
        }
        out
    }

    fn named(&self, name: &str) -> Option<&Candidates> {
        self.exact.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.wildcard.get(parent)
        })
    }

    fn find(&self, name: Option<&str>) -> &Candidates {
        name.and_then(|name| self.named(name))
            .unwrap_or(&self.default)
    }
}

thread_local! {
    /// The name of the client hello that this thread handled last. rustls keeps the name to
    /// itself in the interface that `stream` uses, but shows it to the resolver, which runs
    /// inside the same call on the same thread.
    static ASKED_FOR: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Takes the name that the last handshake on this thread asked for.
pub(super) fn take_asked_for() -> Option<Box<str>> {
    ASKED_FOR.with(|slot| slot.try_borrow_mut().ok()?.take())
}

fn note_asked_for(name: Option<&str>) {
    ASKED_FOR.with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            *slot = name.map(Into::into);
        }
    });
}

/// The certificates of one listener.
pub struct Store {
    names: Vec<String>,
    default: String,
    index: ArcSwap<Index>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("names", &self.names)
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// For the `[[certificate]]`s of these names; an empty `default` is the first of them.
    #[must_use]
    pub fn new(names: &[String], default: &str, catalog: &Catalog) -> Self {
        let index = Index::build(names, default, catalog);
        Self {
            names: names.to_vec(),
            default: default.to_owned(),
            index: ArcSwap::from_pointee(index),
        }
    }

    /// Takes the present certificates from the catalog. Handshakes already begun and open
    /// connections are not touched.
    pub fn refresh(&self, catalog: &Catalog) {
        let index = Index::build(&self.names, &self.default, catalog);
        self.index.store(Arc::new(index));
    }

    /// Whether this listener uses the certificate of that name.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.default == name || self.names.iter().any(|own| own == name)
    }

    /// Whether some certificate (the default not counted) is for this host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.index
            .load()
            .named(&host.to_ascii_lowercase())
            .is_some()
    }

    /// Whether a client that asked for `sni` was shown the certificate that `host` would get.
    /// If not, a request for `host` on that connection is misdirected.
    #[must_use]
    pub fn is_same_site(&self, sni: &str, host: &str) -> bool {
        if sni.eq_ignore_ascii_case(host) {
            return true;
        }
        let index = self.index.load();
        let shown = index.find(Some(&sni.to_ascii_lowercase()));
        let wanted = index.find(Some(&host.to_ascii_lowercase()));
        match (shown.first(), wanted.first()) {
            (Some(shown), Some(wanted)) => Arc::ptr_eq(shown, wanted),
            _ => true,
        }
    }
}

/// What a client can do with a certificate.
struct Client<'a> {
    schemes: &'a [SignatureScheme],
    suites: &'a [CipherSuite],
}

impl Client<'_> {
    /// In TLS 1.2 the kind of signature is part of the cipher suite as well.
    fn has_suite_for(&self, algorithm: SignatureAlgorithm) -> bool {
        self.suites.iter().any(|suite| {
            let name = suite.as_str().unwrap_or_default();
            name.starts_with("TLS13_")
                || match algorithm {
                    SignatureAlgorithm::RSA => name.contains("ECDHE_RSA"),
                    _ => name.contains("ECDHE_ECDSA"),
                }
        })
    }

    fn takes(&self, certificate: &Certificate) -> bool {
        let key = &certificate.key.key;
        key.choose_scheme(self.schemes).is_some() && self.has_suite_for(key.algorithm())
    }

    fn choose(&self, candidates: &[Arc<Certificate>]) -> Option<Arc<CertifiedKey>> {
        let fit = candidates.iter().find(|candidate| self.takes(candidate));
        // With none that fits the handshake fails with the alert that says so.
        fit.or(candidates.first()).map(|c| Arc::clone(&c.key))
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        note_asked_for(name);
        let client = Client {
            schemes: hello.signature_schemes(),
            suites: hello.cipher_suites(),
        };
        let index = self.index.load();
        match name {
            Some(name) if name.bytes().any(|b| b.is_ascii_uppercase()) => {
                client.choose(index.find(Some(&name.to_ascii_lowercase())))
            }
            name => client.choose(index.find(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::testing::Ca;
    #[cfg(feature = "aws-lc")]
    use crate::net::tls::testing::Wish;

    const MODERN: Client<'static> = Client {
        schemes: &[
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ],
        suites: &[CipherSuite::TLS13_AES_128_GCM_SHA256],
    };

    fn catalog(list: &[(&str, &[&str])]) -> Catalog {
        let ca = Ca::new("r");
        let mut out = Catalog::new();
        for (name, hosts) in list {
            out.insert(&ca.leaf(hosts).bundle(name)).unwrap();
        }
        out
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(store: &Store, sni: Option<&str>) -> Vec<String> {
        store
            .index
            .load()
            .find(sni)
            .first()
            .map(|c| c.hosts.clone())
            .unwrap_or_default()
    }

    #[test]
    fn exact_goes_before_wildcard_before_default() {
        let catalog = catalog(&[
            ("wild", &["*.a.example"]),
            ("exact", &["www.a.example"]),
            ("other", &["b.example"]),
        ]);
        let store = Store::new(&names(&["wild", "exact", "other"]), "other", &catalog);
        for (sni, hosts) in [
            (Some("www.a.example"), "www.a.example"),
            (Some("x.a.example"), "*.a.example"),
            (Some("a.example"), "b.example"),
            (Some("x.y.a.example"), "b.example"),
            (Some("unknown"), "b.example"),
            (None, "b.example"),
        ] {
            assert_eq!(chosen(&store, sni), [hosts], "{sni:?}");
        }
        assert!(store.covers("X.A.example") && !store.covers("unknown"));
    }

    #[test]
    fn without_a_named_default_the_first_one_serves() {
        let catalog = catalog(&[("one", &["a"]), ("two", &["b"])]);
        let store = Store::new(&names(&["two", "one"]), "", &catalog);
        assert_eq!(chosen(&store, None), ["b"]);
        assert!(store.uses("one") && !store.uses("three"));
    }

    #[test]
    fn a_certificate_is_replaced_in_place() {
        let mut catalog = catalog(&[("one", &["a"]), ("two", &["b"])]);
        let store = Store::new(&names(&["one", "two"]), "", &catalog);
        let before = store.index.load().find(Some("b"))[0].info.fingerprint;
        let bundle = Ca::new("new").leaf(&["b", "c"]).bundle("two");
        let delta = bundle.delta(&Bundle::default()).unwrap();
        catalog.apply(&delta).unwrap();
        store.refresh(&catalog);
        assert_eq!(chosen(&store, Some("c")), ["b", "c"]);
        let after = store.index.load().find(Some("b"))[0].info.fingerprint;
        assert_ne!(before, after);
        assert_eq!(chosen(&store, Some("a")), ["a"]);
    }

    #[test]
    fn a_broken_delta_changes_nothing() {
        let mut catalog = catalog(&[("one", &["a"])]);
        let ca = Ca::new("r");
        let mut bundle = ca.leaf(&["b"]).bundle("one");
        bundle.pairs[0].key = ca.leaf(&["c"]).pair().key;
        let delta = bundle.delta(&Bundle::default()).unwrap();
        assert_eq!(catalog.apply(&delta), Err(Fault::KeyMismatch));
        assert_eq!(catalog.hosts("one").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn pairs_come_and_go_by_their_label() {
        let ca = Ca::new("r");
        let mut bundle = ca.leaf(&["a"]).bundle("dir");
        bundle.pairs[0].label = "a.pem".into();
        let mut second = ca.leaf(&["b"]).pair();
        second.label = "b.pem".into();
        bundle.pairs.push(second);
        let mut catalog = Catalog::new();
        catalog.insert(&bundle).unwrap();
        let mut smaller = bundle.clone();
        smaller.pairs.remove(0);
        catalog.apply(&smaller.delta(&bundle).unwrap()).unwrap();
        assert_eq!(catalog.hosts("dir").collect::<Vec<_>>(), ["b"]);
    }

    #[cfg(feature = "aws-lc")]
    #[test]
    fn among_twins_the_client_gets_what_it_can_verify() {
        let ca = Ca::new("r");
        let hosts = ["a.example"];
        let rsa = ca.wish(Wish {
            hosts: &hosts,
            algorithm: &rcgen::PKCS_RSA_SHA256,
            ..Wish::default()
        });
        let mut catalog = Catalog::new();
        catalog.insert(&rsa.bundle("rsa")).unwrap();
        catalog.insert(&ca.leaf(&hosts).bundle("ec")).unwrap();
        let store = Store::new(&names(&["rsa", "ec"]), "", &catalog);
        let index = store.index.load();
        let algorithm = |client: Client<'_>| {
            let key = client.choose(index.find(Some("a.example"))).unwrap();
            key.key.algorithm()
        };
        assert_eq!(algorithm(MODERN), SignatureAlgorithm::ECDSA);
        let rsa_only = Client {
            schemes: &[SignatureScheme::RSA_PSS_SHA256],
            suites: MODERN.suites,
        };
        assert_eq!(algorithm(rsa_only), SignatureAlgorithm::RSA);
        let old_suites = Client {
            schemes: MODERN.schemes,
            suites: &[CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        };
        assert_eq!(algorithm(old_suites), SignatureAlgorithm::RSA);
    }

    #[test]
    fn a_host_under_another_certificate_is_another_site() {
        let catalog = catalog(&[("one", &["a", "*.a"]), ("two", &["b"])]);
        let store = Store::new(&names(&["one", "two"]), "", &catalog);
        assert!(store.is_same_site("a", "A"));
        assert!(store.is_same_site("a", "x.a"));
        assert!(!store.is_same_site("a", "b"));
        assert!(store.is_same_site("a", "unknown"), "both get the default");
        assert!(!store.is_same_site("b", "unknown"));
    }

    #[test]
    fn nothing_is_chosen_from_nothing() {
        let store = Store::new(&[], "", &Catalog::new());
        assert!(MODERN.choose(store.index.load().find(Some("a"))).is_none());
    }
}
