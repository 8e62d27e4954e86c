//! `[[listener]]` with its TLS.

use std::collections::BTreeMap;

use super::certificate::local;
use super::settings;
use super::{Builder, Part, free_name};
use crate::base::addr::BindAddr;
use crate::conf::code::Code;
use crate::conf::finding::Finding;
use crate::conf::model::Listener;
use crate::conf::scalar;
use crate::conf::tree::Table;
use crate::conf::view::{View, put};
use crate::http::params::{KeepAlive, Limits, ListenerParams, MinRate, Timeouts, Underscores};
use crate::net::tls::params::{
    CertificateParams, ClientAuthMode, ClientAuthParams, ServerParams, TicketParams, TlsVersion,
};

type Certificates<'t> = Vec<Part<'t, CertificateParams>>;

impl<'t> Builder<'t> {
    /// Every `[[listener]]`; certificates given in place are added to the list.
    pub(super) fn listeners(
        &self,
        root: View<'t>,
        certificates: &mut Certificates<'t>,
    ) -> Vec<Part<'t, Listener>> {
        let defaults = root.sub("defaults");
        self.check_headers(defaults);
        let mut names = BTreeMap::new();
        let mut parts: Vec<Part<'t, Listener>> = Vec::new();
        for table in root.rows("listener") {
            let view = View::new(table);
            let bind: Vec<BindAddr> = view
                .texts("bind")
                .unwrap_or_default()
                .iter()
                .filter_map(|t| BindAddr::parse(t).ok())
                .collect();
            let name = match view.text("name") {
                Some(name) => name.to_owned(),
                None => free_name(&derived_name(bind.first()), |n| {
                    parts.iter().any(|p| p.value.http.name == n)
                }),
            };
            let place = view.node("name").map_or(table.place, |n| n.place);
            self.claim(&mut names, "listener", &name, place);
            self.check_headers(view);
            let tls = self.server_tls(&name, table, certificates);
            let mut http = self.http(&name, defaults, view);
            http.tls = tls.is_some();
            let mut listener = Listener {
                bind,
                backlog: 4096,
                socket_mode: 0o666,
                tls,
                http,
            };
            put(&mut listener.backlog, view.number("backlog"));
            put(
                &mut listener.socket_mode,
                view.text("socket_mode").and_then(scalar::parse_mode),
            );
            parts.push(Part {
                table,
                place: table.place,
                derived: false,
                value: listener,
            });
        }
        parts
    }

    fn http(&self, name: &str, defaults: View<'t>, view: View<'t>) -> ListenerParams {
        let mut to = ListenerParams {
            name: name.to_owned(),
            tls: false,
            redirect_to_https: view.flag("redirect_to_https").unwrap_or(false),
            trusted_proxies: self.networks(view, "trusted_proxies"),
            forwarded: view.flag("forwarded").unwrap_or(false),
            via: view.flag("via").unwrap_or(true),
            underscores: match view.text("underscores") {
                Some("pass") => Underscores::Pass,
                Some("reject") => Underscores::Reject,
                _ => Underscores::Drop,
            },
            default_host: view.text("default_host").unwrap_or("localhost").to_owned(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            min_rate: MinRate::default(),
            keepalive: KeepAlive::default(),
            max_connections_per_ip: view.number("max_connections_per_ip").unwrap_or(512),
            trace: view.flag("trace").unwrap_or(false),
            request_id_response: view.flag("request_id_response").unwrap_or(false),
            client_certificate_headers: view.flag("client_certificate_headers").unwrap_or(false),
        };
        for level in [defaults, view] {
            settings::timeouts(level.sub("timeouts"), &mut to.timeouts);
            settings::keepalive(level.sub("keepalive"), &mut to.keepalive);
            let limits = level.sub("limits");
            settings::limits(limits, &mut to.limits);
            settings::parser_limits(limits, &mut to.limits.parser);
            settings::min_rate(limits, &mut to.min_rate);
        }
        to
    }

    fn server_tls(
        &self,
        listener: &str,
        table: &'t Table,
        certificates: &mut Certificates<'t>,
    ) -> Option<ServerParams> {
        let view = View::new(table);
        let Some(node) = view.node("tls") else {
            self.no_tls(view);
            return None;
        };
        if view.flag("redirect_to_https") == Some(true) {
            let place = view
                .node("redirect_to_https")
                .map_or(table.place, |n| n.place);
            self.report(
                Finding::new(
                    Code::Exclusive,
                    place,
                    "`redirect_to_https` on a TLS listener would redirect to itself",
                )
                .also(node.place, "TLS ends here"),
            );
        }
        let inner = node.table().map_or(View::none(), View::new);
        let names = self.certificate_names(listener, table, certificates);
        let default = self.default_certificate(inner, &names);
        let version = |key: &str| inner.text(key).map(version);
        let mut params = ServerParams {
            certificates: names,
            default,
            min_version: version("min_version").unwrap_or(TlsVersion::V12),
            max_version: version("max_version").unwrap_or(TlsVersion::V13),
            alpn: self.alpn(view),
            client_auth: self.client_auth(view.sub("tls_client_auth")),
            tickets: TicketParams::default(),
        };
        if params.min_version > params.max_version {
            let place = inner.node("min_version").map_or(node.place, |n| n.place);
            self.report(Finding::new(
                Code::TlsVersions,
                place,
                "`min_version` is above `max_version`",
            ));
        }
        let tickets = view.sub("session_tickets");
        put(&mut params.tickets.rotate, tickets.duration("rotate"));
        params.tickets.key_file = tickets.node("key_file").and_then(|n| self.key_path(n));
        Some(params)
    }

    /// TLS settings on a listener without TLS.
    fn no_tls(&self, view: View<'t>) {
        for key in ["tls_client_auth", "session_tickets", "alpn"] {
            if let Some(node) = view.node(key) {
                self.report(
                    Finding::new(
                        Code::MissingKey,
                        node.place,
                        format!("`{key}` needs `tls` in the listener"),
                    )
                    .help("add tls = { cert = \"...\", key = \"...\" }"),
                );
            }
        }
    }

    /// The names of the listener's certificates; one given in place is added to the list.
    fn certificate_names(
        &self,
        listener: &str,
        table: &'t Table,
        certificates: &mut Certificates<'t>,
    ) -> Vec<String> {
        let view = View::new(table);
        let inner = view.sub("tls");
        let mut derive = |wish: &str, source| {
            let name = free_name(wish, |n| certificates.iter().any(|c| c.value.name == n));
            certificates.push(Part {
                table,
                place: view.node("tls").map_or(table.place, |n| n.place),
                derived: true,
                value: CertificateParams {
                    name: name.clone(),
                    source,
                    hosts: Vec::new(),
                },
            });
            vec![name]
        };
        match view.text("tls") {
            Some("self-signed") => return derive(&format!("{listener}-self-signed"), local()),
            Some(name) => {
                let place = view.node("tls").map_or(table.place, |n| n.place);
                self.know_certificate(certificates, name, place);
                return vec![name.to_owned()];
            }
            None => {}
        }
        if let (Some(cert), Some(list)) = (
            table_entry(inner, "cert"),
            table_entry(inner, "certificates"),
        ) {
            self.report(
                Finding::new(
                    Code::Exclusive,
                    list,
                    "`cert` and `certificates` exclude each other",
                )
                .also(cert, "already written here")
                .help("define both with [[certificate]] and write their names in `certificates`"),
            );
        }
        if inner.node("cert").is_some() {
            return self
                .files(inner)
                .map(|s| derive(listener, s))
                .unwrap_or_default();
        }
        if let Some(key) = inner.node("key") {
            self.report(
                Finding::new(
                    Code::MissingKey,
                    key.place,
                    "`tls` has a `key` and no `cert`",
                )
                .help("add cert = \"...\""),
            );
        }
        for node in inner.nodes("certificates") {
            self.know_certificate(certificates, node.text().unwrap_or(""), node.place);
        }
        let names = inner.texts("certificates").unwrap_or_else(|| {
            let all = certificates.iter().filter(|c| !c.derived);
            all.map(|c| c.value.name.clone()).collect()
        });
        if names.is_empty() {
            let place = view.node("tls").map_or(table.place, |n| n.place);
            self.report(
                Finding::new(Code::MissingKey, place, "the listener has no certificate")
                    .help("write tls = { cert = \"...\", key = \"...\" }, or tls = \"self-signed\" to try things out"),
            );
        }
        names
    }

    fn default_certificate(&self, inner: View<'t>, names: &[String]) -> String {
        let first = names.first().cloned().unwrap_or_default();
        let Some(node) = inner.node("default") else {
            return first;
        };
        let name = node.text().unwrap_or("");
        if !names.iter().any(|n| n == name) {
            self.report(
                Finding::new(
                    Code::DefaultNotLoaded,
                    node.place,
                    format!(
                        "default certificate `{name}` is not one of the listener's certificates"
                    ),
                )
                .help(format!("its certificates: {}", names.join(", "))),
            );
        }
        name.to_owned()
    }

    fn alpn(&self, view: View<'t>) -> Vec<String> {
        for node in view.nodes("alpn") {
            if node.text() == Some("h2") {
                self.report(
                    Finding::new(
                        Code::NotInEffect,
                        node.place,
                        "`h2` is not offered by this version",
                    )
                    .label("clients will use HTTP/1.1"),
                );
            }
        }
        let mut names = view.texts("alpn").unwrap_or_default();
        names.retain(|n| n != "h2");
        if names.is_empty() {
            names.push("http/1.1".to_owned());
        }
        names
    }

    fn client_auth(&self, view: View<'t>) -> Option<ClientAuthParams> {
        let mode = match view.text("mode") {
            Some("optional") => ClientAuthMode::Optional,
            Some("required") => ClientAuthMode::Required,
            _ => return None,
        };
        let Some(ca) = view.node("ca") else {
            let place = view.node("mode").map(|n| n.place).unwrap_or_default();
            self.report(
                Finding::new(
                    Code::NoClientCa,
                    place,
                    "client certificates are asked for and no CA is given",
                )
                .help("add ca = \"...\""),
            );
            return None;
        };
        Some(ClientAuthParams {
            mode,
            ca: self.path(ca),
            crl: view.nodes("crl").iter().map(|n| self.path(n)).collect(),
        })
    }
}

fn table_entry(view: View<'_>, key: &str) -> Option<crate::conf::finding::Place> {
    view.table()?.entry(key).map(|e| e.key_place)
}

fn derived_name(bind: Option<&BindAddr>) -> String {
    match bind {
        Some(BindAddr::Ip(addr)) => format!("listener-{}", addr.port()),
        Some(BindAddr::Any(port)) => format!("listener-{port}"),
        Some(BindAddr::Unix(path)) => {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            format!("listener-{}", stem.unwrap_or_default())
        }
        Some(BindAddr::Inherited(name)) => format!("listener-{name}"),
        None => "listener".to_owned(),
    }
}

/// `"1.3"`.
pub(super) fn version(text: &str) -> TlsVersion {
    if text == "1.3" {
        TlsVersion::V13
    } else {
        TlsVersion::V12
    }
}
