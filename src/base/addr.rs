//! Addresses as people write them: where to listen and where to connect.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// The host part of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name, lower case, without a trailing dot.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `host:port`.
    Tcp {
        /// Name or literal.
        host: Host,
        /// 1 to 65535.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAddr {
    /// One address and port. Port 0 lets the kernel choose.
    Ip(SocketAddr),
    /// `:port`: IPv4 and IPv6 on one dual-stack socket (IPv4 alone where there is no IPv6).
    Any(u16),
    /// `unix:/path`.
    Unix(PathBuf),
    /// `fd:name`: a descriptor of systemd socket activation.
    Inherited(String),
}

impl fmt::Display for BindAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => write!(f, "{addr}"),
            Self::Any(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "fd:{name}"),
        }
    }
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrError {
    /// No `:port` at the end.
    NoPort,
    /// The port is not a number from 0 to 65535.
    BadPort,
    /// Port 0 where a real one is needed.
    PortZero,
    /// An IPv6 literal without brackets.
    BareIpv6,
    /// Neither an address nor a valid host name.
    BadHost,
    /// `unix:` without an absolute path, or `fd:` without a name.
    BadPath,
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "address has no port",
            Self::BadPort => "the port is not a number from 1 to 65535",
            Self::PortZero => "port 0 is not an address to connect to",
            Self::BareIpv6 => "an IPv6 address needs brackets, for example [::1]:80",
            Self::BadHost => "not an IP address or host name",
            Self::BadPath => "needs an absolute path after unix:, or a name after fd:",
        })
    }
}

/// Splits `host:port`; the host may be empty, and is without brackets for IPv6.
fn split(text: &str) -> Result<(&str, u16, bool), AddrError> {
    let (host, port, bracketed) = if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or(AddrError::BadHost)?;
        (host, tail.strip_prefix(':').ok_or(AddrError::NoPort)?, true)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or(AddrError::NoPort)?;
        if host.contains(':') {
            return Err(AddrError::BareIpv6);
        }
        (host, port, false)
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddrError::BadPort);
    }
    Ok((
        host,
        port.parse().map_err(|_e| AddrError::BadPort)?,
        bracketed,
    ))
}

/// Parses a host name or literal (an IPv6 literal with or without brackets).
///
/// # Errors
/// `BadHost` for anything else.
pub fn parse_host(text: &str) -> Result<Host, AddrError> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(v6) = inner {
        return v6
            .parse::<Ipv6Addr>()
            .map(|ip| Host::Ip(ip.into()))
            .map_err(|_e| AddrError::BadHost);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_ok = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let all_digits = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if name.len() > 253 || all_digits || !name.split('.').all(label_ok) {
        return Err(AddrError::BadHost);
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

impl Endpoint {
    /// Parses `host:port`, `[v6]:port` or `unix:/path`.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(AddrError::BadPath)
            };
        }
        let (host, port, bracketed) = split(text)?;
        if port == 0 {
            return Err(AddrError::PortZero);
        }
        let host = if bracketed {
            parse_host(&format!("[{host}]"))?
        } else {
            parse_host(host)?
        };
        Ok(Self::Tcp { host, port })
    }
}

impl BindAddr {
    /// Parses `ip:port`, `[v6]:port`, `:port`, `*:port`, `localhost:port`, `unix:/path`, `fd:name`.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(AddrError::BadPath)
            };
        }
        if let Some(name) = text.strip_prefix("fd:") {
            return if name.is_empty() {
                Err(AddrError::BadPath)
            } else {
                Ok(Self::Inherited(name.to_owned()))
            };
        }
        let (host, port, bracketed) = split(text)?;
        match (host, bracketed) {
            ("" | "*", false) => Ok(Self::Any(port)),
            ("localhost", false) => Ok(Self::Ip((Ipv4Addr::LOCALHOST, port).into())),
            (v6, true) => v6
                .parse::<Ipv6Addr>()
                .map(|ip| Self::Ip((ip, port).into()))
                .map_err(|_e| AddrError::BadHost),
            (v4, false) => v4
                .parse::<Ipv4Addr>()
                .map(|ip| Self::Ip((ip, port).into()))
                .map_err(|_e| AddrError::BadHost),
        }
    }

    /// The port, where there is one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(addr) => Some(addr.port()),
            Self::Any(port) => Some(*port),
            Self::Unix(_) | Self::Inherited(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_round_trip() {
        for text in [
            "10.0.0.1:80",
            "[::1]:8080",
            "api.internal:443",
            "unix:/run/x.sock",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Endpoint::parse("API.Internal.:1").unwrap().to_string(),
            "api.internal:1"
        );
    }

    #[test]
    fn each_fault_of_an_endpoint_has_its_name() {
        for (text, error) in [
            ("10.0.0.2", AddrError::NoPort),
            ("h:", AddrError::BadPort),
            ("h:70000", AddrError::BadPort),
            ("h:+80", AddrError::BadPort),
            ("h:0", AddrError::PortZero),
            ("::1:80", AddrError::BareIpv6),
            ("1.2.3:80", AddrError::BadHost),
            ("-a.b:80", AddrError::BadHost),
            (":80", AddrError::BadHost),
            ("unix:rel", AddrError::BadPath),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn bind_addresses_round_trip() {
        for text in [
            "0.0.0.0:443",
            "[::]:443",
            ":443",
            "unix:/run/x.sock",
            "fd:web",
            "127.0.0.1:0",
        ] {
            assert_eq!(BindAddr::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(BindAddr::parse("*:80"), Ok(BindAddr::Any(80)));
        assert_eq!(BindAddr::parse("example.org:80"), Err(AddrError::BadHost));
    }
}
