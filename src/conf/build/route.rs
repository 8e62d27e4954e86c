//! `[[route]]`: what it matches, what it does, and the settings it ends up with on its listeners.

use std::collections::BTreeMap;

use super::settings;
use super::upstream::{derived, plain_server, plain_tls};
use super::{Builder, Part, free_name, suggestion};
use crate::base::addr;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Place};
use crate::conf::grammar::{self, Target};
use crate::conf::model::Listener;
use crate::conf::tree::{Node, Table, Value};
use crate::conf::view::View;
use crate::http::params::{
    Action, Buffering, Condition, HeaderRules, HostPattern, HostRewrite, Matcher, Normalize,
    PathPattern, PathRewrite, RetryParams, RouteParams, Timeouts, ValueMatch, WeightedUpstream,
};
use crate::upstream::params::{ServerAddress, UpstreamParams};

type Upstreams<'t> = Vec<Part<'t, UpstreamParams>>;

/// What merges over `[defaults]`, listener, upstream and route.
#[derive(Clone, PartialEq)]
struct Settings {
    timeouts: Timeouts,
    request_headers: HeaderRules,
    response_headers: HeaderRules,
    buffering: Buffering,
    retry: RetryParams,
    max_body: Option<u64>,
}

impl<'t> Builder<'t> {
    /// Every `[[route]]`; upstreams given in place are added to the list.
    pub(super) fn routes(
        &self,
        root: View<'t>,
        listeners: &[Part<'t, Listener>],
        upstreams: &mut Upstreams<'t>,
    ) -> Vec<Part<'t, RouteParams>> {
        let rows = root.rows("route");
        let explicit: Vec<&str> = rows
            .iter()
            .filter_map(|t| View::new(t).text("name"))
            .collect();
        let mut names: BTreeMap<String, Vec<(Vec<String>, Place)>> = BTreeMap::new();
        let mut parts = Vec::new();
        for (index, table) in rows.iter().enumerate() {
            let view = View::new(table);
            let name = view.text("name").map_or_else(
                || free_name(&format!("route-{}", index + 1), |n| explicit.contains(&n)),
                ToOwned::to_owned,
            );
            self.claim_route(&mut names, &name, table);
            self.check_headers(view);
            let Some(action) = self.action(root, &name, table, upstreams) else {
                continue;
            };
            let matcher = self.matcher(view, listeners);
            let base = RouteParams {
                action,
                matcher,
                ..self.route(name, view)
            };
            self.check_raw(&base, table);
            parts.extend(self.spread(root, table, base, listeners, upstreams));
        }
        parts
    }

    /// Two routes may share a name when each listener has at most one of them.
    fn claim_route(
        &self,
        names: &mut BTreeMap<String, Vec<(Vec<String>, Place)>>,
        name: &str,
        table: &Table,
    ) {
        let view = View::new(table);
        let own = view.texts("listener").unwrap_or_default();
        let place = view.node("name").map_or(table.place, |n| n.place);
        let others = names.entry(name.to_owned()).or_default();
        let clash = others.iter().find(|(theirs, _)| {
            own.is_empty() || theirs.is_empty() || theirs.iter().any(|l| own.contains(l))
        });
        if let Some((_, first)) = clash {
            self.report(
                Finding::new(
                    Code::Duplicate,
                    place,
                    format!("route `{name}` is defined twice"),
                )
                .also(*first, "first defined here")
                .help("names are what logs, metrics and references use: choose another one"),
            );
        }
        others.push((own, place));
    }

    /// One route for each group of listeners on which it ends up with the same settings.
    fn spread(
        &self,
        root: View<'t>,
        table: &'t Table,
        base: RouteParams,
        listeners: &[Part<'t, Listener>],
        upstreams: &[Part<'t, UpstreamParams>],
    ) -> Vec<Part<'t, RouteParams>> {
        let mut groups: Vec<(Settings, Vec<String>)> = Vec::new();
        // Once for a route, not once for every listener: a file may have many of all three.
        let timeouts = upstream_timeouts(&base.action, upstreams);
        let wanted = &base.matcher.listeners;
        for listener in listeners {
            let name = &listener.value.http.name;
            if !wanted.is_empty() && !wanted.contains(name) {
                continue;
            }
            let merged = merged(root, View::new(listener.table), table, &timeouts);
            match groups.iter_mut().find(|(s, _)| *s == merged) {
                Some((_, names)) => names.push(name.clone()),
                None => groups.push((merged, vec![name.clone()])),
            }
        }
        if groups.len() <= 1 {
            let settings = groups
                .pop()
                .map_or_else(|| merged(root, View::none(), table, &timeouts), |(s, _)| s);
            return vec![part(table, apply(base, settings))];
        }
        groups
            .into_iter()
            .map(|(settings, names)| {
                let mut route = base.clone();
                route.matcher.listeners = names;
                part(table, apply(route, settings))
            })
            .collect()
    }

    fn matcher(&self, view: View<'t>, listeners: &[Part<'t, Listener>]) -> Matcher {
        for node in view.nodes("listener") {
            let name = node.text().unwrap_or("");
            if !listeners.iter().any(|l| l.value.http.name == name) {
                let mut finding = Finding::new(
                    Code::UnknownListener,
                    node.place,
                    format!("listener `{name}` is not defined"),
                )
                .help("define it with [[listener]] name = \"...\"");
                finding.label = suggestion(name, listeners.iter().map(|l| &l.value.http.name));
                self.report(finding);
            }
        }
        let texts = |key: &str| view.texts(key).unwrap_or_default();
        let mut hosts: Vec<HostPattern> = texts("host")
            .iter()
            .filter_map(|t| grammar::parse_host_pattern(t))
            .collect();
        if hosts.contains(&HostPattern::Any) {
            hosts.clear();
        }
        Matcher {
            listeners: texts("listener"),
            hosts,
            paths: texts("path")
                .iter()
                .filter_map(|t| grammar::parse_path_pattern(t))
                .collect(),
            methods: texts("methods")
                .iter()
                .map(|m| m.to_ascii_uppercase())
                .collect(),
            headers: conditions(view.sub("headers_match"), true),
            query: conditions(view.sub("query"), false),
            priority: view.number("priority").unwrap_or(0),
        }
    }

    fn route(&self, name: String, view: View<'t>) -> RouteParams {
        let prefix = |key: &str| view.text(key).map(ToOwned::to_owned);
        let replace = view.sub("replace_prefix");
        if let (true, Some(node)) = (
            replace.exists(),
            view.node("strip_prefix").or(view.node("add_prefix")),
        ) {
            self.report(Finding::new(
                Code::Exclusive,
                node.place,
                "`replace_prefix` excludes `strip_prefix` and `add_prefix`",
            ));
        }
        RouteParams {
            name,
            matcher: Matcher {
                listeners: Vec::new(),
                hosts: Vec::new(),
                paths: Vec::new(),
                methods: Vec::new(),
                headers: Vec::new(),
                query: Vec::new(),
                priority: 0,
            },
            action: Action::Forward(Vec::new()),
            request_headers: HeaderRules::default(),
            response_headers: HeaderRules::default(),
            host: match view.text("host_rewrite") {
                None | Some("preserve") => HostRewrite::Preserve,
                Some("upstream") => HostRewrite::Upstream,
                Some(fixed) => HostRewrite::Fixed(fixed.to_owned()),
            },
            path: PathRewrite {
                strip_prefix: prefix("strip_prefix")
                    .or_else(|| replace.text("from").map(ToOwned::to_owned)),
                add_prefix: prefix("add_prefix")
                    .or_else(|| replace.text("to").map(ToOwned::to_owned)),
            },
            normalize: match view.text("normalize") {
                Some("strict") => Normalize::Strict,
                Some("raw") => Normalize::Raw,
                _ => Normalize::On,
            },
            buffering: Buffering::default(),
            retry: RetryParams::default(),
            timeouts: Timeouts::default(),
            max_body: None,
            upgrade: view
                .texts("upgrade")
                .map(|list| list.iter().map(|p| p.to_ascii_lowercase()).collect())
                .unwrap_or_else(|| vec!["websocket".to_owned()]),
            trailers: view.flag("trailers").unwrap_or(false),
            early_hints: view.flag("early_hints").unwrap_or(false),
            drain_timeout: view.duration("drain_timeout"),
            access_log: view.flag("access_log").unwrap_or(true),
        }
    }

    fn check_raw(&self, route: &RouteParams, table: &Table) {
        let everything = route
            .matcher
            .paths
            .iter()
            .all(|p| matches!(p, PathPattern::Prefix(p) if p == "/"));
        if route.normalize == Normalize::Raw && !everything {
            let place = table.get("normalize").map_or(table.place, |n| n.place);
            self.report(
                Finding::new(
                    Code::NotRaw,
                    place,
                    "`raw` paths need a route that matches every path",
                )
                .help("remove `path`, or write normalize = \"on\""),
            );
        }
    }

    fn action(
        &self,
        root: View<'t>,
        name: &str,
        table: &'t Table,
        upstreams: &mut Upstreams<'t>,
    ) -> Option<Action> {
        let view = View::new(table);
        let written: Vec<_> = table
            .entries
            .iter()
            .filter(|e| ["to", "redirect", "respond"].contains(&e.key.as_str()))
            .collect();
        match written.as_slice() {
            [] => {
                self.report(
                    Finding::new(
                        Code::NoAction,
                        table.place,
                        format!("route `{name}` does nothing"),
                    )
                    .help("write to = \"...\", redirect = \"...\" or respond = { status = 200 }"),
                );
                None
            }
            [one] => match one.key.as_str() {
                "to" => self
                    .forward(root, name, table, upstreams)
                    .map(Action::Forward),
                "redirect" => self.redirect(view),
                _ => Some(respond(view)),
            },
            [first, second, ..] => {
                self.report(
                    Finding::new(
                        Code::Exclusive,
                        second.key_place,
                        format!("`{}` and `{}` exclude each other", first.key, second.key),
                    )
                    .also(first.key_place, "already written here"),
                );
                None
            }
        }
    }

    fn redirect(&self, view: View<'t>) -> Option<Action> {
        let inner = view.sub("redirect");
        let to = view.text("redirect").or(inner.text("to"))?.to_owned();
        let status = inner.number("status").unwrap_or(308);
        if ![301, 302, 303, 307, 308].contains(&status) {
            let place = inner.node("status").map(|n| n.place).unwrap_or_default();
            self.report(
                Finding::new(
                    Code::OutOfRange,
                    place,
                    format!("`{status}` is not a redirect"),
                )
                .help("allowed here: 301, 302, 303, 307, 308"),
            );
        }
        Some(Action::Redirect { to, status })
    }

    fn forward(
        &self,
        root: View<'t>,
        name: &str,
        table: &'t Table,
        upstreams: &mut Upstreams<'t>,
    ) -> Option<Vec<WeightedUpstream>> {
        let node = table.get("to")?;
        let mut named = Vec::new();
        let mut servers = Vec::new();
        for element in node.elements() {
            match element.text().map(grammar::parse_target) {
                None => named.push(self.weighted(element, upstreams)?),
                Some(Ok(Target::Name(upstream))) => {
                    self.know_upstream(&upstream, element.place, upstreams);
                    named.push(WeightedUpstream {
                        upstream,
                        weight: 1,
                    });
                }
                Some(Ok(Target::Server(endpoint, tls))) => {
                    servers.push((endpoint, tls, element.place));
                }
                Some(Err(_reported)) => return None,
            }
        }
        let Some((_, tls, first)) = servers.first() else {
            if named.iter().all(|w| w.weight == 0) {
                self.report(
                    Finding::new(
                        Code::NoAction,
                        node.place,
                        "`to` names nothing that takes requests",
                    )
                    .help("write an upstream with a weight above 0"),
                );
            }
            return Some(named);
        };
        let odd = servers
            .iter()
            .find(|(_, t, _)| t != tls)
            .map(|(_, _, p)| *p);
        if let Some(place) = odd.or((!named.is_empty()).then_some(node.place)) {
            self.report(
                Finding::new(
                    Code::Exclusive,
                    place,
                    "a list holds either addresses of one kind, or upstreams",
                )
                .also(*first, "the first address")
                .help("define an [[upstream]] and write its name"),
            );
            return None;
        }
        let tls = tls.then(plain_tls);
        let mut seen = BTreeMap::new();
        let list = servers
            .into_iter()
            .map(|(endpoint, _, place)| {
                let server = endpoint.to_string();
                self.claim(&mut seen, "server", &server, place);
                plain_server(server, ServerAddress::Endpoint(endpoint))
            })
            .collect();
        let upstream = free_name(name, |n| upstreams.iter().any(|u| u.value.name == n));
        upstreams.push(Part {
            table,
            place: node.place,
            derived: true,
            value: UpstreamParams {
                tls,
                ..derived(upstream.clone(), list, root.sub("defaults"))
            },
        });
        Some(vec![WeightedUpstream {
            upstream,
            weight: 1,
        }])
    }

    fn weighted(&self, element: &Node, upstreams: &Upstreams<'t>) -> Option<WeightedUpstream> {
        let view = View::new(element.table()?);
        let node = view.node("upstream")?;
        let upstream = node.text()?.to_owned();
        self.know_upstream(&upstream, node.place, upstreams);
        Some(WeightedUpstream {
            upstream,
            weight: view.number("weight").unwrap_or(1),
        })
    }

    fn know_upstream(&self, name: &str, place: Place, upstreams: &Upstreams<'t>) {
        let mut known = upstreams.iter().filter(|u| !u.derived);
        if known.any(|u| u.value.name == name) {
            return;
        }
        let mut finding = Finding::new(
            Code::UnknownUpstream,
            place,
            format!("route sends to upstream `{name}`, which is not defined"),
        );
        finding.label = suggestion(
            name,
            upstreams
                .iter()
                .filter(|u| !u.derived)
                .map(|u| &u.value.name),
        );
        // A name with dots and nothing like it among the upstreams is an address without port.
        if finding.label.is_none() && name.contains('.') && addr::parse_host(name).is_ok() {
            finding = Finding::new(Code::NoPort, place, "server address has no port")
                .label("expected host:port");
        } else {
            finding.help = Some(
                "define it with [[upstream]] name = \"...\", or write an address such as \"http://127.0.0.1:9000\""
                    .to_owned(),
            );
        }
        self.report(finding);
    }
}

fn part(table: &Table, value: RouteParams) -> Part<'_, RouteParams> {
    Part {
        table,
        place: table.place,
        derived: false,
        value,
    }
}

fn apply(base: RouteParams, settings: Settings) -> RouteParams {
    RouteParams {
        timeouts: settings.timeouts,
        request_headers: settings.request_headers,
        response_headers: settings.response_headers,
        buffering: settings.buffering,
        retry: settings.retry,
        max_body: settings.max_body,
        ..base
    }
}

/// The settings of a route on one listener.
fn merged(root: View<'_>, listener: View<'_>, table: &Table, upstreams: &[View<'_>]) -> Settings {
    let defaults = root.sub("defaults");
    let route = View::new(table);
    let mut to = Settings {
        timeouts: Timeouts::default(),
        request_headers: HeaderRules::default(),
        response_headers: HeaderRules::default(),
        buffering: Buffering::default(),
        retry: RetryParams::default(),
        max_body: crate::http::params::Limits::default().request_body,
    };
    settings::timeouts(defaults.sub("timeouts"), &mut to.timeouts);
    settings::exchange_timeouts(listener.sub("timeouts"), &mut to.timeouts);
    longest_timeouts(upstreams, &mut to.timeouts);
    settings::timeouts(route.sub("timeouts"), &mut to.timeouts);
    let mut first = true;
    for level in [defaults, listener, route] {
        let headers = level.sub("headers");
        settings::headers(headers.sub("request"), &mut to.request_headers);
        settings::headers(headers.sub("response"), &mut to.response_headers);
        settings::buffering(level.sub("buffering"), &mut to.buffering);
        settings::retry(level.sub("retry"), &mut to.retry, &mut first);
        if let Some(limit) = settings::body_limit(level.sub("limits"), "request_body") {
            to.max_body = limit;
        }
    }
    if let Some(limit) = settings::body_limit(route, "max_body") {
        to.max_body = limit;
    }
    to
}

/// What the upstreams of a route say about deadlines.
fn upstream_timeouts<'t>(action: &Action, upstreams: &[Part<'t, UpstreamParams>]) -> Vec<View<'t>> {
    let Action::Forward(targets) = action else {
        return Vec::new();
    };
    upstreams
        .iter()
        .filter(|u| !u.derived && targets.iter().any(|t| t.upstream == u.value.name))
        .map(|u| View::new(u.table).sub("timeouts"))
        .collect()
}

/// The longest of several deadlines counts.
fn longest_timeouts(views: &[View<'_>], to: &mut Timeouts) {
    let longest = |key: &str| views.iter().filter_map(|v| v.duration(key)).max();
    to.connect = longest("connect").unwrap_or(to.connect);
    to.tls = longest("tls").unwrap_or(to.tls);
    to.response_header = longest("response_header").unwrap_or(to.response_header);
    to.response_body = longest("response_body").unwrap_or(to.response_body);
}

fn respond(view: View<'_>) -> Action {
    let inner = view.sub("respond");
    let status = inner.number("status").or(view.number("respond"));
    let body = inner.text("body").or(view.text("respond")).unwrap_or("");
    Action::Respond {
        status: status.unwrap_or(200),
        body: body.as_bytes().to_vec(),
        content_type: inner
            .text("content_type")
            .unwrap_or("text/plain; charset=utf-8")
            .to_owned(),
    }
}

fn conditions(view: View<'_>, lower: bool) -> Vec<Condition> {
    let entries = view
        .table()
        .map(|t| t.entries.as_slice())
        .unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let value = match &entry.node.value {
                Value::Bool(true) => ValueMatch::Present,
                Value::Bool(false) => ValueMatch::Absent,
                Value::Text(text) => grammar::parse_value_match(text)?,
                _ => return None,
            };
            let name = if lower {
                entry.key.to_ascii_lowercase()
            } else {
                entry.key.clone()
            };
            Some(Condition { name, value })
        })
        .collect()
}
