//! The table of keys and the list of findings as pages: `docs/configuration.md` and
//! `docs/configuration-errors.md` are made by these functions, and a test compares them.

use super::code::Code;
use super::key::{Effect, Key, Kind, ROOT, Section, sections};
use super::scalar;

/// The reference of all sections and keys.
#[must_use]
pub fn keys() -> String {
    let mut out = String::from(HEAD);
    for section in sections() {
        out.push_str(&chapter(section));
    }
    out
}

/// The list of all findings.
#[must_use]
pub fn errors() -> String {
    let mut out = String::from(
        "# What the checker finds\n\n\
         Generated from the code. `proxyd -t` reports every finding of every file in one run, sorted by place; start and\n\
         reload run the same checks. E is an error: the configuration is not used. W is a warning: with `--strict` it makes\n\
         the exit code 2. I is for information. `proxyd config explain CODE` prints the text of a finding.\n",
    );
    let mut class = "";
    for code in Code::ALL {
        let id = code.as_str();
        let now = id.get(1..3).unwrap_or("");
        if now != class {
            class = now;
            out.push_str(&format!(
                "\n## {}\n\n| code | finding | meaning |\n| --- | --- | --- |\n",
                class_title(class)
            ));
        }
        out.push_str(&format!(
            "| {id} | {} | {} |\n",
            cell(code.title()),
            cell(code.text())
        ));
    }
    out
}

const HEAD: &str = "# Configuration reference

Generated from the table of keys in the code; the same table checks the file, and makes `proxyd config schema`.
`proxyd -t` checks a file, `proxyd -T` prints it with every default. What the checker can find is listed in
[configuration-errors.md](configuration-errors.md).

Values: durations `\"250ms\"` `\"5s\"` `\"2m\"` `\"1h\"` `\"7d\"`; sizes `\"512B\"` `\"16KiB\"` `\"1MiB\"` `\"64k\"` (= 64KiB);
addresses `\"10.0.0.1:443\"` `\"[::1]:443\"` `\":443\"` (both families) `\"unix:/run/x.sock\"` `\"fd:name\"` (socket activation).
A bare number is no duration and no size. In strings `${NAME}` is replaced by the variable of the environment,
`${NAME:-text}` by text when it is not set or empty; `$${` is a plain `${`. Relative paths belong to the folder of the file
they are written in. Keys marked with * take effect with the next start of the master, all others with the next reload.

";

fn class_title(class: &str) -> &'static str {
    match class {
        "01" => "01 Syntax and shape",
        "02" => "02 References",
        "03" => "03 Addresses",
        "04" => "04 Routing",
        "05" => "05 TLS",
        "06" => "06 Numbers that contradict",
        "07" => "07 Safety",
        "08" => "08 Host",
        _ => "10 Reload",
    }
}

/// How a section is written as a header.
fn header(section: &Section) -> String {
    let repeated = sections()
        .iter()
        .flat_map(|s| s.keys)
        .filter_map(Key::section)
        .any(|(s, many)| s.path == section.path && many);
    match section.path {
        "" => "The file".to_owned(),
        path if repeated => format!("[[{path}]]"),
        path if is_inline(path) => path.to_owned(),
        path => format!("[{path}]"),
    }
}

/// Tables that stand in several sections, or that are written in one line.
fn is_inline(path: &str) -> bool {
    [
        "sets.NAME",
        "key",
        "certificate.self_signed",
        "route.to",
        "route.redirect",
        "route.respond",
    ]
    .contains(&path)
        || path == "route.replace_prefix"
        || (!path.contains('.') && ROOT.key(path).is_none())
        || path.starts_with("headers.")
}

fn chapter(section: &Section) -> String {
    let mut out = format!("## {}\n\n{}\n\n", header(section), section.doc);
    out.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        let star = match key.effect {
            Effect::Restart => " *",
            Effect::Reload => "",
        };
        let default = match (key.required, key.default) {
            (true, _) => "required".to_owned(),
            (false, "") => String::new(),
            (false, value) => format!("`{value}`"),
        };
        out.push_str(&format!(
            "| `{}`{star} | {} | {} | {} |\n",
            key.name,
            cell(&form(&key.kind)),
            cell(&default),
            cell(key.doc)
        ));
    }
    out.push('\n');
    out
}

/// A kind in words, with its range and words.
fn form(kind: &Kind) -> String {
    match kind {
        Kind::Int(min, max) => format!("{min} to {max}"),
        Kind::Word(words) => {
            let all: Vec<String> = words.iter().map(|w| format!("`\"{w}\"`")).collect();
            all.join(", ")
        }
        Kind::Forms(forms) => {
            let all: Vec<String> = forms.iter().map(form).collect();
            all.join(" or ")
        }
        Kind::List(inner) => match inner {
            Kind::Table(section) => format!("[`{}`](#{})", header(section), anchor(section)),
            _ => format!("list of: {}", form(inner)),
        },
        Kind::Many(inner) => format!("{}, one or a list", form(inner)),
        Kind::Table(section) => format!("[`{}`](#{})", header(section), anchor(section)),
        Kind::Map(_, inner) => format!("table of: {}", form(inner)),
        _ => scalar::describe(kind),
    }
}

fn anchor(section: &Section) -> String {
    header(section)
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '_' || *c == '-')
        .collect::<String>()
        .to_lowercase()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a page with its file, and writes it when `UPDATE` is set in the environment.
    fn compare(path: &str, text: &str) {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, text).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == text,
            "{path} differs from the code: run UPDATE=1 cargo test --lib conf::reference"
        );
    }

    #[test]
    fn the_reference_is_what_the_code_says() {
        compare("docs/configuration.md", &keys());
    }

    #[test]
    fn the_list_of_findings_is_what_the_code_says() {
        compare("docs/configuration-errors.md", &errors());
    }

    #[test]
    fn every_key_stands_in_the_reference() {
        let text = keys();
        for section in sections() {
            for key in section.keys {
                assert!(text.contains(&format!("| `{}`", key.name)), "{}", key.name);
            }
        }
    }
}
