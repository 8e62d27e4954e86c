//! Findings that need files, users or servers of this host.

use std::path::Path;

use proxyd::conf::{self, Loaded, Options};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

const HERE: Options = Options {
    host: true,
    ports: true,
    probe: false,
};

/// Loads `proxyd.toml` of a folder.
fn load(folder: &Path, text: &str, options: Options) -> Loaded {
    let path = folder.join("proxyd.toml");
    std::fs::write(&path, text).unwrap();
    conf::load_with(&path, options)
}

/// Codes and messages, without the name of the folder.
fn found(folder: &Path, loaded: &Loaded) -> Vec<(String, String)> {
    let dir = format!("{}/", folder.display());
    loaded
        .findings
        .iter()
        // The limits and users of the machine that runs the tests are their own.
        .filter(|f| !["W0603", "W0804"].contains(&f.code.as_str()))
        .map(|f| (f.code.as_str().to_owned(), f.message.replace(&dir, "")))
        .collect()
}

#[track_caller]
fn only(folder: &Path, text: &str, code: &str, message: &str) {
    let loaded = load(folder, text, HERE);
    assert_eq!(
        found(folder, &loaded),
        [(code.to_owned(), message.to_owned())],
        "{text}"
    );
}

/// Writes a certificate with its key: `NAME.pem`, `NAME.key`.
fn certificate(folder: &Path, name: &str, hosts: &[&str], until: (i32, u8, u8)) {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join(format!("{name}.pem")), pem).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

const FAR: (i32, u8, u8) = (2999, 1, 1);

/// A TLS listener with a certificate of these files.
fn site(cert: &str, key: &str, host: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:18443\"\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n[[route]]\nhost = \"{host}\"\nrespond = 204\n"
    )
}

#[test]
fn files_of_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificate(dir, "a", &["a.org", "*.a.org"], FAR);
    certificate(dir, "b", &["b.org"], FAR);
    certificate(dir, "old", &["a.org"], (2021, 1, 1));
    std::fs::write(dir.join("text.pem"), "hello").unwrap();
    let good = load(dir, &site("a.pem", "a.key", "www.a.org"), HERE);
    assert_eq!(found(dir, &good), []);
    only(
        dir,
        &site("none.pem", "a.key", "a.org"),
        "E0501",
        "certificate `web`: the file does not exist (none.pem)",
    );
    only(
        dir,
        &site("text.pem", "a.key", "a.org"),
        "E0502",
        "certificate `web`: the file is not PEM (text.pem)",
    );
    only(
        dir,
        &site("a.pem", "b.key", "a.org"),
        "E0503",
        "certificate `web`: the key does not match the certificate (b.key)",
    );
    only(
        dir,
        &site("a.pem", "a.key", "b.org"),
        "W0404",
        "no certificate of listener `web` is for this host",
    );
    let loaded = load(dir, &site("old.pem", "old.key", "a.org"), HERE);
    assert_eq!(loaded.findings[0].code.as_str(), "E0506");
    std::fs::create_dir(dir.join("empty")).unwrap();
    let text = site("a.pem", "a.key", "a.org").replace(
        "tls = { cert = \"a.pem\", key = \"a.key\" }",
        "tls = { certificates = \"bulk\" }",
    );
    let text = format!("{text}[[certificate]]\nname = \"bulk\"\ndir = \"empty\"\n");
    let loaded = load(dir, &text, HERE);
    assert_eq!(loaded.findings[0].code.as_str(), "E0512");
}

#[test]
fn a_certificate_that_expires_soon_names_the_day() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5 * 86_400 + 60);
    let mut params = CertificateParams::new(["a.org".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = soon.into();
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    std::fs::write(dir.join("a.pem"), pem).unwrap();
    let loaded = load(dir, &site("a.pem", "a.pem", "a.org"), HERE);
    let finding = &loaded.findings[0];
    assert_eq!(finding.code.as_str(), "W0505");
    assert!(
        finding
            .message
            .starts_with("certificate `web` expires in 5 days (2"),
        "{}",
        finding.message
    );
    assert_eq!(finding.label.as_deref(), Some("covers a.org"));
    assert!(loaded.model.is_some());
}

#[test]
fn client_authorities_and_ticket_keys() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificate(dir, "a", &["a.org"], FAR);
    std::fs::write(dir.join("short.key"), "x").unwrap();
    let listener = site("a.pem", "a.key", "a.org");
    let with = |keys: &str| listener.replace("[[route]]", &format!("{keys}\n[[route]]"));
    only(
        dir,
        &with("tls_client_auth = { mode = \"required\", ca = \"none.pem\" }"),
        "E0501",
        "none.pem: the file does not exist",
    );
    only(
        dir,
        &with("session_tickets = { key_file = \"short.key\" }"),
        "E0502",
        "short.key: the file has less than 32 bytes",
    );
    let loaded = load(
        dir,
        &with("session_tickets = { key_file = { credential = \"tickets\" } }"),
        HERE,
    );
    assert_eq!(loaded.findings[0].code.as_str(), "E0117");
}

const GOOD: &str = "[[listener]]\nbind = \"127.0.0.1:18080\"\n[[route]]\nrespond = 204\n";

#[test]
fn folders_users_and_addresses_of_this_host() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    only(
        dir,
        &format!("[master]\npid_file = \"no/such/proxyd.pid\"\n{GOOD}"),
        "E0802",
        "cannot write no/such/proxyd.pid: folder no/such does not exist",
    );
    only(
        dir,
        &format!("[log]\noutput = \"{}\"\n{GOOD}", dir.display()),
        "E0802",
        &format!("cannot write {}: it is a folder", dir.display()),
    );
    only(
        dir,
        &GOOD.replace("127.0.0.1", "192.0.2.77"),
        "W0308",
        "no interface of this host has the address 192.0.2.77",
    );
    let loaded = load(
        dir,
        &format!("[master]\nuser = \"no-such-user\"\n{GOOD}"),
        HERE,
    );
    let code = loaded.findings[0].code.as_str();
    // As an ordinary user the setting has no effect, so it is not looked up.
    assert!(["E0801", "W0803"].contains(&code), "{code}");
}

#[test]
fn low_ports_need_a_right() {
    let dir = tempfile::tempdir().unwrap();
    let text = GOOD.replace(":18080", ":81");
    let loaded = load(dir.path(), &text, HERE);
    let found = found(dir.path(), &loaded);
    let allowed = nix_is_root() || found.is_empty();
    assert!(allowed || found[0].0 == "E0307", "{found:?}");
}

fn nix_is_root() -> bool {
    proxyd::sys::privilege::is_root()
}

#[test]
fn a_worker_needs_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[worker]\nopen_files = 1000\nmax_connections = 1000\n{GOOD}");
    let loaded = load(dir.path(), &text, HERE);
    let finding = loaded
        .findings
        .iter()
        .find(|f| f.code.as_str() == "W0603")
        .unwrap();
    assert_eq!(
        finding.message,
        "a worker needs 2064 file descriptors at full load, its limit is 1000"
    );
}

#[test]
fn a_port_that_another_program_holds_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let text = GOOD.replace("127.0.0.1:18080", &address);
    let loaded = load(dir.path(), &text, HERE);
    let codes: Vec<&str> = loaded.findings.iter().map(|f| f.code.as_str()).collect();
    // The test program itself holds it.
    assert!(codes.contains(&"W0804"), "{codes:?}");
}

#[test]
fn probing_says_which_server_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:18080\"\n[[route]]\nto = [\"{address}\", \"unix:/no/such.sock\", \"no-such-host.invalid:80\"]\n"
    );
    let probe = Options {
        host: false,
        ports: false,
        probe: true,
    };
    let loaded = load(dir.path(), &text, probe);
    let codes: Vec<&str> = loaded.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["W0310", "W0310", "W0309"], "{:?}", loaded.findings);
    assert!(loaded.model.is_some());
}

#[test]
fn a_secret_in_a_readable_file_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = format!(
        "[defaults]\nheaders = {{ request = {{ set = {{ authorization = \"Bearer abc\" }} }} }}\n{GOOD}"
    );
    let path = dir.join("proxyd.toml");
    std::fs::write(&path, &text).unwrap();
    let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    set(0o644);
    let loaded = conf::load_with(&path, Options::default());
    assert_eq!(loaded.findings[0].code.as_str(), "W0116");
    set(0o600);
    let loaded = conf::load_with(&path, Options::default());
    assert_eq!(found(dir, &loaded), []);
}

#[test]
fn two_places_in_two_files_are_both_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("conf.d")).unwrap();
    std::fs::write(
        dir.join("conf.d/shop.toml"),
        "\n[[route]]            # shop\nhost = \"shop.example.org\"\nrespond = 204\n",
    )
    .unwrap();
    let text = format!(
        "include = [\"conf.d/*.toml\"]\n{}",
        GOOD.replace("[[route]]\n", "[[route]]\nhost = \"shop.example.org\"\n")
    );
    let loaded = load(dir, &text, Options::default());
    let shown = conf::render::text(&loaded, false).replace(&format!("{}/", dir.display()), "");
    assert_eq!(
        shown,
        "error[E0401]: these two routes match exactly the same requests
 --> conf.d/shop.toml:2:1
  |
2 | [[route]]            # shop
  | ^^^^^^^^^ host shop.example.org, path /
  |
 ::: proxyd.toml:4:1
  |
4 | [[route]]
  | --------- also host shop.example.org, path /
  |
  = help: give one of them a path, a header match, or a `priority`

proxyd: proxyd.toml: 1 error, configuration not usable
"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    let loaded = conf::load(Path::new("/no/such/proxyd.toml"));
    let shown = conf::render::text(&loaded, false);
    assert_eq!(
        shown,
        "error[E0114]: cannot read /no/such/proxyd.toml: no such file\n\n\
         proxyd: /no/such/proxyd.toml: 1 error, configuration not usable\n"
    );
}
