//! `[[certificate]]` and `[[upstream]]`.

use super::Out;
use crate::conf::base64;
use crate::net::tls::params::{
    CertificateParams, CertificateSource, ClientParams, TlsVersion, Verify,
};
use crate::upstream::params::{BalanceKind, ServerAddress, ServerParams, UpstreamParams};

/// `1.2` or `1.3`.
pub(super) const fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V12 => "1.2",
        TlsVersion::V13 => "1.3",
    }
}

pub(super) fn certificate(certificate: &CertificateParams, out: &mut Out) {
    out.section("[[certificate]]");
    out.text("name", &certificate.name);
    out.some_texts("hosts", certificate.hosts.clone());
    match &certificate.source {
        CertificateSource::Files { cert, key } => {
            out.path("cert", cert);
            out.path("key", key);
        }
        CertificateSource::Dir(dir) => out.path("dir", dir),
        CertificateSource::SelfSigned { hosts, valid } => {
            out.section("[certificate.self_signed]");
            out.texts("hosts", hosts);
            out.time("valid", *valid);
        }
    }
}

pub(super) fn upstream(upstream: &UpstreamParams, out: &mut Out) {
    out.section("[[upstream]]");
    out.text("name", &upstream.name);
    out.text("protocol", "auto");
    let balance = match upstream.balance {
        BalanceKind::RoundRobin => "round_robin",
        BalanceKind::LeastConnections => "least_connections",
    };
    out.text("balance", balance);
    if let Some(source) = upstream.source {
        out.text("bind_address", &source.to_string());
    }
    for one in &upstream.servers {
        server(one, out);
    }
    let pool = &upstream.pool;
    out.section("[upstream.pool]");
    out.raw("initial", 0);
    out.raw("max_idle", pool.max_idle);
    out.raw("max", pool.max);
    out.time("idle_timeout", pool.idle_timeout);
    out.time("max_age", pool.max_age);
    out.raw("max_requests", pool.max_requests);
    out.section("[upstream.queue]");
    out.raw("max", upstream.queue.max);
    out.time("timeout", upstream.queue.timeout);
    if let Some(tls) = &upstream.tls {
        client_tls(tls, out);
    }
}

fn server(server: &ServerParams, out: &mut Out) {
    out.section("[[upstream.server]]");
    out.text("name", &server.name);
    match &server.address {
        ServerAddress::Endpoint(endpoint) => out.text("address", &endpoint.to_string()),
        ServerAddress::Demo(_) => out.text("builtin", "demo"),
    }
    out.raw("weight", server.weight);
    out.raw("backup", server.backup);
    out.raw("max_fails", server.max_fails);
    out.time("fail_timeout", server.fail_timeout);
}

fn client_tls(tls: &ClientParams, out: &mut Out) {
    out.section("[upstream.tls]");
    out.raw("enabled", true);
    match &tls.verify {
        Verify::Full => out.text("verify", "full"),
        Verify::Ca => out.text("verify", "ca"),
        Verify::Off => out.text("verify", "off"),
        Verify::Pin(pin) => {
            out.text("verify", &format!("pin:sha256/{}", base64::encode(pin)));
        }
    }
    if let Some(ca) = &tls.ca {
        out.path("ca", ca);
    }
    out.maybe("sni", tls.sni.as_deref());
    out.maybe("client_certificate", tls.client_certificate.as_deref());
    out.text("min_version", version(tls.min_version));
}
