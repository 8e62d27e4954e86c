//! `docs/metrics.md` and `docs/reasons.md` from the code, so that the pages cannot lie. A test
//! compares; run it with `UPDATE=1` to write the pages afresh.

use super::catalog::{self, Desc, Kind};
use super::label::{Handshake, Label, Limit};
use crate::base::reason::Reason;

/// The text of `docs/metrics.md`.
#[must_use]
pub fn metrics() -> String {
    let mut page = String::from(METRICS_HEAD);
    for desc in catalog::ALL.iter().filter(|d| d.kind != Kind::Hidden) {
        page.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            desc.name,
            kind(desc),
            labels(desc),
            desc.help
        ));
    }
    page.push_str("\n## Values of `limit`\n\n");
    page.push_str(&words(Limit::WORDS));
    page.push_str("\n\n## Values of `result` of TLS handshakes\n\n");
    page.push_str(&words(Handshake::WORDS));
    page.push('\n');
    page
}

/// The text of `docs/reasons.md`.
#[must_use]
pub fn reasons() -> String {
    let mut page = String::from(REASONS_HEAD);
    for reason in Reason::ALL {
        let status = match reason.status() {
            0 => "–".to_owned(),
            status => status.to_string(),
        };
        page.push_str(&format!(
            "| `{}` | {status} | {} |\n",
            reason.as_str(),
            reason.help()
        ));
    }
    page
}

const METRICS_HEAD: &str = "\
# Metrics

Generated from `src/metric/catalog.rs`; a test compares.

The admin process serves them in the Prometheus text format at `[metrics] bind` and `path`. The numbers come out of memory
that all processes share: a scrape asks no worker, adds up every worker of every generation, and counters never go back over
reloads and crashes. Label values come from the configuration and from closed lists, never from traffic.

Histograms have the bounds of `[metrics] histogram_buckets` and appear with their first observation; lists by reason and by
limit show no zeros. The words of `reason` are in [reasons.md](reasons.md). `class` is `1xx` to `5xx`, or `none` when no
response head was sent. `process` is `master`, `admin` or `worker-N`.

`packaging/grafana/proxyd.json` is a dashboard and `packaging/prometheus/proxyd.rules.yml` a set of alerts over these names.

| metric | kind | labels | meaning |
|---|---|---|---|
";

const REASONS_HEAD: &str = "\
# Reason codes

Generated from `src/base/reason.rs`; a test compares.

Every response that proxyd makes itself, and every connection that it refuses or breaks, has one word from this closed list:
as `reason` in the access log, as label in the [metrics](metrics.md) and as `details` in the `Proxy-Status` header. The status is
what the client gets when no response head was sent yet; – where the connection is closed or reset without one.

| reason | status | meaning |
|---|---|---|
";

const fn kind(desc: &Desc) -> &'static str {
    match desc.kind {
        Kind::Histogram => "histogram",
        _ if desc.counts => "counter",
        _ => "gauge",
    }
}

fn labels(desc: &Desc) -> String {
    words(desc.labels)
}

fn words(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn compare(path: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{} is not what the code says: run this test with UPDATE=1",
            path.display()
        );
    }

    #[test]
    fn the_page_of_metrics_is_the_catalogue() {
        compare("docs/metrics.md", &metrics());
    }

    #[test]
    fn the_page_of_reasons_is_the_list() {
        compare("docs/reasons.md", &reasons());
    }
}
