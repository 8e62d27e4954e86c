//! A model as a file again, with every default written out (`proxyd -T`). Reading it gives the
//! same model.

mod http;
mod process;
mod upstream;

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use super::env;
use super::model::Model;
use crate::base::unit;

/// Prints a model as a file with every default; reading it gives the same model again.
#[must_use]
pub fn effective(model: &Model) -> String {
    let mut out = Out::default();
    process::write(model, &mut out);
    for certificate in &model.certificates {
        upstream::certificate(certificate, &mut out);
    }
    for listener in &model.listeners {
        http::listener(listener, &mut out);
    }
    for route in &model.routes {
        http::route(route, &mut out);
    }
    for upstream in &model.upstreams {
        upstream::upstream(upstream, &mut out);
    }
    out.0
}

/// A string as TOML, safe from `${...}`.
#[must_use]
pub fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::from("\"");
    for c in env::escape(text).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _infallible = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text being written.
#[derive(Default)]
struct Out(String);

impl Out {
    fn section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(name);
        self.0.push('\n');
    }

    /// A value that is TOML already.
    fn raw(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quote(value));
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.text(key, &value.display().to_string());
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.text(key, &unit::print_duration(value));
    }

    fn size(&mut self, key: &str, value: u64) {
        self.text(key, &unit::print_size(value));
    }

    fn texts(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        self.raw(key, list(values));
    }

    /// Nothing when there is nothing.
    fn some_texts(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.texts(key, values);
        }
    }
}

fn list(values: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<String> = values.into_iter().map(|v| quote(v.as_ref())).collect();
    format!("[{}]", all.join(", "))
}

/// An inline table of values that are TOML already.
fn table<'a>(entries: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let all: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("{} = {value}", key_name(key)))
        .collect();
    if all.is_empty() {
        return "{}".to_owned();
    }
    format!("{{ {} }}", all.join(", "))
}

fn key_name(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.bytes().all(bare) {
        return key.to_owned();
    }
    // Keys know no variables.
    quote(key).replace("$${", "${")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_text_survives_quoting(text in "\\PC{0,8}[\\x00-\\x1f\"\\\\$]{0,4}[${}]{0,4}") {
            let file = format!("[[listener]]\nbind = \":1\"\n[[route]]\nrespond = {{ body = {} }}", quote(&text));
            let loaded = crate::conf::load_str("t", &file);
            let model = loaded.model.expect("usable");
            let crate::http::params::Action::Respond { body, .. } = &model.routes[0].action else {
                panic!("no response");
            };
            proptest::prop_assert_eq!(body.as_slice(), text.as_bytes());
        }
    }
}
