//! The record of an exchange: counters, histograms and the access log line, written once at its
//! end from what it has seen.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::reason::Reason;
use crate::http::exchange::Exchange;
use crate::http::trace::Trace;
use crate::log::access::{Bytes, Durations, EndedBy, Headers, Record, Tls};
use crate::metric::label::{Class, Limit};
use crate::proto::head::{Field, RequestHead, Version};
use crate::rt;
use crate::upstream::group::Upstream;

/// What the record of an exchange says.
pub struct Seen {
    /// Number of the route.
    pub route: Option<usize>,
    /// The upstream.
    pub upstream: Option<Rc<Upstream>>,
    /// The server of the last attempt.
    pub server: Option<usize>,
    /// The status sent; 0 when none was.
    pub status: u16,
    /// Why proxyd answered or broke it.
    pub reason: Reason,
    /// Attempts made.
    pub attempts: u32,
    /// Time in the queue.
    pub queue: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Until the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Payload of the request.
    pub payload_in: u64,
    /// Payload of the response.
    pub payload_out: u64,
    /// Bytes sent to the client.
    pub sent: u64,
    /// Bytes received from the client.
    pub received: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            route: None,
            upstream: None,
            server: None,
            status: 0,
            reason: Reason::Ok,
            attempts: 0,
            queue: Duration::ZERO,
            connect: Duration::ZERO,
            first_byte: None,
            payload_in: 0,
            payload_out: 0,
            sent: 0,
            received: 0,
        }
    }
}

/// Request fields, looked up by name.
struct Fields<'a> {
    fields: &'a [Field],
    bytes: &'a [u8],
}

impl Headers for Fields<'_> {
    fn value(&self, _place: usize, name: &str) -> Option<&[u8]> {
        let wanted = |f: &&Field| f.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields
            .iter()
            .find(wanted)
            .map(|field| field.value.of(self.bytes))
    }
}

/// Counts the exchange and writes its line.
pub fn write(exchange: &Exchange, head: &RequestHead) {
    count(exchange);
    let service = &exchange.service;
    if exchange
        .route()
        .is_some_and(|route| !route.params.access_log)
    {
        return;
    }
    let mut log = service.shared.log.borrow_mut();
    let Some(log) = log.as_mut().filter(|log| log.is_on()) else {
        return;
    };
    let bytes = exchange.bytes.get();
    let fields = Fields {
        fields: &head.fields,
        bytes,
    };
    let facts = exchange.facts(head, head.path_bytes(bytes));
    let trace = exchange.trace.trace;
    let traceparent = trace.to_bytes();
    let decided = trace != Trace::UNDECIDED;
    let traceparent = if decided { &traceparent[..] } else { b"" };
    let seen = &exchange.seen;
    let waited = seen.attempts > 0;
    let port = exchange.origin.peer.map_or(0, |addr| addr.port());
    let record = Record {
        route: facts.route,
        upstream: facts.upstream,
        server: facts.server,
        client: exchange.client.addr.map(|ip| SocketAddr::new(ip, port)),
        peer: exchange.origin.peer,
        scheme: facts.scheme(),
        method: if head.len == 0 { b"" } else { facts.method },
        host: facts.authority,
        path: if head.len == 0 { b"" } else { facts.path },
        query: facts.query,
        protocol: match (head.len, head.version) {
            (0, _) => "",
            (_, Version::Http10) => "HTTP/1.0",
            (_, Version::Http11) => "HTTP/1.1",
            (_, Version::Http2) => "HTTP/2.0",
        },
        status: seen.status,
        bytes: Bytes {
            received: seen.received,
            sent: seen.sent,
            body_received: seen.payload_in,
            body_sent: seen.payload_out,
        },
        durations: Durations {
            tls: facts
                .tls
                .filter(|_| exchange.is_first)
                .map(|tls| tls.handshake),
            queue: waited.then_some(seen.queue),
            connect: waited.then_some(seen.connect),
            first_byte: seen.first_byte,
            total: rt::now() - exchange.started,
        },
        attempts: seen.attempts,
        reason: seen.reason,
        ended_by: ended_by(seen.reason),
        request_id: exchange.id.as_bytes(),
        traceparent,
        tls: facts.tls.map(|tls| Tls {
            version: tls.version,
            cipher: tls.cipher,
            sni: tls.sni.as_deref().unwrap_or("").as_bytes(),
        }),
        headers: &fields,
        ..Record::empty(facts.listener)
    };
    log.write(&record, rt::now());
}

fn ended_by(reason: Reason) -> EndedBy {
    match reason {
        Reason::ClientGone | Reason::BodyCutShort | Reason::WriteTimeout => EndedBy::Client,
        Reason::UpstreamReset | Reason::UpstreamTruncated => EndedBy::Server,
        Reason::Ok | Reason::RouteRespond | Reason::RouteRedirect => EndedBy::Nobody,
        _ => EndedBy::Proxy,
    }
}

/// An answer that a route is there to give is none, unless it says itself that it is one.
const fn is_failure(reason: Reason, status: u16) -> bool {
    match reason {
        Reason::Ok => false,
        Reason::RouteRespond | Reason::RouteRedirect => status >= 400,
        _ => true,
    }
}

fn count(exchange: &Exchange) {
    let seen = &exchange.seen;
    let class = Class::of(seen.status);
    let duration = rt::now() - exchange.started;
    let listener = &exchange.service.metrics;
    listener.requests.inc(class);
    listener.duration.observe(duration);
    let failed = is_failure(seen.reason, seen.status);
    if failed {
        listener.reasons.inc(seen.reason);
    }
    if let Some(limit) = Limit::of(seen.reason) {
        exchange.service.shared.limits.hits.inc(limit);
    }
    if let Some(route) = exchange.route() {
        let metrics = &route.metrics;
        metrics.requests.inc(class);
        metrics.duration.observe(duration);
        if let Some(first_byte) = seen.first_byte {
            metrics.first_byte.observe(first_byte);
        }
        metrics.received.add(seen.received);
        metrics.sent.add(seen.sent);
        if failed {
            metrics.reasons.inc(seen.reason);
        }
    }
    if let Some(upstream) = &seen.upstream {
        upstream.metrics.requests.inc(class);
        upstream.metrics.duration.observe(duration);
        if !seen.queue.is_zero() {
            upstream.metrics.queue_duration.observe(seen.queue);
        }
    }
}
