//! Which lines of the error log are written: a level for everything, and levels for parts.

use log::LevelFilter;

/// Parts outside this program say no more than this, unless they are named: what a client sends
/// makes libraries warn, and nobody can do anything about it here.
const STRANGERS: LevelFilter = LevelFilter::Error;
const OWN: &str = "proxyd";

/// The levels of `[log]`.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    all: LevelFilter,
    /// Parts as lists of segments, the longest first.
    parts: Vec<(Vec<Box<str>>, LevelFilter)>,
}

impl Levels {
    pub(super) fn new(all: LevelFilter, levels: &[(String, LevelFilter)]) -> Self {
        let mut parts: Vec<_> = levels
            .iter()
            .map(|(name, level)| (segments(name).map(Box::from).collect::<Vec<_>>(), *level))
            .collect();
        parts.sort_by_key(|(segments, _)| std::cmp::Reverse(segments.len()));
        Self { all, parts }
    }

    /// The level of a target: that of the longest part whose segments stand in it in a row; `tls`
    /// and `net::tls` both name `proxyd::net::tls::cert`.
    pub(super) fn of(&self, target: &str) -> LevelFilter {
        for (part, level) in &self.parts {
            let target: Vec<&str> = segments(target).collect();
            let named = target
                .windows(part.len().max(1))
                .any(|window| window.iter().zip(part).all(|(a, b)| **a == **b));
            if named {
                return *level;
            }
        }
        if segments(target).next() == Some(OWN) {
            self.all
        } else {
            self.all.min(STRANGERS)
        }
    }

    /// The most that any target may say.
    pub(super) fn most(&self) -> LevelFilter {
        let parts = self.parts.iter().map(|(_, level)| *level);
        parts.fold(self.all, Ord::max)
    }
}

/// A target without the name of the program.
pub(super) fn part(target: &str) -> &str {
    match target.strip_prefix(OWN) {
        Some(rest) => rest.strip_prefix("::").unwrap_or(target),
        None => target,
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split("::").filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use LevelFilter::{Debug, Error, Info, Off, Trace};

    fn levels(parts: &[(&str, LevelFilter)]) -> Levels {
        let parts: Vec<_> = parts.iter().map(|(n, l)| ((*n).to_owned(), *l)).collect();
        Levels::new(Info, &parts)
    }

    #[test]
    fn the_longest_part_decides() {
        let levels = levels(&[("net", Error), ("net::tls", Debug), ("rustls", Trace)]);
        assert_eq!(levels.of("proxyd::net::tls::cert"), Debug);
        assert_eq!(levels.of("proxyd::net::resolve"), Error);
        assert_eq!(levels.of("proxyd::http"), Info);
        assert_eq!(levels.of("rustls::conn"), Trace);
        assert_eq!(levels.most(), Trace);
    }

    #[test]
    fn a_part_is_whole_segments_anywhere() {
        let levels = levels(&[("tls", Debug)]);
        assert_eq!(levels.of("proxyd::net::tls"), Debug);
        assert_eq!(levels.of("proxyd::net::tlsx"), Info);
        assert_eq!(levels.of("tls"), Debug);
    }

    #[test]
    fn strangers_are_quiet_unless_named() {
        assert_eq!(levels(&[]).of("hyper::proto"), Error);
        assert_eq!(levels(&[("hyper", Debug)]).of("hyper::proto"), Debug);
        assert_eq!(Levels::new(Off, &[]).of("hyper"), Off);
        assert_eq!(levels(&[]).most(), Info);
    }

    #[test]
    fn a_part_is_shown_without_the_program() {
        assert_eq!(part("proxyd::net::tls"), "net::tls");
        assert_eq!(part("proxyd"), "proxyd");
        assert_eq!(part("proxydx::a"), "proxydx::a");
        assert_eq!(part("rustls"), "rustls");
    }
}
