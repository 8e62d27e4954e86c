//! Texts with a grammar of their own: each check says what is wrong, and where in the text. The
//! parsers beside them give the value; they are called on texts that passed the check.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use ipnet::IpNet;
use regex::Regex;

use super::code::Code;
use crate::base::addr::{self, AddrError, Host};
use crate::http::params::{HostPattern, PathPattern, ValueMatch};
use crate::http::template::{self, Template, TemplateError};
use crate::log::params::Output;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of finding.
    pub code: Code,
    /// The reason; it stands after the text in quotes unless `whole` is set.
    pub message: String,
    /// The message is a sentence of its own.
    pub whole: bool,
    /// What to do.
    pub help: Option<String>,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// Which bytes of the text.
    pub at: Option<Range<usize>>,
}

impl Fault {
    /// A fault of the whole text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            whole: false,
            help: None,
            label: None,
            at: None,
        }
    }

    /// The same fault with a message that is a sentence of its own.
    fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::Malformed, message)
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
}

/// The outcome of a check.
pub type Checked = Result<(), Fault>;

/// A network or address: `10.0.0.0/8`, `::1`.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .map(|n| n.trunc())
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Checks a network.
///
/// # Errors
/// Anything else.
pub fn network(text: &str) -> Checked {
    match parse_network(text) {
        Some(_) => Ok(()),
        None => Err(Fault::malformed("is not a network")
            .help("write an address or a network such as \"10.0.0.0/8\" or \"fd00::/8\"")),
    }
}

/// Checks a network or the name of a set.
///
/// # Errors
/// Something that begins like an address and is none.
pub fn network_or_name(text: &str) -> Checked {
    let like_address = text.contains(['/', ':'])
        || (text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    if like_address {
        network(text)
    } else {
        name(text)
    }
}

/// Checks the name of a section.
///
/// # Errors
/// Empty, too long, or with a byte that would need quotes in logs and metrics.
pub fn name(text: &str) -> Checked {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-:/@+[]".contains(&b);
    if text.is_empty() || text.len() > 128 {
        return Err(Fault::malformed("is not a name: 1 to 128 characters"));
    }
    if text.bytes().all(fits) {
        Ok(())
    } else {
        Err(Fault::malformed(
            "is not a name: letters, digits and . _ - : / @ + are allowed",
        ))
    }
}

/// `stderr`, `journald`, `syslog:unix:/dev/log`, `off` or a path.
#[must_use]
pub fn parse_output(text: &str) -> Option<Output> {
    Some(match text {
        "stderr" => Output::Stderr,
        "journald" => Output::Journald,
        "off" => Output::Off,
        _ => match text.strip_prefix("syslog:") {
            Some(rest) => Output::Syslog(PathBuf::from(
                rest.strip_prefix("unix:").filter(|p| p.starts_with('/'))?,
            )),
            None if text.contains('/') => Output::File(PathBuf::from(text)),
            None => return None,
        },
    })
}

/// Checks a log output.
///
/// # Errors
/// An unknown word.
pub fn output(text: &str) -> Checked {
    match parse_output(text) {
        Some(_) => Ok(()),
        None => Err(Fault::malformed("is not a log output").help(
            "write \"stderr\", \"journald\", \"syslog:unix:/dev/log\", \"off\", or a path with a slash such as \"./access.log\"",
        )),
    }
}

/// Checks a path of a URL: begins with a slash, visible ASCII, no query.
///
/// # Errors
/// Anything else.
pub fn path(text: &str) -> Checked {
    if !text.starts_with('/') {
        return Err(Fault::new(Code::NoSlash, "does not begin with a slash")
            .help(format!("write \"/{text}\"")));
    }
    if text.contains(['?', '#']) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::malformed(
            "is not a path: visible ASCII without ? and #; everything else is percent-encoded",
        ));
    }
    Ok(())
}

/// Checks a host name or address without port.
///
/// # Errors
/// Anything else.
pub fn host(text: &str) -> Checked {
    addr::parse_host(text)
        .map(|_host| ())
        .map_err(|_e| Fault::malformed("is not a host name or IP address"))
}

/// `example.org`, `*.example.org`, `*`.
#[must_use]
pub fn parse_host_pattern(text: &str) -> Option<HostPattern> {
    if text == "*" {
        return Some(HostPattern::Any);
    }
    let (wild, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    match addr::parse_host(rest).ok()? {
        Host::Ip(ip) if !wild => Some(HostPattern::Exact(Host::Ip(ip).to_string())),
        Host::Ip(_) => None,
        Host::Name(name) if wild => Some(HostPattern::Wildcard(name)),
        Host::Name(name) => Some(HostPattern::Exact(name)),
    }
}

/// Checks a host pattern.
///
/// # Errors
/// Anything else.
pub fn host_pattern(text: &str) -> Checked {
    if parse_host_pattern(text).is_some() {
        return Ok(());
    }
    let fault = Fault::new(Code::BadHostPattern, "is not a host pattern");
    let without_port = text.rsplit_once(':').map(|(host, _)| host);
    Err(match without_port {
        Some(host) if parse_host_pattern(host).is_some() => fault.help(format!(
            "hosts are matched without their port: write \"{host}\""
        )),
        _ => fault.help(
            "write a name, an address, or a name whose first label is `*`: \"*.example.org\"",
        ),
    })
}

/// `/x`, `=/x`, `~regex`.
#[must_use]
pub fn parse_path_pattern(text: &str) -> Option<PathPattern> {
    if let Some(regex) = text.strip_prefix('~') {
        return Regex::new(regex).ok().map(PathPattern::Regex);
    }
    if let Some(exact) = text.strip_prefix('=') {
        return Some(PathPattern::Exact(exact.to_owned()));
    }
    Some(PathPattern::Prefix(text.to_owned()))
}

/// Checks a path pattern.
///
/// # Errors
/// A path without slash, or a regex that does not compile.
pub fn path_pattern(text: &str) -> Checked {
    if let Some(expression) = text.strip_prefix('~') {
        return regex(expression, 1);
    }
    path(text.strip_prefix('=').unwrap_or(text))
}

/// Checks a regular expression that begins `offset` bytes into the text.
fn regex(expression: &str, offset: usize) -> Checked {
    let Err(error) = Regex::new(expression) else {
        return Ok(());
    };
    let text = error.to_string();
    let reason = text
        .lines()
        .rev()
        .find_map(|l| l.strip_prefix("error: "))
        .unwrap_or("too large");
    let mut fault = Fault::new(Code::BadRegex, "is not a regular expression").label(reason);
    // The message of the regex crate marks the place with carets below the expression.
    if let Some(marks) = text
        .lines()
        .find(|l| l.trim_start().starts_with('^') && l.trim().bytes().all(|b| b == b'^'))
    {
        let indent = marks.len() - marks.trim_start().len();
        let start = indent.saturating_sub(4);
        let byte = |chars: usize| {
            expression
                .char_indices()
                .nth(chars)
                .map_or(expression.len(), |(i, _)| i)
        };
        let end = start + marks.trim().len();
        fault.at = Some(offset + byte(start)..offset + byte(end));
    }
    Err(fault)
}

/// Checks a method: a token of at most 32 bytes.
///
/// # Errors
/// Anything else.
pub fn method(text: &str) -> Checked {
    if is_token(text) && text.len() <= 32 {
        return Ok(());
    }
    Err(Fault::malformed("is not a method"))
}

fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

/// Checks the name of a header field.
///
/// # Errors
/// Anything but a token.
pub fn header_name(text: &str) -> Checked {
    if is_token(text) {
        return Ok(());
    }
    Err(Fault::malformed("is not a header name"))
}

/// Checks the value of a header field, which may be a template.
///
/// # Errors
/// Control characters; a template that does not compile.
pub fn header_value(text: &str) -> Checked {
    if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(Fault::malformed("holds a control character"));
    }
    let Err(error) = Template::compile(text) else {
        return Ok(());
    };
    let mut fault = Fault::malformed("is not a template").label(error.to_string());
    fault.at = Some(match &error {
        TemplateError::Unclosed(at) | TemplateError::Stray(at) => *at..*at + 1,
        TemplateError::Unknown(at, name) => *at..*at + name.len(),
    });
    if matches!(error, TemplateError::Unknown(..)) {
        fault.help = Some(format!("variables: {}", template::NAMES.join(", ")));
    }
    Err(fault)
}

/// Checks the format of the access log.
///
/// # Errors
/// A line break; an unknown field; braces that do not pair.
pub fn log_format(text: &str) -> Checked {
    if text != "combined" && text != "json" && !text.contains('{') {
        return Err(Fault::malformed("is not a log format")
            .help("write \"combined\", \"json\", or a template such as \"{client_ip} {status}\""));
    }
    if text.contains(['\n', '\r']) {
        return Err(Fault::malformed("holds a line break"));
    }
    let Err(error) = crate::log::access::Template::compile(text) else {
        return Ok(());
    };
    let mut fault = Fault::malformed("is not a log format").label(error.what.as_str());
    fault.help = error.hint.map(|h| format!("did you mean {{{h}}}?"));
    fault.at = Some(error.at..error.at + 1);
    Err(fault)
}

/// Checks `query:NAME` or `header:NAME`.
///
/// # Errors
/// Anything else.
pub fn redact(text: &str) -> Checked {
    match text.split_once(':') {
        Some(("query", name)) if !name.is_empty() => Ok(()),
        Some(("header", name)) => header_name(name),
        _ => Err(Fault::malformed("is not something to redact")
            .help("write \"query:NAME\" or \"header:NAME\"")),
    }
}

/// A value, or `~regex`.
#[must_use]
pub fn parse_value_match(text: &str) -> Option<ValueMatch> {
    match text.strip_prefix('~') {
        Some(expression) => Regex::new(expression).ok().map(ValueMatch::Regex),
        None => Some(ValueMatch::Exact(text.to_owned())),
    }
}

/// Checks the value of a condition.
///
/// # Errors
/// A regex that does not compile.
pub fn value_match(text: &str) -> Checked {
    text.strip_prefix('~').map_or(Ok(()), |e| regex(e, 1))
}

/// Checks the target of a redirect.
///
/// # Errors
/// Neither a path nor a URL.
pub fn redirect(text: &str) -> Checked {
    let known = ["/", "http://", "https://", "{"];
    if !known.iter().any(|p| text.starts_with(p)) {
        return Err(Fault::malformed("is not a target of a redirect")
            .help("write a URL or a path: \"https://example.org{uri}\""));
    }
    if text.bytes().any(|b| b <= b' ' || b >= 0x7f) {
        return Err(Fault::malformed(
            "holds a blank or a byte that is not ASCII",
        ));
    }
    header_value(text)
}

/// Checks a cause of a retry.
///
/// # Errors
/// An unknown word.
pub fn retry_on(text: &str) -> Checked {
    let status = text.parse::<u16>().is_ok_and(|s| (400..600).contains(&s));
    if status || ["connect", "reset-before-headers", "timeout"].contains(&text) {
        return Ok(());
    }
    Err(Fault::new(Code::NotAllowed, "is not a cause of a retry").help(
        "allowed here: connect, reset-before-headers, timeout, a status from 400 to 599 such as \"503\"",
    ))
}

/// `pin:sha256/` and 32 bytes in base64.
#[must_use]
pub fn parse_pin(text: &str) -> Option<[u8; 32]> {
    super::base64::decode(text.strip_prefix("pin:sha256/")?)?
        .try_into()
        .ok()
}

/// Checks a pin.
///
/// # Errors
/// Anything else.
pub fn pin(text: &str) -> Checked {
    if parse_pin(text).is_some() {
        return Ok(());
    }
    Err(if text.starts_with("pin:") {
        Fault::malformed("is not a pin: pin:sha256/ and 32 bytes in base64")
    } else {
        Fault::new(Code::NotAllowed, "is not allowed here")
            .help("allowed here: full, ca, off, pin:sha256/BASE64")
    })
}

/// What a string in `route.to` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The name of an upstream.
    Name(String),
    /// An address; `true`: with TLS.
    Server(addr::Endpoint, bool),
}

/// Tells names from addresses: whatever has a colon, and what looks like an IP address, is an address.
///
/// # Errors
/// An address that is none.
pub fn parse_target(text: &str) -> Result<Target, Fault> {
    let (rest, tls, port) = match text.split_once("://") {
        Some(("http", rest)) => (rest, false, "80"),
        Some(("https", rest)) => (rest, true, "443"),
        Some(_) => {
            return Err(Fault::malformed("has a scheme that is not known")
                .help("write http://, https://, an address or the name of an upstream"));
        }
        None if !text.contains(':') && text.parse::<IpAddr>().is_err() => {
            name(text)?;
            return Ok(Target::Name(text.to_owned()));
        }
        None => return server_address(text).map(|e| Target::Server(e, false)),
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains(['/', '?', '#', '@']) {
        return Err(Fault::malformed("has more than scheme, host and port")
            .help("change the path with strip_prefix, add_prefix or replace_prefix"));
    }
    let endpoint = match addr::Endpoint::parse(host) {
        Err(AddrError::NoPort) => addr::Endpoint::parse(&format!("{host}:{port}")),
        other => other,
    };
    endpoint
        .map(|e| Target::Server(e, tls))
        .map_err(|e| address_fault(e, "server"))
}

/// Checks a string in `route.to`.
///
/// # Errors
/// An address that is none.
pub fn target(text: &str) -> Checked {
    parse_target(text).map(|_target| ())
}

/// Parses the address of a server.
///
/// # Errors
/// What is wrong with it.
pub fn server_address(text: &str) -> Result<addr::Endpoint, Fault> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let fault = Fault::new(Code::BadAddress, "is not a server address");
        return Err(match scheme {
            "http" => fault.help(format!("write \"{}\"", rest.trim_end_matches('/'))),
            "https" => fault.help("write host:port, and `tls = true` in the upstream"),
            _ => fault.help("servers of this version are host:port or unix:/path"),
        });
    }
    if text.starts_with("srv:") {
        return Err(Fault::new(
            Code::NotBuiltIn,
            "asks for SRV records, which is not built in yet",
        )
        .help("write a name with its port: every address of it becomes a server"));
    }
    addr::Endpoint::parse(text).map_err(|e| address_fault(e, "server"))
}

/// The finding for a wrong address; `what` is `server` or `listen`.
#[must_use]
pub fn address_fault(error: AddrError, what: &str) -> Fault {
    let expected = if what == "server" {
        "expected host:port"
    } else {
        "expected address:port or :port"
    };
    match error {
        AddrError::NoPort => {
            Fault::new(Code::NoPort, format!("{what} address has no port")).label(expected)
        }
        AddrError::PortZero => Fault::new(Code::PortZero, format!("{what} address has port 0"))
            .label("not a port to connect to"),
        AddrError::BareIpv6 => Fault::new(
            Code::BareIpv6,
            format!("{what} address is an IPv6 address without brackets"),
        )
        .label("expected [address]:port"),
        AddrError::BadPort | AddrError::BadHost | AddrError::BadPath => Fault::new(
            Code::BadAddress,
            format!("this is not a {what} address: {error}"),
        )
        .label(expected),
    }
    .whole()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_or_an_address() {
        let server = |t: &str, tls| Ok(Target::Server(addr::Endpoint::parse(t).unwrap(), tls));
        assert_eq!(parse_target("app"), Ok(Target::Name("app".into())));
        assert_eq!(parse_target("api.v2"), Ok(Target::Name("api.v2".into())));
        assert_eq!(parse_target("10.0.0.1:80"), server("10.0.0.1:80", false));
        assert_eq!(
            parse_target("unix:/run/a.sock"),
            server("unix:/run/a.sock", false)
        );
        assert_eq!(
            parse_target("http://127.0.0.1:9000"),
            server("127.0.0.1:9000", false)
        );
        assert_eq!(
            parse_target("https://a.example/"),
            server("a.example:443", true)
        );
        assert_eq!(parse_target("10.0.0.2").unwrap_err().code, Code::NoPort);
        assert_eq!(parse_target("::1").unwrap_err().code, Code::BareIpv6);
        assert_eq!(parse_target("ftp://a:1").unwrap_err().code, Code::Malformed);
        assert_eq!(
            parse_target("http://a/b").unwrap_err().code,
            Code::Malformed
        );
    }

    #[test]
    fn a_broken_regex_is_marked_where_it_breaks() {
        let fault = path_pattern("~^/v[0-9/").unwrap_err();
        assert_eq!(fault.code, Code::BadRegex);
        assert_eq!(fault.at, Some(4..5));
        assert_eq!(fault.label.as_deref(), Some("unclosed character class"));
        assert!(path_pattern("~^/v[0-9]/").is_ok());
    }

    #[test]
    fn host_patterns() {
        assert_eq!(
            parse_host_pattern("Example.ORG."),
            Some(HostPattern::Exact("example.org".into()))
        );
        assert_eq!(
            parse_host_pattern("*.example.org"),
            Some(HostPattern::Wildcard("example.org".into()))
        );
        assert_eq!(parse_host_pattern("*"), Some(HostPattern::Any));
        for wrong in ["a.*.org", "*.10.0.0.1", "", "a b", "*example.org"] {
            assert_eq!(parse_host_pattern(wrong), None, "{wrong}");
        }
        let help = host_pattern("example.org:8080").unwrap_err().help.unwrap();
        assert!(help.contains("\"example.org\""), "{help}");
    }

    #[test]
    fn templates_know_their_variables() {
        for good in ["{host} {uri}", "x", "{{x}}", "{{{host}}}"] {
            assert!(header_value(good).is_ok(), "{good}");
        }
        for bad in ["{host", "a}", "{a{b}}", "}{", "a\nb"] {
            assert!(header_value(bad).is_err(), "{bad}");
        }
        let fault = header_value("for {hst}").unwrap_err();
        assert_eq!(fault.at, Some(5..8));
        assert!(log_format("{client_ip} {status}").is_ok());
        assert_eq!(log_format("{client_ip} {x}").unwrap_err().at, Some(13..14));
        assert!(log_format("combine").is_err());
    }

    #[test]
    fn networks_and_names_of_sets() {
        for good in ["10.0.0.0/8", "::1", "lan", "link-local", "1.2.3.4"] {
            assert!(network_or_name(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0/8", "1.2.3", "fd00::/200", "a b", ""] {
            assert!(network_or_name(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_network("10.1.2.3/8").unwrap().to_string(),
            "10.0.0.0/8"
        );
    }

    #[test]
    fn log_outputs() {
        assert_eq!(
            parse_output("syslog:unix:/dev/log"),
            Some(Output::Syslog("/dev/log".into()))
        );
        assert_eq!(
            parse_output("/var/log/x"),
            Some(Output::File("/var/log/x".into()))
        );
        assert_eq!(parse_output("sdterr"), None);
        assert_eq!(parse_output("syslog:udp:1.2.3.4"), None);
    }

    #[test]
    fn pins_are_32_bytes() {
        assert!(pin("pin:sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").is_ok());
        assert_eq!(pin("pin:sha256/AAAA").unwrap_err().code, Code::Malformed);
        assert_eq!(pin("nothing").unwrap_err().code, Code::NotAllowed);
    }
}
