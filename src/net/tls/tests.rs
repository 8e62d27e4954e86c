//! Whole sessions: both sides of TLS over a wire in memory, polled by hand, so that every
//! system call that a socket would see can be counted, split and refused.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{self, Client, Sessions};
use super::facts::HandshakeFailure;
use super::params::{
    ClientAuthMode, ClientAuthParams, ClientParams, ServerParams, TicketParams, TlsVersion, Verify,
};
use super::server::{self, Server};
use super::store::Catalog;
use super::stream::TlsStream;
use super::testing::{Ca, Leaf};
use super::ticket;
use super::trust::SystemRoots;
use super::wire::Trust;
use crate::base::addr::Endpoint;
use crate::base::time::Instant;
use crate::io::Stream;

mod auth;
mod flow;
mod handshake;
mod reload;
mod resumption;

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    is_closed: bool,
}

/// One end of a wire.
struct End {
    from: Rc<RefCell<Pipe>>,
    to: Rc<RefCell<Pipe>>,
    /// Bytes that one read or write moves at most.
    chunk: usize,
    /// Bytes that the wire holds at most.
    capacity: usize,
    reads: usize,
    writes: usize,
    empty_reads: usize,
}

fn wire() -> (End, End) {
    let (a, b) = (Rc::default(), Rc::default());
    let end = |from: &Rc<RefCell<Pipe>>, to: &Rc<RefCell<Pipe>>| End {
        from: Rc::clone(from),
        to: Rc::clone(to),
        chunk: usize::MAX,
        capacity: usize::MAX,
        reads: 0,
        writes: 0,
        empty_reads: 0,
    };
    (end(&a, &b), end(&b, &a))
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        let from = Rc::clone(&self.from);
        let mut pipe = from.borrow_mut();
        if pipe.bytes.is_empty() && !pipe.is_closed {
            self.empty_reads += 1;
            return Poll::Pending;
        }
        let n = pipe.bytes.len().min(buf.remaining()).min(self.chunk);
        for byte in pipe.bytes.drain(..n) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        let mut pipe = self.to.borrow_mut();
        if pipe.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.capacity.saturating_sub(pipe.bytes.len());
        if room == 0 {
            return Poll::Pending;
        }
        let n = buf.len().min(room).min(self.chunk);
        pipe.bytes.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.borrow_mut().is_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Stream for End {
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_stale() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn is_stale(&mut self) -> bool {
        let pipe = self.from.borrow();
        pipe.is_closed || !pipe.bytes.is_empty()
    }

    fn reset(&mut self) {
        self.to.borrow_mut().is_closed = true;
        self.from.borrow_mut().is_closed = true;
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

type Tls = TlsStream<End>;

/// Polls both handshakes until each has an outcome or nothing moves any more.
fn shake(
    client: &mut Tls,
    server: &mut Tls,
) -> (Result<(), HandshakeFailure>, Result<(), HandshakeFailure>) {
    let (mut c, mut s) = (Poll::Pending, Poll::Pending);
    for _ in 0..100_000 {
        if c.is_pending() {
            c = client.poll_handshake(&mut cx());
        }
        if s.is_pending() {
            s = server.poll_handshake(&mut cx());
        }
        match (c, s) {
            (Poll::Ready(c), Poll::Ready(s)) => return (c, s),
            // A side that failed leaves; the other may be waiting for it.
            (Poll::Ready(Err(e)), Poll::Pending) => {
                drop(Pin::new(&mut *client).poll_shutdown(&mut cx()));
                (c, s) = (Poll::Ready(Err(e)), Poll::Pending);
            }
            (Poll::Pending, Poll::Ready(Err(e))) => {
                drop(Pin::new(&mut *server).poll_shutdown(&mut cx()));
                (c, s) = (Poll::Pending, Poll::Ready(Err(e)));
            }
            (other_c, other_s) => (c, s) = (other_c, other_s),
        }
    }
    panic!("the handshake does not end");
}

fn write(tls: &mut Tls, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(tls).poll_write(&mut cx(), bytes)
}

fn flush(tls: &mut Tls) -> Poll<io::Result<()>> {
    Pin::new(tls).poll_flush(&mut cx())
}

fn shutdown(tls: &mut Tls) -> Poll<io::Result<()>> {
    Pin::new(tls).poll_shutdown(&mut cx())
}

fn read(tls: &mut Tls, room: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut space = vec![0; room];
    let mut buf = ReadBuf::new(&mut space);
    let poll = Pin::new(tls).poll_read(&mut cx(), &mut buf);
    poll.map_ok(|()| buf.filled().to_vec())
}

/// Reads what is there, until the stream would wait or ends.
fn read_all(tls: &mut Tls) -> Vec<u8> {
    let mut out = Vec::new();
    while let Poll::Ready(got) = read(tls, 16 * 1024) {
        let got = got.unwrap();
        if got.is_empty() {
            break;
        }
        out.extend(got);
    }
    out
}

fn kind<T: std::fmt::Debug>(poll: Poll<io::Result<T>>) -> io::ErrorKind {
    match poll {
        Poll::Ready(Err(error)) => error.kind(),
        other => panic!("no error: {other:?}"),
    }
}

/// A server and a client that fit together, for a test to change.
struct Bench {
    ca: Ca,
    leaf: Leaf,
    catalog: Catalog,
    server: ServerParams,
    listener: &'static str,
    trust: Option<Trust>,
    words: Option<&'static [AtomicU64]>,
    client: ClientParams,
    client_trust: Trust,
    host: &'static str,
    sessions: Sessions,
    made: RefCell<Option<Rc<Client>>>,
}

impl Bench {
    fn new() -> Self {
        let ca = Ca::new("root");
        let leaf = ca.leaf(&["a.example", "127.0.0.1"]);
        let mut catalog = Catalog::new();
        catalog.insert(&leaf.bundle("site")).unwrap();
        Self {
            client_trust: Trust {
                ca: ca.pem().into_bytes(),
                crls: Vec::new(),
            },
            ca,
            leaf,
            catalog,
            server: ServerParams {
                certificates: vec!["site".into()],
                default: String::new(),
                min_version: TlsVersion::V12,
                max_version: TlsVersion::V13,
                alpn: vec!["h2".into(), "http/1.1".into()],
                client_auth: None,
                tickets: TicketParams::default(),
            },
            listener: "websecure",
            trust: None,
            words: None,
            client: ClientParams {
                verify: Verify::Full,
                ca: None,
                sni: None,
                client_certificate: None,
                min_version: TlsVersion::V12,
                alpn: vec!["http/1.1".into()],
            },
            host: "a.example",
            sessions: Sessions::new(),
            made: RefCell::new(None),
        }
    }

    fn with_tickets(mut self) -> Self {
        self.words = Some(fresh_words());
        self
    }

    fn with_client_auth(mut self, mode: ClientAuthMode, crls: Vec<Vec<u8>>) -> Self {
        self.server.client_auth = Some(ClientAuthParams {
            mode,
            ca: "ca.pem".into(),
            crl: Vec::new(),
        });
        self.trust = Some(Trust {
            ca: self.ca.pem().into_bytes(),
            crls,
        });
        self
    }

    fn with_client_certificate(mut self, serial: u64) -> Self {
        let leaf = self.ca.wish(super::testing::Wish {
            hosts: &["client-7"],
            serial,
            ..Default::default()
        });
        self.catalog.insert(&leaf.bundle("me")).unwrap();
        self.client.client_certificate = Some("me".into());
        self
    }

    fn server(&self) -> Server {
        Server::new(server::Setup {
            listener: self.listener,
            params: &self.server,
            catalog: &self.catalog,
            trust: self.trust.as_ref(),
            ticket_words: self.words,
        })
        .unwrap()
    }

    /// One client for the life of the bench, as sessions belong to its configuration.
    fn client(&self) -> Rc<Client> {
        let mut slot = self.made.borrow_mut();
        let client = slot.get_or_insert_with(|| {
            let setup = client::Setup {
                params: &self.client,
                roots: &SystemRoots::none(),
                trust: Some(&self.client_trust),
                catalog: &self.catalog,
            };
            Rc::new(Client::new(setup).unwrap())
        });
        Rc::clone(client)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&format!("{}:443", self.host)).unwrap()
    }

    fn pair_on(&self, server: &Server, (a, b): (End, End)) -> (Tls, Tls) {
        let client = self
            .client()
            .connect(a, &self.endpoint(), &self.sessions)
            .unwrap();
        (client, server.accept(b).unwrap())
    }

    fn pair(&self) -> (Tls, Tls) {
        self.pair_on(&self.server(), wire())
    }

    /// An open session.
    fn open(&self) -> (Tls, Tls) {
        self.open_on(&self.server())
    }

    fn open_on(&self, server: &Server) -> (Tls, Tls) {
        let (mut c, mut s) = self.pair_on(server, wire());
        let outcome = shake(&mut c, &mut s);
        assert_eq!(outcome, (Ok(()), Ok(())));
        (c, s)
    }

    /// Why both sides fail.
    fn failures(&self) -> (HandshakeFailure, HandshakeFailure) {
        let (mut c, mut s) = self.pair();
        let (c_end, s_end) = shake(&mut c, &mut s);
        // In TLS 1.3 a client is through before the server has judged its certificate.
        let c_end = match c_end {
            Ok(()) => match read(&mut c, 100) {
                Poll::Ready(Err(error)) => failure_in(&error),
                other => panic!("the client is content: {other:?}"),
            },
            Err(failure) => failure,
        };
        (c_end, s_end.unwrap_err())
    }
}

fn failure_in(error: &io::Error) -> HandshakeFailure {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<HandshakeFailure>())
        .cloned()
        .unwrap_or_else(|| panic!("not a failure of TLS: {error:?}"))
}

fn fresh_words() -> &'static [AtomicU64] {
    let words = Vec::leak((0..ticket::WORDS).map(|_| AtomicU64::new(0)).collect());
    rotate(words);
    words
}

fn rotate(words: &[AtomicU64]) {
    let mut bytes = [0; ticket::FIRST_BYTES];
    super::crypto::random(&mut bytes).unwrap();
    ticket::rotate(words, &bytes, Instant::ZERO).unwrap();
}

/// Answers one request on an open session and returns what the client got.
fn exchange(client: &mut Tls, server: &mut Tls) -> Vec<u8> {
    assert!(matches!(write(client, b"request"), Poll::Ready(Ok(7))));
    assert_eq!(read_all(server), b"request");
    assert!(matches!(write(server, b"response"), Poll::Ready(Ok(8))));
    read_all(client)
}

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let runtime = crate::rt::Runtime::simulated(1);
    let bench = Bench::new();
    let (_client_end, server_end) = wire();
    let mut server = bench.server().accept(server_end).unwrap();
    let got = runtime.block_on(server.handshake(Duration::from_secs(10)));
    assert_eq!(got, Err(HandshakeFailure::timeout(true)));
}
