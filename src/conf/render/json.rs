//! Findings for editors and CI: a JSON array with every field.

use serde_json::{Value, json};

use crate::conf::Loaded;
use crate::conf::finding::{Finding, Place};
use crate::conf::source::Sources;

/// All findings as a JSON array.
#[must_use]
pub fn json(loaded: &Loaded) -> String {
    let all: Vec<Value> = loaded
        .findings
        .iter()
        .map(|f| object(f, &loaded.sources))
        .collect();
    let mut text = serde_json::to_string_pretty(&all).unwrap_or_else(|_e| "[]".to_owned());
    text.push('\n');
    text
}

fn object(finding: &Finding, sources: &Sources) -> Value {
    let mut spans = vec![span(finding.place, finding.label.as_deref(), true, sources)];
    if let Some((place, label)) = &finding.also {
        spans.push(span(*place, Some(label), false, sources));
    }
    let (line, column) = sources.position(finding.place);
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity().as_str(),
        "message": finding.message,
        "file": sources.name(finding.place),
        "line": line,
        "column": column,
        "label": finding.label,
        "help": finding.help,
        "spans": spans,
    })
}

fn span(place: Place, label: Option<&str>, primary: bool, sources: &Sources) -> Value {
    let (line, column) = sources.position(place);
    let (end_line, end_column) = sources.position(Place {
        start: place.end,
        ..place
    });
    json!({
        "file": sources.name(place),
        "start": place.start,
        "end": place.end,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "label": label,
        "primary": primary,
    })
}
