//! Files that change, all the way from the master's look at them to a worker's next handshake.

use super::*;
use crate::net::tls::load::{self, Context as LoadContext};
use crate::net::tls::params::{CertificateParams, CertificateSource};
use crate::net::tls::testing::NOW;
use crate::net::tls::watch::{Fingerprints, Watcher};
use crate::net::tls::wire::{self, Update};

fn context() -> LoadContext<'static> {
    LoadContext {
        now: NOW,
        roots: &[],
        state_dir: None,
    }
}

#[test]
fn a_changed_file_reaches_the_next_handshake_and_a_broken_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    bench.leaf.write(dir.path(), "site");
    let params = CertificateParams {
        name: "site".into(),
        source: CertificateSource::Files {
            cert: dir.path().join("site.pem"),
            key: dir.path().join("site.key"),
        },
        hosts: Vec::new(),
    };
    let mut loaded = load::load(&params, None, context());
    let mut watcher = Watcher::new(Fingerprints::take(loaded.files.clone()));
    bench.catalog = Catalog::new();
    bench.catalog.insert(&loaded.bundle).unwrap();
    let server = bench.server();
    bench.open_on(&server);
    let mut look = |loaded: &load::Loaded| {
        let seen = || Fingerprints::take(loaded.files.clone());
        assert!(watcher.observe(seen()).is_empty(), "not settled yet");
        watcher.observe(seen())
    };

    // A good pair: one message, and the next client sees it.
    let second = Ca::new("second root");
    second.leaf(&["a.example"]).write(dir.path(), "site");
    assert_eq!(look(&loaded).len(), 2);
    let new = load::load(&params, Some(&loaded.bundle), context());
    let delta = new.bundle.delta(&loaded.bundle).unwrap();
    loaded = new;
    let message = wire::encode(&Update::Certificate(delta));
    let Ok(Update::Certificate(delta)) = wire::decode(&message) else {
        panic!("the message does not arrive");
    };
    bench.catalog.apply(&delta).unwrap();
    server.store().refresh(&bench.catalog);
    let (mut c, mut s) = bench.pair_on(&server, wire());
    assert!(
        shake(&mut c, &mut s).0.is_err(),
        "the old root is not enough"
    );
    bench.client_trust.ca = second.pem().into_bytes();
    bench.made = RefCell::default();
    bench.open_on(&server);

    // A broken one: a finding, and nothing to tell the workers.
    std::fs::write(dir.path().join("site.key"), "oops").unwrap();
    assert_eq!(look(&loaded).len(), 1);
    let broken = load::load(&params, Some(&loaded.bundle), context());
    assert!(broken.is_broken());
    assert_eq!(broken.bundle.delta(&loaded.bundle), None);
    bench.open_on(&server);
}
