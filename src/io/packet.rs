//! The trait of message-preserving, unreliable flows: UDP, a TUN device, raw packets.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// Packets in both directions, each whole or lost, in any order.
pub trait PacketPort {
    /// Who sends and gets packets: an address where there are many peers, `()` where there is one.
    type Peer: Clone;

    /// Receives one packet into `buf`; what does not fit is lost.
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, Self::Peer)>>;

    /// Sends one packet, or loses it.
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        packet: &[u8],
        to: &Self::Peer,
    ) -> Poll<io::Result<()>>;

    /// The longest packet that gets through whole.
    fn mtu(&self) -> usize;
}

impl PacketPort for crate::rt::sock::UdpSocket {
    type Peer = SocketAddr;

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_recv_from(cx, buf)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        packet: &[u8],
        to: &SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.poll_send_to(cx, packet, *to).map_ok(|_sent| ())
    }

    fn mtu(&self) -> usize {
        65_507
    }
}
