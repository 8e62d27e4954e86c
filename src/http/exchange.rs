//! One request from its head to its record: who asks, which route, which action, and what is
//! written down at the end. Sending to a server is `forward`.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::answer::AnswerContext;
use crate::http::client_addr::Client;
use crate::http::edit::{Persistence, ResponseRules, max_forwards};
use crate::http::forward;
use crate::http::normalize;
use crate::http::pump::Source;
use crate::http::record;
use crate::http::redirect::Redirect;
use crate::http::reply::Answer;
use crate::http::request_id::RequestId;
use crate::http::router::{Ask, Miss};
use crate::http::scratch::Scratch;
use crate::http::service::{Action, Origin, Route, Rules, Service};
use crate::http::session::{Session, discard_body};
use crate::http::template::Facts;
use crate::http::trace::{Hop, Trace};
use crate::http::tunnel::{Opened, Tunnel};
use crate::http::wire::Wire;
use crate::io::buf::Buf;
use crate::metric::Held;
use crate::metric::label::Limit;
use crate::proto::head::{BodyKind, FieldId, Method, RequestHead, TargetForm, Upgrade};
use crate::proto::http1::Side;
use crate::proto::http1::body::Decoder;
use crate::proto::http1::request::check_websocket;
use crate::rt;
use crate::upstream::group::Upstream;

/// What becomes of the client connection.
pub enum After {
    /// The next request may come.
    KeepAlive,
    /// It is closed, without hurry.
    Close,
    /// It is broken, so that nobody takes the response for complete.
    Abort,
    /// It becomes a tunnel.
    Tunnel(Box<Tunnel>),
}

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

/// One request being served.
pub struct Exchange {
    /// The service that serves it.
    pub service: Rc<Service>,
    /// Where the connection came from.
    pub origin: Origin,
    /// The bytes of the head.
    pub bytes: Bytes,
    /// When its first byte came.
    pub started: Instant,
    /// Whether the connection may carry another request after this one.
    pub may_go_on: bool,
    /// Whether it is the first of its connection.
    pub is_first: bool,
    /// Who asks.
    pub client: Client,
    /// Its id.
    pub id: RequestId,
    /// Its trace.
    pub trace: Hop,
    /// The record so far.
    pub seen: Seen,
    traffic: (u64, u64),
    in_flight: Option<Held>,
}

/// The bytes of a head: in the buffer they arrived in, or in memory of their own size.
pub enum Bytes {
    /// A buffer of the pool.
    Pooled(Buf),
    /// Their own memory.
    Owned(Vec<u8>),
}

impl Bytes {
    /// The bytes.
    #[must_use]
    pub fn get(&self) -> &[u8] {
        match self {
            Self::Pooled(buf) => buf.readable(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Exchange {
    /// A request whose head has arrived.
    pub fn new(
        service: &Rc<Service>,
        session: &Session,
        bytes: Option<Buf>,
        started: Instant,
    ) -> Self {
        let keepalive = &service.params.keepalive;
        let limit = if session.requests >= keepalive.requests {
            Some(Limit::ConnectionRequests)
        } else if rt::now() - session.opened >= keepalive.max_age {
            Some(Limit::ConnectionAge)
        } else {
            None
        };
        if let Some(limit) = limit {
            service.shared.limits.hits.inc(limit);
        }
        let may_go_on = limit.is_none();
        Self {
            service: Rc::clone(service),
            origin: session.origin.clone(),
            bytes: bytes.map_or_else(|| Bytes::Owned(Vec::new()), Bytes::Pooled),
            started,
            may_go_on,
            is_first: session.requests <= 1,
            client: Client::default(),
            id: RequestId::generate(0),
            trace: Hop {
                trace: Trace::create(1, 1),
                continued: false,
            },
            seen: Seen {
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
            },
            traffic: (0, 0),
            in_flight: None,
        }
    }

    /// The route, once it is known.
    #[must_use]
    pub fn route(&self) -> Option<&Route> {
        self.seen
            .route
            .and_then(|route| self.service.routes.get(route))
    }

    /// The entry of the connection in the service's list.
    #[must_use]
    pub const fn key(&self) -> usize {
        self.origin.key
    }

    /// Whether the connection goes on after a response whose head is written now. A worker that
    /// began to leave while the request was under way says so, too (rule 12.7).
    pub fn persists(&mut self, allowed: bool) -> bool {
        self.may_go_on &= allowed && !self.service.shared.draining.get();
        self.may_go_on
    }

    /// What a WebSocket handshake lacks, where the route would pass it on (rule 16.2).
    fn check_upgrade(&self, head: &RequestHead) -> Option<Answer> {
        let route = self.route()?;
        let passed = matches!(route.action, Action::Forward)
            && (route.params.upgrade.iter()).any(|name| name.eq_ignore_ascii_case("websocket"));
        if head.upgrade != Upgrade::WebSocket || !passed {
            return None;
        }
        let checked = check_websocket(head, self.bytes.get());
        checked.err().map(|error| Answer::Error(error.reason))
    }

    /// Gives the buffer of the head back and keeps its bytes alone.
    pub fn shrink(&mut self, head: &RequestHead) {
        let own = self.bytes.get().get(..head.len).unwrap_or(&[]).to_vec();
        self.bytes = Bytes::Owned(own);
    }

    /// Counts the exchange as a tunnel until the result is dropped.
    #[must_use]
    pub fn hold_tunnel(&self) -> Option<Held> {
        self.route().map(|route| route.metrics.tunnels.hold())
    }

    /// How long a tunnel may be silent, and how long it may go on when the worker leaves.
    #[must_use]
    pub fn tunnel_limits(&self) -> (Duration, Duration) {
        let shared = &self.service.shared;
        match self.route() {
            Some(route) => (
                route.params.timeouts.upgraded_idle,
                route.params.drain_timeout.unwrap_or(shared.drain_upgraded),
            ),
            None => (
                self.service.params.timeouts.upgraded_idle,
                shared.drain_upgraded,
            ),
        }
    }

    /// What the tunnel has carried, and why it ended.
    pub fn tunnel_over(&mut self, reason: Reason, from_client: u64, to_client: u64) {
        self.seen.reason = reason;
        self.seen.received += from_client;
        self.seen.sent += to_client;
    }

    /// Decides who asks, and under which id (rules 8.4 and 8.6).
    fn identify(&mut self, head: &RequestHead) {
        let bytes = self.bytes.get();
        let peer = self.origin.peer_ip();
        let client = Client::decide(peer, &head.fields, bytes, &self.service.trusted);
        let mut rng = self.service.shared.rng.borrow_mut();
        let received = head.value(FieldId::XRequestId, bytes);
        let id = RequestId::decide(received, client.trusted_peer, rng.wide());
        let trace = Hop::decide(&head.fields, bytes, rng.wide(), rng.bits());
        drop(rng);
        (self.client, self.id, self.trace) = (client, id, trace);
    }

    /// Methods that are not a matter of routes (section 9). `Some`: the answer.
    fn check_method(&self, head: &RequestHead) -> Option<Answer> {
        let refuse = |reason| Some(Answer::Error(reason));
        match head.method {
            Method::Connect => return refuse(Reason::ConnectRefused),
            Method::Trace if !self.service.params.trace => return refuse(Reason::TraceRefused),
            Method::Trace if !head.body.is_empty() => return refuse(Reason::TraceRefused),
            Method::Options | Method::Trace => {}
            _ => return None,
        }
        if head.method == Method::Options
            && (head.form == TargetForm::Asterisk || head.path_bytes(self.bytes.get()) == b"*")
        {
            return Some(Answer::Options);
        }
        match max_forwards(head, self.bytes.get()) {
            Ok(Some(0)) if head.method == Method::Options => Some(Answer::Options),
            Ok(Some(0)) => refuse(Reason::TraceRefused),
            Ok(_) => None,
            Err(reason) => refuse(reason),
        }
    }

    /// Finds the route and stores it.
    fn find_route(&mut self, head: &RequestHead, text: &mut Vec<u8>) -> Result<(), Answer> {
        let bytes = self.bytes.get();
        let path = head.path_bytes(bytes);
        let normal = normalize::normalize(path, text).map_err(Answer::Error)?;
        let host = match head.host.of(bytes) {
            b"" => self.service.params.default_host.as_bytes(),
            host => host,
        };
        let sni = self.origin.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        if self.service.is_misdirected(sni, host) {
            return Err(Answer::Error(Reason::Misdirected));
        }
        let ask = Ask::of(head, bytes, host, normal.path);
        let found = self.service.router.find(self.service.index, &ask);
        match found {
            Ok(route) => {
                self.seen.route = Some(route.index());
                Ok(())
            }
            Err(Miss::Method) => {
                let mut allow = Vec::new();
                self.service
                    .router
                    .allow(self.service.index, &ask, &mut allow);
                Err(Answer::MethodNotAllowed(allow))
            }
            Err(Miss::NoRoute) => Err(Answer::Error(Reason::NoRoute)),
        }
    }

    /// What templates and header rules may ask for. `path` is the path in normal form.
    pub fn facts<'a>(&'a self, head: &RequestHead, path: &'a [u8]) -> Facts<'a> {
        let bytes = self.bytes.get();
        let default = self.service.params.default_host.as_bytes();
        let (authority, host) = match head.authority {
            Some(authority) => (authority.of(bytes), head.host.of(bytes)),
            None => (default, default),
        };
        let upstream = self.seen.upstream.as_deref();
        let server = upstream.and_then(|upstream| upstream.server(self.seen.server?));
        Facts {
            client: self.client,
            client_port: self.origin.peer.map_or(0, |addr| addr.port()),
            tls: self.origin.tls.as_deref(),
            listener: &self.service.params.name,
            listener_port: self.origin.local.map_or(0, |addr| addr.port()),
            route: self.route().map_or("", |route| &route.params.name),
            upstream: upstream.map_or("", |upstream| &upstream.name),
            server: server.map_or("", |server| &server.params.name),
            method: head.method.as_bytes(bytes),
            authority,
            host,
            path,
            query: head.query.map(|span| span.of(bytes)),
            request_id: self.id.as_bytes(),
            status: self.seen.status,
        }
    }

    /// The header rules of the route on this listener.
    #[must_use]
    pub fn rules(&self) -> Option<&Rules> {
        self.seen
            .route
            .and_then(|route| self.service.rules.get(route))
            .and_then(Option::as_ref)
    }

    /// Bytes moved on the client's connection since the request began.
    fn note_traffic(&mut self, wire: &Wire) {
        let (received, sent) = wire.traffic();
        let head = self.bytes.get().len() as u64;
        // The head was read before the exchange began to count.
        self.seen.received = (received - self.traffic.0).saturating_add(head);
        self.seen.sent = sent - self.traffic.1;
        self.seen.payload_in = wire.payload();
    }

    /// Sends an answer of our own and closes the connection where the answer asks for it.
    pub async fn answer(
        &mut self,
        wire: &mut Wire,
        scratch: &mut Scratch,
        timer: &mut rt::Timer,
        answer: &Answer,
    ) -> Step {
        let head = &scratch.request;
        // Rule 10.3: a client that waits for a 100 may or may not send its body now.
        let unsure = head.expect_continue && !wire.is_last();
        let keep = self.persists(head.keep_alive && !answer.closes() && !unsure);
        let normal = normalize::normalize(head.path_bytes(self.bytes.get()), &mut scratch.text);
        let path = normal.map_or(&b"/"[..], |normal| normal.path);
        let date = self.service.shared.date();
        let context = AnswerContext {
            version: head.version,
            head_request: head.method == Method::Head,
            persistence: if keep {
                Persistence::Keep
            } else {
                Persistence::Close
            },
            date: &date,
            request_id: self
                .service
                .params
                .request_id_response
                .then_some(self.id.as_bytes()),
        };
        let facts = self.facts(head, path);
        let plain = ResponseRules::default();
        let rules = self.rules().map_or(&plain, |rules| &rules.response);
        let written = answer.write(wire.outbox(), &facts, rules, &context);
        match written {
            Ok(status) => {
                self.seen.status = status;
                self.seen.payload_out = answer.body_len(status, head.method == Method::Head);
            }
            Err(reason) => {
                self.seen.reason = reason;
                return Step::Abort;
            }
        }
        self.seen.reason = answer.reason();
        flush(wire, timer, self.service.params.timeouts.client_write).await
    }

    /// Does what the route says.
    async fn act(&mut self, wire: &mut Wire, scratch: &mut Scratch, timer: &mut rt::Timer) -> Step {
        let service = Rc::clone(&self.service);
        if service.params.redirect_to_https && !service.params.tls {
            return self
                .answer(
                    wire,
                    scratch,
                    timer,
                    &Answer::Redirect(Redirect::to_https()),
                )
                .await;
        }
        let Some(route) = self.seen.route.and_then(|route| service.routes.get(route)) else {
            return self
                .answer(wire, scratch, timer, &Answer::Error(Reason::Internal))
                .await;
        };
        self.in_flight = Some(route.metrics.in_flight.hold());
        match &route.action {
            Action::Forward => forward::run(self, wire, scratch, timer).await,
            Action::Answer(answer) => self.answer(wire, scratch, timer, answer).await,
        }
    }

    /// Writes the record: metrics and access log.
    pub fn finish(&mut self, head: &RequestHead) {
        self.in_flight = None;
        record::write(self, head);
    }
}

/// Sends what stands in the outbox.
async fn flush(wire: &mut Wire, timer: &mut rt::Timer, patience: Duration) -> Step {
    timer.set(rt::now() + patience);
    poll_fn(|cx| match wire.poll_flush_all(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Step::Sent),
        Poll::Ready(Err(_)) => Poll::Ready(Step::Abort),
        Poll::Pending => timer.poll(cx).map(|()| Step::Abort),
    })
    .await
}

/// Answers bytes that are no request, or a request that did not arrive in time.
pub async fn refuse(
    service: &Rc<Service>,
    session: &Session,
    wire: &mut Wire,
    reason: Reason,
    started: Instant,
    timer: &mut rt::Timer,
) {
    if reason.status() == 0 {
        service.count_refused(reason);
        return;
    }
    let bytes = wire.inbox().take();
    let mut exchange = Exchange::new(service, session, bytes, started);
    exchange.traffic = wire.traffic();
    exchange.may_go_on = false;
    let mut scratch = Scratch::take();
    scratch.request.clear();
    exchange.client = Client::decide(exchange.origin.peer_ip(), &[], b"", &service.trusted);
    exchange.id = RequestId::generate(service.shared.rng.borrow_mut().wide());
    exchange
        .answer(wire, &mut scratch, timer, &Answer::Error(reason))
        .await;
    exchange.note_traffic(wire);
    exchange.finish(&scratch.request);
    scratch.keep();
}

/// How serving a request ended.
pub enum Step {
    /// A response was sent to its end.
    Sent,
    /// The client must not take what it has for complete.
    Abort,
    /// The server has switched protocols.
    Tunnel(Box<Opened>),
}

/// Serves one request whose head is in `scratch.request`.
pub async fn run(
    mut exchange: Exchange,
    wire: &mut Wire,
    scratch: &mut Scratch,
    timer: &mut rt::Timer,
) -> After {
    let service = Rc::clone(&exchange.service);
    exchange.traffic = wire.traffic();
    exchange.identify(&scratch.request);
    let decided = match exchange.check_method(&scratch.request) {
        Some(answer) => Err(answer),
        None => exchange.find_route(&scratch.request, &mut scratch.text),
    };
    let head = &scratch.request;
    let decided = decided.and_then(|()| exchange.check_upgrade(head).map_or(Ok(()), Err));
    let max = match (exchange.route(), decided.is_ok()) {
        (Some(route), true) => route.params.max_body,
        _ => service.params.limits.request_body,
    };
    let decoder = Decoder::of(head.body, &service.params.limits.parser, Side::Request);
    wire.receive(decoder, max.unwrap_or(u64::MAX));
    let too_large = matches!((head.body, max), (BodyKind::Length(n), Some(max)) if n > max);
    let step = match decided {
        Err(answer) => exchange.answer(wire, scratch, timer, &answer).await,
        Ok(()) if too_large => {
            let answer = Answer::Error(Reason::BodyTooLarge);
            exchange.answer(wire, scratch, timer, &answer).await
        }
        Ok(()) => exchange.act(wire, scratch, timer).await,
    };
    exchange.note_traffic(wire);
    match step {
        Step::Tunnel(opened) => {
            let head = std::mem::take(&mut scratch.request);
            After::Tunnel(Box::new(Tunnel {
                exchange,
                head,
                opened,
            }))
        }
        Step::Abort => {
            exchange.finish(&scratch.request);
            After::Abort
        }
        Step::Sent => {
            exchange.finish(&scratch.request);
            let done = wire.is_last() || discard_body(wire, &service, timer).await;
            if exchange.may_go_on && done {
                After::KeepAlive
            } else {
                After::Close
            }
        }
    }
}
