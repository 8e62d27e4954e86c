//! Addresses to listen on: against each other, and against this host.

use std::net::{IpAddr, SocketAddr};

use super::Options;
use crate::base::addr::BindAddr;
use crate::conf::build::Draft;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::conf::kernel;

/// An address and where it is written.
struct Bound {
    bind: BindAddr,
    place: Place,
}

/// Reports addresses that cannot be bound together, or not here.
pub(super) fn check(draft: &Draft<'_>, options: Options, findings: &mut Findings) {
    let all = collect(draft);
    for (index, one) in all.iter().enumerate() {
        if one.bind.port() == Some(0) {
            findings.push(
                Finding::new(
                    Code::KernelPort,
                    one.place,
                    "port 0 lets the kernel choose a port at each start",
                )
                .help("write a port, unless this is a test"),
            );
            continue;
        }
        for earlier in all.iter().take(index) {
            pair(earlier, one, findings);
        }
    }
    if options.host {
        here(&all, findings);
    }
    if options.ports {
        held(&all, findings);
    }
}

fn collect(draft: &Draft<'_>) -> Vec<Bound> {
    let mut all = Vec::new();
    let metrics = draft.root.sub("metrics");
    let tables = draft
        .listeners
        .iter()
        .map(|l| crate::conf::view::View::new(l.table));
    for view in tables.chain(std::iter::once(metrics)) {
        for node in view.nodes("bind") {
            if let Some(bind) = node.text().and_then(|t| BindAddr::parse(t).ok()) {
                all.push(Bound {
                    bind,
                    place: node.place,
                });
            }
        }
    }
    all.sort_by_key(|b| b.place);
    all
}

fn pair(earlier: &Bound, later: &Bound, findings: &mut Findings) {
    if earlier.bind == later.bind {
        findings.push(
            Finding::new(
                Code::SameAddress,
                later.place,
                format!("{} is listened on twice", later.bind),
            )
            .also(earlier.place, "first used here")
            .help("write one listener and give its routes different hosts or paths"),
        );
    } else if overlap(&earlier.bind, &later.bind) {
        findings.push(
            Finding::new(
                Code::Overlap,
                later.place,
                format!("{} overlaps with {}", later.bind, earlier.bind),
            )
            .also(earlier.place, "the other address")
            .help("write single addresses in both places"),
        );
    }
}

fn overlap(a: &BindAddr, b: &BindAddr) -> bool {
    let covers = |wide: &BindAddr, narrow: &BindAddr| match (wide, narrow) {
        (BindAddr::Any(p), BindAddr::Ip(addr)) => *p == addr.port(),
        (BindAddr::Ip(wide), BindAddr::Ip(narrow)) => {
            wide.port() == narrow.port()
                && wide.ip().is_unspecified()
                && wide.is_ipv4() == narrow.is_ipv4()
        }
        _ => false,
    };
    covers(a, b) || covers(b, a)
}

fn here(all: &[Bound], findings: &mut Findings) {
    let low = kernel::lowest_free_port();
    let own = kernel::addresses();
    for one in all {
        let port = one.bind.port().unwrap_or(0);
        if port != 0 && port < low {
            findings.push(
                Finding::new(
                    Code::LowPort,
                    one.place,
                    format!("port {port} needs root or CAP_NET_BIND_SERVICE"),
                )
                .help(format!("start proxyd as root, or use a port from {low}")),
            );
        }
        if let BindAddr::Ip(addr) = &one.bind
            && !is_here(addr.ip(), own.as_deref())
        {
            findings.push(Finding::new(
                Code::ForeignAddress,
                one.place,
                format!("no interface of this host has the address {}", addr.ip()),
            ));
        }
    }
}

fn held(all: &[Bound], findings: &mut Findings) {
    let taken = kernel::foreign_listeners();
    for one in all {
        if let Some((pid, name)) = holder(&one.bind, &taken) {
            findings.push(
                Finding::new(
                    Code::PortTaken,
                    one.place,
                    format!("{} is held by process {pid} ({name})", one.bind),
                )
                .help("stop it, or choose another address"),
            );
        }
    }
}

/// Whether an address can be bound here, as far as is known.
fn is_here(ip: IpAddr, own: Option<&[IpAddr]>) -> bool {
    ip.is_unspecified() || ip.is_loopback() || own.is_none_or(|list| list.contains(&ip))
}

fn holder<'a>(bind: &BindAddr, taken: &'a [(SocketAddr, u32, String)]) -> Option<(u32, &'a str)> {
    taken
        .iter()
        .find(|(addr, _, _)| {
            let theirs = BindAddr::Ip(*addr);
            theirs == *bind || overlap(&theirs, bind)
        })
        .map(|(_, pid, name)| (*pid, name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_overlap_with_addresses_of_their_family() {
        let at = |t: &str| BindAddr::parse(t).unwrap();
        for (a, b, expected) in [
            (":80", "127.0.0.1:80", true),
            (":80", "[::1]:80", true),
            (":80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("10.0.0.1:80", "10.0.0.2:80", false),
            (":80", "10.0.0.1:81", false),
            ("unix:/a", "unix:/b", false),
        ] {
            assert_eq!(overlap(&at(a), &at(b)), expected, "{a} {b}");
            assert_eq!(overlap(&at(b), &at(a)), expected, "{b} {a}");
        }
    }
}
