//! What the HTTP service needs to know of a listener and of its routes: filled by `conf`, never
//! changed afterwards.

use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;

use crate::http::clock::Bound;

pub use crate::proto::http1::Limits as ParserLimits;
pub use crate::proto::http1::request::Underscores;
pub use crate::upstream::retry::Policy as RetryParams;

/// The deadlines of an HTTP listener or route (`timeouts = {...}`, http-rules §21). `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`: each attempt to reach a server.
    pub connect: Duration,
    /// `tls`: accept until the handshake is done; also the handshake with a server.
    pub tls: Duration,
    /// `first_byte`: accept until the first byte.
    pub first_byte: Duration,
    /// `request_header`: first byte until the end of the head, in total.
    pub request_header: Duration,
    /// `request_body`: the longest gap between two reads of a request body.
    pub request_body: Duration,
    /// `response_header`: request sent until the end of the response head, in total.
    pub response_header: Duration,
    /// `response_body`: the longest gap between two reads of a response body.
    pub response_body: Duration,
    /// `client_write`: the longest time without a byte taken by the client.
    pub client_write: Duration,
    /// `idle`: a keep-alive client connection between two requests.
    pub idle: Duration,
    /// `upgraded_idle`: a tunnel (WebSocket), both directions together.
    pub upgraded_idle: Duration,
    /// `total`: head until the end of the response. `None`: off, but 120 s once a retry was made.
    pub total: Option<Duration>,
    /// `linger`: reading and dropping after the last response, so that the client gets it.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(3),
            tls: s(10),
            first_byte: s(15),
            request_header: s(15),
            request_body: s(15),
            response_header: s(60),
            response_body: s(60),
            client_write: s(30),
            idle: s(60),
            upgraded_idle: s(600),
            total: None,
            linger: s(2),
        }
    }
}

/// Least rates of slow peers (`limits.min_rate`, `limits.min_rate_grace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes per second, averaged over ten seconds; 0 is off.
    pub bytes_per_second: u64,
    /// How long a body may be slower at its start (request bodies).
    pub request_grace: Duration,
    /// How long a client may be slower while there is something to send.
    pub response_grace: Duration,
}

impl MinRate {
    /// What is asked of a client that sends a body.
    #[must_use]
    pub const fn of_requests(&self, gap: Duration) -> Bound {
        Bound {
            gap,
            rate: self.bytes_per_second,
            grace: self.request_grace,
        }
    }

    /// What is asked of a client that reads a response.
    #[must_use]
    pub const fn of_responses(&self, gap: Duration) -> Bound {
        Bound {
            gap,
            rate: self.bytes_per_second,
            grace: self.response_grace,
        }
    }
}

impl Default for MinRate {
    fn default() -> Self {
        Self {
            bytes_per_second: 500,
            request_grace: Duration::from_secs(10),
            response_grace: Duration::from_secs(30),
        }
    }
}

/// `keepalive = {...}` of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `requests`: how many requests one client connection may carry.
    pub requests: u32,
    /// `max_age`: how old a client connection may get.
    pub max_age: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            requests: 10_000,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// `normalize`: what happens to a path that is not in normal form (rule 19.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Normalize {
    /// The normal form is matched and sent.
    #[default]
    On,
    /// Refused.
    Strict,
    /// The received bytes are sent; only for routes that match everything.
    Raw,
}

/// An HTTP listener, without its sockets.
#[derive(Clone, Debug)]
pub struct ListenerParams {
    /// Its name in logs, metrics and `route.listener`.
    pub name: String,
    /// Whether TLS ends here.
    pub tls: bool,
    /// `redirect_to_https`.
    pub redirect_to_https: bool,
    /// Peers whose X-Forwarded-* and request ids are believed (rule 8.4).
    pub trusted_proxies: Vec<IpNet>,
    /// `forwarded`: send the Forwarded field (RFC 7239).
    pub forwarded: bool,
    /// `via`: add a Via element.
    pub via: bool,
    /// `underscores`.
    pub underscores: Underscores,
    /// `default_host`: for HTTP/1.0 requests without Host.
    pub default_host: String,
    /// Parser limits of the listener.
    pub limits: Limits,
    /// Client-side deadlines before a route is known.
    pub timeouts: Timeouts,
    /// Least rates.
    pub min_rate: MinRate,
    /// Keep-alive bounds.
    pub keepalive: KeepAlive,
    /// `max_connections_per_ip`; 0 is off. Trusted peers do not count.
    pub max_connections_per_ip: u32,
    /// `trace = true`: TRACE is passed on.
    pub trace: bool,
    /// `request_id_response`: return X-Request-Id to the client.
    pub request_id_response: bool,
    /// `client_certificate_headers`: hand subject and names of a verified client certificate on
    /// (`X-Client-Cert-Subject`, `-San`, `-Fingerprint`).
    pub client_certificate_headers: bool,
}

/// Bounds of messages (`limits = {...}`, http-rules §22), besides those of the parser itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `request_line`, `field_line`, `request_head`, …: those of the parser.
    pub parser: ParserLimits,
    /// `request_body`: 413 above it. `None` is unlimited. A route overrides it with `max_body`.
    pub request_body: Option<u64>,
    /// `retry_buffer`: bytes of all request bodies kept for a retry, per worker.
    pub retry_buffer: u64,
    /// `interim_responses`: 1xx responses per request.
    pub interim_responses: u32,
    /// `interim_bytes`: their bytes.
    pub interim_bytes: u64,
    /// `linger_bytes`: bytes read and dropped in a lingering close.
    pub linger_bytes: u64,
    /// `discard_body`: bytes of an unread request body that are read so that the connection can go on.
    pub discard_body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parser: ParserLimits::default(),
            request_body: Some(10 << 20),
            retry_buffer: 64 << 20,
            interim_responses: 16,
            interim_bytes: 64 << 10,
            linger_bytes: 256 << 10,
            discard_body: 64 << 10,
        }
    }
}

/// A host pattern of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `example.org`, lower case.
    Exact(String),
    /// `*.example.org`, kept as `example.org`: any number of labels in front, at least one.
    Wildcard(String),
    /// `*` or no host.
    Any,
}

/// A path pattern of a route.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// `=/x`.
    Exact(String),
    /// `/x` or `/x/`: on a segment boundary.
    Prefix(String),
    /// `~^/v[0-9]/`.
    Regex(Regex),
}

/// What a header or query condition asks for.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// The field is there, whatever its value.
    Present,
    /// The field is absent.
    Absent,
    /// This value.
    Exact(String),
    /// This expression matches somewhere.
    Regex(Regex),
}

/// A header or query condition of a route.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Field name in lower case, or query parameter name.
    pub name: String,
    /// What it has to be.
    pub value: ValueMatch,
}

/// Which requests a route is for.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Listener names; empty: all HTTP listeners.
    pub listeners: Vec<String>,
    /// Hosts; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Paths; empty: `/`.
    pub paths: Vec<PathPattern>,
    /// Methods in upper case; empty: all.
    pub methods: Vec<String>,
    /// All have to hold.
    pub headers: Vec<Condition>,
    /// All have to hold.
    pub query: Vec<Condition>,
    /// Decides between regexes and between otherwise equal routes; higher first.
    pub priority: i32,
}

/// Header changes in one direction: first `remove`, then `set`, then `add`. Names lower case;
/// values are templates with `{client_ip}` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Replaces all fields of the name.
    pub set: Vec<(String, String)>,
    /// Adds one more.
    pub add: Vec<(String, String)>,
    /// Removes all of the name.
    pub remove: Vec<String>,
}

/// Which Host goes upstream (rule 4.5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum HostRewrite {
    /// What the client sent.
    #[default]
    Preserve,
    /// The name of the server.
    Upstream,
    /// This one.
    Fixed(String),
}

/// How the path changes on the way.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PathRewrite {
    /// `strip_prefix`.
    pub strip_prefix: Option<String>,
    /// `replace_prefix = { from, to }` resolved: what is put in the place of the stripped prefix.
    pub add_prefix: Option<String>,
}

/// Buffering of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Buffering {
    /// `request`: bodies up to so many bytes are read before a server is chosen; 0 is off.
    pub request: u64,
    /// `response`: up to so many bytes are taken from the server ahead of the client; 0 is streaming.
    pub response: u64,
}

/// One target of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedUpstream {
    /// The upstream's name.
    pub upstream: String,
    /// Its share.
    pub weight: u32,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `to`.
    Forward(Vec<WeightedUpstream>),
    /// `redirect`: target template and status.
    Redirect {
        /// `{uri}` and the like.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// `respond`.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// Content-Type.
        content_type: String,
    },
}

/// A route.
#[derive(Clone, Debug)]
pub struct RouteParams {
    /// Its name in logs and metrics.
    pub name: String,
    /// Which requests.
    pub matcher: Matcher,
    /// What is done.
    pub action: Action,
    /// `headers.request`.
    pub request_headers: HeaderRules,
    /// `headers.response`.
    pub response_headers: HeaderRules,
    /// `host_rewrite`.
    pub host: HostRewrite,
    /// `strip_prefix`, `replace_prefix`.
    pub path: PathRewrite,
    /// `normalize`.
    pub normalize: Normalize,
    /// `buffering`.
    pub buffering: Buffering,
    /// `retry`.
    pub retry: RetryParams,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `max_body`; `None` is unlimited.
    pub max_body: Option<u64>,
    /// `upgrade`: protocols that may be switched to.
    pub upgrade: Vec<String>,
    /// `trailers`.
    pub trailers: bool,
    /// `early_hints`.
    pub early_hints: bool,
    /// `drain_timeout`: for tunnels of this route; `None` takes the master's.
    pub drain_timeout: Option<Duration>,
    /// `access_log = false` switches it off for this route.
    pub access_log: bool,
}
