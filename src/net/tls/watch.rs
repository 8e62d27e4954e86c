//! Which files changed: a snapshot of their stamps, a pure comparison, and a rule for when a
//! change is complete. Asking the file system again and again is the master's business.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// What tells one version of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, i64),
    /// The same of the inode, which also shows a replaced file with an old date.
    pub changed: (i64, i64),
    /// Bytes.
    pub len: u64,
    /// Device and inode: another file under the same name, or another target of a link.
    pub file: (u64, u64),
}

/// Stamps of many files; `None` for one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<PathBuf, Option<Stamp>>);

impl Fingerprints {
    /// Of the given stamps.
    #[must_use]
    pub fn new(stamps: impl IntoIterator<Item = (PathBuf, Option<Stamp>)>) -> Self {
        Self(stamps.into_iter().collect())
    }

    /// Asks the file system about each path, links followed.
    #[must_use]
    pub fn take(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::new(paths.into_iter().map(|path| {
            let stamp = std::fs::metadata(&path).ok().map(|meta| Stamp {
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
                len: meta.len(),
                file: (meta.dev(), meta.ino()),
            });
            (path, stamp)
        }))
    }

    /// The paths whose stamp differs, those in only one of the two included.
    #[must_use]
    pub fn changed(&self, newer: &Self) -> Vec<PathBuf> {
        let gone = self.0.keys().filter(|path| !newer.0.contains_key(*path));
        let differs = newer.0.iter().filter_map(|(path, stamp)| {
            let same = self.0.get(path).is_some_and(|old| old == stamp);
            (!same).then_some(path)
        });
        let mut out: Vec<PathBuf> = gone.chain(differs).cloned().collect();
        out.sort();
        out
    }
}

/// Reports a change once the files have stood still for one whole observation, so that a
/// certificate and its key that are replaced one after the other are read together.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    acted_on: Fingerprints,
    last: Option<Fingerprints>,
}

impl Watcher {
    /// Starting from what was loaded.
    #[must_use]
    pub const fn new(loaded: Fingerprints) -> Self {
        Self {
            acted_on: loaded,
            last: None,
        }
    }

    /// Takes the next observation and returns the paths to load again, mostly none.
    pub fn observe(&mut self, seen: Fingerprints) -> Vec<PathBuf> {
        if seen == self.acted_on {
            self.last = None;
            return Vec::new();
        }
        if self.last.as_ref() != Some(&seen) {
            self.last = Some(seen);
            return Vec::new();
        }
        self.last = None;
        let changed = self.acted_on.changed(&seen);
        self.acted_on = seen;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(len: u64) -> Option<Stamp> {
        Some(Stamp {
            modified: (1, 0),
            changed: (1, 0),
            len,
            file: (1, 1),
        })
    }

    fn prints(list: &[(&str, u64)]) -> Fingerprints {
        Fingerprints::new(list.iter().map(|(path, len)| (path.into(), stamp(*len))))
    }

    #[test]
    fn changed_new_and_gone_files_are_reported() {
        let old = prints(&[("a", 1), ("b", 1), ("c", 1)]);
        let new = prints(&[("a", 1), ("b", 2), ("d", 1)]);
        let changed = old.changed(&new);
        assert_eq!(changed, ["b", "c", "d"].map(PathBuf::from));
        assert!(old.changed(&old).is_empty());
    }

    #[test]
    fn a_change_counts_only_when_it_has_settled() {
        let mut watcher = Watcher::new(prints(&[("cert", 1), ("key", 1)]));
        assert!(
            watcher
                .observe(prints(&[("cert", 1), ("key", 1)]))
                .is_empty()
        );
        assert!(
            watcher
                .observe(prints(&[("cert", 2), ("key", 1)]))
                .is_empty()
        );
        assert!(
            watcher
                .observe(prints(&[("cert", 2), ("key", 2)]))
                .is_empty()
        );
        let changed = watcher.observe(prints(&[("cert", 2), ("key", 2)]));
        assert_eq!(changed, ["cert", "key"].map(PathBuf::from));
        assert!(
            watcher
                .observe(prints(&[("cert", 2), ("key", 2)]))
                .is_empty()
        );
    }

    #[test]
    fn a_change_that_is_taken_back_is_none() {
        let mut watcher = Watcher::new(prints(&[("a", 1)]));
        assert!(watcher.observe(prints(&[("a", 2)])).is_empty());
        assert!(watcher.observe(prints(&[("a", 1)])).is_empty());
        assert!(watcher.observe(prints(&[("a", 1)])).is_empty());
    }

    #[test]
    fn a_file_replaced_under_its_name_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let take = || Fingerprints::take([path.clone()]);
        let none = take();
        std::fs::write(&path, "one").unwrap();
        let first = take();
        assert_eq!(none.changed(&first), [path.as_path()]);
        let other = dir.path().join("b.pem");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(first.changed(&take()), [path.as_path()]);
    }
}
