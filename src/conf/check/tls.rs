//! The files of certificates, keys, CAs and revocation lists, and whether the hosts of routes are
//! covered. What can be wrong with a file is known by `net::tls`; here it gets its code and place.

use std::path::Path;
use std::time::Duration;

use crate::conf::build::{Draft, Part};
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::conf::model::Listener;
use crate::conf::view::View;
use crate::http::params::HostPattern;
use crate::net::tls::fault::Fault;
use crate::net::tls::load::{self, Context, Loaded};
use crate::net::tls::params::CertificateParams;
use crate::net::tls::ticket::SECRET_BYTES_MIN;
use crate::net::tls::trust::{self, SystemRoots};
use crate::sys::wall;

/// The certificates of a draft as loaded, by name.
type All<'d> = Vec<(&'d str, Loaded)>;

/// Reports what is wrong with files, and hosts without certificate.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    let now = i64::try_from(wall::now().as_secs()).unwrap_or(i64::MAX);
    let roots = SystemRoots::load();
    let context = Context {
        now,
        roots: &roots.subjects,
        state_dir: None,
    };
    let mut all = All::new();
    for certificate in &draft.certificates {
        let loaded = load::load(&certificate.value, None, context);
        for finding in &loaded.findings {
            findings.push(of_certificate(certificate, &loaded, finding, now));
        }
        all.push((certificate.value.name.as_str(), loaded));
    }
    for listener in &draft.listeners {
        client_auth(listener, now, findings);
        ticket_keys(listener, findings);
        covered(draft, listener, &all, findings);
    }
    upstream_cas(draft, now, findings);
}

fn of_certificate(
    certificate: &Part<'_, CertificateParams>,
    loaded: &Loaded,
    finding: &load::Finding,
    now: i64,
) -> Finding {
    let name = &certificate.value.name;
    let place = place_of(certificate, finding.part);
    let file = match finding.part {
        load::Part::Dir if finding.path.as_os_str().is_empty() => String::new(),
        load::Part::Dir | load::Part::Key | load::Part::Chain => {
            format!(" ({})", finding.path.display())
        }
        _ => String::new(),
    };
    if let Fault::ExpiresSoon { position: 1, left } = finding.fault {
        let when = date(now.saturating_add(left));
        let hosts: Vec<&str> = loaded.hosts().take(4).collect();
        return Finding::new(
            code(&finding.fault),
            place,
            format!("certificate `{name}` expires in {} ({when})", days(left)),
        )
        .label(format!("covers {}", hosts.join(", ")));
    }
    Finding::new(
        code(&finding.fault),
        place,
        format!("certificate `{name}`: {}{file}", finding.fault),
    )
}

/// Where a certificate, or the part of a listener that names it, is written.
fn place_of(certificate: &Part<'_, CertificateParams>, part: load::Part) -> Place {
    let key = match part {
        load::Part::Key => "key",
        load::Part::Dir => "dir",
        load::Part::SelfSigned => "self_signed",
        _ => "cert",
    };
    let own = View::new(certificate.table);
    let inline = own.sub("tls");
    [own, inline]
        .iter()
        .find_map(|v| v.node(key))
        .or_else(|| [own, inline].iter().find_map(|v| v.node("cert")))
        .or_else(|| own.node("dir"))
        .map_or(certificate.place, |n| n.place)
}

fn days(seconds: i64) -> String {
    match seconds / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        n => format!("{n} days"),
    }
}

fn date(seconds: i64) -> String {
    let mut text = Vec::new();
    let wall = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    crate::log::calendar::Cache::default().iso(&mut text, wall);
    String::from_utf8_lossy(text.get(..10).unwrap_or_default()).into_owned()
}

/// The code of a fault; its letter has to agree with the fault's own severity.
const fn code(fault: &Fault) -> Code {
    match fault {
        Fault::Missing | Fault::Unreadable(_) | Fault::TooLarge => Code::TlsFile,
        Fault::NotPem { .. }
        | Fault::NoCertificate
        | Fault::NoKey
        | Fault::NoCrl
        | Fault::KeyEncrypted
        | Fault::BadKey
        | Fault::BadCertificate { .. }
        | Fault::TooMany { .. }
        | Fault::BadCrl
        | Fault::BadHost(_)
        | Fault::NoVersion
        | Fault::NoRoots
        | Fault::NoSuchCertificate(_)
        | Fault::CannotGenerate(_) => Code::TlsFormat,
        Fault::KeyMismatch => Code::KeyMismatch,
        Fault::OutOfOrder { .. } | Fault::Gap { .. } => Code::ChainOrder,
        Fault::Incomplete { .. } => Code::Chain,
        Fault::ExpiresSoon { .. } => Code::ExpiresSoon,
        Fault::Expired { .. } | Fault::NotYetValid { .. } => Code::Expired,
        Fault::WeakKey { .. } | Fault::WeakSignature { .. } => Code::WeakKey,
        Fault::NoNames => Code::NoNames,
        Fault::CaExpired { .. } => Code::CaExpired,
        Fault::CrlExpired { .. } | Fault::CrlOfAnotherCa { .. } => Code::CrlExpired,
        Fault::EmptyDir => Code::EmptyDir,
    }
}

fn client_auth(listener: &Part<'_, Listener>, now: i64, findings: &mut Findings) {
    let tls = listener.value.tls.as_ref();
    let Some(auth) = tls.and_then(|t| t.client_auth.as_ref()) else {
        return;
    };
    let view = View::new(listener.table).sub("tls_client_auth");
    for finding in trust::load(&auth.ca, &auth.crl, now).findings {
        let node = match finding.part {
            load::Part::Crl => {
                let index = auth.crl.iter().position(|p| *p == finding.path);
                index.and_then(|i| view.nodes("crl").get(i))
            }
            _ => view.node("ca"),
        };
        findings.push(Finding::new(
            code(&finding.fault),
            node.map_or(listener.place, |n| n.place),
            format!("{}: {}", finding.path.display(), finding.fault),
        ));
    }
}

fn ticket_keys(listener: &Part<'_, Listener>, findings: &mut Findings) {
    let tls = listener.value.tls.as_ref();
    let Some(path) = tls.and_then(|t| t.tickets.key_file.as_deref()) else {
        return;
    };
    let place = listener.at_in("session_tickets", "key_file");
    let name = path.display();
    match load::read(path) {
        Err(fault) => findings.push(Finding::new(
            code(&fault),
            place,
            format!("{name}: {fault}"),
        )),
        Ok(bytes) if bytes.len() < SECRET_BYTES_MIN => findings.push(
            Finding::new(
                Code::TlsFormat,
                place,
                format!("{name}: the file has less than {SECRET_BYTES_MIN} bytes"),
            )
            .help(format!("make it with: head -c 64 /dev/urandom > {name}")),
        ),
        Ok(_) => {}
    }
}

fn upstream_cas(draft: &Draft<'_>, now: i64, findings: &mut Findings) {
    for upstream in &draft.upstreams {
        let tls = upstream.value.tls.as_ref();
        let Some(ca) = tls.and_then(|t| t.ca.as_deref()) else {
            continue;
        };
        for fault in faults_of_ca(ca, now) {
            findings.push(Finding::new(
                code(&fault),
                upstream.at_in("tls", "ca"),
                format!("{}: {fault}", ca.display()),
            ));
        }
    }
}

fn faults_of_ca(path: &Path, now: i64) -> Vec<Fault> {
    match load::read(path) {
        Ok(bytes) => trust::inspect_ca(&bytes, now),
        Err(fault) => vec![fault],
    }
}

/// Reports hosts of routes that no certificate of a TLS listener is for.
fn covered(
    draft: &Draft<'_>,
    listener: &Part<'_, Listener>,
    all: &All<'_>,
    findings: &mut Findings,
) {
    let Some(tls) = &listener.value.tls else {
        return;
    };
    let loaded: Vec<&Loaded> = all
        .iter()
        .filter(|(name, _)| tls.certificates.iter().any(|c| c == name))
        .map(|(_, loaded)| loaded)
        .collect();
    let known: Vec<&str> = loaded.iter().flat_map(|l| l.hosts()).collect();
    if known.is_empty() || loaded.iter().any(|l| l.is_broken()) {
        return;
    }
    let name = &listener.value.http.name;
    for route in &draft.routes {
        let matcher = &route.value.matcher;
        if !matcher.listeners.is_empty() && !matcher.listeners.contains(name) {
            continue;
        }
        for (index, host) in matcher.hosts.iter().enumerate() {
            if is_covered(host, &known) {
                continue;
            }
            let nodes = View::new(route.table).nodes("host");
            findings.push(
                Finding::new(
                    Code::HostNotCovered,
                    nodes.get(index).map_or(route.place, |n| n.place),
                    format!("no certificate of listener `{name}` is for this host"),
                )
                .label(format!("clients will see {}", shown(tls, all))),
            );
        }
    }
}

/// The names of the default certificate.
fn shown(tls: &crate::net::tls::params::ServerParams, all: &All<'_>) -> String {
    let default = all.iter().find(|(name, _)| *name == tls.default);
    let hosts: Vec<&str> = default.map_or_else(Vec::new, |(_, l)| l.hosts().take(3).collect());
    if hosts.is_empty() {
        "another name".to_owned()
    } else {
        hosts.join(", ")
    }
}

fn is_covered(host: &HostPattern, known: &[&str]) -> bool {
    let matches = |pattern: &str, name: &str| {
        pattern.eq_ignore_ascii_case(name)
            || pattern.strip_prefix("*.").is_some_and(|rest| {
                name.split_once('.')
                    .is_some_and(|(_, tail)| tail.eq_ignore_ascii_case(rest))
            })
    };
    match host {
        HostPattern::Exact(name) => {
            let name = name.trim_matches(['[', ']']);
            known.iter().any(|k| matches(k, name))
        }
        HostPattern::Wildcard(name) => {
            let wild = format!("*.{name}");
            known.iter().any(|k| k.eq_ignore_ascii_case(&wild))
        }
        HostPattern::Any => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::finding::Severity;
    use crate::net::tls::fault;

    #[test]
    fn codes_are_as_severe_as_their_faults() {
        let issuer = || "x".to_owned();
        let (position, ago, left) = (1, 1, 1);
        for fault in [
            Fault::Missing,
            Fault::EmptyDir,
            Fault::NotPem { der: true },
            Fault::KeyMismatch,
            Fault::OutOfOrder {
                position,
                expected: 2,
            },
            Fault::Gap {
                position,
                issuer: issuer(),
            },
            Fault::Incomplete { issuer: issuer() },
            Fault::Expired { position, ago },
            Fault::ExpiresSoon { position, left },
            Fault::NotYetValid { position, wait: 1 },
            Fault::WeakKey { position, bits: 1 },
            Fault::NoNames,
            Fault::CaExpired { position, ago },
            Fault::CrlExpired { ago },
            Fault::CrlOfAnotherCa { issuer: issuer() },
            Fault::BadCrl,
        ] {
            let is_error = code(&fault).severity() == Severity::Error;
            assert_eq!(
                is_error,
                fault.severity() == fault::Severity::Error,
                "{fault}"
            );
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let exact = |n: &str| HostPattern::Exact(n.to_owned());
        let known = ["example.org", "*.example.org"];
        assert!(is_covered(&exact("example.org"), &known));
        assert!(is_covered(&exact("a.example.org"), &known));
        assert!(!is_covered(&exact("a.b.example.org"), &known));
        assert!(is_covered(
            &HostPattern::Wildcard("example.org".into()),
            &known
        ));
        assert!(!is_covered(
            &HostPattern::Wildcard("b.example.org".into()),
            &known
        ));
    }

    #[test]
    fn dates_are_plain() {
        assert_eq!(date(1_795_737_600), "2026-11-27");
    }
}
