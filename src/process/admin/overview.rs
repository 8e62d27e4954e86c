//! The page for people: one plain HTML document without scripts or anything from elsewhere, made
//! afresh from the shared table at every request.

use super::processes::Process;
use crate::base::time::Instant;
use crate::metric::catalog::{self, Desc};
use crate::metric::{Reading, Registry, Table, readings};
use std::fmt::Write as _;
use std::time::Duration;

/// Tables end after so many rows; the metrics have them all.
const ROWS_MAX: usize = 200;

/// When and in which generation the page is made.
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: Duration,
    pub(super) generation: u64,
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\
<title>proxyd</title><style>\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}\
h1{margin-bottom:0}h2{margin:1.5em 0 .3em;font-size:1.1em}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.15em .6em;border-bottom:1px solid #8884}\
th:first-child,td:first-child{text-align:left;padding-left:0}\
th{font-weight:600;border-bottom-color:#888}.bad{color:#d33;font-weight:600}\
</style></head><body>\n";

/// The page.
pub(super) fn page(
    registry: &Registry,
    table: &Table,
    processes: &[Process],
    now: &Now,
    metrics_path: &str,
) -> String {
    let view = View { registry, table };
    let mut out = String::from(HEAD);
    // Writing to a String cannot fail.
    let _head = write!(
        out,
        "<h1>proxyd {}</h1><p>Generation {}{}. {}\
         <a href=\"{path}\">{path}</a> has all numbers.</p>",
        env!("CARGO_PKG_VERSION"),
        now.generation,
        view.age(now),
        view.reload(),
        path = escaped(metrics_path),
    );
    process_table(&mut out, processes, &view, now);
    listener_table(&mut out, &view);
    route_table(&mut out, &view);
    server_table(&mut out, &view);
    out.push_str("</body></html>\n");
    out
}

struct View<'a> {
    registry: &'a Registry,
    table: &'a Table,
}

impl<'a> View<'a> {
    fn all(&self, desc: &'static Desc) -> Vec<Reading<'a>> {
        readings(self.registry, self.table, desc)
    }

    /// The sum over a metric without labels, or over all its series.
    fn total(&self, desc: &'static Desc) -> u64 {
        self.all(desc).iter().map(Reading::total).sum()
    }

    fn age(&self, now: &Now) -> String {
        match self.total(&catalog::MASTER_START_TIME) {
            0 => String::new(),
            start => format!(
                ", up for {}",
                span(Duration::from_secs(
                    now.wall.as_secs().saturating_sub(start)
                ))
            ),
        }
    }

    fn reload(&self) -> &'static str {
        let known = self.total(&catalog::CONFIG_RELOAD_TIME) > 0;
        if known && self.total(&catalog::CONFIG_RELOAD_OK) == 0 {
            "<span class=\"bad\">The last reload failed.</span> "
        } else {
            ""
        }
    }
}

fn process_table(out: &mut String, processes: &[Process], view: &View<'_>, now: &Now) {
    let connections = view.all(&catalog::WORKER_CONNECTIONS);
    let restarts = view.all(&catalog::WORKER_RESTARTS);
    let mut table = Rows::new(
        out,
        "Processes",
        &[
            "",
            "pid",
            "generation",
            "alive",
            "connections",
            "restarts",
            "CPU",
            "memory",
        ],
    );
    for process in processes {
        let worker = process.owner.worker.to_string();
        let is_worker = process.name.starts_with("worker");
        let of = |all: &[Reading<'_>]| match find(all, &[&worker]) {
            Some(reading) if is_worker => reading.total().to_string(),
            _ => String::new(),
        };
        let quiet = now.monotonic - process.owner.heartbeat;
        let alive = if is_worker && quiet > super::FRESH {
            Cell::Bad(format!("silent for {}", span(quiet)))
        } else {
            Cell::Plain(span(now.monotonic - process.owner.started))
        };
        table.row(&[
            Cell::Plain(process.name.clone()),
            Cell::Plain(process.owner.pid.to_string()),
            Cell::Plain(process.owner.generation.to_string()),
            alive,
            Cell::Plain(of(&connections)),
            Cell::Plain(of(&restarts)),
            Cell::Plain(format!("{:.1} s", process.usage.cpu.as_secs_f64())),
            Cell::Plain(bytes(process.usage.resident)),
        ]);
    }
    table.end();
}

fn listener_table(out: &mut String, view: &View<'_>) {
    let accepted = view.all(&catalog::LISTENER_CONNECTIONS);
    let active = view.all(&catalog::LISTENER_CONNECTIONS_ACTIVE);
    let requests = view.all(&catalog::LISTENER_REQUESTS);
    let received = view.all(&catalog::LISTENER_RECEIVED);
    let sent = view.all(&catalog::LISTENER_SENT);
    let mut table = Rows::new(
        out,
        "Listeners",
        &[
            "", "open", "accepted", "requests", "4xx", "5xx", "received", "sent",
        ],
    );
    for listener in &accepted {
        let name = listener.labels();
        let of = |all: &[Reading<'_>]| find(all, &name).map_or(0, Reading::total);
        let class = |c: &str| find(&requests, &name).map_or(0, |r| r.of(c));
        table.row(&[
            Cell::Plain(name.join(" ")),
            Cell::Plain(of(&active).to_string()),
            Cell::Plain(listener.total().to_string()),
            Cell::Plain(of(&requests).to_string()),
            Cell::Plain(class("4xx").to_string()),
            Cell::bad_unless_zero(class("5xx")),
            Cell::Plain(bytes(of(&received))),
            Cell::Plain(bytes(of(&sent))),
        ]);
    }
    table.end();
}

fn route_table(out: &mut String, view: &View<'_>) {
    let requests = view.all(&catalog::ROUTE_REQUESTS);
    let active = view.all(&catalog::ROUTE_ACTIVE);
    let tunnels = view.all(&catalog::ROUTE_TUNNELS);
    let sent = view.all(&catalog::ROUTE_SENT);
    let mut table = Rows::new(
        out,
        "Routes",
        &[
            "", "active", "tunnels", "requests", "2xx", "4xx", "5xx", "sent",
        ],
    );
    for route in &requests {
        let name = route.labels();
        let of = |all: &[Reading<'_>]| find(all, &name).map_or(0, Reading::total);
        table.row(&[
            Cell::Plain(name.join(" ")),
            Cell::Plain(of(&active).to_string()),
            Cell::Plain(of(&tunnels).to_string()),
            Cell::Plain(route.total().to_string()),
            Cell::Plain(route.of("2xx").to_string()),
            Cell::Plain(route.of("4xx").to_string()),
            Cell::bad_unless_zero(route.of("5xx")),
            Cell::Plain(bytes(of(&sent))),
        ]);
    }
    table.end();
}

fn server_table(out: &mut String, view: &View<'_>) {
    let up = view.all(&catalog::SERVER_UP);
    let requests = view.all(&catalog::SERVER_REQUESTS);
    let active = view.all(&catalog::SERVER_ACTIVE);
    let idle = view.all(&catalog::SERVER_POOL_IDLE);
    let connects = view.all(&catalog::SERVER_CONNECTS);
    let failures = view.all(&catalog::SERVER_FAILURES);
    let mut table = Rows::new(
        out,
        "Upstreams",
        &[
            "", "state", "active", "idle", "requests", "5xx", "connects", "failures",
        ],
    );
    for server in &up {
        let name = server.labels();
        let of = |all: &[Reading<'_>]| find(all, &name).map_or(0, Reading::total);
        let state = if server.total() == 1 {
            Cell::Plain("up".to_owned())
        } else {
            Cell::Bad("passed over".to_owned())
        };
        table.row(&[
            Cell::Plain(name.join(" / ")),
            state,
            Cell::Plain(of(&active).to_string()),
            Cell::Plain(of(&idle).to_string()),
            Cell::Plain(of(&requests).to_string()),
            Cell::bad_unless_zero(find(&requests, &name).map_or(0, |r| r.of("5xx"))),
            Cell::Plain(of(&connects).to_string()),
            Cell::Plain(of(&failures).to_string()),
        ]);
    }
    table.end();
}

/// Series of the things of one kind stand in the same order in each of their metrics, so this
/// mostly looks at few.
fn find<'r, 'a>(all: &'r [Reading<'a>], labels: &[&str]) -> Option<&'r Reading<'a>> {
    all.iter().find(|reading| reading.labels() == labels)
}

enum Cell {
    Plain(String),
    Bad(String),
}

impl Cell {
    fn bad_unless_zero(n: u64) -> Self {
        if n == 0 {
            Self::Plain("0".to_owned())
        } else {
            Self::Bad(n.to_string())
        }
    }
}

/// A table of the page, written row by row.
struct Rows<'o> {
    out: &'o mut String,
    rows: usize,
}

impl<'o> Rows<'o> {
    fn new(out: &'o mut String, title: &str, columns: &[&str]) -> Self {
        let _head = write!(out, "<h2>{title}</h2><table><tr>");
        for column in columns {
            let _column = write!(out, "<th>{column}</th>");
        }
        out.push_str("</tr>\n");
        Self { out, rows: 0 }
    }

    fn row(&mut self, cells: &[Cell]) {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            return;
        }
        self.out.push_str("<tr>");
        for cell in cells {
            let _cell = match cell {
                Cell::Plain(text) => write!(self.out, "<td>{}</td>", escaped(text)),
                Cell::Bad(text) => write!(self.out, "<td class=\"bad\">{}</td>", escaped(text)),
            };
        }
        self.out.push_str("</tr>\n");
    }

    fn end(self) {
        self.out.push_str("</table>");
        if self.rows > ROWS_MAX {
            let _more = write!(self.out, "<p>and {} more.</p>", self.rows - ROWS_MAX);
        }
        self.out.push('\n');
    }
}

/// Text that means nothing to a browser.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A number of bytes with two or three digits and a unit.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut whole = n;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit > 0 && whole < 10 {
        format!("{whole}.{} {name}", rest * 10 / 1024)
    } else {
        format!("{whole} {name}")
    }
}

/// A length of time in its largest two units.
fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(20 << 20), "20 MiB");
        assert_eq!(bytes(u64::MAX), "16383 PiB");
        assert_eq!(span(Duration::from_secs(59)), "59 s");
        assert_eq!(span(Duration::from_secs(3661)), "1 h 1 min");
        assert_eq!(span(Duration::from_secs(90_000)), "1 d 1 h");
    }

    #[test]
    fn names_are_text_and_not_markup() {
        assert_eq!(
            escaped("<a href='x'>&\""),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;"
        );
    }

    #[test]
    fn a_long_table_ends() {
        let mut out = String::new();
        let mut rows = Rows::new(&mut out, "T", &["a"]);
        for i in 0..ROWS_MAX + 3 {
            rows.row(&[Cell::Plain(i.to_string())]);
        }
        rows.end();
        assert!(out.contains("and 3 more") && !out.contains("<td>201</td>"));
    }
}
