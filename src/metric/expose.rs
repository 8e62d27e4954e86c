//! The Prometheus text of all metrics. It reads the slots that the registry knows, family by
//! family, and nothing else; who asks and over what is not its business.

use super::catalog::{self, Desc, Kind, Unit};
use super::registry::{HistogramSlot, Place, Registry, Series};
use super::table::{EachSlot, Table};
use super::{Slot, registry::Family};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

/// The content type of the text that [`encode`] makes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A number that has no slot but is read at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct Sample {
    desc: &'static Desc,
    labels: Vec<String>,
    value: u64,
}

/// A number that has no slot.
#[must_use]
pub fn sample(desc: &'static Desc, labels: &[&str], value: u64) -> Sample {
    Sample {
        desc,
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        value,
    }
}

/// The text of a scrape.
///
/// # Errors
/// When the encoder refuses a family, which would be a defect of the catalogue.
pub fn encode(registry: &Registry, table: &Table, samples: &[Sample]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    for desc in catalog::ALL {
        let mut metrics: Vec<Metric> = samples
            .iter()
            .filter(|sample| sample.desc.name == desc.name)
            .map(|sample| single(desc, labels(desc, &sample.labels, None), sample.value))
            .collect();
        if let Some(family) = registry
            .family(desc)
            .filter(|f| f.desc.kind != Kind::Hidden)
        {
            collect(&mut metrics, family, table);
        }
        if metrics.is_empty() {
            continue;
        }
        let mut family = MetricFamily::default();
        family.set_name(desc.name.to_owned());
        family.set_help(desc.help.to_owned());
        family.set_field_type(shown_as(desc));
        family.set_metric(metrics);
        encoder
            .encode(&[family], &mut text)
            .map_err(std::io::Error::other)?;
    }
    Ok(text)
}

fn shown_as(desc: &Desc) -> MetricType {
    match desc.kind {
        Kind::Histogram => MetricType::HISTOGRAM,
        _ if desc.counts => MetricType::COUNTER,
        _ => MetricType::GAUGE,
    }
}

fn collect(metrics: &mut Vec<Metric>, family: &Family, table: &Table) {
    let desc = family.desc;
    for series in &family.series {
        match &series.place {
            Place::One(slot) => {
                let labels = labels(desc, &series.labels, None);
                metrics.push(single(desc, labels, read(desc, *slot, table)));
            }
            Place::Each(slot) => each(metrics, desc, series, *slot, table),
            Place::Histogram(slot) => metrics.extend(histogram(desc, series, slot, table)),
        }
    }
}

/// The present value of a single word over all columns.
pub(super) fn read(desc: &Desc, slot: Slot, table: &Table) -> u64 {
    match desc.kind {
        Kind::Shared => table.host(slot),
        Kind::HostGauge => not_negative(table.sum_of_owners(slot)),
        Kind::Counter => table.sum(slot),
        Kind::Gauge | Kind::Histogram | Kind::Sampled | Kind::Hidden => {
            not_negative(table.sum(slot))
        }
    }
}

/// Columns are read one after the other: a sum of gauges may come out below zero for a moment.
const fn not_negative(sum: u64) -> u64 {
    if sum > i64::MAX.unsigned_abs() {
        0
    } else {
        sum
    }
}

fn each(metrics: &mut Vec<Metric>, desc: &Desc, series: &Series, slot: EachSlot, table: &Table) {
    if slot.guard.is_some_and(|guard| table.sum(guard) == 0) {
        return;
    }
    for (at, word) in (0_u32..).zip(desc.each) {
        let count = table.sum(Slot(slot.first.0.saturating_add(at)));
        if count > 0 || !desc.sparse {
            metrics.push(single(
                desc,
                labels(desc, &series.labels, Some(word)),
                count,
            ));
        }
    }
}

/// A histogram with its buckets added up; `None` before the first observation, which spares the
/// scrape most of its lines on hosts with thousands of quiet routes.
fn histogram(desc: &Desc, series: &Series, slot: &HistogramSlot, table: &Table) -> Option<Metric> {
    let word = |at: u32| table.sum(Slot(slot.slot.0.saturating_add(at)));
    let mut total = 0;
    let mut buckets = Vec::with_capacity(slot.bounds.len());
    let mut at = 0;
    for bound in slot.bounds.iter() {
        total += word(at);
        at += 1;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    total += word(at);
    if total == 0 {
        return None;
    }
    let mut shown = Histogram::default();
    shown.set_sample_count(total);
    shown.set_sample_sum(seconds(word(at + 1)));
    shown.set_bucket(buckets);
    let mut metric = Metric::from_label(labels(desc, &series.labels, None));
    metric.set_histogram(shown);
    Some(metric)
}

fn single(desc: &Desc, labels: Vec<LabelPair>, word: u64) -> Metric {
    let value = match desc.unit {
        Unit::Plain => plain(word),
        Unit::Nanos => seconds(word),
        Unit::ZeroIsOne => plain(u64::from(word == 0)),
    };
    let mut metric = Metric::from_label(labels);
    if desc.counts {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn labels<S: AsRef<str>>(desc: &Desc, values: &[S], last: Option<&str>) -> Vec<LabelPair> {
    let values = values.iter().map(AsRef::as_ref).chain(last);
    desc.labels
        .iter()
        .zip(values)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has floating point numbers only; exact up to 2^53"
)]
const fn plain(word: u64) -> f64 {
    word as f64
}

fn seconds(nanos: u64) -> f64 {
    plain(nanos) / 1e9
}

/// The present numbers of one series.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    labels: &'a [Box<str>],
    words: &'static [&'static str],
    values: Vec<u64>,
}

impl Reading<'_> {
    /// The label values, without the one from a closed list.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        self.labels.iter().map(|l| &**l).collect()
    }

    /// The number, or the sum over the closed list.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.values.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The number of one value of the closed list.
    #[must_use]
    pub fn of(&self, word: &str) -> u64 {
        let place = self.words.iter().position(|w| *w == word);
        place
            .and_then(|at| self.values.get(at))
            .copied()
            .unwrap_or(0)
    }
}

/// The present numbers of a metric other than a histogram, for whoever shows them in another way.
#[must_use]
pub fn readings<'a>(registry: &'a Registry, table: &Table, desc: &Desc) -> Vec<Reading<'a>> {
    let Some(family) = registry.family(desc) else {
        return Vec::new();
    };
    let values = |place: &Place| match place {
        Place::One(slot) => match (read(desc, *slot, table), desc.unit) {
            (word, Unit::ZeroIsOne) => vec![u64::from(word == 0)],
            (word, Unit::Plain | Unit::Nanos) => vec![word],
        },
        Place::Each(slot) => (slot.first.0..)
            .zip(desc.each)
            .map(|(at, _)| table.sum(Slot(at)))
            .collect(),
        Place::Histogram(_) => Vec::new(),
    };
    let reading = |series: &'a Series| Reading {
        labels: &series.labels,
        words: desc.each,
        values: values(&series.place),
    };
    family.series.iter().map(reading).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bundle::{
        CertificateMetrics, LimitMetrics, ListenerMetrics, MasterMetrics, RestartMetrics,
        RouteMetrics, ServerMetrics, UpstreamMetrics, WorkerMetrics,
    };
    use super::super::label::{Class, Handshake, Limit, Outcome, TlsVersion};
    use super::super::table::Layout;
    use super::*;
    use crate::base::reason::Reason;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

    fn both() -> (Table, Registry) {
        let table = Table::heap();
        (table, Registry::new(table.layout(), &BOUNDS))
    }

    fn text(registry: &Registry, table: &Table, samples: &[Sample]) -> String {
        String::from_utf8(encode(registry, table, samples).unwrap()).unwrap()
    }

    fn has(text: &str, line: &str) {
        assert!(
            text.lines().any(|l| l == line),
            "{line:?} is missing in\n{text}"
        );
    }

    /// Every metric of the catalogue with a number.
    fn everything(table: &Table, registry: &mut Registry) -> Vec<Sample> {
        let column = table.column(1);
        let second = Duration::from_secs(1);
        let l = ListenerMetrics::register(registry, &["l \"1\""])
            .unwrap()
            .bind(&column);
        l.reasons.inc(Reason::ClTe);
        l.refused.inc(Reason::TlsTimeout);
        l.handshakes.inc(Handshake::Full);
        l.tls_versions.inc(TlsVersion::Tls13);
        l.duration.observe(second);
        l.handshake_duration.observe(second);
        let r = RouteMetrics::register(registry, &["r"])
            .unwrap()
            .bind(&column);
        r.reasons.inc(Reason::NoRoute);
        r.duration.observe(second);
        r.first_byte.observe(second);
        let u = UpstreamMetrics::register(registry, &["u"])
            .unwrap()
            .bind(&column);
        u.duration.observe(second);
        u.queue_duration.observe(second);
        let s = ServerMetrics::register(registry, &["u", "s"])
            .unwrap()
            .bind(&column);
        s.connect_duration.observe(second);
        s.connects.inc(Outcome::Failed);
        s.in_flight.inc();
        let w = WorkerMetrics::register(registry, &["0"])
            .unwrap()
            .bind(&column);
        w.loop_lag.observe(second);
        w.busy.add(1_500_000_000);
        let _restarts = RestartMetrics::register(registry, &["0"]).unwrap();
        let limits = LimitMetrics::register(registry, &[]).unwrap().bind(&column);
        limits.hits.inc(Limit::Queue);
        let _master = MasterMetrics::register(registry, &[]).unwrap();
        let c = CertificateMetrics::register(registry, &["c"])
            .unwrap()
            .bind(&column);
        c.expiry.set(1_800_000_000);
        let process = ["master", "0"];
        vec![
            sample(&catalog::BUILD_INFO, &["0.1.0"], 1),
            sample(&catalog::PROCESS_UP, &process, 1),
            sample(&catalog::PROCESS_CPU, &process, 2_500_000_000),
            sample(&catalog::PROCESS_MEMORY, &process, 4096),
            sample(&catalog::PROCESS_FDS, &process, 12),
        ]
    }

    #[test]
    fn every_metric_is_shown_as_it_is_described() {
        let (table, mut registry) = both();
        let samples = everything(&table, &mut registry);
        let text = text(&registry, &table, &samples);
        for desc in catalog::ALL {
            let shown = text.contains(&format!("# TYPE {} ", desc.name));
            assert_eq!(shown, desc.kind != Kind::Hidden, "{}", desc.name);
        }
        has(&text, "# TYPE proxyd_listener_connections_total counter");
        has(
            &text,
            "proxyd_listener_connections_total{listener=\"l \\\"1\\\"\"} 0",
        );
        has(
            &text,
            "proxyd_route_request_failures_total{route=\"r\",reason=\"route.none\"} 1",
        );
        has(
            &text,
            "proxyd_server_requests_active{upstream=\"u\",server=\"s\"} 1",
        );
        has(&text, "proxyd_server_up{upstream=\"u\",server=\"s\"} 1");
        has(
            &text,
            "proxyd_worker_loop_busy_seconds_total{worker=\"0\"} 1.5",
        );
        has(&text, "proxyd_limit_hits_total{limit=\"queue\"} 1");
        has(
            &text,
            "proxyd_certificate_expiry_timestamp_seconds{certificate=\"c\"} 1800000000",
        );
        has(
            &text,
            "proxyd_process_cpu_seconds_total{process=\"master\",generation=\"0\"} 2.5",
        );
        assert!(
            !text.contains("reason=\"h1.bare_lf\""),
            "zeros are left out"
        );
    }

    #[test]
    fn promtool_finds_nothing() {
        let (table, mut registry) = both();
        let samples = everything(&table, &mut registry);
        let text = text(&registry, &table, &samples);
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("promtool is not installed: skipped");
            return;
        };
        let mut input = child.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }

    #[test]
    fn columns_are_added_up_and_buckets_accumulate() {
        let (table, mut registry) = both();
        let slots = RouteMetrics::register(&mut registry, &["r"]).unwrap();
        for i in 1..=3 {
            let route = slots.bind(&table.column(i));
            route.requests.add(Class::of(200), 10);
            route.duration.observe(Duration::from_millis(1));
            route.duration.observe(Duration::from_micros(1001));
            route.duration.observe(Duration::from_secs(9));
            route.in_flight.inc();
        }
        slots.bind(&table.column(2)).in_flight.dec();
        let text = text(&registry, &table, &[]);
        has(
            &text,
            "proxyd_route_requests_total{route=\"r\",class=\"2xx\"} 30",
        );
        has(&text, "proxyd_route_requests_active{route=\"r\"} 2");
        let bucket = "proxyd_route_request_duration_seconds_bucket{route=\"r\",le=";
        has(&text, &format!("{bucket}\"0.001\"}} 3"));
        has(&text, &format!("{bucket}\"0.1\"}} 6"));
        has(&text, &format!("{bucket}\"+Inf\"}} 9"));
        has(
            &text,
            "proxyd_route_request_duration_seconds_count{route=\"r\"} 9",
        );
        has(
            &text,
            "proxyd_route_request_duration_seconds_sum{route=\"r\"} 27.006003",
        );
        assert!(!text.contains("first_byte"), "no observation, no histogram");
    }

    #[test]
    fn a_gauge_never_shows_less_than_nothing() {
        let (table, mut registry) = both();
        let slots = RouteMetrics::register(&mut registry, &["r"]).unwrap();
        slots.bind(&table.column(1)).in_flight.dec();
        has(
            &text(&registry, &table, &[]),
            "proxyd_route_requests_active{route=\"r\"} 0",
        );
    }

    #[test]
    fn a_server_that_is_passed_over_is_not_up() {
        let (table, mut registry) = both();
        let slots = ServerMetrics::register(&mut registry, &["u", "s"]).unwrap();
        slots.bind(&table.column(1)).shut_until.set(99);
        has(
            &text(&registry, &table, &[]),
            "proxyd_server_up{upstream=\"u\",server=\"s\"} 0",
        );
    }

    #[test]
    fn ten_thousand_routes_are_scraped_quickly() {
        let layout = Layout::new(6, 10_000 * RouteMetrics::words(9));
        let table = Table::heap_with(layout);
        let mut registry = Registry::new(layout, &[Duration::from_millis(5); 1]);
        for i in 0..10_000 {
            let slots = RouteMetrics::register(&mut registry, &[&i.to_string()]).unwrap();
            for column in 1..5 {
                let route = slots.bind(&table.column(column));
                route.duration.observe(Duration::from_millis(i));
                route.requests.inc(Class::Success);
            }
        }
        let start = std::time::Instant::now();
        let text = encode(&registry, &table, &[]).unwrap();
        let took = start.elapsed();
        assert!(text.len() > 1_000_000);
        // Unoptimised and on a busy machine; the released program takes a small part of it.
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("{took:?} for {} bytes", text.len());
    }
}
