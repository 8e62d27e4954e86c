//! The sections about processes.

use super::{Out, list, table};
use crate::base::unit;
use crate::conf::model::{AcceptMode, Affinity, Model, Sandbox};
use crate::log::params::{Format, Output};

pub(super) fn write(model: &Model, out: &mut Out) {
    master(model, out);
    worker(model, out);
    watchdog(model, out);
    logs(model, out);
    metrics(model, out);
    dns(model, out);
}

fn master(model: &Model, out: &mut Out) {
    let master = &model.master;
    out.section("[master]");
    out.maybe("user", master.user.as_deref());
    out.maybe("group", master.group.as_deref());
    if let Some(path) = &master.pid_file {
        out.path("pid_file", path);
    }
    out.raw("daemon", master.daemon);
    out.time("stop_timeout", master.stop_timeout);
    out.time("drain_timeout", master.drain_timeout);
    out.time("drain_timeout_upgraded", master.drain_timeout_upgraded);
    out.size("drain_memory_max", master.drain_memory_max);
    out.raw("max_generations", master.max_generations);
    out.time("drain_spread", master.drain_spread);
    out.time("reload_debounce", master.reload_debounce);
    out.time("ready_timeout", master.ready_timeout);
}

fn worker(model: &Model, out: &mut Out) {
    let worker = &model.worker;
    out.section("[worker]");
    match worker.count {
        0 => out.text("count", "auto"),
        n => out.raw("count", n),
    }
    out.raw("threads", worker.threads);
    match &worker.affinity {
        Affinity::None => out.text("cpu_affinity", "none"),
        Affinity::Auto => out.text("cpu_affinity", "auto"),
        Affinity::Lists(lists) => out.raw("cpu_affinity", format!("{lists:?}")),
    }
    out.raw("max_connections", worker.max_connections);
    match worker.open_files {
        0 => out.text("open_files", "auto"),
        n => out.raw("open_files", n),
    }
    let accept = match worker.accept {
        AcceptMode::Reuseport => "reuseport",
        AcceptMode::Shared => "shared",
    };
    out.text("accept", accept);
    out.size(
        "buffer_size",
        u64::try_from(worker.buffer_size).unwrap_or(u64::MAX),
    );
    out.size("buffer_pool_max", worker.buffer_pool_max);
    let sandbox = match worker.sandbox {
        Sandbox::Strict => "strict",
        Sandbox::Basic => "basic",
        Sandbox::Off => "off",
    };
    out.text("sandbox", sandbox);
    out.raw("core_dumps", worker.core_dumps);
}

fn watchdog(model: &Model, out: &mut Out) {
    let watchdog = &model.watchdog;
    out.section("[watchdog]");
    out.time("check_interval", watchdog.check_interval);
    out.time("heartbeat_timeout", watchdog.heartbeat_timeout);
    out.time("start_grace", watchdog.start_grace);
    out.time("restart_delay", watchdog.restart_delay);
    out.raw("max_restarts", watchdog.max_restarts);
    out.time("restart_window", watchdog.restart_window);
    out.raw("alert_after", watchdog.alert_after);
    out.texts("alert_exec", &watchdog.alert_exec);
}

fn output(out: &mut Out, output: &Output) {
    match output {
        Output::Stderr => out.text("output", "stderr"),
        Output::Journald => out.text("output", "journald"),
        Output::Off => out.text("output", "off"),
        Output::Syslog(path) => out.text("output", &format!("syslog:unix:{}", path.display())),
        Output::File(path) => out.path("output", path),
    }
}

fn logs(model: &Model, out: &mut Out) {
    let level = |l: log::LevelFilter| l.as_str().to_ascii_lowercase();
    out.section("[log]");
    out.text("level", &level(model.log.level));
    let levels = model.log.levels.iter();
    let levels = levels.map(|(part, l)| (part.as_str(), super::quote(&level(*l))));
    out.raw("levels", table(levels));
    let format = match model.log.format {
        Format::Text => "text",
        Format::Json => "json",
    };
    out.text("format", format);
    output(out, &model.log.output);

    let access = &model.access_log;
    out.section("[log.access]");
    output(out, &access.output);
    out.text("format", &access.format);
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let [first, rest @ ..] = access.sample;
    if rest.iter().all(|share| share.to_bits() == first.to_bits()) {
        out.raw("sample", table([("default", format!("{first:?}"))]));
    } else {
        let shares = classes.iter().zip(access.sample);
        out.raw(
            "sample",
            table(shares.map(|(class, share)| (*class, format!("{share:?}")))),
        );
    }
    out.texts("redact", &access.redact);
}

fn metrics(model: &Model, out: &mut Out) {
    out.section("[metrics]");
    if let Some(bind) = &model.metrics.bind {
        out.text("bind", &bind.to_string());
    }
    out.text("path", &model.metrics.path);
    let buckets = model.metrics.buckets.iter();
    out.texts(
        "histogram_buckets",
        buckets.map(|d| unit::print_duration(*d)),
    );
}

fn dns(model: &Model, out: &mut Out) {
    let dns = &model.dns;
    out.section("[dns]");
    if dns.servers.is_empty() {
        out.text("servers", "system");
    } else {
        out.raw("servers", list(dns.servers.iter().map(ToString::to_string)));
    }
    out.time("min_ttl", dns.min_ttl);
    out.time("max_ttl", dns.max_ttl);
    out.time("stale", dns.stale);
}
