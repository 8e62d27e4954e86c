//! Files the master keeps for others: atomic replacement, logs that only grow, in-memory files
//! that carry bytes to a child, and swapping the file behind a descriptor number.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Writes a whole file so that a reader sees the old content or the new, never a part.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = temporary(path);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // The first error is the one to report; a left-over file is overwritten the next time.
        let _gone = fs::remove_file(&beside);
    }
    written
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Opens a log for appending; each write lands at the end, also with several writers.
///
/// # Errors
/// When it cannot be created or opened.
pub fn open_log(path: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)?;
    Ok(file.into())
}

/// Whether this process may write to a file, or create files in a folder.
#[must_use]
pub fn is_writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// An unnamed file in memory with the bytes, sealed: whoever gets it can only read it.
///
/// # Errors
/// When memory or descriptors run out.
pub fn in_memory(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Reads a file that came by descriptor from its start, up to `max` bytes.
///
/// # Errors
/// `InvalidData` when it is longer.
pub fn read_all(fd: OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(bytes)
}

/// Puts the file behind `new` also behind the number `old`, in one step: a writer that uses the
/// number goes on with the new file and misses no line.
///
/// # Errors
/// When `old` is not a valid number.
#[expect(
    unsafe_code,
    reason = "the number belongs to a log that lives for ever"
)]
pub fn replace(old: RawFd, new: &impl AsFd) -> io::Result<()> {
    let new = new.as_fd().as_raw_fd();
    if new == old {
        return Ok(());
    }
    loop {
        // SAFETY: dup3 touches no memory of ours. The number `old` stays open the whole time, so
        // whoever owns it goes on owning an open descriptor.
        let done = unsafe { libc::dup3(new, old, libc::O_CLOEXEC) };
        if done >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let again = [Some(libc::EBUSY), Some(libc::EINTR)];
        if !again.contains(&error.raw_os_error()) {
            return Err(error);
        }
    }
}

/// Points standard input, output and, when `errors` is set, error output to `/dev/null`.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn detach_standard(errors: bool) -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    place(&null, 0)?;
    place(&null, 1)?;
    if errors {
        place(&null, 2)?;
    }
    Ok(())
}

/// Puts the file behind a number, not closed on exec; whatever was there is closed.
///
/// # Errors
/// When the number is out of range.
#[expect(unsafe_code, reason = "the number is chosen by the caller")]
pub(super) fn place(file: &impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 touches no memory of ours. The callers place the standard numbers, which
    // belong to the process and to no owner.
    let done = unsafe { libc::dup2(file.as_fd().as_raw_fd(), number) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        write_atomic(&path, b"12345\n", 0o644).unwrap();
        let first = fs::metadata(&path).unwrap();
        write_atomic(&path, b"6\n", 0o600).unwrap();
        let second = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"6\n");
        assert_ne!(first.ino(), second.ino());
        assert_eq!(second.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic(&dir.path().join("no/pid"), b"", 0o600).is_err());
    }

    #[test]
    fn replacing_moves_a_writer_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut log = File::from(open_log(&a).unwrap());
        log.write_all(b"one\n").unwrap();
        replace(log.as_raw_fd(), &open_log(&b).unwrap()).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"one\n");
        assert_eq!(fs::read(&b).unwrap(), b"two\n");
        replace(log.as_raw_fd(), &log).unwrap();
        assert!(replace(-1, &log).is_err());
    }

    #[test]
    fn a_file_in_memory_can_be_read_but_not_changed() {
        let fd = in_memory(c"test", b"content").unwrap();
        let copy = fd.try_clone().unwrap();
        assert!(File::from(copy).write_all(b"x").is_err());
        let copy = fd.try_clone().unwrap();
        assert_eq!(read_all(copy, 7).unwrap(), b"content");
        assert!(read_all(fd, 6).is_err());
    }
}
