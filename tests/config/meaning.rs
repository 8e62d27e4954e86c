//! What a good file means: derived names, short forms, merged settings.

use std::time::Duration;

use proxyd::conf::{self, Model};
use proxyd::http::params::{Action, HostPattern, HostRewrite, PathPattern, ValueMatch};
use proxyd::net::tls::params::{CertificateSource, TlsVersion, Verify};
use proxyd::upstream::params::{BalanceKind, ServerAddress};

#[track_caller]
fn model(text: &str) -> Model {
    let loaded = conf::load_str("t.toml", text);
    let shown = conf::render::text(&loaded, false);
    loaded.model.unwrap_or_else(|| panic!("{text}\n{shown}"))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The names of the upstreams that a route sends to, with their weights.
fn targets(action: &Action) -> Vec<(&str, u32)> {
    match action {
        Action::Forward(list) => list
            .iter()
            .map(|w| (w.upstream.as_str(), w.weight))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_six_lines_of_a_newcomer() {
    let m = model(
        "[[listener]]\nbind = \":80\"\n\n[[route]]\nhost = \"Example.org\"\nto = [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]\n",
    );
    assert_eq!(m.listeners[0].http.name, "listener-80");
    let route = &m.routes[0];
    assert_eq!(route.name, "route-1");
    assert_eq!(
        route.matcher.hosts,
        [HostPattern::Exact("example.org".to_owned())]
    );
    assert_eq!(targets(&route.action), [("route-1", 1)]);
    let upstream = &m.upstreams[0];
    assert_eq!(upstream.name, "route-1");
    assert_eq!(upstream.balance, BalanceKind::RoundRobin);
    let names: Vec<&str> = upstream.servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(upstream.pool.idle_timeout, secs(50));
}

#[test]
fn the_two_lines_of_https() {
    let m = model(
        "[[listener]]\nname = \"web\"\nbind = \":443\"\ntls = { cert = \"/a.pem\", key = \"/a.key\" }\n[[route]]\nrespond = 204\n",
    );
    let tls = m.listeners[0].tls.as_ref().unwrap();
    assert!(m.listeners[0].http.tls);
    assert_eq!(tls.certificates, ["web"]);
    assert_eq!(tls.default, "web");
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::V12, TlsVersion::V13)
    );
    assert_eq!(tls.alpn, ["http/1.1"]);
    let expected = CertificateSource::Files {
        cert: "/a.pem".into(),
        key: "/a.key".into(),
    };
    assert_eq!(m.certificates[0].source, expected);
}

#[test]
fn without_names_a_tls_listener_has_all_certificates() {
    let m = model(
        "[[certificate]]\nname = \"a\"\nself_signed = true\n[[certificate]]\nself_signed = { hosts = \"b.org\", valid = \"2d\" }\n\
         [[listener]]\nbind = \":443\"\ntls = {}\n[[listener]]\nbind = \":444\"\ntls = \"self-signed\"\n[[route]]\nrespond = 204\n",
    );
    let names = |i: usize| m.listeners[i].tls.as_ref().unwrap().certificates.clone();
    assert_eq!(names(0), ["a", "self-signed"]);
    assert_eq!(names(1), ["listener-444-self-signed"]);
    let expected = CertificateSource::SelfSigned {
        hosts: vec!["b.org".to_owned()],
        valid: secs(2 * 86_400),
    };
    assert_eq!(m.certificates[1].source, expected);
}

#[test]
fn forms_of_to() {
    let m = model(
        "[[listener]]\nbind = \":80\"\n\
         [[route]]\nname = \"name\"\npath = \"/1\"\nto = \"app\"\n\
         [[route]]\nname = \"names\"\npath = \"/2\"\nto = [\"app\", \"api\"]\n\
         [[route]]\nname = \"weights\"\npath = \"/3\"\nto = [{ upstream = \"app\", weight = 95 }, { upstream = \"api\", weight = 5 }]\n\
         [[route]]\nname = \"url\"\npath = \"/4\"\nto = \"https://secure.internal\"\n\
         [[route]]\nname = \"app\"\npath = \"/5\"\nto = \"unix:/run/app.sock\"\n\
         [[upstream]]\nname = \"app\"\nservers = [\"10.0.0.1:80\"]\n[[upstream]]\nname = \"api\"\nservers = \"api.internal:80\"\n",
    );
    let of = |i: usize| targets(&m.routes[i].action);
    assert_eq!(of(0), [("app", 1)]);
    assert_eq!(of(1), [("app", 1), ("api", 1)]);
    assert_eq!(of(2), [("app", 95), ("api", 5)]);
    assert_eq!(of(3), [("url", 1)]);
    assert_eq!(of(4), [("app-2", 1)], "the name is taken by an upstream");
    let upstream = |name: &str| m.upstreams.iter().find(|u| u.name == name).unwrap();
    let tls = upstream("url").tls.as_ref().unwrap();
    assert_eq!(tls.verify, Verify::Full);
    assert_eq!(upstream("url").servers[0].name, "secure.internal:443");
    assert_eq!(upstream("app-2").servers[0].name, "unix:/run/app.sock");
}

#[test]
fn servers_of_an_upstream() {
    let m = model(
        "[[listener]]\nbind = \":80\"\n[[route]]\nto = \"a\"\n[[upstream]]\nname = \"a\"\nbalance = \"least_connections\"\n\
         servers = [\"10.0.0.1:80\"]\nbind_address = \"10.0.0.9\"\ntls = true\n\
         [[upstream.server]]\nname = \"spare\"\naddress = \"[::1]:81\"\nbackup = true\nweight = 3\nmax_fails = 2\nfail_timeout = \"1m\"\n\
         [[upstream.server]]\nbuiltin = \"demo\"\n[[upstream.server]]\nbuiltin = \"demo\"\n",
    );
    let upstream = &m.upstreams[0];
    assert_eq!(upstream.balance, BalanceKind::LeastConnections);
    assert_eq!(upstream.source, Some("10.0.0.9".parse().unwrap()));
    assert!(upstream.tls.is_some());
    let spare = &upstream.servers[1];
    assert!(spare.backup);
    assert_eq!((spare.weight, spare.max_fails), (3, 2));
    assert_eq!(spare.fail_timeout, secs(60));
    let demos: Vec<&ServerAddress> = upstream.servers[2..].iter().map(|s| &s.address).collect();
    assert_eq!(demos, [&ServerAddress::Demo(1), &ServerAddress::Demo(2)]);
    assert_eq!(upstream.servers[3].name, "demo-2");
}

#[test]
fn what_a_route_matches_and_does() {
    let m = model(
        "[[listener]]\nname = \"web\"\nbind = \":80\"\n[[route]]\nlistener = \"web\"\nhost = [\"a.org\", \"*.a.org\"]\n\
         path = [\"=/x\", \"/y/\", \"~^/z[0-9]\"]\nmethods = [\"get\", \"PURGE\"]\nheaders_match = { X-A = true, x-b = false, x-c = \"~^1\", x-d = \"v\" }\n\
         query = { q = \"1\" }\npriority = 7\nto = \"10.0.0.1:80\"\nhost_rewrite = \"inner.org\"\nreplace_prefix = { from = \"/y\", to = \"/w\" }\n\
         max_body = \"unlimited\"\nbuffering = { request = \"on\" }\nupgrade = [\"websocket\", \"tcp\"]\ndrain_timeout = \"6h\"\n",
    );
    let route = &m.routes[0];
    let matcher = &route.matcher;
    assert_eq!(matcher.listeners, ["web"]);
    assert_eq!(matcher.hosts[1], HostPattern::Wildcard("a.org".to_owned()));
    assert!(matches!(&matcher.paths[0], PathPattern::Exact(p) if p == "/x"));
    assert!(matches!(&matcher.paths[1], PathPattern::Prefix(p) if p == "/y/"));
    assert!(matches!(&matcher.paths[2], PathPattern::Regex(r) if r.as_str() == "^/z[0-9]"));
    assert_eq!(matcher.methods, ["GET", "PURGE"]);
    assert_eq!(matcher.headers[0].name, "x-a");
    assert!(matches!(matcher.headers[0].value, ValueMatch::Present));
    assert!(matches!(matcher.headers[1].value, ValueMatch::Absent));
    assert!(matches!(&matcher.headers[2].value, ValueMatch::Regex(_)));
    assert!(matches!(&matcher.headers[3].value, ValueMatch::Exact(v) if v == "v"));
    assert_eq!((matcher.query.len(), matcher.priority), (1, 7));
    assert_eq!(route.host, HostRewrite::Fixed("inner.org".to_owned()));
    assert_eq!(route.path.strip_prefix.as_deref(), Some("/y"));
    assert_eq!(route.path.add_prefix.as_deref(), Some("/w"));
    assert_eq!((route.max_body, route.buffering.request), (None, 1 << 20));
    assert_eq!(route.upgrade, ["websocket", "tcp"]);
    assert_eq!(route.drain_timeout, Some(secs(6 * 3600)));
}

#[test]
fn nested_settings_merge_key_by_key() {
    let m = model(
        "[defaults]\ntimeouts = { connect = \"1s\", response_header = \"20s\" }\nretry = { on = [\"connect\", \"503\"], budget = \"10%\" }\n\
         headers = { response = { set = { x-a = \"defaults\", x-b = \"defaults\" }, remove = [\"server\"] } }\n\
         limits = { request_body = \"1MiB\" }\npool = { max_idle = 7 }\n\
         [[listener]]\nbind = \":80\"\ntimeouts = { idle = \"5s\", response_header = \"30s\" }\n\
         [[route]]\nto = \"a\"\ntimeouts = { total = \"40s\" }\nretry = { on = [\"502\"], remove = [\"503\"] }\n\
         headers = { response = { set = { x-a = \"route\" }, remove = [\"X-B\"], add = { x-c = [\"1\", \"2\"] } } }\n\
         [[upstream]]\nname = \"a\"\nservers = \"10.0.0.1:80\"\npool = { max = 9 }\ntimeouts = { connect = \"2s\" }\n",
    );
    let route = &m.routes[0];
    let t = &route.timeouts;
    assert_eq!(t.connect, secs(2), "the upstream goes before the defaults");
    assert_eq!(t.response_header, secs(30), "so does the listener");
    assert_eq!(t.total, Some(secs(40)));
    assert_eq!(t.idle, secs(5));
    assert_eq!(t.request_body, secs(15), "built in");
    assert!(route.retry.on_connect && !route.retry.on_reset);
    assert_eq!(route.retry.on_status, [502]);
    assert_eq!(route.retry.budget_percent, 10);
    let headers = &route.response_headers;
    let text = |list: &[(String, String)]| -> Vec<String> {
        list.iter().map(|(n, v)| format!("{n}={v}")).collect()
    };
    assert_eq!(text(&headers.set), ["x-a=route"]);
    assert_eq!(text(&headers.add), ["x-c=1", "x-c=2"]);
    assert_eq!(headers.remove, ["server", "x-b"]);
    assert_eq!(route.max_body, Some(1 << 20));
    assert_eq!(m.listeners[0].http.timeouts.idle, secs(5));
    let pool = &m.upstreams[0].pool;
    assert_eq!((pool.max_idle, pool.max), (7, 9));
}

#[test]
fn a_route_has_the_settings_of_each_listener_it_is_on() {
    let m = model(
        "[[listener]]\nname = \"a\"\nbind = \":1\"\n[[listener]]\nname = \"b\"\nbind = \":2\"\ntimeouts = { response_header = \"5s\" }\n\
         [[listener]]\nname = \"c\"\nbind = \":3\"\n[[route]]\nname = \"r\"\nto = \"10.0.0.1:80\"\n",
    );
    let found: Vec<(&str, Vec<String>, Duration)> = m
        .routes
        .iter()
        .map(|r| {
            let names = r.matcher.listeners.clone();
            (r.name.as_str(), names, r.timeouts.response_header)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("r", vec!["a".to_owned(), "c".to_owned()], secs(60)),
            ("r", vec!["b".to_owned()], secs(5)),
        ]
    );
    assert_eq!(m.upstreams.len(), 1);
}

#[test]
fn sets_are_resolved() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("cdn.txt"),
        "192.0.2.0/24 # one\n\n2001:db8::1\n",
    )
    .unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(
        &path,
        "[sets]\nlan = [\"10.0.0.0/8\"]\ncdn = { file = \"cdn.txt\" }\n[[listener]]\nbind = \":1\"\n\
         trusted_proxies = [\"lan\", \"cdn\", \"loopback\", \"203.0.113.9\"]\n[[route]]\nrespond = 204\n",
    )
    .unwrap();
    let loaded = conf::load_with(&path, conf::Options::default());
    let trusted = &loaded.model.unwrap().listeners[0].http.trusted_proxies;
    let shown: Vec<String> = trusted.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "10.0.0.0/8",
            "192.0.2.0/24",
            "2001:db8::1/128",
            "127.0.0.0/8",
            "::1/128",
            "203.0.113.9/32"
        ]
    );
}

#[test]
fn relative_paths_belong_to_the_folder_of_their_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(
        &path,
        "include = \"sub/*.toml\"\n[[listener]]\nbind = \":1\"\n[[route]]\nrespond = 204\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("sub/m.toml"),
        "[master]\npid_file = \"x.pid\"\n",
    )
    .unwrap();
    let loaded = conf::load_with(&path, conf::Options::default());
    let expected = dir.path().join("sub/x.pid");
    assert_eq!(
        loaded.model.unwrap().master.pid_file,
        Some(expected.clone())
    );
    assert_eq!(conf::pid_file(&path), Ok(Some(expected)));
}
