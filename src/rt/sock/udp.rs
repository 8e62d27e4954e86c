//! UDP sockets, of the kernel or of the simulation.

use crate::rt::context::{self, Driver};
use crate::rt::reactor::{Registration, Side, WRITE};
use crate::rt::sim;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

/// A UDP socket.
pub struct UdpSocket(Kind);

enum Kind {
    Real {
        registration: Registration,
        socket: std::net::UdpSocket,
    },
    Sim(sim::UdpSocket),
}

impl UdpSocket {
    /// A socket on `addr`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        if let Driver::Sim(world) = &context::current().driver {
            return Ok(Self(Kind::Sim(sim::UdpSocket::bind(world, addr)?)));
        }
        Self::from_std(std::net::UdpSocket::bind(addr)?)
    }

    /// Takes over a socket.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let registration = Registration::new(socket.as_raw_fd(), both, WRITE)?;
        Ok(Self(Kind::Real {
            registration,
            socket,
        }))
    }

    /// The own address.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Kind::Real { socket, .. } => socket.local_addr(),
            Kind::Sim(socket) => Ok(socket.local_addr()),
        }
    }

    /// Talks to `addr` alone from now on: others are not heard.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        match &self.0 {
            Kind::Real { socket, .. } => socket.connect(addr),
            Kind::Sim(socket) => {
                socket.connect(addr);
                Ok(())
            }
        }
    }

    /// Receives one packet.
    ///
    /// # Errors
    /// Those of the kernel, also ones that earlier packets have caused.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        match &self.0 {
            Kind::Real {
                registration,
                socket,
            } => registration.poll_io(Side::Read, cx, || socket.recv_from(buf)),
            Kind::Sim(socket) => socket.poll_recv_from(cx, buf).map(Ok),
        }
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// Those of the kernel, also ones that earlier packets have caused.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        packet: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        match &self.0 {
            Kind::Real {
                registration,
                socket,
            } => registration.poll_io(Side::Write, cx, || socket.send_to(packet, to)),
            Kind::Sim(socket) => Poll::Ready(Ok(socket.send_to(packet, to))),
        }
    }

    /// Receives one packet.
    ///
    /// # Errors
    /// Those of the kernel, also ones that earlier packets have caused.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_recv_from(cx, buf)).await
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// Those of the kernel, also ones that earlier packets have caused.
    pub async fn send_to(&self, packet: &[u8], to: SocketAddr) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_send_to(cx, packet, to)).await
    }
}
