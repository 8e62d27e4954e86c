//! After a 101: the two connections become one byte tunnel (rule 16.5). No frame is looked into.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::exchange::Exchange;
use crate::http::service::{Service, Stage};
use crate::io::buf::Buf;
use crate::io::prefix::Prefixed;
use crate::io::relay;
use crate::net::Conn;
use crate::proto::head::RequestHead;
use crate::rt;
use crate::rt::drain::{self, Deadlines};
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
        service.shared.stage(self.exchange.key(), Stage::Tunnel);
        // The head is kept for the log only: in memory of its own size.
        self.exchange.shrink(&self.head);
        let _held = self.exchange.hold_tunnel();
        let Opened {
            lease,
            back,
            back_unread,
        } = *self.opened;
        let mut client = with_prefix(front, front_unread);
        let mut server = with_prefix(back, back_unread);
        let (idle, limit) = self.exchange.tunnel_limits();
        let shared = &service.shared;
        let (leave, watch) = drain::signal();
        let options = relay::Options {
            idle: Some(idle),
            drain: Some(watch),
        };
        let mut drain = shared.drain.clone();
        let mut relaying = pin!(relay::relay(&mut client, &mut server, options));
        let mut told = false;
        let outcome = poll_fn(|cx| {
            if self.exchange.is_cut() {
                leave.start(at(rt::now()));
            } else if !told && let Poll::Ready(deadlines) = drain.poll_started(cx) {
                told = true;
                let all = deadlines.upgraded;
                let own = limit.map_or(all, |limit| rt::now() + limit);
                let stopping = shared.stopping.get();
                leave.start(at(if stopping { own.min(all) } else { own }));
            }
            relaying.as_mut().poll(cx)
        })
        .await;
        if let Some(server) = lease.server() {
            server.metrics.received.add(outcome.b_to_a);
            server.metrics.sent.add(outcome.a_to_b);
        }
        service.metrics.received.add(outcome.a_to_b);
        service.metrics.sent.add(outcome.b_to_a);
        drop(lease);
        let reason = match outcome.end {
            relay::End::Closed => Reason::Ok,
            relay::End::Idle => Reason::TunnelIdle,
            relay::End::Drained => Reason::DrainLimit,
            relay::End::Failed(relay::Side::A, _) => Reason::ClientGone,
            relay::End::Failed(relay::Side::B, _) => Reason::UpstreamTruncated,
        };
        self.exchange
            .tunnel_over(reason, outcome.a_to_b, outcome.b_to_a);
        self.exchange.finish(&self.head);
    }
}

const fn at(until: Instant) -> Deadlines {
    Deadlines {
        ordinary: until,
        upgraded: until,
    }
}

/// A connection of which some bytes were read already.
fn with_prefix(conn: Conn, unread: Option<Buf>) -> Conn {
    match unread {
        Some(buf) => Conn::Boxed(Box::new(Prefixed::new(buf, conn))),
        None => conn,
    }
}
