//! From a server's address to a connection: names are resolved, addresses tried in turn, TLS is
//! spoken where the upstream asks for it. One deadline for connecting, one for the handshake.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::base::addr::{Endpoint, Host};
use crate::base::reason::Reason;
use crate::net::Conn;
use crate::net::resolve::{Answer, Failure, Resolver};
use crate::net::tls::client::{Client as TlsClient, Sessions};
use crate::rt;
use crate::rt::sock::ConnectOpts;

/// When an idle connection to a server is probed, so that a dead peer is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The addresses of a name, looked up again by their time to live. They never become fewer than
/// one once there was an answer: the resolver keeps the last good one.
struct Named {
    name: String,
    port: u16,
    resolver: Rc<Resolver>,
    known: RefCell<Rc<[IpAddr]>>,
    turn: Cell<usize>,
}

/// Where a server is, in the form in which it is connected to.
enum Place {
    Address(SocketAddr),
    Name(Rc<Named>),
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
            } => Place::Name(Rc::new(Named {
                name: name.clone(),
                port: *port,
                resolver: Rc::clone(resolver),
                known: RefCell::new(Rc::from([])),
                turn: Cell::new(0),
            })),
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

    /// Keeps the addresses of a name up to date, as a task of its own.
    pub fn follow(&self) {
        let Place::Name(named) = &self.place else {
            return;
        };
        let (weak, resolver) = (Rc::downgrade(named), Rc::clone(&named.resolver));
        let name = named.name.clone();
        rt::spawn(async move {
            let update = |outcome: &Result<Answer, Failure>| {
                if let (Some(named), Ok(answer)) = (weak.upgrade(), outcome) {
                    *named.known.borrow_mut() = Rc::clone(&answer.addrs);
                }
            };
            resolver.follow(&name, update).await;
        })
        .detach();
    }

    /// The address whose turn it is; `None` where there is only one, or none known yet.
    #[must_use]
    pub fn next(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Address(_) | Place::Unix(_) => None,
            Place::Name(named) => {
                let known = named.known.borrow();
                let turn = named.turn.get();
                named.turn.set(turn.wrapping_add(1));
                let ip = known.get(turn.checked_rem(known.len())?)?;
                Some((*ip, named.port).into())
            }
        }
    }

    /// Whether a connection to the address still leads to this server.
    #[must_use]
    pub fn is_current(&self, addr: Option<SocketAddr>) -> bool {
        match (&self.place, addr) {
            (Place::Name(named), Some(addr)) => named.known.borrow().contains(&addr.ip()),
            _ => true,
        }
    }

    /// A new connection, to `wanted` if that can be reached, and where it leads.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(
        &self,
        wanted: Option<SocketAddr>,
        timeout: Duration,
        tls_timeout: Duration,
    ) -> Result<(Conn, Option<SocketAddr>), Reason> {
        let (conn, addr) = match rt::timeout(timeout, self.open(wanted)).await {
            Err(_elapsed) => return Err(Reason::ConnectTimeout),
            Ok(outcome) => outcome?,
        };
        let Some((tls, sessions)) = &self.tls else {
            return Ok((conn, addr));
        };
        let mut stream = match tls.connect(conn, &self.endpoint, sessions) {
            Ok(stream) => stream,
            Err(error) => return Err(self.tls_failed(&error.0)),
        };
        match stream.handshake(tls_timeout).await {
            Ok(()) => Ok((Conn::Tls(Box::new(stream)), addr)),
            Err(failure) => Err(self.tls_failed(&failure.detail)),
        }
    }

    fn tls_failed(&self, detail: &str) -> Reason {
        log::warn!(target: "proxyd::upstream", "TLS with {}: {detail}", self.authority);
        Reason::UpstreamTls
    }

    async fn open(&self, wanted: Option<SocketAddr>) -> Result<(Conn, Option<SocketAddr>), Reason> {
        let failed = |_error| Reason::UpstreamConnect;
        match &self.place {
            Place::Address(addr) => {
                let conn = Conn::tcp(*addr, &self.options).await.map_err(failed)?;
                Ok((conn, Some(*addr)))
            }
            Place::Unix(path) => Ok((Conn::unix(path).await.map_err(failed)?, None)),
            Place::Name(named) => {
                let found = named.resolver.lookup(&named.name).await;
                let addresses = found.map_err(|_failure| Reason::ResolveFailed)?.addrs;
                *named.known.borrow_mut() = Rc::clone(&addresses);
                let first = wanted.and_then(|w| addresses.iter().position(|ip| *ip == w.ip()));
                let mut last = Reason::ResolveFailed;
                let (before, from) = addresses.split_at(first.unwrap_or(0));
                for ip in from.iter().chain(before) {
                    let addr = (*ip, named.port).into();
                    match Conn::tcp(addr, &self.options).await {
                        Ok(conn) => return Ok((conn, Some(addr))),
                        Err(error) => last = failed(error),
                    }
                }
                Err(last)
            }
        }
    }
}
