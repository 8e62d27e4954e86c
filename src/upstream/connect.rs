//! From a server's address to a connection: names are resolved, addresses tried in turn, TLS is
//! spoken where the upstream asks for it. One deadline for connecting, one for the handshake.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::base::addr::{Endpoint, Host};
use crate::base::reason::Reason;
use crate::net::Conn;
use crate::net::resolve::Resolver;
use crate::net::tls::client::{Client as TlsClient, Sessions};
use crate::rt;
use crate::rt::sock::ConnectOpts;

/// When an idle connection to a server is probed, so that a dead peer is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where a server is, in the form in which it is connected to.
enum Place {
    Address(SocketAddr),
    Name {
        name: String,
        port: u16,
        resolver: Rc<Resolver>,
        turn: Cell<usize>,
    },
    Unix(PathBuf),
}

/// Connects to one server.
pub struct Connector {
    place: Place,
    authority: String,
    options: ConnectOpts,
    endpoint: Endpoint,
    tls: Option<(Rc<TlsClient>, Sessions)>,
}

impl Connector {
    /// A connector to `endpoint`, from the source address if one is given, with TLS if it is
    /// asked for.
    #[must_use]
    pub fn new(
        endpoint: &Endpoint,
        resolver: &Rc<Resolver>,
        source: Option<IpAddr>,
        tls: Option<Rc<TlsClient>>,
    ) -> Self {
        let place = match endpoint {
            Endpoint::Unix(path) => Place::Unix(path.clone()),
            Endpoint::Tcp {
                host: Host::Ip(ip),
                port,
            } => Place::Address((*ip, *port).into()),
            Endpoint::Tcp {
                host: Host::Name(name),
                port,
            } => Place::Name {
                name: name.clone(),
                port: *port,
                resolver: Rc::clone(resolver),
                turn: Cell::new(0),
            },
        };
        let default = if tls.is_some() { 443 } else { 80 };
        let authority = match endpoint {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp { host, port } if *port == default => host.to_string(),
            Endpoint::Tcp { host, port } => format!("{host}:{port}"),
        };
        Self {
            place,
            authority,
            options: ConnectOpts {
                source,
                keepalive: Some(KEEPALIVE),
            },
            endpoint: endpoint.clone(),
            tls: tls.map(|tls| (tls, Sessions::new())),
        }
    }

    /// What stands in a Host field for this server.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority.clone()
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, timeout: Duration, tls_timeout: Duration) -> Result<Conn, Reason> {
        let conn = match rt::timeout(timeout, self.open()).await {
            Err(_elapsed) => return Err(Reason::ConnectTimeout),
            Ok(outcome) => outcome?,
        };
        let Some((tls, sessions)) = &self.tls else {
            return Ok(conn);
        };
        let mut stream = match tls.connect(conn, &self.endpoint, sessions) {
            Ok(stream) => stream,
            Err(error) => return Err(self.tls_failed(&error.0)),
        };
        match stream.handshake(tls_timeout).await {
            Ok(()) => Ok(Conn::Tls(Box::new(stream))),
            Err(failure) => Err(self.tls_failed(&failure.detail)),
        }
    }

    fn tls_failed(&self, detail: &str) -> Reason {
        log::warn!(target: "proxyd::upstream", "TLS with {}: {detail}", self.authority);
        Reason::UpstreamTls
    }

    async fn open(&self) -> Result<Conn, Reason> {
        let failed = |_error| Reason::UpstreamConnect;
        match &self.place {
            Place::Address(addr) => Conn::tcp(*addr, &self.options).await.map_err(failed),
            Place::Unix(path) => Conn::unix(path).await.map_err(failed),
            Place::Name {
                name,
                port,
                resolver,
                turn,
            } => {
                let found = resolver.lookup(name).await;
                let addresses = found.map_err(|_failure| Reason::ResolveFailed)?.addrs;
                let first = turn.get();
                turn.set(first.wrapping_add(1));
                let mut last = Reason::ResolveFailed;
                for step in 0..addresses.len() {
                    let Some(ip) = addresses.get((first + step) % addresses.len()) else {
                        continue;
                    };
                    match Conn::tcp((*ip, *port).into(), &self.options).await {
                        Ok(conn) => return Ok(conn),
                        Err(error) => last = failed(error),
                    }
                }
                Err(last)
            }
        }
    }
}
