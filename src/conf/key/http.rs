//! The keys of `[defaults]` and `[[listener]]`, and what routes share with them.

use super::{COUNT, Key, Kind, SIZE, SIZE_OR_ALL, SIZE_OR_OFF, SPAN, Section, TIME, TIME_OR_OFF};
use super::{key, process, required, tls, upstream};
use crate::conf::grammar;

/// Networks and names of sets.
static NETWORKS: Kind = Kind::Many(&Kind::Forms(&[
    Kind::Special("a network or the name of a set", grammar::network_or_name),
    Kind::Table(&process::SET_FILE),
]));
pub(super) const HEADER_NAME: Kind = Kind::Special("a header name", grammar::header_name);
pub(super) const HEADER_VALUE: Kind = Kind::Special("a header value", grammar::header_value);
pub(super) const HOST: Kind = Kind::Special("a host", grammar::host);
pub(super) const PREFIX: Kind = Kind::Special("a path", grammar::path);
pub(super) const STATUS: Kind = Kind::Int(200, 599);

pub(super) const TIMEOUTS_KEY: Key = key("timeouts", Kind::Table(&TIMEOUTS), "", "Deadlines.");
pub(super) const HEADERS_KEY: Key = key(
    "headers",
    Kind::Table(&HEADERS),
    "",
    "Changes of header fields on the way.",
);
pub(super) const BUFFERING_KEY: Key = key(
    "buffering",
    Kind::Table(&BUFFERING),
    "",
    "Bodies kept in memory.",
);
pub(super) const RETRY_KEY: Key = key("retry", Kind::Table(&RETRY), "", "What is tried again.");
const LIMITS_KEY: Key = key("limits", Kind::Table(&LIMITS), "", "Bounds of messages.");
const KEEPALIVE_KEY: Key = key(
    "keepalive",
    Kind::Table(&KEEPALIVE),
    "",
    "Bounds of client connections.",
);

/// `[defaults]`.
pub(super) static DEFAULTS: Section = Section {
    path: "defaults",
    doc: "Values for all listeners, routes and upstreams. Nested settings merge key by key: built-in default, then [defaults], then the listener, then the route; lists and maps are extended, and `remove` takes out.",
    keys: &[
        TIMEOUTS_KEY,
        KEEPALIVE_KEY,
        LIMITS_KEY,
        HEADERS_KEY,
        BUFFERING_KEY,
        RETRY_KEY,
        key(
            "pool",
            Kind::Table(&upstream::POOL),
            "",
            "Connections to servers.",
        ),
        key(
            "queue",
            Kind::Table(&upstream::QUEUE),
            "",
            "Requests that wait for a connection.",
        ),
    ],
};

/// `timeouts = {...}`.
pub(super) static TIMEOUTS: Section = Section {
    path: "timeouts",
    doc: "Deadlines, in [defaults], a listener, a route, and those towards servers in an upstream. What concerns the client connection before a route is known is taken from the listener.",
    keys: &[
        key(
            "connect",
            TIME,
            "\"3s\"",
            "Each attempt to connect to a server.",
        ),
        key(
            "tls",
            TIME,
            "\"10s\"",
            "A TLS handshake, with the client or with a server.",
        ),
        key(
            "first_byte",
            TIME,
            "\"15s\"",
            "From the connection to its first byte.",
        ),
        key(
            "request_header",
            TIME,
            "\"15s\"",
            "From the first byte to the end of the request head, in total.",
        ),
        key(
            "request_body",
            TIME,
            "\"15s\"",
            "The longest gap between two reads of a request body; see also `limits.min_rate`.",
        ),
        key(
            "response_header",
            TIME,
            "\"60s\"",
            "From the end of the request to the end of the response head, in total.",
        ),
        key(
            "response_body",
            TIME,
            "\"60s\"",
            "The longest gap between two reads of a response body.",
        ),
        key(
            "client_write",
            TIME,
            "\"30s\"",
            "The longest time in which a client takes no byte.",
        ),
        key(
            "idle",
            TIME,
            "\"60s\"",
            "A client connection between two requests.",
        ),
        key(
            "upgraded_idle",
            TIME,
            "\"10m\"",
            "A tunnel (WebSocket) without a byte in either direction.",
        ),
        key(
            "total",
            TIME_OR_OFF,
            "\"off\"",
            "A request from its head to the end of the response. When off, 120s once something was tried again.",
        ),
        key(
            "linger",
            SPAN,
            "\"2s\"",
            "Reading and dropping after the last response, so that the client gets it.",
        ),
    ],
};

/// `keepalive = {...}`.
static KEEPALIVE: Section = Section {
    path: "keepalive",
    doc: "Bounds of one client connection.",
    keys: &[
        key(
            "requests",
            Kind::Int(1, 1_000_000_000),
            "10_000",
            "Requests on one connection.",
        ),
        key("max_age", TIME, "\"1h\"", "Age of a connection."),
    ],
};

const LINE: Kind = Kind::Size(64, 1 << 20);

/// `limits = {...}`.
static LIMITS: Section = Section {
    path: "limits",
    doc: "Bounds of messages. What is above one is refused with the status given.",
    keys: &[
        key("request_line", LINE, "\"8KiB\"", "The request line; 414."),
        key("field_line", LINE, "\"8KiB\"", "One header field; 431."),
        key(
            "request_head",
            LINE,
            "\"32KiB\"",
            "The whole head of a request; 431.",
        ),
        key(
            "fields",
            Kind::Int(1, 512),
            "100",
            "Header fields of a request; 431.",
        ),
        key(
            "connection_options",
            Kind::Int(1, 512),
            "64",
            "Options of the Connection field; 400 or 502.",
        ),
        key(
            "response_head",
            LINE,
            "\"32KiB\"",
            "The whole head of a response; 502.",
        ),
        key(
            "response_fields",
            Kind::Int(1, 512),
            "200",
            "Header fields of a response; 502.",
        ),
        key(
            "trailers",
            LINE,
            "\"4KiB\"",
            "The trailer section of a body.",
        ),
        key(
            "trailer_fields",
            Kind::Int(1, 512),
            "32",
            "Fields of a trailer section.",
        ),
        key(
            "chunk_extension",
            Kind::Size(0, 1 << 16),
            "\"256B\"",
            "The extension of one chunk.",
        ),
        key(
            "chunk_extensions_total",
            Kind::Size(0, 1 << 20),
            "\"4KiB\"",
            "All chunk extensions of one message.",
        ),
        key(
            "request_body",
            SIZE_OR_ALL,
            "\"10MiB\"",
            "The body of a request; 413. A route sets it with `max_body`.",
        ),
        key(
            "retry_buffer",
            SIZE,
            "\"64MiB\"",
            "All request bodies kept for a retry, per worker.",
        ),
        key(
            "interim_responses",
            COUNT,
            "16",
            "1xx responses to one request; 502.",
        ),
        key("interim_bytes", SIZE, "\"64KiB\"", "Bytes of them; 502."),
        key(
            "linger_bytes",
            SIZE,
            "\"256KiB\"",
            "Bytes read and dropped after the last response.",
        ),
        key(
            "discard_body",
            SIZE,
            "\"64KiB\"",
            "Bytes of an unread request body that are read so that the connection can go on.",
        ),
        key(
            "min_rate",
            Kind::Forms(&[Kind::ByteRate, Kind::Word(&["off"])]),
            "\"500B/s\"",
            "Least rate of a request body and of a reading client, averaged over ten seconds.",
        ),
        key(
            "min_rate_request_grace",
            SPAN,
            "\"10s\"",
            "How long a request body may be slower at its start.",
        ),
        key(
            "min_rate_response_grace",
            SPAN,
            "\"30s\"",
            "How long a client may read slower at the start of a response.",
        ),
    ],
};

static HEADERS: Section = Section {
    path: "headers",
    doc: "Changes of header fields, in [defaults], a listener or a route. First `remove`, then `set`, then `add`. Fields that frame the message or that proxyd sets itself cannot be changed.",
    keys: &[
        key(
            "request",
            Kind::Table(&HEADER_RULES),
            "",
            "On the way to the server.",
        ),
        key(
            "response",
            Kind::Table(&HEADER_RULES),
            "",
            "On the way to the client.",
        ),
    ],
};

static HEADER_RULES: Section = Section {
    path: "headers.request",
    doc: "The same keys stand in `headers.response`. Values may hold `{client_ip}`, `{host}`, `{path}`, `{uri}` and the other fields of the access log; `{{` is a plain brace.",
    keys: &[
        key(
            "set",
            Kind::Map(&HEADER_NAME, &HEADER_VALUE),
            "{}",
            "Fields that replace all of their name.",
        ),
        key(
            "add",
            Kind::Map(&HEADER_NAME, &Kind::Many(&HEADER_VALUE)),
            "{}",
            "Fields that are added.",
        ),
        key(
            "remove",
            Kind::Many(&HEADER_NAME),
            "[]",
            "Fields that are removed; also takes out what an outer level sets or adds.",
        ),
    ],
};

static BUFFERING: Section = Section {
    path: "buffering",
    doc: "Bodies kept in memory.",
    keys: &[
        key(
            "request",
            Kind::Forms(&[SIZE, Kind::Word(&["off", "on"])]),
            "\"off\"",
            "Request bodies up to this size are read before a server is chosen, so that they can be sent again and slow clients hold no server; `on` is 1MiB.",
        ),
        key(
            "response",
            SIZE_OR_OFF,
            "\"off\"",
            "So many bytes are taken from the server ahead of a slow client; `off` streams.",
        ),
    ],
};

const RETRY_ON: Kind = Kind::Special(
    "connect, reset-before-headers, timeout or a status from 400 to 599",
    grammar::retry_on,
);

static RETRY: Section = Section {
    path: "retry",
    doc: "What is tried again on another server, while nothing has reached the client.",
    keys: &[
        key(
            "attempts",
            Kind::Int(0, 10),
            "2",
            "Further attempts after the first.",
        ),
        key(
            "on",
            Kind::Many(&RETRY_ON),
            "[\"connect\", \"reset-before-headers\"]",
            "Causes. The first list replaces the built-in one; lists of inner levels extend those of outer levels. Statuses and `timeout` apply to idempotent methods.",
        ),
        key(
            "remove",
            Kind::Many(&RETRY_ON),
            "[]",
            "Causes of outer levels that do not apply here.",
        ),
        key(
            "budget",
            Kind::Percent,
            "\"20%\"",
            "Retries per upstream, as a share of its requests over ten seconds.",
        ),
        key(
            "non_idempotent",
            Kind::Bool,
            "false",
            "POST and PATCH may be sent twice.",
        ),
    ],
};

/// `[[listener]]`.
pub(super) static LISTENER: Section = Section {
    path: "listener",
    doc: "An address where clients connect.",
    keys: &[
        key(
            "name",
            Kind::Name,
            "",
            "Its name in logs, metrics and `route.listener`; `listener-PORT` otherwise.",
        ),
        required(
            "bind",
            Kind::Many(&Kind::Bind),
            "`\":443\"` (both families), `\"10.0.0.1:443\"`, `\"[::]:443\"`, `\"unix:/run/x.sock\"`, `\"fd:NAME\"` (socket activation), or a list.",
        ),
        key(
            "protocol",
            Kind::Word(&["http"]),
            "\"http\"",
            "What is spoken.",
        ),
        key(
            "backlog",
            Kind::Int(1, 1 << 20),
            "4096",
            "Connections that may wait in the kernel.",
        ),
        key(
            "socket_mode",
            Kind::Mode,
            "\"0666\"",
            "Mode of a Unix socket.",
        ),
        key(
            "tls",
            Kind::Forms(&[
                Kind::Table(&tls::SERVER),
                Kind::Word(&["self-signed"]),
                Kind::Name,
            ]),
            "",
            "TLS ends here: `{ cert = ..., key = ... }`, `{ certificates = [...] }`, the name of a certificate, or `self-signed`.",
        ),
        key(
            "alpn",
            Kind::List(&Kind::Word(&["http/1.1", "h2"])),
            "[\"http/1.1\"]",
            "Protocols offered in the TLS handshake. `h2` is not offered by this version (warned).",
        ),
        key(
            "tls_client_auth",
            Kind::Table(&tls::CLIENT_AUTH),
            "",
            "Certificates of clients.",
        ),
        key(
            "session_tickets",
            Kind::Table(&tls::TICKETS),
            "",
            "Resumption of TLS sessions.",
        ),
        key(
            "redirect_to_https",
            Kind::Bool,
            "false",
            "Every request is redirected to the same address with https.",
        ),
        key(
            "trusted_proxies",
            NETWORKS,
            "[]",
            "Peers whose X-Forwarded-For, Forwarded and X-Request-Id are believed: networks, names of sets, `any`.",
        ),
        key(
            "max_connections_per_ip",
            COUNT,
            "512",
            "Connections of one client address to one worker; 0 is off. Trusted proxies are not counted.",
        ),
        key(
            "default_host",
            HOST,
            "\"localhost\"",
            "Host of HTTP/1.0 requests that name none.",
        ),
        key(
            "underscores",
            Kind::Word(&["drop", "pass", "reject"]),
            "\"drop\"",
            "Header names with an underscore.",
        ),
        key(
            "forwarded",
            Kind::Bool,
            "false",
            "Send the Forwarded field (RFC 7239) besides X-Forwarded-*.",
        ),
        key("via", Kind::Bool, "true", "Add a Via element."),
        key(
            "trace",
            Kind::Bool,
            "false",
            "Pass TRACE on, without Authorization and Cookie.",
        ),
        key(
            "request_id_response",
            Kind::Bool,
            "false",
            "Return X-Request-Id to the client.",
        ),
        key(
            "client_certificate_headers",
            Kind::Bool,
            "false",
            "Hand subject, names and fingerprint of a verified client certificate to the server (X-Client-Cert-*).",
        ),
        TIMEOUTS_KEY,
        KEEPALIVE_KEY,
        LIMITS_KEY,
        HEADERS_KEY,
        BUFFERING_KEY,
        RETRY_KEY,
    ],
};
