//! The keys of `[[route]]`.

use super::http::{
    BUFFERING_KEY, HEADER_NAME, HEADER_VALUE, HEADERS_KEY, PREFIX, RETRY_KEY, STATUS, TIMEOUTS_KEY,
};
use super::{Kind, SIZE_OR_ALL, SPAN, Section, key, required};
use crate::conf::grammar;

const CONDITIONS: Kind = Kind::Forms(&[
    Kind::Special("a value or ~regex", grammar::value_match),
    Kind::Bool,
]);

/// `[[route]]`.
pub(super) static ROUTE: Section = Section {
    path: "route",
    doc: "What is done with which request. The most specific route wins, not the first in the file: exact host, longest wildcard, any; exact path, longest prefix, regex; then methods, headers, query. Exactly one of `to`, `redirect`, `respond`.",
    keys: &[
        key(
            "name",
            Kind::Name,
            "",
            "Its name in logs and metrics; `route-N` otherwise.",
        ),
        key(
            "listener",
            Kind::Many(&Kind::Name),
            "",
            "Listeners it applies to; all otherwise.",
        ),
        key(
            "host",
            Kind::Many(&Kind::Special("a host pattern", grammar::host_pattern)),
            "",
            "`\"example.org\"`, `\"*.example.org\"` (any number of labels), or a list; any otherwise.",
        ),
        key(
            "path",
            Kind::Many(&Kind::Special("a path pattern", grammar::path_pattern)),
            "",
            "`\"/api/\"` prefix on a segment boundary, `\"=/x\"` exact, `\"~^/v[0-9]/\"` regex, or a list; any otherwise.",
        ),
        key(
            "methods",
            Kind::Many(&Kind::Special("a method", grammar::method)),
            "",
            "Methods; all otherwise. When the rest matches and no route takes the method: 405.",
        ),
        key(
            "headers_match",
            Kind::Map(&HEADER_NAME, &CONDITIONS),
            "",
            "Header conditions, all of which have to hold: `{ x-tenant = \"a\", x-beta = true, x-version = \"~^2[.]\" }`; `true` is present, `false` absent.",
        ),
        key(
            "query",
            Kind::Map(&Kind::Text, &CONDITIONS),
            "",
            "The same for query parameters.",
        ),
        key(
            "priority",
            Kind::Int(-1_000_000, 1_000_000),
            "0",
            "Decides between regexes and between otherwise equal routes; higher first.",
        ),
        key(
            "to",
            TO,
            "",
            "An upstream, an address, a list of addresses, or weighted upstreams.",
        ),
        key(
            "redirect",
            Kind::Forms(&[
                Kind::Table(&REDIRECT),
                Kind::Special("a target", grammar::redirect),
            ]),
            "",
            "Answer with a redirect.",
        ),
        key(
            "respond",
            Kind::Forms(&[Kind::Table(&RESPOND), Kind::Text, STATUS]),
            "",
            "Answer with this: a table, a body, or a status.",
        ),
        key(
            "host_rewrite",
            Kind::Special("preserve, upstream or a host", grammar::host),
            "\"preserve\"",
            "Host sent to the server: the client's (`preserve`), the server's own name (`upstream`), or this one.",
        ),
        key("strip_prefix", PREFIX, "", "Taken off the path."),
        key(
            "add_prefix",
            PREFIX,
            "",
            "Put before the path, after `strip_prefix`.",
        ),
        key("replace_prefix", Kind::Table(&REPLACE), "", "Both in one."),
        key(
            "normalize",
            Kind::Word(&["on", "strict", "raw"]),
            "\"on\"",
            "Paths that are not in normal form: `on` matches and sends the normal form, `strict` refuses, `raw` sends what came (only on routes for every path).",
        ),
        key(
            "max_body",
            SIZE_OR_ALL,
            "",
            "Largest request body; `limits.request_body` of the listener otherwise.",
        ),
        key(
            "upgrade",
            Kind::Many(&Kind::Special("a protocol name", grammar::header_name)),
            "[\"websocket\"]",
            "Protocols that may be switched to.",
        ),
        key(
            "trailers",
            Kind::Bool,
            "false",
            "Forward trailers where the next hop can carry them.",
        ),
        key("early_hints", Kind::Bool, "false", "Forward 103 responses."),
        key(
            "drain_timeout",
            SPAN,
            "",
            "How long tunnels of this route may go on after a reload; `master.drain_timeout_upgraded` otherwise.",
        ),
        key(
            "access_log",
            Kind::Bool,
            "true",
            "Write requests of this route to the access log.",
        ),
        TIMEOUTS_KEY,
        HEADERS_KEY,
        BUFFERING_KEY,
        RETRY_KEY,
    ],
};

const TO: Kind = Kind::Many(&Kind::Forms(&[
    Kind::Special("an upstream or an address", grammar::target),
    Kind::Table(&WEIGHTED),
]));

static WEIGHTED: Section = Section {
    path: "route.to",
    doc: "One of several upstreams.",
    keys: &[
        required("upstream", Kind::Name, "Its name."),
        key("weight", Kind::Int(0, 1_000_000), "1", "Its share."),
    ],
};

static REDIRECT: Section = Section {
    path: "route.redirect",
    doc: "A redirect. Instead of the table: its `to` as a string.",
    keys: &[
        required(
            "to",
            Kind::Special("a target", grammar::redirect),
            "Target; may hold `{scheme}`, `{host}`, `{path}`, `{query}`, `{uri}`.",
        ),
        key(
            "status",
            Kind::Int(300, 399),
            "308",
            "301, 302, 303, 307 or 308.",
        ),
    ],
};

static RESPOND: Section = Section {
    path: "route.respond",
    doc: "A fixed response.",
    keys: &[
        key("status", STATUS, "200", "Its status."),
        key("body", Kind::Text, "\"\"", "Its body."),
        key(
            "content_type",
            HEADER_VALUE,
            "\"text/plain; charset=utf-8\"",
            "Its Content-Type.",
        ),
    ],
};

static REPLACE: Section = Section {
    path: "route.replace_prefix",
    doc: "A prefix of the path replaced by another.",
    keys: &[
        required("from", PREFIX, "Taken off."),
        required("to", PREFIX, "Put in its place."),
    ],
};
