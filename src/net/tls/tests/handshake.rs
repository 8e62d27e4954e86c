//! How sessions begin, and why they do not.

use super::*;
use crate::base::reason::Reason;
use crate::net::tls::crypto;

#[test]
fn both_sides_know_the_facts() {
    let bench = Bench::new();
    let (client, server) = bench.open();
    let facts = server.tls_facts().unwrap();
    assert_eq!(facts.version, "TLSv1.3");
    assert!(facts.cipher.starts_with("TLS13_AES_"), "{}", facts.cipher);
    assert_eq!(facts.sni.as_deref(), Some("a.example"));
    assert_eq!(facts.alpn.as_deref(), Some("http/1.1"));
    assert!(!facts.resumed);
    assert_eq!(facts.peer, None);
    let facts = client.tls_facts().unwrap();
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.sni, None);
    assert_eq!(client.raw_fd(), None);
}

#[cfg(feature = "aws-lc")]
#[test]
fn the_hybrid_key_exchange_is_used() {
    let (client, server) = Bench::new().open();
    assert_eq!(server.tls_facts().unwrap().group, "X25519MLKEM768");
    assert_eq!(client.tls_facts().unwrap().group, "X25519MLKEM768");
}

#[test]
fn version_limits_are_kept() {
    let mut bench = Bench::new();
    bench.server.max_version = TlsVersion::V12;
    let (mut client, mut server) = bench.open();
    assert_eq!(server.tls_facts().unwrap().version, "TLSv1.2");
    assert_eq!(exchange(&mut client, &mut server), b"response");
    bench.client.min_version = TlsVersion::V13;
    bench.made = RefCell::default();
    let (client, server) = bench.failures();
    assert_eq!(server.reason, Reason::TlsFailed);
    assert_eq!(server.alert_sent.as_deref(), Some("protocol_version"));
    assert_eq!(client.reason, Reason::UpstreamTls);
    assert_eq!(client.alert_received.as_deref(), Some("protocol_version"));
}

#[test]
fn a_handshake_in_single_bytes_works() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut bench = Bench::new().with_tickets();
        bench.server.max_version = version;
        let (mut a, mut b) = wire();
        (a.chunk, b.chunk) = (1, 1);
        let (mut client, mut server) = bench.pair_on(&bench.server(), (a, b));
        assert_eq!(shake(&mut client, &mut server), (Ok(()), Ok(())));
        assert_eq!(exchange(&mut client, &mut server), b"response");
    }
}

#[test]
fn a_handshake_cut_at_every_byte_fails_and_never_panics() {
    let bench = Bench::new();
    let mut cut = 0;
    loop {
        let (a, b) = wire();
        let to_server = Rc::clone(&b.from);
        let (mut client, mut server) = bench.pair_on(&bench.server(), (a, b));
        drop(client.poll_handshake(&mut cx()));
        let total = to_server.borrow().bytes.len();
        if cut >= total {
            break;
        }
        to_server.borrow_mut().bytes.truncate(cut);
        to_server.borrow_mut().is_closed = true;
        let Poll::Ready(Err(failure)) = server.poll_handshake(&mut cx()) else {
            panic!("no failure at {cut}");
        };
        assert_eq!(failure.detail, "the peer left during the handshake");
        cut += 7;
    }
    assert!(cut > 200);
}

#[test]
fn whoever_does_not_speak_tls_is_refused() {
    let (mut a, b) = wire();
    let mut server = Bench::new().server().accept(b).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert!(Pin::new(&mut a).poll_write(&mut cx(), request).is_ready());
    let Poll::Ready(Err(failure)) = server.poll_handshake(&mut cx()) else {
        panic!("no failure");
    };
    assert_eq!(failure.detail, "the peer does not speak TLS");
    assert_eq!(failure.reason, Reason::TlsFailed);
    let again = server.poll_handshake(&mut cx());
    assert_eq!(again, Poll::Ready(Err(failure)));
    assert_eq!(kind(read(&mut server, 10)), io::ErrorKind::InvalidData);
    assert_eq!(kind(write(&mut server, b"x")), io::ErrorKind::InvalidData);
}

#[test]
fn the_certificate_follows_the_name() {
    let mut bench = Bench::new();
    let other = bench.ca.leaf(&["*.b.example"]);
    bench.catalog.insert(&other.bundle("other")).unwrap();
    bench.server.certificates.push("other".into());
    // A client that verifies the name is content only with the right certificate.
    for (host, fits) in [
        ("a.example", true),
        ("x.b.example", true),
        ("127.0.0.1", true),
        ("b.example", false),
        ("x.y.b.example", false),
    ] {
        bench.host = host;
        let (mut c, mut s) = bench.pair();
        let (client, server) = shake(&mut c, &mut s);
        assert_eq!(client.is_ok(), fits, "{host}");
        assert_eq!(server.is_ok(), fits, "{host}");
        let sni = (host != "127.0.0.1").then_some(host);
        if fits {
            assert_eq!(s.tls_facts().unwrap().sni.as_deref(), sni);
        }
    }
}

#[test]
fn a_refused_certificate_tells_both_sides_why() {
    let mut bench = Bench::new();
    bench.host = "wrong.example";
    let (client, server) = bench.failures();
    assert_eq!(client.alert_sent.as_deref(), Some("bad_certificate"));
    assert!(client.detail.contains("certificate"), "{}", client.detail);
    assert_eq!(server.alert_received.as_deref(), Some("bad_certificate"));
    bench.client_trust.ca = Ca::new("stranger").pem().into_bytes();
    bench.made = RefCell::default();
    assert_eq!(bench.failures().0.alert_sent.as_deref(), Some("unknown_ca"));
}

#[test]
fn no_common_protocol_is_an_alert() {
    let mut bench = Bench::new();
    bench.client.alpn = vec!["imap".into()];
    let (client, server) = bench.failures();
    assert_eq!(
        server.alert_sent.as_deref(),
        Some("no_application_protocol")
    );
    assert_eq!(client.alert_received, server.alert_sent);
}

#[test]
fn each_way_of_verifying_keeps_its_promise() {
    let mut bench = Bench::new();
    let der = crate::net::tls::cert::certificates(bench.leaf.chain.as_bytes()).unwrap();
    let pin = crate::net::tls::pin_of(&der[0]).unwrap();
    let own = bench.ca.pem().into_bytes();
    let foreign = Ca::new("stranger").pem().into_bytes();
    for (verify, host, ca, fits) in [
        (Verify::Full, "a.example", &own, true),
        (Verify::Full, "b.example", &own, false),
        (Verify::Full, "a.example", &foreign, false),
        (Verify::Ca, "b.example", &own, true),
        (Verify::Ca, "a.example", &foreign, false),
        (Verify::Pin(pin), "b.example", &foreign, true),
        (Verify::Pin([7; 32]), "a.example", &own, false),
        (Verify::Off, "b.example", &foreign, true),
    ] {
        let what = format!("{verify:?} {host}");
        bench.client.verify = verify;
        bench.host = host;
        bench.client_trust.ca.clone_from(ca);
        bench.made = RefCell::default();
        let (mut c, mut s) = bench.pair();
        assert_eq!(shake(&mut c, &mut s).0.is_ok(), fits, "{what}");
    }
}

#[test]
fn a_pin_is_that_of_the_public_key() {
    // As `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum` tells it.
    let chain = include_bytes!("../testdata/weak-rsa1024-sha1.pem");
    let der = crate::net::tls::cert::certificates(chain).unwrap();
    let pin = crate::net::tls::pin_of(&der[0]).unwrap();
    let expected = include_str!("../testdata/weak-rsa1024-sha1.pin");
    assert_eq!(crypto::hex(&pin), expected.trim());
}

#[test]
fn a_configured_name_goes_before_that_of_the_server() {
    let mut bench = Bench::new();
    bench.host = "10.1.2.3";
    bench.client.sni = Some("a.example".into());
    let (_, server) = bench.open();
    assert_eq!(
        server.tls_facts().unwrap().sni.as_deref(),
        Some("a.example")
    );
    bench.client.sni = Some("not a name".into());
    let setup = client::Setup {
        params: &bench.client,
        roots: &SystemRoots::none(),
        trust: Some(&bench.client_trust),
        catalog: &bench.catalog,
    };
    assert!(Client::new(setup).is_err());
}

#[test]
fn an_upstream_without_roots_or_certificate_cannot_be_set_up() {
    let bench = Bench::new();
    let params = ClientParams {
        client_certificate: Some("none".into()),
        ..bench.client.clone()
    };
    let setup = |params, trust| client::Setup {
        params,
        roots: Box::leak(Box::new(SystemRoots::none())),
        trust,
        catalog: &bench.catalog,
    };
    use crate::net::tls::cert::Fault;
    let no_roots = Client::new(setup(&bench.client, None));
    assert_eq!(no_roots.unwrap_err(), Fault::NoRoots);
    let no_own = Client::new(setup(&params, Some(&bench.client_trust)));
    assert_eq!(no_own.unwrap_err(), Fault::NoSuchCertificate("none".into()));
}

#[test]
fn a_replaced_certificate_serves_new_handshakes_and_leaves_open_ones_alone() {
    let mut bench = Bench::new();
    let server = bench.server();
    let (mut client, mut old) = bench.open_on(&server);
    let other_ca = Ca::new("second root");
    bench
        .catalog
        .insert(&other_ca.leaf(&["a.example"]).bundle("site"))
        .unwrap();
    server_refresh(&server, &bench);
    assert_eq!(exchange(&mut client, &mut old), b"response");
    // The client does not know the new authority, which shows that it is in use.
    let (mut c, mut s) = bench.pair_on(&server, wire());
    assert!(shake(&mut c, &mut s).0.is_err());
    bench.client_trust.ca = other_ca.pem().into_bytes();
    bench.made = RefCell::default();
    bench.open_on(&server);
}

fn server_refresh(server: &Server, bench: &Bench) {
    assert!(server.store().uses("site"));
    server.store().refresh(&bench.catalog);
}

#[test]
fn a_listener_without_any_certificate_refuses_cleanly() {
    let mut bench = Bench::new();
    bench.server.certificates = vec!["unknown".into()];
    let (_, server) = bench.failures();
    assert_eq!(server.alert_sent.as_deref(), Some("access_denied"));
}

#[test]
fn a_later_authority_of_an_upstream_survives_a_change_of_certificates() {
    let bench = Bench::new();
    let client = bench.client();
    let roots = SystemRoots::none();
    let setup = client::Setup {
        params: &bench.client,
        roots: &roots,
        trust: Some(&bench.client_trust),
        catalog: &bench.catalog,
    };
    let stranger = Trust {
        ca: Ca::new("stranger").pem().into_bytes(),
        crls: Vec::new(),
    };
    client.set_trust(setup, stranger).unwrap();
    client.refresh(setup).unwrap();
    let (mut c, mut s) = bench.pair();
    let refused = shake(&mut c, &mut s).0.unwrap_err();
    assert_eq!(refused.alert_sent.as_deref(), Some("unknown_ca"));
    let broken = Trust {
        ca: b"junk".to_vec(),
        crls: Vec::new(),
    };
    assert!(client.set_trust(setup, broken).is_err());
    client.set_trust(setup, bench.client_trust.clone()).unwrap();
    bench.open();
}
