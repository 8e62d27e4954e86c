//! `--probe`: do names resolve, do servers take connections? Only warnings, for both may change
//! at any time; nothing is sent.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::base::addr::{Endpoint, Host};
use crate::conf::build::{Draft, Part};
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::upstream::params::{ServerAddress, UpstreamParams};

const CONNECT: Duration = Duration::from_secs(3);

/// Tries every server of every upstream.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    for upstream in &draft.upstreams {
        for server in &upstream.value.servers {
            if let ServerAddress::Endpoint(endpoint) = &server.address {
                let place = place(upstream, endpoint);
                findings_of(endpoint, place, findings);
            }
        }
    }
}

/// Where the address is written.
fn place(upstream: &Part<'_, UpstreamParams>, endpoint: &Endpoint) -> Place {
    let wanted = endpoint.to_string();
    let rows = upstream
        .table
        .get("server")
        .map(|n| n.elements())
        .unwrap_or_default();
    let lists = ["servers", "to"]
        .iter()
        .filter_map(|k| upstream.table.get(k))
        .flat_map(|n| n.elements());
    rows.iter()
        .filter_map(|row| row.table()?.get("address"))
        .chain(lists)
        .find(|n| n.text() == Some(wanted.as_str()))
        .map_or(upstream.place, |n| n.place)
}

fn findings_of(endpoint: &Endpoint, place: Place, findings: &mut Findings) {
    let unreachable = |reason: &std::io::Error| {
        let reason = crate::conf::include::reason(reason);
        Finding::new(
            Code::Unreachable,
            place,
            format!("cannot connect to {endpoint}: {reason}"),
        )
    };
    match endpoint {
        Endpoint::Unix(path) => {
            if let Err(error) = UnixStream::connect(path) {
                findings.push(unreachable(&error));
            }
        }
        Endpoint::Tcp { host, port } => {
            let name = match host {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name.clone(),
            };
            let addresses: Vec<_> = (name.as_str(), *port)
                .to_socket_addrs()
                .map(Iterator::collect)
                .unwrap_or_default();
            if addresses.is_empty() {
                findings.push(Finding::new(
                    Code::Unresolved,
                    place,
                    format!("name `{host}` does not resolve"),
                ));
            }
            for address in addresses {
                if let Err(error) = TcpStream::connect_timeout(&address, CONNECT) {
                    findings.push(unreachable(&error));
                }
            }
        }
    }
}
