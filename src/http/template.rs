//! Texts with variables, such as `https://{host}{uri}`: compiled once with the configuration,
//! written without allocation. Values are not escaped here: who writes a field or a URI checks
//! the result.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use super::client_addr::Client;
use crate::io::facts::TlsFacts;
use crate::proto::http1::encode::push_decimal;

/// What is known of an exchange when a template is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Who sent the request.
    pub client: Client,
    /// The port of the peer.
    pub client_port: u16,
    /// The TLS session with the client.
    pub tls: Option<&'a TlsFacts>,
    /// The listener's name.
    pub listener: &'a str,
    /// The port that was connected to; 0 for a Unix socket.
    pub listener_port: u16,
    /// The route's name.
    pub route: &'a str,
    /// The upstream's name; empty before one is chosen.
    pub upstream: &'a str,
    /// The server's name; empty before one is chosen.
    pub server: &'a str,
    /// The method.
    pub method: &'a [u8],
    /// Host and port as received, or the listener's default host.
    pub authority: &'a [u8],
    /// The host without port.
    pub host: &'a [u8],
    /// The path in normal form, before the route rewrites it.
    pub path: &'a [u8],
    /// The query.
    pub query: Option<&'a [u8]>,
    /// The request id.
    pub request_id: &'a [u8],
    /// The status of the response; 0 before there is one.
    pub status: u16,
}

impl Facts<'_> {
    /// `https` or `http`: how the client came.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

macro_rules! variables {
    ($( $variant:ident, $name:literal; )*) => {
        /// What can stand between braces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Variable { $( $variant, )* }

        /// The names of all variables, for error messages and the reference.
        pub const NAMES: &[&str] = &[ $( $name, )* ];

        impl Variable {
            fn of(name: &str) -> Option<Self> {
                match name { $( $name => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

variables! {
    Authority, "authority";
    ClientIp, "client_ip";
    ClientPort, "client_port";
    Host, "host";
    Listener, "listener";
    Method, "method";
    Path, "path";
    PeerIp, "peer_ip";
    Port, "port";
    Query, "query";
    RequestId, "request_id";
    Route, "route";
    Scheme, "scheme";
    Server, "server";
    Status, "status";
    TlsCipher, "tls_cipher";
    TlsClientFingerprint, "tls_client_fingerprint";
    TlsClientSerial, "tls_client_serial";
    TlsClientSubject, "tls_client_subject";
    TlsSni, "tls_sni";
    TlsVersion, "tls_version";
    Upstream, "upstream";
    Uri, "uri";
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `{` without `}`; the place of the brace.
    Unclosed(usize),
    /// `}` without `{`; the place of the brace. Braces themselves are written twice.
    Stray(usize),
    /// No variable has this name; the place of the name.
    Unknown(usize, String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed(_) => f.write_str("`{` without `}`; a brace itself is written `{{`"),
            Self::Stray(_) => f.write_str("`}` without `{`; a brace itself is written `}}`"),
            Self::Unknown(_, name) => write!(f, "there is no variable `{name}`"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// A compiled template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let doubled = chars.next_if(|(_, next)| *next == c && (c == '{' || c == '}'));
            if doubled.is_some() || (c != '{' && c != '}') {
                literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            if c == '}' {
                return Err(TemplateError::Stray(at));
            }
            let mut name = String::new();
            loop {
                match chars.next() {
                    Some((_, '}')) => break,
                    Some((_, c)) => name.push(c),
                    None => return Err(TemplateError::Unclosed(at)),
                }
            }
            let variable = Variable::of(&name);
            let variable = variable.ok_or(TemplateError::Unknown(at + 1, name))?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Variable(variable));
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Self {
            parts: parts.into(),
        })
    }

    /// Whether there is no variable in it.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the first thing in it is a variable.
    #[must_use]
    pub fn starts_with_variable(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Variable(_)))
    }

    /// Appends the text with the values of the variables.
    pub fn write(&self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => variable.write(out, facts),
            }
        }
    }
}

impl Variable {
    fn write(self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
        match self {
            Self::Authority => out.extend_from_slice(facts.authority),
            Self::ClientIp => push_addr(out, facts.client.addr),
            Self::ClientPort => push_decimal(out, facts.client_port.into()),
            Self::Host => out.extend_from_slice(facts.host),
            Self::Listener => text(facts.listener),
            Self::Method => out.extend_from_slice(facts.method),
            Self::Path => out.extend_from_slice(facts.path),
            Self::PeerIp => push_addr(out, facts.client.peer),
            Self::Port => push_decimal(out, facts.listener_port.into()),
            Self::Query => out.extend_from_slice(facts.query.unwrap_or_default()),
            Self::RequestId => out.extend_from_slice(facts.request_id),
            Self::Route => text(facts.route),
            Self::Scheme => text(facts.scheme()),
            Self::Server => text(facts.server),
            Self::Status => push_decimal(out, facts.status.into()),
            Self::TlsCipher => text(facts.tls.map_or("", |tls| tls.cipher)),
            Self::TlsClientFingerprint => text(peer(facts).map_or("", |p| &p.fingerprint)),
            Self::TlsClientSerial => text(peer(facts).map_or("", |p| &p.serial)),
            Self::TlsClientSubject => push_printable(out, peer(facts).map_or("", |p| &p.subject)),
            Self::TlsSni => text(facts.tls.and_then(|t| t.sni.as_deref()).unwrap_or_default()),
            Self::TlsVersion => text(facts.tls.map_or("", |tls| tls.version)),
            Self::Upstream => text(facts.upstream),
            Self::Uri => {
                out.extend_from_slice(facts.path);
                if let Some(query) = facts.query {
                    out.push(b'?');
                    out.extend_from_slice(query);
                }
            }
        }
    }
}

fn peer<'a>(facts: &Facts<'a>) -> Option<&'a crate::io::facts::PeerCertificate> {
    facts.tls.and_then(|tls| tls.peer.as_deref())
}

/// Appends an address, or `unknown`.
pub(super) fn push_addr(out: &mut Vec<u8>, addr: Option<IpAddr>) {
    match addr {
        Some(IpAddr::V4(addr)) => {
            let [a, b, c, d] = addr.octets();
            push_decimal(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                push_decimal(out, octet.into());
            }
        }
        Some(IpAddr::V6(addr)) => {
            // Writing to a vector does not fail.
            let _always_ok = write!(out, "{addr}").is_ok();
        }
        None => out.extend_from_slice(b"unknown"),
    }
}

/// Appends text that comes from a certificate: what a field may not hold, and the percent sign,
/// is percent-encoded.
pub(super) fn push_printable(out: &mut Vec<u8>, text: &str) {
    for byte in text.trim().bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            push_escape(out, byte);
        }
    }
}

/// Appends `%XX`.
pub(super) fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let digit = |n: u8| {
        b"0123456789ABCDEF"
            .get(usize::from(n))
            .copied()
            .unwrap_or(b'0')
    };
    out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::facts::PeerCertificate;

    fn write(text: &str, facts: &Facts<'_>) -> String {
        let mut out = Vec::new();
        Template::compile(text).unwrap().write(&mut out, facts);
        String::from_utf8(out).unwrap()
    }

    fn facts(tls: Option<&TlsFacts>) -> Facts<'_> {
        Facts {
            client: Client {
                addr: Some("192.0.2.255".parse().unwrap()),
                peer: Some("2001:db8::1".parse().unwrap()),
                trusted_peer: true,
            },
            client_port: 4711,
            tls,
            listener: "web",
            listener_port: 8080,
            route: "site",
            upstream: "app",
            server: "a",
            method: b"GET",
            authority: b"example.org:80",
            host: b"example.org",
            path: b"/p",
            query: Some(b"q=1"),
            request_id: b"id",
            status: 200,
        }
    }

    #[test]
    fn every_variable_has_a_value() {
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS13_AES_128_GCM_SHA256",
            sni: Some("sni.example".into()),
            peer: Some(Box::new(PeerCertificate {
                subject: " CN=caf\u{e9} 5%\n".to_owned(),
                serial: "0a".to_owned(),
                fingerprint: "ff".to_owned(),
                ..PeerCertificate::default()
            })),
            ..TlsFacts::default()
        };
        let all = NAMES
            .iter()
            .map(|name| format!("{name}={{{name}}}\n"))
            .collect::<String>();
        assert_eq!(
            write(&all, &facts(Some(&tls))),
            "authority=example.org:80\nclient_ip=192.0.2.255\nclient_port=4711\n\
             host=example.org\nlistener=web\nmethod=GET\npath=/p\npeer_ip=2001:db8::1\n\
             port=8080\nquery=q=1\nrequest_id=id\nroute=site\nscheme=https\nserver=a\n\
             status=200\ntls_cipher=TLS13_AES_128_GCM_SHA256\ntls_client_fingerprint=ff\n\
             tls_client_serial=0a\ntls_client_subject=CN=caf%C3%A9 5%25\ntls_sni=sni.example\n\
             tls_version=TLSv1.3\nupstream=app\nuri=/p?q=1\n"
        );
    }

    #[test]
    fn without_tls_and_query_values_are_empty() {
        let facts = Facts {
            query: None,
            client: Client::default(),
            ..facts(None)
        };
        assert_eq!(
            write(
                "{scheme}|{uri}|{query}|{tls_sni}|{tls_client_subject}|{client_ip}",
                &facts
            ),
            "http|/p||||unknown"
        );
    }

    #[test]
    fn text_and_braces() {
        let f = facts(None);
        assert_eq!(write("", &f), "");
        assert_eq!(write("plain \u{e9}", &f), "plain \u{e9}");
        assert_eq!(write("{{host}} {host}{{", &f), "{host} example.org{");
        assert_eq!(write("{host}{host}", &f), "example.orgexample.org");
        assert!(Template::compile("a{{b}}").unwrap().is_fixed());
        assert!(!Template::compile("a{host}").unwrap().is_fixed());
        assert!(Template::compile("{uri}").unwrap().starts_with_variable());
        assert!(!Template::compile("/{uri}").unwrap().starts_with_variable());
    }

    #[test]
    fn faults_have_their_place() {
        for (text, error) in [
            ("a{host", TemplateError::Unclosed(1)),
            ("{", TemplateError::Unclosed(0)),
            ("a}", TemplateError::Stray(1)),
            ("{{}", TemplateError::Stray(2)),
            ("{}", TemplateError::Unknown(1, String::new())),
            ("x{hots}", TemplateError::Unknown(2, "hots".to_owned())),
            ("{HOST}", TemplateError::Unknown(1, "HOST".to_owned())),
        ] {
            assert_eq!(Template::compile(text), Err(error), "{text}");
        }
    }
}
