//! From the host to the paths that are served under it: exact name, then the longest wildcard,
//! then what is for any host.

use super::hash::Table;
use super::path::PathTable;
use super::{PathKey, hosts, paths};
use crate::http::params::{HostPattern, PathPattern, RouteParams};

/// No host name is longer (rule of the DNS); a longer one is nobody's name.
const NAME_MAX: usize = 255;

/// The hosts of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct HostTable {
    exact: Table,
    /// Wildcards, without `*.`.
    wildcard: Table,
    /// The most labels of a wildcard: longer suffixes need no look.
    labels_max: usize,
    any: Option<u32>,
    paths: Vec<PathTable>,
}

impl HostTable {
    /// Builds the table from some of the routes.
    pub(super) fn new(members: &[u32], routes: &[RouteParams]) -> Self {
        let mut table = Self::default();
        for id in members {
            let Some(route) = routes.get(*id as usize) else {
                continue;
            };
            for host in hosts(&route.matcher) {
                let Some(paths_of_host) = table.entry(host) else {
                    continue;
                };
                for key in paths(&route.matcher) {
                    paths_of_host.insert(key, *id);
                }
                for pattern in &route.matcher.paths {
                    if let PathPattern::Regex(regex) = pattern {
                        paths_of_host.insert_regex(regex, *id);
                    }
                }
            }
        }
        for paths in &mut table.paths {
            paths.finish(routes);
        }
        table
    }

    fn entry(&mut self, host: &HostPattern) -> Option<&mut PathTable> {
        let next = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        let index = match host {
            HostPattern::Exact(name) => *self.exact.entry(name.as_bytes().into()).or_insert(next),
            HostPattern::Wildcard(name) => {
                self.labels_max = self.labels_max.max(name.split('.').count());
                *self.wildcard.entry(name.as_bytes().into()).or_insert(next)
            }
            HostPattern::Any => *self.any.get_or_insert(next),
        };
        if index == next {
            self.paths.push(PathTable::default());
        }
        self.paths.get_mut(index as usize)
    }

    /// The first route for host and path, in the order of specificity, that `takes` agrees to.
    pub(super) fn find(
        &self,
        host: &[u8],
        path: &[u8],
        takes: &mut impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut lower = [0; NAME_MAX];
        let host = match lower.get_mut(..host.len()) {
            Some(lower) => {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                &*lower
            }
            None => b"",
        };
        let mut search = |table: &u32| self.paths.get(*table as usize)?.find(path, takes);
        self.exact
            .get(host)
            .and_then(&mut search)
            .or_else(|| {
                self.suffixes(host)
                    .find_map(|suffix| search(self.wildcard.get(suffix)?))
            })
            .or_else(|| search(self.any.as_ref()?))
    }

    /// What is behind each dot, the longest first, as far as there can be a wildcard for it.
    fn suffixes<'h>(&self, host: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
        let labels_max = self.labels_max;
        let wanted = if labels_max == 0 { b"" } else { host };
        let mut labels = wanted.iter().filter(|b| **b == b'.').count();
        let dots = wanted
            .iter()
            .enumerate()
            .filter(|(at, b)| **b == b'.' && *at > 0);
        dots.filter_map(move |(at, _)| {
            let fits = labels <= labels_max;
            labels = labels.saturating_sub(1);
            wanted.get(at + 1..).filter(|_| fits)
        })
    }
}

impl PathTable {
    fn insert(&mut self, key: PathKey<'_>, route: u32) {
        match key {
            PathKey::Exact(path) => self.insert_exact(path, route),
            PathKey::Prefix(path) => self.insert_prefix(path, route),
            PathKey::Regex(_) => {}
        }
    }
}
