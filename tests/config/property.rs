//! Whatever stands in a file, the checker says something and does not fall over; and whatever it
//! accepts prints and reads back as the same configuration.

use proptest::prelude::*;
use proxyd::conf::{self, key};

/// Pieces that files are made of, good and bad.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("1.5".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("\"5s\"".to_owned()),
        Just("\"16KiB\"".to_owned()),
        Just("\"off\"".to_owned()),
        Just("\"auto\"".to_owned()),
        Just("\":8080\"".to_owned()),
        Just("\"10.0.0.1:80\"".to_owned()),
        Just("[\"10.0.0.1:80\", \"[::1]:80\"]".to_owned()),
        Just("\"a\"".to_owned()),
        Just("\"/x/\"".to_owned()),
        Just("\"~^/(a\"".to_owned()),
        Just("\"{host}\"".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("{ to = \"/\", status = 301 }".to_owned()),
        Just("{ idle = \"5s\", total = \"1h\", connect = \"9s\" }".to_owned()),
        Just("{ set = { a = \"b\" }, remove = [\"c\"] }".to_owned()),
        Just("{ request = { set = { a = \"b\" }, add = { d = [\"1\", \"2\"] } } }".to_owned()),
        Just("{ on = [\"503\", \"timeout\"], attempts = 1 }".to_owned()),
        Just("{ self_signed = true }".to_owned()),
        "\\PC{0,12}",
    ]
}

/// A section with some of its keys.
fn section() -> impl Strategy<Value = String> {
    let names: Vec<String> = key::sections()
        .iter()
        .map(|s| s.path.to_owned())
        .filter(|p| !p.is_empty())
        .collect();
    let keys: Vec<&str> = key::sections()
        .iter()
        .flat_map(|s| s.keys.iter().map(|k| k.name))
        .collect();
    let pair = (prop::sample::select(keys), value());
    (
        prop::sample::select(names),
        any::<bool>(),
        prop::collection::vec(pair, 0..5),
    )
        .prop_map(|(name, repeated, pairs)| {
            let mut text = if repeated {
                format!("[[{name}]]\n")
            } else {
                format!("[{name}]\n")
            };
            for (key, value) in pairs {
                text.push_str(&format!("{key} = {value}\n"));
            }
            text
        })
}

/// Shows everything that can be shown, and checks that it fits together.
fn exercise(text: &str) -> Result<(), TestCaseError> {
    let loaded = conf::load_str("t.toml", text);
    let shown = conf::render::text(&loaded, false);
    let _coloured = conf::render::text(&loaded, true);
    let json: serde_json::Value = serde_json::from_str(&conf::render::json(&loaded)).unwrap();
    prop_assert_eq!(json.as_array().map(Vec::len), Some(loaded.findings.len()));
    prop_assert_eq!(shown.contains("not usable"), loaded.model.is_none());
    let Some(model) = &loaded.model else {
        return Ok(());
    };
    let _summary = conf::render::summary(&loaded);
    let printed = conf::effective(model);
    let again = conf::load_str("t.toml", &printed);
    prop_assert!(
        again.model.is_some(),
        "{}\n{printed}",
        conf::render::text(&again, false)
    );
    prop_assert_eq!(
        format!("{:#?}", model),
        format!("{:#?}", again.model.unwrap())
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,80}(\n\\PC{0,40}){0,6}") {
        exercise(&text)?;
    }

    #[test]
    fn no_bytes_of_toml_are_too_strange(text in "[\\[\\]{}=.,\"'#a-c0-9\n \\\\]{0,120}") {
        exercise(&text)?;
    }

    #[test]
    fn no_section_is_too_strange(sections in prop::collection::vec(section(), 0..6)) {
        exercise(&sections.concat())?;
    }
}

/// A usable file with settings on every level.
fn usable() -> impl Strategy<Value = String> {
    let seconds = || (1_u32..100).prop_map(|n| format!("\"{n}s\""));
    let size = || (1_u32..64).prop_map(|n| format!("\"{n}KiB\""));
    let level = || {
        (seconds(), seconds(), size(), any::<bool>(), 400_u16..600).prop_map(
            |(a, b, size, set, status)| {
                let headers = if set {
                    "set = { x-a = \"{client_ip}\" }, add = { x-b = [\"1\", \"2\"] }"
                } else {
                    "remove = [\"x-a\"], add = { x-b = \"3\" }"
                };
                format!(
                    "timeouts = {{ request_body = {a}, upgraded_idle = {b} }}\nbuffering = {{ request = {size} }}\n\
                     headers = {{ request = {{ {headers} }} }}\nretry = {{ on = [\"{status}\"] }}\n"
                )
            },
        )
    };
    let listeners = prop::collection::vec(prop::option::of(level()), 1..4);
    let routes = prop::collection::vec((prop::option::of(level()), any::<bool>()), 1..4);
    (prop::option::of(level()), listeners, routes).prop_map(|(defaults, listeners, routes)| {
        let mut text = String::from("[defaults]\n");
        text.push_str(&defaults.unwrap_or_default());
        for (n, level) in listeners.into_iter().enumerate() {
            text.push_str(&format!("[[listener]]\nbind = \":{}\"\n", 1000 + n));
            text.push_str(&level.unwrap_or_default());
        }
        for (n, (level, to)) in routes.into_iter().enumerate() {
            let action = if to {
                "to = [\"10.0.0.1:80\", \"a.b:81\"]"
            } else {
                "redirect = \"/{uri}\""
            };
            text.push_str(&format!("[[route]]\npath = \"/{n}/\"\n{action}\n"));
            text.push_str(&level.unwrap_or_default());
        }
        text
    })
}

proptest! {
    #[test]
    fn a_usable_file_reads_back_as_it_was(text in usable()) {
        let loaded = conf::load_str("t.toml", &text);
        prop_assert!(loaded.model.is_some(), "{}", conf::render::text(&loaded, false));
        exercise(&text)?;
    }
}
