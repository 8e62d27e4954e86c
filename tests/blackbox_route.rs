//! Routing, actions, header rules and addresses end to end: which route a request takes, what
//! the route does, what the server is told about the client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use support::{PATIENCE, Proxyd, Upstream, client, respond, to};

const LISTENER: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";

/// A route that answers with its own name.
fn route(name: &str, keys: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nrespond = {{ status = 200, body = \"{name}\" }}\n{keys}\n"
    )
}

fn proxy(routes: &[(&str, &str)]) -> Proxyd {
    let all: String = routes
        .iter()
        .map(|(name, keys)| route(name, keys))
        .collect();
    Proxyd::start(&format!("{LISTENER}{all}"))
}

/// Which route answers.
#[track_caller]
fn taken(proxy: &Proxyd, host: &str, path: &str) -> String {
    let response = proxy.get(host, path);
    if response.status == 404 {
        "none".to_owned()
    } else {
        response.expect(200).text()
    }
}

#[test]
fn the_most_specific_host_wins_whatever_the_order() {
    let proxy = proxy(&[
        ("any", ""),
        ("wide", "host = \"*.test\""),
        ("long", "host = \"*.a.test\""),
        ("exact", "host = [\"x.a.test\", \"other.test\"]"),
    ]);
    for (host, expected) in [
        ("x.a.test", "exact"),
        ("X.A.Test:8080", "exact"),
        ("x.a.test.", "exact"),
        ("other.test", "exact"),
        ("y.a.test", "long"),
        ("deep.y.a.test", "long"),
        ("a.test", "wide"),
        ("test", "any"),
        ("nowhere.example", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(taken(&proxy, host, "/"), expected, "{host}");
    }
}

#[test]
fn the_most_specific_path_wins() {
    let proxy = proxy(&[
        ("root", "path = \"/\""),
        ("api", "path = \"/api/\""),
        ("v1", "path = \"/api/v1\""),
        ("exact", "path = \"=/api/v1\""),
        (
            "regex",
            "host = \"img.test\"\npath = \"~^/img/[0-9]+[.]png$\"",
        ),
    ]);
    for (path, expected) in [
        ("/", "root"),
        ("/apix", "root"),
        ("/api/", "api"),
        ("/api/x", "api"),
        ("/api/v10", "api"),
        ("/api/v1", "exact"),
        ("/api/v1?x=/img/1.png", "exact"),
        ("/api/v1/x", "v1"),
        ("/x/../api/v1/y", "v1"),
        ("/%61pi/v1/y", "v1"),
        ("/img/12.png", "root"),
    ] {
        assert_eq!(taken(&proxy, "a", path), expected, "{path}");
    }
    assert_eq!(taken(&proxy, "img.test", "/img/12.png"), "regex");
    assert_eq!(taken(&proxy, "img.test", "/img/x.png"), "root");
}

#[test]
fn methods_headers_and_query_tell_routes_apart() {
    let proxy = proxy(&[
        ("plain", ""),
        ("write", "methods = [\"POST\", \"PUT\"]"),
        ("beta", "headers_match = { x-beta = \"1\" }"),
        ("debug", "query = { debug = \"on\" }"),
    ]);
    let ask = |text: &str| client::send(proxy.web(), text).expect(200).text();
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "plain");
    assert_eq!(
        ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        "write"
    );
    assert_eq!(
        ask("GET / HTTP/1.1\r\nHost: a\r\nX-Beta: 1\r\n\r\n"),
        "beta"
    );
    assert_eq!(
        ask("GET / HTTP/1.1\r\nHost: a\r\nX-Beta: 2\r\n\r\n"),
        "plain"
    );
    assert_eq!(
        ask("GET /?a=b&debug=on HTTP/1.1\r\nHost: a\r\n\r\n"),
        "debug"
    );
}

#[test]
fn a_method_that_no_route_of_the_path_allows_is_a_405_with_allow() {
    let proxy = proxy(&[("only", "path = \"/only\"\nmethods = [\"GET\"]")]);
    let response =
        client::send(proxy.web(), "DELETE /only HTTP/1.1\r\nHost: a\r\n\r\n").expect(405);
    assert!(
        response
            .fields
            .get("Allow")
            .unwrap_or_default()
            .contains("GET")
    );
}

#[test]
fn a_request_without_route_is_a_404_with_its_reason() {
    let proxy = proxy(&[("one", "host = \"a.test\"")]);
    assert_eq!(taken(&proxy, "b.test", "/"), "none");
    let line = &proxy.access_json(1)[0];
    assert_eq!(line["reason"], "route.none", "{line}");
}

#[test]
fn routes_can_belong_to_one_listener() {
    let text = format!(
        "{LISTENER}[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:0\"\n{}{}",
        route("one", "listener = \"web\""),
        route("two", "listener = \"second\"")
    );
    let proxy = Proxyd::start(&text);
    assert_eq!(client::get(proxy.web(), "a", "/").text(), "one");
    assert_eq!(client::get(proxy.addr("second"), "a", "/").text(), "two");
}

#[test]
fn redirects_and_fixed_answers() {
    let text = format!(
        "{LISTENER}[[route]]\nhost = \"old.test\"\nredirect = {{ to = \"https://new.test{{uri}}\", status = 308 }}\n\
         [[route]]\nname = \"health\"\npath = \"=/healthz\"\nrespond = {{ status = 200, body = \"ok\\n\" }}\n"
    );
    let proxy = Proxyd::start(&text);
    let response = proxy.get("old.test", "/a?b=c").expect(308);
    assert_eq!(
        response.fields.get("Location"),
        Some("https://new.test/a?b=c")
    );
    let mut client = proxy.client();
    assert_eq!(client.get("x", "/healthz").expect(200).text(), "ok\n");
    let head = client
        .send("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .response_to("HEAD");
    assert_eq!(head.expect(200).fields.get("Content-Length"), Some("3"));
    client
        .send("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .response()
        .expect(200);
    client.get("x", "/healthz").expect(200);
}

#[test]
fn redirect_to_https_keeps_host_and_path() {
    let text = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nredirect_to_https = true\n\
                [[route]]\nrespond = { status = 200, body = \"no\" }\n";
    let proxy = Proxyd::start(text);
    let response = proxy.get("a.test", "/x?y=1");
    assert!([301, 308].contains(&response.status), "{}", response.status);
    assert_eq!(
        response.fields.get("Location"),
        Some("https://a.test/x?y=1")
    );
}

#[test]
fn header_rules_change_requests_and_responses() {
    let server =
        Upstream::http(|_| respond(200, &[("X-Powered-By", "old"), ("X-Keep", "1")], "ok"));
    let rules = "headers = { request = { set = { x-set = \"new\", x-ip = \"{client_ip}\" }, add = { x-multi = \"2\" }, remove = [\"x-drop\"] }, \
                 response = { set = { strict-transport-security = \"max-age=1\" }, remove = [\"x-powered-by\"] } }";
    let proxy = Proxyd::start(&to(server.addr(), rules));
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Set: old\r\nX-Multi: 1\r\nX-Drop: 1\r\n\r\n";
    let response = client::send(proxy.web(), text).expect(200);
    let seen = server.only();
    assert_eq!(seen.fields.all("x-set"), ["new"]);
    assert_eq!(seen.fields.all("x-multi"), ["1", "2"]);
    assert_eq!(seen.fields.get("x-ip"), Some("127.0.0.1"));
    assert!(!seen.fields.has("x-drop"));
    assert_eq!(
        response.fields.get("strict-transport-security"),
        Some("max-age=1")
    );
    assert!(!response.fields.has("x-powered-by") && response.fields.has("x-keep"));
}

#[test]
fn prefixes_are_stripped_or_replaced() {
    let server = Upstream::echo();
    let address = server.addr();
    let text = format!(
        "{LISTENER}[[route]]\npath = \"/api/\"\nstrip_prefix = \"/api\"\nto = \"{address}\"\n\
         [[route]]\npath = \"/old/\"\nreplace_prefix = {{ from = \"/old\", to = \"/new/place\" }}\nto = \"{address}\"\n"
    );
    let proxy = Proxyd::start(&text);
    for path in ["/api/x?q=1", "/api/", "/old/y/z"] {
        proxy.get("a", path).expect(200);
    }
    let targets: Vec<String> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/x?q=1", "/", "/new/place/y/z"]);
}

#[test]
fn the_host_sent_to_the_server_can_be_chosen() {
    let server = Upstream::echo();
    let address = server.addr();
    for (keys, expected) in [
        ("", "a.test".to_owned()),
        ("host_rewrite = \"upstream\"", address.to_string()),
        ("host_rewrite = \"fixed.test\"", "fixed.test".to_owned()),
    ] {
        let proxy = Proxyd::start(&to(address, keys));
        proxy.get("a.test", "/").expect(200);
        assert_eq!(
            server.last().fields.get("Host"),
            Some(expected.as_str()),
            "{keys}"
        );
    }
}

#[test]
fn strangers_cannot_forge_forwarded_fields() {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    let forged = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: chosen\r\n\r\n";
    client::send(proxy.web(), forged).expect(200);
    let seen = server.only();
    assert_eq!(seen.fields.all("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(seen.fields.all("X-Forwarded-Proto"), ["http"]);
    assert_eq!(seen.fields.all("X-Forwarded-Host"), ["a.test"]);
    assert_eq!(seen.fields.all("X-Real-IP"), ["127.0.0.1"]);
    assert!(!seen.fields.has("Forwarded"));
    let id = seen.fields.get("X-Request-Id").unwrap();
    assert!(id != "chosen" && id.len() >= 16, "{id}");
    let line = &proxy.access_json(1)[0];
    assert_eq!(line["client_ip"], "127.0.0.1", "{line}");
}

#[test]
fn trusted_proxies_are_believed_and_the_client_address_is_the_last_stranger() {
    let server = Upstream::echo();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n\
         [[route]]\nto = \"{}\"\n",
        server.addr()
    );
    let proxy = Proxyd::start(&text);
    let bytes = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.1.1\r\nX-Forwarded-Proto: https\r\n\
                 X-Request-Id: given-1\r\n\r\n";
    client::send(proxy.web(), bytes).expect(200);
    let seen = server.only();
    assert_eq!(
        seen.fields.get("X-Forwarded-For"),
        Some("6.6.6.6, 203.0.113.9, 10.1.1.1, 127.0.0.1")
    );
    assert_eq!(seen.fields.get("X-Forwarded-Proto"), Some("https"));
    assert_eq!(seen.fields.get("X-Request-Id"), Some("given-1"));
    let line = &proxy.access_json(1)[0];
    assert_eq!(line["client_ip"], "203.0.113.9", "{line}");
}

#[test]
fn traces_are_continued_or_created() {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client::send(
        proxy.web(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nTraceparent: {parent}\r\n\r\n"),
    )
    .expect(200);
    let sent = server.last().fields.get("traceparent").unwrap().to_owned();
    assert_eq!(&sent[..36], &parent[..36], "same trace");
    proxy.get("a", "/").expect(200);
    let sent = server.last().fields.get("traceparent").unwrap().to_owned();
    assert!(sent.starts_with("00-") && sent.len() == 55, "{sent}");
    client::send(
        proxy.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nTraceparent: nonsense\r\n\r\n",
    )
    .expect(200);
    assert_ne!(server.last().fields.get("traceparent"), Some("nonsense"));
}

#[test]
fn via_is_added_and_a_loop_is_noticed() {
    let server = Upstream::echo();
    let proxy = Proxyd::to(server.addr());
    proxy.get("a", "/").expect(200);
    let via = server
        .only()
        .fields
        .get("Via")
        .unwrap_or_default()
        .to_owned();
    assert!(via.starts_with("1.1 "), "{via:?}");
    // a proxy whose server is itself
    let port = support::tool::free_port();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:{port}\"\n[[route]]\nto = \"127.0.0.1:{port}\"\n"
    );
    let proxy = Proxyd::start(&text);
    proxy.get("a", "/").expect(508);
}

#[test]
fn weights_split_requests_between_upstreams() {
    let (big, small) = (Upstream::says("big"), Upstream::says("small"));
    let text = format!(
        "{LISTENER}[[upstream]]\nname = \"big\"\nservers = [\"{}\"]\n[[upstream]]\nname = \"small\"\nservers = [\"{}\"]\n\
         [[route]]\nto = [{{ upstream = \"big\", weight = 9 }}, {{ upstream = \"small\", weight = 1 }}]\n",
        big.addr(),
        small.addr()
    );
    let proxy = Proxyd::start(&text);
    let mut client = proxy.client();
    for _ in 0..200 {
        client.get("a", "/").expect(200);
    }
    assert_eq!(big.count() + small.count(), 200);
    assert!(
        (5..=45).contains(&small.count()),
        "{} of 200 for a tenth",
        small.count()
    );
}

#[test]
fn the_listener_can_be_a_unix_socket() {
    let server = Upstream::says("hi");
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"unix:$DIR/web.sock\"\nsocket_mode = \"0666\"\n[[route]]\nto = \"{}\"\n",
        server.addr()
    );
    let proxy = Proxyd::start(&text);
    let socket = proxy.file("web.sock");
    let args = ["--unix-socket", socket.to_str().unwrap(), "http://a.test/"];
    assert_eq!(support::tool::curl(&args).success().out, "hi");
}

#[test]
fn the_demo_server_is_built_in() {
    let text = format!(
        "{LISTENER}[[upstream]]\nname = \"demo\"\n[[upstream.server]]\nname = \"one\"\nbuiltin = \"demo\"\n\
         [[upstream.server]]\nname = \"two\"\nbuiltin = \"demo\"\n[[route]]\nto = \"demo\"\n"
    );
    let proxy = Proxyd::start(&text);
    support::eventually("the demo server answers", PATIENCE, || {
        (proxy.get("a", "/").status == 200).then_some(())
    });
    let bodies: std::collections::HashSet<String> = (0..4)
        .map(|_| proxy.get("a", "/").expect(200).text())
        .collect();
    assert!(!bodies.is_empty());
}
