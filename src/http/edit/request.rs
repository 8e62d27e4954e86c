//! The request head that goes upstream.

use super::rules::RequestRules;
use super::{all_or_nothing, configured, line, refused};
use crate::base::reason::Reason;
use crate::http::params::HostRewrite;
use crate::http::template::{Facts, push_addr, push_printable};
use crate::http::trace::Hop;
use crate::io::facts::PeerCertificate;
use crate::proto::head::{BodyKind, Field, FieldId, Method, RequestHead, Version};
use crate::proto::http1::{encode, grammar};

/// What the exchange decided about the request.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Who, where, which: also what templates see.
    pub facts: &'a Facts<'a>,
    /// The path that is sent, rewritten.
    pub path: &'a [u8],
    /// How the body is sent: `None`, `Length` or `Chunked`.
    pub body: BodyKind,
    /// The server's own name, for `host_rewrite = "upstream"`.
    pub server_host: &'a [u8],
    /// The protocol to switch to, when the route allows it.
    pub upgrade: Option<&'a [u8]>,
    /// The position in the trace; `None` passes trace fields as they are.
    pub trace: Option<Hop>,
    /// Whether trailers go both ways (rule 11.2).
    pub trailers: bool,
    /// Whether the connection is closed after this exchange.
    pub close: bool,
}

/// Names of the fields that tell the server about a client certificate. They never pass from an
/// untrusted client, whether or not the listener fills them.
const CERTIFICATE_FIELDS: [&str; 3] = [
    "X-Client-Cert-Subject",
    "X-Client-Cert-San",
    "X-Client-Cert-Fingerprint",
];

/// Writes the head of a request to a server.
///
/// # Errors
/// `Loop` when Via shows this instance; `Internal` when something cannot be written (18.3).
/// `out` is then as it was.
pub fn write_request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    buf: &[u8],
    cx: &RequestContext<'_>,
    rules: &RequestRules,
) -> Result<(), Reason> {
    let writer = Writer {
        head,
        buf,
        cx,
        rules,
    };
    all_or_nothing(out, |out| writer.write(out))
}

/// The Max-Forwards of an OPTIONS or TRACE request (rule 9.3): at 0 the proxy answers itself.
///
/// # Errors
/// `BadMaxForwards` when it is no number.
pub fn max_forwards(head: &RequestHead, buf: &[u8]) -> Result<Option<u64>, Reason> {
    if !matches!(head.method, Method::Options | Method::Trace) {
        return Ok(None);
    }
    head.value(FieldId::MaxForwards, buf)
        .map(|value| grammar::decimal(value).ok_or(Reason::BadMaxForwards))
        .transpose()
}

struct Writer<'a> {
    head: &'a RequestHead,
    buf: &'a [u8],
    cx: &'a RequestContext<'a>,
    rules: &'a RequestRules,
}

/// Fields that were met on the way and are written at the end.
#[derive(Default)]
struct Met {
    cookies: usize,
    forwarded_proto: bool,
    forwarded_host: bool,
    forwarded_port: bool,
    real_ip: bool,
}

/// What happens to a received field.
enum Fate {
    Pass,
    Gone,
}

impl Writer<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let method = self.head.method.as_bytes(self.buf);
        let query = self.head.query.map(|query| query.of(self.buf));
        encode::request_line_parts(out, method, self.cx.path, query).map_err(refused)?;
        self.host(out)?;
        let mut met = Met::default();
        for field in &self.head.fields {
            if let Fate::Pass = self.fate(field, &mut met)? {
                let (name, value) = (field.name.of(self.buf), field.value.of(self.buf));
                encode::field(out, name, value).map_err(refused)?;
            }
        }
        self.cookies(out, &met)?;
        self.forwarding(out, &met)?;
        self.identity(out)?;
        self.certificate(out)?;
        self.connection(out)?;
        self.framing(out)?;
        for (name, template) in &self.rules.fields.written {
            configured(out, name, template, self.cx.facts)?;
        }
        encode::end(out);
        Ok(())
    }

    fn fate(&self, field: &Field, met: &mut Met) -> Result<Fate, Reason> {
        let trusted = self.cx.facts.client.trusted_peer;
        let forwarded_trailer =
            field.id == FieldId::Trailer && self.cx.trailers && self.cx.body == BodyKind::Chunked;
        if forwarded_trailer {
            return Ok(Fate::Pass);
        }
        if field.id == FieldId::Via {
            self.check_loop(field)?;
        }
        if field.hop || self.rules.fields.dropped.covers(field, self.buf) {
            return Ok(Fate::Gone);
        }
        let pass = match field.id {
            FieldId::Host
            | FieldId::ContentLength
            | FieldId::XForwardedFor
            | FieldId::XRequestId => false,
            FieldId::MaxForwards => max_forwards(self.head, self.buf)?.is_none(),
            FieldId::Cookie => {
                met.cookies += 1;
                false
            }
            FieldId::Authorization => self.head.method != Method::Trace,
            FieldId::Forwarded => trusted && !self.rules.forwarded,
            FieldId::XForwardedProto => note(trusted, &mut met.forwarded_proto),
            FieldId::XForwardedHost => note(trusted, &mut met.forwarded_host),
            FieldId::XForwardedPort => note(trusted, &mut met.forwarded_port),
            FieldId::XRealIp => note(trusted, &mut met.real_ip),
            FieldId::Traceparent => self.cx.trace.is_none(),
            FieldId::Tracestate => self.cx.trace.is_none_or(|hop| hop.continued),
            FieldId::Other => !self.is_certificate_field(field),
            _ => true,
        };
        Ok(if pass { Fate::Pass } else { Fate::Gone })
    }

    fn is_certificate_field(&self, field: &Field) -> bool {
        let from_trusted = self.cx.facts.client.trusted_peer && !self.rules.certificate_fields;
        let name = field.name.of(self.buf);
        !from_trusted
            && CERTIFICATE_FIELDS
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }

    /// Rule 8.5: our own name in Via.
    fn check_loop(&self, field: &Field) -> Result<(), Reason> {
        let Some(own) = &self.rules.via else {
            return Ok(());
        };
        let seen = grammar::elements(field.value.of(self.buf)).any(|element| {
            let mut words = element
                .split(|b| matches!(b, b' ' | b'\t'))
                .filter(|w| !w.is_empty());
            words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(own))
        });
        if seen { Err(Reason::Loop) } else { Ok(()) }
    }

    /// Rule 4.5: one Host field, first in the head.
    fn host(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let facts = self.cx.facts;
        if let Some(template) = &self.rules.fields.host {
            return line(out, "Host", |out| template.write(out, facts));
        }
        let host = match &self.rules.host {
            HostRewrite::Preserve => facts.authority,
            HostRewrite::Upstream => self.cx.server_host,
            HostRewrite::Fixed(host) => host.as_bytes(),
        };
        encode::field(out, b"Host", host).map_err(refused)
    }

    /// Rule 18.4: one Cookie line. Rule 9.4: none in TRACE.
    fn cookies(&self, out: &mut Vec<u8>, met: &Met) -> Result<(), Reason> {
        if met.cookies == 0 || self.head.method == Method::Trace {
            return Ok(());
        }
        line(out, "Cookie", |out| self.join(out, FieldId::Cookie, b"; "))
    }

    /// Appends the values of all fields `id`.
    fn join(&self, out: &mut Vec<u8>, id: FieldId, separator: &[u8]) {
        let start = out.len();
        let fields = self
            .head
            .fields
            .iter()
            .filter(|field| field.id == id && !field.hop);
        for value in fields.map(|field| field.value.of(self.buf)) {
            if value.is_empty() {
                continue;
            }
            if out.len() > start {
                out.extend_from_slice(separator);
            }
            out.extend_from_slice(value);
        }
    }

    /// Rule 8.4: X-Forwarded-*, X-Real-IP, Forwarded. Rule 8.5: Via.
    fn forwarding(&self, out: &mut Vec<u8>, met: &Met) -> Result<(), Reason> {
        let facts = self.cx.facts;
        self.own(out, FieldId::XForwardedFor, true, |out| {
            self.after_trusted(out, FieldId::XForwardedFor);
            push_addr(out, facts.client.peer);
        })?;
        self.own(out, FieldId::XForwardedProto, !met.forwarded_proto, |out| {
            out.extend_from_slice(facts.scheme().as_bytes());
        })?;
        let host = !met.forwarded_host && !facts.authority.is_empty();
        self.own(out, FieldId::XForwardedHost, host, |out| {
            out.extend_from_slice(facts.authority);
        })?;
        self.own(
            out,
            FieldId::XForwardedPort,
            !met.forwarded_port && facts.listener_port != 0,
            |out| encode::push_decimal(out, facts.listener_port.into()),
        )?;
        let real_ip = !met.real_ip && facts.client.addr.is_some();
        self.own(out, FieldId::XRealIp, real_ip, |out| {
            push_addr(out, facts.client.addr);
        })?;
        self.own(out, FieldId::Forwarded, self.rules.forwarded, |out| {
            self.after_trusted(out, FieldId::Forwarded);
            self.forwarded(out);
        })?;
        let Some(own) = &self.rules.via else {
            return Ok(());
        };
        self.own(out, FieldId::Via, true, |out| {
            out.extend_from_slice(match self.head.version {
                Version::Http10 => b"1.0 ",
                Version::Http11 => b"1.1 ",
                Version::Http2 => b"2 ",
            });
            out.extend_from_slice(own);
        })
    }

    /// Writes one of our own fields, unless the route sets or removes it.
    fn own(
        &self,
        out: &mut Vec<u8>,
        id: FieldId,
        wanted: bool,
        value: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Reason> {
        if wanted && !self.rules.fields.dropped.has(id) {
            line(out, id.name(), value)?;
        }
        Ok(())
    }

    /// What a trusted peer sent comes before our own element.
    fn after_trusted(&self, out: &mut Vec<u8>, id: FieldId) {
        if self.cx.facts.client.trusted_peer {
            let start = out.len();
            self.join(out, id, b", ");
            if out.len() > start {
                out.extend_from_slice(b", ");
            }
        }
    }

    /// One element of Forwarded (RFC 7239 4).
    fn forwarded(&self, out: &mut Vec<u8>) {
        let facts = self.cx.facts;
        out.extend_from_slice(b"for=");
        let v6 = facts.client.peer.is_some_and(|peer| peer.is_ipv6());
        out.extend_from_slice(if v6 { b"\"[" } else { b"" });
        push_addr(out, facts.client.peer);
        out.extend_from_slice(if v6 { b"]\"" } else { b"" });
        out.extend_from_slice(b";host=");
        if grammar::is_token(facts.authority) {
            out.extend_from_slice(facts.authority);
        } else {
            // A host has neither quotes nor backslashes (rule 4.5).
            out.push(b'"');
            out.extend_from_slice(facts.authority);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(facts.scheme().as_bytes());
    }

    /// Rule 8.6, and the trace.
    fn identity(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let id = self.cx.facts.request_id;
        self.own(out, FieldId::XRequestId, !id.is_empty(), |out| {
            out.extend_from_slice(id);
        })?;
        if let Some(hop) = self.cx.trace {
            self.own(out, FieldId::Traceparent, true, |out| {
                out.extend_from_slice(&hop.trace.to_bytes());
            })?;
        }
        if let Some(left) = max_forwards(self.head, self.buf)? {
            self.own(out, FieldId::MaxForwards, true, |out| {
                encode::push_decimal(out, left.saturating_sub(1));
            })?;
        }
        Ok(())
    }

    fn certificate(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let peer = self.cx.facts.tls.and_then(|tls| tls.peer.as_deref());
        let Some(peer) = peer.filter(|_| self.rules.certificate_fields) else {
            return Ok(());
        };
        for (name, part) in CERTIFICATE_FIELDS.iter().zip([subject, names, fingerprint]) {
            if !self.rules.fields.dropped.has_other(name) {
                line(out, name, |out| part(out, peer))?;
            }
        }
        Ok(())
    }

    /// Rules 8.1 and 16.1: only options of our own.
    fn connection(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let te = self.cx.trailers && self.head.te_trailers;
        let options: &[u8] = match (self.cx.upgrade.is_some(), te, self.cx.close) {
            (true, ..) => b"Upgrade",
            (false, true, true) => b"TE, close",
            (false, true, false) => b"TE",
            (false, false, true) => b"close",
            (false, false, false) => return Ok(()),
        };
        encode::field(out, b"Connection", options).map_err(refused)?;
        if let Some(protocol) = self.cx.upgrade {
            encode::field(out, b"Upgrade", protocol).map_err(refused)
        } else if te {
            encode::field(out, b"TE", b"trailers").map_err(refused)
        } else {
            Ok(())
        }
    }

    fn framing(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        match self.cx.body {
            BodyKind::None => Ok(()),
            BodyKind::Length(n) => {
                encode::field_decimal(out, b"Content-Length", n).map_err(refused)
            }
            BodyKind::Chunked => {
                encode::field(out, b"Transfer-Encoding", b"chunked").map_err(refused)
            }
            // A request cannot end with its connection.
            BodyKind::UntilClose => Err(Reason::Internal),
        }
    }
}

/// Marks a field as met when it passes.
const fn note(pass: bool, met: &mut bool) -> bool {
    *met |= pass;
    pass
}

fn subject(out: &mut Vec<u8>, peer: &PeerCertificate) {
    push_printable(out, &peer.subject);
}

fn names(out: &mut Vec<u8>, peer: &PeerCertificate) {
    for (place, name) in peer.names.iter().enumerate() {
        out.extend_from_slice(if place > 0 { b", " } else { b"" });
        push_printable(out, name);
    }
}

fn fingerprint(out: &mut Vec<u8>, peer: &PeerCertificate) {
    push_printable(out, &peer.fingerprint);
}
