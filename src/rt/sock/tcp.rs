//! TCP sockets, of the kernel or of the simulation.

use super::raw;
use crate::rt::context::{self, Driver};
use crate::rt::reactor::{Registration, Side, WRITE};
use crate::rt::sim;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A listening TCP socket.
pub struct TcpListener(Listener);

enum Listener {
    Real {
        registration: Registration,
        socket: mio::net::TcpListener,
    },
    Sim(sim::TcpListener),
}

impl TcpListener {
    /// Listens on `addr`, with a queue of 1024 and `SO_REUSEADDR`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        if let Driver::Sim(world) = &context::current().driver {
            return Ok(Self(Listener::Sim(sim::TcpListener::bind(world, addr)?)));
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1024)?;
        Self::from_std(socket.into())
    }

    /// Takes over a listening socket, for example an inherited one. What it accepts sends without delay.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_std(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Accepted sockets take it over, so it costs nothing for each of them.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let registration = Registration::new(socket.as_raw_fd(), mio::Interest::READABLE, 0)?;
        Ok(Self(Listener::Real {
            registration,
            socket: mio::net::TcpListener::from_std(socket),
        }))
    }

    /// Takes over the descriptor of a listening socket.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::from_std(fd.into())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Listener::Real { socket, .. } => socket.local_addr(),
            Listener::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    /// The next waiting connection.
    ///
    /// # Errors
    /// Those of the kernel; see `is_exhausted` and `is_transient`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        match &self.0 {
            Listener::Real {
                registration,
                socket,
            } => registration
                .poll_io(Side::Read, cx, || socket.accept())
                .map(|accepted| {
                    let (socket, peer) = accepted?;
                    let socket = Socket::from(OwnedFd::from(socket));
                    Ok((TcpStream::real(socket, peer, WRITE)?, peer))
                }),
            Listener::Sim(listener) => listener.poll_accept(cx).map(|stream| {
                let peer = stream.peer_addr();
                Ok((
                    TcpStream {
                        peer,
                        kind: Kind::Sim(stream),
                    },
                    peer,
                ))
            }),
        }
    }

    /// The next waiting connection.
    ///
    /// # Errors
    /// Those of the kernel; see `is_exhausted` and `is_transient`.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Real {
            registration,
            socket,
        } = self
        {
            // The open socket lives on in the master.
            registration.deregister(socket.as_raw_fd());
        }
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOpts {
    /// The local address to connect from.
    pub source: Option<IpAddr>,
    /// Probe an idle connection after this time.
    pub keepalive: Option<Duration>,
}

/// A TCP connection. Dropping it closes it.
pub struct TcpStream {
    peer: SocketAddr,
    kind: Kind,
}

enum Kind {
    Real(raw::Stream),
    Sim(sim::TcpStream),
}

impl TcpStream {
    /// Connects. There is no deadline in it: use `rt::timeout`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn connect(addr: SocketAddr, opts: &ConnectOpts) -> io::Result<Self> {
        let inner = context::current();
        if let Driver::Sim(world) = &inner.driver {
            let stream = sim::TcpStream::connect(world, addr, opts.source).await?;
            return Ok(Self {
                peer: addr,
                kind: Kind::Sim(stream),
            });
        }
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(addr), kind, None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(idle) = opts.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
        }
        if let Some(source) = opts.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&addr.into()) {
            // EINPROGRESS has no kind of its own.
            Err(error) if !is_in_progress(&error) => return Err(error),
            _ => {}
        }
        let stream = raw::Stream::new(socket, 0)?;
        stream.connected().await?;
        Ok(Self {
            peer: addr,
            kind: Kind::Real(stream),
        })
    }

    fn real(socket: Socket, peer: SocketAddr, flags: u8) -> io::Result<Self> {
        Ok(Self {
            peer,
            kind: Kind::Real(raw::Stream::new(socket, flags)?),
        })
    }

    /// Takes over a connected stream.
    ///
    /// # Errors
    /// When it has no peer or cannot be registered.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = stream.peer_addr()?;
        Self::real(stream.into(), peer, WRITE)
    }

    /// The address of the peer, without a system call.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The own address.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Real(stream) => stream
                .socket()
                .local_addr()?
                .as_socket()
                .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()),
            Kind::Sim(stream) => Ok(stream.local_addr()),
        }
    }

    /// Ready while there may be something to read, its end included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.kind {
            Kind::Real(stream) => stream.poll_readable(cx),
            Kind::Sim(stream) => stream.poll_readable(cx),
        }
    }

    /// Waits until there may be something to read.
    pub async fn readable(&self) {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Whether an idle connection has anything to read, be it data, its end or an error.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match &self.kind {
            Kind::Real(stream) => stream.is_stale(),
            Kind::Sim(stream) => stream.is_stale(),
        }
    }

    /// Ready once the peer has reset the connection. Takes the place of a waiting reader.
    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.kind {
            Kind::Real(stream) => stream.poll_reset(cx),
            Kind::Sim(stream) => stream.poll_reset(cx),
        }
    }

    /// From now on closing sends a reset and throws away what is not sent.
    pub fn reset(&self) {
        match &self.kind {
            Kind::Real(stream) => stream.reset_on_close(),
            Kind::Sim(stream) => stream.reset_on_close(),
        }
    }

    /// The descriptor, for splicing; the simulation has none.
    #[must_use]
    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.kind {
            Kind::Real(stream) => Some(stream.raw_fd()),
            Kind::Sim(_) => None,
        }
    }

    /// Gives the descriptor away.
    ///
    /// # Errors
    /// In the simulation, which has none.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.kind {
            Kind::Real(stream) => Ok(stream.into_fd()),
            Kind::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(crate::sys::msg::IN_PROGRESS)
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Real(stream) => stream.poll_read(cx, buf),
            Kind::Sim(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.kind {
            Kind::Real(stream) => stream.poll_write(cx, buf),
            Kind::Sim(stream) => stream.poll_write(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &self.kind {
            Kind::Real(stream) => stream.poll_write_vectored(cx, bufs),
            Kind::Sim(stream) => stream.poll_write(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.kind {
            Kind::Real(stream) => stream.shutdown_write(),
            Kind::Sim(stream) => stream.shutdown_write(),
        })
    }
}
