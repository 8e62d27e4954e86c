//! Findings in the look of a compiler: the line, the caret, what was meant.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::conf::Loaded;
use crate::conf::finding::{Finding, Place, Severity};
use crate::conf::source::Sources;

/// All findings, and how it ends. `colour` is for terminals.
#[must_use]
pub fn text(loaded: &Loaded, colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut out = String::new();
    for finding in &loaded.findings {
        out.push_str(&one(finding, &loaded.sources, &renderer));
        out.push_str("\n\n");
    }
    if loaded.model.is_none() {
        let file = loaded.sources.get(0).map_or("", |s| s.name.as_str());
        let errors = count(loaded, Severity::Error);
        let plural = if errors == 1 { "" } else { "s" };
        out.push_str(&format!(
            "proxyd: {file}: {errors} error{plural}, configuration not usable\n"
        ));
    }
    out
}

/// How many findings are of a severity.
pub(super) fn count(loaded: &Loaded, severity: Severity) -> usize {
    loaded
        .findings
        .iter()
        .filter(|f| f.severity() == severity)
        .count()
}

fn one(finding: &Finding, sources: &Sources, renderer: &Renderer) -> String {
    let level = match finding.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let mut group = Group::with_title(
        level
            .primary_title(finding.message.as_str())
            .id(finding.code.as_str()),
    );
    let mut first = snippet(sources, finding.place).annotation(
        AnnotationKind::Primary
            .span(clip(sources, finding.place))
            .label(finding.label.as_deref()),
    );
    let mut second = None;
    if let Some((place, label)) = &finding.also {
        let annotation = AnnotationKind::Context
            .span(clip(sources, *place))
            .label(label.as_str());
        if place.file == finding.place.file {
            first = first.annotation(annotation);
        } else {
            second = Some(snippet(sources, *place).annotation(annotation));
        }
    }
    // A file that could not be read has no line to show.
    let empty = sources
        .get(finding.place.file)
        .is_none_or(|s| s.text.is_empty());
    if !empty {
        group = group.element(first);
    }
    if let Some(second) = second {
        group = group.element(second);
    }
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn snippet<'a>(
    sources: &'a Sources,
    place: Place,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let source = sources.get(place.file);
    Snippet::source(source.map_or("", |s| s.text.as_str()))
        .path(source.map_or("", |s| s.name.as_str()))
}

/// A place inside its text, on character borders, and within one line: a value over many lines is
/// marked by its first one.
fn clip(sources: &Sources, place: Place) -> std::ops::Range<usize> {
    let text = sources.get(place.file).map_or("", |s| s.text.as_str());
    let border = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = border(place.start);
    let end = border(place.end.max(place.start));
    let line_end = text
        .get(start..)
        .and_then(|t| t.find('\n'))
        .map_or(text.len(), |n| start + n);
    start..end.min(line_end).max(start)
}
