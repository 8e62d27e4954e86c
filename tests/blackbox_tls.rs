//! TLS termination end to end with openssl, curl and rustls as clients: names, versions, tickets,
//! client certificates, files that change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use support::tls::{Authority, ClientSetup, Pair, der, peek, replace};
use support::{Client, PATIENCE, Proxyd, Setup, Upstream, client, eventually, ms, tool};

/// A folder with certificates, readable by every user.
struct Folder {
    dir: tempfile::TempDir,
    authority: Authority,
    setup: ClientSetup,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let authority = Authority::new();
        replace(&dir.path().join("ca.pem"), &authority.cert);
        let setup = ClientSetup::trusting(&authority.cert);
        Self {
            dir,
            authority,
            setup,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Issues and writes a pair, and returns its `[[certificate]]`.
    fn certificate(&self, name: &str, hosts: &[&str]) -> (Pair, String) {
        let pair = self.authority.issue(hosts);
        let (cert, key) = pair.write(self.dir.path(), name);
        let section = format!(
            "[[certificate]]\nname = \"{name}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            cert.display(),
            key.display()
        );
        (pair, section)
    }
}

/// A TLS listener `web` with keys for `tls` and for the listener, and a route to a server.
fn body(server: &Upstream, certificates: &str, tls: &str, more: &str) -> String {
    format!(
        "{certificates}[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n{more}\n\
         [[route]]\nname = \"all\"\nto = \"{}\"\n",
        server.addr()
    )
}

/// `openssl s_client` with a request; its output.
fn s_client(addr: SocketAddr, args: &[&str]) -> tool::Output {
    let mut command = std::process::Command::new("openssl");
    command
        .args([
            "s_client",
            "-connect",
            &addr.to_string(),
            "-servername",
            "a.test",
            "-ign_eof",
        ])
        .args(args);
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    tool::run_with(&mut command, request, PATIENCE)
}

#[test]
fn certificates_are_found_by_name_with_wildcards_and_a_default() {
    let folder = Folder::new();
    let (a, section_a) = folder.certificate("a", &["a.test"]);
    let (wild, section_wild) = folder.certificate("wild", &["*.a.test"]);
    let (other, section_other) = folder.certificate("other", &["other.test", "127.0.0.1"]);
    let server = Upstream::says("ok");
    let text = body(
        &server,
        &format!("{section_a}{section_wild}{section_other}"),
        "certificates = [\"a\", \"wild\", \"other\"], default = \"other\"",
        "",
    );
    let proxy = Proxyd::start(&text);
    let shown = |name: &str| peek(proxy.web(), name, &folder.setup);
    assert_eq!(shown("a.test").unwrap(), der(&a));
    assert_eq!(shown("x.a.test").unwrap(), der(&wild));
    assert_eq!(shown("other.test").unwrap(), der(&other));
    assert!(
        shown("x.y.a.test").is_err(),
        "a wildcard stands for one label"
    );
    assert_eq!(
        shown("127.0.0.1").unwrap(),
        der(&other),
        "without a name the default is shown"
    );
    let mut client = Client::tls(proxy.web(), "a.test", &folder.setup).unwrap();
    assert_eq!(client.get("a.test", "/").expect(200).text(), "ok");
    assert_eq!(client.get("a.test", "/").expect(200).text(), "ok");
    assert_eq!(server.last().fields.get("X-Forwarded-Proto"), Some("https"));
}

#[test]
fn a_host_that_needs_another_certificate_is_misdirected() {
    let folder = Folder::new();
    let (_, section_a) = folder.certificate("a", &["a.test"]);
    let (_, section_b) = folder.certificate("b", &["b.test"]);
    let server = Upstream::says("ok");
    let text = body(
        &server,
        &format!("{section_a}{section_b}"),
        "certificates = [\"a\", \"b\"]",
        "",
    );
    let proxy = Proxyd::start(&text);
    let mut client = Client::tls(proxy.web(), "a.test", &folder.setup).unwrap();
    client.get("b.test", "/").expect(421);
}

#[test]
fn versions_are_bounded() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(
        &server,
        &section,
        "certificates = [\"a\"], min_version = \"1.3\"",
        "",
    ));
    let new = s_client(proxy.web(), &["-tls1_3"]);
    assert!(
        new.out.contains("200 OK") && new.out.contains("TLSv1.3"),
        "{}{}",
        new.out,
        new.err
    );
    let old = s_client(proxy.web(), &["-tls1_2"]);
    assert!(!old.out.contains("200 OK"), "{}", old.out);
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let old = s_client(proxy.web(), &["-tls1_2"]);
    assert!(old.out.contains("200 OK"), "{}{}", old.out, old.err);
    let ancient = s_client(proxy.web(), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(!ancient.out.contains("200 OK"), "{}", ancient.out);
}

#[test]
fn alpn_offers_http_1_1() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let output = s_client(proxy.web(), &["-alpn", "h2,http/1.1"]);
    assert!(
        output.out.contains("ALPN protocol: http/1.1"),
        "{}",
        output.out
    );
}

#[test]
fn curl_verifies_the_chain() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("over tls");
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let addr = proxy.web();
    let resolve = format!("a.test:{}:127.0.0.1", addr.port());
    let url = format!("https://a.test:{}/", addr.port());
    let ca = folder.file("ca.pem");
    let args = [
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &resolve,
        &url,
    ];
    assert_eq!(tool::curl(&args).success().out, "over tls");
}

/// Whether a session saved by openssl is resumed. A client that also offers a newer version than
/// that of its session gets the newer one and a new session.
fn resumes(addr: SocketAddr, version: &str, session: &str) -> bool {
    let output = s_client(addr, &[version, "-sess_in", session]);
    assert!(
        output.out.contains("200 OK"),
        "{}{}",
        output.out,
        output.err
    );
    output.out.contains("Reused, TLS")
}

#[test]
fn tickets_are_valid_on_every_worker_and_across_reloads() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let text = body(&server, &section, "certificates = [\"a\"]", "");
    let proxy = Setup::new().worker("count = 4").start(&text);
    let session = proxy.file("session");
    let session = session.to_str().unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        let first = s_client(proxy.web(), &[version, "-sess_out", session]);
        assert!(first.out.contains("200 OK"), "{}{}", first.out, first.err);
        for _ in 0..8 {
            assert!(
                resumes(proxy.web(), version, session),
                "{version}: a worker does not know the ticket"
            );
        }
        proxy.reload();
        for _ in 0..4 {
            assert!(
                resumes(proxy.web(), version, session),
                "{version}: the reload forgot the ticket"
            );
        }
    }
    eventually("resumptions are counted", PATIENCE, || {
        let count = proxy.metrics().sum(
            "proxyd_listener_tls_handshakes_total",
            &["result=\"resumed\""],
        );
        (count >= 20.0).then_some(())
    });
}

#[test]
fn a_replaced_certificate_is_served_without_reload_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let (old, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let mut held = Client::tls(proxy.web(), "a.test", &folder.setup).unwrap();
    assert_eq!(
        peek(proxy.web(), "a.test", &folder.setup).unwrap(),
        der(&old)
    );
    // a broken pair keeps the old one
    replace(
        &folder.file("a.pem"),
        "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
    );
    eventually("the failure is told", PATIENCE * 4, || {
        let failures = proxy
            .metrics()
            .sum("proxyd_certificate_reload_failures_total", &[]);
        (failures >= 1.0).then_some(())
    });
    assert_eq!(
        peek(proxy.web(), "a.test", &folder.setup).unwrap(),
        der(&old)
    );
    let (new, _) = folder.certificate("a", &["a.test"]);
    assert_ne!(der(&new), der(&old));
    eventually("the new certificate is served", PATIENCE * 4, || {
        (peek(proxy.web(), "a.test", &folder.setup).unwrap() == der(&new)).then_some(())
    });
    held.get("a.test", "/").expect(200);
    assert_eq!(
        proxy.log_count("ready: generation 2") + proxy.log_count("generation 2 is live"),
        0
    );
}

#[test]
fn a_folder_of_certificates_is_indexed() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file("many")).unwrap();
    std::fs::set_permissions(
        folder.file("many"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut pairs = Vec::new();
    for n in 0..5 {
        let pair = folder.authority.issue(&[&format!("n{n}.test")]);
        pair.write(&folder.file("many"), &format!("n{n}"));
        pairs.push(pair);
    }
    let section = format!(
        "[[certificate]]\nname = \"many\"\ndir = \"{}\"\n",
        folder.file("many").display()
    );
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"many\"]", ""));
    for (n, pair) in pairs.iter().enumerate() {
        assert_eq!(
            peek(proxy.web(), &format!("n{n}.test"), &folder.setup).unwrap(),
            der(pair)
        );
    }
}

#[test]
fn a_self_signed_certificate_is_made_and_kept_over_reloads() {
    let server = Upstream::says("ok");
    let section = "[[certificate]]\nname = \"lab\"\nself_signed = { hosts = [\"a.test\"], valid = \"30d\" }\n";
    let proxy = Proxyd::start(&body(&server, section, "certificates = [\"lab\"]", ""));
    let fingerprint = |addr: SocketAddr| {
        let script = format!(
            "openssl s_client -connect {addr} -servername a.test </dev/null 2>/dev/null | openssl x509 -noout -fingerprint"
        );
        tool::run("sh", &["-c", &script], PATIENCE).success().out
    };
    let before = fingerprint(proxy.web());
    assert!(before.contains("Fingerprint="), "{before}");
    proxy.reload();
    assert_eq!(fingerprint(proxy.web()), before);
}

fn client_auth(folder: &Folder, mode: &str, more: &str) -> String {
    format!(
        "client_certificate_headers = true\n[listener.tls_client_auth]\nmode = \"{mode}\"\nca = \"{}\"\n{more}\n",
        folder.file("ca.pem").display()
    )
}

#[test]
fn client_certificates_are_asked_for_and_handed_on() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let person = folder.authority.issue_with(&["person.test"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let known = ClientSetup::with_certificate(&folder.authority.cert, &person);
    let required = Proxyd::start(&body(
        &server,
        &section,
        "certificates = [\"a\"]",
        &client_auth(&folder, "required", ""),
    ));
    let refused = Client::tls(required.web(), "a.test", &folder.setup)
        .and_then(|mut c| c.try_get("a.test", "/"));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(server.count(), 0);
    let mut client = Client::tls(required.web(), "a.test", &known).unwrap();
    let forged = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Client-Cert-Subject: CN=root\r\n\r\n";
    client.send(forged).response().expect(200);
    let seen = server.last();
    let subject = seen.fields.all("X-Client-Cert-Subject");
    assert!(
        subject.len() == 1 && subject[0].contains("person.test"),
        "{subject:?}"
    );
    let stranger = Authority::new().issue(&["stranger.test"]);
    let unknown = ClientSetup::with_certificate(&folder.authority.cert, &stranger);
    let refused =
        Client::tls(required.web(), "a.test", &unknown).and_then(|mut c| c.try_get("a.test", "/"));
    assert!(refused.is_err(), "{refused:?}");
    drop(required);
    let optional = Proxyd::start(&body(
        &server,
        &section,
        "certificates = [\"a\"]",
        &client_auth(&folder, "optional", ""),
    ));
    let mut client = Client::tls(optional.web(), "a.test", &folder.setup).unwrap();
    client.send(forged).response().expect(200);
    assert!(
        !server.last().fields.has("X-Client-Cert-Subject"),
        "nobody vouches for it"
    );
    let mut client = Client::tls(optional.web(), "a.test", &known).unwrap();
    client.get("a.test", "/").expect(200);
    assert!(server.last().fields.has("X-Client-Cert-Subject"));
}

#[test]
fn handshakes_have_a_deadline_and_failures_a_reason() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(
        &server,
        &section,
        "certificates = [\"a\"]",
        "timeouts = { tls = \"500ms\" }",
    ));
    let mut client = proxy.client();
    client.send(b"\x16\x03\x01");
    let start = std::time::Instant::now();
    let _ = client.read_to_end();
    assert!(
        (ms(300)..ms(5000)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    let mut plain = proxy.client();
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let bytes = plain.read_to_end().unwrap_or_default();
    assert!(!bytes.starts_with(b"HTTP/1.1 200"));
    eventually("both are counted", PATIENCE, || {
        let failed = proxy.metrics().sum(
            "proxyd_listener_tls_handshakes_total",
            &["result=\"failed\""],
        ) + proxy.metrics().sum(
            "proxyd_listener_tls_handshakes_total",
            &["result=\"timeout\""],
        );
        (failed >= 2.0).then_some(())
    });
}

#[test]
fn large_bodies_pass_both_ways_over_tls() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::echo();
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let mut client = Client::tls(proxy.web(), "a.test", &folder.setup).unwrap();
    let data: Vec<u8> = (0..1_500_000_u32).map(|i| (i % 249) as u8).collect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
        data.len()
    );
    let mut message = head.into_bytes();
    message.extend_from_slice(&data);
    client.send(message);
    assert!(client.response().expect(200).body == data);
}

#[test]
fn certificates_show_their_expiry() {
    let folder = Folder::new();
    let (_, section) = folder.certificate("a", &["a.test"]);
    let server = Upstream::says("ok");
    let proxy = Proxyd::start(&body(&server, &section, "certificates = [\"a\"]", ""));
    let expiry = proxy.metrics().sum(
        "proxyd_certificate_expiry_timestamp_seconds",
        &["certificate=\"a\""],
    );
    assert!(expiry > 1_700_000_000.0, "{expiry}");
    client::get(proxy.addr("metrics"), "localhost", "/metrics").expect(200);
}
