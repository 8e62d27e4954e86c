//! The keys of the sections about processes: `[master]`, `[worker]`, `[watchdog]`, `[log]`,
//! `[metrics]`, `[dns]`, `[sets]`.

use super::{COUNT, Key, Kind, SIZE, SPAN, Section, TIME, key, required};
use crate::conf::grammar;

/// What a set holds.
pub(super) static NETWORKS_OR_FILE: Kind = Kind::Forms(&[
    Kind::Many(&Kind::Special("a network", grammar::network)),
    Kind::Table(&SET_FILE),
]);

/// A list of networks in a file.
pub(super) static SET_FILE: Section = Section {
    path: "sets.NAME",
    doc: "A list of networks in a file.",
    keys: &[required(
        "file",
        Kind::Path,
        "One network per line; `#` begins a comment. Read at every reload.",
    )],
};

/// `[master]`.
pub(super) static MASTER: Section = Section {
    path: "master",
    doc: "The master process: privileged, tiny. It reads the configuration, binds, forks and supervises, and never reads a byte from the network.",
    keys: &[
        key("user", Kind::Text, "", "User of the workers when the master runs as root.").restart(),
        key("group", Kind::Text, "", "Group of the workers; the user's own group otherwise.").restart(),
        key("pid_file", Kind::Path, "", "File with the number of the master, for `proxyd -s`.").restart(),
        key("daemon", Kind::Bool, "false", "Detach from the terminal; systemd and containers want the foreground.").restart(),
        key(
            "capabilities",
            Kind::List(&Kind::Word(&["net_bind_service", "net_admin", "net_raw"])),
            "[]",
            "Capabilities that the master keeps for itself. Reserved: no section of this version needs one, and the master keeps what it was started with.",
        )
        .restart(),
        key("stop_timeout", TIME, "\"30s\"", "After TERM a child has so long before KILL."),
        key("drain_timeout", SPAN, "\"30s\"", "How long ordinary requests of an old generation may go on."),
        key("drain_timeout_upgraded", SPAN, "\"1h\"", "How long WebSocket and other tunnels of an old generation may go on."),
        key("drain_memory_max", SIZE, "\"512MiB\"", "Memory of all old generations together; the oldest is closed first."),
        key("max_generations", Kind::Int(1, 64), "4", "Old generations that may drain at one time; older ones are closed."),
        key("drain_spread", SPAN, "\"10s\"", "Connections that have to be closed are closed spread over this time."),
        key("reload_debounce", SPAN, "\"1s\"", "Reload signals within this time make one reload."),
        key("ready_timeout", TIME, "\"30s\"", "How long new workers may take to become ready before a reload counts as failed."),
    ],
};

/// `[worker]`.
pub(super) static WORKER: Section = Section {
    path: "worker",
    doc: "The worker processes: unprivileged, each with its event loops.",
    keys: &[
        key("count", Kind::Forms(&[Kind::Int(1, 1024), Kind::Word(&["auto"])]), "\"auto\"", "Worker processes; `auto`: one for each usable CPU."),
        key("threads", Kind::Int(1, 256), "1", "Event loops per worker process."),
        key(
            "cpu_affinity",
            Kind::Forms(&[Kind::Word(&["none", "auto"]), Kind::List(&Kind::List(&Kind::Int(0, 4095)))]),
            "\"auto\"",
            "CPUs of the workers: `none`, `auto` (one each when the numbers are equal), or a list of CPUs for each worker.",
        ),
        key("max_connections", COUNT, "16384", "Client connections per worker; 0: from the limit of open files. At the limit new connections wait in the kernel."),
        key("open_files", Kind::Forms(&[Kind::Int(64, 1 << 30), Kind::Word(&["auto"])]), "\"auto\"", "Limit of open files per worker; `auto`: as high as the system allows."),
        key("accept", Kind::Word(&["reuseport", "shared"]), "\"reuseport\"", "One listening socket per worker, or one for all. The sockets belong to the master, so a reload loses no waiting connection either way."),
        key("buffer_size", Kind::Size(4 << 10, 1 << 20), "\"16KiB\"", "Size of an I/O buffer; buffers are taken only while bytes are in flight."),
        key("buffer_pool_max", Kind::Size(1 << 20, 1 << 40), "\"256MiB\"", "Memory for buffers per worker; reading pauses above it."),
        key(
            "sandbox",
            Kind::Word(&["basic", "off", "strict"]),
            "\"strict\"",
            "`strict`: no file can be opened any more (Landlock) and system calls that a proxy has no use for fail (seccomp), as far as the kernel knows these. `basic` and `off` leave that out; the change of user, no new privileges and no capability are never left out.",
        )
        .restart(),
        key("core_dumps", Kind::Bool, "false", "Allow core dumps of workers; they hold keys and traffic."),
    ],
};

/// `[watchdog]`.
pub(super) static WATCHDOG: Section = Section {
    path: "watchdog",
    doc: "When workers are replaced, and who is told.",
    keys: &[
        key(
            "check_interval",
            TIME,
            "\"30s\"",
            "Time between two checks of the children.",
        ),
        key(
            "heartbeat_timeout",
            TIME,
            "\"10s\"",
            "A worker whose loop stands still so long is killed and replaced.",
        ),
        key(
            "start_grace",
            SPAN,
            "\"2s\"",
            "How long a new worker has to live before it counts as running.",
        ),
        key(
            "restart_delay",
            SPAN,
            "\"5s\"",
            "Delay before a restart; doubles each time. The first restart of a worker is immediate.",
        ),
        key(
            "max_restarts",
            COUNT,
            "5",
            "Restarts within `restart_window`; then the master waits for the window to pass.",
        ),
        key("restart_window", TIME, "\"5m\"", "See `max_restarts`."),
        key(
            "alert_after",
            COUNT,
            "3",
            "Restarts within the window after which an alert is raised.",
        ),
        key(
            "alert_exec",
            Kind::List(&Kind::Text),
            "[]",
            "Program and arguments to run for an alert.",
        ),
    ],
};

const OUTPUT: Kind = Kind::Special(
    "stderr, journald, syslog:unix:/path, off or a path",
    grammar::output,
);
const LEVEL: Kind = Kind::Word(&["off", "error", "warn", "info", "debug", "trace"]);

/// `[log]`.
pub(super) static LOG: Section = Section {
    path: "log",
    doc: "The error log: starts, reloads, faults.",
    keys: &[
        key("level", LEVEL, "\"info\"", "How much is written."),
        key(
            "levels",
            Kind::Map(&Kind::Name, &LEVEL),
            "{}",
            "Levels of single parts: `{ tls = \"debug\" }`.",
        ),
        key(
            "format",
            Kind::Word(&["text", "json"]),
            "\"text\"",
            "For people, or one JSON object a line.",
        ),
        key(
            "output",
            OUTPUT,
            "\"stderr\"",
            "`stderr`, `journald`, `syslog:unix:/dev/log`, `off`, or a path. Files are re-opened on USR1.",
        ),
        key("access", Kind::Table(&ACCESS), "", "The access log."),
    ],
};

static ACCESS: Section = Section {
    path: "log.access",
    doc: "The access log: one line for each request.",
    keys: &[
        key(
            "output",
            OUTPUT,
            "\"off\"",
            "As in [log]. The master opens the file and re-opens it on USR1.",
        ),
        key(
            "format",
            Kind::Special("combined, json or a template", grammar::log_format),
            "\"combined\"",
            "`combined`, `json`, or a template such as `\"{client_ip} {status} {reason}\"`.",
        ),
        key(
            "sample",
            Kind::Map(&Kind::Word(SAMPLE_KEYS), &Kind::Share),
            "{ default = 1.0 }",
            "Share of requests written, by status class: `{ \"2xx\" = 0.1, default = 1.0 }`.",
        ),
        key(
            "redact",
            Kind::List(&Kind::Special("query:NAME or header:NAME", grammar::redact)),
            "[]",
            "Query parameters and header fields whose values are not written: `query:token`, `header:authorization`.",
        ),
    ],
};

/// The keys of `log.access.sample`.
const SAMPLE_KEYS: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx", "default"];

/// `[metrics]`.
pub(super) static METRICS: Section = Section {
    path: "metrics",
    doc: "Figures for Prometheus, from the admin process. One scrape covers all workers and generations.",
    keys: &[
        key(
            "bind",
            Kind::Bind,
            "",
            "Address of the metrics page; none without it.",
        ),
        key(
            "path",
            Kind::Special("a path", grammar::path),
            "\"/metrics\"",
            "Path of the page.",
        ),
        BUCKETS,
    ],
};

const BUCKETS: Key = key(
    "histogram_buckets",
    Kind::List(&TIME),
    "[\"1ms\", \"5ms\", \"25ms\", \"100ms\", \"250ms\", \"500ms\", \"1s\", \"2500ms\", \"10s\"]",
    "Bounds of latency histograms, rising.",
)
.restart();

/// `[dns]`.
pub(super) static DNS: Section = Section {
    path: "dns",
    doc: "How names of servers become addresses. A start needs no DNS.",
    keys: &[
        key(
            "servers",
            Kind::Forms(&[Kind::Word(&["system"]), Kind::List(&Kind::Socket)]),
            "\"system\"",
            "Name servers, or those of the system.",
        ),
        key(
            "min_ttl",
            SPAN,
            "\"1s\"",
            "Answers are kept at least so long.",
        ),
        key(
            "max_ttl",
            TIME,
            "\"5m\"",
            "Answers are kept at most so long.",
        ),
        key(
            "stale",
            SPAN,
            "\"1h\"",
            "How long the last good answer is used while DNS fails.",
        ),
    ],
};
