//! The format of a line, compiled once: `combined`, `json`, or text with `{fields}`. It does not
//! render anything.

use std::fmt;

/// Something that a line can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    TimeClf,
    TimeUnix,
    Listener,
    Route,
    Upstream,
    Server,
    ClientIp,
    ClientPort,
    PeerIp,
    Scheme,
    Method,
    Host,
    Path,
    Query,
    Target,
    Request,
    Protocol,
    Status,
    BytesIn,
    BytesOut,
    BodyIn,
    BodyOut,
    DurationTls,
    DurationQueue,
    DurationConnect,
    DurationFirstByte,
    Duration,
    Attempts,
    Reason,
    EndedBy,
    RequestId,
    Traceparent,
    TlsVersion,
    TlsCipher,
    TlsSni,
    /// A request header: its place in the template's list.
    Header(usize),
}

/// Every name that may stand in braces, with what it shows; `header:NAME` besides.
pub const FIELDS: &[(&str, &str)] = &[
    (
        "time",
        "when the request ended, RFC 3339 with milliseconds, UTC",
    ),
    ("time_clf", "the same as in the common log format"),
    ("time_unix", "the same in seconds since 1970"),
    ("listener", "name of the listener"),
    ("route", "name of the route"),
    ("upstream", "name of the upstream"),
    (
        "server",
        "name of the server that answered or was asked last",
    ),
    (
        "client_ip",
        "address of the client, as the trusted proxies tell it",
    ),
    ("client_port", "its port"),
    ("peer_ip", "address of the other end of the connection"),
    ("scheme", "http or https"),
    ("method", "method of the request"),
    ("host", "host of the request"),
    ("path", "path of the request as it was sent"),
    ("query", "what stands after the question mark"),
    ("target", "path and query"),
    ("request", "method, path, query and protocol"),
    ("protocol", "HTTP/1.0, HTTP/1.1"),
    ("status", "status of the response; 0: none was sent"),
    ("bytes_in", "bytes of the request with head and framing"),
    ("bytes_out", "bytes of the response with head and framing"),
    ("body_in", "bytes of the request's body"),
    ("body_out", "bytes of the response's body"),
    (
        "duration_tls",
        "seconds of the TLS handshake, on the first request of a connection",
    ),
    (
        "duration_queue",
        "seconds spent waiting for a connection to the upstream",
    ),
    ("duration_connect", "seconds to connect to the server"),
    (
        "duration_first_byte",
        "seconds until the first byte of the response",
    ),
    (
        "duration",
        "seconds from the first byte of the request to the last of the response",
    ),
    ("attempts", "how many servers were asked"),
    ("reason", "reason code"),
    ("ended_by", "client, server or proxy, when it ended early"),
    ("request_id", "id of the request"),
    ("traceparent", "trace context that was sent on"),
    ("tls_version", "TLS version of the client's connection"),
    ("tls_cipher", "its cipher suite"),
    ("tls_sni", "the name that the client asked for"),
    ("user_agent", "the User-Agent header"),
    ("referer", "the Referer header"),
];

/// The fields of `json` in their order; those that do not apply to a request are left out.
const JSON: &[&str] = &[
    "time",
    "listener",
    "route",
    "upstream",
    "server",
    "client_ip",
    "client_port",
    "scheme",
    "method",
    "host",
    "path",
    "query",
    "protocol",
    "status",
    "bytes_in",
    "bytes_out",
    "body_in",
    "body_out",
    "duration",
    "duration_tls",
    "duration_queue",
    "duration_connect",
    "duration_first_byte",
    "attempts",
    "reason",
    "ended_by",
    "request_id",
    "traceparent",
    "tls_version",
    "tls_cipher",
    "tls_sni",
    "user_agent",
    "referer",
];

/// The combined log format as everybody knows it.
const COMBINED: &str =
    "{client_ip} - - [{time_clf}] \"{request}\" {status} {body_out} \"{referer}\" \"{user_agent}\"";

/// A piece of a text line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Box<str>),
    Field(Field),
}

/// How a line is put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text(Vec<Piece>),
    /// Keys, each as `"key":`, with their fields.
    Json(Vec<(Box<str>, Field)>),
}

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(super) shape: Shape,
    headers: Vec<Box<str>>,
}

/// Why a format cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where in the format, in bytes.
    pub at: usize,
    /// What is wrong.
    pub what: String,
    /// A name that may have been meant.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)?;
        if let Some(hint) = self.hint {
            write!(f, "; did you mean {{{hint}}}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Template {
    /// Compiles `combined`, `json`, or a text with `{fields}`; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// When a field is unknown or a brace has no partner.
    pub fn compile(format: &str) -> Result<Self, Error> {
        let mut headers = Vec::new();
        let shape = match format {
            "json" => Shape::Json(json(&mut headers)),
            "combined" => Shape::Text(text(COMBINED, &mut headers)?),
            format => Shape::Text(text(format, &mut headers)?),
        };
        Ok(Self { shape, headers })
    }

    /// The request headers that a line shows, in lower case: whoever gives up a request's head
    /// before its line is written keeps these values, in this order.
    #[must_use]
    pub fn headers(&self) -> &[Box<str>] {
        &self.headers
    }

    pub(super) const fn is_json(&self) -> bool {
        matches!(self.shape, Shape::Json(_))
    }
}

fn json(headers: &mut Vec<Box<str>>) -> Vec<(Box<str>, Field)> {
    JSON.iter()
        .filter_map(|name| {
            let field = field(name, headers)?;
            Some((format!("\"{name}\":").into(), field))
        })
        .collect()
}

fn text(format: &str, headers: &mut Vec<Box<str>>) -> Result<Vec<Piece>, Error> {
    let error = |at, what: &str| Error {
        at,
        what: what.to_owned(),
        hint: None,
    };
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = format.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '{' | '}' if rest.next_if(|(_, next)| *next == c).is_some() => literal.push(c),
            '{' => {
                let tail = format.get(at + 1..).unwrap_or("");
                let len = tail
                    .find('}')
                    .ok_or_else(|| error(at, "a brace that is not closed"))?;
                let name = tail.get(..len).unwrap_or("");
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
                }
                let field = field(name, headers).ok_or_else(|| Error {
                    at: at + 1,
                    what: format!("unknown field {name:?}"),
                    hint: nearest(name),
                })?;
                pieces.push(Piece::Field(field));
                while rest.next_if(|(next, _)| *next <= at + 1 + len).is_some() {}
            }
            '}' => return Err(error(at, "a closing brace without an opening one")),
            c if c.is_control() => return Err(error(at, "a control character")),
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.into()));
    }
    if !pieces.iter().any(|p| matches!(p, Piece::Field(_))) {
        return Err(error(0, "neither combined, json nor a text with {fields}"));
    }
    Ok(pieces)
}

fn field(name: &str, headers: &mut Vec<Box<str>>) -> Option<Field> {
    let mut header = |name: &str| {
        let name = name.to_ascii_lowercase();
        let place = headers.iter().position(|known| **known == *name);
        Field::Header(place.unwrap_or_else(|| {
            headers.push(name.into());
            headers.len() - 1
        }))
    };
    Some(match name {
        "time" => Field::Time,
        "time_clf" => Field::TimeClf,
        "time_unix" => Field::TimeUnix,
        "listener" => Field::Listener,
        "route" => Field::Route,
        "upstream" => Field::Upstream,
        "server" => Field::Server,
        "client_ip" => Field::ClientIp,
        "client_port" => Field::ClientPort,
        "peer_ip" => Field::PeerIp,
        "scheme" => Field::Scheme,
        "method" => Field::Method,
        "host" => Field::Host,
        "path" => Field::Path,
        "query" => Field::Query,
        "target" => Field::Target,
        "request" => Field::Request,
        "protocol" => Field::Protocol,
        "status" => Field::Status,
        "bytes_in" => Field::BytesIn,
        "bytes_out" => Field::BytesOut,
        "body_in" => Field::BodyIn,
        "body_out" => Field::BodyOut,
        "duration_tls" => Field::DurationTls,
        "duration_queue" => Field::DurationQueue,
        "duration_connect" => Field::DurationConnect,
        "duration_first_byte" => Field::DurationFirstByte,
        "duration" => Field::Duration,
        "attempts" => Field::Attempts,
        "reason" => Field::Reason,
        "ended_by" => Field::EndedBy,
        "request_id" => Field::RequestId,
        "traceparent" => Field::Traceparent,
        "tls_version" => Field::TlsVersion,
        "tls_cipher" => Field::TlsCipher,
        "tls_sni" => Field::TlsSni,
        "user_agent" => header("user-agent"),
        "referer" => header("referer"),
        name => match name.strip_prefix("header:") {
            Some(name) if is_token(name) => header(name),
            _ => return None,
        },
    })
}

fn is_token(name: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || special.contains(&b))
}

/// The known name with the fewest changes from a mistyped one, if they are few.
fn nearest(name: &str) -> Option<&'static str> {
    let most = (name.len() / 3).clamp(1, 3);
    let names = FIELDS.iter().map(|(known, _)| *known);
    let near = names.map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    let (changes, known) = near.min_by_key(|(changes, _)| *changes)?;
    (changes <= most).then_some(known)
}

/// Insertions, removals and replacements that lead from one word to the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            let best = (above + 1)
                .min(left + 1)
                .min(diagonal + usize::from(x != y));
            (diagonal, left) = (above, best);
            *cell = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(format: &str) -> Error {
        Template::compile(format).unwrap_err()
    }

    #[test]
    fn every_name_in_the_list_compiles() {
        for (name, help) in FIELDS {
            assert!(Template::compile(&format!("{{{name}}}")).is_ok(), "{name}");
            assert!(!help.is_empty());
        }
        for name in JSON {
            assert!(FIELDS.iter().any(|(known, _)| known == name), "{name}");
        }
        assert_eq!(json(&mut Vec::new()).len(), JSON.len());
    }

    #[test]
    fn text_and_fields_take_turns() {
        let template = Template::compile("a {status}{{x}} é{path}").unwrap();
        let Shape::Text(pieces) = template.shape else {
            panic!("not text")
        };
        let literal = |s: &str| Piece::Literal(s.into());
        assert_eq!(
            pieces,
            [
                literal("a "),
                Piece::Field(Field::Status),
                literal("{x} é"),
                Piece::Field(Field::Path),
            ]
        );
    }

    #[test]
    fn headers_are_listed_once_in_lower_case() {
        let template =
            Template::compile("{header:X-Foo} {header:x-foo} {user_agent} {header:b}").unwrap();
        let names: Vec<&str> = template.headers().iter().map(|h| &**h).collect();
        assert_eq!(names, ["x-foo", "user-agent", "b"]);
    }

    #[test]
    fn mistakes_have_a_place_and_a_hint() {
        assert_eq!(error("abc {statsu}").at, 5);
        assert_eq!(error("abc {statsu}").hint, Some("status"));
        assert_eq!(error("{clientip}").hint, Some("client_ip"));
        assert_eq!(error("{zzzzzzzz}").hint, None);
        assert_eq!(error("a {status").at, 2);
        assert_eq!(error("a } b").at, 2);
        assert_eq!(error("a\nb").at, 1);
        assert!(error("").what.starts_with("neither"));
        assert!(error("jsno").what.starts_with("neither"));
        assert_eq!(error("{header:}").at, 1);
        assert_eq!(error("{header:a b}").at, 1);
        assert_eq!(
            error("x {statsu}").to_string(),
            "unknown field \"statsu\" at byte 3; did you mean {status}?"
        );
    }

    #[test]
    fn distances() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
        assert_eq!(distance(b"abc", b"abc"), 0);
    }
}
