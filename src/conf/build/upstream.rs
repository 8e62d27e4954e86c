//! `[[upstream]]`, and upstreams written as addresses in a route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::listener::version;
use super::settings;
use super::{Builder, Part};
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Place};
use crate::conf::grammar;
use crate::conf::tree::Table;
use crate::conf::view::{View, put};
use crate::net::tls::params::{CertificateParams, ClientParams, TlsVersion, Verify};
use crate::upstream::params::{
    BalanceKind, PoolParams, QueueParams, ServerAddress, ServerParams, UpstreamParams,
};

const FAIL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A server with nothing but an address.
pub(super) fn plain_server(name: String, address: ServerAddress) -> ServerParams {
    ServerParams {
        name,
        address,
        weight: 1,
        backup: false,
        max_fails: 1,
        fail_timeout: FAIL_TIMEOUT,
    }
}

/// TLS towards servers with all defaults.
pub(super) const fn plain_tls() -> ClientParams {
    ClientParams {
        verify: Verify::Full,
        ca: None,
        sni: None,
        client_certificate: None,
        min_version: TlsVersion::V12,
        alpn: Vec::new(),
    }
}

/// Names that are taken, and the next demo server.
struct Naming {
    servers: BTreeMap<String, Place>,
    demos: u16,
}

impl<'t> Builder<'t> {
    /// Every `[[upstream]]`.
    pub(super) fn upstreams(
        &self,
        root: View<'t>,
        certificates: &[Part<'t, CertificateParams>],
    ) -> Vec<Part<'t, UpstreamParams>> {
        let mut names = BTreeMap::new();
        let mut parts = Vec::new();
        let mut demos = 0;
        for table in root.rows("upstream") {
            let view = View::new(table);
            let name = view.text("name").unwrap_or("").to_owned();
            let place = view.node("name").map_or(table.place, |n| n.place);
            self.claim(&mut names, "upstream", &name, place);
            let mut naming = Naming {
                servers: BTreeMap::new(),
                demos,
            };
            let servers = self.servers(table, &mut naming);
            demos = naming.demos;
            let value = self.upstream(root.sub("defaults"), view, name, servers);
            let tls = self.client_tls(view, certificates);
            parts.push(Part {
                table,
                place,
                derived: false,
                value: UpstreamParams { tls, ..value },
            });
        }
        parts
    }

    fn upstream(
        &self,
        defaults: View<'t>,
        view: View<'t>,
        name: String,
        servers: Vec<ServerParams>,
    ) -> UpstreamParams {
        if let Some(node) = view.node("protocol")
            && matches!(node.text(), Some("h2" | "h2c"))
        {
            self.report(
                Finding::new(
                    Code::NotBuiltIn,
                    node.place,
                    "HTTP/2 to servers is not built in yet",
                )
                .help("write \"http1\" or \"auto\""),
            );
        }
        let mut value = derived(name, servers, defaults);
        if view.text("balance") == Some("least_connections") {
            value.balance = BalanceKind::LeastConnections;
        }
        settings::pool(view.sub("pool"), &mut value.pool);
        settings::queue(view.sub("queue"), &mut value.queue);
        value.source = view
            .text("bind_address")
            .and_then(|t| t.parse::<IpAddr>().ok());
        value
    }

    fn servers(&self, table: &'t Table, naming: &mut Naming) -> Vec<ServerParams> {
        let view = View::new(table);
        let mut servers = Vec::new();
        for node in view.nodes("servers") {
            let Some(address) = node.text().and_then(|t| grammar::server_address(t).ok()) else {
                continue;
            };
            let name = address.to_string();
            self.claim(&mut naming.servers, "server", &name, node.place);
            servers.push(plain_server(name, ServerAddress::Endpoint(address)));
        }
        for row in view.rows("server") {
            servers.extend(self.server(row, naming));
        }
        let written = !view.nodes("servers").is_empty() || !view.rows("server").is_empty();
        if !written {
            let name = view.text("name").unwrap_or("");
            self.report(
                Finding::new(
                    Code::NoServers,
                    table.place,
                    format!("upstream `{name}` has no servers"),
                )
                .help("write servers = [\"10.0.0.1:8080\"]"),
            );
        }
        servers
    }

    fn server(&self, row: &'t Table, naming: &mut Naming) -> Option<ServerParams> {
        let view = View::new(row);
        let address = match (row.entry("address"), row.entry("builtin")) {
            (Some(address), Some(builtin)) => {
                self.report(
                    Finding::new(
                        Code::Exclusive,
                        builtin.key_place,
                        "`address` and `builtin` exclude each other",
                    )
                    .also(address.key_place, "already written here"),
                );
                return None;
            }
            (Some(address), None) => {
                ServerAddress::Endpoint(grammar::server_address(address.node.text()?).ok()?)
            }
            (None, Some(_)) => {
                naming.demos += 1;
                ServerAddress::Demo(naming.demos)
            }
            (None, None) => {
                self.report(
                    Finding::new(
                        Code::MissingKey,
                        row.place,
                        "[[upstream.server]] needs an `address`",
                    )
                    .help("add address = \"10.0.0.1:80\""),
                );
                return None;
            }
        };
        let derived = match &address {
            ServerAddress::Endpoint(endpoint) => endpoint.to_string(),
            ServerAddress::Demo(number) => format!("demo-{number}"),
        };
        let name = view.text("name").map_or(derived, ToOwned::to_owned);
        let place = view.node("name").map_or(row.place, |n| n.place);
        self.claim(&mut naming.servers, "server", &name, place);
        let mut server = plain_server(name, address);
        put(&mut server.weight, view.number("weight"));
        put(&mut server.backup, view.flag("backup"));
        put(&mut server.max_fails, view.number("max_fails"));
        put(&mut server.fail_timeout, view.duration("fail_timeout"));
        Some(server)
    }

    fn client_tls(
        &self,
        upstream: View<'t>,
        certificates: &[Part<'t, CertificateParams>],
    ) -> Option<ClientParams> {
        let node = upstream.node("tls")?;
        if upstream.flag("tls") == Some(false) {
            return None;
        }
        let view = node.table().map_or(View::none(), View::new);
        let mut tls = plain_tls();
        tls.verify = match view.text("verify") {
            Some("ca") => Verify::Ca,
            Some("off") => Verify::Off,
            Some(text) => grammar::parse_pin(text).map_or(Verify::Full, Verify::Pin),
            None => Verify::Full,
        };
        tls.ca = view.node("ca").map(|n| self.path(n));
        tls.sni = view.text("sni").map(str::to_ascii_lowercase);
        if let Some(certificate) = view.node("client_certificate") {
            let name = certificate.text().unwrap_or("");
            self.know_certificate(certificates, name, certificate.place);
            tls.client_certificate = Some(name.to_owned());
        }
        put(&mut tls.min_version, view.text("min_version").map(version));
        (view.flag("enabled") != Some(false)).then_some(tls)
    }
}

/// An upstream with the defaults of the file.
pub(super) fn derived(
    name: String,
    servers: Vec<ServerParams>,
    defaults: View<'_>,
) -> UpstreamParams {
    let mut value = UpstreamParams {
        name,
        balance: BalanceKind::RoundRobin,
        servers,
        pool: PoolParams::default(),
        queue: QueueParams::default(),
        tls: None,
        source: None,
    };
    settings::pool(defaults.sub("pool"), &mut value.pool);
    settings::queue(defaults.sub("queue"), &mut value.queue);
    value
}
