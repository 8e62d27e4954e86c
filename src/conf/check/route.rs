//! Routes against each other: which two can never be told apart, and which is never reached.

use crate::conf::build::{Draft, Part};
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings};
use crate::http::params::{Condition, HostPattern, Matcher, PathPattern, RouteParams, ValueMatch};

/// Reports pairs of routes that are the same or hide each other.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    // A route with a mistake in it may match something else than was meant.
    let sound: Vec<_> = draft
        .routes
        .iter()
        .filter(|r| !findings.spoil(r.table))
        .collect();
    for (index, later) in sound.iter().enumerate() {
        for earlier in sound.iter().take(index) {
            if earlier.place == later.place {
                // One route with different settings on different listeners.
                continue;
            }
            pair(earlier, later, findings);
        }
    }
}

fn pair(earlier: &Part<'_, RouteParams>, later: &Part<'_, RouteParams>, findings: &mut Findings) {
    let (a, b) = (&earlier.value.matcher, &later.value.matcher);
    if !listeners_meet(a, b) {
        return;
    }
    let Some((host, path)) = shared_pattern(a, b) else {
        return;
    };
    if a.priority == b.priority {
        if same_conditions(a, b)
            && methods_meet(a, b)
            && a.methods.is_empty() == b.methods.is_empty()
        {
            findings.push(
                Finding::new(
                    Code::SameRoutes,
                    later.place,
                    "these two routes match exactly the same requests",
                )
                .label(format!("{host}, {path}"))
                .also(earlier.place, format!("also {host}, {path}"))
                .help("give one of them a path, a header match, or a `priority`"),
            );
        }
        return;
    }
    let (winner, loser) = if a.priority > b.priority {
        (earlier, later)
    } else {
        (later, earlier)
    };
    if covers(&winner.value.matcher, &loser.value.matcher) {
        findings.push(
            Finding::new(
                Code::ShadowedRoute,
                loser.place,
                format!("route `{}` is never reached", loser.value.name),
            )
            .label(format!("{host}, {path}"))
            .also(winner.place, "matches the same with a higher priority"),
        );
    }
}

fn listeners_meet(a: &Matcher, b: &Matcher) -> bool {
    a.listeners.is_empty()
        || b.listeners.is_empty()
        || a.listeners.iter().any(|l| b.listeners.contains(l))
}

fn methods_meet(a: &Matcher, b: &Matcher) -> bool {
    a.methods.is_empty() || b.methods.is_empty() || a.methods.iter().any(|m| b.methods.contains(m))
}

/// A host and a path that stand in both, as words.
fn shared_pattern(a: &Matcher, b: &Matcher) -> Option<(String, String)> {
    let host = hosts(a).into_iter().find(|h| hosts(b).contains(h))?;
    let path = paths(a).into_iter().find(|p| paths(b).contains(p))?;
    Some((host, path))
}

fn hosts(matcher: &Matcher) -> Vec<String> {
    if matcher.hosts.is_empty() {
        return vec!["any host".to_owned()];
    }
    matcher
        .hosts
        .iter()
        .map(|h| match h {
            HostPattern::Exact(name) => format!("host {name}"),
            HostPattern::Wildcard(name) => format!("host *.{name}"),
            HostPattern::Any => "any host".to_owned(),
        })
        .collect()
}

fn paths(matcher: &Matcher) -> Vec<String> {
    if matcher.paths.is_empty() {
        return vec!["path /".to_owned()];
    }
    matcher
        .paths
        .iter()
        .map(|p| match p {
            PathPattern::Exact(path) => format!("path ={path}"),
            PathPattern::Prefix(path) => format!("path {path}"),
            PathPattern::Regex(regex) => format!("path ~{regex}"),
        })
        .collect()
}

/// Conditions as comparable words, in any order.
fn words(list: &[Condition]) -> Vec<String> {
    let mut words: Vec<String> = list
        .iter()
        .map(|c| match &c.value {
            ValueMatch::Present => format!("{} is there", c.name),
            ValueMatch::Absent => format!("{} is not there", c.name),
            ValueMatch::Exact(value) => format!("{}={value}", c.name),
            ValueMatch::Regex(regex) => format!("{}~{regex}", c.name),
        })
        .collect();
    words.sort();
    words
}

fn same_conditions(a: &Matcher, b: &Matcher) -> bool {
    words(&a.headers) == words(&b.headers) && words(&a.query) == words(&b.query)
}

/// Whether `a` matches every request that `b` matches.
fn covers(a: &Matcher, b: &Matcher) -> bool {
    let subset = |inner: &[String], outer: &[String]| inner.iter().all(|x| outer.contains(x));
    let listeners =
        a.listeners.is_empty() || (!b.listeners.is_empty() && subset(&b.listeners, &a.listeners));
    let methods = a.methods.is_empty() || (!b.methods.is_empty() && subset(&b.methods, &a.methods));
    listeners
        && methods
        && subset(&hosts(b), &hosts(a))
        && subset(&paths(b), &paths(a))
        && subset(&words(&a.headers), &words(&b.headers))
        && subset(&words(&a.query), &words(&b.query))
}
