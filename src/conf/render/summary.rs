//! What was understood, on one screen.

use super::text::count;
use crate::base::addr::BindAddr;
use crate::conf::Loaded;
use crate::conf::finding::Severity;
use crate::conf::model::{Listener, Model, Sandbox};
use crate::http::params::{HostPattern, Matcher};
use crate::upstream::params::ServerAddress;

/// One screen has room for so many listeners.
const LISTENERS_MAX: usize = 8;

/// The summary of a usable configuration; empty for one that is not.
#[must_use]
pub fn summary(loaded: &Loaded) -> String {
    let Some(model) = &loaded.model else {
        return String::new();
    };
    let file = loaded.sources.get(0).map_or("", |s| s.name.as_str());
    let warnings = count(loaded, Severity::Warning);
    let mut out = format!(
        "{file}: ok ({}, 0 errors, {})\n",
        plural(loaded.sources.len(), "file"),
        plural(warnings, "warning")
    );
    let mut listeners: Vec<String> = model.listeners.iter().map(listener).collect();
    let more = listeners.len().saturating_sub(LISTENERS_MAX);
    if more > 0 {
        listeners.truncate(LISTENERS_MAX);
        listeners.push(format!("and {more} more"));
    }
    line(
        &mut out,
        model.listeners.len(),
        "listener",
        &listeners.join(" "),
    );
    line(&mut out, model.routes.len(), "route", &hosts(model));
    line(&mut out, model.upstreams.len(), "upstream", &servers(model));
    if let Some(bind) = &model.metrics.bind {
        out.push_str(&format!("  metrics       {bind}{}\n", model.metrics.path));
    }
    let workers = match model.worker.count {
        0 => "one worker per CPU".to_owned(),
        n => plural(usize::try_from(n).unwrap_or(0), "worker"),
    };
    let user = model
        .master
        .user
        .as_ref()
        .map_or_else(String::new, |u| format!(", user {u}"));
    let sandbox = match model.worker.sandbox {
        Sandbox::Off => "off",
        Sandbox::Strict => "strict",
        Sandbox::Basic => "basic",
    };
    out.push_str(&format!("  {workers}{user}, sandbox {sandbox}\n"));
    out
}

fn line(out: &mut String, number: usize, what: &str, text: &str) {
    let head = plural(number, what);
    out.push_str(format!("  {head:<13} {text}").trim_end());
    out.push('\n');
}

fn plural(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

fn listener(listener: &Listener) -> String {
    let binds: Vec<String> = listener.bind.iter().map(BindAddr::to_string).collect();
    let binds = binds.join(",");
    match &listener.tls {
        None => binds,
        Some(tls) => format!(
            "{binds}(tls, {})",
            plural(tls.certificates.len(), "certificate")
        ),
    }
}

fn hosts(model: &Model) -> String {
    let mut hosts: Vec<&HostPattern> = model.routes.iter().flat_map(|r| &r.matcher.hosts).collect();
    hosts.sort();
    hosts.dedup();
    let open = |m: &Matcher| m.hosts.is_empty();
    let any = model.routes.iter().any(|r| open(&r.matcher));
    match (hosts.len(), any) {
        (0, _) => "on any host".to_owned(),
        (n, false) => format!("on {}", plural(n, "host")),
        (n, true) => format!("on {} and any other", plural(n, "host")),
    }
}

fn servers(model: &Model) -> String {
    use crate::base::addr::{Endpoint, Host};
    let all: Vec<&ServerAddress> = model
        .upstreams
        .iter()
        .flat_map(|u| u.servers.iter().map(|s| &s.address))
        .collect();
    let by_dns = |a: &&&ServerAddress| {
        matches!(
            a,
            ServerAddress::Endpoint(Endpoint::Tcp {
                host: Host::Name(_),
                ..
            })
        )
    };
    let demos = all
        .iter()
        .filter(|a| matches!(a, ServerAddress::Demo(_)))
        .count();
    let mut notes = Vec::new();
    match all.iter().filter(by_dns).count() {
        0 => {}
        n => notes.push(format!("{n} by DNS")),
    }
    if demos > 0 {
        notes.push(format!("{demos} built in"));
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join(", "))
    };
    format!("{}{notes}", plural(all.len(), "server"))
}
