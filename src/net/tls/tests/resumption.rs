//! Sessions that go on where another ended: on other workers, and where they must not.

use super::*;

/// Opens a session on `server`, lets the tickets through, and tells whether it was resumed.
fn visit(bench: &Bench, server: &Server) -> bool {
    let (mut client, mut server) = bench.open_on(server);
    assert_eq!(exchange(&mut client, &mut server), b"response");
    let resumed = server.tls_facts().unwrap().resumed;
    assert_eq!(client.tls_facts().unwrap().resumed, resumed);
    resumed
}

#[test]
fn a_session_of_one_worker_is_resumed_by_another() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut bench = Bench::new().with_tickets();
        bench.server.max_version = version;
        let (one, other) = (bench.server(), bench.server());
        assert!(!visit(&bench, &one));
        assert!(visit(&bench, &other), "{version:?}");
        assert!(visit(&bench, &one));
    }
}

#[test]
fn a_ticket_outlives_one_rotation_but_not_two() {
    let bench = Bench::new().with_tickets();
    let server = bench.server();
    let words = bench.words.unwrap();
    assert!(!visit(&bench, &server));
    rotate(words);
    assert!(visit(&bench, &server));
    let bench = Bench::new().with_tickets();
    let (server, words) = (bench.server(), bench.words.unwrap());
    assert!(!visit(&bench, &server));
    rotate(words);
    rotate(words);
    assert!(!visit(&bench, &server));
}

#[test]
fn a_session_does_not_cross_listeners() {
    let mut bench = Bench::new().with_tickets();
    assert!(!visit(&bench, &bench.server()));
    bench.listener = "other";
    assert!(!visit(&bench, &bench.server()));
}

#[test]
fn a_session_does_not_lead_to_client_authentication() {
    let bench = Bench::new().with_tickets();
    assert!(!visit(&bench, &bench.server()));
    let bench = bench.with_client_auth(ClientAuthMode::Optional, Vec::new());
    assert!(!visit(&bench, &bench.server()));
}

#[test]
fn without_keys_every_handshake_is_a_full_one() {
    let bench = Bench::new();
    let server = bench.server();
    assert!(!visit(&bench, &server));
    assert!(!visit(&bench, &server));
}

#[test]
fn each_upstream_server_has_sessions_of_its_own() {
    let mut bench = Bench::new().with_tickets();
    let server = bench.server();
    assert!(!visit(&bench, &server));
    let first = std::mem::take(&mut bench.sessions);
    assert!(!visit(&bench, &server));
    bench.sessions = first;
    assert!(visit(&bench, &server));
}

#[test]
fn a_changed_upstream_configuration_forgets_its_sessions() {
    let bench = Bench::new().with_tickets();
    let server = bench.server();
    assert!(!visit(&bench, &server));
    let setup = client::Setup {
        params: &bench.client,
        roots: &SystemRoots::none(),
        trust: Some(&bench.client_trust),
        catalog: &bench.catalog,
    };
    bench.client().refresh(setup).unwrap();
    assert!(!visit(&bench, &server));
    assert!(visit(&bench, &server));
}

#[test]
fn both_tickets_leave_with_the_first_response() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.open();
    let before = server.inner().writes;
    assert_eq!(exchange(&mut client, &mut server), b"response");
    assert_eq!(server.inner().writes - before, 1);
    assert!(visit(&bench, &bench.server()), "the client has the tickets");
}

#[test]
fn tickets_leave_when_the_server_has_to_wait_for_the_client() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.open();
    assert!(read(&mut server, 100).is_pending());
    assert!(read(&mut client, 100).is_pending());
    assert!(visit(&bench, &bench.server()), "the client has the tickets");
}

#[test]
fn tickets_that_wait_for_a_response_leave_with_the_end_of_the_session() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.open();
    assert!(write(&mut client, b"request").is_ready());
    assert_eq!(read_all(&mut server), b"request");
    assert!(server.buffered() > 0);
    assert!(shutdown(&mut server).is_ready());
    assert!(read(&mut client, 100).is_ready());
    assert!(visit(&bench, &bench.server()), "the client has the tickets");
}

#[test]
fn a_ticket_does_not_make_an_idle_connection_stale() {
    let bench = Bench::new().with_tickets();
    let (mut client, mut server) = bench.open();
    assert!(!client.is_stale());
    assert!(read(&mut server, 100).is_pending());
    assert!(!client.is_stale(), "only tickets came");
    assert!(write(&mut server, b"unasked").is_ready());
    assert!(client.is_stale());
    let (mut client, mut server) = bench.open();
    assert!(shutdown(&mut server).is_ready());
    assert!(client.is_stale());
}
