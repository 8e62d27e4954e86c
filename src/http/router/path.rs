//! The paths of one host: a tree of segments for exact paths and prefixes, a list of regular
//! expressions. One walk down the tree finds the exact path and the longest prefix; shorter
//! prefixes are on the way back up.

use regex::Regex;

use super::hash::Table;
use super::order;
use crate::http::params::RouteParams;

/// The paths of one host.
#[derive(Clone, Debug)]
pub(super) struct PathTable {
    /// The first one is the root, for the prefix `/`.
    nodes: Vec<Node>,
    /// The most specific first.
    regexes: Vec<(Regex, u32)>,
}

/// The end of some segments.
#[derive(Clone, Debug, Default)]
struct Node {
    children: Table,
    parent: u32,
    /// The nearest node above that has prefixes.
    shorter: Option<u32>,
    /// Routes for exactly this path, the most specific first.
    exact: Vec<u32>,
    /// Routes for everything from here on, the most specific first.
    prefix: Vec<u32>,
}

const ROOT: u32 = 0;

impl Default for PathTable {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            regexes: Vec::new(),
        }
    }
}

impl PathTable {
    /// A path with its slash in front; one without can never match and is left out.
    pub(super) fn insert_exact(&mut self, path: &str, route: u32) {
        if let Some(node) = path.strip_prefix('/').and_then(|inner| self.make(inner)) {
            node.exact.push(route);
        }
    }

    /// A prefix without slash at its end; empty for `/`.
    pub(super) fn insert_prefix(&mut self, path: &str, route: u32) {
        let node = match path.strip_prefix('/') {
            Some(inner) => self.make(inner),
            None if path.is_empty() => self.nodes.first_mut(),
            None => None,
        };
        if let Some(node) = node {
            node.prefix.push(route);
        }
    }

    pub(super) fn insert_regex(&mut self, regex: &Regex, route: u32) {
        self.regexes.push((regex.clone(), route));
    }

    /// The node for some segments.
    fn make(&mut self, inner: &str) -> Option<&mut Node> {
        let mut at = ROOT;
        for segment in inner.split('/') {
            let next = u32::try_from(self.nodes.len()).ok()?;
            let node = self.nodes.get_mut(at as usize)?;
            let child = *node
                .children
                .entry(segment.as_bytes().into())
                .or_insert(next);
            if child == next {
                self.nodes.push(Node {
                    parent: at,
                    ..Node::default()
                });
            }
            at = child;
        }
        self.nodes.get_mut(at as usize)
    }

    /// Sorts everything once all routes are in.
    pub(super) fn finish(&mut self, routes: &[RouteParams]) {
        let by = |order: fn(&RouteParams, &RouteParams) -> std::cmp::Ordering| {
            move |a: &u32, b: &u32| match (routes.get(*a as usize), routes.get(*b as usize)) {
                (Some(one), Some(two)) => order(one, two).then(a.cmp(b)),
                _ => a.cmp(b),
            }
        };
        for place in 0..self.nodes.len() {
            let shorter = self
                .nodes
                .get(place)
                .filter(|_| place > 0)
                .and_then(|node| {
                    // Parents stand before their children, so theirs is known.
                    let parent = self.nodes.get(node.parent as usize)?;
                    if parent.prefix.is_empty() {
                        parent.shorter
                    } else {
                        Some(node.parent)
                    }
                });
            if let Some(node) = self.nodes.get_mut(place) {
                node.shorter = shorter;
                for list in [&mut node.exact, &mut node.prefix] {
                    list.sort_by(by(order::by_conditions));
                    list.dedup();
                }
            }
        }
        self.regexes
            .sort_by(|(_, a), (_, b)| by(order::by_priority)(a, b));
    }

    /// The first route for the path that `takes` agrees to.
    pub(super) fn find(&self, path: &[u8], takes: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let (mut node, complete) = self.descend(path)?;
        let mut first = |list: &[u32]| list.iter().copied().find(|route| takes(*route));
        if complete && let Some(route) = first(&node.exact) {
            return Some(route);
        }
        loop {
            if let Some(route) = first(&node.prefix) {
                return Some(route);
            }
            match node.shorter.and_then(|up| self.nodes.get(up as usize)) {
                Some(up) => node = up,
                None => break,
            }
        }
        if self.regexes.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(path).ok()?;
        self.regexes
            .iter()
            .filter(|(regex, _)| regex.is_match(text))
            .map(|(_, route)| *route)
            .find(|route| takes(*route))
    }

    /// The deepest node on the way, and whether it is the end of the path.
    fn descend(&self, path: &[u8]) -> Option<(&Node, bool)> {
        let inner = path.strip_prefix(b"/")?;
        let mut node = self.nodes.first()?;
        for segment in inner.split(|b| *b == b'/') {
            let child = node.children.get(segment);
            match child.and_then(|child| self.nodes.get(*child as usize)) {
                Some(child) => node = child,
                None => return Some((node, false)),
            }
        }
        Some((node, true))
    }
}
