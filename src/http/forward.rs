//! A request on its way to an upstream: attempts, the decision whether to try again, and what the
//! end of the last one means for the client. The bytes move in `transfer`.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::clock::Wait;
use crate::http::edit::{
    Persistence, RequestContext, ResponseContext, client_body, write_early_hints,
    write_request_head, write_response_head,
};
use crate::http::exchange::{Exchange, Step};
use crate::http::kept::Kept;
use crate::http::normalize;
use crate::http::pump::TrailerPolicy;
use crate::http::reply::Answer;
use crate::http::scratch::Scratch;
use crate::http::service::{Route, Service};
use crate::http::transfer::{End, Fault, Responder, Terms, Times, Transfer, client_reason};
use crate::http::tunnel::Opened;
use crate::http::wire::{Framing, Wire};
use crate::io::Stream;
use crate::metric::label::Class;
use crate::proto::head::{BodyKind, Method, RequestHead, ResponseHead, Upgrade};
use crate::rt;
use crate::upstream::balance::Tried;
use crate::upstream::group::{Lease, Leased, Refused, Upstream, Wanted};
use crate::upstream::retry::{Attempt, Body, Outcome, RETRIED_TOTAL};

/// How the framing of a message that we send follows from its body.
const fn framing(body: BodyKind) -> Framing {
    match body {
        BodyKind::None => Framing::None,
        BodyKind::Length(length) => Framing::Length(length),
        BodyKind::Chunked => Framing::Chunked { open: 0 },
        BodyKind::UntilClose => Framing::UntilClose,
    }
}

/// What all attempts of one request share.
struct Course<'a> {
    exchange: &'a mut Exchange,
    route: &'a Route,
    upstream: Rc<Upstream>,
    tried: Tried,
    retries: u32,
    /// A kept connection broke: the next attempt opens one of its own.
    wanted: Wanted,
    /// When everything has to be done.
    total: Instant,
    /// What the last failed attempt failed of.
    failure: Option<Reason>,
}

/// What follows an attempt.
enum Next {
    Again,
    Over(Step),
    Answer(Reason),
}

/// Sends the request in `scratch.request` to a server of the upstream and the response to the
/// client.
pub async fn run(
    exchange: &mut Exchange,
    wire: &mut Wire,
    scratch: &mut Scratch,
    timer: &mut rt::Timer,
) -> Step {
    let service = Rc::clone(&exchange.service);
    let whole = scratch.request.body.is_empty();
    let mut kept = Kept::empty(service.shared.kept.clone(), whole);
    let outcome = match Course::begin(exchange, &service) {
        Ok(mut course) => course.run(wire, scratch, timer, &mut kept).await,
        Err(reason) => Err(reason),
    };
    drop(kept);
    match outcome {
        Ok(step) => step,
        Err(reason) => {
            let answer = Answer::Error(reason);
            exchange.answer(wire, scratch, timer, &answer).await
        }
    }
}

impl<'a> Course<'a> {
    fn begin(exchange: &'a mut Exchange, service: &'a Service) -> Result<Self, Reason> {
        let place = exchange.seen.route.ok_or(Reason::Internal)?;
        let route = service.routes.get(place).ok_or(Reason::Internal)?;
        let chosen = route.upstream(&mut service.shared.rng.borrow_mut());
        let upstream = Rc::clone(chosen.ok_or(Reason::NoServer)?);
        exchange.seen.upstream = Some(Rc::clone(&upstream));
        upstream.budget.borrow_mut().request(rt::now());
        let total = match route.params.timeouts.total {
            Some(total) => exchange.started + total,
            None => Instant::FAR,
        };
        Ok(Self {
            exchange,
            route,
            upstream,
            tried: Tried::new(),
            retries: 0,
            wanted: Wanted::Any,
            total,
            failure: None,
        })
    }

    /// Attempts until one is the last.
    async fn run(
        &mut self,
        wire: &mut Wire,
        scratch: &mut Scratch,
        timer: &mut rt::Timer,
        kept: &mut Kept,
    ) -> Result<Step, Reason> {
        if !kept.is_whole() && self.route.params.buffering.request > 0 {
            self.keep(wire, &scratch.request, timer, kept).await?;
        }
        loop {
            match self.attempt(wire, scratch, timer, kept).await {
                Next::Again => {
                    self.retries += 1;
                    self.upstream.metrics.retries.inc();
                    if self.total == Instant::FAR {
                        self.total = self.exchange.started + RETRIED_TOTAL;
                    }
                }
                Next::Over(step) => return Ok(step),
                Next::Answer(reason) => return Err(reason),
            }
        }
    }

    /// Reads the request body before a server is chosen, so that it can be sent again and a slow
    /// client holds no server.
    async fn keep(
        &mut self,
        wire: &mut Wire,
        head: &RequestHead,
        timer: &mut rt::Timer,
        kept: &mut Kept,
    ) -> Result<(), Reason> {
        self.exchange.ask_for_body(head, wire);
        let params = &self.route.params;
        let gap = params.timeouts.request_body;
        let bound = self.exchange.service.params.min_rate.of_requests(gap);
        let mut wait = Wait::new(wire.traffic().0, rt::now());
        poll_fn(|cx| {
            if self.exchange.is_cut() {
                return Poll::Ready(Err(Reason::DrainLimit));
            }
            if let (true, Poll::Ready(Err(_))) = (wire.has_unsent(), wire.poll_flush_all(cx)) {
                return Poll::Ready(Err(Reason::ClientGone));
            }
            if let Poll::Ready(done) = kept.poll_keep(cx, wire, params.buffering.request) {
                return Poll::Ready(done.map_err(client_reason));
            }
            let now = rt::now();
            if now >= self.total {
                return Poll::Ready(Err(Reason::TotalTimeout));
            }
            match wait.check(wire.traffic().0, now, &bound) {
                Ok(next) => timer.set(next.min(self.total)),
                Err(late) => return Poll::Ready(Err(late.in_body())),
            }
            timer.poll(cx).map(|()| Err(Reason::BodyTimeout))
        })
        .await
    }

    /// A connection to a server, unless the client goes away meanwhile or the time is over.
    async fn lease(&mut self, wire: &mut Wire, timer: &mut rt::Timer) -> Result<Leased, Refused> {
        let timeouts = &self.route.params.timeouts;
        let exchange = &*self.exchange;
        let (wanted, total) = (self.wanted, self.total);
        let upstream = &self.upstream;
        let mut leasing =
            pin!(upstream.lease(&mut self.tried, wanted, timeouts.connect, timeouts.tls));
        let mut waited = self.retries > 0;
        timer.set(total);
        poll_fn(|cx| {
            if !waited && let Poll::Ready(leased) = leasing.as_mut().poll(cx) {
                return Poll::Ready(leased);
            }
            let reason = if exchange.is_cut() {
                Reason::DrainLimit
            } else if wire.conn().poll_reset(cx).is_ready() {
                Reason::ClientGone
            } else if timer.poll(cx).is_ready() {
                Reason::TotalTimeout
            } else if std::mem::replace(&mut waited, true) {
                return leasing.as_mut().poll(cx);
            } else {
                return Poll::Pending;
            };
            Poll::Ready(Err(Refused {
                reason,
                outcome: None,
                server: None,
            }))
        })
        .await
    }

    async fn attempt(
        &mut self,
        wire: &mut Wire,
        scratch: &mut Scratch,
        timer: &mut rt::Timer,
        kept: &Kept,
    ) -> Next {
        self.exchange.seen.attempts += 1;
        // Taken apart at once, so that it is not held twice.
        let (lease, reused, mut back) = match self.lease(wire, timer).await {
            Ok(leased) => {
                let seen = &mut self.exchange.seen;
                seen.server = Some(leased.lease.index());
                seen.queue += leased.queued;
                seen.connect += leased.connect;
                let outbox = std::mem::take(&mut scratch.back);
                let back = Wire::new(leased.conn, None, outbox);
                (leased.lease, leased.reused, back)
            }
            Err(refused) => return self.refused(refused, &scratch.request, kept, wire),
        };
        if let Err(reason) = self.write_head(&mut back, scratch) {
            // Nothing was sent: the connection is as good as before.
            let (conn, _, outbox) = back.into_parts();
            scratch.back = outbox;
            lease.give_back(conn, None);
            return Next::Answer(reason);
        }
        let (end, times, reusable) = self.transfer(wire, &mut back, scratch, timer, kept).await;
        self.exchange.seen.first_byte = times
            .first_byte
            .map(|at| at - self.exchange.started)
            .or(self.exchange.seen.first_byte);
        let held = Held {
            lease,
            reused,
            reusable,
            sent: times.sent.is_some(),
            body: body_in_hand(kept, wire),
        };
        self.after(end, held, back, scratch)
    }

    fn refused(&mut self, refused: Refused, head: &RequestHead, kept: &Kept, wire: &Wire) -> Next {
        if refused.server.is_some() {
            self.exchange.seen.server = refused.server;
        }
        let again = refused
            .outcome
            .is_some_and(|outcome| self.may_retry(outcome, head.method, body_in_hand(kept, wire)));
        if again {
            self.failure = Some(refused.reason);
            return Next::Again;
        }
        match (refused.reason, self.failure) {
            // Nobody is left to try: what the tried ones did says more than that.
            (Reason::NoServer, Some(failure)) => Next::Answer(failure),
            (reason, _) => Next::Answer(reason),
        }
    }

    fn may_retry(&self, outcome: Outcome, method: Method, body: Body) -> bool {
        if !is_harmless(outcome) && !self.upstream.has_other(&self.tried) {
            // Nobody else could be asked.
            return false;
        }
        let attempt = Attempt {
            outcome,
            idempotent: method.is_idempotent(),
            body,
            retries: self.retries,
            client_gone: false,
            deadline: self.total,
        };
        let policy = &self.route.params.retry;
        policy
            .decide(&attempt, &mut self.upstream.budget.borrow_mut(), rt::now())
            .is_ok()
    }

    /// Writes the request head for the server into the outbox of `back`.
    fn write_head(&mut self, back: &mut Wire, scratch: &mut Scratch) -> Result<(), Reason> {
        let head = &scratch.request;
        let exchange = &*self.exchange;
        let bytes = exchange.bytes.get();
        let received = head.path_bytes(bytes);
        let normal = normalize::normalize(received, &mut scratch.text)?;
        let path = normalize::choose(self.route.params.normalize, received, normal)?;
        let mut rewritten = Vec::new();
        let path = normalize::rewrite(path, &self.route.params.path, &mut rewritten)?;
        let server = exchange
            .seen
            .server
            .and_then(|index| self.upstream.server(index));
        let facts = exchange.facts(head, normal.path);
        let cx = RequestContext {
            facts: &facts,
            path,
            body: head.body,
            server_host: server.map_or(b"", |server| server.authority.as_bytes()),
            upgrade: upgrade(self.route, head, bytes),
            trace: Some(exchange.trace),
            trailers: self.request_trailers(head) == TrailerPolicy::Forward,
            close: false,
        };
        let rules = &exchange.rules().ok_or(Reason::Internal)?.request;
        write_request_head(back.outbox(), head, bytes, &cx, rules)?;
        back.send(framing(head.body));
        Ok(())
    }

    fn request_trailers(&self, head: &RequestHead) -> TrailerPolicy {
        if self.route.params.trailers && head.body == BodyKind::Chunked {
            TrailerPolicy::Forward
        } else {
            TrailerPolicy::Drop
        }
    }

    async fn transfer(
        &mut self,
        wire: &mut Wire,
        back: &mut Wire,
        scratch: &mut Scratch,
        timer: &mut rt::Timer,
        kept: &Kept,
    ) -> (End, Times, bool) {
        let service = Rc::clone(&self.exchange.service);
        let head = &scratch.request;
        let limits = &service.params.limits;
        let trailers = self.route.params.trailers && head.te_trailers;
        let protocol = upgrade(self.route, head, self.exchange.bytes.get()).map(<[u8]>::to_vec);
        let terms = Terms {
            limits: &limits.parser,
            interim_bytes: limits.interim_bytes,
            interim_responses: limits.interim_responses,
            timeouts: &self.route.params.timeouts,
            min_rate: service.params.min_rate,
            method: head.method,
            upgrade: protocol.as_deref(),
            request_trailers: self.request_trailers(head),
            response_trailers: if trailers {
                TrailerPolicy::Forward
            } else {
                TrailerPolicy::Drop
            },
            total: self.total,
        };
        let ahead = self.route.params.buffering.response;
        wire.set_ahead(usize::try_from(ahead).unwrap_or(usize::MAX));
        let mut reply = Reply {
            course: self,
            request: head,
            text: &mut scratch.text,
            kept,
        };
        let mut transfer = Transfer::new(
            &terms,
            (wire, back),
            kept,
            (&mut scratch.response, &mut reply),
            timer,
        );
        let end = (&mut transfer).await;
        (end, transfer.times(), transfer.is_back_reusable())
    }

    /// What the end of an attempt means for the server, the client and the next attempt.
    fn after(&mut self, end: End, held: Held, back: Wire, scratch: &mut Scratch) -> Next {
        let (_, sent) = back.traffic();
        self.count_attempt(&held.lease, end, &back);
        let (conn, unread, outbox) = back.into_parts();
        scratch.back = outbox;
        let mut lease = held.lease;
        match end {
            End::Done => {
                lease.succeeded();
                if held.reusable {
                    lease.give_back(conn, scratch.response.keep_alive_timeout);
                }
                Next::Over(Step::Sent)
            }
            End::Tunnel => {
                lease.succeeded();
                let opened = Opened {
                    lease,
                    back: conn,
                    back_unread: unread,
                };
                Next::Over(Step::Tunnel(Box::new(opened)))
            }
            End::Status(_) => {
                lease.succeeded();
                Next::Again
            }
            End::Server(fault) => {
                let outcome = outcome_of(fault, held.reused, sent);
                // A kept connection that was closed meanwhile says nothing about the server.
                if is_servers(fault.reason, held.sent) && !is_harmless(outcome) {
                    lease.failed();
                }
                self.after_fault(fault, outcome, &held.body, (&lease, scratch.request.method))
            }
            End::Client(reason) => Next::Answer(reason),
            End::Aborted(reason) => {
                if is_servers(reason, held.sent) {
                    lease.failed();
                }
                self.exchange.seen.reason = reason;
                Next::Over(Step::Abort)
            }
        }
    }

    fn after_fault(
        &mut self,
        fault: Fault,
        outcome: Outcome,
        body: &Body,
        (lease, method): (&Lease, Method),
    ) -> Next {
        if !self.may_retry(outcome, method, *body) {
            return Next::Answer(fault.reason);
        }
        if is_harmless(outcome) {
            // The server itself may be in order: it can be asked again.
            self.tried.remove(lease.index());
            self.wanted = Wanted::Fresh;
        }
        self.failure = Some(fault.reason);
        Next::Again
    }

    fn count_attempt(&mut self, lease: &Lease, end: End, back: &Wire) {
        let Some(server) = lease.server() else { return };
        let (received, sent) = back.traffic();
        server.metrics.received.add(received);
        server.metrics.sent.add(sent);
        self.exchange.seen.payload_out = back.payload();
        let class = match end {
            End::Done | End::Tunnel | End::Aborted(_) => Class::of(self.exchange.seen.status),
            End::Status(status) => Class::of(status),
            End::Server(_) => Class::None,
            End::Client(_) => return,
        };
        server.metrics.requests.inc(class);
    }
}

/// What is in hand while bytes move.
struct Held {
    lease: Lease,
    reused: bool,
    reusable: bool,
    /// The request was sent to its end.
    sent: bool,
    body: Body,
}

/// The protocol to switch to, when the request asks for one that the route allows.
fn upgrade<'b>(route: &Route, head: &RequestHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let name: &[u8] = match head.upgrade {
        Upgrade::None => return None,
        Upgrade::WebSocket => b"websocket",
        Upgrade::Other(span) => span.of(bytes),
    };
    let mut allowed = route.params.upgrade.iter();
    allowed
        .any(|entry| entry.as_bytes().eq_ignore_ascii_case(name))
        .then_some(name)
}

/// Whether a connection ended as kept ones do, which says nothing about the server.
const fn is_harmless(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::ReusedBroke | Outcome::NotSent)
}

/// Whether a reason counts against the server. `sent` says that it had the whole request.
const fn is_servers(reason: Reason, sent: bool) -> bool {
    match reason {
        Reason::UpstreamReset
        | Reason::UpstreamBadHead
        | Reason::UpstreamBadFraming
        | Reason::UpstreamBadUpgrade
        | Reason::UpstreamInterim
        | Reason::UpstreamTruncated
        | Reason::UpstreamBadBody
        | Reason::UpstreamStalled
        | Reason::ResponseTimeout => true,
        Reason::TotalTimeout => sent,
        _ => false,
    }
}

fn outcome_of(fault: Fault, reused: bool, sent: u64) -> Outcome {
    match fault.reason {
        Reason::ResponseTimeout | Reason::TotalTimeout => Outcome::TimedOut,
        Reason::UpstreamReset if fault.answered => Outcome::Spoilt,
        Reason::UpstreamReset if sent == 0 => Outcome::NotSent,
        Reason::UpstreamReset if reused => Outcome::ReusedBroke,
        Reason::UpstreamReset => Outcome::FreshBroke,
        _ => Outcome::Spoilt,
    }
}

/// Whether the request body can be sent (again) from its start (rule 15.3).
fn body_in_hand(kept: &Kept, wire: &Wire) -> Body {
    if kept.is_whole() || wire.taken() == kept.len() {
        Body::Whole
    } else {
        Body::Partial
    }
}

/// Writes response heads to the client.
struct Reply<'a, 'c> {
    course: &'a mut Course<'c>,
    request: &'a RequestHead,
    text: &'a mut Vec<u8>,
    kept: &'a Kept,
}

impl Responder for Reply<'_, '_> {
    fn is_cut(&self) -> bool {
        self.course.exchange.is_cut()
    }

    fn ask_for_body(&mut self, front: &mut Wire) {
        self.course.exchange.ask_for_body(self.request, front);
    }

    fn is_retried(&mut self, status: u16, front: &Wire) -> bool {
        let policy = &self.course.route.params.retry;
        let covered = policy.on_status.contains(&status);
        let body = body_in_hand(self.kept, front);
        covered
            && self
                .course
                .may_retry(Outcome::Status(status), self.request.method, body)
    }

    fn interim(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        front: &mut Wire,
    ) -> Result<(), Reason> {
        if self.course.route.params.early_hints {
            write_early_hints(front.outbox(), head, bytes, self.request.version)?;
        }
        Ok(())
    }

    fn head(&mut self, head: &ResponseHead, bytes: &[u8], front: &mut Wire) -> Result<(), Reason> {
        let request = self.request;
        let body = client_body(head, request.version, request.method == Method::Head);
        let exchange = &mut *self.course.exchange;
        exchange.seen.status = head.status;
        let keep = exchange.persists(request.keep_alive && body != BodyKind::UntilClose);
        let normal = normalize::normalize(request.path_bytes(exchange.bytes.get()), self.text)?;
        let mut facts = exchange.facts(request, normal.path);
        facts.status = head.status;
        let upgrade = match head.status {
            101 => match head.upgrade {
                Upgrade::WebSocket => Some(&b"websocket"[..]),
                Upgrade::Other(span) => Some(span.of(bytes)),
                Upgrade::None => None,
            },
            _ => None,
        };
        let cx = ResponseContext {
            facts: &facts,
            version: request.version,
            body,
            persistence: if keep {
                Persistence::Keep
            } else {
                Persistence::Close
            },
            upgrade,
            trailers: self.course.route.params.trailers && request.te_trailers,
            date: &exchange.service.shared.date(),
        };
        let rules = &exchange.rules().ok_or(Reason::Internal)?.response;
        write_response_head(front.outbox(), head, bytes, &cx, rules)?;
        front.send(framing(body));
        Ok(())
    }
}
