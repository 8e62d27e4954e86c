//! Listening sockets as the master makes them: non-blocking, closed on exec, and sharing their
//! port with each other but with nobody else. Accepting is not done here.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most connections that may wait; the kernel cuts it to `net.core.somaxconn`.
    pub backlog: u32,
    /// This process has no socket there yet: then one of another process is an error, although
    /// ours share the port among themselves.
    pub first: bool,
}

impl Options {
    fn backlog(self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

/// What an IPv6 socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Own,
    Both,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// An address and port.
    Ip(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listens on an address.
///
/// # Errors
/// `AddrInUse`, `PermissionDenied` for low ports, `AddrNotAvailable` for an address of another
/// host.
pub fn listen_tcp(addr: SocketAddr, options: Options) -> io::Result<OwnedFd> {
    bind_tcp(addr, Families::Own, options)
}

/// Listens on a port for both families; for IPv4 alone where there is no IPv6.
///
/// # Errors
/// As [`listen_tcp`].
pub fn listen_both(port: u16, options: Options) -> io::Result<OwnedFd> {
    let both = bind_tcp(
        (Ipv6Addr::UNSPECIFIED, port).into(),
        Families::Both,
        options,
    );
    match both {
        Err(error) if lacks_ipv6(&error) => {
            bind_tcp((Ipv4Addr::UNSPECIFIED, port).into(), Families::Own, options)
        }
        done => done,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

fn bind_tcp(addr: SocketAddr, families: Families, options: Options) -> io::Result<OwnedFd> {
    let make = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if addr.is_ipv6() {
            socket.set_only_v6(families == Families::Own)?;
        }
        // Connections of an earlier process that linger must not keep the port.
        socket.set_reuse_address(true)?;
        Ok::<_, io::Error>(socket)
    };
    if options.first && addr.port() != 0 {
        // Without the wish to share, the kernel tells about a socket of somebody else.
        make()?.bind(&addr.into())?;
    }
    let socket = make()?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    socket.listen(options.backlog())?;
    Ok(socket.into())
}

/// Listens on a path. A socket file that nobody listens on any more is removed before.
///
/// # Errors
/// `AddrInUse` when somebody listens there, `AlreadyExists` when it is a file of another kind.
pub fn listen_unix(path: &Path, mode: u32, options: Options) -> io::Result<OwnedFd> {
    if let Ok(meta) = std::fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _answered_or_unclear => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so the mode is right from the start.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    socket.listen(options.backlog())?;
    Ok(socket.into())
}

/// Takes a listening socket that this process was started with.
///
/// # Errors
/// When the number is not an open, listening stream socket.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    let fd = adopt(number)?;
    let socket = SockRef::from(&fd);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a listening stream socket",
        ));
    }
    socket.set_nonblocking(true)?;
    Ok(fd)
}

/// A descriptor of our own for a number that came with the process; the number itself is closed.
#[expect(unsafe_code, reason = "inherited descriptors are bare numbers")]
fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: fcntl touches no memory; a number that is not open is an error.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, came with the start of the process, and the caller hands each
    // number over once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Where a socket listens.
///
/// # Errors
/// When it is not a socket with an address.
pub fn local(fd: &impl AsFd) -> io::Result<Local> {
    let addr = SockRef::from(fd).local_addr()?;
    if let Some(ip) = addr.as_socket() {
        return Ok(Local::Ip(ip));
    }
    addr.as_pathname()
        .map(|path| Local::Unix(path.to_owned()))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// How many connections wait to be accepted.
///
/// # Errors
/// When the socket is not a listening TCP socket.
#[expect(
    unsafe_code,
    reason = "TCP_INFO has no safe wrapper in the crates in use"
)]
pub fn waiting(fd: &impl AsFd) -> io::Result<u32> {
    // SAFETY: all zero bytes are a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the pointers are valid for the call, and `len` is the size of `info`.
    let done = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // For a listening socket the kernel tells its queue in this field.
    Ok(info.tcpi_unacked)
}

/// Spreads new connections of a port over some of the sockets that share it: `chosen` are their
/// numbers in the order in which they began to listen. The others get none any more.
///
/// # Errors
/// When nothing is chosen, or the kernel does not let us choose; it goes on as before then.
pub fn spread_over(fd: &impl AsFd, chosen: &[u32]) -> io::Result<()> {
    // Load a random number, divide by the count, and return the number that the rest stands for.
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const MODULO: u16 = 0x94; // BPF_ALU | BPF_MOD | BPF_K
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const RETURN_REST: u16 = 0x16; // BPF_RET | BPF_A
    // SKF_AD_OFF + SKF_AD_RANDOM: -0x1000 + 56.
    const RANDOM: u32 = (-0x1000_i32 + 56).cast_unsigned();
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let (Some(&last), Ok(count)) = (chosen.last(), u32::try_from(chosen.len())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut program = vec![step(LOAD_WORD, 0, RANDOM), step(MODULO, 0, count)];
    if (0_u32..).zip(chosen).all(|(rest, &number)| rest == number) {
        program.push(step(RETURN_REST, 0, 0));
    } else {
        for (rest, &number) in (0_u32..).zip(chosen) {
            program.extend([step(IF_EQUAL, 1, rest), step(RETURN, 0, number)]);
        }
        program.push(step(RETURN, 0, last));
    }
    set_program(fd, &program)
}

#[expect(
    unsafe_code,
    reason = "attaching a program has no safe wrapper in the crates in use"
)]
fn set_program(fd: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let description = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_e| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the kernel copies `len` bytes of the description and the program it points to
    // during the call, and changes neither.
    let done = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const description).cast(),
            len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::IntoRawFd;

    const FIRST: Options = Options {
        backlog: 511,
        first: true,
    };
    const FURTHER: Options = Options {
        backlog: 511,
        first: false,
    };

    fn port(fd: &OwnedFd) -> u16 {
        match local(fd).unwrap() {
            Local::Ip(addr) => addr.port(),
            Local::Unix(_) => 0,
        }
    }

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn our_own_sockets_share_a_port_and_strangers_do_not() {
        let one = listen_tcp(loopback(0), FIRST).unwrap();
        let port = port(&one);
        let _two = listen_tcp(loopback(port), FURTHER).unwrap();
        let third = listen_tcp(loopback(port), FIRST).unwrap_err();
        assert_eq!(third.kind(), io::ErrorKind::AddrInUse);
        let stranger = TcpListener::bind(loopback(0)).unwrap();
        let error = listen_tcp(stranger.local_addr().unwrap(), FIRST).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            local(&one).unwrap().to_string(),
            format!("127.0.0.1:{port}")
        );
    }

    #[test]
    fn both_families_reach_the_same_socket() {
        let both = listen_both(0, FIRST).unwrap();
        let port = port(&both);
        TcpStream::connect(loopback(port)).unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            assert_eq!(waiting(&both).unwrap(), 2);
        }
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = listen_unix(&path, 0o600, FIRST).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let busy = listen_unix(&path, 0o600, FIRST).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = listen_unix(&path, 0o666, FIRST).unwrap();
        assert_eq!(local(&second).unwrap(), Local::Unix(path));
        let file = dir.path().join("f");
        std::fs::write(&file, "precious").unwrap();
        assert!(listen_unix(&file, 0o600, FIRST).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn only_a_listening_socket_is_inherited() {
        let listener = TcpListener::bind(loopback(0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(inherit(listener.into_raw_fd()).is_ok());
        assert!(inherit(stream.into_raw_fd()).is_err());
        assert!(inherit(-1).is_err());
        assert!(inherit(1).is_err());
    }

    #[test]
    fn new_connections_go_only_to_the_chosen_sockets() {
        let sockets: Vec<OwnedFd> = (0..3)
            .scan(0, |port_of_first, index| {
                let fd = listen_tcp(
                    loopback(*port_of_first),
                    if index == 0 { FIRST } else { FURTHER },
                )
                .unwrap();
                *port_of_first = port(&fd);
                Some(fd)
            })
            .collect();
        let port = port(&sockets[0]);
        let waiting_each = || -> Vec<u32> { sockets.iter().map(|s| waiting(s).unwrap()).collect() };
        let _before: Vec<_> = (0..60)
            .map(|_| TcpStream::connect(loopback(port)).unwrap())
            .collect();
        let first = waiting_each();
        assert_eq!(first.iter().sum::<u32>(), 60);
        assert!(first[2] > 0);
        spread_over(&sockets[0], &[0, 1]).unwrap();
        let _after: Vec<_> = (0..60)
            .map(|_| TcpStream::connect(loopback(port)).unwrap())
            .collect();
        let second = waiting_each();
        assert_eq!(second[2], first[2]);
        assert!(second[0] > first[0] && second[1] > first[1]);
        spread_over(&sockets[0], &[0, 1, 2]).unwrap();
        let _grown: Vec<_> = (0..60)
            .map(|_| TcpStream::connect(loopback(port)).unwrap())
            .collect();
        let third = waiting_each();
        assert!(third[2] > second[2]);
        spread_over(&sockets[0], &[0, 2]).unwrap();
        let _gap: Vec<_> = (0..60)
            .map(|_| TcpStream::connect(loopback(port)).unwrap())
            .collect();
        let fourth = waiting_each();
        assert_eq!(fourth[1], third[1]);
        assert!(fourth[0] > third[0] && fourth[2] > third[2]);
        assert!(spread_over(&sockets[0], &[]).is_err());
    }
}
