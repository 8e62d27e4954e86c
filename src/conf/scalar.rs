//! Single values: does a value have the form of its kind, and how is the form called in a message.

use std::net::{IpAddr, SocketAddr};

use super::code::Code;
use super::grammar::{self, Checked, Fault};
use super::key::Kind;
use super::spell;
use super::tree::{Node, Value};
use crate::base::addr::BindAddr;
use crate::base::unit::{self, UnitError};

/// Checks a single value; `None` when it has another TOML type.
#[must_use]
pub fn check(kind: &Kind, node: &Node) -> Option<Checked> {
    match (kind, &node.value) {
        (Kind::Bool, Value::Bool(_)) => Some(Ok(())),
        (Kind::Int(min, max), Value::Int(number)) => Some(match number {
            Some(n) if (min..=max).contains(&n) => Ok(()),
            _ => Err(range(&format!("{min} to {max}"))),
        }),
        (Kind::Share, Value::Int(Some(0 | 1))) => Some(Ok(())),
        (Kind::Share, Value::Int(_)) => Some(Err(range("0 to 1"))),
        (Kind::Share, Value::Float(number)) => Some(if (0.0..=1.0).contains(number) {
            Ok(())
        } else {
            Err(range("0 to 1"))
        }),
        (Kind::Duration(_), Value::Int(number)) => Some(Err(no_unit(*number, "s", "ms"))),
        (Kind::Size(..), Value::Int(number)) => Some(Err(no_unit(*number, "B", "KiB"))),
        (_, Value::Text(text)) => check_string(kind, text),
        _ => None,
    }
}

/// Checks the key of a map.
///
/// # Errors
/// A key that has not the form.
pub fn check_key(kind: &Kind, key: &str) -> Checked {
    check_string(kind, key).unwrap_or(Ok(()))
}

fn check_string(kind: &Kind, text: &str) -> Option<Checked> {
    Some(match kind {
        Kind::Text => Ok(()),
        Kind::Word(words) => word(words, text),
        Kind::Duration(min) => duration(*min, text),
        Kind::Size(min, max) => size(*min, *max, text),
        Kind::ByteRate => parse_rate(text)
            .map(|_rate| ())
            .ok_or_else(|| quantity("is not a rate: write a size per second such as \"500B/s\"")),
        Kind::Percent => parse_percent(text)
            .map(|_percent| ())
            .ok_or_else(|| quantity("is not a percentage: write a number from 0 to 100 and %")),
        Kind::Mode => parse_mode(text)
            .map(|_mode| ())
            .ok_or_else(|| quantity("is not a file mode: write an octal number such as \"0640\"")),
        Kind::Path if text.is_empty() || text.contains('\0') => {
            Err(Fault::new(Code::Malformed, "is not a path"))
        }
        Kind::Path => Ok(()),
        Kind::Name => grammar::name(text),
        Kind::Bind => BindAddr::parse(text)
            .map(|_bind| ())
            .map_err(|e| grammar::address_fault(e, "listen")),
        Kind::Server => grammar::server_address(text).map(|_address| ()),
        Kind::Socket => text
            .parse::<SocketAddr>()
            .map(|_socket| ())
            .map_err(|_e| Fault::new(Code::BadAddress, "is not an IP address with a port")),
        Kind::Ip => text
            .parse::<IpAddr>()
            .map(|_ip| ())
            .map_err(|_e| Fault::new(Code::BadAddress, "is not an IP address")),
        Kind::Special(_, check) => check(text),
        _ => return None,
    })
}

fn word(words: &[&'static str], text: &str) -> Checked {
    if words.contains(&text) {
        return Ok(());
    }
    let mut fault = Fault::new(Code::NotAllowed, "is not allowed here");
    fault.label =
        spell::nearest(text, words.iter().copied()).map(|w| format!("did you mean `{w}`?"));
    fault.help = Some(format!("allowed here: {}", words.join(", ")));
    Err(fault)
}

fn duration(min: u64, text: &str) -> Checked {
    match unit::parse_duration(text) {
        Ok(d) if d.as_millis() < u128::from(min) => Err(range("more than 0s")),
        Ok(_) => Ok(()),
        Err(UnitError::NoUnit) => Err(no_unit_text(Code::BadDuration, text, "s", "ms")),
        Err(UnitError::TooLarge) => Err(range("at most some thousand years")),
        Err(UnitError::NoNumber | UnitError::BadUnit) => Err(Fault::new(
            Code::BadDuration,
            "is not a duration: write a number and one of ms, s, m, h, d (for example \"5s\")",
        )),
    }
}

fn size(min: u64, max: u64, text: &str) -> Checked {
    match unit::parse_size(text) {
        Ok(s) if (min..=max).contains(&s) => Ok(()),
        Ok(_) | Err(UnitError::TooLarge) => Err(range(&format!(
            "{} to {}",
            unit::print_size(min),
            unit::print_size(max)
        ))),
        Err(UnitError::NoUnit) => Err(no_unit_text(Code::BadQuantity, text, "B", "KiB")),
        Err(UnitError::NoNumber | UnitError::BadUnit) => Err(quantity(
            "is not a size: write a number and one of B, KiB, MiB, GiB (for example \"16KiB\")",
        )),
    }
}

fn range(allowed: &str) -> Fault {
    Fault::new(Code::OutOfRange, format!("is out of range: {allowed}"))
}

fn quantity(message: &str) -> Fault {
    Fault::new(Code::BadQuantity, message)
}

fn no_unit(number: Option<i64>, large: &str, small: &str) -> Fault {
    let code = if large == "s" {
        Code::BadDuration
    } else {
        Code::BadQuantity
    };
    match number {
        Some(n) if n >= 0 => no_unit_text(code, &n.to_string(), large, small),
        _ => range("0 and more"),
    }
}

fn no_unit_text(code: Code, number: &str, large: &str, small: &str) -> Fault {
    Fault::new(
        code,
        format!("has no unit: write \"{number}{large}\" or \"{number}{small}\""),
    )
}

/// Bytes per second.
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    unit::parse_size(text.strip_suffix("/s")?).ok()
}

/// `"20%"`.
#[must_use]
pub fn parse_percent(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    number.parse().ok().filter(|n| digits && *n <= 100)
}

/// `"0660"`.
#[must_use]
pub fn parse_mode(text: &str) -> Option<u32> {
    let octal = text.len() >= 3 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|m| octal && *m <= 0o777)
}

/// Whether a value has the TOML type of a kind.
#[must_use]
pub fn fits(kind: &Kind, node: &Node) -> bool {
    match (kind, &node.value) {
        (Kind::Table(_) | Kind::Map(..), Value::Table(_)) | (Kind::List(_), Value::List(_)) => true,
        (Kind::Many(_), Value::List(_)) => true,
        (Kind::Many(inner), _) => fits(inner, node),
        (Kind::Forms(forms), _) => forms.iter().any(|k| fits(k, node)),
        _ => check(kind, node).is_some(),
    }
}

/// Whether a kind has values inside.
#[must_use]
pub const fn is_composite(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Table(_) | Kind::Map(..) | Kind::List(_) | Kind::Many(_) | Kind::Forms(_)
    )
}

/// The words among several forms.
#[must_use]
pub fn words(forms: &[Kind]) -> Option<String> {
    forms.iter().find_map(|k| match k {
        Kind::Word(words) => Some(words.join(", ")),
        _ => None,
    })
}

/// A kind in words.
#[must_use]
pub fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Int(..) => "a whole number".to_owned(),
        Kind::Share => "a number from 0 to 1".to_owned(),
        Kind::Text => "a string".to_owned(),
        Kind::Word([one]) => format!("\"{one}\""),
        Kind::Word(_) => "a word".to_owned(),
        Kind::Duration(_) => "a duration".to_owned(),
        Kind::Size(..) => "a size".to_owned(),
        Kind::ByteRate => "a rate".to_owned(),
        Kind::Percent => "a percentage".to_owned(),
        Kind::Mode => "a file mode".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Name => "a name".to_owned(),
        Kind::Bind => "an address to listen on".to_owned(),
        Kind::Server => "a server address".to_owned(),
        Kind::Socket => "an IP address with a port".to_owned(),
        Kind::Ip => "an IP address".to_owned(),
        Kind::Special(what, _) => (*what).to_owned(),
        Kind::List(inner) => format!("a list ({} each)", describe(inner)),
        Kind::Many(inner) => format!("{} or a list of them", describe(inner)),
        Kind::Map(..) | Kind::Table(_) => "a table".to_owned(),
        Kind::Forms(forms) => {
            let all: Vec<String> = forms.iter().map(describe).collect();
            all.join(" or ")
        }
    }
}

/// A value of a kind as TOML.
#[must_use]
pub fn example(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true".to_owned(),
        Kind::Int(min, _) => min.max(&1).to_string(),
        Kind::Share => "0.5".to_owned(),
        Kind::Text | Kind::Special(..) => "\"...\"".to_owned(),
        Kind::Word(words) => format!("\"{}\"", words.first().unwrap_or(&"")),
        Kind::Duration(_) => "\"5s\"".to_owned(),
        Kind::Size(..) => "\"16KiB\"".to_owned(),
        Kind::ByteRate => "\"500B/s\"".to_owned(),
        Kind::Percent => "\"20%\"".to_owned(),
        Kind::Mode => "\"0640\"".to_owned(),
        Kind::Path => "\"/path\"".to_owned(),
        Kind::Name => "\"name\"".to_owned(),
        Kind::Bind => "\":80\"".to_owned(),
        Kind::Server => "\"10.0.0.1:80\"".to_owned(),
        Kind::Socket => "\"127.0.0.53:53\"".to_owned(),
        Kind::Ip => "\"10.0.0.1\"".to_owned(),
        Kind::List(inner) => format!("[{}]", example(inner)),
        Kind::Many(inner) => example(inner),
        Kind::Map(..) | Kind::Table(_) => "{ ... }".to_owned(),
        Kind::Forms(forms) => forms.first().map(example).unwrap_or_default(),
    }
}
