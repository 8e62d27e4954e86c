//! The keys of `[[upstream]]`.

use super::{COUNT, Kind, SPAN, Section, TIME, key, required, tls};

/// `[[upstream]]`.
pub(super) static UPSTREAM: Section = Section {
    path: "upstream",
    doc: "A group of servers. Servers stand in `servers`, in `[[upstream.server]]`, or both.",
    keys: &[
        required(
            "name",
            Kind::Name,
            "Its name in `route.to`, logs and metrics.",
        ),
        key(
            "servers",
            Kind::Many(&Kind::Server),
            "[]",
            "Addresses: `host:port` or `unix:/path`. Every address of a name becomes a server.",
        ),
        key(
            "server",
            Kind::List(&Kind::Table(&SERVER)),
            "",
            "Servers with settings of their own.",
        ),
        key(
            "protocol",
            Kind::Word(&["auto", "http1", "h2", "h2c"]),
            "\"auto\"",
            "What is spoken to the servers; this version speaks HTTP/1.1 and refuses `h2` and `h2c`.",
        ),
        key(
            "balance",
            Kind::Word(&["round_robin", "least_connections"]),
            "\"round_robin\"",
            "`round_robin`: by weight in turn. `least_connections`: the fewest requests in flight over all workers, by weight.",
        ),
        key("pool", Kind::Table(&POOL), "", "Connections to servers."),
        key(
            "queue",
            Kind::Table(&QUEUE),
            "",
            "Requests that wait for a connection.",
        ),
        key(
            "tls",
            Kind::Forms(&[Kind::Table(&tls::CLIENT), Kind::Bool]),
            "",
            "TLS towards the servers.",
        ),
        key(
            "bind_address",
            Kind::Ip,
            "",
            "Source address of connections.",
        ),
        key(
            "timeouts",
            Kind::Table(&TIMEOUTS),
            "",
            "Deadlines towards the servers; a route's own go before them.",
        ),
    ],
};

/// `timeouts` of an upstream.
static TIMEOUTS: Section = Section {
    path: "upstream.timeouts",
    doc: "The deadlines that concern servers. Where a route sends to several upstreams, the longest counts.",
    keys: &[
        key("connect", TIME, "", "See [timeouts](#timeouts)."),
        key("tls", TIME, "", "See [timeouts](#timeouts)."),
        key("response_header", TIME, "", "See [timeouts](#timeouts)."),
        key("response_body", TIME, "", "See [timeouts](#timeouts)."),
    ],
};

/// `pool = {...}`.
pub(super) static POOL: Section = Section {
    path: "pool",
    doc: "Connections kept to each server, per worker; in [defaults] or an upstream.",
    keys: &[
        key(
            "initial",
            Kind::Int(0, 0),
            "0",
            "Connections made at the start; this version makes none.",
        ),
        key("max_idle", COUNT, "32", "Idle connections per server."),
        key(
            "max",
            Kind::Int(1, 1_000_000),
            "256",
            "Connections per server, idle or busy; more requests wait.",
        ),
        key(
            "idle_timeout",
            TIME,
            "\"50s\"",
            "An idle connection is closed after this time; choose it shorter than the server's own.",
        ),
        key(
            "max_age",
            TIME,
            "\"1h\"",
            "A connection is not used any more after this time.",
        ),
        key(
            "max_requests",
            Kind::Int(1, 1_000_000_000),
            "10_000",
            "A connection is not used any more after so many requests.",
        ),
    ],
};

/// `queue = {...}`.
pub(super) static QUEUE: Section = Section {
    path: "queue",
    doc: "Requests that wait for a connection, per worker; in [defaults] or an upstream.",
    keys: &[
        key("max", COUNT, "1024", "How many may wait; more get a 503."),
        key(
            "timeout",
            TIME,
            "\"1s\"",
            "How long one may wait; then 503.",
        ),
    ],
};

static SERVER: Section = Section {
    path: "upstream.server",
    doc: "A server. Exactly one of `address`, `builtin`.",
    keys: &[
        key(
            "name",
            Kind::Name,
            "",
            "Its name in logs and metrics; its address otherwise.",
        ),
        key("address", Kind::Server, "", "`host:port` or `unix:/path`."),
        key(
            "builtin",
            Kind::Word(&["demo"]),
            "",
            "`demo`: a small HTTP server that proxyd runs itself, for trying things out.",
        ),
        key(
            "weight",
            Kind::Int(0, 65_535),
            "1",
            "Its share; 0 takes no requests.",
        ),
        key(
            "backup",
            Kind::Bool,
            "false",
            "Used only while no other server can be.",
        ),
        key(
            "max_fails",
            COUNT,
            "1",
            "Failures within `fail_timeout` after which it is passed over; 0: never.",
        ),
        key(
            "fail_timeout",
            SPAN,
            "\"10s\"",
            "For how long it is passed over.",
        ),
    ],
};
