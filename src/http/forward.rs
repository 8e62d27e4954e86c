//! A request on its way to an upstream: attempts, the decision whether to try again, and what the
//! end of the last one means for the client. The bytes move in `transfer`.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::edit::{
    Persistence, RequestContext, ResponseContext, client_body, write_early_hints,
    write_request_head, write_response_head,
};
use crate::http::exchange::{Exchange, Step};
use crate::http::kept::Kept;
use crate::http::normalize;
use crate::http::params::Timeouts;
use crate::http::pump::TrailerPolicy;
use crate::http::reply::{Answer, CONTINUE};
use crate::http::scratch::Scratch;
use crate::http::service::Route;
use crate::http::transfer::{End, Fault, Responder, Terms, Times, Transfer};
use crate::http::tunnel::Opened;
use crate::http::wire::{Framing, Wire};
use crate::metric::label::Class;
use crate::proto::head::{BodyKind, Method, RequestHead, ResponseHead, Upgrade};
use crate::rt;
use crate::upstream::balance::Tried;
use crate::upstream::group::{Lease, Refused, Upstream};
use crate::upstream::retry::{Attempt, Body, Outcome, Policy, RETRIED_TOTAL};

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
    policy: Policy,
    tried: Tried,
    retries: u32,
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
    let Some(route) = exchange
        .seen
        .route
        .and_then(|route| service.routes.get(route))
    else {
        return exchange
            .answer(wire, scratch, timer, &Answer::Error(Reason::Internal))
            .await;
    };
    let upstream = route
        .upstream(&mut service.shared.rng.borrow_mut())
        .map(Rc::clone);
    let Some(upstream) = upstream else {
        return exchange
            .answer(wire, scratch, timer, &Answer::Error(Reason::NoServer))
            .await;
    };
    exchange.seen.upstream = Some(Rc::clone(&upstream));
    upstream.budget.borrow_mut().request(rt::now());
    let whole = scratch.request.body.is_empty();
    let mut kept = Kept::empty(service.shared.kept.clone(), whole);
    let limit = route.params.buffering.request;
    if !whole && limit > 0 {
        let continues = scratch.request.expect_continue;
        if let Err(reason) = keep(
            &mut kept,
            wire,
            continues,
            limit,
            &route.params.timeouts,
            timer,
        )
        .await
        {
            return exchange
                .answer(wire, scratch, timer, &Answer::Error(reason))
                .await;
        }
    }
    let total = match route.params.timeouts.total {
        Some(total) => exchange.started + total,
        None => Instant::FAR,
    };
    let policy = route.params.retry.clone();
    let (tried, retries) = (Tried::new(), 0);
    let mut course = Course {
        exchange,
        route,
        upstream,
        policy,
        tried,
        retries,
        total,
        failure: None,
    };
    loop {
        match course.attempt(wire, scratch, timer, &kept).await {
            Next::Again => {
                course.retries += 1;
                course.upstream.metrics.retries.inc();
                if course.total == Instant::FAR {
                    course.total = course.exchange.started + RETRIED_TOTAL;
                }
            }
            Next::Over(step) => return step,
            Next::Answer(reason) => {
                return course
                    .exchange
                    .answer(wire, scratch, timer, &Answer::Error(reason))
                    .await;
            }
        }
    }
}

/// Reads the request body before a server is chosen, so that it can be sent again and a slow
/// client holds no server.
async fn keep(
    kept: &mut Kept,
    wire: &mut Wire,
    continues: bool,
    limit: u64,
    timeouts: &Timeouts,
    timer: &mut rt::Timer,
) -> Result<(), Reason> {
    if continues && wire.unread().is_empty() {
        wire.outbox().extend_from_slice(CONTINUE);
    }
    let mut received = wire.traffic().0;
    timer.set(rt::now() + timeouts.request_body);
    poll_fn(|cx| {
        loop {
            if wire.has_unsent() && wire.poll_flush_all(cx).is_pending() {
                return Poll::Pending;
            }
            if let Poll::Ready(outcome) = kept.poll_keep(cx, wire, limit) {
                return Poll::Ready(outcome.map_err(client_reason));
            }
            if wire.traffic().0 != received {
                received = wire.traffic().0;
                timer.set(rt::now() + timeouts.request_body);
            }
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            return Poll::Ready(Err(Reason::BodyTimeout));
        }
    })
    .await
}

/// A body that ends too early is the client's fault when the client sends it.
const fn client_reason(reason: Reason) -> Reason {
    match reason {
        Reason::UpstreamTruncated => Reason::BodyCutShort,
        other => other,
    }
}

impl Course<'_> {
    async fn attempt(
        &mut self,
        wire: &mut Wire,
        scratch: &mut Scratch,
        timer: &mut rt::Timer,
        kept: &Kept,
    ) -> Next {
        let timeouts = &self.route.params.timeouts;
        self.exchange.seen.attempts += 1;
        let leased = self
            .upstream
            .lease(&mut self.tried, timeouts.connect, timeouts.tls)
            .await;
        let leased = match leased {
            Ok(leased) => leased,
            Err(refused) => return self.refused(refused, &scratch.request, kept, wire),
        };
        self.exchange.seen.server = Some(leased.lease.index());
        self.exchange.seen.queue += leased.queued;
        self.exchange.seen.connect += leased.connect;
        let mut back = Wire::new(leased.conn, None, std::mem::take(&mut scratch.back));
        if let Err(reason) = self.write_head(&mut back, scratch) {
            return Next::Answer(reason);
        }
        let (lease, reused) = (leased.lease, leased.reused);
        let (end, times, reusable) = self.transfer(wire, &mut back, scratch, timer, kept).await;
        self.exchange.seen.first_byte = times
            .first_byte
            .map(|at| at - self.exchange.started)
            .or(self.exchange.seen.first_byte);
        let body = body_in_hand(kept, wire);
        self.after(
            end,
            Held {
                lease,
                reused,
                reusable,
            },
            back,
            body,
            scratch,
        )
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
        let attempt = Attempt {
            outcome,
            idempotent: method.is_idempotent(),
            body,
            retries: self.retries,
            client_gone: false,
            deadline: self.total,
        };
        self.policy
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
            upgrade: self.upgrade(head),
            trace: Some(exchange.trace),
            trailers: self.request_trailers(head) == TrailerPolicy::Forward,
            close: false,
        };
        let rules = &exchange.rules().ok_or(Reason::Internal)?.request;
        write_request_head(back.outbox(), head, bytes, &cx, rules)?;
        back.send(framing(head.body));
        Ok(())
    }

    /// The protocol to switch to, when the request asks for one that the route allows.
    fn upgrade<'b>(&'b self, head: &RequestHead) -> Option<&'b [u8]> {
        let name: &[u8] = match head.upgrade {
            Upgrade::None => return None,
            Upgrade::WebSocket => b"websocket",
            Upgrade::Other(span) => span.of(self.exchange.bytes.get()),
        };
        let allowed = &self.route.params.upgrade;
        allowed
            .iter()
            .any(|entry| entry.as_bytes().eq_ignore_ascii_case(name))
            .then_some(name)
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
        let terms = Terms {
            limits: &limits.parser,
            interim_bytes: limits.interim_bytes,
            interim_responses: limits.interim_responses,
            timeouts: &self.route.params.timeouts,
            min_rate: service.params.min_rate,
            method: head.method,
            upgrade: if self.upgrade(head).is_some() {
                head.upgrade
            } else {
                Upgrade::None
            },
            expects_continue: head.expect_continue,
            request_trailers: self.request_trailers(head),
            response_trailers: if trailers {
                TrailerPolicy::Forward
            } else {
                TrailerPolicy::Drop
            },
            total: self.total,
        };
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
    fn after(
        &mut self,
        end: End,
        held: Held,
        back: Wire,
        body: Body,
        scratch: &mut Scratch,
    ) -> Next {
        let Held {
            mut lease,
            reused,
            reusable,
        } = held;
        let (_, sent) = back.traffic();
        self.count_attempt(&lease, end, &back);
        let (conn, unread, outbox) = back.into_parts();
        scratch.back = outbox;
        match end {
            End::Done => {
                lease.succeeded();
                if reusable {
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
                // A kept connection that was closed meanwhile says nothing about the server.
                if !(reused && fault.reason == Reason::UpstreamReset && !fault.answered) {
                    lease.failed();
                }
                let outcome = outcome_of(fault, reused, sent);
                if self.may_retry(outcome, scratch.request.method, body) {
                    if outcome == Outcome::ReusedBroke || outcome == Outcome::NotSent {
                        // The server itself may be in order: it can be asked again.
                        self.tried.remove(lease.index());
                    }
                    self.failure = Some(fault.reason);
                    Next::Again
                } else {
                    Next::Answer(fault.reason)
                }
            }
            End::Client(Reason::ClientGone) => {
                self.exchange.seen.reason = Reason::ClientGone;
                Next::Over(Step::Abort)
            }
            End::Client(reason) => Next::Answer(reason),
            End::Aborted(reason) => {
                if matches!(reason, Reason::UpstreamTruncated | Reason::UpstreamStalled) {
                    lease.failed();
                }
                self.exchange.seen.reason = reason;
                Next::Over(Step::Abort)
            }
        }
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
    fn is_retried(&mut self, status: u16, front: &Wire) -> bool {
        let covered = self.course.policy.on_status.contains(&status);
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
