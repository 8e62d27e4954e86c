//! What must not reach the log: values of query parameters and of request headers by name.

/// Written in place of a value.
pub(super) const MASK: &[u8] = b"***";

/// Names whose values are hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Redact {
    query: Vec<Box<[u8]>>,
    headers: Vec<Box<str>>,
}

impl Redact {
    /// From `query:NAME` and `header:NAME`; the entry that is neither.
    pub(super) fn parse(entries: &[String]) -> Result<Self, String> {
        let mut redact = Self::default();
        for entry in entries {
            match entry.split_once(':') {
                Some(("query", name)) if !name.is_empty() => {
                    redact.query.push(Box::from(name.as_bytes()));
                }
                Some(("header", name)) if !name.is_empty() => {
                    redact.headers.push(name.to_ascii_lowercase().into());
                }
                _ => return Err(entry.clone()),
            }
        }
        Ok(redact)
    }

    /// Whether the value of this header (in lower case) is hidden.
    pub(super) fn hides_header(&self, name: &str) -> bool {
        self.headers.iter().any(|hidden| **hidden == *name)
    }

    /// Whether there is anything to look for in a query.
    pub(super) fn hides_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// Gives the pieces of a query in order, with [`MASK`] where a value is hidden.
    pub(super) fn query(&self, query: &[u8], mut piece: impl FnMut(&[u8])) {
        let mut first = true;
        for parameter in query.split(|b| *b == b'&') {
            if !first {
                piece(b"&");
            }
            first = false;
            let name_len = parameter.iter().position(|b| *b == b'=');
            match name_len.and_then(|len| parameter.split_at_checked(len + 1)) {
                Some((name_and_sign, _value)) if self.hides(name_and_sign) => {
                    piece(name_and_sign);
                    piece(MASK);
                }
                _ => piece(parameter),
            }
        }
    }

    fn hides(&self, name_and_sign: &[u8]) -> bool {
        let name = name_and_sign.strip_suffix(b"=").unwrap_or(name_and_sign);
        self.query
            .iter()
            .any(|hidden| decoded(name).eq(hidden.iter().copied()))
    }
}

/// The bytes of a name with `%XX` resolved, so that another spelling hides nothing from us.
fn decoded(name: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = after;
            return Some(high * 16 + low);
        }
        rest = tail;
        Some(*first)
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hidden(entries: &[&str], query: &[u8]) -> String {
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        let mut out = Vec::new();
        Redact::parse(&entries)
            .unwrap()
            .query(query, |piece| out.extend_from_slice(piece));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn values_of_named_parameters_are_hidden() {
        let hide = &["query:token", "query:key"];
        assert_eq!(hidden(hide, b"a=1&token=s3cret&b=2"), "a=1&token=***&b=2");
        assert_eq!(hidden(hide, b"token=s&token=t"), "token=***&token=***");
        assert_eq!(hidden(hide, b"key=a=b"), "key=***");
        assert_eq!(hidden(hide, b"tokens=1&xtoken=2"), "tokens=1&xtoken=2");
        assert_eq!(hidden(hide, b"token"), "token");
        assert_eq!(hidden(hide, b""), "");
    }

    #[test]
    fn another_spelling_of_the_name_is_hidden_too() {
        assert_eq!(hidden(&["query:token"], b"%74oke%6E=s"), "%74oke%6E=***");
        assert_eq!(hidden(&["query:token"], b"%7=s&%zz=t"), "%7=s&%zz=t");
    }

    #[test]
    fn entries_name_a_place() {
        for bad in ["token", "cookie:a", "query:", ":x"] {
            assert_eq!(Redact::parse(&[bad.to_owned()]), Err(bad.to_owned()));
        }
        let redact = Redact::parse(&["header:Authorization".to_owned()]).unwrap();
        assert!(redact.hides_header("authorization"));
        assert!(!redact.hides_query());
    }

    proptest! {
        #[test]
        fn without_a_hidden_name_nothing_changes(query: Vec<u8>) {
            let mut out = Vec::new();
            Redact::default().query(&query, |piece| out.extend_from_slice(piece));
            prop_assert_eq!(out, query);
        }

        #[test]
        fn a_secret_never_appears(before in "[a-z=&]{0,20}", secret in "[A-Z]{6,20}") {
            let query = format!("{before}&token={secret}");
            prop_assert!(!hidden(&["query:token"], query.as_bytes()).contains(&secret));
        }
    }
}
