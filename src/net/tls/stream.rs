//! A TLS session over a stream, itself a stream.
//!
//! It owns no buffers while idle: ciphertext is read into a buffer of the thread, decrypted there
//! and handed to the reader; what is written is encrypted into another and sent at once, so one
//! write is one system call and a flush is only needed after the socket was full. What could not
//! be dealt with is kept here: the beginning of a record, plain text that the reader had no room
//! for, ciphertext that the socket did not take. While any of the latter is left, no more is
//! taken from a writer.
//!
//! The tickets of a TLS 1.3 server leave together with the first response; if the client sends
//! no request at once, they leave when the first read has to wait. The end of the peer's data is a `close_notify`; without one it is
//! `UnexpectedEof`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::facts::{self, HandshakeFailure};
use super::scratch::{self, INPUT_BYTES, Output, Scratch};
use super::session::{Done, Failed, Job, Plain, Session, Stand, Work};
use super::store;
use crate::base::time::Instant;
use crate::io::Stream;
use crate::io::facts::TlsFacts;
use crate::rt;

mod read;
mod write;

/// Plain bytes taken by one write.
pub const BUFFER_LIMIT: usize = 64 * 1024;
const IDLE_PROBE_BYTES: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// More may come.
    Open,
    /// `incoming` or the session holds what a reader has not had yet.
    Full,
    /// The peer said that nothing follows.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// `close_notify` is on its way or was sent.
    Closed,
    /// Closing must look like an accident.
    Reset,
}

/// What the session tickets wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// A write, or a read that finds nothing.
    Wait,
    /// A write: a request came, so a response will go.
    Write,
}

/// TLS over a stream.
pub struct TlsStream<S> {
    inner: S,
    session: Session,
    phase: Phase,
    reading: Reading,
    writing: Writing,
    held: Held,
    /// The writer that waits for the socket; another task must not take its place.
    writer: Option<Waker>,
    limit: usize,
    /// Ciphertext that is no whole record or message yet.
    incoming: Vec<u8>,
    /// Plain text for the next read.
    plain: Vec<u8>,
    /// Ciphertext that the socket did not take.
    outgoing: Vec<u8>,
    started: Instant,
    facts: Option<Box<TlsFacts>>,
    failure: Option<Box<HandshakeFailure>>,
}

/// TLS could not even begin: the configuration and the name do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotBegin(pub String);

impl<S> TlsStream<S> {
    fn new(inner: S, session: Session) -> Self {
        Self {
            inner,
            session,
            phase: Phase::Handshake,
            reading: Reading::Open,
            writing: Writing::Open,
            held: Held::Nothing,
            writer: None,
            limit: BUFFER_LIMIT,
            incoming: Vec::new(),
            plain: Vec::new(),
            outgoing: Vec::new(),
            started: rt::now(),
            facts: None,
            failure: None,
        }
    }

    pub(super) fn server(inner: S, config: Arc<ServerConfig>) -> Result<Self, CannotBegin> {
        UnbufferedServerConnection::new(config)
            .map(|session| Self::new(inner, Session::Server(session)))
            .map_err(|error| CannotBegin(error.to_string()))
    }

    pub(super) fn client(
        inner: S,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, CannotBegin> {
        UnbufferedClientConnection::new(config, name)
            .map(|session| Self::new(inner, Session::Client(session)))
            .map_err(|error| CannotBegin(error.to_string()))
    }

    /// How many plain bytes one write may take, and so how much ciphertext can wait for a slow
    /// peer. At least one byte.
    pub fn set_buffer_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// The stream below.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Whether the handshake is over and went well.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes that this connection holds in buffers of its own.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    fn fail(&mut self, failure: HandshakeFailure) -> HandshakeFailure {
        let first = Box::new(failure.clone());
        self.failure.get_or_insert(first);
        self.phase = Phase::Failed;
        self.incoming = Vec::new();
        failure
    }

    fn past_failure(&self) -> io::Error {
        match &self.failure {
            Some(failure) => (**failure).clone().into(),
            None => io::Error::new(io::ErrorKind::InvalidData, "the TLS session has failed"),
        }
    }

    /// Runs the session over `input` and keeps what it did not use.
    fn run(
        &mut self,
        input: &mut [u8],
        plain: Plain<'_, '_>,
        job: Job<'_, '_>,
        output: &mut Output,
    ) -> Result<Done, Failed> {
        let result = self.session.run(
            input,
            Work {
                plain,
                job,
                output,
                spill: &mut self.plain,
            },
        );
        let done = result?;
        if done.peer_closed {
            self.reading = Reading::Closed;
        } else if self.reading != Reading::Closed {
            self.reading = match done.stand {
                Stand::Full => Reading::Full,
                _ => Reading::Open,
            };
        }
        // After the end nothing more is looked at.
        let rest = match self.reading {
            Reading::Closed => &[],
            _ => input.get(done.consumed..).unwrap_or_default(),
        };
        self.incoming = rest.to_vec();
        Ok(done)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Sends `output` after what waits already, as far as the socket takes it, and keeps the
    /// rest. Ready when nothing waits any more.
    fn poll_send(&mut self, cx: &mut Context<'_>, output: &[u8]) -> Poll<io::Result<()>> {
        if !self.outgoing.is_empty() {
            self.outgoing.extend_from_slice(output);
            return self.poll_drain(cx);
        }
        let mut rest = output;
        while !rest.is_empty() {
            match Pin::new(&mut self.inner).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => rest = rest.get(sent..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.outgoing = rest.to_vec();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let result = loop {
            let rest = self.outgoing.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.inner).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent >= self.outgoing.len() {
            self.outgoing = Vec::new();
            self.held = Held::Nothing;
        } else {
            self.outgoing.drain(..sent);
        }
        result
    }

    /// Like [`Self::poll_drain`], for writers.
    fn poll_drain_for_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.poll_drain(cx);
        self.writer = result.is_pending().then(|| cx.waker().clone());
        result
    }

    /// A reader sends what waits on the side, but never takes the place of a waiting writer.
    fn send_aside(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_mine = |writer: &Waker| writer.will_wake(cx.waker());
        let is_held = self.held == Held::Write || self.outgoing.is_empty();
        if is_held || !self.writer.as_ref().is_none_or(is_mine) {
            return Ok(());
        }
        match self.poll_drain(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Drives the handshake to its end.
    ///
    /// # Errors
    /// Why there is no session. The alert about it has been sent then, if the socket took it.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFailure>> {
        match self.phase {
            Phase::Open => Poll::Ready(Ok(())),
            Phase::Handshake => scratch::with(|scratch| self.poll_handshaking(cx, scratch)),
            Phase::Failed => Poll::Ready(Err(match &self.failure {
                Some(failure) => (**failure).clone(),
                None => HandshakeFailure::transport(self.session.is_server(), &self.past_failure()),
            })),
        }
    }

    fn poll_handshaking(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<(), HandshakeFailure>> {
        let is_server = self.session.is_server();
        // A client begins, with nothing to read yet.
        let is_new = self.session.common().protocol_version().is_none();
        let mut speaks_first = !is_server && is_new && self.incoming.is_empty();
        loop {
            if self.held == Held::Nothing
                && let Err(error) = ready!(self.poll_drain(cx))
            {
                let failure = HandshakeFailure::transport(is_server, &error);
                return Poll::Ready(Err(self.fail(failure)));
            }
            if self.phase == Phase::Open {
                return Poll::Ready(Ok(()));
            }
            let mut filled = self.take_incoming(&mut scratch.input);
            if !speaks_first {
                let read = self.poll_fill(cx, &mut scratch.input, filled, INPUT_BYTES);
                match read {
                    Poll::Ready(Ok(n)) => filled += n,
                    Poll::Ready(Err(error)) => {
                        let failure = HandshakeFailure::transport(is_server, &error);
                        return Poll::Ready(Err(self.fail(failure)));
                    }
                    Poll::Pending => {
                        self.keep(scratch.input.get(..filled));
                        return Poll::Pending;
                    }
                }
            }
            speaks_first = false;
            if let Err(failure) = self.handshake_step(cx, scratch, filled) {
                return Poll::Ready(Err(self.fail(failure)));
            }
        }
    }

    /// One round of the handshake over the first `filled` bytes of the input.
    fn handshake_step(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        filled: usize,
    ) -> Result<(), HandshakeFailure> {
        let is_server = self.session.is_server();
        let Scratch { input, output, .. } = scratch;
        output.clear();
        let input = input.get_mut(..filled).unwrap_or_default();
        let result = self.run(input, Plain::Leave, Job::Nothing, output);
        let done = match result {
            Ok(done) => done,
            Err(Failed { error }) => {
                // The alert is sent if the socket takes it; nothing depends on it.
                drop(self.poll_send(cx, output.filled()));
                return Err(HandshakeFailure::protocol(
                    is_server,
                    &error,
                    output.filled(),
                ));
            }
        };
        self.outgoing.extend_from_slice(output.filled());
        if done.stand == Stand::Handshaking || self.session.common().is_handshaking() {
            return Ok(());
        }
        self.phase = Phase::Open;
        let common = self.session.common();
        let is_v13 = common.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        if is_server && is_v13 && !self.outgoing.is_empty() {
            self.held = Held::Wait;
        }
        let name = is_server.then(store::take_asked_for).flatten();
        let took = rt::now() - self.started;
        self.facts = Some(Box::new(facts::facts(common, is_server, name, took)));
        Ok(())
    }

    /// Moves the kept ciphertext to the front of the input and tells how much it is.
    fn take_incoming(&mut self, input: &mut [u8]) -> usize {
        let kept = std::mem::take(&mut self.incoming);
        if let Some(front) = input.get_mut(..kept.len()) {
            front.copy_from_slice(&kept);
        }
        kept.len()
    }

    fn keep(&mut self, input: Option<&[u8]>) {
        self.incoming = input.unwrap_or_default().to_vec();
    }

    /// Reads at most `most` bytes behind the first `filled`; never zero bytes.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut [u8],
        filled: usize,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let space = input.get_mut(filled..).unwrap_or_default();
        let most = most.min(space.len());
        let mut buf = ReadBuf::new(space.get_mut(..most).unwrap_or_default());
        if buf.capacity() == 0 {
            let error = "more than any handshake message or record may take";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
        match buf.filled().len() {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n => Poll::Ready(Ok(n)),
        }
    }

    /// Waits for the end of the handshake, but not longer than `limit`.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn handshake(&mut self, limit: Duration) -> Result<(), HandshakeFailure> {
        let is_server = self.session.is_server();
        rt::timeout(limit, std::future::poll_fn(|cx| self.poll_handshake(cx)))
            .await
            .unwrap_or_else(|_elapsed| Err(HandshakeFailure::timeout(is_server)))
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr()
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }

    fn tls_facts(&self) -> Option<&TlsFacts> {
        self.facts.as_deref()
    }

    // No descriptor: bytes on it are not the bytes of this stream.
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let has_something = !self.plain.is_empty() || self.reading != Reading::Open;
        if has_something || self.phase == Phase::Failed {
            return Poll::Ready(Ok(()));
        }
        self.send_aside(cx)?;
        self.inner.poll_readable(cx)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_reset(cx)
    }

    fn is_stale(&mut self) -> bool {
        if self.phase != Phase::Open || self.reading != Reading::Open || !self.plain.is_empty() {
            return true;
        }
        if !self.inner.is_stale() {
            return false;
        }
        // Something came. A session ticket is no reason to give the connection up.
        let mut probe = [0; IDLE_PROBE_BYTES];
        let mut buf = ReadBuf::new(&mut probe);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut buf).is_ready()
    }

    fn reset(&mut self) {
        self.writing = Writing::Reset;
        self.outgoing = Vec::new();
        self.inner.reset();
    }
}
