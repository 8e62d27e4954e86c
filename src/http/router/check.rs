//! Findings about a list of routes, for `proxyd -t`: routes that can never be told apart, and
//! routes that never get a request because another one takes them all.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::order::{Rank, by_conditions, by_priority};
use super::{PathKey, hosts, paths};
use crate::http::params::{Condition, HostPattern, Matcher, RouteParams, ValueMatch};

/// Pairs of routes (the earlier one first) between which only the name would decide for some
/// request: same listener, host, path and conditions. Each route is reported once, with the first
/// one that it collides with.
#[must_use]
pub fn ambiguous(routes: &[RouteParams]) -> Vec<(usize, usize)> {
    let mut groups: HashMap<Place<'_>, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    let mut told = HashSet::new();
    for (index, route) in routes.iter().enumerate() {
        for place in places(&route.matcher) {
            let group = groups.entry(place).or_default();
            let twin = group.iter().copied().find(|other| {
                *other != index
                    && routes
                        .get(*other)
                        .is_some_and(|other| meet(&other.matcher, &route.matcher))
            });
            if let Some(twin) = twin
                && told.insert(index)
            {
                found.push((twin, index));
            }
            group.push(index);
        }
    }
    found
}

/// Everything that tells routes apart, for one host and path of a route.
#[derive(PartialEq, Eq, Hash)]
struct Place<'a> {
    listener: Option<&'a str>,
    host: &'a HostPattern,
    path: PathKey<'a>,
    rank: Rank,
    conditions: Vec<(bool, &'a str, u8, &'a str)>,
}

fn places(matcher: &Matcher) -> impl Iterator<Item = Place<'_>> {
    let any = matcher.listeners.is_empty().then_some(None);
    let listeners = || {
        matcher
            .listeners
            .iter()
            .map(|name| Some(name.as_str()))
            .chain(any)
    };
    listeners().flat_map(move |listener| {
        hosts(matcher).flat_map(move |host| {
            paths(matcher).map(move |path| Place {
                listener,
                host,
                path,
                rank: Rank::of(matcher),
                conditions: conditions(matcher),
            })
        })
    })
}

/// Header and query conditions in a fixed order.
fn conditions(matcher: &Matcher) -> Vec<(bool, &str, u8, &str)> {
    let headers = matcher.headers.iter().map(|c| (false, c));
    let query = matcher.query.iter().map(|c| (true, c));
    let mut list: Vec<_> = headers
        .chain(query)
        .map(|(is_query, c)| fact(is_query, c))
        .collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn fact(is_query: bool, condition: &Condition) -> (bool, &str, u8, &str) {
    let (kind, text) = match &condition.value {
        ValueMatch::Present => (0, ""),
        ValueMatch::Absent => (1, ""),
        ValueMatch::Exact(text) => (2, text.as_str()),
        ValueMatch::Regex(regex) => (3, regex.as_str()),
    };
    (is_query, condition.name.as_str(), kind, text)
}

/// Whether some method fits both.
fn meet(a: &Matcher, b: &Matcher) -> bool {
    a.methods.is_empty() || a.methods.iter().any(|method| b.methods.contains(method))
}

/// Routes that never get a request, each with one that takes its requests.
#[must_use]
pub fn shadowed(routes: &[RouteParams]) -> Vec<(usize, usize)> {
    let mut by_place: HashMap<(&HostPattern, PathKey<'_>), Vec<usize>> = HashMap::new();
    let mut prefixes: HashMap<&HostPattern, Vec<(&str, usize)>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        for host in hosts(&route.matcher) {
            for path in paths(&route.matcher) {
                by_place.entry((host, path)).or_default().push(index);
                if let PathKey::Prefix(prefix) = path {
                    prefixes.entry(host).or_default().push((prefix, index));
                }
            }
        }
    }
    let covered = |index: usize, host: &HostPattern, path: PathKey<'_>| {
        let same = by_place.get(&(host, path)).into_iter().flatten().copied();
        let wider = prefixes.get(host).into_iter().flatten();
        let wider = wider
            .filter(|(prefix, _)| covers_expression(prefix, path))
            .map(|(_, by)| *by);
        let is_regex = matches!(path, PathKey::Regex(_));
        same.filter(|by| goes_before(routes, *by, index, is_regex))
            .chain(wider)
            .find(|by| *by != index && implies(routes, index, *by))
    };
    (0..routes.len())
        .filter_map(|index| {
            let matcher = &routes.get(index)?.matcher;
            let mut by = None;
            for host in hosts(matcher) {
                for path in paths(matcher) {
                    let one = covered(index, host, path)?;
                    by.get_or_insert(one);
                }
            }
            Some((index, by?))
        })
        .collect()
}

/// Whether route `by` is asked before route `index` at a place they share. Routes of the same
/// rank are [`ambiguous`], not shadowed.
fn goes_before(routes: &[RouteParams], by: usize, index: usize, is_regex: bool) -> bool {
    let (Some(by), Some(route)) = (routes.get(by), routes.get(index)) else {
        return false;
    };
    let order = if is_regex {
        by_priority(by, route)
    } else {
        by_conditions(by, route)
    };
    order == Ordering::Less && Rank::of(&by.matcher) != Rank::of(&route.matcher)
}

/// Whether every request that fulfils the conditions of `index` fulfils those of `by`.
fn implies(routes: &[RouteParams], index: usize, by: usize) -> bool {
    let (Some(route), Some(by)) = (routes.get(index), routes.get(by)) else {
        return false;
    };
    let (route, by) = (&route.matcher, &by.matcher);
    let within = |narrow: &[String], wide: &[String]| {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|name| wide.contains(name)))
    };
    let known = conditions(route);
    within(&route.listeners, &by.listeners)
        && within(&route.methods, &by.methods)
        && conditions(by)
            .iter()
            .all(|condition| known.contains(condition))
}

/// Whether a prefix takes every path that an expression can match: the prefix `/`, or one that
/// the expression spells out after its `^`.
fn covers_expression(prefix: &str, path: PathKey<'_>) -> bool {
    let PathKey::Regex(source) = path else {
        return false;
    };
    prefix.is_empty()
        || spelt_out(source)
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// The text that every match begins with, as far as it is easy to see.
fn spelt_out(source: &str) -> &str {
    let Some(text) = source.strip_prefix('^').filter(|_| !source.contains('|')) else {
        return "";
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    // The last letter may be optional, or repeated no times.
    let repeated = text
        .get(end..)
        .is_some_and(|rest| rest.starts_with(['?', '*', '{']));
    let end = if repeated { end.saturating_sub(1) } else { end };
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::tests::route;

    fn find(
        check: fn(&[RouteParams]) -> Vec<(usize, usize)>,
        specs: &[&str],
    ) -> Vec<(usize, usize)> {
        let routes: Vec<_> = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| route(i, spec))
            .collect();
        check(&routes)
    }

    #[test]
    fn routes_that_cannot_be_told_apart() {
        for (specs, want) in [
            (&["host=a path=/", "host=a path=/"][..], &[(0, 1)][..]),
            (&["host=a", "host=a path=/"], &[(0, 1)]),
            (&["", "host=*"], &[(0, 1)]),
            (&["host=a,b", "host=b,c"], &[(0, 1)]),
            (&["path=/x", "path=/x/"], &[(0, 1)]),
            (&["path==/x", "path==/x"], &[(0, 1)]),
            (&["path=~^/x", "path=~^/x"], &[(0, 1)]),
            (&["method=GET,POST", "method=POST,PUT"], &[(0, 1)]),
            (
                &["header=a:1 header=b:2", "header=b:2 header=a:1"],
                &[(0, 1)],
            ),
            (&["listener=l,m", "listener=m"], &[(0, 1)]),
            (&["", "", ""], &[(0, 1), (0, 2)]),
            // told apart by something
            (&["host=a", "host=*.a"], &[]),
            (&["host=a", ""], &[]),
            (&["path=/x", "path==/x"], &[]),
            (&["path=/x", "path=/x/y"], &[]),
            (&["path=/x", "path=~^/x"], &[]),
            (&["path=~^/x", "path=~^/y"], &[]),
            (&["method=GET", "method=POST"], &[]),
            (&["method=GET", ""], &[]),
            (&["method=GET", "method=GET,POST"], &[]),
            (&["header=a:1", "header=a:2"], &[]),
            (&["header=a:1", "query=a:1"], &[]),
            (&["priority=1", ""], &[]),
            (&["listener=l", "listener=m"], &[]),
            (&["listener=l", ""], &[]),
            (&["host=a,a path=/,/"], &[]),
        ] {
            assert_eq!(find(ambiguous, specs), want, "{specs:?}");
        }
    }

    #[test]
    fn routes_that_never_get_a_request() {
        for (specs, want) in [
            (&["path=~^/v[0-9]/", "path=/"][..], &[(0, 1)][..]),
            (&["path=~^/api/v[0-9]", "path=/api/"], &[(0, 1)]),
            (&["path=~^/api/v[0-9]", "path=/api/v"], &[]),
            (&["path=~^/ap/?x", "path=/ap"], &[]),
            (&["path=~^/api/x", "path=/api"], &[(0, 1)]),
            (&["path=~^/api/x|^/y", "path=/api"], &[]),
            (&["path=~/api/x", "path=/api"], &[]),
            (&["path=~x header=a:1", "header=a:1"], &[(0, 1)]),
            (&["path=~x", "header=a:1"], &[]),
            (&["path=~x method=GET", "method=GET,POST"], &[(0, 1)]),
            (&["path=~x", "method=GET"], &[]),
            (&["host=a path=~x", ""], &[]),
            (&["host=a,b path=~x", "host=a"], &[]),
            (&["host=a,b path=~x", "host=b,a"], &[(0, 1)]),
            (&["path=~x listener=l", ""], &[(0, 1)]),
            (&["path=~x", "listener=l"], &[]),
            (&["", "priority=1"], &[(0, 1)]),
            (&["priority=2", "priority=1"], &[(1, 0)]),
            (&["path=~x priority=1", "path=~x method=GET"], &[(1, 0)]),
            // more specific, or not wholly covered
            (&["method=GET", ""], &[]),
            (&["header=a:1", ""], &[]),
            (&["path==/x", "path=/"], &[]),
            (&["host=*.a", "host=b.a"], &[]),
            (&["", ""], &[]),
        ] {
            assert_eq!(find(shadowed, specs), want, "{specs:?}");
        }
    }

    #[test]
    fn ten_thousand_routes_are_checked_at_once() {
        let routes: Vec<_> = (0..10_000)
            .map(|i| route(i, &format!("host=h{} path=/p{}", i % 7, i / 7)))
            .collect();
        assert_eq!(ambiguous(&routes), []);
        assert_eq!(shadowed(&routes), []);
    }
}
