//! What changed between two models that a reload cannot apply.

use super::code::Code;
use super::finding::{Finding, Place};
use super::model::Model;

/// A note for each setting whose new value waits for the next start of the master. The notes point
/// at the main file as a whole, for models know no lines.
#[must_use]
pub fn reload_notes(old: &Model, new: &Model) -> Vec<Finding> {
    let (a, b) = (&old.master, &new.master);
    let changed = [
        ("master.user", a.user != b.user),
        ("master.group", a.group != b.group),
        ("master.pid_file", a.pid_file != b.pid_file),
        ("master.daemon", a.daemon != b.daemon),
        ("worker.sandbox", old.worker.sandbox != new.worker.sandbox),
        (
            "metrics.histogram_buckets",
            old.metrics.buckets != new.metrics.buckets,
        ),
    ];
    changed
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| {
            Finding::new(
                Code::NeedsRestart,
                Place::default(),
                format!("`{key}` changed: the new value needs a restart"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::key::{Effect, sections};

    #[test]
    fn every_key_that_needs_a_restart_is_noted() {
        let old = Model::default();
        let mut new = Model::default();
        new.master.user = Some("x".to_owned());
        new.master.group = Some("x".to_owned());
        new.master.pid_file = Some("/x".into());
        new.master.daemon = true;
        new.worker.sandbox = crate::conf::model::Sandbox::Off;
        new.metrics.buckets.clear();
        let notes = reload_notes(&old, &new);
        for section in sections() {
            let restart = |k: &&crate::conf::key::Key| k.effect == Effect::Restart;
            for key in section.keys.iter().filter(restart) {
                let path = format!("`{}.{}`", section.path, key.name);
                let noted = notes.iter().any(|n| n.message.starts_with(&path));
                // Reserved, so nothing can change.
                assert!(noted || key.name == "capabilities", "{path}");
            }
        }
        assert!(reload_notes(&old, &old).is_empty());
    }
}
