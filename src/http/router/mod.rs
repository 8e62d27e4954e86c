//! Which route a request takes: listener, host, path, methods, headers, query. Built once per
//! generation and never changed.
//!
//! The most specific route wins, wherever it stands in the file (`order`): exact host, longest
//! wildcard, any host; then exact path, longest prefix, expressions; then conditions. A route
//! whose conditions do not hold gives way to the next specific one, also to one of a less
//! specific host. The cost of a lookup depends on the request, not on the number of routes, and
//! nothing is allocated (a regular expression may).

pub mod check;
mod condition;
mod hash;
mod host;
mod order;
mod path;

use std::collections::HashMap;

use self::condition::Rule;
use self::host::HostTable;
use super::params::{HostPattern, Matcher, PathPattern, RouteParams};
use crate::proto::head::{Field, RequestHead};

/// A route, by its place in the list that the router was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

impl RouteId {
    /// As an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why no route takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// None matches.
    NoRoute,
    /// One would, but for the method; [`Router::allow`] tells which would do.
    Method,
}

/// What is asked about a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The host: no port, no trailing dot, any case.
    pub host: &'a [u8],
    /// The path in normal form.
    pub path: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The query as received.
    pub query: Option<&'a [u8]>,
    /// The fields, with spans into `buf`.
    pub fields: &'a [Field],
    /// The buffer of the head.
    pub buf: &'a [u8],
}

impl<'a> Ask<'a> {
    /// About a received request; `host` is that of the head or the listener's default, `path` is
    /// in normal form.
    #[must_use]
    pub fn of(head: &'a RequestHead, buf: &'a [u8], host: &'a [u8], path: &'a [u8]) -> Self {
        Self {
            host,
            path,
            method: head.method.as_bytes(buf),
            query: head.query.map(|query| query.of(buf)),
            fields: &head.fields,
            buf,
        }
    }
}

/// The routes of a generation.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// What each route asks besides host and path, by route.
    rules: Box<[Rule]>,
    /// The table of each listener, by its place in the list of listeners. Listeners with the same
    /// routes share one.
    listeners: Box<[usize]>,
    tables: Box<[HostTable]>,
}

impl Router {
    /// Builds the router for some listeners, given by name. Their order gives the numbers that
    /// [`Router::find`] takes.
    #[must_use]
    pub fn new(listeners: &[&str], routes: &[RouteParams]) -> Self {
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut tables = Vec::new();
        let by_listener = listeners
            .iter()
            .map(|name| {
                let members = routes_of(name, routes);
                *known.entry(members).or_insert_with_key(|members| {
                    tables.push(HostTable::new(members, routes));
                    tables.len() - 1
                })
            })
            .collect();
        Self {
            rules: routes
                .iter()
                .map(|route| Rule::new(&route.matcher))
                .collect(),
            listeners: by_listener,
            tables: tables.into(),
        }
    }

    /// The route that takes a request on a listener.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, listener: usize, ask: &Ask<'_>) -> Result<RouteId, Miss> {
        let mut miss = Miss::NoRoute;
        let found = self.table(listener).and_then(|table| {
            table.find(ask.host, ask.path, &mut |route| {
                let Some(rule) = self.rules.get(route as usize) else {
                    return false;
                };
                if rule.takes_method(ask.method) {
                    return rule.holds(ask);
                }
                if miss == Miss::NoRoute && rule.holds(ask) {
                    miss = Miss::Method;
                }
                false
            })
        });
        found.map(RouteId).ok_or(miss)
    }

    /// Appends the methods that would do, as Allow lists them.
    pub fn allow(&self, listener: usize, ask: &Ask<'_>, out: &mut Vec<u8>) {
        let mut methods: Vec<&[u8]> = Vec::new();
        if let Some(table) = self.table(listener) {
            table.find(ask.host, ask.path, &mut |route| {
                if let Some(rule) = self
                    .rules
                    .get(route as usize)
                    .filter(|rule| rule.holds(ask))
                {
                    methods.extend(rule.methods());
                }
                false
            });
        }
        methods.sort_unstable();
        methods.dedup();
        out.extend_from_slice(&methods.join(b", ".as_slice()));
    }

    fn table(&self, listener: usize) -> Option<&HostTable> {
        self.listeners
            .get(listener)
            .and_then(|table| self.tables.get(*table))
    }
}

/// The routes that listen to a listener.
fn routes_of(listener: &str, routes: &[RouteParams]) -> Vec<u32> {
    (0_u32..)
        .zip(routes)
        .filter(|(_, route)| {
            let names = &route.matcher.listeners;
            names.is_empty() || names.iter().any(|name| name == listener)
        })
        .map(|(id, _)| id)
        .collect()
}

/// The hosts of a route; no host is any host.
fn hosts(matcher: &Matcher) -> impl Iterator<Item = &HostPattern> {
    const ANY: &HostPattern = &HostPattern::Any;
    let any = matcher.hosts.is_empty().then_some(ANY);
    matcher.hosts.iter().chain(any)
}

/// A path pattern in the form in which two that mean the same are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PathKey<'a> {
    Exact(&'a str),
    /// Without a slash at the end; `/` is empty.
    Prefix(&'a str),
    /// Its source text.
    Regex(&'a str),
}

impl<'a> PathKey<'a> {
    fn of(pattern: &'a PathPattern) -> Self {
        match pattern {
            PathPattern::Exact(path) => Self::Exact(path),
            PathPattern::Prefix(path) => Self::Prefix(path.strip_suffix('/').unwrap_or(path)),
            PathPattern::Regex(regex) => Self::Regex(regex.as_str()),
        }
    }
}

/// The paths of a route; no path is every path.
fn paths(matcher: &Matcher) -> impl Iterator<Item = PathKey<'_>> {
    let every = matcher.paths.is_empty().then_some(PathKey::Prefix(""));
    matcher.paths.iter().map(PathKey::of).chain(every)
}

#[cfg(test)]
mod tests;
