//! The version-neutral heads of requests and responses: spans into a byte buffer, with everything
//! that decides framing, persistence and routing already worked out.
//!
//! It is deliberately not a header map: nothing is copied, nothing is allocated per field, and a
//! head is re-used from message to message. The rules that fill it are in [`crate::proto::http1`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod field;

use std::time::Duration;

pub use field::{Field, FieldId, Span};

/// Number of octets in the text of the longest method that is accepted (rule 2.4).
pub const METHOD_MAX: usize = 32;

/// A request method (rule 2.4: case-sensitive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
    /// PATCH
    Patch,
    /// Another token, at its place in the buffer.
    Other(Span),
}

impl Method {
    /// The method whose text is `text`; `at` is the place of `text` in the buffer.
    #[must_use]
    pub fn of(text: &[u8], at: Span) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            b"PATCH" => Self::Patch,
            _ => Self::Other(at),
        }
    }

    /// The text of the method; `buf` is the buffer of the head.
    #[must_use]
    pub fn as_bytes(self, buf: &[u8]) -> &[u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Delete => b"DELETE",
            Self::Options => b"OPTIONS",
            Self::Trace => b"TRACE",
            Self::Connect => b"CONNECT",
            Self::Patch => b"PATCH",
            Self::Other(span) => span.of(buf),
        }
    }

    /// Whether a request may be sent twice (rule 15.1); unknown methods may not.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete
        )
    }
}

/// The protocol version of a received message. HTTP/1.2 to 1.9 are handled as 1.1 (rule 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// How the body of a message is delimited: decided once, from the head (rule 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// There is no body.
    #[default]
    None,
    /// The body has this many octets.
    Length(u64),
    /// The body is in the chunked coding.
    Chunked,
    /// The body goes on until the connection is closed (responses only).
    UntilClose,
}

impl BodyKind {
    /// Whether no octet of body will follow.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The form of a request target (rule 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, with CONNECT only
    Authority,
    /// `*`, with OPTIONS only
    Asterisk,
}

/// A switch of protocols that the message asks for or announces (section 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// None; or one that does not meet the conditions of rule 16.1 and is therefore ignored.
    #[default]
    None,
    /// `websocket`
    WebSocket,
    /// Another single protocol, at its place in the buffer. Ignored unless the route names it.
    Other(Span),
}

/// The head of a request. All spans point into the buffer that was parsed.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version of the message.
    pub version: Version,
    /// The form of the target.
    pub form: TargetForm,
    /// `host[:port]` as received: from an absolute or authority form, else from Host. None only
    /// for an HTTP/1.0 request that says neither.
    pub authority: Option<Span>,
    /// The host within the authority: no port, no trailing dot, the brackets of an IPv6 literal
    /// kept, spelling as received.
    pub host: Span,
    /// The port within the authority.
    pub port: Option<u16>,
    /// The path; empty for the authority form and for an absolute form without path. See
    /// [`RequestHead::path_bytes`].
    pub path: Span,
    /// What follows the first `?` of the target.
    pub query: Option<Span>,
    /// All field lines in their order, also those that must not be forwarded.
    pub fields: Vec<Field>,
    /// How the body is delimited.
    pub body: BodyKind,
    /// Whether the client lets the connection persist.
    pub keep_alive: bool,
    /// Whether the client may wait for a 100 before it sends the body (rule 10.2).
    pub expect_continue: bool,
    /// The switch of protocols that is asked for (rule 16.1).
    pub upgrade: Upgrade,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
    /// How many fields were dropped because of an underscore in the name (rule 3.6).
    pub underscores: u16,
    /// Number of octets of the buffer that belong to the head, skipped empty lines included.
    pub len: usize,
}

impl RequestHead {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// The path to route on: `/` or `*` where an absolute form has none (rule 4.3).
    #[must_use]
    pub fn path_bytes<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        match self.path.of(buf) {
            b"" if self.form == TargetForm::Authority => b"",
            b"" if self.method == Method::Options && self.query.is_none() => b"*",
            b"" => b"/",
            path => path,
        }
    }

    /// The value of the first field `id`.
    #[must_use]
    pub fn value<'b>(&self, id: FieldId, buf: &'b [u8]) -> Option<&'b [u8]> {
        field::first(&self.fields, id, buf)
    }
}

/// The head of a response. All spans point into the buffer that was parsed.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status, 100 to 599.
    pub status: u16,
    /// The version of the message.
    pub version: Version,
    /// All field lines in their order, also those that must not be forwarded.
    pub fields: Vec<Field>,
    /// How the body is delimited (rule 7.2). None for a tunnel.
    pub body: BodyKind,
    /// The valid Content-Length that was sent, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether what follows the head is a tunnel: 101, or 2xx to CONNECT.
    pub tunnel: bool,
    /// Whether the server lets the connection persist, and the framing allows it.
    pub keep_alive: bool,
    /// `timeout` of the Keep-Alive field.
    pub keep_alive_timeout: Option<Duration>,
    /// The protocol of a 101 that has `Connection: upgrade`.
    pub upgrade: Upgrade,
    /// Number of octets of the buffer that belong to the head.
    pub len: usize,
}

impl ResponseHead {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// The value of the first field `id`.
    #[must_use]
    pub fn value<'b>(&self, id: FieldId, buf: &'b [u8]) -> Option<&'b [u8]> {
        field::first(&self.fields, id, buf)
    }

    /// Whether this is an interim response that another one follows.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status >= 100 && self.status < 200 && self.status != 101
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_methods_need_no_buffer_and_others_keep_their_place() {
        for text in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH",
        ] {
            let method = Method::of(text.as_bytes(), Span::new(0, text.len()));
            assert!(!matches!(method, Method::Other(_)), "{text}");
            assert_eq!(method.as_bytes(b""), text.as_bytes());
        }
        let other = Method::of(b"get", Span::new(1, 4));
        assert_eq!(
            other,
            Method::Other(Span { start: 1, end: 4 }),
            "case matters"
        );
        assert_eq!(other.as_bytes(b" get "), b"get");
    }

    #[test]
    fn only_known_safe_methods_may_be_sent_twice() {
        assert!(Method::Get.is_idempotent() && Method::Delete.is_idempotent());
        assert!(!Method::Post.is_idempotent() && !Method::Patch.is_idempotent());
        assert!(!Method::Connect.is_idempotent() && !Method::Other(Span::EMPTY).is_idempotent());
    }

    #[test]
    fn an_empty_path_becomes_what_the_form_means() {
        let mut head = RequestHead {
            form: TargetForm::Absolute,
            ..RequestHead::default()
        };
        assert_eq!(head.path_bytes(b""), b"/");
        head.method = Method::Options;
        assert_eq!(head.path_bytes(b""), b"*");
        head.query = Some(Span::EMPTY);
        assert_eq!(head.path_bytes(b""), b"/");
        head.form = TargetForm::Authority;
        assert_eq!(head.path_bytes(b""), b"");
    }

    #[test]
    fn clearing_keeps_the_memory_of_the_fields() {
        let mut head = RequestHead::default();
        head.fields.reserve(64);
        head.keep_alive = true;
        let before = head.fields.capacity();
        head.clear();
        assert_eq!(head.fields.capacity(), before);
        assert!(!head.keep_alive);
    }
}
