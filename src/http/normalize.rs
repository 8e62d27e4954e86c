//! The path policy (section 19): the normal form that routes are matched on, and the rewriting of
//! prefixes. The query is never touched.

use super::params::{Normalize, PathRewrite};
use crate::base::reason::Reason;

/// A path to match routes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    /// In normal form.
    pub path: &'a [u8],
    /// Whether that differs from what was received.
    pub changed: bool,
}

/// The normal form of a path (rule 19.1): unreserved characters decoded, escapes in upper case,
/// dot segments resolved. `scratch` is used only when the path is not normal already.
///
/// # Errors
/// `PathAboveRoot`; `BadTarget` for a malformed escape, which the parser does not let through.
pub fn normalize<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Normal<'a>, Reason> {
    if is_normal(path) {
        return Ok(Normal {
            path,
            changed: false,
        });
    }
    scratch.clear();
    decode_unreserved(path, scratch)?;
    remove_dot_segments(scratch)?;
    Ok(Normal {
        path: scratch,
        changed: scratch.as_slice() != path,
    })
}

/// Which path is sent (rule 19.2).
///
/// # Errors
/// `PathNotNormal` in strict mode.
pub fn choose<'a>(
    mode: Normalize,
    received: &'a [u8],
    normal: Normal<'a>,
) -> Result<&'a [u8], Reason> {
    match mode {
        Normalize::Raw => Ok(received),
        Normalize::Strict if normal.changed => Err(Reason::PathNotNormal),
        Normalize::Strict | Normalize::On => Ok(normal.path),
    }
}

/// Nearly every path is normal: one look at each byte, stopping at the first doubt.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        if *byte == b'%' || (after_slash && *byte == b'.') {
            return false;
        }
        after_slash = *byte == b'/';
    }
    true
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let Some(([high, low], tail)) = tail.split_first_chunk::<2>() else {
            return Err(Reason::BadTarget);
        };
        let (Some(value_high), Some(value_low)) = (hex(*high), hex(*low)) else {
            return Err(Reason::BadTarget);
        };
        rest = tail;
        let value = value_high << 4 | value_low;
        if is_unreserved(value) {
            out.push(value);
        } else {
            out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
        }
    }
    Ok(())
}

/// Resolves `.` and `..` in place: the result never is longer than what was read.
fn remove_dot_segments(path: &mut Vec<u8>) -> Result<(), Reason> {
    let (mut read, mut write) = (0, 0);
    while let Some(tail) = path.get(read..).filter(|tail| !tail.is_empty()) {
        // A segment with the slash in front of it; a path that does not begin with one is `*`.
        let end = tail.iter().skip(1).position(|b| *b == b'/');
        let len = end.map_or(tail.len(), |end| end + 1);
        let segment = tail.get(..len).unwrap_or_default();
        let last = end.is_none();
        let up = segment == b"/..";
        if up {
            let before = path.get(..write).unwrap_or_default();
            write = before
                .iter()
                .rposition(|b| *b == b'/')
                .ok_or(Reason::PathAboveRoot)?;
        }
        if up || segment == b"/." {
            // A dot segment at the end leaves the slash of its directory.
            if let Some(slash) = path.get_mut(write).filter(|_| last) {
                *slash = b'/';
                write += 1;
            }
        } else {
            path.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    path.truncate(write);
    Ok(())
}

/// Replaces the prefix of a path as the route says; the path itself when there is nothing to do.
///
/// A prefix is stripped on a segment boundary only, and a path without it stays as it is.
///
/// # Errors
/// `Internal` when the result is not a valid path: then the configured prefix is not (rule 19.3).
pub fn rewrite<'a>(
    path: &'a [u8],
    rule: &PathRewrite,
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], Reason> {
    let rest = match &rule.strip_prefix {
        Some(prefix) => match strip(path, trim_slash(prefix.as_bytes())) {
            Some(rest) => rest,
            None => return Ok(path),
        },
        None if rule.add_prefix.is_none() || !path.starts_with(b"/") => return Ok(path),
        None => path,
    };
    let front = trim_slash(rule.add_prefix.as_deref().unwrap_or_default().as_bytes());
    out.clear();
    out.extend_from_slice(front);
    out.extend_from_slice(rest);
    if out.is_empty() {
        out.push(b'/');
    }
    if is_valid(out) {
        Ok(out)
    } else {
        Err(Reason::Internal)
    }
}

fn trim_slash(prefix: &[u8]) -> &[u8] {
    prefix.strip_suffix(b"/").unwrap_or(prefix)
}

fn strip<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether the bytes are a path by rule 4.2. For `conf`, too, to check configured prefixes.
#[must_use]
pub fn is_valid(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some((byte, tail)) = rest.split_first() {
        rest = match byte {
            b'#' | b'?' => return false,
            b'%' => match tail.split_first_chunk::<2>() {
                Some((b"00", _)) => return false,
                Some(([a, b], tail)) if hex(*a).is_some() && hex(*b).is_some() => tail,
                _ => return false,
            },
            0x21..=0x7e => tail,
            _ => return false,
        };
    }
    path.starts_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> Result<(String, bool), Reason> {
        let mut scratch = b"left over".to_vec();
        let got = normalize(path.as_bytes(), &mut scratch)?;
        Ok((String::from_utf8(got.path.to_vec()).unwrap(), got.changed))
    }

    #[test]
    fn rule_19_1_normal_forms() {
        for (path, want) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b.c/d", "/a/b.c/d"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            // unreserved characters are decoded, others are not
            ("/%61%7E%2d", "/a~-"),
            ("/%2f%5c%20", "/%2F%5C%20"),
            ("/%C3%a9", "/%C3%A9"),
            ("/%2525", "/%2525"),
            // dot segments, also escaped ones
            ("/.", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/b/../../c/./d/..", "/c/"),
            // empty segments are segments
            ("//", "//"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            // parameters belong to the segment
            ("/a/..;x/b", "/a/..;x/b"),
            ("/a;v=1/../b", "/b"),
        ] {
            let (got, changed) = normal(path).unwrap();
            assert_eq!(got, want, "{path}");
            assert_eq!(changed, path != want, "{path}");
        }
    }

    #[test]
    fn rule_19_1_above_the_root() {
        for path in [
            "/..",
            "/../a",
            "/a/../..",
            "/./..",
            "/%2e%2e/x",
            "/a/b/../../../c",
        ] {
            assert_eq!(normal(path), Err(Reason::PathAboveRoot), "{path}");
        }
        assert_eq!(normal("/%4"), Err(Reason::BadTarget));
        assert_eq!(normal("/%+1"), Err(Reason::BadTarget));
    }

    #[test]
    fn rule_19_2_what_is_matched_is_what_is_sent() {
        let received = b"/a/../b".as_slice();
        let mut scratch = Vec::new();
        let changed = normalize(received, &mut scratch).unwrap();
        assert_eq!(choose(Normalize::On, received, changed), Ok(&b"/b"[..]));
        assert_eq!(choose(Normalize::Raw, received, changed), Ok(received));
        assert_eq!(
            choose(Normalize::Strict, received, changed),
            Err(Reason::PathNotNormal)
        );
        let mut scratch = Vec::new();
        let same = normalize(b"/b", &mut scratch).unwrap();
        assert_eq!(choose(Normalize::Strict, b"/b", same), Ok(&b"/b"[..]));
        // Looked at closely and found normal is normal.
        let mut scratch = Vec::new();
        let same = normalize(b"/.x/%20", &mut scratch).unwrap();
        assert_eq!(
            choose(Normalize::Strict, b"/.x/%20", same),
            Ok(&b"/.x/%20"[..])
        );
    }

    #[test]
    fn a_normal_path_needs_no_memory() {
        let mut scratch = Vec::new();
        normalize(b"/plain/path.html", &mut scratch).unwrap();
        assert_eq!(scratch.capacity(), 0);
    }

    #[test]
    fn rule_19_3_prefixes() {
        for (path, strip, add, want) in [
            ("/api/x", Some("/api"), None, "/x"),
            ("/api/x", Some("/api/"), None, "/x"),
            ("/api", Some("/api/"), None, "/"),
            ("/api/", Some("/api"), None, "/"),
            ("/apix", Some("/api"), None, "/apix"),
            ("/x", Some("/api"), Some("/v2"), "/x"),
            ("/api/x", Some("/api"), Some("/v2"), "/v2/x"),
            ("/api/x", Some("/api"), Some("/v2/"), "/v2/x"),
            ("/api", Some("/api"), Some("/v2"), "/v2"),
            ("/api//x", Some("/api"), None, "//x"),
            ("/x", None, Some("/v2"), "/v2/x"),
            ("/x", Some("/"), Some("/v2"), "/v2/x"),
            ("/x", None, None, "/x"),
            ("*", None, Some("/v2"), "*"),
            ("*", Some("/"), None, "*"),
        ] {
            let rule = PathRewrite {
                strip_prefix: strip.map(str::to_owned),
                add_prefix: add.map(str::to_owned),
            };
            let mut out = b"left over".to_vec();
            let got = rewrite(path.as_bytes(), &rule, &mut out).unwrap();
            assert_eq!(got, want.as_bytes(), "{path} {strip:?} {add:?}");
        }
    }

    #[test]
    fn rule_19_3_the_result_is_validated() {
        for prefix in [
            "/a b", "/a?b", "/a#", "/\u{e9}", "/%", "/%zz", "/%00", "a", "/a\r\n",
        ] {
            let rule = PathRewrite {
                strip_prefix: None,
                add_prefix: Some(prefix.to_owned()),
            };
            let mut out = Vec::new();
            assert_eq!(
                rewrite(b"/x", &rule, &mut out),
                Err(Reason::Internal),
                "{prefix}"
            );
        }
    }

    /// The algorithm of 3986 5.2.4 on segments, with `..` above the root as an error.
    fn reference(path: &str) -> Option<String> {
        let mut kept: Vec<&str> = Vec::new();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        for (place, segment) in segments.iter().enumerate() {
            let last = place + 1 == segments.len();
            match *segment {
                "." => {}
                ".." => {
                    kept.pop()?;
                }
                other => {
                    kept.push(other);
                    continue;
                }
            }
            if last {
                kept.push("");
            }
        }
        Some(format!("/{}", kept.join("/")))
    }

    proptest! {
        #[test]
        fn dot_segments_agree_with_the_reference(path in "(/(\\.|\\.\\.|a|b|)){1,8}") {
            prop_assert_eq!(normal(&path).ok().map(|(p, _)| p), reference(&path));
        }

        #[test]
        fn normalising_twice_changes_nothing(path in "/([/.ab;~]|%2[ef]|%2E|%41|%5c){0,20}") {
            if let Ok((once, _)) = normal(&path) {
                prop_assert!(is_valid(once.as_bytes()));
                let twice = normal(&once);
                prop_assert_eq!(twice, Ok((once, false)));
            }
        }

        #[test]
        fn any_bytes_can_be_normalised(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut scratch = Vec::new();
            let _any = normalize(&bytes, &mut scratch);
        }
    }
}
