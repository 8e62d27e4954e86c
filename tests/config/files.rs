//! Every file in `conf/` and every TOML block in the documentation passes the checker, and prints
//! and reads back as the same configuration.

use std::path::{Path, PathBuf};

use proxyd::conf::{self, Loaded, Options, Severity};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

#[track_caller]
fn clean(loaded: &Loaded, what: &str) {
    let shown = conf::render::text(loaded, false);
    assert!(loaded.model.is_some(), "{what}:\n{shown}");
    let warned = loaded
        .findings
        .iter()
        .any(|f| f.severity() == Severity::Warning);
    assert!(!warned, "{what}:\n{shown}");
}

/// A model as comparable text, without the names of files.
fn shown(loaded: &Loaded) -> String {
    let mut model = loaded.model.clone().unwrap();
    model.files.clear();
    format!("{model:#?}")
}

#[track_caller]
fn round_trip(loaded: &Loaded, what: &str) {
    let text = conf::effective(loaded.model.as_ref().unwrap());
    let again = conf::load_str("effective.toml", &text);
    assert!(
        again.model.is_some(),
        "{what}:\n{}\n{text}",
        conf::render::text(&again, false)
    );
    assert_eq!(shown(loaded), shown(&again), "{what}");
}

#[test]
fn the_default_file_and_every_example_are_clean() {
    let mut all = files("conf", "toml");
    all.extend(files("conf/examples", "toml"));
    assert!(all.len() >= 10, "{all:?}");
    for path in all {
        let loaded = conf::load_with(&path, Options::default());
        clean(&loaded, &path.display().to_string());
        round_trip(&loaded, &path.display().to_string());
    }
}

/// The TOML blocks of a page, with their lines. A block after `<!-- not a whole file -->` is a
/// fragment that needs sections of other blocks.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut fragment = false;
    for (number, line) in text.lines().enumerate() {
        if let Some((_, block)) = &mut open {
            if line.trim_start().starts_with("```") {
                found.extend(open.take());
            } else {
                block.push_str(line);
                block.push('\n');
            }
        } else if line.trim_start().starts_with("```toml") {
            if fragment {
                fragment = false;
                continue;
            }
            open = Some((number + 1, String::new()));
        } else if line.contains("<!-- not a whole file -->") {
            fragment = true;
        }
    }
    found
}

#[test]
fn every_toml_block_of_the_documentation_is_usable() {
    let mut pages = files("docs", "md");
    pages.push(root().join("README.md"));
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap_or_default();
        for (line, block) in blocks(&text) {
            let what = format!("{}:{line}", page.display());
            let loaded = conf::load_str("block.toml", &block);
            assert!(
                loaded.model.is_some(),
                "{what}:\n{}",
                conf::render::text(&loaded, false)
            );
            round_trip(&loaded, &what);
        }
    }
}

#[test]
fn blocks_are_found_and_fragments_are_left_out() {
    let text = "a\n```toml\nx = 1\n```\n<!-- not a whole file -->\n```toml\ny = 1\n```\n```toml\nz = 1\n```\n";
    let found: Vec<String> = blocks(text).into_iter().map(|(_, b)| b).collect();
    assert_eq!(found, ["x = 1\n", "z = 1\n"]);
}

#[test]
fn the_default_file_serves_two_demo_servers_plain_and_over_tls() {
    let loaded = conf::load_with(&root().join("conf/proxyd.toml"), Options::default());
    let model = loaded.model.unwrap();
    assert_eq!(model.listeners.len(), 2);
    assert!(model.listeners[0].tls.is_none() && model.listeners[1].tls.is_some());
    assert_eq!(model.upstreams[0].servers.len(), 2);
    assert_eq!(model.metrics.bind.unwrap().to_string(), "127.0.0.1:9090");
}

/// A value in a form in which equal ones are equal: `60s` is `1m`.
fn plain(value: &toml::Value) -> String {
    use proxyd::base::unit::{parse_duration, parse_size};
    match value {
        toml::Value::String(text) => match (parse_duration(text), parse_size(text)) {
            (Ok(duration), _) => format!("{duration:?}"),
            (_, Ok(size)) => format!("{size} bytes"),
            _ => format!("{text:?}"),
        },
        toml::Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Where the settings of a section stand in an effective file.
fn place<'v>(file: &'v toml::Value, path: &str) -> Option<&'v toml::Value> {
    let path = match path {
        "timeouts" => "route.timeouts",
        "keepalive" => "listener.keepalive",
        "limits" => "listener.limits",
        "buffering" => "route.buffering",
        "retry" => "route.retry",
        "pool" => "upstream.pool",
        "queue" => "upstream.queue",
        path => path,
    };
    path.split('.').try_fold(file, |value, part| {
        let value = value.get(part)?;
        Some(value.get(0).unwrap_or(value))
    })
}

#[test]
fn the_defaults_of_the_reference_are_those_of_the_program() {
    let text = "[[listener]]\nbind = \":1\"\ntls = \"self-signed\"\n[[route]]\nto = \"a\"\n\
                [[upstream]]\nname = \"a\"\nservers = \"10.0.0.1:1\"\ntls = true\n\
                [[listener]]\nbind = \":2\"\n[[route]]\npath = \"/r\"\nredirect = \"/\"\n";
    let loaded = conf::load_str("t.toml", text);
    let printed = conf::effective(loaded.model.as_ref().unwrap());
    let file: toml::Value = toml::from_str::<toml::Table>(&printed).unwrap().into();
    let mut compared = 0;
    for section in conf::key::sections() {
        let Some(found) = place(&file, section.path).filter(|_| !section.path.is_empty()) else {
            continue;
        };
        for key in section.keys.iter().filter(|k| !k.default.is_empty()) {
            let Some(value) = found.get(key.name) else {
                continue;
            };
            let default: toml::Table = toml::from_str(&format!("x = {}", key.default)).unwrap();
            assert_eq!(
                plain(value),
                plain(&default["x"]),
                "{}.{}",
                section.path,
                key.name
            );
            compared += 1;
        }
    }
    assert!(compared > 110, "only {compared} defaults were compared");
}
