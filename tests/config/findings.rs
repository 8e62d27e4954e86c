//! One broken file for each finding: its code, its line and column, its words.

use proxyd::conf::{self, Code, Loaded};

/// The rest of a file that is good by itself.
const GOOD: &str = "[[listener]]\nbind = \":8080\"\n[[route]]\nrespond = 204\n";

/// Code, line, column and message of every finding.
fn found(loaded: &Loaded) -> Vec<(String, usize, usize, String)> {
    loaded
        .findings
        .iter()
        .map(|f| {
            let (line, column) = loaded.sources.position(f.place);
            (f.code.as_str().to_owned(), line, column, f.message.clone())
        })
        .collect()
}

/// The text has this finding and no other.
#[track_caller]
fn only(text: &str, code: &str, at: (usize, usize), message: &str) {
    let loaded = conf::load_str("t.toml", text);
    let all = found(&loaded);
    assert_eq!(
        all,
        [(code.to_owned(), at.0, at.1, message.to_owned())],
        "{text}"
    );
    let is_error = code.starts_with('E');
    assert_eq!(loaded.model.is_none(), is_error, "{text}");
}

/// The same with the good rest behind it.
#[track_caller]
fn with_rest(text: &str, code: &str, at: (usize, usize), message: &str) {
    only(&format!("{text}\n{GOOD}"), code, at, message);
}

/// Help of the only finding.
fn help(text: &str) -> String {
    let loaded = conf::load_str("t.toml", text);
    assert_eq!(loaded.findings.len(), 1, "{:?}", loaded.findings);
    loaded.findings[0].help.clone().unwrap_or_default()
}

#[test]
fn syntax_and_shape() {
    with_rest(
        "[log]\nlevel = info",
        "E0101",
        (2, 9),
        "not valid TOML: a string needs quotes",
    );
    with_rest("[admin]", "E0102", (1, 2), "unknown section `admin`");
    with_rest(
        "[log.acess]",
        "E0102",
        (1, 6),
        "unknown section `log.acess`",
    );
    with_rest(
        "[log]\nlevle = \"info\"",
        "E0103",
        (2, 1),
        "unknown key `levle`",
    );
    with_rest(
        "[master]\nstop_timeout = 30",
        "E0104",
        (2, 16),
        "`30` has no unit: write \"30s\" or \"30ms\"",
    );
    with_rest(
        "[worker]\nbuffer_size = \"16\"",
        "E0105",
        (2, 15),
        "`16` has no unit: write \"16B\" or \"16KiB\"",
    );
    with_rest(
        "[worker]\ncount = true",
        "E0106",
        (2, 9),
        "`count` takes a whole number or \"auto\", not true or false",
    );
    with_rest(
        "log = 1",
        "E0106",
        (1, 7),
        "`log` takes a table, not a number",
    );
    with_rest("[[log]]", "E0106", (1, 1), "section `log` is written [log]");
    with_rest(
        "[worker]\nthreads = 0",
        "E0108",
        (2, 11),
        "`0` is out of range: 1 to 256",
    );
    with_rest(
        "[[listener]]",
        "E0109",
        (1, 1),
        "[[listener]] needs a `bind`",
    );
    with_rest(
        "[worker]\naccept = \"reusport\"",
        "E0112",
        (2, 10),
        "`reusport` is not allowed here",
    );
    with_rest(
        "[log]\noutput = \"${NO_SUCH_VARIABLE}/x\"",
        "E0113",
        (2, 10),
        "environment variable `NO_SUCH_VARIABLE` is not set",
    );
    with_rest(
        "include = \"nowhere.toml\"",
        "E0114",
        (1, 11),
        "included file `nowhere.toml` does not exist",
    );
}

#[test]
fn keys_that_exclude_each_other_or_stand_twice() {
    let route = |keys: &str| format!("[[listener]]\nbind = \":1\"\n[[route]]\n{keys}");
    only(
        &route("respond = 204\nredirect = \"/\""),
        "E0110",
        (5, 1),
        "`respond` and `redirect` exclude each other",
    );
    only(
        &route("to = [\"10.0.0.1:80\", \"https://10.0.0.2\"]"),
        "E0110",
        (4, 22),
        "a list holds either addresses of one kind, or upstreams",
    );
    with_rest(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"",
        "E0111",
        (3, 1),
        "`level` is defined twice",
    );
    only(
        &format!(
            "{GOOD}[[route]]\nname = \"a\"\npath = \"/a\"\nrespond = 204\n[[route]]\nname = \"a\"\npath = \"/b\"\nrespond = 204\n"
        ),
        "E0111",
        (10, 8),
        "route `a` is defined twice",
    );
    only(
        &route("to = [\"10.0.0.1:80\", \"10.0.0.1:80\"]"),
        "E0111",
        (4, 22),
        "server `10.0.0.1:80` is defined twice",
    );
    with_rest(
        "[[certificate]]\nname = \"a\"\ncert = \"x\"\ndir = \"y\"",
        "E0110",
        (4, 1),
        "`cert` and `dir` exclude each other",
    );
}

#[test]
fn texts_with_a_grammar() {
    with_rest(
        "[log.access]\nformat = \"{client_ip} {sttus}\"",
        "E0115",
        (2, 24),
        "`{client_ip} {sttus}` is not a log format",
    );
    with_rest(
        "[sets]\nlan = [\"10.0.0.0/40\"]",
        "E0115",
        (2, 8),
        "`10.0.0.0/40` is not a network",
    );
    with_rest(
        "[defaults]\nheaders = { request = { set = { content-length = \"1\" } } }",
        "E0115",
        (2, 33),
        "header `content-length` cannot be changed by a rule",
    );
    with_rest(
        "[defaults]\nheaders = { request = { set = { x = \"{nobody}\" } } }",
        "E0115",
        (2, 39),
        "`{nobody}` is not a template",
    );
    with_rest(
        "[[certificate]]\ncert = \"a\"\nkey = { env = \"NO_SUCH_VARIABLE\" }",
        "E0117",
        (3, 7),
        "environment variable `NO_SUCH_VARIABLE` is not set",
    );
}

#[test]
fn references() {
    let routed = |to: &str| format!("[[listener]]\nbind = \":1\"\n[[route]]\n{to}\n");
    only(
        &routed("to = \"backnd\""),
        "E0201",
        (4, 6),
        "route sends to upstream `backnd`, which is not defined",
    );
    only(
        &routed("to = [{ upstream = \"x\" }]"),
        "E0201",
        (4, 20),
        "route sends to upstream `x`, which is not defined",
    );
    only(
        "[[listener]]\nbind = \":1\"\ntls = \"site\"\n[[route]]\nrespond = 204",
        "E0202",
        (3, 7),
        "certificate `site` is not defined",
    );
    only(
        "[[listener]]\nbind = \":1\"\ntrusted_proxies = [\"lan\"]\n[[route]]\nrespond = 204",
        "E0203",
        (3, 20),
        "set `lan` is not defined",
    );
    only(
        &routed("listener = \"wbe\"\nrespond = 204"),
        "E0204",
        (4, 12),
        "listener `wbe` is not defined",
    );
    only(
        &(routed("to = \"a\"") + "[[upstream]]\nname = \"a\"\n"),
        "E0205",
        (5, 1),
        "upstream `a` has no servers",
    );
    with_rest(
        "[[upstream]]\nname = \"a\"\nservers = \"10.0.0.1:80\"",
        "W0206",
        (2, 8),
        "no route uses upstream `a`",
    );
    with_rest(
        "[[certificate]]\nname = \"a\"\nself_signed = true",
        "W0207",
        (2, 8),
        "nothing uses certificate `a`",
    );
    with_rest(
        "[sets]\nlan = \"10.0.0.0/8\"",
        "W0208",
        (2, 1),
        "nothing uses set `lan`",
    );
    only(
        "[[listener]]\nbind = \":1\"\n",
        "W0209",
        (1, 1),
        "no route applies to listener `listener-1`",
    );
    only(
        "",
        "W0210",
        (1, 1),
        "the configuration has no listener, so nothing is served",
    );
}

#[test]
fn addresses() {
    let to = |to: &str| format!("[[listener]]\nbind = \":1\"\n[[route]]\nto = \"{to}\"\n");
    only(
        &to("10.0.0.2"),
        "E0107",
        (4, 6),
        "server address has no port",
    );
    only(
        &to("backend.internal"),
        "E0107",
        (4, 6),
        "server address has no port",
    );
    only(
        &to("10.0.0.2:0"),
        "E0301",
        (4, 6),
        "server address has port 0",
    );
    only(
        &to("10.0.0:80"),
        "E0303",
        (4, 6),
        "this is not a server address: not an IP address or host name",
    );
    only(
        &to("::1:80"),
        "E0304",
        (4, 6),
        "server address is an IPv6 address without brackets",
    );
    let listen = |bind: &str| format!("[[listener]]\nbind = {bind}\n[[route]]\nrespond = 204\n");
    only(
        &listen("\"127.0.0.1\""),
        "E0107",
        (2, 8),
        "listen address has no port",
    );
    only(
        &listen("\":0\""),
        "W0302",
        (2, 8),
        "port 0 lets the kernel choose a port at each start",
    );
    only(
        &listen("[\":81\", \":81\"]"),
        "E0305",
        (2, 16),
        ":81 is listened on twice",
    );
    only(
        &listen("[\"127.0.0.1:81\", \":81\"]"),
        "E0306",
        (2, 25),
        ":81 overlaps with 127.0.0.1:81",
    );
    with_rest(
        "[metrics]\nbind = \":8080\"",
        "E0305",
        (4, 8),
        ":8080 is listened on twice",
    );
}

#[test]
fn routing() {
    let two = |a: &str, b: &str| {
        format!(
            "[[listener]]\nbind = \":1\"\n[[route]]\n{a}\nrespond = 204\n[[route]]\n{b}\nrespond = 204\n"
        )
    };
    only(
        &two("host = \"a.org\"", "host = [\"b.org\", \"A.org\"]"),
        "E0401",
        (6, 1),
        "these two routes match exactly the same requests",
    );
    only(
        &two("host = \"a.org\"\npriority = 1", "host = \"a.org\""),
        "W0402",
        (7, 1),
        "route `route-2` is never reached",
    );
    only(
        &two("path = \"~^/v[0-9/\"", ""),
        "E0403",
        (4, 13),
        "`~^/v[0-9/` is not a regular expression",
    );
    only(
        &two("path = \"api/\"", ""),
        "E0405",
        (4, 8),
        "`api/` does not begin with a slash",
    );
    only(
        &two("host = \"a.*.org\"", ""),
        "E0406",
        (4, 8),
        "`a.*.org` is not a host pattern",
    );
    only(
        "[[listener]]\nbind = \":1\"\n[[route]]\nhost = \"a.org\"",
        "E0407",
        (3, 1),
        "route `route-1` does nothing",
    );
    only(
        &two("normalize = \"raw\"\npath = \"/x\"", ""),
        "E0408",
        (4, 13),
        "`raw` paths need a route that matches every path",
    );
    for (a, b) in [
        ("methods = \"GET\"", "methods = \"POST\""),
        ("methods = \"GET\"", ""),
        (
            "headers_match = { x = \"1\" }",
            "headers_match = { x = \"2\" }",
        ),
        ("query = { x = true }", ""),
        ("path = \"/a\"", "path = \"=/a\""),
        ("host = \"*.a.org\"", "host = \"a.org\""),
    ] {
        let loaded = conf::load_str("t.toml", &two(a, b));
        assert_eq!(found(&loaded), [], "{a} / {b}");
    }
}

#[test]
fn tls_without_files() {
    let tls = |tls: &str| format!("[[listener]]\nbind = \":1\"\n{tls}\n[[route]]\nrespond = 204\n");
    let site = "[[certificate]]\nname = \"site\"\nself_signed = true\n";
    only(
        &(tls("tls = { certificates = \"site\", default = \"other\" }") + site),
        "E0508",
        (3, 42),
        "default certificate `other` is not one of the listener's certificates",
    );
    only(
        &(tls("tls = { min_version = \"1.3\", max_version = \"1.2\" }") + site),
        "E0509",
        (3, 23),
        "`min_version` is above `max_version`",
    );
    only(
        &tls("tls = \"self-signed\"\ntls_client_auth = { mode = \"required\" }"),
        "E0510",
        (4, 28),
        "client certificates are asked for and no CA is given",
    );
    only(
        &tls("tls = {}"),
        "E0109",
        (3, 7),
        "the listener has no certificate",
    );
    only(
        &tls("session_tickets = { rotate = \"1h\" }"),
        "E0109",
        (3, 19),
        "`session_tickets` needs `tls` in the listener",
    );
    only(
        &tls("tls = \"self-signed\"\nredirect_to_https = true"),
        "E0110",
        (4, 21),
        "`redirect_to_https` on a TLS listener would redirect to itself",
    );
    only(
        &tls("tls = \"self-signed\"\nalpn = [\"h2\", \"http/1.1\"]"),
        "W0806",
        (4, 9),
        "`h2` is not offered by this version",
    );
}

#[test]
fn numbers_that_contradict() {
    let to = |head: &str, route: &str, tail: &str| {
        format!(
            "{head}\n[[listener]]\nbind = \":1\"\n[[route]]\nto = \"a\"\n{route}\n[[upstream]]\nname = \"a\"\nservers = \"10.0.0.1:80\"\n{tail}\n"
        )
    };
    only(
        &to("", "", "pool = { max = 4, max_idle = 8 }"),
        "E0601",
        (10, 16),
        "`pool.max` (4) is below `pool.max_idle` (8)",
    );
    only(
        &to("[master]\ndrain_timeout = \"5s\"", "", ""),
        "W0602",
        (2, 17),
        "responses may take 1m, but are cut 5s after a reload",
    );
    only(
        &to("", "timeouts = { response_header = \"5m\" }", ""),
        "W0602",
        (6, 32),
        "responses may take 5m, but are cut 30s after a reload",
    );
    only(
        &to("", "timeouts = { connect = \"5s\", total = \"4s\" }", ""),
        "E0604",
        (6, 38),
        "`total` (4s) ends before one try to connect does (`connect` is 5s)",
    );
    only(
        &to("[worker]\nbuffer_pool_max = \"1MiB\"", "", ""),
        "W0605",
        (2, 19),
        "1MiB of buffers for 16384 connections: reading will pause under load",
    );
    only(
        &to("", "buffering = { request = \"128MiB\" }", ""),
        "W0606",
        (6, 25),
        "one request may be buffered up to 128MiB, all together up to 64MiB",
    );
    only(
        &to("[master]\ndrain_timeout_upgraded = \"10s\"", "", ""),
        "W0607",
        (2, 26),
        "`drain_timeout_upgraded` is shorter than `drain_timeout`",
    );
}

#[test]
fn safety_and_what_is_not_built_in() {
    let upstream = |keys: &str| {
        format!(
            "[[listener]]\nbind = \":1\"\n[[route]]\nto = \"a\"\n[[upstream]]\nname = \"a\"\nservers = \"10.0.0.1:80\"\n{keys}\n"
        )
    };
    only(
        &upstream("tls = { verify = \"off\" }"),
        "W0701",
        (8, 18),
        "the certificates of upstream `a` are not verified",
    );
    only(
        &upstream("protocol = \"h2c\""),
        "E0805",
        (8, 12),
        "HTTP/2 to servers is not built in yet",
    );
    only(
        "[[listener]]\nbind = \":1\"\ntrusted_proxies = \"any\"\n[[route]]\nrespond = 204",
        "W0702",
        (3, 19),
        "every client is a trusted proxy and can choose its address",
    );
}

#[test]
fn a_key_below_the_wrong_header_is_told_where_it_belongs() {
    let text = "[[listener]]\nbind = \":1\"\n[[route]]\nto = \"a\"\n[[upstream]]\nname = \"a\"\n[[upstream.server]]\naddress = \"10.0.0.1:80\"\nbalance = \"least_connections\"\n";
    assert_eq!(
        help(text),
        "`balance` is a key of [[upstream]]: move it above line 7"
    );
    let text = format!("{GOOD}include = []\n");
    assert_eq!(
        help(&text),
        "`include` is a key of the file itself: move it above line 1"
    );
}

#[test]
fn several_mistakes_of_one_table_are_all_reported() {
    let loaded = conf::load_str(
        "t.toml",
        "[[listener]]\nbnd = \":1\"\nbacklog = \"x\"\ntls = { min_version = \"1.1\", x = 1 }\ntimeouts = { idle = 3, connect = \"3\" }\n",
    );
    let codes: Vec<String> = found(&loaded).into_iter().map(|f| f.0).collect();
    assert_eq!(
        codes,
        [
            "E0109", "E0103", "E0106", "E0109", "E0112", "E0103", "E0104", "E0104"
        ]
    );
}

#[test]
fn syntax_errors_do_not_hide_other_mistakes_and_do_not_cascade() {
    let loaded = conf::load_str(
        "t.toml",
        "[log]\nlevel = info\nlevle = \"x\"\n[listner]\nx = \"abc\n[worker]\nthreads = 0\n",
    );
    let all: Vec<(String, usize)> = found(&loaded).into_iter().map(|f| (f.0, f.1)).collect();
    let expect = |code: &str, line| assert!(all.contains(&(code.to_owned(), line)), "{all:?}");
    expect("E0101", 2);
    expect("E0103", 3);
    expect("E0102", 4);
    expect("E0101", 5);
    expect("E0108", 7);
    assert_eq!(all.len(), 5, "{all:?}");
}

#[test]
fn every_code_is_tested_somewhere() {
    let here = concat!(
        include_str!("findings.rs"),
        include_str!("host.rs"),
        include_str!("../../src/conf/check/tls.rs"),
        include_str!("../../src/conf/reload.rs"),
    );
    for code in Code::ALL {
        let id = format!("\"{}\"", code.as_str());
        let name = format!("Code::{code:?}");
        assert!(here.contains(&id) || here.contains(&name), "{id} {name}");
    }
}
