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
use crate::http::clock::Wait;
use crate::http::edit::{Persistence, ResponseRules, max_forwards};
use crate::http::forward;
use crate::http::normalize;
use crate::http::record::{self, Seen};
use crate::http::redirect::Redirect;
use crate::http::reply::{Answer, CONTINUE};
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
    /// The client was asked for its body with a 100.
    pub continued: bool,
    sent_before: u64,
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
                trace: Trace::UNDECIDED,
                continued: false,
            },
            seen: Seen::default(),
            continued: false,
            sent_before: 0,
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

    /// How long a tunnel may be silent, and how long it may go on when the worker leaves, if its
    /// route says so.
    #[must_use]
    pub fn tunnel_limits(&self) -> (Duration, Option<Duration>) {
        match self.route() {
            Some(route) => (
                route.params.timeouts.upgraded_idle,
                route.params.drain_timeout,
            ),
            None => (self.service.params.timeouts.upgraded_idle, None),
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
            listener_port: self.origin.port,
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

    /// Whether the connection was told to end.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.service.shared.is_told(self.origin.key)
    }

    /// The body is wanted now: a client that waits for a 100 gets one (rule 10.2), unless its
    /// body is on its way already.
    pub fn ask_for_body(&mut self, head: &RequestHead, wire: &mut Wire) {
        if head.expect_continue && !self.continued && wire.body_bytes() == 0 {
            self.continued = true;
            if wire.unread().is_empty() {
                wire.outbox().extend_from_slice(CONTINUE);
            }
        }
    }

    /// Whether the body of the request will not come, or only if the client likes to (rule 10.3):
    /// what follows the head then cannot be told apart.
    fn is_body_in_doubt(&self, head: &RequestHead, wire: &Wire) -> bool {
        head.expect_continue && !self.continued && !wire.is_received()
    }

    /// Bytes moved on the client's connection since the request began.
    fn note_traffic(&mut self, head: &RequestHead, wire: &Wire) {
        let head = match head.len {
            0 => self.bytes.get().len(),
            len => len,
        };
        self.seen.received = wire.body_bytes().saturating_add(head as u64);
        self.seen.sent = wire.traffic().1 - self.sent_before;
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
        if let Answer::Error(reason) = answer
            && reason.status() == 0
        {
            self.seen.reason = *reason;
            return Step::Abort;
        }
        let sure = !self.closes(answer, head) && !self.is_body_in_doubt(head, wire);
        let keep = self.persists(head.keep_alive && sure);
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
        match self.flush(wire, timer).await {
            Ok(()) => Step::Sent,
            Err(reason) => {
                // An error says more than that nobody was there to read it.
                if !matches!(answer, Answer::Error(_)) {
                    self.seen.reason = reason;
                }
                Step::Abort
            }
        }
    }

    /// Whether the connection ends with an answer. After a 413 it may go on when the body is
    /// small enough to be dropped (rule 5.1).
    fn closes(&self, answer: &Answer, head: &RequestHead) -> bool {
        let most = self.service.params.limits.discard_body;
        let small = matches!(head.body, BodyKind::Length(n) if n <= most);
        let too_large = matches!(answer, Answer::Error(Reason::BodyTooLarge));
        answer.closes() && !(too_large && small)
    }

    /// Sends what stands in the outbox.
    async fn flush(&self, wire: &mut Wire, timer: &mut rt::Timer) -> Result<(), Reason> {
        let params = &self.service.params;
        let bound = params.min_rate.of_responses(params.timeouts.client_write);
        let mut wait = Wait::new(wire.traffic().1, rt::now());
        poll_fn(|cx| {
            if let Poll::Ready(sent) = wire.poll_flush_all(cx) {
                return Poll::Ready(sent.map_err(|_| Reason::ClientGone));
            }
            if self.is_cut() {
                return Poll::Ready(Err(Reason::DrainLimit));
            }
            match wait.check(wire.traffic().1, rt::now(), &bound) {
                Ok(next) => timer.set(next),
                Err(late) => return Poll::Ready(Err(late.in_reading())),
            }
            timer.poll(cx).map(|()| Err(Reason::WriteTimeout))
        })
        .await
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
    exchange.sent_before = wire.traffic().1;
    exchange.may_go_on = false;
    let mut scratch = Scratch::take();
    scratch.request.clear();
    exchange.client = Client::decide(exchange.origin.peer_ip(), &[], b"", &service.trusted);
    exchange.id = RequestId::generate(service.shared.rng.borrow_mut().wide());
    exchange
        .answer(wire, &mut scratch, timer, &Answer::Error(reason))
        .await;
    exchange.note_traffic(&scratch.request, wire);
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
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would hold the exchange twice"
)]
pub fn run(
    mut exchange: Exchange,
    wire: &mut Wire,
    scratch: &mut Scratch,
    timer: &mut rt::Timer,
) -> impl Future<Output = After> {
    async move {
        let step = serve(&mut exchange, wire, scratch, timer).await;
        exchange.note_traffic(&scratch.request, wire);
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
                let goes_on = exchange.may_go_on
                    && (wire.is_received() || discard_body(wire, &exchange.service, timer).await);
                if goes_on {
                    After::KeepAlive
                } else {
                    After::Close
                }
            }
        }
    }
}

async fn serve(
    exchange: &mut Exchange,
    wire: &mut Wire,
    scratch: &mut Scratch,
    timer: &mut rt::Timer,
) -> Step {
    let service = Rc::clone(&exchange.service);
    exchange.sent_before = wire.traffic().1;
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
    let too_large = matches!((head.body, max), (BodyKind::Length(n), Some(max)) if n > max);
    // A body that is refused is at most dropped, and that has a limit of its own.
    wire.receive(decoder, max.filter(|_| !too_large).unwrap_or(u64::MAX));
    match decided {
        Err(answer) => exchange.answer(wire, scratch, timer, &answer).await,
        Ok(()) if too_large => {
            let answer = Answer::Error(Reason::BodyTooLarge);
            exchange.answer(wire, scratch, timer, &answer).await
        }
        Ok(()) => exchange.act(wire, scratch, timer).await,
    }
}
