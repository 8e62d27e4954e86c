//! A scrape, read well enough to compare numbers.

use std::collections::BTreeMap;

/// The text of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// As received.
    pub text: String,
}

impl Metrics {
    /// From the text.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// Every sample: name with labels, value.
    pub fn samples(&self) -> BTreeMap<String, f64> {
        self.text
            .lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty())
            .map(|l| {
                let (name, value) = l.rsplit_once(' ').expect("name and value");
                (
                    name.to_owned(),
                    value.parse().unwrap_or_else(|_| panic!("{l}")),
                )
            })
            .collect()
    }

    /// The sum of all samples of a metric whose labels contain every given text.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.samples()
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(name))
            .filter(|(key, _)| labels.iter().all(|l| key.contains(l)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether a metric has a sample.
    pub fn has(&self, name: &str) -> bool {
        self.samples()
            .keys()
            .any(|key| key.split('{').next() == Some(name))
    }

    /// Names of metrics that `# TYPE` declares as counters or histograms.
    pub fn monotonic(&self) -> Vec<String> {
        self.text
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE "))
            .filter_map(|l| l.split_once(' '))
            .filter(|(_, kind)| *kind == "counter" || *kind == "histogram")
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// Samples of counters and histograms that are smaller, or missing, in a later scrape.
    pub fn gone_back(&self, later: &Self) -> Vec<String> {
        let names = self.monotonic();
        let after = later.samples();
        let counted = |key: &str| {
            let base = key.split('{').next().unwrap_or_default();
            names.iter().any(|n| {
                base == n
                    || base
                        .strip_prefix(n.as_str())
                        .is_some_and(|s| matches!(s, "_bucket" | "_sum" | "_count"))
            })
        };
        self.samples()
            .iter()
            .filter(|(key, value)| counted(key) && **value > 0.0)
            .filter(|(key, value)| after.get(*key).is_none_or(|v| v < value))
            .map(|(key, value)| format!("{key}: {value} then {:?}", after.get(key)))
            .collect()
    }
}
