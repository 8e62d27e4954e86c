//! What the logs need to know: filled by `conf`.

use std::path::PathBuf;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// The journal's socket.
    Journald,
    /// `syslog:unix:/dev/log`.
    Syslog(PathBuf),
    /// A file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// `[log] format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// `level`.
    pub level: log::LevelFilter,
    /// `levels`: per part.
    pub levels: Vec<(String, log::LevelFilter)>,
    /// `format`.
    pub format: Format,
    /// `output`.
    pub output: Output,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            level: log::LevelFilter::Info,
            levels: Vec::new(),
            format: Format::Text,
            output: Output::Stderr,
        }
    }
}

/// `[log.access]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessParams {
    /// `output`.
    pub output: Output,
    /// `format`: `combined`, `json` or a template.
    pub format: String,
    /// `sample`: share of each status class 1xx to 5xx that is written, 0 to 1.
    pub sample: [f64; 5],
    /// `redact`: `query:NAME` or `header:NAME`.
    pub redact: Vec<String>,
}

impl Default for AccessParams {
    fn default() -> Self {
        Self {
            output: Output::Off,
            format: "combined".to_owned(),
            sample: [1.0; 5],
            redact: Vec::new(),
        }
    }
}
