//! After a 101: the two connections become one byte tunnel (rule 16.5). No frame is looked into.

use std::rc::Rc;
use std::time::Duration;

use crate::base::reason::Reason;
use crate::http::exchange::Exchange;
use crate::http::service::Service;
use crate::io::buf::Buf;
use crate::io::prefix::Prefixed;
use crate::io::relay::{self, RelayEnd};
use crate::net::Conn;
use crate::proto::head::RequestHead;
use crate::upstream::group::Lease;

/// A server that has switched protocols.
pub struct Opened {
    /// The place at the server.
    pub lease: Lease,
    /// The connection to it.
    pub back: Conn,
    /// Bytes that came with the 101 (they belong to the tunnel).
    pub back_unread: Option<Buf>,
}

/// A tunnel that is about to begin.
pub struct Tunnel {
    /// The exchange that became a tunnel: logged when it ends.
    pub exchange: Exchange,
    /// Its head.
    pub head: RequestHead,
    /// The other side.
    pub opened: Box<Opened>,
}

impl Tunnel {
    /// Relays until both sides have ended.
    pub async fn run(mut self, front: Conn, front_unread: Option<Buf>, service: &Rc<Service>) {
        service.shared.mark_tunnel(self.exchange.key());
        // The head is kept for the log only: in memory of its own size.
        self.exchange.shrink(&self.head);
        let _held = self.exchange.hold_tunnel();
        let unread = |buf: Option<Buf>| buf.map_or_else(Vec::new, |buf| buf.readable().to_vec());
        let client = Prefixed::new(front, unread(front_unread));
        let server = Prefixed::new(self.back, unread(self.back_unread));
        let options = relay::Options {
            idle: Some(self.idle),
            drain: self.drain.map(|limit| (service.shared.drain_watch(), limit)),
        };
        let outcome = relay::relay(client, server, options).await;
        let reason = match outcome.end {
            RelayEnd::Finished => Reason::Ok,
            RelayEnd::Idle => Reason::TunnelIdle,
            RelayEnd::Drained => Reason::DrainLimit,
            RelayEnd::Broken => Reason::ClientGone,
        };
        self.exchange.tunnel_over(reason, outcome.a_to_b, outcome.b_to_a);
        self.exchange.finish(&self.head);
    }
}
