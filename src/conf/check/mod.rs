//! What goes beyond the shape of single values: references, addresses, routes against each other,
//! numbers against each other, safety, certificates, and (when asked) this host and the network.

mod address;
mod host;
mod number;
mod probe;
mod reference;
mod route;
mod safety;
mod tls;

use super::build::Draft;
use super::finding::Findings;

/// How far checking goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Ask this host: users, folders, limits, addresses, files of certificates.
    pub host: bool,
    /// Look who holds the ports: slow on a host with many connections, and useless at a start,
    /// which learns it by binding.
    pub ports: bool,
    /// Resolve names and connect to servers.
    pub probe: bool,
}

/// Runs all checks over a draft.
pub fn run(draft: &Draft<'_>, options: Options, findings: &mut Findings) {
    // What is unused because a name is wrong is not worth a second finding.
    if !findings.has_errors() {
        reference::check(draft, findings);
    }
    address::check(draft, options, findings);
    route::check(draft, findings);
    number::check(draft, findings);
    safety::check(draft, findings);
    if options.host {
        host::check(draft, findings);
        tls::check(draft, findings);
    }
    if options.probe {
        probe::check(draft, findings);
    }
}
