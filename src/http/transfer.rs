//! One attempt: request to a server, response to the client, both at once, with every deadline of
//! the exchange. A hand-written future, so that nothing is allocated and nothing can be forgotten:
//! each poll moves what can be moved and then looks at the clock.
//!
//! It knows no routes and no retries: what a broken attempt means is decided by its caller.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::kept::Kept;
use crate::http::params::{MinRate, Timeouts};
use crate::http::pump::{Broken, TrailerPolicy, poll_pump};
use crate::http::reply::CONTINUE;
use crate::http::wire::Wire;
use crate::io::Stream;
use crate::proto::head::{BodyKind, Method, ResponseHead, Upgrade};
use crate::proto::http1::body::Decoder;
use crate::proto::http1::{Limits, Scan, Side, response};
use crate::rt;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response was sent to its end.
    Done,
    /// A 101 was sent: both sides are a tunnel now.
    Tunnel,
    /// The server failed and nothing of a response was sent.
    Server(Fault),
    /// The response has a status that may be tried elsewhere; nothing of it was sent.
    Status(u16),
    /// The client failed; the reason says how.
    Client(Reason),
    /// Broken after the response was begun: the client must not take it for complete.
    Aborted(Reason),
}

/// What a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For the log and the answer.
    pub reason: Reason,
    /// Bytes of the request were handed to the connection.
    pub sent: bool,
    /// Bytes of a response had come.
    pub answered: bool,
}

/// What is written for a response head: the policy that a transfer itself does not have.
pub trait Responder {
    /// Whether the response is to be given up for another attempt.
    fn is_retried(&mut self, status: u16, front: &Wire) -> bool;
    /// Writes an interim response (103) to the client's outbox, if the route and client want it.
    ///
    /// # Errors
    /// The head cannot be written.
    fn interim(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        front: &mut Wire,
    ) -> Result<(), Reason>;
    /// Writes the head of the response and sets the framing.
    ///
    /// # Errors
    /// The head cannot be written.
    fn head(&mut self, head: &ResponseHead, bytes: &[u8], front: &mut Wire) -> Result<(), Reason>;
}

/// What a transfer needs to know of its request.
pub struct Terms<'a> {
    /// Parser limits.
    pub limits: &'a Limits,
    /// Bytes and number of interim responses.
    pub interim_bytes: u64,
    /// Their number.
    pub interim_responses: u32,
    /// Deadlines.
    pub timeouts: &'a Timeouts,
    /// Least rates.
    pub min_rate: MinRate,
    /// The request's method.
    pub method: Method,
    /// What the request asked to switch to.
    pub upgrade: Upgrade,
    /// The client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Trailers towards the server.
    pub request_trailers: TrailerPolicy,
    /// Trailers towards the client.
    pub response_trailers: TrailerPolicy,
    /// When the whole exchange has to be done.
    pub total: Instant,
}

/// Times that the log and the histograms want.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The request was sent to its end.
    pub sent: Option<Instant>,
    /// The first byte of the response head.
    pub first_byte: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Upload {
    Sending,
    Done,
    /// The server takes no more; its response may still come.
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Download {
    Head,
    Body,
    Done,
}

/// The state of one attempt.
pub struct Transfer<'a, R: Responder> {
    terms: &'a Terms<'a>,
    front: &'a mut Wire,
    back: &'a mut Wire,
    kept: &'a Kept,
    kept_at: usize,
    scan: Scan,
    head: &'a mut ResponseHead,
    responder: &'a mut R,
    upload: Upload,
    download: Download,
    asked_to_continue: bool,
    interim_left: u32,
    interim_bytes: u64,
    clock: Progress,
    timer: &'a mut rt::Timer,
    times: Times,
}

/// When bytes last moved, and how many.
struct Progress {
    start: Instant,
    sent_at: Option<Instant>,
    front_in: Mark,
    front_out: Mark,
    back_in: Mark,
}

#[derive(Clone, Copy)]
struct Mark {
    bytes: u64,
    at: Instant,
    /// Start of the window over which the rate is averaged.
    window: Instant,
    window_bytes: u64,
}

/// The window of the least rates.
const RATE_WINDOW: Duration = Duration::from_secs(10);

impl Mark {
    const fn new(bytes: u64, now: Instant) -> Self {
        Self {
            bytes,
            at: now,
            window: now,
            window_bytes: bytes,
        }
    }

    fn update(&mut self, bytes: u64, now: Instant) {
        if bytes != self.bytes {
            self.bytes = bytes;
            self.at = now;
        }
    }

    /// Whether the least rate was missed over the last window; begins a new one at its end.
    fn is_too_slow(&mut self, rate: u64, now: Instant) -> bool {
        let span = now - self.window;
        if rate == 0 || span < RATE_WINDOW {
            return false;
        }
        let slow = self.bytes - self.window_bytes < rate.saturating_mul(span.as_secs());
        self.window = now;
        self.window_bytes = self.bytes;
        slow
    }
}

impl<'a, R: Responder> Transfer<'a, R> {
    /// An attempt whose request head stands in the outbox of `back`.
    pub fn new(
        terms: &'a Terms<'a>,
        (front, back): (&'a mut Wire, &'a mut Wire),
        kept: &'a Kept,
        (head, responder): (&'a mut ResponseHead, &'a mut R),
        timer: &'a mut rt::Timer,
    ) -> Self {
        let now = rt::now();
        head.clear();
        let clock = Progress {
            start: now,
            sent_at: None,
            front_in: Mark::new(front.traffic().0, now),
            front_out: Mark::new(front.traffic().1, now),
            back_in: Mark::new(back.traffic().0, now),
        };
        Self {
            terms,
            front,
            back,
            kept,
            kept_at: 0,
            scan: Scan::default(),
            head,
            responder,
            upload: Upload::Sending,
            download: Download::Head,
            asked_to_continue: false,
            interim_left: terms.interim_responses,
            interim_bytes: 0,
            clock,
            timer,
            times: Times::default(),
        }
    }

    /// When what happened.
    pub const fn times(&self) -> Times {
        self.times
    }

    /// Whether the request body was received and sent to its end.
    pub fn is_upload_done(&self) -> bool {
        self.upload == Upload::Done
    }

    fn fault(&self, reason: Reason) -> End {
        let (received, sent) = self.back.traffic();
        End::Server(Fault {
            reason,
            sent: sent > 0,
            answered: received > 0,
        })
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if self.terms.expects_continue && !self.asked_to_continue && !self.kept.is_whole() {
            self.asked_to_continue = true;
            if self.front.unread().is_empty() && self.download == Download::Head {
                self.front.outbox().extend_from_slice(CONTINUE);
            }
        }
        let policy = self.terms.request_trailers;
        let mut body = self.kept.replay(&mut self.kept_at, self.front);
        match poll_pump(cx, &mut body, self.back, policy) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.upload = Upload::Done;
                self.clock.sent_at = Some(rt::now());
                self.times.sent = self.clock.sent_at;
                Poll::Ready(None)
            }
            Poll::Ready(Err(Broken::Source(reason))) => {
                Poll::Ready(Some(self.client_fault(match reason {
                    Reason::UpstreamTruncated => Reason::BodyCutShort,
                    other => other,
                })))
            }
            Poll::Ready(Err(Broken::Sink(_))) => {
                // The response may already be in the receive buffer (rule 14.1): it is read first.
                self.upload = Upload::Stopped;
                self.clock.sent_at = Some(rt::now());
                Poll::Ready(None)
            }
        }
    }

    fn client_fault(&self, reason: Reason) -> End {
        if self.download == Download::Head {
            End::Client(reason)
        } else {
            End::Aborted(reason)
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        loop {
            let limits = self.terms.limits;
            let parsed = response::parse(
                self.head,
                &mut self.scan,
                self.back.unread(),
                limits,
                self.terms.method,
            );
            match parsed {
                Err(error) => return Poll::Ready(Some(self.fault(error.reason))),
                Ok(Some(())) => {
                    if let Some(end) = self.take_head() {
                        return Poll::Ready(Some(end));
                    }
                    if self.download == Download::Body {
                        return Poll::Ready(None);
                    }
                }
                Ok(None) => match self
                    .back
                    .poll_read_more(cx, limits.response_head as usize + 1)
                {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Some(self.fault(Reason::UpstreamReset)));
                    }
                    Poll::Ready(Ok(_)) => {
                        self.times.first_byte.get_or_insert_with(rt::now);
                    }
                },
            }
        }
    }

    /// A whole head is here. Interim ones are used up, the final one begins the body.
    fn take_head(&mut self) -> Option<End> {
        let len = self.head.len;
        if self.head.is_interim() {
            self.interim_bytes += len as u64;
            if self.interim_left == 0 || self.interim_bytes > self.terms.interim_bytes {
                return Some(self.fault(Reason::UpstreamInterim));
            }
            self.interim_left -= 1;
            let written = self
                .responder
                .interim(self.head, self.back.unread(), self.front);
            self.drop_head(len);
            return written.err().map(|reason| self.fault(reason));
        }
        if self.head.status == 101 && !self.is_switch_expected() {
            return Some(self.fault(Reason::UpstreamBadUpgrade));
        }
        if self.responder.is_retried(self.head.status, self.front) {
            return Some(End::Status(self.head.status));
        }
        if let Err(reason) = self
            .responder
            .head(self.head, self.back.unread(), self.front)
        {
            return Some(self.fault(reason));
        }
        self.drop_head(len);
        self.back.receive(
            Decoder::of(self.head.body, self.terms.limits, Side::Response),
            u64::MAX,
        );
        self.download = Download::Body;
        let now = rt::now();
        self.clock.front_out = Mark::new(self.front.traffic().1, now);
        None
    }

    fn drop_head(&mut self, len: usize) {
        if let Some(buf) = self.back.inbox().as_mut() {
            buf.consume(len);
            if buf.is_empty() {
                *self.back.inbox() = None;
            }
        }
        self.scan = Scan::default();
    }

    /// Rule 16.4: a 101 only for what was asked.
    fn is_switch_expected(&self) -> bool {
        match (self.terms.upgrade, self.head.upgrade) {
            (Upgrade::WebSocket, Upgrade::WebSocket) | (Upgrade::Other(_), Upgrade::Other(_)) => {
                self.head.tunnel
            }
            _ => false,
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        if self.head.status == 101 {
            return match self.front.poll_flush_all(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(Some(End::Tunnel)),
                Poll::Ready(Err(_)) => Poll::Ready(Some(End::Aborted(Reason::ClientGone))),
            };
        }
        match poll_pump(cx, self.back, self.front, self.terms.response_trailers) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.download = Download::Done;
                Poll::Ready(None)
            }
            Poll::Ready(Err(Broken::Source(reason))) => {
                let reason = match reason {
                    Reason::UpstreamTruncated => reason,
                    _ => Reason::UpstreamBadBody,
                };
                Poll::Ready(Some(End::Aborted(reason)))
            }
            Poll::Ready(Err(Broken::Sink(_))) => {
                Poll::Ready(Some(End::Aborted(Reason::ClientGone)))
            }
        }
    }

    /// Rule 14.1: after an early final response the upload goes on as long as the server reads.
    fn upload_goes_on(&self) -> bool {
        self.upload == Upload::Sending && self.head.keep_alive
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.upload == Upload::Sending {
            if let Poll::Ready(Some(end)) = self.poll_upload(cx) {
                return Poll::Ready(end);
            }
        }
        if self.download == Download::Head && self.front.has_unsent() {
            // A 100 or 103: it must not wait for the response.
            if let Poll::Ready(Err(_)) = self.front.poll_flush_all(cx) {
                return Poll::Ready(End::Client(Reason::ClientGone));
            }
        }
        if self.upload != Upload::Sending && self.front.conn().poll_reset(cx).is_ready() {
            return Poll::Ready(self.client_fault(Reason::ClientGone));
        }
        if self.download == Download::Head {
            if let Poll::Ready(Some(end)) = self.poll_head(cx) {
                return Poll::Ready(end);
            }
        }
        if self.download == Download::Body {
            if let Poll::Ready(Some(end)) = self.poll_download(cx) {
                return Poll::Ready(end);
            }
        }
        if self.download == Download::Done && !self.upload_goes_on() {
            return Poll::Ready(End::Done);
        }
        self.poll_clock(cx)
    }

    /// Looks at every deadline, and sets the timer to the next one.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = rt::now();
        let clock = &mut self.clock;
        clock.front_in.update(self.front.traffic().0, now);
        clock.front_out.update(self.front.traffic().1, now);
        clock.back_in.update(self.back.traffic().0, now);
        let mut next = self.terms.total;
        if now >= next {
            return Poll::Ready(self.server_late(Reason::TotalTimeout));
        }
        if self.upload == Upload::Sending && !self.back.has_unsent() {
            // The server takes what comes, so it is the client that is waited for.
            let due = self.clock.front_in.at + self.terms.timeouts.request_body;
            if now >= due {
                return Poll::Ready(self.client_fault(Reason::BodyTimeout));
            }
            let grace = self.terms.min_rate.request_grace;
            let rate = self.terms.min_rate.bytes_per_second;
            if now - self.clock.start > grace && self.clock.front_in.is_too_slow(rate, now) {
                return Poll::Ready(self.client_fault(Reason::BodyTooSlow));
            }
            next = next.min(due).min(self.clock.front_in.window + RATE_WINDOW);
        } else if self.upload == Upload::Sending {
            let due =
                self.clock.start.max(self.clock.front_in.at) + self.terms.timeouts.response_body;
            if now >= due {
                return Poll::Ready(self.server_late(Reason::ResponseTimeout));
            }
            next = next.min(due);
        }
        if self.download == Download::Head {
            if let Some(sent) = self.clock.sent_at {
                let due = sent + self.terms.timeouts.response_header;
                if now >= due {
                    return Poll::Ready(self.server_late(Reason::ResponseTimeout));
                }
                next = next.min(due);
            }
        } else if self.download == Download::Body {
            match self.poll_clock_of_body(now) {
                Ok(due) => next = next.min(due),
                Err(reason) => return Poll::Ready(End::Aborted(reason)),
            }
        }
        self.timer.set(next);
        if self.timer.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_clock_of_body(&mut self, now: Instant) -> Result<Instant, Reason> {
        let timeouts = self.terms.timeouts;
        if !self.front.is_blocked() {
            let due = self.clock.back_in.at.max(self.clock.front_out.at) + timeouts.response_body;
            self.clock.front_out.window = now;
            self.clock.front_out.window_bytes = self.clock.front_out.bytes;
            return if now >= due {
                Err(Reason::UpstreamStalled)
            } else {
                Ok(due)
            };
        }
        let due = self.clock.front_out.at + timeouts.client_write;
        if now >= due {
            return Err(Reason::WriteTimeout);
        }
        let rate = self.terms.min_rate;
        if now - self.clock.start > rate.response_grace
            && self.clock.front_out.is_too_slow(rate.bytes_per_second, now)
        {
            return Err(Reason::ReadTooSlow);
        }
        Ok(due.min(self.clock.front_out.window + RATE_WINDOW))
    }

    fn server_late(&self, reason: Reason) -> End {
        if self.download == Download::Head {
            self.fault(reason)
        } else {
            End::Aborted(reason)
        }
    }

    /// Whether the connection to the server may be used again (section 13).
    pub fn is_back_reusable(&self) -> bool {
        self.download == Download::Done
            && self.upload == Upload::Done
            && self.head.keep_alive
            && self.head.body != BodyKind::UntilClose
            && self.back.unread().is_empty()
            && self.back.is_sent()
    }
}

impl<R: Responder> Future for &mut Transfer<'_, R> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let transfer: &mut Transfer<'_, R> = self.get_mut();
        transfer.poll_all(cx)
    }
}
