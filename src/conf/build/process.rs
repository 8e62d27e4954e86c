//! `[master]`, `[worker]`, `[watchdog]`, `[log]`, `[metrics]`, `[dns]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::Builder;
use crate::base::addr::BindAddr;
use crate::base::unit;
use crate::conf::code::Code;
use crate::conf::finding::Finding;
use crate::conf::grammar;
use crate::conf::model::{
    AcceptMode, Affinity, Dns, Master, Metrics, Model, Sandbox, Watchdog, Worker,
};
use crate::conf::tree::{Node, Value};
use crate::conf::view::{View, put};
use crate::log::params::{AccessParams, Format, Output, Params as LogParams};

impl<'t> Builder<'t> {
    /// Fills the sections about processes.
    pub(super) fn processes(&self, root: View<'t>, model: &mut Model) {
        self.master(root.sub("master"), &mut model.master);
        self.worker(root.sub("worker"), &mut model.worker);
        watchdog(root.sub("watchdog"), &mut model.watchdog);
        self.log(root.sub("log"), &mut model.log);
        self.access(root.sub("log").sub("access"), &mut model.access_log);
        self.metrics(root.sub("metrics"), &mut model.metrics);
        self.dns(root.sub("dns"), &mut model.dns);
    }

    fn master(&self, view: View<'t>, to: &mut Master) {
        to.user = view.text("user").map(ToOwned::to_owned);
        to.group = view.text("group").map(ToOwned::to_owned);
        to.pid_file = view.node("pid_file").map(|n| self.path(n));
        put(&mut to.daemon, view.flag("daemon"));
        put(&mut to.stop_timeout, view.duration("stop_timeout"));
        put(&mut to.drain_timeout, view.duration("drain_timeout"));
        put(
            &mut to.drain_timeout_upgraded,
            view.duration("drain_timeout_upgraded"),
        );
        put(&mut to.drain_memory_max, view.size("drain_memory_max"));
        put(&mut to.max_generations, view.number("max_generations"));
        put(&mut to.drain_spread, view.duration("drain_spread"));
        put(&mut to.reload_debounce, view.duration("reload_debounce"));
        put(&mut to.ready_timeout, view.duration("ready_timeout"));
    }

    fn worker(&self, view: View<'t>, to: &mut Worker) {
        put(&mut to.count, view.number("count"));
        put(&mut to.threads, view.number("threads"));
        put(
            &mut to.affinity,
            view.node("cpu_affinity").and_then(affinity),
        );
        put(&mut to.max_connections, view.number("max_connections"));
        put(&mut to.open_files, view.number("open_files"));
        if view.text("accept") == Some("shared") {
            to.accept = AcceptMode::Shared;
        }
        put(&mut to.buffer_size, view.size("buffer_size"));
        put(&mut to.buffer_pool_max, view.size("buffer_pool_max"));
        put(&mut to.core_dumps, view.flag("core_dumps"));
        match view.text("sandbox") {
            Some("off") => to.sandbox = Sandbox::Off,
            Some("basic") => to.sandbox = Sandbox::Basic,
            _ => {}
        }
    }

    fn output(&self, view: View<'t>) -> Option<Output> {
        let node = view.node("output")?;
        Some(match grammar::parse_output(node.text()?)? {
            Output::File(path) => Output::File(self.resolve(node.place, &path)),
            other => other,
        })
    }

    fn log(&self, view: View<'t>, to: &mut LogParams) {
        put(&mut to.level, view.text("level").and_then(level));
        for entry in view
            .sub("levels")
            .table()
            .map(|t| t.entries.as_slice())
            .unwrap_or_default()
        {
            if let Some(level) = entry.node.text().and_then(level) {
                to.levels.push((entry.key.clone(), level));
            }
        }
        if view.text("format") == Some("json") {
            to.format = Format::Json;
        }
        put(&mut to.output, self.output(view));
    }

    fn access(&self, view: View<'t>, to: &mut AccessParams) {
        put(&mut to.output, self.output(view));
        put(&mut to.format, view.text("format").map(ToOwned::to_owned));
        let sample = view.sub("sample");
        let share = |key: &str| match sample.node(key)?.value {
            Value::Float(f) => Some(f),
            Value::Int(Some(1)) => Some(1.0),
            Value::Int(Some(0)) => Some(0.0),
            _ => None,
        };
        let default = share("default").unwrap_or(1.0);
        to.sample =
            ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| share(class).unwrap_or(default));
        put(&mut to.redact, view.texts("redact"));
    }

    fn metrics(&self, view: View<'t>, to: &mut Metrics) {
        to.bind = view.text("bind").and_then(|t| BindAddr::parse(t).ok());
        put(&mut to.path, view.text("path").map(ToOwned::to_owned));
        let Some(node) = view.node("histogram_buckets") else {
            return;
        };
        let buckets: Vec<Duration> = node
            .elements()
            .iter()
            .filter_map(|n| unit::parse_duration(n.text()?).ok())
            .collect();
        let rising = buckets.windows(2).all(|w| w.first() < w.last());
        if buckets.is_empty() || buckets.len() > 32 || !rising {
            self.report(
                Finding::new(
                    Code::OutOfRange,
                    node.place,
                    "`histogram_buckets` is not a rising list",
                )
                .help("write 1 to 32 durations, each longer than the one before"),
            );
        } else {
            to.buckets = buckets;
        }
    }

    fn dns(&self, view: View<'t>, to: &mut Dns) {
        to.servers = view
            .nodes("servers")
            .iter()
            .filter_map(|n| n.text()?.parse::<SocketAddr>().ok())
            .collect();
        put(&mut to.min_ttl, view.duration("min_ttl"));
        put(&mut to.max_ttl, view.duration("max_ttl"));
        put(&mut to.stale, view.duration("stale"));
        if to.min_ttl > to.max_ttl {
            let place = view
                .node("min_ttl")
                .or(view.node("max_ttl"))
                .map(|n| n.place);
            self.report(Finding::new(
                Code::OutOfRange,
                place.unwrap_or_default(),
                "`min_ttl` is longer than `max_ttl`",
            ));
        }
    }
}

fn watchdog(view: View<'_>, to: &mut Watchdog) {
    put(&mut to.check_interval, view.duration("check_interval"));
    put(
        &mut to.heartbeat_timeout,
        view.duration("heartbeat_timeout"),
    );
    put(&mut to.start_grace, view.duration("start_grace"));
    put(&mut to.restart_delay, view.duration("restart_delay"));
    put(&mut to.max_restarts, view.number("max_restarts"));
    put(&mut to.restart_window, view.duration("restart_window"));
    put(&mut to.alert_after, view.number("alert_after"));
    put(&mut to.alert_exec, view.texts("alert_exec"));
}

fn affinity(node: &Node) -> Option<Affinity> {
    match &node.value {
        Value::Text(word) if word == "none" => Some(Affinity::None),
        Value::List(lists) => Some(Affinity::Lists(
            lists
                .iter()
                .map(|l| l.elements().iter().filter_map(cpu).collect())
                .collect(),
        )),
        _ => None,
    }
}

fn cpu(node: &Node) -> Option<u32> {
    match node.value {
        Value::Int(n) => u32::try_from(n?).ok(),
        _ => None,
    }
}

fn level(word: &str) -> Option<log::LevelFilter> {
    word.parse().ok()
}
