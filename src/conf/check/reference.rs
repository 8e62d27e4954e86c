//! What is defined and used by nobody.

use std::collections::BTreeSet;

use crate::conf::build::Draft;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::http::params::Action;

/// Reports unused sections, listeners without routes, and a file without listeners.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    upstreams(draft, findings);
    certificates(draft, findings);
    sets(draft, findings);
    listeners(draft, findings);
}

fn upstreams(draft: &Draft<'_>, findings: &mut Findings) {
    let mut used = BTreeSet::new();
    for route in &draft.routes {
        if let Action::Forward(targets) = &route.value.action {
            used.extend(targets.iter().map(|t| t.upstream.as_str()));
        }
    }
    for upstream in draft.upstreams.iter().filter(|u| !u.derived) {
        let name = upstream.value.name.as_str();
        if !used.contains(name) && !name.is_empty() {
            findings.push(Finding::new(
                Code::UnusedUpstream,
                upstream.place,
                format!("no route uses upstream `{name}`"),
            ));
        }
    }
}

fn certificates(draft: &Draft<'_>, findings: &mut Findings) {
    let mut used = BTreeSet::new();
    for tls in draft.listeners.iter().filter_map(|l| l.value.tls.as_ref()) {
        used.extend(tls.certificates.iter().map(String::as_str));
    }
    for tls in draft.upstreams.iter().filter_map(|u| u.value.tls.as_ref()) {
        used.extend(tls.client_certificate.as_deref());
    }
    for certificate in draft.certificates.iter().filter(|c| !c.derived) {
        let name = certificate.value.name.as_str();
        if !used.contains(name) {
            findings.push(Finding::new(
                Code::UnusedCertificate,
                certificate.place,
                format!("nothing uses certificate `{name}`"),
            ));
        }
    }
}

fn sets(draft: &Draft<'_>, findings: &mut Findings) {
    let Some(table) = draft.root.sub("sets").table() else {
        return;
    };
    for entry in &table.entries {
        if !draft.used_sets.contains(&entry.key) {
            findings.push(Finding::new(
                Code::UnusedSet,
                entry.key_place,
                format!("nothing uses set `{}`", entry.key),
            ));
        }
    }
}

fn listeners(draft: &Draft<'_>, findings: &mut Findings) {
    if draft.listeners.is_empty() {
        findings.push(
            Finding::new(
                Code::NoListeners,
                Place::default(),
                "the configuration has no listener, so nothing is served",
            )
            .help("add [[listener]] with bind = \":80\""),
        );
    }
    for listener in &draft.listeners {
        let http = &listener.value.http;
        let served = draft.routes.iter().any(|r| {
            let names = &r.value.matcher.listeners;
            names.is_empty() || names.contains(&http.name)
        });
        if !served && !http.redirect_to_https {
            findings.push(
                Finding::new(
                    Code::NoRoutes,
                    listener.place,
                    format!("no route applies to listener `{}`", http.name),
                )
                .label("every request will be answered with 404"),
            );
        }
    }
}
