//! One attempt: request to a server, response to the client, both at once, with every deadline of
//! the exchange. A hand-written future, so that nothing is allocated and nothing can be forgotten:
//! each poll moves what can be moved and then looks at the clock.
//!
//! It knows no routes and no retries: what a broken attempt means is decided by its caller.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::reason::Reason;
use crate::base::time::Instant;
use crate::http::clock::{Bound, Wait};
use crate::http::kept::Kept;
use crate::http::params::{MinRate, Timeouts};
use crate::http::pump::{Broken, TrailerPolicy, poll_pump};
use crate::http::wire::{Mark, Wire};
use crate::io::Stream;
use crate::proto::head::{BodyKind, FieldId, Method, ResponseHead, Upgrade};
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
    /// Whether everything is to be broken off: the worker leaves.
    fn is_cut(&self) -> bool;
    /// The body is wanted now: writes a 100 to the client's outbox if the client waits for one.
    fn ask_for_body(&mut self, front: &mut Wire);
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
    /// The protocol that the request asked to switch to.
    pub upgrade: Option<&'a [u8]>,
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
    asked: bool,
    interim_left: u32,
    interim_bytes: u64,
    /// The connection to the server must not be used for anybody else.
    bound: bool,
    /// When the request was sent, or no more of it.
    sent_at: Option<Instant>,
    /// Where the response to the client begins.
    mark: Mark,
    waits: Waits,
    timer: &'a mut rt::Timer,
    times: Times,
}

/// The four directions in which bytes move.
struct Waits {
    front_in: Wait,
    front_out: Wait,
    back_in: Wait,
    back_out: Wait,
}

impl Waits {
    fn new(front: &Wire, back: &Wire) -> Self {
        let now = rt::now();
        let ((from_client, to_client), (from_server, to_server)) =
            (front.traffic(), back.traffic());
        Self {
            front_in: Wait::new(from_client, now),
            front_out: Wait::new(to_client, now),
            back_in: Wait::new(from_server, now),
            back_out: Wait::new(to_server, now),
        }
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
        head.clear();
        let waits = Waits::new(front, back);
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
            asked: false,
            interim_left: terms.interim_responses,
            interim_bytes: 0,
            bound: false,
            sent_at: None,
            mark: Mark::default(),
            waits,
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
        if !std::mem::replace(&mut self.asked, true) && !self.kept.is_whole() {
            self.responder.ask_for_body(self.front);
        }
        let policy = self.terms.request_trailers;
        let mut body = self.kept.replay(&mut self.kept_at, self.front);
        match poll_pump(cx, &mut body, self.back, policy) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.upload = Upload::Done;
                self.sent_at = Some(rt::now());
                self.times.sent = self.sent_at;
                Poll::Ready(None)
            }
            Poll::Ready(Err(Broken::Source(reason))) => {
                Poll::Ready(Some(self.client_fault(client_reason(reason))))
            }
            Poll::Ready(Err(Broken::Sink(_))) => {
                // The response may already be in the receive buffer (rule 14.1): it is read first.
                self.stop_upload();
                Poll::Ready(None)
            }
        }
    }

    fn stop_upload(&mut self) {
        self.upload = Upload::Stopped;
        self.sent_at.get_or_insert_with(rt::now);
    }

    /// The client broke the exchange; once the response is complete, nothing is lost by it.
    fn client_fault(&self, reason: Reason) -> End {
        match self.download {
            Download::Head => End::Client(reason),
            Download::Body => End::Aborted(reason),
            Download::Done => End::Done,
        }
    }

    fn server_late(&self, reason: Reason) -> End {
        match self.download {
            Download::Head => self.fault(reason),
            Download::Body => End::Aborted(reason),
            Download::Done => End::Done,
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
                    Poll::Ready(Err(error)) if error.kind() == ErrorKind::OutOfMemory => {
                        return Poll::Ready(Some(self.fault(Reason::Internal)));
                    }
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
        self.mark = self.front.mark();
        if let Err(reason) = self
            .responder
            .head(self.head, self.back.unread(), self.front)
        {
            return Some(self.fault(reason));
        }
        self.bound = is_bound(self.head, self.back.unread());
        self.drop_head(len);
        self.begin_body();
        None
    }

    /// The head of the final response is written; its body follows.
    fn begin_body(&mut self) {
        let mut body = self.head.body;
        if self.head.status == 205 && !body.is_empty() {
            // Rule 7.3: it goes to the client without a body, and the server's is not read.
            body = BodyKind::None;
            self.bound = true;
        }
        let decoder = Decoder::of(body, self.terms.limits, Side::Response);
        self.back.receive(decoder, u64::MAX);
        self.download = Download::Body;
        let now = rt::now();
        self.waits.front_out = Wait::new(self.front.traffic().1, now);
        self.waits.back_in = Wait::new(self.back.traffic().0, now);
        // Rule 14.1: a server that has refused and closes does not want the rest of the request.
        if self.upload == Upload::Sending && self.head.status >= 300 && !self.head.keep_alive {
            self.stop_upload();
        }
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
        let answered = match self.head.upgrade {
            Upgrade::None => return false,
            Upgrade::WebSocket => &b"websocket"[..],
            Upgrade::Other(span) => span.of(self.back.unread()),
        };
        let asked = self.terms.upgrade;
        self.head.tunnel && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(answered))
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
                    Reason::UpstreamTruncated | Reason::Internal => reason,
                    _ => Reason::UpstreamBadBody,
                };
                if reason != Reason::UpstreamTruncated && self.front.take_back(self.mark) {
                    // Rule 6.6: the client knows nothing of it yet.
                    return Poll::Ready(Some(self.fault(reason)));
                }
                Poll::Ready(Some(End::Aborted(reason)))
            }
            Poll::Ready(Err(Broken::Sink(_))) => {
                Poll::Ready(Some(End::Aborted(Reason::ClientGone)))
            }
        }
    }

    /// Rule 14.1: after an early final response the upload goes on as long as the server wants it.
    fn upload_goes_on(&self) -> bool {
        let wanted = self.head.keep_alive
            || (self.head.status < 300 && self.head.body != BodyKind::UntilClose);
        self.upload == Upload::Sending && wanted
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.responder.is_cut() {
            return Poll::Ready(self.client_fault(Reason::DrainLimit));
        }
        if self.upload == Upload::Sending
            && let Poll::Ready(Some(end)) = self.poll_upload(cx)
        {
            return Poll::Ready(end);
        }
        let unread = self.upload != Upload::Sending || self.back.is_blocked();
        if unread && self.front.conn().poll_reset(cx).is_ready() {
            return Poll::Ready(self.client_fault(Reason::ClientGone));
        }
        if self.download == Download::Head
            && let Poll::Ready(Some(end)) = self.poll_head(cx)
        {
            return Poll::Ready(end);
        }
        if self.download == Download::Head && self.front.has_unsent() {
            // A 100 or 103: it must not wait for the response.
            if let Poll::Ready(Err(_)) = self.front.poll_flush_all(cx) {
                return Poll::Ready(End::Client(Reason::ClientGone));
            }
        }
        if self.download == Download::Body
            && let Poll::Ready(Some(end)) = self.poll_download(cx)
        {
            return Poll::Ready(end);
        }
        if self.download == Download::Done && !self.upload_goes_on() {
            return Poll::Ready(End::Done);
        }
        match self.look_at_clock(rt::now()) {
            Err(end) => Poll::Ready(end),
            Ok(next) => {
                self.timer.set(next);
                if self.timer.poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// Looks at every deadline; the next one, or how the attempt ends.
    fn look_at_clock(&mut self, now: Instant) -> Result<Instant, End> {
        let total = self.terms.total;
        if now >= total {
            return Err(self.server_late(Reason::TotalTimeout));
        }
        let upload = match self.upload {
            Upload::Sending => self.look_at_upload(now)?,
            Upload::Done | Upload::Stopped => Instant::FAR,
        };
        let download = match self.download {
            Download::Head => self.look_for_head(now)?,
            Download::Body => self.look_at_body(now)?,
            Download::Done => Instant::FAR,
        };
        Ok(total.min(upload).min(download))
    }

    /// While the request body moves: whoever holds it up has a deadline.
    fn look_at_upload(&mut self, now: Instant) -> Result<Instant, End> {
        let (received, sent) = (self.front.traffic().0, self.back.traffic().1);
        let timeouts = self.terms.timeouts;
        if !self.back.is_blocked() {
            self.waits.back_out.rest(sent, now);
            let bound = self.terms.min_rate.of_requests(timeouts.request_body);
            let checked = self.waits.front_in.check(received, now, &bound);
            return checked.map_err(|late| self.client_fault(late.in_body()));
        }
        self.waits.front_in.rest(received, now);
        let bound = Bound::gap(timeouts.response_body);
        match self.waits.back_out.check(sent, now, &bound) {
            Ok(next) => Ok(next),
            // Rule 14.1: it answers, but it does not read.
            Err(_) if self.download == Download::Body => {
                self.stop_upload();
                Ok(Instant::FAR)
            }
            Err(_) => Err(self.server_late(Reason::ResponseTimeout)),
        }
    }

    fn look_for_head(&self, now: Instant) -> Result<Instant, End> {
        let Some(sent) = self.sent_at else {
            return Ok(Instant::FAR);
        };
        let due = sent + self.terms.timeouts.response_header;
        if now >= due {
            Err(self.server_late(Reason::ResponseTimeout))
        } else {
            Ok(due)
        }
    }

    /// While the response body moves.
    fn look_at_body(&mut self, now: Instant) -> Result<Instant, End> {
        let (received, sent) = (self.back.traffic().0, self.front.traffic().1);
        let timeouts = self.terms.timeouts;
        if self.front.is_blocked() {
            self.waits.back_in.rest(received, now);
            let bound = self.terms.min_rate.of_responses(timeouts.client_write);
            let checked = self.waits.front_out.check(sent, now, &bound);
            return checked.map_err(|late| End::Aborted(late.in_reading()));
        }
        self.waits.front_out.rest(sent, now);
        let bound = Bound::gap(timeouts.response_body);
        let checked = self.waits.back_in.check(received, now, &bound);
        checked.map_err(|_| End::Aborted(Reason::UpstreamStalled))
    }

    /// Whether the connection to the server may be used again (section 13).
    pub fn is_back_reusable(&self) -> bool {
        self.download == Download::Done
            && self.upload == Upload::Done
            && self.head.keep_alive
            && self.head.body != BodyKind::UntilClose
            && !self.bound
            && self.back.unread().is_empty()
            && self.back.is_sent()
    }
}

/// Who broke a request body that could not be read.
pub const fn client_reason(reason: Reason) -> Reason {
    match reason {
        // The connection failed; a clean end has a reason of its own.
        Reason::UpstreamTruncated => Reason::ClientGone,
        other => other,
    }
}

/// Whether the response begins an authentication of the connection instead of the request
/// (section 13).
fn is_bound(head: &ResponseHead, bytes: &[u8]) -> bool {
    let schemes: [&[u8]; 2] = [b"NTLM", b"Negotiate"];
    head.fields
        .iter()
        .filter(|field| field.id == FieldId::WwwAuthenticate)
        .any(|field| {
            let value = field.value.of(bytes);
            let starts = |scheme: &&[u8]| {
                value
                    .get(..scheme.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            };
            schemes.iter().any(starts)
        })
}

impl<R: Responder> Future for &mut Transfer<'_, R> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let transfer: &mut Transfer<'_, R> = self.get_mut();
        transfer.poll_all(cx)
    }
}
