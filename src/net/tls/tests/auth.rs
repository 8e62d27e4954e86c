//! Certificates of clients.

use super::*;
use ClientAuthMode::{Optional, Required};

const SERIAL: u64 = 77;

#[test]
fn a_required_certificate_must_come() {
    let bench = Bench::new().with_client_auth(Required, Vec::new());
    let (client, server) = bench.failures();
    assert_eq!(server.alert_sent.as_deref(), Some("certificate_required"));
    assert_eq!(server.detail, "the peer sent no certificate");
    assert_eq!(client.alert_received, server.alert_sent);
}

#[test]
fn subject_names_and_fingerprint_are_handed_on() {
    for mode in [Optional, Required] {
        let bench = Bench::new()
            .with_client_auth(mode, Vec::new())
            .with_client_certificate(SERIAL);
        let (_, server) = bench.open();
        let peer = server.tls_facts().unwrap().peer.as_ref().unwrap();
        assert_eq!(peer.subject, "CN=client-7");
        assert_eq!(peer.names, ["DNS:client-7"]);
        assert_eq!(peer.serial, "4d");
        assert_eq!(peer.fingerprint.len(), 64);
    }
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let mut bench = Bench::new().with_client_auth(Optional, Vec::new());
    let (_, server) = bench.open();
    assert_eq!(server.tls_facts().unwrap().peer, None);
    let stranger = Ca::new("stranger").leaf(&["client-7"]);
    bench.catalog.insert(&stranger.bundle("me")).unwrap();
    bench.client.client_certificate = Some("me".into());
    bench.made = RefCell::default();
    assert_eq!(bench.failures().1.alert_sent.as_deref(), Some("unknown_ca"));
}

#[test]
fn without_client_authentication_none_is_asked_for() {
    let (_, server) = Bench::new().with_client_certificate(SERIAL).open();
    assert_eq!(server.tls_facts().unwrap().peer, None);
}

#[test]
fn a_revoked_certificate_is_refused() {
    let bench = Bench::new();
    let good = bench.ca.crl(&[SERIAL + 1]).into_bytes();
    let bench = bench
        .with_client_auth(Required, vec![good])
        .with_client_certificate(SERIAL);
    bench.open();
    let revoked = bench.ca.crl(&[SERIAL]).into_bytes();
    let bench = bench.with_client_auth(Required, vec![revoked]);
    let (_, server) = bench.failures();
    assert_eq!(server.alert_sent.as_deref(), Some("certificate_revoked"));
}

#[test]
fn a_new_list_counts_from_the_next_handshake_on_and_for_old_tickets_too() {
    let bench = Bench::new()
        .with_tickets()
        .with_client_auth(Required, Vec::new())
        .with_client_certificate(SERIAL);
    let server = bench.server();
    for resumed in [false, true] {
        let (mut c, mut s) = bench.open_on(&server);
        assert_eq!(s.tls_facts().unwrap().resumed, resumed);
        assert!(s.tls_facts().unwrap().peer.is_some());
        exchange(&mut c, &mut s);
    }
    let trust = Trust {
        ca: bench.ca.pem().into_bytes(),
        crls: vec![bench.ca.crl(&[SERIAL]).into_bytes()],
    };
    server.set_trust(&trust).unwrap();
    let (mut c, mut s) = bench.pair_on(&server, wire());
    let (_, outcome) = shake(&mut c, &mut s);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.alert_sent.as_deref(), Some("certificate_revoked"));
}

#[test]
fn a_broken_list_leaves_the_old_trust() {
    let bench = Bench::new()
        .with_client_auth(Required, Vec::new())
        .with_client_certificate(SERIAL);
    let server = bench.server();
    for (ca, crls) in [
        (b"junk".to_vec(), Vec::new()),
        (bench.ca.pem().into_bytes(), vec![b"junk".to_vec()]),
        (bench.ca.pem().into_bytes(), vec![vec![0x30, 0]]),
    ] {
        assert!(server.set_trust(&Trust { ca, crls }).is_err());
        bench.open_on(&server);
    }
}

#[test]
fn a_server_can_be_revoked_too() {
    let mut bench = Bench::new();
    bench.open();
    let list = bench.ca.crl(&[bench.leaf.serial]).into_bytes();
    bench.client_trust.crls = vec![list];
    bench.made = RefCell::default();
    let (client, _) = bench.failures();
    assert_eq!(client.alert_sent.as_deref(), Some("certificate_revoked"));
}
