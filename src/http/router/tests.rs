//! The router against tables, and against a plain search through all routes.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::http::params::{
    Action, Buffering, Condition, HeaderRules, HostRewrite, Normalize, PathRewrite, RetryParams,
    Timeouts, ValueMatch,
};
use crate::proto::head::{FieldId, Span};

/// A route from words such as `host=a,*.b path=/x,=/y,~^/z method=GET header=n:v query=n
/// header=!n priority=1 listener=l`. Its name sorts as its number does.
pub(super) fn route(number: usize, spec: &str) -> RouteParams {
    let mut matcher = Matcher {
        listeners: Vec::new(),
        hosts: Vec::new(),
        paths: Vec::new(),
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        priority: 0,
    };
    for word in spec.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        let list = || value.split(',').map(str::to_owned);
        match key {
            "listener" => matcher.listeners = list().collect(),
            "host" => matcher.hosts = value.split(',').map(host_pattern).collect(),
            "path" => matcher.paths = value.split(',').map(path_pattern).collect(),
            "method" => matcher.methods = list().collect(),
            "header" => matcher.headers.push(condition(value)),
            "query" => matcher.query.push(condition(value)),
            "priority" => matcher.priority = value.parse().unwrap(),
            _ => panic!("{word}"),
        }
    }
    RouteParams {
        name: format!("r{number:05}"),
        matcher,
        action: Action::Forward(Vec::new()),
        request_headers: HeaderRules::default(),
        response_headers: HeaderRules::default(),
        host: HostRewrite::default(),
        path: PathRewrite::default(),
        normalize: Normalize::default(),
        buffering: Buffering::default(),
        retry: RetryParams::default(),
        timeouts: Timeouts::default(),
        max_body: None,
        upgrade: Vec::new(),
        trailers: false,
        early_hints: false,
        drain_timeout: None,
        access_log: true,
    }
}

fn host_pattern(text: &str) -> HostPattern {
    match text.strip_prefix('*') {
        Some("") => HostPattern::Any,
        Some(rest) => HostPattern::Wildcard(rest.trim_start_matches('.').to_owned()),
        None => HostPattern::Exact(text.to_owned()),
    }
}

fn path_pattern(text: &str) -> PathPattern {
    if let Some(exact) = text.strip_prefix('=') {
        PathPattern::Exact(exact.to_owned())
    } else if let Some(regex) = text.strip_prefix('~') {
        PathPattern::Regex(Regex::new(regex).unwrap())
    } else {
        PathPattern::Prefix(text.to_owned())
    }
}

/// `name`, `!name`, `name:value` or `name:~regex`.
fn condition(text: &str) -> Condition {
    let (name, value) = match text.split_once(':') {
        _ if text.starts_with('!') => (&text[1..], ValueMatch::Absent),
        None => (text, ValueMatch::Present),
        Some((name, value)) => match value.strip_prefix('~') {
            Some(regex) => (name, ValueMatch::Regex(Regex::new(regex).unwrap())),
            None => (name, ValueMatch::Exact(value.to_owned())),
        },
    };
    Condition {
        name: name.to_owned(),
        value,
    }
}

/// A request: `METHOD host path[?query] [field:value]…`.
#[derive(Clone, Debug)]
struct Request {
    words: Vec<String>,
    buf: Vec<u8>,
    fields: Vec<Field>,
}

impl Request {
    fn new(text: &str) -> Self {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let mut buf = Vec::new();
        let mut fields = Vec::new();
        for word in words.iter().skip(3) {
            let (name, value) = word.split_once(':').unwrap();
            let mut put = |text: &str| {
                let start = buf.len();
                buf.extend_from_slice(text.as_bytes());
                Span::new(start, buf.len())
            };
            fields.push(Field {
                id: FieldId::of(name.as_bytes()),
                hop: name.starts_with("x-hop"),
                name: put(name),
                value: put(value),
            });
        }
        Self { words, buf, fields }
    }

    fn path(&self) -> &str {
        self.words[2].split('?').next().unwrap()
    }

    fn query(&self) -> Option<&str> {
        self.words[2].split_once('?').map(|(_, query)| query)
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            method: self.words[0].as_bytes(),
            host: self.words[1].as_bytes(),
            path: self.path().as_bytes(),
            query: self.query().map(str::as_bytes),
            fields: &self.fields,
            buf: &self.buf,
        }
    }
}

fn find(specs: &[&str], request: &str) -> Result<usize, Miss> {
    let routes: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| route(i, spec))
        .collect();
    let router = Router::new(&["web"], &routes);
    router
        .find(0, &Request::new(request).ask())
        .map(RouteId::index)
}

#[test]
fn host_exact_then_longest_wildcard_then_any() {
    let specs = ["", "host=*.org", "host=*.example.org", "host=a.example.org"];
    for (host, want) in [
        ("a.example.org", 3),
        ("A.Example.ORG", 3),
        ("b.example.org", 2),
        ("x.a.example.org", 2),
        ("example.org", 1),
        ("org", 0),
        ("other", 0),
        (".org", 0),
        ("[::1]", 0),
    ] {
        assert_eq!(find(&specs, &format!("GET {host} /")), Ok(want), "{host}");
    }
    let long = "a".repeat(300);
    assert_eq!(
        find(&specs, &format!("GET {long}.org /")),
        Ok(0),
        "nobody's name"
    );
    assert_eq!(
        find(&specs[1..], &format!("GET {long} /")),
        Err(Miss::NoRoute)
    );
    let deep = format!("{}example.org", "a.".repeat(100));
    assert_eq!(find(&specs, &format!("GET {deep} /")), Ok(2));
}

#[test]
fn path_exact_then_longest_prefix_then_expressions() {
    let specs = [
        "path=~^/q/[0-9]+$",
        "path=/a",
        "path=/a/b/",
        "path==/a/b",
        "path==/a/b/",
        "path=/c",
    ];
    for (path, want) in [
        ("/a", Ok(1)),
        ("/a/", Ok(1)),
        ("/a/x", Ok(1)),
        ("/ab", Err(Miss::NoRoute)),
        ("/a/b", Ok(3)),
        ("/a/b/", Ok(4)),
        ("/a/b/c", Ok(2)),
        ("/a/bc", Ok(1)),
        ("/a//b", Ok(1)),
        ("/q/77", Ok(0)),
        ("/q/x", Err(Miss::NoRoute)),
        ("/", Err(Miss::NoRoute)),
        ("//a", Err(Miss::NoRoute)),
        ("*", Err(Miss::NoRoute)),
        ("/c;x/y", Err(Miss::NoRoute)),
    ] {
        assert_eq!(find(&specs, &format!("GET h {path}")), want, "{path}");
    }
    assert_eq!(find(&["path==/"], "GET h /"), Ok(0));
    assert_eq!(find(&["path==/"], "GET h /x"), Err(Miss::NoRoute));
    assert_eq!(find(&["path=/"], "GET h /x/y"), Ok(0));
}

#[test]
fn expressions_by_priority_then_conditions_then_name() {
    let specs = [
        "path=~x",
        "path=~y priority=1",
        "path=~z header=h:1",
        "path=~w",
    ];
    for (request, want) in [
        ("GET h /xy", 1),
        ("GET h /xz", 0),
        ("GET h /xz h:1", 2),
        ("GET h /xw", 0),
        ("GET h /w", 3),
    ] {
        assert_eq!(find(&specs, request), Ok(want), "{request}");
    }
}

#[test]
fn conditions_make_a_route_more_specific() {
    let specs = [
        "path=/",
        "path=/ query=v:2",
        "path=/ header=x-tenant:a",
        "path=/ header=x-tenant:a header=x-beta",
        "path=/ method=POST",
        "path=/ priority=-1",
    ];
    for (request, want) in [
        ("GET h /", 0),
        ("GET h /?v=2", 1),
        ("GET h /?v=2 X-Tenant:a", 2),
        ("GET h / x-tenant:b", 0),
        ("GET h / x-tenant:a x-beta:", 3),
        ("POST h / x-tenant:a x-beta:1", 4),
        ("post h /", 0),
    ] {
        assert_eq!(find(&specs, request), Ok(want), "{request}");
    }
}

#[test]
fn a_route_that_does_not_hold_gives_way_to_the_next() {
    let specs = [
        "host=a path=/x/y header=k:1",
        "host=a path=/x header=k:2",
        "host=a path==/x/y header=k:3",
        "path=/x header=k:4",
        "host=*.a header=k:5",
        "",
    ];
    for (request, want) in [
        ("GET a /x/y k:1", 0),
        ("GET a /x/y k:2", 1),
        ("GET a /x/y k:3", 2),
        ("GET a /x/y k:4", 3),
        ("GET a /x/y k:9", 5),
        ("GET b.a /x k:5", 4),
        ("GET b.a /x k:4", 3),
        ("GET b.a /q", 5),
    ] {
        assert_eq!(find(&specs, request), Ok(want), "{request}");
    }
}

#[test]
fn a_wrong_method_is_told_from_no_route() {
    let specs = [
        "path=/x method=GET,HEAD",
        "path=/x/y method=PUT",
        "path=/x method=DELETE header=k:1",
        "path=/z",
    ];
    let routes: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| route(i, spec))
        .collect();
    let router = Router::new(&["web"], &routes);
    for (request, want) in [
        ("POST h /x", "GET, HEAD"),
        ("POST h /x/y", "GET, HEAD, PUT"),
        ("POST h /x/y k:1", "DELETE, GET, HEAD, PUT"),
    ] {
        let request = Request::new(request);
        assert_eq!(router.find(0, &request.ask()), Err(Miss::Method));
        let mut out = b"Allow: ".to_vec();
        router.allow(0, &request.ask(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("Allow: {want}"));
    }
    assert_eq!(
        find(&specs, "GET h /x/y"),
        Ok(0),
        "the shorter prefix takes it"
    );
    assert_eq!(find(&specs, "POST h /q"), Err(Miss::NoRoute));
    assert_eq!(
        find(&["method=GET header=k:1"], "POST h /"),
        Err(Miss::NoRoute)
    );
}

#[test]
fn header_conditions() {
    for (condition, request, want) in [
        ("header=a", "GET h / a:", true),
        ("header=a", "GET h /", false),
        ("header=!a", "GET h /", true),
        ("header=!a", "GET h / A:1", false),
        ("header=a:1", "GET h / a:2 A:1", true),
        ("header=a:X", "GET h / a:x", false),
        ("header=a:~^[0-9]+$", "GET h / a:12", true),
        ("header=a:~^[0-9]+$", "GET h / a:1x", false),
        ("header=cookie:~beta=1", "GET h / Cookie:a=b;beta=1", true),
        ("header=x-hop", "GET h / x-hop:1", false),
    ] {
        assert_eq!(
            find(&[condition], request).is_ok(),
            want,
            "{condition} {request}"
        );
    }
}

#[test]
fn query_conditions() {
    for (condition, path, want) in [
        ("query=a", "/?a", true),
        ("query=a", "/?a=", true),
        ("query=a", "/?b=a", false),
        ("query=a", "/", false),
        ("query=!a", "/", true),
        ("query=!a", "/?&x=1", true),
        ("query=!a", "/?%61=1", false),
        ("query=a:1", "/?a=2&a=1", true),
        ("query=a:1", "/?a=11", false),
        ("query=a:1=2", "/?a=1=2", true),
        ("query=a:x", "/?a=%78", true),
        ("query=a:x", "/?a=%7", false),
        ("query=a:~^x.y$", "/?a=x+y", true),
        ("query=a:~^xy$", "/?a=%78y", true),
        ("query=a:~^xy$", "/?a=xyz", false),
    ] {
        let request = format!("GET h {path}");
        assert_eq!(
            find(&[condition], &request).is_ok(),
            want,
            "{condition} {path}"
        );
    }
}

#[test]
fn listeners_have_their_own_routes() {
    let specs = [
        "",
        "listener=b",
        "listener=c,d path=/x",
        "listener=b path=/x method=GET",
    ];
    let routes: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| route(i, spec))
        .collect();
    let router = Router::new(&["a", "b", "c", "d", "e"], &routes);
    let request = Request::new("GET h /x");
    let found: Vec<_> = (0..5)
        .map(|l| router.find(l, &request.ask()).map(RouteId::index))
        .collect();
    assert_eq!(found, [Ok(0), Ok(3), Ok(2), Ok(2), Ok(0)]);
    assert_eq!(router.find(9, &request.ask()), Err(Miss::NoRoute));
    assert_eq!(router.tables.len(), 3, "a and e share one, c and d another");
    let request = Request::new("PUT h /y");
    assert_eq!(
        router.find(1, &request.ask()),
        Ok(RouteId(1)),
        "its own before everybody's"
    );
}

/// How well a route fits, by a plain reading of the rules; less is better.
type Fit = (u8, usize, u8, usize, Fit2);
type Fit2 = (i64, usize, usize, usize, bool, i64, String);

fn host_fit(pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
    let host = host.to_lowercase();
    match pattern {
        HostPattern::Exact(name) => (*name == host).then_some((0, 0)),
        HostPattern::Wildcard(name) => {
            let front = host.strip_suffix(name.as_str())?.strip_suffix('.')?;
            (!front.is_empty()).then_some((1, usize::MAX - name.len()))
        }
        HostPattern::Any => Some((2, 0)),
    }
}

fn path_fit(pattern: &PathPattern, path: &str) -> Option<(u8, usize)> {
    match pattern {
        PathPattern::Exact(exact) => (exact == path).then_some((0, 0)),
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let rest = path.strip_prefix(prefix)?;
            let boundary = rest.is_empty() || rest.starts_with('/');
            boundary.then_some((1, usize::MAX - prefix.len()))
        }
        PathPattern::Regex(regex) => regex.is_match(path).then_some((2, 0)),
    }
}

fn value_fits(want: &ValueMatch, values: &[String]) -> bool {
    match want {
        ValueMatch::Present => !values.is_empty(),
        ValueMatch::Absent => values.is_empty(),
        ValueMatch::Exact(text) => values.contains(text),
        ValueMatch::Regex(regex) => values.iter().any(|v| regex.is_match(v)),
    }
}

fn fit(route: &RouteParams, request: &Request) -> Option<(Fit, bool)> {
    let m = &route.matcher;
    if !m.listeners.is_empty() && !m.listeners.contains(&"web".to_owned()) {
        return None;
    }
    let host = hosts(m)
        .filter_map(|p| host_fit(p, &request.words[1]))
        .min()?;
    let every = [PathPattern::Prefix("/".to_owned())];
    let patterns = if m.paths.is_empty() {
        &every[..]
    } else {
        &m.paths
    };
    let path = patterns
        .iter()
        .filter_map(|p| path_fit(p, request.path()))
        .min()?;
    let header = |name: &str| -> Vec<String> {
        let fields = request
            .words
            .iter()
            .skip(3)
            .filter_map(|w| w.split_once(':'));
        fields
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v.to_owned())
            .collect()
    };
    let query = |name: &str| -> Vec<String> {
        let pairs = request.query().into_iter().flat_map(|q| q.split('&'));
        let pairs = pairs.map(|p| p.split_once('=').unwrap_or((p, "")));
        pairs
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v.to_owned())
            .collect()
    };
    let holds = m
        .headers
        .iter()
        .all(|c| value_fits(&c.value, &header(&c.name)))
        && m.query
            .iter()
            .all(|c| value_fits(&c.value, &query(&c.name)));
    let method = m.methods.is_empty() || m.methods.contains(&request.words[0]);
    let methods = if m.methods.is_empty() {
        usize::MAX
    } else {
        m.methods.len()
    };
    let priority = -i64::from(m.priority);
    let rest = (
        if path.0 == 2 { priority } else { 0 },
        methods,
        usize::MAX - m.headers.len(),
        usize::MAX - m.query.len(),
        m.listeners.is_empty(),
        priority,
        route.name.clone(),
    );
    holds.then_some(((host.0, host.1, path.0, path.1, rest), method))
}

fn reference(routes: &[RouteParams], request: &Request) -> Result<usize, Miss> {
    let fits: Vec<_> = routes
        .iter()
        .enumerate()
        .filter_map(|(i, route)| fit(route, request).map(|(fit, method)| (fit, method, i)))
        .collect();
    let best = fits.iter().filter(|(_, method, _)| *method).min();
    best.map(|(_, _, i)| *i).ok_or(if fits.is_empty() {
        Miss::NoRoute
    } else {
        Miss::Method
    })
}

fn spec() -> impl Strategy<Value = String> {
    let some = |words: &'static [&'static str]| prop::sample::select(words);
    let hosts = some(&[
        "",
        "host=a",
        "host=b.a",
        "host=*.a",
        "host=*.b.a",
        "host=*",
        "host=a,*.a",
        "host=c",
    ]);
    let paths = some(&[
        "",
        "path=/",
        "path=/x",
        "path=/x/",
        "path=/x/y",
        "path==/x",
        "path==/x/",
        "path==/",
        "path=~^/x",
        "path=~y",
        "path=~.",
        "path=/x,~y",
        "path==/x/y,/z",
        "path=/x//",
    ]);
    let methods = some(&["", "", "method=GET", "method=POST", "method=GET,PUT"]);
    let headers = some(&[
        "",
        "",
        "header=k:1",
        "header=k",
        "header=!k",
        "header=k:1 header=j",
    ]);
    let query = some(&["", "", "query=q:1", "query=!q", "query=q:~2"]);
    let rest = some(&[
        "",
        "",
        "priority=1",
        "priority=-1",
        "listener=web",
        "listener=other",
    ]);
    (hosts, paths, methods, headers, query, rest)
        .prop_map(|(a, b, c, d, e, f)| format!("{a} {b} {c} {d} {e} {f}"))
}

fn request() -> impl Strategy<Value = String> {
    (
        prop::sample::select(vec!["GET", "POST", "PUT"]),
        prop::sample::select(vec!["a", "b.a", "c.b.a", "B.A", "d.a", "c", "d", ".a"]),
        prop::sample::select(vec![
            "/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/y", "/z/x", "//", "/x//", "/x//y",
        ]),
        prop::sample::select(vec!["", "?q=1", "?q=2&q=3", "?r"]),
        prop::sample::select(vec!["", "k:1", "k:2", "k:1 j:", "j:1"]),
    )
        .prop_map(|(method, host, path, query, fields)| {
            format!("{method} {host} {path}{query} {fields}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_router_agrees_with_a_plain_search(
        specs in prop::collection::vec(spec(), 0..14),
        requests in prop::collection::vec(request(), 1..8),
    ) {
        let routes: Vec<_> = specs.iter().enumerate().map(|(i, spec)| route(i, spec)).collect();
        let router = Router::new(&["web"], &routes);
        for text in requests {
            let request = Request::new(&text);
            let found = router.find(0, &request.ask()).map(RouteId::index);
            prop_assert_eq!(found, reference(&routes, &request), "{} {:?}", text, specs);
        }
    }

    #[test]
    fn the_order_of_the_file_does_not_matter(
        specs in prop::collection::vec(spec(), 1..8),
        turn in 0_usize..8,
        text in request(),
    ) {
        let routes: Vec<_> = specs.iter().enumerate().map(|(i, spec)| route(i, spec)).collect();
        let mut turned = routes.clone();
        turned.rotate_left(turn % routes.len());
        let name = |routes: &[RouteParams]| {
            let found = Router::new(&["web"], routes).find(0, &Request::new(&text).ask());
            found.map(|id| routes[id.index()].name.clone())
        };
        prop_assert_eq!(name(&routes), name(&turned));
    }

    #[test]
    fn a_shadowed_route_never_gets_a_request(
        specs in prop::collection::vec(spec(), 1..8),
        requests in prop::collection::vec(request(), 1..30),
    ) {
        let routes: Vec<_> = specs.iter().enumerate().map(|(i, spec)| route(i, spec)).collect();
        let shadowed: Vec<usize> = check::shadowed(&routes).iter().map(|(i, _)| *i).collect();
        let router = Router::new(&["web"], &routes);
        for text in requests {
            if let Ok(id) = router.find(0, &Request::new(&text).ask()) {
                prop_assert!(!shadowed.contains(&id.index()), "{} {:?}", text, specs);
            }
        }
    }
}
