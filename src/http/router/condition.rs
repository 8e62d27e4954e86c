//! What a route asks of a request besides host and path: method, header fields, query
//! parameters.

use super::Ask;
use crate::http::params::{Condition, Matcher, ValueMatch};
use crate::proto::head::{Field, FieldId};

/// The conditions of one route.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    methods: Box<[Box<[u8]>]>,
    headers: Box<[HeaderTest]>,
    query: Box<[Condition]>,
}

#[derive(Clone, Debug)]
struct HeaderTest {
    id: FieldId,
    condition: Condition,
}

impl Rule {
    pub(super) fn new(matcher: &Matcher) -> Self {
        let header = |condition: &Condition| HeaderTest {
            id: FieldId::of(condition.name.as_bytes()),
            condition: condition.clone(),
        };
        Self {
            methods: matcher
                .methods
                .iter()
                .map(|m| m.as_bytes().into())
                .collect(),
            headers: matcher.headers.iter().map(header).collect(),
            query: matcher.query.clone().into(),
        }
    }

    pub(super) fn methods(&self) -> impl Iterator<Item = &[u8]> {
        self.methods.iter().map(|method| &**method)
    }

    pub(super) fn takes_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| **m == *method)
    }

    /// Whether all header and query conditions hold.
    pub(super) fn holds(&self, ask: &Ask<'_>) -> bool {
        self.headers.iter().all(|test| test.holds(ask))
            && self
                .query
                .iter()
                .all(|condition| query_holds(condition, ask.query))
    }
}

impl HeaderTest {
    fn holds(&self, ask: &Ask<'_>) -> bool {
        let values = ask
            .fields
            .iter()
            .filter(|field| self.is_about(field, ask.buf))
            .map(|field| field.value.of(ask.buf));
        any_holds(
            &self.condition.value,
            values,
            |value, want| value == want,
            |value, regex| std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text)),
        )
    }

    /// A field that does not go on does not route either: one named by Connection, or dropped
    /// for its underscore. The known ones, such as Upgrade, do.
    fn is_about(&self, field: &Field, buf: &[u8]) -> bool {
        field.id == self.id
            && (self.id != FieldId::Other
                || (!field.hop
                    && field
                        .name
                        .of(buf)
                        .eq_ignore_ascii_case(self.condition.name.as_bytes())))
    }
}

fn any_holds<V>(
    want: &ValueMatch,
    mut values: impl Iterator<Item = V>,
    is_equal: impl Fn(V, &[u8]) -> bool,
    is_match: impl Fn(V, &regex::Regex) -> bool,
) -> bool {
    match want {
        ValueMatch::Present => values.next().is_some(),
        ValueMatch::Absent => values.next().is_none(),
        ValueMatch::Exact(text) => values.any(|value| is_equal(value, text.as_bytes())),
        ValueMatch::Regex(regex) => values.any(|value| is_match(value, regex)),
    }
}

/// Parameters are compared as the server will read them: decoded, so that `%61` is not a way
/// around a condition.
fn query_holds(condition: &Condition, query: Option<&[u8]>) -> bool {
    let pairs = query
        .into_iter()
        .flat_map(|query| query.split(|b| *b == b'&'));
    let values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        let named = !pair.is_empty() && decoded(name).eq(condition.name.bytes());
        named.then(|| value.strip_prefix(b"=").unwrap_or(value))
    });
    any_holds(
        &condition.value,
        values,
        |value, want| decoded(value).eq(want.iter().copied()),
        |value, regex| {
            if !value.iter().any(|b| matches!(b, b'%' | b'+')) {
                return std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text));
            }
            let plain: Vec<u8> = decoded(value).collect();
            std::str::from_utf8(&plain).is_ok_and(|text| regex.is_match(text))
        },
    )
}

/// The octets of a form-encoded text; a malformed escape stands for itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        rest = tail;
        if *first == b'%'
            && let Some(([high, low], tail)) = tail.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = tail;
            return Some(high << 4 | low);
        }
        Some(if *first == b'+' { b' ' } else { *first })
    })
}
