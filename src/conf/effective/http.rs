//! `[[listener]]` and `[[route]]`.

use super::upstream::version;
use super::{Out, list, quote, table};
use crate::base::unit;
use crate::conf::model::Listener;
use crate::http::params::{
    Action, Condition, HeaderRules, HostPattern, HostRewrite, Limits, MinRate, Normalize,
    PathPattern, RetryParams, RouteParams, Timeouts, Underscores, ValueMatch,
};
use crate::net::tls::params::{ClientAuthMode, ServerParams};

pub(super) fn listener(listener: &Listener, out: &mut Out) {
    let http = &listener.http;
    out.section("[[listener]]");
    out.text("name", &http.name);
    out.texts("bind", listener.bind.iter().map(ToString::to_string));
    out.text("protocol", "http");
    out.raw("backlog", listener.backlog);
    out.text("socket_mode", &format!("{:04o}", listener.socket_mode));
    out.raw("redirect_to_https", http.redirect_to_https);
    let trusted = http.trusted_proxies.iter();
    out.texts("trusted_proxies", trusted.map(ToString::to_string));
    out.raw("max_connections_per_ip", http.max_connections_per_ip);
    out.text("default_host", &http.default_host);
    let underscores = match http.underscores {
        Underscores::Drop => "drop",
        Underscores::Pass => "pass",
        Underscores::Reject => "reject",
    };
    out.text("underscores", underscores);
    out.raw("forwarded", http.forwarded);
    out.raw("via", http.via);
    out.raw("trace", http.trace);
    out.raw("request_id_response", http.request_id_response);
    out.raw(
        "client_certificate_headers",
        http.client_certificate_headers,
    );
    if let Some(tls) = &listener.tls {
        server_tls(tls, out);
    }
    timeouts("[listener.timeouts]", &http.timeouts, out);
    out.section("[listener.keepalive]");
    out.raw("requests", http.keepalive.requests);
    out.time("max_age", http.keepalive.max_age);
    limits(&http.limits, &http.min_rate, out);
}

fn server_tls(tls: &ServerParams, out: &mut Out) {
    out.texts("alpn", &tls.alpn);
    out.section("[listener.tls]");
    out.texts("certificates", &tls.certificates);
    out.text("default", &tls.default);
    out.text("min_version", version(tls.min_version));
    out.text("max_version", version(tls.max_version));
    if let Some(auth) = &tls.client_auth {
        out.section("[listener.tls_client_auth]");
        let mode = match auth.mode {
            ClientAuthMode::Off => "off",
            ClientAuthMode::Optional => "optional",
            ClientAuthMode::Required => "required",
        };
        out.text("mode", mode);
        out.path("ca", &auth.ca);
        out.texts("crl", auth.crl.iter().map(|p| p.display().to_string()));
    }
    out.section("[listener.session_tickets]");
    out.time("rotate", tls.tickets.rotate);
    if let Some(file) = &tls.tickets.key_file {
        out.path("key_file", file);
    }
}

fn timeouts(section: &str, timeouts: &Timeouts, out: &mut Out) {
    out.section(section);
    out.time("connect", timeouts.connect);
    out.time("tls", timeouts.tls);
    out.time("first_byte", timeouts.first_byte);
    out.time("request_header", timeouts.request_header);
    out.time("request_body", timeouts.request_body);
    out.time("response_header", timeouts.response_header);
    out.time("response_body", timeouts.response_body);
    out.time("client_write", timeouts.client_write);
    out.time("idle", timeouts.idle);
    out.time("upgraded_idle", timeouts.upgraded_idle);
    match timeouts.total {
        Some(total) => out.time("total", total),
        None => out.text("total", "off"),
    }
    out.time("linger", timeouts.linger);
}

fn limits(limits: &Limits, rate: &MinRate, out: &mut Out) {
    let parser = &limits.parser;
    out.section("[listener.limits]");
    out.size("request_line", parser.request_line.into());
    out.size("field_line", parser.field_line.into());
    out.size("request_head", parser.request_head.into());
    out.raw("fields", parser.fields);
    out.raw("connection_options", parser.connection_options);
    out.size("response_head", parser.response_head.into());
    out.raw("response_fields", parser.response_fields);
    out.size("trailers", parser.trailers.into());
    out.raw("trailer_fields", parser.trailer_fields);
    out.size("chunk_extension", parser.chunk_extension.into());
    out.size(
        "chunk_extensions_total",
        parser.chunk_extensions_total.into(),
    );
    body(out, "request_body", limits.request_body);
    out.size("retry_buffer", limits.retry_buffer);
    out.raw("interim_responses", limits.interim_responses);
    out.size("interim_bytes", limits.interim_bytes);
    out.size("linger_bytes", limits.linger_bytes);
    out.size("discard_body", limits.discard_body);
    match rate.bytes_per_second {
        0 => out.text("min_rate", "off"),
        n => out.text("min_rate", &format!("{}/s", unit::print_size(n))),
    }
    out.time("min_rate_request_grace", rate.request_grace);
    out.time("min_rate_response_grace", rate.response_grace);
}

fn body(out: &mut Out, key: &str, limit: Option<u64>) {
    match limit {
        Some(limit) => out.size(key, limit),
        None => out.text(key, "unlimited"),
    }
}

pub(super) fn route(route: &RouteParams, out: &mut Out) {
    out.section("[[route]]");
    out.text("name", &route.name);
    matcher(route, out);
    action(&route.action, out);
    match &route.host {
        HostRewrite::Preserve => out.text("host_rewrite", "preserve"),
        HostRewrite::Upstream => out.text("host_rewrite", "upstream"),
        HostRewrite::Fixed(host) => out.text("host_rewrite", host),
    }
    out.maybe("strip_prefix", route.path.strip_prefix.as_deref());
    out.maybe("add_prefix", route.path.add_prefix.as_deref());
    let normalize = match route.normalize {
        Normalize::On => "on",
        Normalize::Strict => "strict",
        Normalize::Raw => "raw",
    };
    out.text("normalize", normalize);
    body(out, "max_body", route.max_body);
    out.texts("upgrade", &route.upgrade);
    out.raw("trailers", route.trailers);
    out.raw("early_hints", route.early_hints);
    if let Some(drain) = route.drain_timeout {
        out.time("drain_timeout", drain);
    }
    out.raw("access_log", route.access_log);
    timeouts("[route.timeouts]", &route.timeouts, out);
    out.section("[route.buffering]");
    for (key, size) in [
        ("request", route.buffering.request),
        ("response", route.buffering.response),
    ] {
        match size {
            0 => out.text(key, "off"),
            n => out.size(key, n),
        }
    }
    retry(&route.retry, out);
    headers("[route.headers.request]", &route.request_headers, out);
    headers("[route.headers.response]", &route.response_headers, out);
}

fn matcher(route: &RouteParams, out: &mut Out) {
    let matcher = &route.matcher;
    out.some_texts("listener", matcher.listeners.clone());
    let hosts = matcher.hosts.iter().map(|h| match h {
        HostPattern::Exact(name) => name.trim_matches(['[', ']']).to_owned(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
        HostPattern::Any => "*".to_owned(),
    });
    out.some_texts("host", hosts.collect());
    let paths = matcher.paths.iter().map(|p| match p {
        PathPattern::Exact(path) => format!("={path}"),
        PathPattern::Prefix(path) => path.clone(),
        PathPattern::Regex(regex) => format!("~{regex}"),
    });
    out.some_texts("path", paths.collect());
    out.some_texts("methods", matcher.methods.clone());
    conditions("headers_match", &matcher.headers, out);
    conditions("query", &matcher.query, out);
    out.raw("priority", matcher.priority);
}

fn conditions(key: &str, conditions: &[Condition], out: &mut Out) {
    if conditions.is_empty() {
        return;
    }
    let entries = conditions.iter().map(|c| {
        let value = match &c.value {
            ValueMatch::Present => "true".to_owned(),
            ValueMatch::Absent => "false".to_owned(),
            ValueMatch::Exact(value) => quote(value),
            ValueMatch::Regex(regex) => quote(&format!("~{regex}")),
        };
        (c.name.as_str(), value)
    });
    out.raw(key, table(entries));
}

fn action(action: &Action, out: &mut Out) {
    match action {
        Action::Forward(targets) => {
            let all: Vec<String> = targets
                .iter()
                .map(|t| {
                    format!(
                        "{{ upstream = {}, weight = {} }}",
                        quote(&t.upstream),
                        t.weight
                    )
                })
                .collect();
            match targets.as_slice() {
                [one] if one.weight == 1 => out.text("to", &one.upstream),
                _ => out.raw("to", format!("[{}]", all.join(", "))),
            }
        }
        Action::Redirect { to, status } => {
            let entries = [("to", quote(to)), ("status", status.to_string())];
            out.raw("redirect", table(entries));
        }
        Action::Respond {
            status,
            body,
            content_type,
        } => {
            let entries = [
                ("status", status.to_string()),
                ("body", quote(&String::from_utf8_lossy(body))),
                ("content_type", quote(content_type)),
            ];
            out.raw("respond", table(entries));
        }
    }
}

fn retry(retry: &RetryParams, out: &mut Out) {
    out.section("[route.retry]");
    out.raw("attempts", retry.attempts);
    let mut causes = Vec::new();
    for (on, word) in [
        (retry.on_connect, "connect"),
        (retry.on_reset, "reset-before-headers"),
        (retry.on_timeout, "timeout"),
    ] {
        if on {
            causes.push(word.to_owned());
        }
    }
    causes.extend(retry.on_status.iter().map(ToString::to_string));
    out.raw("on", list(causes));
    out.text("budget", &format!("{}%", retry.budget_percent));
    out.raw("non_idempotent", retry.non_idempotent);
}

fn headers(section: &str, rules: &HeaderRules, out: &mut Out) {
    if *rules == HeaderRules::default() {
        return;
    }
    out.section(section);
    out.some_texts("remove", rules.remove.clone());
    let set = rules.set.iter().map(|(n, v)| (n.as_str(), quote(v)));
    out.raw("set", table(set));
    let mut add: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, value) in &rules.add {
        match add.last_mut() {
            Some((last, values)) if last == name => values.push(value),
            _ => add.push((name, vec![value])),
        }
    }
    out.raw("add", table(add.into_iter().map(|(n, v)| (n, list(v)))));
}
