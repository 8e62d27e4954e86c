//! Which of two routes that match the same request is the more specific one. Host and path are
//! compared by where the routes stand in the tables; this is the rest.
//!
//! Fewer methods, more header conditions, more query conditions, named listeners, priority. For
//! regular expressions the priority comes first, as nothing else tells two of them apart.

use std::cmp::{Ordering, Reverse};

use crate::http::params::{Matcher, RouteParams};

/// The place of a route among those with the same host and path; less is more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rank {
    methods: usize,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    any_listener: bool,
    priority: Reverse<i32>,
}

impl Rank {
    pub(super) fn of(matcher: &Matcher) -> Self {
        Self {
            methods: match matcher.methods.len() {
                0 => usize::MAX,
                some => some,
            },
            headers: Reverse(matcher.headers.len()),
            query: Reverse(matcher.query.len()),
            any_listener: matcher.listeners.is_empty(),
            priority: Reverse(matcher.priority),
        }
    }
}

/// The order of two routes with the same exact or prefix path. The name comes last, so that the
/// order never depends on the file.
pub(super) fn by_conditions(a: &RouteParams, b: &RouteParams) -> Ordering {
    Rank::of(&a.matcher)
        .cmp(&Rank::of(&b.matcher))
        .then_with(|| a.name.cmp(&b.name))
}

/// The order of two routes with regular expressions.
pub(super) fn by_priority(a: &RouteParams, b: &RouteParams) -> Ordering {
    (b.matcher.priority.cmp(&a.matcher.priority)).then_with(|| by_conditions(a, b))
}
