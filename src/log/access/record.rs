//! What is known about a request when it has ended, borrowed from wherever it stands.

use crate::base::reason::Reason;
use std::net::SocketAddr;
use std::time::Duration;

/// One request, or one connection that never became a request.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The route; empty: none was found.
    pub route: &'a str,
    /// The upstream; empty: none was asked.
    pub upstream: &'a str,
    /// The server that answered, or was asked last; empty: none.
    pub server: &'a str,
    /// The client as the trusted proxies tell it; `None` on a Unix socket.
    pub client: Option<SocketAddr>,
    /// The other end of the connection; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The method; empty: there was no request.
    pub method: &'a [u8],
    /// The host of the request.
    pub host: &'a [u8],
    /// The path as it was sent.
    pub path: &'a [u8],
    /// What stands after the question mark.
    pub query: Option<&'a [u8]>,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The status sent; 0: no response head was sent.
    pub status: u16,
    /// Bytes both ways.
    pub bytes: Bytes,
    /// How long it took.
    pub durations: Durations,
    /// How many servers were asked.
    pub attempts: u32,
    /// Why it ended so.
    pub reason: Reason,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The request's id.
    pub request_id: &'a [u8],
    /// The trace context that was sent on.
    pub traceparent: &'a [u8],
    /// Of the client's connection; `None`: plain.
    pub tls: Option<Tls<'a>>,
    /// Request headers, looked up when the template shows them.
    pub headers: &'a dyn Headers,
}

/// Bytes of a request and its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Of the request, head and framing included.
    pub received: u64,
    /// Of the response, head and framing included.
    pub sent: u64,
    /// Of the request's body.
    pub body_received: u64,
    /// Of the response's body.
    pub body_sent: u64,
}

/// Parts of the time; `None`: the part did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// The TLS handshake, on the first request of a connection.
    pub tls: Option<Duration>,
    /// Waiting for a connection to the upstream.
    pub queue: Option<Duration>,
    /// Connecting to the server.
    pub connect: Option<Duration>,
    /// Until the first byte of the response.
    pub first_byte: Option<Duration>,
    /// The whole.
    pub total: Duration,
}

/// Facts of a TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// The name that the client asked for.
    pub sni: &'a [u8],
}

/// Which side ended an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndedBy {
    /// Nobody: it was complete.
    #[default]
    Nobody,
    /// The client.
    Client,
    /// The server of the upstream.
    Server,
    /// proxyd.
    Proxy,
}

impl EndedBy {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
        }
    }
}

/// Where request headers are found when a line shows them.
pub trait Headers {
    /// The value of a header by its name in lower case. `place` is the name's place in
    /// [`super::Template::headers`], for whoever kept just those values.
    fn value(&self, place: usize, name: &str) -> Option<&[u8]>;
}

/// No headers.
impl Headers for () {
    fn value(&self, _place: usize, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// Values kept in the order of [`super::Template::headers`].
impl Headers for [Option<Box<[u8]>>] {
    fn value(&self, place: usize, _name: &str) -> Option<&[u8]> {
        self.get(place).and_then(Option::as_deref)
    }
}

/// Names in lower case with their values.
impl Headers for [(&str, &[u8])] {
    fn value(&self, _place: usize, name: &str) -> Option<&[u8]> {
        let found = self.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }
}

impl<T: Headers + ?Sized> Headers for &T {
    fn value(&self, place: usize, name: &str) -> Option<&[u8]> {
        (**self).value(place, name)
    }
}

impl<'a> Record<'a> {
    /// A record in which nothing is known yet.
    #[must_use]
    pub fn empty(listener: &'a str) -> Self {
        Self {
            listener,
            route: "",
            upstream: "",
            server: "",
            client: None,
            peer: None,
            scheme: "",
            method: b"",
            host: b"",
            path: b"",
            query: None,
            protocol: "",
            status: 0,
            bytes: Bytes::default(),
            durations: Durations::default(),
            attempts: 0,
            reason: Reason::Ok,
            ended_by: EndedBy::Nobody,
            request_id: b"",
            traceparent: b"",
            tls: None,
            headers: &(),
        }
    }
}
