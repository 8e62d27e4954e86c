//! Header rules of a route and listener, compiled once: which fields go, which come, and which
//! names nobody may touch.

use std::fmt;

use crate::http::params::{HeaderRules, HostRewrite, ListenerParams, RouteParams};
use crate::http::template::{Facts, Template, TemplateError};
use crate::proto::head::{Field, FieldId};
use crate::proto::http1::grammar;

/// Why a header rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// Not a field name.
    Name(String),
    /// The field belongs to the connection or to the framing, which are proxyd's own.
    Reserved(String),
    /// The value is no template.
    Template(String, TemplateError),
    /// The value has octets that a field may not hold.
    Value(String),
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{}` is not a header name", name.escape_debug()),
            Self::Reserved(name) => write!(f, "`{name}` is written by proxyd itself"),
            Self::Template(name, error) => write!(f, "value of `{name}`: {error}"),
            Self::Value(name) => write!(f, "the value of `{name}` has bytes a header may not hold"),
        }
    }
}

/// A set of field names: a bit for each known field, a list for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    known: u128,
    others: Box<[Box<[u8]>]>,
}

impl Names {
    fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut set = Self::default();
        let mut others: Vec<Box<[u8]>> = Vec::new();
        for name in names {
            match FieldId::of(name.as_bytes()) {
                FieldId::Other => others.push(name.as_bytes().into()),
                id => set.known |= bit(id),
            }
        }
        others.sort_unstable();
        others.dedup();
        set.others = others.into();
        set
    }

    pub(super) const fn has(&self, id: FieldId) -> bool {
        self.known & bit(id) != 0
    }

    /// Whether a received field is in the set.
    pub(super) fn covers(&self, field: &Field, buf: &[u8]) -> bool {
        if field.id != FieldId::Other {
            return self.has(field.id);
        }
        let name = field.name.of(buf);
        self.others
            .iter()
            .any(|other| other.eq_ignore_ascii_case(name))
    }

    /// Whether a name that is no known field's is in the set.
    pub(super) fn has_other(&self, name: &str) -> bool {
        self.others
            .iter()
            .any(|other| other.eq_ignore_ascii_case(name.as_bytes()))
    }
}

const fn bit(id: FieldId) -> u128 {
    1_u128.wrapping_shl(id as u32)
}

/// `remove`, `set` and `add` of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldRules {
    /// What does not pass: removed, or set anew.
    pub(super) dropped: Names,
    /// What is written: `set`, then `add`.
    pub(super) written: Box<[(Box<[u8]>, Template)]>,
    /// `set` of Host (requests): stands in the place of the host rewriting.
    pub(super) host: Option<Template>,
}

impl FieldRules {
    pub(super) fn compile(rules: &HeaderRules) -> Result<Self, RuleError> {
        let named = rules.set.iter().chain(&rules.add);
        for name in named.clone().map(|(name, _)| name).chain(&rules.remove) {
            check_name(name)?;
        }
        let mut written = Vec::new();
        let mut host = None;
        for (name, value) in named {
            let template = Template::compile(value)
                .map_err(|error| RuleError::Template(name.clone(), error))?;
            check_value(name, &template)?;
            if FieldId::of(name.as_bytes()) == FieldId::Host {
                host = Some(template);
            } else {
                written.push((name.as_bytes().into(), template));
            }
        }
        let gone = rules
            .remove
            .iter()
            .chain(rules.set.iter().map(|(name, _)| name));
        Ok(Self {
            dropped: Names::new(gone.map(String::as_str)),
            written: written.into(),
            host,
        })
    }
}

fn check_name(name: &str) -> Result<(), RuleError> {
    if !grammar::is_token(name.as_bytes()) {
        return Err(RuleError::Name(name.to_owned()));
    }
    let id = FieldId::of(name.as_bytes());
    if id.is_hop_by_hop() || matches!(id, FieldId::ContentLength | FieldId::Expect) {
        return Err(RuleError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// What is fixed in a value is checked with the configuration, not with every request.
fn check_value(name: &str, template: &Template) -> Result<(), RuleError> {
    let mut sample = Vec::new();
    template.write(&mut sample, &Facts::default());
    if grammar::is_value_text(sample.as_slice()) {
        Ok(())
    } else {
        Err(RuleError::Value(name.to_owned()))
    }
}

/// What is done to the requests of a route.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    pub(super) fields: FieldRules,
    pub(super) host: HostRewrite,
    /// The name in Via; `None` adds no element.
    pub(super) via: Option<Box<[u8]>>,
    pub(super) forwarded: bool,
    pub(super) certificate_fields: bool,
}

impl RequestRules {
    /// Compiles the rules of a route on a listener. `instance` is this instance's own name in
    /// Via: unique, a token.
    ///
    /// # Errors
    /// The rule that cannot be used. `conf` asks too, with any instance name.
    pub fn compile(
        listener: &ListenerParams,
        route: &RouteParams,
        instance: &str,
    ) -> Result<Self, RuleError> {
        Ok(Self {
            fields: FieldRules::compile(&route.request_headers)?,
            host: route.host.clone(),
            via: listener.via.then(|| instance.as_bytes().into()),
            forwarded: listener.forwarded,
            certificate_fields: listener.client_certificate_headers,
        })
    }
}

/// What is done to the responses of a route.
#[derive(Clone, Debug, Default)]
pub struct ResponseRules {
    pub(super) fields: FieldRules,
    pub(super) request_id: bool,
}

impl ResponseRules {
    /// Compiles the rules of a route on a listener.
    ///
    /// # Errors
    /// The rule that cannot be used.
    pub fn compile(listener: &ListenerParams, route: &RouteParams) -> Result<Self, RuleError> {
        let fields = FieldRules::compile(&route.response_headers)?;
        Ok(Self {
            fields,
            request_id: listener.request_id_response,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::Span;

    fn rules(set: &[(&str, &str)], remove: &[&str]) -> Result<FieldRules, RuleError> {
        FieldRules::compile(&HeaderRules {
            set: set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            add: Vec::new(),
            remove: remove.iter().map(|n| (*n).to_owned()).collect(),
        })
    }

    #[test]
    fn every_known_field_has_a_bit() {
        assert!(FieldId::KNOWN.len() < 128);
        for id in FieldId::KNOWN {
            let names = Names::new([id.name()].into_iter());
            assert!(names.has(*id) && names.others.is_empty());
            assert_eq!(names.known.count_ones(), 1);
        }
    }

    #[test]
    fn unknown_names_are_found_in_any_spelling() {
        let names = Names::new(["x-one", "x-two"].into_iter());
        let field = |buf: &[u8]| Field {
            name: Span::new(0, buf.len()),
            value: Span::EMPTY,
            id: FieldId::of(buf),
            hop: false,
        };
        for (name, want) in [
            ("X-One", true),
            ("x-two", true),
            ("x-tw", false),
            ("date", false),
        ] {
            assert_eq!(names.covers(&field(name.as_bytes()), name.as_bytes()), want);
        }
    }

    #[test]
    fn framing_and_connection_are_not_for_rules() {
        for name in [
            "connection",
            "transfer-encoding",
            "content-length",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "expect",
            "proxy-connection",
        ] {
            let want = Err(RuleError::Reserved(name.to_owned()));
            assert_eq!(rules(&[(name, "x")], &[]).map(|_| ()), want);
            assert_eq!(rules(&[], &[name]).map(|_| ()), want);
        }
    }

    #[test]
    fn faults_are_told_with_the_name() {
        for (name, value, want) in [
            ("a b", "x", RuleError::Name("a b".to_owned())),
            ("", "x", RuleError::Name(String::new())),
            ("a", "x\r\ny: z", RuleError::Value("a".to_owned())),
            (
                "a",
                "{",
                RuleError::Template("a".to_owned(), TemplateError::Unclosed(0)),
            ),
        ] {
            assert_eq!(rules(&[(name, value)], &[]).map(|_| ()), Err(want));
        }
        assert!(rules(&[("x", "{client_ip}, y")], &["server"]).is_ok());
    }

    #[test]
    fn a_host_that_is_set_takes_the_place_of_the_rewriting() {
        let rules = rules(&[("host", "a.example"), ("x", "y")], &[]).unwrap();
        assert!(rules.host.is_some());
        assert_eq!(rules.written.len(), 1);
    }
}
