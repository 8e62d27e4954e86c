//! Nested settings and how they merge: built-in default, `[defaults]`, listener, upstream, route.
//! Each function lays one level over what the outer levels gave.

use super::Builder;
use crate::conf::code::Code;
use crate::conf::finding::Finding;
use crate::conf::scalar;
use crate::conf::tree::{Node, Table};
use crate::conf::view::{View, put};
use crate::http::params::{
    Buffering, HeaderRules, KeepAlive, Limits, MinRate, RetryParams, Timeouts,
};
use crate::proto::head::FieldId;
use crate::proto::http1;
use crate::upstream::params::{PoolParams, QueueParams};

/// `buffering.request = "on"`.
const BUFFER_ON: u64 = 1 << 20;

/// Fields whose values are secrets.
const SECRET: &[&str] = &[
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];

/// Lays a `timeouts` table over what is there.
pub(super) fn timeouts(view: View<'_>, to: &mut Timeouts) {
    put(&mut to.first_byte, view.duration("first_byte"));
    put(&mut to.request_header, view.duration("request_header"));
    put(&mut to.tls, view.duration("tls"));
    exchange_timeouts(view, to);
}

/// The same without what is over before a route is known.
pub(super) fn exchange_timeouts(view: View<'_>, to: &mut Timeouts) {
    put(&mut to.connect, view.duration("connect"));
    put(&mut to.request_body, view.duration("request_body"));
    put(&mut to.response_header, view.duration("response_header"));
    put(&mut to.response_body, view.duration("response_body"));
    put(&mut to.client_write, view.duration("client_write"));
    put(&mut to.idle, view.duration("idle"));
    put(&mut to.upgraded_idle, view.duration("upgraded_idle"));
    put(&mut to.linger, view.duration("linger"));
    match view.text("total") {
        Some("off") => to.total = None,
        _ => put(&mut to.total, view.duration("total").map(Some)),
    }
}

/// Lays a `keepalive` table over what is there.
pub(super) fn keepalive(view: View<'_>, to: &mut KeepAlive) {
    put(&mut to.requests, view.number("requests"));
    put(&mut to.max_age, view.duration("max_age"));
}

/// Lays a `limits` table over what is there.
pub(super) fn limits(view: View<'_>, to: &mut Limits) {
    put(&mut to.request_body, body_limit(view, "request_body"));
    put(&mut to.retry_buffer, view.size("retry_buffer"));
    put(&mut to.interim_responses, view.number("interim_responses"));
    put(&mut to.interim_bytes, view.size("interim_bytes"));
    put(&mut to.linger_bytes, view.size("linger_bytes"));
    put(&mut to.discard_body, view.size("discard_body"));
}

/// The bounds of the parser in a `limits` table.
pub(super) fn parser_limits(view: View<'_>, to: &mut http1::Limits) {
    put(&mut to.request_line, view.size("request_line"));
    put(&mut to.field_line, view.size("field_line"));
    put(&mut to.request_head, view.size("request_head"));
    put(&mut to.fields, view.number("fields"));
    put(
        &mut to.connection_options,
        view.number("connection_options"),
    );
    put(&mut to.response_head, view.size("response_head"));
    put(&mut to.response_fields, view.number("response_fields"));
    put(&mut to.trailers, view.size("trailers"));
    put(&mut to.trailer_fields, view.number("trailer_fields"));
    put(&mut to.chunk_extension, view.size("chunk_extension"));
    put(
        &mut to.chunk_extensions_total,
        view.size("chunk_extensions_total"),
    );
}

/// The least rates in a `limits` table.
pub(super) fn min_rate(view: View<'_>, to: &mut MinRate) {
    match view.text("min_rate") {
        Some("off") => to.bytes_per_second = 0,
        text => put(&mut to.bytes_per_second, text.and_then(scalar::parse_rate)),
    }
    put(
        &mut to.request_grace,
        view.duration("min_rate_request_grace"),
    );
    put(
        &mut to.response_grace,
        view.duration("min_rate_response_grace"),
    );
}

/// `max_body`, `limits.request_body`: a size, or `Some(None)` for `"unlimited"`.
pub(super) fn body_limit(view: View<'_>, key: &str) -> Option<Option<u64>> {
    match view.text(key)? {
        "unlimited" => Some(None),
        _ => view.size(key).map(Some),
    }
}

/// Lays a `buffering` table over what is there.
pub(super) fn buffering(view: View<'_>, to: &mut Buffering) {
    let size = |key: &str| match view.text(key)? {
        "off" => Some(0),
        "on" => Some(BUFFER_ON),
        _ => view.size(key),
    };
    put(&mut to.request, size("request"));
    put(&mut to.response, size("response"));
}

/// Lays a `retry` table over what is there. `first`: no outer level has written a list yet.
pub(super) fn retry(view: View<'_>, to: &mut RetryParams, first: &mut bool) {
    put(&mut to.attempts, view.number("attempts"));
    put(&mut to.budget_percent, view.percent("budget"));
    put(&mut to.non_idempotent, view.flag("non_idempotent"));
    if let Some(causes) = view.texts("on") {
        if std::mem::take(first) {
            to.on_connect = false;
            to.on_reset = false;
        }
        for cause in causes {
            set_cause(to, &cause, true);
        }
    }
    for cause in view.texts("remove").unwrap_or_default() {
        set_cause(to, &cause, false);
    }
}

fn set_cause(to: &mut RetryParams, cause: &str, on: bool) {
    match cause {
        "connect" => to.on_connect = on,
        "reset-before-headers" => to.on_reset = on,
        "timeout" => to.on_timeout = on,
        _ => {
            let Ok(status) = cause.parse::<u16>() else {
                return;
            };
            to.on_status.retain(|s| *s != status);
            if on {
                to.on_status.push(status);
            }
        }
    }
}

/// Lays a `pool` table over what is there.
pub(super) fn pool(view: View<'_>, to: &mut PoolParams) {
    put(&mut to.max_idle, view.number("max_idle"));
    put(&mut to.max, view.number("max"));
    put(&mut to.idle_timeout, view.duration("idle_timeout"));
    put(&mut to.max_age, view.duration("max_age"));
    put(&mut to.max_requests, view.number("max_requests"));
}

/// Lays a `queue` table over what is there.
pub(super) fn queue(view: View<'_>, to: &mut QueueParams) {
    put(&mut to.max, view.number("max"));
    put(&mut to.timeout, view.duration("timeout"));
}

/// Lays one direction of a `headers` table over what is there.
pub(super) fn headers(view: View<'_>, to: &mut HeaderRules) {
    for name in view.texts("remove").unwrap_or_default() {
        let name = name.to_ascii_lowercase();
        to.set.retain(|(n, _)| *n != name);
        to.add.retain(|(n, _)| *n != name);
        if !to.remove.contains(&name) {
            to.remove.push(name);
        }
    }
    let entries = |key: &str| {
        view.sub(key)
            .table()
            .map(|t| t.entries.as_slice())
            .unwrap_or_default()
    };
    for entry in entries("set") {
        let name = entry.key.to_ascii_lowercase();
        if let Some(value) = entry.node.text() {
            to.set.retain(|(n, _)| *n != name);
            to.set.push((name, value.to_owned()));
        }
    }
    for entry in entries("add") {
        let name = entry.key.to_ascii_lowercase();
        for value in entry.node.elements().iter().filter_map(Node::text) {
            // Values of one name stay together, whatever level they come from.
            let end = to.add.iter().rposition(|(n, _)| *n == name);
            let at = end.map_or(to.add.len(), |i| i + 1);
            to.add.insert(at, (name.clone(), value.to_owned()));
        }
    }
}

impl<'t> Builder<'t> {
    /// Reports header rules for fields that no rule may touch, and secrets in readable files.
    pub(super) fn check_headers(&self, owner: View<'t>) {
        for direction in ["request", "response"] {
            let view = owner.sub("headers").sub(direction);
            for node in view.nodes("remove") {
                self.check_field(node.text().unwrap_or(""), node, None);
            }
            for key in ["set", "add"] {
                if let Some(table) = view.sub(key).table() {
                    self.check_rules(table);
                }
            }
        }
    }

    fn check_rules(&self, table: &Table) {
        for entry in &table.entries {
            let node = Node {
                place: entry.key_place,
                value: entry.node.value.clone(),
            };
            self.check_field(&entry.key, &node, Some(&entry.node));
        }
    }

    fn check_field(&self, name: &str, node: &Node, value: Option<&Node>) {
        let lower = name.to_ascii_lowercase();
        let id = FieldId::of(lower.as_bytes());
        // The rules of `http::edit`: what frames the message or belongs to the connection.
        if id.is_hop_by_hop() || matches!(id, FieldId::ContentLength | FieldId::Expect) {
            self.report(
                Finding::new(
                    Code::Malformed,
                    node.place,
                    format!("header `{name}` cannot be changed by a rule"),
                )
                .help("proxyd writes it itself for every message"),
            );
        }
        if let Some(value) = value
            && SECRET.contains(&lower.as_str())
        {
            self.bare_secret(name, value);
        }
    }

    /// Warns when a secret is written out in a file that others can read.
    fn bare_secret(&self, name: &str, value: &Node) {
        use std::os::unix::fs::PermissionsExt;
        let written_out = !self.sources.text(value.place).contains("${");
        let file = self.sources.name(value.place);
        let open = std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o044 != 0);
        if written_out && open {
            self.report(
                Finding::new(
                    Code::BareSecret,
                    value.place,
                    format!("the value of `{name}` can be read by everybody who can read {file}"),
                )
                .help(format!(
                    "write \"${{NAME}}\" and set the variable, or chmod 0600 {file}"
                )),
            );
        }
    }
}
