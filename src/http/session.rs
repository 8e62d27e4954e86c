//! The life of one client connection: handshake, requests one after another, and its end.
//!
//! Two futures share the work. The outer one waits: while nothing comes it holds the connection
//! and a deadline, nothing else. The inner one is boxed when bytes arrive, serves requests as long
//! as they keep coming, and is dropped again once the connection has been quiet for
//! `PARK_AFTER`: memory is per activity, not per connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::exchange::{self, After, Exchange};
use crate::http::nest;
use crate::http::scratch::Scratch;
use crate::http::service::{Origin, Service, Stage};
use crate::http::wire::Wire;
use crate::io::Stream;
use crate::io::buf::Buf;
use crate::net::Conn;
use crate::proto::head::RequestHead;
use crate::proto::http1::Scan;
use crate::proto::http1::request::{self, RequestRules};
use crate::rt;

/// What is known of a connection over all its requests.
pub struct Session {
    /// Where it came from.
    pub origin: Origin,
    /// When it was accepted.
    pub opened: Instant,
    /// Requests so far.
    pub requests: u32,
    /// When the first byte of the next one has to be here.
    due: Instant,
    /// For every deadline of the connection, one after another: it keeps its place in the wheel,
    /// where moving a deadline to a later time is a plain store.
    timer: rt::Timer,
}

/// Serves one accepted connection to its end. TLS is done already; `guard` lives as long as the
/// connection.
///
/// Not an `async fn`: that would hold its arguments twice, and this is what an idle connection
/// costs.
pub fn serve<G>(
    conn: Conn,
    service: Rc<Service>,
    origin: Origin,
    guard: G,
) -> impl Future<Output = ()> {
    let opened = rt::now();
    let mut session = Session {
        origin,
        opened,
        requests: 0,
        due: opened + service.params.timeouts.first_byte,
        timer: rt::Timer::new(),
    };
    let mut conn = conn;
    async move {
        let _held = &guard;
        loop {
            service.shared.stage(session.origin.key, Stage::Idle);
            session.timer.set(session.due);
            let waited = poll_fn(|cx| poll_next(&mut conn, &service, &mut session, cx)).await;
            service.shared.stage(session.origin.key, Stage::Active);
            if let Err(reason) = waited {
                service.count_refused(reason);
                poll_fn(|cx| poll_close(&mut conn, cx)).await;
                return;
            }
            // The state of an active connection lives only while it is active.
            let active = serve_active(conn, Rc::clone(&service), session);
            match nest::nest(active).await {
                Some(idle) => (conn, session) = idle,
                None => return,
            }
        }
    }
}

impl Session {
    /// No request came in time.
    const fn silence(&self) -> Reason {
        match self.requests {
            0 => Reason::FirstByteTimeout,
            _ => Reason::IdleTimeout,
        }
    }
}

/// Ready when there is a byte of the next request, or why the connection ends instead.
fn poll_next(
    conn: &mut Conn,
    service: &Service,
    session: &mut Session,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Reason>> {
    if conn.poll_readable(cx).is_ready() {
        return Poll::Ready(Ok(()));
    }
    if service.shared.is_told(session.origin.key) {
        return Poll::Ready(Err(Reason::DrainLimit));
    }
    session.timer.poll(cx).map(|()| Err(session.silence()))
}

/// A close_notify or FIN that cannot be sent at once is not worth waiting for.
fn poll_close(conn: &mut Conn, cx: &mut Context<'_>) -> Poll<()> {
    let _sent = Pin::new(conn).poll_shutdown(cx);
    Poll::Ready(())
}

/// What came instead of a request.
enum NoRequest {
    /// Nothing yet: the connection goes on waiting.
    Quiet,
    /// The client closed, cleanly or not.
    Closed,
    /// A deadline passed, or the bytes are no request; they began to come at the time given.
    Bad(Reason, Instant),
}

/// Serves requests until the connection is quiet (returns it) or over.
async fn serve_active(
    conn: Conn,
    service: Rc<Service>,
    mut session: Session,
) -> Option<(Conn, Session)> {
    let service = &service;
    let mut scratch = Scratch::take();
    let mut wire = Wire::new(conn, None, std::mem::take(&mut scratch.front));
    let mut timer = std::mem::take(&mut session.timer);
    let mut counted = (0, 0);
    let outcome = loop {
        let head = read_head(
            &mut wire,
            &mut scratch.request,
            service,
            &session,
            &mut timer,
        )
        .await;
        match head {
            Ok(started) => {
                session.requests = session.requests.saturating_add(1);
                let bytes = take_head(&mut wire, &scratch.request);
                if bytes.is_none() {
                    break None;
                }
                let exchange = Exchange::new(service, &session, bytes, started);
                let after = exchange::run(exchange, &mut wire, &mut scratch, &mut timer).await;
                count_traffic(service, &wire, &mut counted);
                match after {
                    After::KeepAlive => {
                        session.due = rt::now() + service.params.timeouts.idle;
                    }
                    After::Close => break Some(After::Close),
                    After::Abort => break Some(After::Abort),
                    After::Tunnel(tunnel) => {
                        let (conn, unread, outbox) = wire.into_parts();
                        put_back(scratch, outbox);
                        Box::pin(tunnel.run(conn, unread, service)).await;
                        return None;
                    }
                }
            }
            Err(NoRequest::Quiet) => {
                let (conn, _, outbox) = wire.into_parts();
                put_back(scratch, outbox);
                session.timer = timer;
                return Some((conn, session));
            }
            Err(NoRequest::Closed) => break None,
            Err(NoRequest::Bad(reason, began)) => {
                let refused =
                    exchange::refuse(service, &session, &mut wire, reason, began, &mut timer);
                Box::pin(refused).await;
                break if reason.status() == 0 {
                    None
                } else {
                    Some(After::Close)
                };
            }
        }
    };
    match outcome {
        Some(After::Abort) => wire.abort(),
        Some(_) => linger(&mut wire, service, &mut timer).await,
        None => {}
    }
    count_traffic(service, &wire, &mut counted);
    let (mut conn, _, outbox) = wire.into_parts();
    put_back(scratch, outbox);
    if !matches!(outcome, Some(After::Abort)) {
        poll_fn(|cx| poll_close(&mut conn, cx)).await;
    }
    None
}

/// Keeps the set with the outbox that was taken out of it.
fn put_back(mut scratch: Box<Scratch>, front: Vec<u8>) {
    scratch.front = front;
    scratch.keep();
}

fn count_traffic(service: &Service, wire: &Wire, counted: &mut (u64, u64)) {
    let (received, sent) = wire.traffic();
    service.metrics.received.add(received - counted.0);
    service.metrics.sent.add(sent - counted.1);
    *counted = (received, sent);
}

/// Reads the head of the next request; returns when its first byte came.
async fn read_head(
    wire: &mut Wire,
    head: &mut RequestHead,
    service: &Service,
    session: &Session,
    timer: &mut rt::Timer,
) -> Result<Instant, NoRequest> {
    let timeouts = &service.params.timeouts;
    let rules = RequestRules {
        tls: service.params.tls,
        underscores: service.params.underscores,
    };
    let limits = &service.params.limits.parser;
    let mut scan = Scan::default();
    let mut started: Option<Instant> = None;
    loop {
        if !wire.unread().is_empty() {
            match request::parse(head, &mut scan, wire.unread(), limits, rules) {
                Ok(Some(())) => return Ok(started.unwrap_or_else(rt::now)),
                // Line ends in front of a request (rule 2.2) are not yet its beginning.
                Ok(None) if wire.unread().iter().all(|b| matches!(b, b'\r' | b'\n')) => {}
                Ok(None) => started = started.or_else(|| Some(rt::now())),
                Err(error) => {
                    let began = started.unwrap_or_else(rt::now);
                    return Err(NoRequest::Bad(error.reason, began));
                }
            }
        }
        timer.set(match started {
            Some(began) => began + timeouts.request_header,
            None => session.due,
        });
        let more = poll_fn(|cx| {
            if let Poll::Ready(outcome) = wire.poll_read_more(cx, limits.request_head as usize + 1)
            {
                return Poll::Ready(Some(outcome));
            }
            if wire.unread().is_empty() {
                return Poll::Ready(None);
            }
            if service.shared.is_told(session.origin.key) {
                return Poll::Ready(Some(Ok(0)));
            }
            timer.poll(cx).map(|()| None)
        })
        .await;
        match (more, started) {
            (Some(Ok(0)), None) | (Some(Err(_)), _) => return Err(NoRequest::Closed),
            (Some(Ok(0)), Some(began)) => return Err(NoRequest::Bad(Reason::ClientGone, began)),
            (Some(Ok(_)), _) => {}
            (None, Some(began)) => return Err(NoRequest::Bad(Reason::HeadTimeout, began)),
            (None, None) if wire.unread().is_empty() => return Err(NoRequest::Quiet),
            (None, None) => return Err(NoRequest::Bad(session.silence(), rt::now())),
        }
    }
}

/// Moves the head out of the inbox, so that its bytes stay where they are while the body passes;
/// bytes behind it stay in the inbox. `None` when there is no buffer for them.
fn take_head(wire: &mut Wire, head: &RequestHead) -> Option<Buf> {
    let whole = wire.inbox().take()?;
    let rest = whole.readable().get(head.len..).unwrap_or(&[]);
    if !rest.is_empty() {
        let mut later = Buf::take()?;
        if !later.reserve(rest.len(), rest.len()) {
            return None;
        }
        later.put(rest);
        *wire.inbox() = Some(later);
    }
    Some(whole)
}

/// Lingering close (rule 12.6): the write side ends, and what still comes is read and dropped for
/// a while, so that the client gets the response and not a reset.
async fn linger(wire: &mut Wire, service: &Service, timer: &mut rt::Timer) {
    timer.set(rt::now() + service.params.timeouts.linger);
    let mut left = service.params.limits.linger_bytes;
    *wire.inbox() = None;
    let mut shut = false;
    poll_fn(|cx| {
        if timer.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !shut {
            match Pin::new(wire.conn()).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        let mut space = [0_u8; 4096];
        loop {
            let mut room = ReadBuf::new(&mut space);
            match Pin::new(wire.conn()).poll_read(cx, &mut room) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {
                    let n = room.filled().len() as u64;
                    if n == 0 || n >= left {
                        return Poll::Ready(());
                    }
                    left -= n;
                }
            }
        }
    })
    .await;
}

/// Reads and drops the rest of a request body after its response (rule 12.5). True when the
/// connection can go on.
pub async fn discard_body(wire: &mut Wire, service: &Service, timer: &mut rt::Timer) -> bool {
    use crate::http::pump::Source;
    timer.set(rt::now() + service.params.timeouts.linger);
    let mut left = service.params.limits.discard_body;
    poll_fn(|cx| {
        if timer.poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        loop {
            match wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {
                    let (n, last) = (wire.data().len(), wire.is_last());
                    if n as u64 > left {
                        return Poll::Ready(false);
                    }
                    left -= n as u64;
                    wire.consume(n);
                    if last {
                        return Poll::Ready(true);
                    }
                }
            }
        }
    })
    .await
}
