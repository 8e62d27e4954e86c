//! Messages and descriptors between related processes: a `SEQPACKET` pair keeps the bounds of
//! messages, tells when the other side is gone, and carries descriptors. What the bytes mean is
//! not known here.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};

/// The most bytes of one message.
pub const MESSAGE_MAX: usize = 32 * 1024;

/// The most descriptors that go with one message.
pub const FDS_MAX: usize = 64;

/// A message that came in.
#[derive(Debug)]
pub struct Received {
    /// Its length; 0 means that the other side is gone.
    pub len: usize,
    /// The descriptors that came with it, closed on exec.
    pub fds: Vec<OwnedFd>,
}

/// Two connected ends, non-blocking and closed on exec.
///
/// # Errors
/// When descriptors run out.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message, all or nothing.
///
/// # Errors
/// `WouldBlock` when the other side does not read, `BrokenPipe` when it is gone.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > MESSAGE_MAX || fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<UnixAddr>(
            fd.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::Error::EINTR) => {}
            done => return done.map(|_sent| ()).map_err(Into::into),
        }
    }
}

/// Receives one message into `buf`.
///
/// # Errors
/// `WouldBlock` when there is none; `InvalidData` when it did not fit.
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; FDS_MAX]);
    loop {
        let mut parts = [IoSliceMut::new(buf)];
        let message = match recvmsg::<UnixAddr>(
            fd.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::Error::EINTR) => continue,
            done => done?,
        };
        let mut fds = Vec::new();
        if let Ok(controls) = message.cmsgs() {
            for control in controls {
                if let ControlMessageOwned::ScmRights(raw) = control {
                    fds.extend(raw.into_iter().map(own));
                }
            }
        }
        let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
        if message.flags.intersects(cut) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        return Ok(Received {
            len: message.bytes,
            fds,
        });
    }
}

#[expect(unsafe_code, reason = "SCM_RIGHTS hands out bare numbers")]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us in this very call, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// A second descriptor for the same open file, closed on exec.
///
/// # Errors
/// When descriptors run out.
pub fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn messages_keep_their_bounds() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"one", &[]).unwrap();
        send(a.as_fd(), b"three", &[]).unwrap();
        let mut buf = [0; 64];
        let got = recv(b.as_fd(), &mut buf).unwrap();
        assert_eq!(&buf[..got.len], b"one");
        let got = recv(b.as_fd(), &mut buf).unwrap();
        assert_eq!(&buf[..got.len], b"three");
        let none = recv(b.as_fd(), &mut buf).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_end_of_the_other_side_shows() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), b"last", &[]).unwrap();
        drop(a);
        let mut buf = [0; 64];
        assert_eq!(recv(b.as_fd(), &mut buf).unwrap().len, 4);
        assert_eq!(recv(b.as_fd(), &mut buf).unwrap().len, 0);
        let gone = send(b.as_fd(), b"x", &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn descriptors_arrive_usable_and_closed_on_exec() {
        let (a, b) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        file.rewind().unwrap();
        send(a.as_fd(), b"f", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut buf = [0; 8];
        let mut got = recv(b.as_fd(), &mut buf).unwrap();
        assert_eq!(got.fds.len(), 2);
        let fd = got.fds.remove(0);
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error_and_leaks_nothing() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[7; 100], &[a.as_fd()]).unwrap();
        let mut small = [0; 10];
        let error = recv(b.as_fd(), &mut small).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(send(a.as_fd(), &[], &[]).is_err());
        assert!(send(a.as_fd(), &vec![0; MESSAGE_MAX + 1], &[]).is_err());
        send(a.as_fd(), &vec![1; MESSAGE_MAX], &[]).unwrap();
        let mut large = vec![0; MESSAGE_MAX];
        assert_eq!(recv(b.as_fd(), &mut large).unwrap().len, MESSAGE_MAX);
    }
}
