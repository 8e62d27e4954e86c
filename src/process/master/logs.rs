//! The log files: opened by the master, because workers may not, and opened anew on request, so
//! that a rotated file is let go.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::sys::file;

/// The open files by path.
#[derive(Debug, Default)]
pub struct LogFiles {
    files: BTreeMap<PathBuf, OwnedFd>,
}

impl LogFiles {
    /// Opens what is not open yet, and returns a descriptor for each path.
    ///
    /// # Errors
    /// Which file cannot be opened, and why.
    pub fn open(&mut self, paths: &[PathBuf]) -> Result<Vec<(PathBuf, OwnedFd)>, String> {
        let explain = |path: &Path, e: io::Error| format!("log {}: {e}", path.display());
        let mut copies = Vec::new();
        for path in paths {
            if !self.files.contains_key(path) {
                let fd = file::open_log(path).map_err(|e| explain(path, e))?;
                self.files.insert(path.clone(), fd);
            }
            if let Some(fd) = self.files.get(path) {
                let copy = fd.try_clone().map_err(|e| explain(path, e))?;
                copies.push((path.clone(), copy));
            }
        }
        Ok(copies)
    }

    /// Forgets files that no configuration in use names.
    pub fn keep(&mut self, used: &[PathBuf]) {
        self.files.retain(|path, _| used.contains(path));
    }

    /// Opens every file anew. One that cannot be opened keeps its old file; the reasons are
    /// returned.
    pub fn reopen(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        for (path, fd) in &mut self.files {
            match file::open_log(path) {
                Ok(new) => *fd = new,
                Err(error) => troubles.push(format!(
                    "log {} stays with its old file: {error}",
                    path.display()
                )),
            }
        }
        troubles
    }

    /// The descriptors of some files, in their order; those that are not open are left out.
    #[must_use]
    pub fn descriptors(&self, paths: &[PathBuf]) -> Vec<BorrowedFd<'_>> {
        let open = paths.iter().filter_map(|path| self.files.get(path));
        open.map(AsFd::as_fd).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;

    #[test]
    fn a_rotated_file_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let paths = vec![path.clone()];
        let mut logs = LogFiles::default();
        let mut before = File::from(logs.open(&paths).unwrap().remove(0).1);
        before.write_all(b"one\n").unwrap();
        let rotated = dir.path().join("access.log.1");
        fs::rename(&path, &rotated).unwrap();
        assert_eq!(logs.reopen(), Vec::<String>::new());
        before.write_all(b"late\n").unwrap();
        let mut after = File::from(logs.open(&paths).unwrap().remove(0).1);
        after.write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&rotated).unwrap(), b"one\nlate\n");
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        assert_eq!(logs.descriptors(&paths).len(), 1);
        logs.keep(&[]);
        assert_eq!(logs.descriptors(&paths).len(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/access.log");
        let mut logs = LogFiles::default();
        let text = logs.open(std::slice::from_ref(&path)).unwrap_err();
        assert!(text.contains("sub/access.log"), "{text}");
        fs::create_dir(dir.path().join("sub")).unwrap();
        logs.open(std::slice::from_ref(&path)).unwrap();
        fs::remove_dir_all(dir.path().join("sub")).unwrap();
        assert_eq!(logs.reopen().len(), 1);
    }
}
