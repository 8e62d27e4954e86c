//! Asks about one descriptor without waiting, for logs that must never hold up their writer.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

/// Whether a write would be taken now, or fail at once; not: wait.
#[must_use]
pub fn writable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_is_writable_until_it_is_full() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut wrote = 0;
        while writable(&writer) {
            wrote += writer.write(&[0; 4096]).unwrap();
            assert!(wrote < 1 << 24);
        }
        assert!(wrote > 0);
        drop(reader);
        assert!(writable(&writer), "the write fails at once");
    }
}
