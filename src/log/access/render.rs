//! A record as a line: what each field shows, as text or as JSON, appended to the thread's buffer
//! without allocation.

use super::record::Record;
use super::redact::{MASK, Redact};
use super::template::{Field, Piece, Shape, Template};
use crate::log::calendar;
use crate::log::escape::{self, Cap};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a line is made from besides the record.
pub(super) struct Renderer<'a> {
    pub(super) template: &'a Template,
    pub(super) redact: &'a Redact,
    pub(super) dates: &'a mut calendar::Cache,
    /// The time that the line shows.
    pub(super) wall: Duration,
    /// How long one value may get.
    pub(super) cap: Cap,
}

/// What a field shows.
enum Value<'a> {
    Absent,
    Bytes(&'a [u8]),
    Number(u64),
    Seconds(Duration),
    Address(IpAddr),
    Time,
    TimeClf,
    /// Pieces of the request, one after the other.
    Parts(Parts),
    /// Something with a query that may hold secrets.
    Url(&'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Query,
    Target,
    Request,
}

impl Renderer<'_> {
    /// Appends the line with its end.
    pub(super) fn line(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let template = self.template;
        match &template.shape {
            Shape::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => match self.value(*field, record) {
                            Value::Absent => out.push(b'-'),
                            value => self.put(out, record, &value),
                        },
                    }
                }
            }
            Shape::Json(fields) => {
                let mut separator = b'{';
                for (key, field) in fields {
                    let value = self.value(*field, record);
                    if matches!(value, Value::Absent) {
                        continue;
                    }
                    out.push(separator);
                    separator = b',';
                    out.extend_from_slice(key.as_bytes());
                    let bare = matches!(value, Value::Number(_) | Value::Seconds(_));
                    if !bare {
                        out.push(b'"');
                    }
                    self.put(out, record, &value);
                    if !bare {
                        out.push(b'"');
                    }
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }

    fn value<'r>(&self, field: Field, r: &Record<'r>) -> Value<'r> {
        let tls = r.tls.unwrap_or_default();
        match field {
            Field::Time => Value::Time,
            Field::TimeClf => Value::TimeClf,
            Field::TimeUnix => Value::Seconds(self.wall),
            Field::Listener => bytes(r.listener.as_bytes()),
            Field::Route => bytes(r.route.as_bytes()),
            Field::Upstream => bytes(r.upstream.as_bytes()),
            Field::Server => bytes(r.server.as_bytes()),
            Field::ClientIp => address(r.client),
            Field::ClientPort => r
                .client
                .map_or(Value::Absent, |a| Value::Number(u64::from(a.port()))),
            Field::PeerIp => address(r.peer),
            Field::Scheme => bytes(r.scheme.as_bytes()),
            Field::Method => bytes(r.method),
            Field::Host => bytes(r.host),
            Field::Path => bytes(r.path),
            Field::Query => parts(Parts::Query, r.query.is_some()),
            Field::Target => parts(Parts::Target, !r.path.is_empty()),
            Field::Request => parts(Parts::Request, !r.method.is_empty()),
            Field::Protocol => bytes(r.protocol.as_bytes()),
            Field::Status => Value::Number(u64::from(r.status)),
            Field::BytesIn => Value::Number(r.bytes.received),
            Field::BytesOut => Value::Number(r.bytes.sent),
            Field::BodyIn => Value::Number(r.bytes.body_received),
            Field::BodyOut => Value::Number(r.bytes.body_sent),
            Field::DurationTls => seconds(r.durations.tls),
            Field::DurationQueue => seconds(r.durations.queue),
            Field::DurationConnect => seconds(r.durations.connect),
            Field::DurationFirstByte => seconds(r.durations.first_byte),
            Field::Duration => Value::Seconds(r.durations.total),
            Field::Attempts => Value::Number(u64::from(r.attempts)),
            Field::Reason => bytes(r.reason.as_str().as_bytes()),
            Field::EndedBy => bytes(r.ended_by.as_str().as_bytes()),
            Field::RequestId => bytes(r.request_id),
            Field::Traceparent => bytes(r.traceparent),
            Field::TlsVersion => bytes(tls.version.as_bytes()),
            Field::TlsCipher => bytes(tls.cipher.as_bytes()),
            Field::TlsSni => bytes(tls.sni),
            Field::Header(place) => self.header(place, r),
        }
    }

    fn header<'r>(&self, place: usize, r: &Record<'r>) -> Value<'r> {
        let Some(name) = self.template.headers().get(place) else {
            return Value::Absent;
        };
        match r.headers.value(place, name) {
            None | Some(b"") => Value::Absent,
            Some(_) if self.redact.hides_header(name) => Value::Bytes(MASK),
            Some(value) if self.redact.hides_query() && &**name == "referer" => Value::Url(value),
            Some(value) => Value::Bytes(value),
        }
    }

    fn put(&mut self, out: &mut Vec<u8>, record: &Record<'_>, value: &Value<'_>) {
        match value {
            Value::Absent => {}
            Value::Bytes(bytes) => self.escaped(out, bytes),
            Value::Number(n) => number(out, *n),
            Value::Seconds(d) => fraction(out, *d),
            Value::Address(ip) => ip_text(out, *ip),
            Value::Time => self.dates.iso(out, self.wall),
            Value::TimeClf => self.dates.clf(out, self.wall),
            Value::Parts(which) => self.parts(out, record, *which),
            Value::Url(url) => self.url(out, url),
        }
    }

    fn parts(&self, out: &mut Vec<u8>, record: &Record<'_>, which: Parts) {
        if which == Parts::Request {
            self.escaped(out, record.method);
            out.push(b' ');
        }
        if which != Parts::Query {
            self.escaped(out, record.path);
        }
        if let Some(query) = record.query {
            if which != Parts::Query {
                out.push(b'?');
            }
            self.query(out, query);
        }
        if which == Parts::Request && !record.protocol.is_empty() {
            out.push(b' ');
            self.escaped(out, record.protocol.as_bytes());
        }
    }

    fn url(&self, out: &mut Vec<u8>, url: &[u8]) {
        let len = url.iter().position(|b| *b == b'?').unwrap_or(url.len());
        let (before, query) = url.split_at_checked(len).unwrap_or((url, b""));
        self.escaped(out, before);
        if let Some((question, query)) = query.split_first() {
            out.push(*question);
            self.query(out, query);
        }
    }

    fn query(&self, out: &mut Vec<u8>, query: &[u8]) {
        if !self.redact.hides_query() {
            self.escaped(out, query);
            return;
        }
        let (start, most) = (out.len(), self.cap.0);
        self.redact.query(query, |piece| {
            let left = most.saturating_sub(out.len() - start);
            if left > 0 {
                self.escaped_up_to(out, piece, Cap(left));
            }
        });
    }

    fn escaped(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        self.escaped_up_to(out, bytes, self.cap);
    }

    fn escaped_up_to(&self, out: &mut Vec<u8>, bytes: &[u8], cap: Cap) {
        if self.template.is_json() {
            escape::json(out, bytes, cap);
        } else {
            escape::text(out, bytes, cap);
        }
    }
}

const fn bytes(bytes: &[u8]) -> Value<'_> {
    if bytes.is_empty() {
        Value::Absent
    } else {
        Value::Bytes(bytes)
    }
}

fn address<'a>(address: Option<SocketAddr>) -> Value<'a> {
    address.map_or(Value::Absent, |a| Value::Address(a.ip().to_canonical()))
}

fn seconds<'a>(duration: Option<Duration>) -> Value<'a> {
    duration.map_or(Value::Absent, Value::Seconds)
}

const fn parts<'a>(which: Parts, there: bool) -> Value<'a> {
    if there {
        Value::Parts(which)
    } else {
        Value::Absent
    }
}

/// Appends a number in decimal.
fn number(out: &mut Vec<u8>, mut n: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(n % 10).unwrap_or(0));
        n /= 10;
        if n == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// Appends seconds with six digits after the point.
fn fraction(out: &mut Vec<u8>, d: Duration) {
    number(out, d.as_secs());
    out.push(b'.');
    let mut rest = d.subsec_micros();
    let mut unit = 100_000;
    while unit > 0 {
        out.push(b'0' + u8::try_from(rest / unit).unwrap_or(0));
        rest %= unit;
        unit /= 10;
    }
}

fn ip_text(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            number(out, u64::from(a));
            for part in [b, c, d] {
                out.push(b'.');
                number(out, u64::from(part));
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(ip) => {
            let _written = write!(out, "{ip}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Bytes, Durations, EndedBy, Tls};
    use super::*;
    use crate::base::reason::Reason;
    use proptest::prelude::*;

    fn line(format: &str, redact: &[&str], record: &Record<'_>) -> String {
        line_capped(format, redact, record, Cap(8192))
    }

    fn line_capped(format: &str, redact: &[&str], record: &Record<'_>, cap: Cap) -> String {
        let redact: Vec<String> = redact.iter().map(|r| (*r).to_owned()).collect();
        let mut out = Vec::new();
        Renderer {
            template: &Template::compile(format).unwrap(),
            redact: &Redact::parse(&redact).unwrap(),
            dates: &mut calendar::Cache::default(),
            wall: Duration::from_millis(1_700_000_000_123),
            cap,
        }
        .line(&mut out, record);
        String::from_utf8(out).unwrap()
    }

    const HEADERS: &[(&str, &[u8])] = &[
        ("user-agent", b"curl/8"),
        ("referer", b"http://a/b?token=s3cret&x=1"),
        ("authorization", b"Basic s3cret"),
    ];

    fn record() -> Record<'static> {
        Record {
            route: "api",
            upstream: "app",
            server: "a1",
            client: Some("192.0.2.7:4711".parse().unwrap()),
            peer: Some("[::ffff:10.0.0.1]:99".parse().unwrap()),
            scheme: "https",
            method: b"GET",
            host: b"example.com",
            path: b"/x",
            query: Some(b"token=s3cret&a=1"),
            protocol: "HTTP/1.1",
            status: 200,
            bytes: Bytes {
                received: 100,
                sent: 2000,
                body_received: 0,
                body_sent: 1800,
            },
            durations: Durations {
                tls: None,
                queue: None,
                connect: Some(Duration::from_micros(250)),
                first_byte: Some(Duration::from_millis(12)),
                total: Duration::from_micros(1_012_345),
            },
            attempts: 1,
            request_id: b"abc",
            tls: Some(Tls {
                version: "TLSv1.3",
                cipher: "TLS13_AES_128_GCM_SHA256",
                sni: b"example.com",
            }),
            headers: &HEADERS,
            ..Record::empty("web")
        }
    }

    #[test]
    fn combined_is_the_combined_format() {
        assert_eq!(
            line("combined", &["query:token"], &record()),
            "192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] \"GET /x?token=***&a=1 HTTP/1.1\" 200 1800 \
             \"http://a/b?token=***&x=1\" \"curl/8\"\n"
        );
    }

    #[test]
    fn json_has_what_applies() {
        let text = line("json", &[], &record());
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(parsed["listener"], "web");
        assert_eq!(parsed["client_port"], 4711);
        assert_eq!(parsed["status"], 200);
        assert_eq!(parsed["duration"], 1.012_345);
        assert_eq!(parsed["duration_connect"], 0.000_25);
        assert_eq!(parsed["reason"], "ok");
        assert_eq!(parsed["tls_version"], "TLSv1.3");
        assert_eq!(parsed["query"], "token=s3cret&a=1");
        for absent in ["duration_tls", "duration_queue", "traceparent", "ended_by"] {
            assert!(parsed.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_connection_without_a_request_has_a_line_too() {
        let record = Record {
            reason: Reason::TlsFailed,
            ended_by: EndedBy::Proxy,
            ..Record::empty("web")
        };
        assert_eq!(
            line(
                "{client_ip} \"{request}\" {target} {status} {reason} {ended_by} {query}",
                &[],
                &record
            ),
            "- \"-\" - 0 client.tls_failed proxy -\n"
        );
        let parsed: serde_json::Value = serde_json::from_str(&line("json", &[], &record)).unwrap();
        assert_eq!(parsed["status"], 0);
        assert!(parsed.get("method").is_none());
    }

    #[test]
    fn secrets_stay_out() {
        let format = "{query} {target} {request} {referer} {header:authorization} {header:none}";
        let hide = &["query:token", "header:authorization"];
        for format in [format, "json"] {
            assert!(!line(format, hide, &record()).contains("s3cret"));
        }
        assert!(line(format, hide, &record()).ends_with("*** -\n"));
        assert!(line(format, &[], &record()).contains("Basic s3cret"));
    }

    #[test]
    fn addresses_are_shown_in_their_own_family() {
        let mut record = record();
        assert_eq!(line("{peer_ip}", &[], &record), "10.0.0.1\n");
        record.client = Some("[2001:db8::1]:5".parse().unwrap());
        assert_eq!(
            line("{client_ip} {client_port}", &[], &record),
            "2001:db8::1 5\n"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let path = [b'a'; 5000];
        let record = Record {
            path: &path,
            query: Some(&path),
            ..record()
        };
        let shown = line_capped("{path} {query}", &[], &record, Cap(100));
        assert_eq!(shown.len(), 202);
        let shown = line_capped("{query}", &["query:token"], &record, Cap(100));
        assert_eq!(shown.len(), 101);
    }

    proptest! {
        #[test]
        fn numbers_are_printed_as_numbers(n: u64, micros in 0_u64..10_000_000_000) {
            let mut out = Vec::new();
            number(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
            let mut out = Vec::new();
            let d = Duration::from_micros(micros);
            fraction(&mut out, d);
            let expected = format!("{}.{:06}", d.as_secs(), d.subsec_micros());
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }

        #[test]
        fn hostile_bytes_make_one_printable_line(
            path: Vec<u8>, query: Vec<u8>, agent: Vec<u8>, cap in 16_usize..200,
        ) {
            let headers: &[(&str, &[u8])] = &[("user-agent", &agent), ("referer", &query)];
            let record = Record { path: &path, query: Some(&query), host: &agent, headers: &headers, ..record() };
            for format in ["json", "combined"] {
                let shown = line_capped(format, &["query:t"], &record, Cap(cap));
                let body = shown.strip_suffix('\n').unwrap();
                prop_assert!(body.bytes().all(|b| (0x20..=0x7e).contains(&b)));
                if format == "json" {
                    let parsed: Result<serde_json::Value, _> = serde_json::from_str(body);
                    prop_assert!(parsed.is_ok(), "{body}");
                }
            }
        }
    }
}
