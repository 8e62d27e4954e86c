//! `${NAME}` and `${NAME:-text}` in strings, and the one place where the configuration reads the
//! environment.

use super::code::Code;
use super::finding::{Finding, Findings};
use super::tree::{Node, Table, Value};

/// Where variables come from: the process, or a test.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the process.
#[must_use]
pub fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Replaces the variables in every string of a tree.
pub fn expand(table: &mut Table, lookup: Lookup<'_>, findings: &mut Findings) {
    for entry in &mut table.entries {
        expand_node(&mut entry.node, lookup, findings);
    }
}

fn expand_node(node: &mut Node, lookup: Lookup<'_>, findings: &mut Findings) {
    match &mut node.value {
        Value::Text(text) if text.contains("${") => match replace(text, lookup) {
            Ok(new) => *text = new,
            Err(message) => {
                findings.push(Finding::new(Code::Environment, node.place, message).help(
                    "set the variable, or give a default: ${NAME:-text}; a plain ${ is written $${",
                ));
            }
        },
        Value::List(list) => {
            for inner in list {
                expand_node(inner, lookup, findings);
            }
        }
        Value::Table(inner) => expand(inner, lookup, findings),
        _ => {}
    }
}

fn replace(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("${") {
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = tail;
            continue;
        }
        out.push_str(before);
        let (inside, behind) = tail
            .split_once('}')
            .ok_or_else(|| "`${` is not closed by `}`".to_owned())?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(format!("`{name}` is not the name of a variable"));
        }
        let value = lookup(name).filter(|v| default.is_none() || !v.is_empty());
        match (value, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(format!("environment variable `{name}` is not set")),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes a text so that nothing in it is taken for a variable.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.org".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("a ${HOST} b", "a example.org b"),
            ("${HOST}${HOST}", "example.orgexample.org"),
            ("${NONE:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${HOST} $HOST", "${HOST} $HOST"),
            ("{uri}", "{uri}"),
        ] {
            assert_eq!(replace(text, &env), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_variable_is_an_error() {
        for text in ["${NONE}", "${", "${a b}", "${}"] {
            assert!(replace(text, &env).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn escaped_text_stays_what_it_is(text in "[${}a-z]{0,12}") {
            proptest::prop_assert_eq!(replace(&escape(&text), &|_| None), Ok(text));
        }
    }
}
