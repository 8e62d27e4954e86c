//! Every metric once: name, kind, labels, unit, help. Metric names stand nowhere else.

use super::label::{Class, Handshake, Label, Limit, Outcome, TlsVersion};
use crate::base::reason::Reason;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down; zeroed when its writer dies.
    Gauge,
    /// A gauge that is also kept as one exact count of the host.
    HostGauge,
    /// One word of the host.
    Shared,
    /// Durations by size.
    Histogram,
    /// Read by the admin process at the moment of a scrape: has no slot.
    Sampled,
    /// A word of the host that is not shown.
    Hidden,
}

/// What the word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, bytes, seconds: shown as it is.
    Plain,
    /// Nanoseconds: shown as seconds.
    Nanos,
    /// Shown as 1 while the word is zero, as 0 otherwise.
    ZeroIsOne,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desc {
    /// The name with its prefix.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Whether it is shown as a counter (else as a gauge, or a histogram by its kind).
    pub counts: bool,
    /// What the word counts.
    pub unit: Unit,
    /// The names of its labels; of a metric with `each`, the last one is filled from that list.
    pub labels: &'static [&'static str],
    /// The closed list of values of the last label; empty: none.
    pub each: &'static [&'static str],
    /// The list is long and mostly zero: zeros are not shown.
    pub sparse: bool,
    /// Bounds of the buckets in nanoseconds; empty: those of the configuration.
    pub bounds: &'static [u64],
    /// One sentence.
    pub help: &'static str,
}

const PLAIN: Desc = Desc {
    name: "",
    kind: Kind::Counter,
    counts: true,
    unit: Unit::Plain,
    labels: &[],
    each: &[],
    sparse: false,
    bounds: &[],
    help: "",
};

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Desc {
    Desc {
        name,
        labels,
        help,
        ..PLAIN
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Desc {
    Desc {
        name,
        kind: Kind::Gauge,
        counts: false,
        labels,
        help,
        ..PLAIN
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Desc {
    Desc {
        name,
        kind: Kind::Histogram,
        counts: false,
        unit: Unit::Nanos,
        labels,
        help,
        ..PLAIN
    }
}

const fn each<L: Label>(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Desc {
    Desc {
        name,
        labels,
        each: L::WORDS,
        help,
        ..PLAIN
    }
}

const fn sparse<L: Label>(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Desc {
    Desc {
        sparse: true,
        ..each::<L>(name, labels, help)
    }
}

const fn of_kind(kind: Kind, desc: Desc) -> Desc {
    Desc { kind, ..desc }
}

const fn of_unit(unit: Unit, desc: Desc) -> Desc {
    Desc { unit, ..desc }
}

const MS: u64 = 1_000_000;
/// The lag of an event loop is interesting long before a request is slow.
const LAG_BOUNDS: &[u64] = &[
    MS / 10,
    MS / 2,
    MS,
    5 * MS,
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    1000 * MS,
    5000 * MS,
];

macro_rules! catalog {
    ($( $item:ident = $desc:expr; )*) => {
        $( #[doc = concat!("`", stringify!($item), "`")] pub static $item: Desc = $desc; )*

        /// Every metric in the order of the scrape.
        pub static ALL: &[&Desc] = &[ $( &$item, )* ];
    };
}

const L: &[&str] = &["listener"];
const LR: &[&str] = &["listener", "reason"];
const LC: &[&str] = &["listener", "class"];
const R: &[&str] = &["route"];
const U: &[&str] = &["upstream"];
const S: &[&str] = &["upstream", "server"];
const W: &[&str] = &["worker"];
const P: &[&str] = &["process", "generation"];

catalog! {
    // listeners
    LISTENER_CONNECTIONS = counter("proxyd_listener_connections_total", L, "Connections accepted.");
    LISTENER_CONNECTIONS_ACTIVE = gauge("proxyd_listener_connections_active", L, "Client connections that are open.");
    LISTENER_REFUSED = sparse::<Reason>("proxyd_listener_connections_refused_total", LR, "Connections closed or reset without a response, by reason code.");
    LISTENER_REQUESTS = each::<Class>("proxyd_listener_requests_total", LC, "Requests ended, by status class; none: without a response head.");
    LISTENER_REASONS = sparse::<Reason>("proxyd_listener_request_failures_total", LR, "Requests that proxyd answered with an error, refused or broke, by reason code; zeros are not shown.");
    LISTENER_DURATION = histogram("proxyd_listener_request_duration_seconds", L, "From the first byte of a request to the last byte of its response.");
    LISTENER_RECEIVED = counter("proxyd_listener_received_bytes_total", L, "Bytes read from clients, without TLS.");
    LISTENER_SENT = counter("proxyd_listener_sent_bytes_total", L, "Bytes written to clients, without TLS.");
    LISTENER_HANDSHAKES = each::<Handshake>("proxyd_listener_tls_handshakes_total", &["listener", "result"], "TLS handshakes with clients, by result.");
    LISTENER_TLS_VERSIONS = each::<TlsVersion>("proxyd_listener_tls_connections_total", &["listener", "version"], "TLS connections with clients, by protocol version.");
    LISTENER_HANDSHAKE_DURATION = histogram("proxyd_listener_tls_handshake_duration_seconds", L, "From the accepted connection to the end of its TLS handshake.");
    // routes
    ROUTE_REQUESTS = each::<Class>("proxyd_route_requests_total", &["route", "class"], "Requests ended, by status class; none: without a response head.");
    ROUTE_REASONS = sparse::<Reason>("proxyd_route_request_failures_total", &["route", "reason"], "Requests that proxyd answered with an error, refused or broke, by reason code; zeros are not shown.");
    ROUTE_DURATION = histogram("proxyd_route_request_duration_seconds", R, "From the first byte of a request to the last byte of its response.");
    ROUTE_FIRST_BYTE = histogram("proxyd_route_first_byte_seconds", R, "From the end of a request's head to the first byte of the response.");
    ROUTE_RECEIVED = counter("proxyd_route_received_bytes_total", R, "Bytes of requests.");
    ROUTE_SENT = counter("proxyd_route_sent_bytes_total", R, "Bytes of responses.");
    ROUTE_ACTIVE = gauge("proxyd_route_requests_active", R, "Requests being served.");
    ROUTE_TUNNELS = gauge("proxyd_route_tunnels_active", R, "Upgraded connections that are open.");
    // upstreams
    UPSTREAM_REQUESTS = each::<Class>("proxyd_upstream_requests_total", &["upstream", "class"], "Requests sent to the upstream, by status class of the final answer; none: without an answer.");
    UPSTREAM_RETRIES = counter("proxyd_upstream_retries_total", U, "Attempts after the first one.");
    UPSTREAM_DURATION = histogram("proxyd_upstream_request_duration_seconds", U, "From the first attempt to the end of the response.");
    UPSTREAM_WAITING = gauge("proxyd_upstream_queue_waiting", U, "Requests waiting for a connection.");
    UPSTREAM_QUEUE_TIMEOUTS = counter("proxyd_upstream_queue_timeouts_total", U, "Requests that waited too long for a connection.");
    UPSTREAM_QUEUE_FULL = counter("proxyd_upstream_queue_full_total", U, "Requests refused because too many were waiting.");
    UPSTREAM_QUEUE_DURATION = histogram("proxyd_upstream_queue_duration_seconds", U, "Time that a request waited for a connection.");
    UPSTREAM_NO_SERVER = counter("proxyd_upstream_no_server_total", U, "Requests for which no server could be used.");
    // servers
    SERVER_REQUESTS = each::<Class>("proxyd_server_requests_total", &["upstream", "server", "class"], "Attempts at the server, by status class of its answer; none: without an answer.");
    SERVER_CONNECTS = each::<Outcome>("proxyd_server_connects_total", &["upstream", "server", "result"], "Connections tried, by result.");
    SERVER_CONNECT_DURATION = histogram("proxyd_server_connect_duration_seconds", S, "Time to connect, TLS included.");
    SERVER_ACTIVE = of_kind(Kind::HostGauge, gauge("proxyd_server_requests_active", S, "Requests in flight at the server, over all workers."));
    SERVER_POOL_IDLE = gauge("proxyd_server_connections_idle", S, "Kept connections that wait for a request.");
    SERVER_POOL_ACTIVE = gauge("proxyd_server_connections_active", S, "Connections in use.");
    SERVER_REUSED = counter("proxyd_server_connections_reused_total", S, "Requests sent on a kept connection.");
    SERVER_STALE = counter("proxyd_server_connections_stale_total", S, "Kept connections that were found closed.");
    SERVER_FAILURES = counter("proxyd_server_failures_total", S, "Attempts that count as a failure of the server.");
    SERVER_UP = of_unit(Unit::ZeroIsOne, of_kind(Kind::Shared, gauge("proxyd_server_up", S, "1 while requests go to the server, 0 while it is passed over after failures.")));
    SERVER_FAIL_COUNT = of_kind(Kind::Hidden, gauge("proxyd_server_fail_window", S, "Failures in the present window, with its start."));
    SERVER_RECEIVED = counter("proxyd_server_received_bytes_total", S, "Bytes read from the server, without TLS.");
    SERVER_SENT = counter("proxyd_server_sent_bytes_total", S, "Bytes written to the server, without TLS.");
    // workers
    WORKER_CONNECTIONS = gauge("proxyd_worker_connections_active", W, "Client connections of the worker.");
    WORKER_TASKS = gauge("proxyd_worker_tasks", W, "Tasks of the worker's event loops.");
    WORKER_LAG = Desc { bounds: LAG_BOUNDS, ..histogram("proxyd_worker_loop_lag_seconds", W, "How long a turn of the event loop took: what a ready connection may have waited.") };
    WORKER_BUSY = of_unit(Unit::Nanos, counter("proxyd_worker_loop_busy_seconds_total", W, "Time in which the event loops were not waiting for the kernel."));
    WORKER_RESTARTS = counter("proxyd_worker_restarts_total", W, "Times the worker was started again after it ended by itself or hung.");
    WORKER_BUFFER_BYTES = gauge("proxyd_worker_buffer_bytes", W, "Memory of the buffer pool, in use or kept.");
    WORKER_LOG_LINES = counter("proxyd_worker_access_log_lines_total", W, "Lines of the access log.");
    WORKER_LOG_DROPPED = counter("proxyd_worker_access_log_lines_dropped_total", W, "Lines of the access log that could not be written.");
    WORKER_PANICS = counter("proxyd_worker_tasks_panicked_total", W, "Tasks ended by a defect of proxyd.");
    WORKER_RETRY_BUFFER = gauge("proxyd_worker_retry_buffer_bytes", W, "Request bodies kept for a retry.");
    LIMIT_HITS = sparse::<Limit>("proxyd_limit_hits_total", &["limit"], "Times a limit was reached; zeros are not shown.");
    // the master
    CONFIG_GENERATION = gauge("proxyd_config_generation", &[], "The generation of the configuration that serves.");
    CONFIG_GENERATIONS = gauge("proxyd_config_generations_active", &[], "Generations with a living worker.");
    CONFIG_RELOAD_OK = gauge("proxyd_config_last_reload_successful", &[], "1 when the last start or reload went well, 0 otherwise.");
    CONFIG_RELOAD_TIME = gauge("proxyd_config_last_reload_timestamp_seconds", &[], "When the last start or reload ended.");
    CONFIG_RELOADS = each::<Outcome>("proxyd_config_reloads_total", &["result"], "Starts and reloads, by result.");
    MASTER_ALERTS = counter("proxyd_alerts_total", &[], "Alerts about processes that do not stay up.");
    MASTER_START_TIME = gauge("proxyd_start_timestamp_seconds", &[], "When the master started.");
    CERTIFICATE_EXPIRY = of_kind(Kind::Shared, gauge("proxyd_certificate_expiry_timestamp_seconds", &["certificate"], "When the certificate ends."));
    CERTIFICATE_FAILURES = counter("proxyd_certificate_reload_failures_total", &["certificate"], "Changed certificate files that could not be used.");
    // processes, read when scraped
    BUILD_INFO = of_kind(Kind::Sampled, gauge("proxyd_build_info", &["version"], "Always 1; the version is in the label."));
    PROCESS_UP = of_kind(Kind::Sampled, gauge("proxyd_process_up", P, "Always 1 for every living process."));
    PROCESS_CPU = of_kind(Kind::Sampled, of_unit(Unit::Nanos, counter("proxyd_process_cpu_seconds_total", P, "CPU time of the process, user and system.")));
    PROCESS_MEMORY = of_kind(Kind::Sampled, gauge("proxyd_process_resident_memory_bytes", P, "Resident memory of the process."));
    PROCESS_FDS = of_kind(Kind::Sampled, gauge("proxyd_process_open_fds", P, "Open descriptors of the process; missing when it may not be read."));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let mut seen = HashSet::new();
        for desc in ALL {
            let name = desc.name;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("proxyd_"), "{name}");
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(name.bytes().all(plain), "{name}");
            assert_eq!(desc.counts, name.ends_with("_total"), "{name}");
            assert!(desc.help.ends_with('.'), "{name}");
            let seconds = name.contains("_seconds");
            let nanos = desc.unit == Unit::Nanos;
            assert!(!nanos || seconds, "{name}");
            assert!(
                desc.kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_closed_list_fills_the_last_label() {
        for desc in ALL.iter().filter(|d| !d.each.is_empty()) {
            let last = desc.labels.last().copied().unwrap();
            let known = ["reason", "class", "result", "version", "limit"];
            assert!(known.contains(&last), "{}", desc.name);
        }
    }

    #[test]
    fn bounds_rise() {
        for desc in ALL {
            assert!(desc.bounds.is_sorted());
        }
    }
}
