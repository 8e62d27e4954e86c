//! The pid file: written by the master, read by `proxyd -s`. It holds the number alone, for other
//! tools; whether the number still names a proxyd is found out, not believed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::file;
use crate::sys::process::{self, Pid};

/// What a pid file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// It names a proxyd that runs.
    Running(Pid),
    /// It names a process that is gone, or one that is not proxyd.
    Stale(Pid),
}

/// Why a pid file cannot be used.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read or written.
    Io(PathBuf, io::Error),
    /// It does not hold a number: somebody else's file, which must not be touched.
    NotANumber(PathBuf),
    /// Another master runs.
    Taken(PathBuf, Pid),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "pid file {}: {error}", path.display()),
            Self::NotANumber(path) => write!(
                f,
                "pid file {}: it does not hold the number of a process",
                path.display()
            ),
            Self::Taken(path, pid) => write!(
                f,
                "proxyd runs already as process {pid} (pid file {})",
                path.display()
            ),
        }
    }
}

/// Reads a pid file and looks whether it tells the truth.
///
/// # Errors
/// When it cannot be read, or holds something else than a number.
pub fn read(path: &Path) -> Result<Found, Problem> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Problem::NotANumber(path.to_owned()));
        }
        Err(error) => return Err(Problem::Io(path.to_owned(), error)),
    };
    if text.trim().is_empty() {
        // What is left of a full disk.
        return Ok(Found::Stale(Pid(0)));
    }
    let number: i32 = text
        .trim()
        .parse()
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| Problem::NotANumber(path.to_owned()))?;
    let pid = Pid(number);
    Ok(if process::is_alive(pid) && is_proxyd(pid) {
        Found::Running(pid)
    } else {
        Found::Stale(pid)
    })
}

/// Whether the process runs our program, by its file or by its name.
fn is_proxyd(pid: Pid) -> bool {
    let exe = |who: &str| fs::read_link(format!("/proc/{who}/exe")).ok();
    let theirs = exe(&pid.to_string());
    if theirs.is_some() && theirs == exe("self") {
        return true;
    }
    // After an upgrade the file is another one; the name stays.
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("proxyd"))
}

/// The pid file of this process; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the number of this process. A stale file is replaced.
    ///
    /// # Errors
    /// When another master runs, or the file cannot be written.
    pub fn claim(path: &Path) -> Result<Self, Problem> {
        check_free(path)?;
        let text = format!("{}\n", process::own_pid());
        file::write_atomic(path, text.as_bytes(), 0o644)
            .map_err(|e| Problem::Io(path.to_owned(), e))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether [`PidFile::claim`] would find another master.
///
/// # Errors
/// When it would, or the file is not a pid file.
pub fn check_free(path: &Path) -> Result<(), Problem> {
    match read(path)? {
        Found::Running(pid) if pid != process::own_pid() => {
            Err(Problem::Taken(path.to_owned(), pid))
        }
        Found::Running(_) | Found::Nothing | Found::Stale(_) => Ok(()),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = format!("{}\n", process::own_pid());
        // Only our own: a later master may have written its number meanwhile.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == own) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxyd.pid");
        (dir, path)
    }

    #[test]
    fn our_own_file_is_written_found_and_removed() {
        let (_dir, path) = path();
        assert_eq!(read(&path).unwrap(), Found::Nothing);
        let file = PidFile::claim(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", process::own_pid())
        );
        assert_eq!(read(&path).unwrap(), Found::Running(process::own_pid()));
        PidFile::claim(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_the_dead_and_of_strangers_is_stale() {
        let (_dir, path) = path();
        fs::write(&path, "4194300\n").unwrap();
        assert_eq!(read(&path).unwrap(), Found::Stale(Pid(4_194_300)));
        let stranger = std::process::Command::new("sleep").arg("60").spawn();
        let mut stranger = stranger.unwrap();
        // Until the exec it is still us.
        let text = stranger.id().to_string();
        fs::write(&path, text).unwrap();
        let start = std::time::Instant::now();
        while !matches!(read(&path).unwrap(), Found::Stale(_)) {
            assert!(start.elapsed().as_secs() < 10);
        }
        let file = PidFile::claim(&path).unwrap();
        drop(file);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn another_proxyd_is_told_with_its_number() {
        let (_dir, path) = path();
        let parent = process::parent_pid();
        // A child of this test runs the same program.
        let process::Fork::Parent(child) = process::fork_for_test().unwrap() else {
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        };
        assert_ne!(child, parent);
        fs::write(&path, format!("{child}\n")).unwrap();
        let problem = PidFile::claim(&path).unwrap_err();
        assert!(matches!(problem, Problem::Taken(_, pid) if pid == child));
        assert!(problem.to_string().contains(&child.to_string()));
        crate::sys::signal::send(child, crate::sys::signal::Signal::Kill).unwrap();
        process::wait_for(child).unwrap();
        PidFile::claim(&path).unwrap();
    }

    #[test]
    fn somebody_elses_file_is_not_touched() {
        let (_dir, path) = path();
        for text in ["hello\n", "-5\n", "0\n", "12 13\n"] {
            fs::write(&path, text).unwrap();
            let problem = PidFile::claim(&path).unwrap_err();
            assert!(matches!(problem, Problem::NotANumber(_)), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap(), Found::Stale(Pid(0)));
        assert!(PidFile::claim(Path::new("/nonexistent/dir/pid")).is_err());
    }

    #[test]
    fn a_file_of_a_later_master_stays() {
        let (_dir, path) = path();
        let file = PidFile::claim(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }
}
