//! Where a redirect leads: a template with the request's own parts, made safe. The rest of the
//! response is written by `answer`.

use std::fmt;

use super::template::{Facts, Template, TemplateError, push_escape};
use crate::base::reason::Reason;

/// A compiled `redirect = {...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    to: Template,
    status: u16,
}

/// Why a redirect cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// The target is no template.
    Template(TemplateError),
    /// The target has control characters, or is empty.
    Target,
    /// The status is not 301, 302, 303, 307 or 308.
    Status,
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(error) => error.fmt(f),
            Self::Target => f.write_str("the target of a redirect is empty or has control bytes"),
            Self::Status => f.write_str("the status of a redirect is 301, 302, 303, 307 or 308"),
        }
    }
}

impl Redirect {
    /// Compiles the target and checks what is fixed in it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn compile(to: &str, status: u16) -> Result<Self, RedirectError> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err(RedirectError::Status);
        }
        if to.is_empty() || to.bytes().any(|b| b.is_ascii_control()) {
            return Err(RedirectError::Target);
        }
        let to = Template::compile(to).map_err(RedirectError::Template)?;
        Ok(Self { to, status })
    }

    /// `redirect_to_https`: the same host on the default port, the same target. Permanent, and
    /// the method stays.
    #[must_use]
    pub fn to_https() -> Self {
        // The text is a constant, so the default is never taken.
        Self {
            to: Template::compile("https://{host}{uri}").unwrap_or_default(),
            status: 308,
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Appends the target. What a URI may not hold is percent-encoded, and a target that begins
    /// with parts of the request stays on this host: `//other` and `/\other` do not lead away.
    ///
    /// # Errors
    /// `BadHost` when the request has no host and the target needs it; `Internal` when the target
    /// cannot be written. `out` is then as it was.
    pub fn write_target(&self, out: &mut Vec<u8>, facts: &Facts<'_>) -> Result<(), Reason> {
        let start = out.len();
        self.to.write(out, facts);
        escape(out, start);
        if self.to.starts_with_variable() {
            let target = out.get(start..).unwrap_or_default();
            let slashes = target.iter().take_while(|b| **b == b'/').count();
            if slashes > 1 {
                out.drain(start..start + slashes - 1);
            }
        }
        let target = out.get(start..).unwrap_or_default();
        let result = check(target);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}

fn check(target: &[u8]) -> Result<(), Reason> {
    if target.is_empty() || target.iter().any(u8::is_ascii_control) {
        return Err(Reason::Internal);
    }
    let authority = target.windows(3).position(|w| w == b"://");
    let after = authority.and_then(|at| target.get(at + 3..));
    match after {
        Some([] | [b'/' | b'?' | b':', ..]) if !target.starts_with(b"/") => Err(Reason::BadHost),
        _ => Ok(()),
    }
}

/// Whether a byte has to be written as an escape in a URI (3986 2). Control bytes are left: they
/// make the target invalid.
const fn needs_escape(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..
    )
}

fn escape(out: &mut Vec<u8>, start: usize) {
    let tail = out.get(start..).unwrap_or_default();
    if !tail.iter().any(|b| needs_escape(*b)) {
        return;
    }
    let tail = tail.to_vec();
    out.truncate(start);
    for byte in tail {
        if needs_escape(byte) {
            push_escape(out, byte);
        } else {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(to: &str, facts: &Facts<'_>) -> Result<String, Reason> {
        let mut out = b"Location: ".to_vec();
        let result = Redirect::compile(to, 302)
            .unwrap()
            .write_target(&mut out, facts);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("Location: ").unwrap();
        if result.is_err() {
            assert_eq!(text, "");
        }
        result.map(|()| text.to_owned())
    }

    fn facts<'a>(host: &'a str, path: &'a str, query: Option<&'a str>) -> Facts<'a> {
        Facts {
            authority: host.as_bytes(),
            host: host.as_bytes(),
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            ..Facts::default()
        }
    }

    #[test]
    fn targets() {
        let f = facts("old.example", "/a/b", Some("q=1&r"));
        for (to, want) in [
            ("https://example.org{uri}", "https://example.org/a/b?q=1&r"),
            ("https://{host}{path}", "https://old.example/a/b"),
            (
                "{scheme}://{host}/new?{query}",
                "http://old.example/new?q=1&r",
            ),
            ("/fixed", "/fixed"),
            ("{path}/", "/a/b/"),
            (
                "https://example.org/caf\u{e9}",
                "https://example.org/caf%C3%A9",
            ),
        ] {
            assert_eq!(target(to, &f).unwrap(), want);
        }
        let mut out = Vec::new();
        let to_https = Redirect::to_https();
        to_https.write_target(&mut out, &f).unwrap();
        assert_eq!(out, b"https://old.example/a/b?q=1&r");
        assert_eq!(to_https.status(), 308);
    }

    #[test]
    fn a_target_made_of_the_request_does_not_lead_away() {
        for (path, want) in [
            ("//evil.example/x", "/evil.example/x"),
            ("////evil.example", "/evil.example"),
            ("/\\evil.example", "/%5Cevil.example"),
            ("/ok//x", "/ok//x"),
        ] {
            assert_eq!(target("{uri}", &facts("h", path, None)).unwrap(), want);
        }
        let f = facts("h", "//evil", None);
        assert_eq!(target("https://h{uri}", &f).unwrap(), "https://h//evil");
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let f = facts("h", "/\"<>\\^`{|}", Some("a=\"b\""));
        assert_eq!(
            target("https://h{uri}", &f).unwrap(),
            "https://h/%22%3C%3E%5C%5E%60%7B%7C%7D?a=%22b%22"
        );
        let split = facts("h", "/a\r\nSet-Cookie: x", None);
        assert_eq!(target("https://h{uri}", &split), Err(Reason::Internal));
    }

    #[test]
    fn a_missing_host_is_the_fault_of_the_request() {
        let f = facts("", "/x", None);
        assert_eq!(target("https://{host}{uri}", &f), Err(Reason::BadHost));
        assert_eq!(target("https://{host}", &f), Err(Reason::BadHost));
        assert_eq!(target("https://{host}:8443{uri}", &f), Err(Reason::BadHost));
        assert_eq!(target("/x?to=://", &f).unwrap(), "/x?to=://");
    }

    #[test]
    fn faults_are_found_with_the_configuration() {
        for (to, status, want) in [
            ("/x", 300, RedirectError::Status),
            ("/x", 200, RedirectError::Status),
            ("", 301, RedirectError::Target),
            ("/x\r\ny: z", 301, RedirectError::Target),
            (
                "{",
                301,
                RedirectError::Template(TemplateError::Unclosed(0)),
            ),
        ] {
            assert_eq!(Redirect::compile(to, status), Err(want));
        }
    }

    proptest! {
        #[test]
        fn no_request_splits_a_response(path in "/[ -~]{0,30}", query in "[\\x00-\\x7f]{0,20}") {
            let f = facts("h", &path, Some(&query));
            match target("{uri}", &f) {
                Ok(text) => {
                    prop_assert!(text.bytes().all(|b| (0x21..=0x7e).contains(&b)));
                    prop_assert!(!text.starts_with("//"));
                }
                Err(_) => prop_assert!(query.bytes().any(|b| b.is_ascii_control())),
            }
        }
    }
}
