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
