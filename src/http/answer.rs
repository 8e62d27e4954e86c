//! Responses that proxyd makes itself (section 20): errors, and the actions `respond` and
//! `redirect`. Bodies are short and fixed, and no byte of the request is repeated in an error.

use super::edit::{Persistence, ResponseRules, line, write_persistence, write_set_fields};
use super::redirect::Redirect;
use super::template::Facts;
use crate::base::reason::Reason;
use crate::proto::head::{BodyKind, Version};
use crate::proto::http1::encode::{self, EncodeError};
use crate::proto::http1::status::phrase;

/// Seconds after which a client may come again, when nobody knows better.
pub const RETRY_AFTER: u32 = 1;

/// To whom an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct AnswerContext<'a> {
    /// The version of the client.
    pub version: Version,
    /// Whether the request was a HEAD: no body then.
    pub head_request: bool,
    /// Whether the connection goes on; see [`must_close`].
    pub persistence: Persistence,
    /// The date of now.
    pub date: &'a [u8],
    /// The request id, when the listener returns it.
    pub request_id: Option<&'a [u8]>,
}

/// What some statuses carry besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Allow, for 405.
    pub allow: Option<&'a [u8]>,
    /// Retry-After, for 429 and 503; [`RETRY_AFTER`] if not given.
    pub retry_after: Option<u32>,
}

/// Whether the connection has to be closed after an error (rules 2.7 and 9.2). After a 413 and a
/// 417 it depends on the body (5.1, 10.3).
#[must_use]
pub const fn must_close(reason: Reason) -> bool {
    matches!(reason.status(), 400 | 408 | 414 | 431 | 501 | 505)
}

/// Writes an error response and returns its status; 0, and nothing is written, when the reason
/// has none.
pub fn write_error(
    out: &mut Vec<u8>,
    reason: Reason,
    extra: &Extra<'_>,
    cx: &AnswerContext<'_>,
) -> u16 {
    let status = reason.status();
    if status == 0 {
        return 0;
    }
    let start = out.len();
    if error(out, reason, extra, cx).is_err() {
        // Only a caller that hands in broken bytes (Allow, Date) can get here.
        out.truncate(start);
        out.extend_from_slice(
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        return 500;
    }
    status
}

fn error(
    out: &mut Vec<u8>,
    reason: Reason,
    extra: &Extra<'_>,
    cx: &AnswerContext<'_>,
) -> Result<(), Reason> {
    let status = reason.status();
    begin(out, status, cx)?;
    encode::field(out, b"Content-Type", b"text/plain").map_err(refused)?;
    encode::field(out, b"Cache-Control", b"no-store").map_err(refused)?;
    proxy_status(out, reason)?;
    if matches!(status, 429 | 503) {
        let seconds = extra.retry_after.unwrap_or(RETRY_AFTER);
        encode::field_decimal(out, b"Retry-After", seconds.into()).map_err(refused)?;
    }
    if status == 405 {
        let allow = extra.allow.unwrap_or_default();
        encode::field(out, b"Allow", allow).map_err(refused)?;
    }
    if status == 426 {
        encode::field(out, b"Sec-WebSocket-Version", b"13").map_err(refused)?;
        encode::field(out, b"Upgrade", b"websocket").map_err(refused)?;
        encode::field(out, b"Connection", b"Upgrade").map_err(refused)?;
    }
    let phrase = phrase(status);
    let body_len = 3 + 1 + phrase.len() + 1;
    finish_head(out, status, body_len as u64, cx)?;
    if !cx.head_request {
        encode::push_decimal(out, status.into());
        out.push(b' ');
        out.extend_from_slice(phrase.as_bytes());
        out.push(b'\n');
    }
    Ok(())
}

/// A fixed response of a route.
#[derive(Clone, Copy, Debug)]
pub struct Respond<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Content-Type; none when empty.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Writes the response of `respond`.
///
/// # Errors
/// `Internal` when something cannot be written (18.3). `out` is then as it was.
pub fn write_respond(
    out: &mut Vec<u8>,
    respond: &Respond<'_>,
    facts: &Facts<'_>,
    rules: &ResponseRules,
    cx: &AnswerContext<'_>,
) -> Result<(), Reason> {
    or_nothing(out, |out| {
        begin(out, respond.status, cx)?;
        if !respond.content_type.is_empty() && has_body(respond.status) {
            let kind = respond.content_type.as_bytes();
            encode::field(out, b"Content-Type", kind).map_err(refused)?;
        }
        if respond.status >= 400 {
            proxy_status(out, Reason::RouteRespond)?;
        }
        write_set_fields(out, facts, rules)?;
        finish_head(out, respond.status, respond.body.len() as u64, cx)?;
        if !cx.head_request && has_body(respond.status) {
            out.extend_from_slice(respond.body);
        }
        Ok(())
    })
}

/// Writes the response of `redirect` or `redirect_to_https`.
///
/// # Errors
/// Those of the target, and `Internal` when something cannot be written. `out` is then as it was.
pub fn write_redirect(
    out: &mut Vec<u8>,
    redirect: &Redirect,
    facts: &Facts<'_>,
    rules: &ResponseRules,
    cx: &AnswerContext<'_>,
) -> Result<(), Reason> {
    or_nothing(out, |out| {
        begin(out, redirect.status(), cx)?;
        let mut target = Ok(());
        line(out, "Location", |out| {
            target = redirect.write_target(out, facts);
        })
        .map_err(|internal| target.err().unwrap_or(internal))?;
        target?;
        write_set_fields(out, facts, rules)?;
        finish_head(out, redirect.status(), 0, cx)
    })
}

/// Answers an OPTIONS that goes no further (rule 9.3): 204 with Allow.
///
/// # Errors
/// `Internal` when `allow` cannot be written. `out` is then as it was.
pub fn write_options(
    out: &mut Vec<u8>,
    allow: &[u8],
    cx: &AnswerContext<'_>,
) -> Result<(), Reason> {
    or_nothing(out, |out| {
        begin(out, 204, cx)?;
        encode::field(out, b"Allow", allow).map_err(refused)?;
        finish_head(out, 204, 0, cx)
    })
}

/// The interim response that asks for the body (rule 10.2).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn begin(out: &mut Vec<u8>, status: u16, cx: &AnswerContext<'_>) -> Result<(), Reason> {
    encode::status_line(out, status).map_err(refused)?;
    encode::field(out, b"Server", b"proxyd").map_err(refused)?;
    encode::field(out, b"Date", cx.date).map_err(refused)?;
    match cx.request_id {
        Some(id) => encode::field(out, b"X-Request-Id", id).map_err(refused),
        None => Ok(()),
    }
}

fn finish_head(
    out: &mut Vec<u8>,
    status: u16,
    body: u64,
    cx: &AnswerContext<'_>,
) -> Result<(), Reason> {
    match status {
        204 | 304 => {}
        205 => encode::field_decimal(out, b"Content-Length", 0).map_err(refused)?,
        _ => encode::field_decimal(out, b"Content-Length", body).map_err(refused)?,
    }
    write_persistence(out, cx.version, cx.persistence, BodyKind::Length(body))?;
    encode::end(out);
    Ok(())
}

const fn has_body(status: u16) -> bool {
    !matches!(status, 204 | 205 | 304)
}

fn refused(_error: EncodeError) -> Reason {
    Reason::Internal
}

fn or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let start = out.len();
    write(out).inspect_err(|_| out.truncate(start))
}

/// `Proxy-Status: proxyd; error=…; details="…"` (RFC 9209).
fn proxy_status(out: &mut Vec<u8>, reason: Reason) -> Result<(), Reason> {
    line(out, "Proxy-Status", |out| {
        for part in [
            "proxyd; error=",
            error_type(reason),
            "; details=\"",
            reason.as_str(),
            "\"",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
    })
}

/// The error type of RFC 9209 2.3 for each of our reasons.
#[must_use]
pub const fn error_type(reason: Reason) -> &'static str {
    use Reason as R;
    match reason {
        R::BadRequestLine
        | R::BadVersion
        | R::BadField
        | R::BareLf
        | R::BadHost
        | R::BadTarget
        | R::BadContentLength
        | R::BadTransferEncoding
        | R::UnknownTransferCoding
        | R::ClTe
        | R::RepeatedField
        | R::Underscore
        | R::BadChunk
        | R::BadTrailer
        | R::RequestLineTooLong
        | R::FieldTooLarge
        | R::HeadTooLarge
        | R::TooManyFields
        | R::TlsOnPlain
        | R::H2Preface
        | R::SchemeMismatch
        | R::Misdirected
        | R::PathAboveRoot
        | R::PathNotNormal
        | R::BadExpect
        | R::BadMaxForwards
        | R::BadUpgrade
        | R::UpgradeVersion
        | R::BodyTooLarge
        | R::FirstByteTimeout
        | R::HeadTimeout
        | R::BodyTimeout
        | R::BodyTooSlow
        | R::BodyCutShort
        | R::ClientGone
        | R::IdleTimeout => "http_request_error",
        R::ConnectRefused | R::TraceRefused | R::MethodNotAllowed => "http_request_denied",
        R::Loop => "proxy_loop_detected",
        R::NoRoute | R::NoServer => "destination_unavailable",
        R::Ok | R::RouteRespond | R::RouteRedirect => "proxy_internal_response",
        R::TlsTimeout | R::TlsFailed | R::UpstreamTls => "tls_protocol_error",
        R::WriteTimeout | R::ReadTooSlow => "connection_write_timeout",
        R::TooManyConnections | R::TooManyPerClient | R::QueueFull | R::QueueTimeout => {
            "connection_limit_reached"
        }
        R::ResolveFailed => "dns_error",
        R::UpstreamConnect => "connection_refused",
        R::ConnectTimeout => "connection_timeout",
        R::UpstreamReset | R::DrainLimit => "connection_terminated",
        R::UpstreamBadHead | R::UpstreamBadFraming | R::UpstreamInterim => "http_protocol_error",
        R::UpstreamBadUpgrade => "http_upgrade_failed",
        R::ResponseTimeout | R::TotalTimeout => "http_response_timeout",
        R::UpstreamTruncated | R::UpstreamBadBody => "http_response_incomplete",
        R::UpstreamStalled | R::TunnelIdle => "connection_read_timeout",
        R::Internal => "proxy_internal_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::{Method, ResponseHead};
    use crate::proto::http1::{Limits, Scan, response};

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn context() -> AnswerContext<'static> {
        AnswerContext {
            version: Version::Http11,
            head_request: false,
            persistence: Persistence::Keep,
            date: DATE,
            request_id: None,
        }
    }

    fn error_text(reason: Reason, extra: &Extra<'_>, cx: &AnswerContext<'_>) -> String {
        let mut out = Vec::new();
        assert_eq!(write_error(&mut out, reason, extra, cx), reason.status());
        String::from_utf8(out).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn a_whole_error() {
        assert_eq!(
            error_text(Reason::UpstreamConnect, &Extra::default(), &context()),
            "HTTP/1.1 502 Bad Gateway\nServer: proxyd\nDate: Sun, 06 Nov 1994 08:49:37 GMT\n\
             Content-Type: text/plain\nCache-Control: no-store\n\
             Proxy-Status: proxyd; error=connection_refused; details=\"up.connect_failed\"\n\
             Content-Length: 16\n\n502 Bad Gateway\n"
        );
    }

    /// Every reason with a status makes a response that our own parser accepts, with a body of
    /// the announced length and the right fields.
    #[test]
    fn section_20_every_reason() {
        for reason in Reason::ALL {
            let mut out = Vec::new();
            let extra = Extra {
                allow: Some(b"GET, HEAD"),
                retry_after: None,
            };
            let status = write_error(&mut out, *reason, &extra, &context());
            assert_eq!(status, reason.status());
            if status == 0 {
                assert!(out.is_empty());
                continue;
            }
            let mut head = ResponseHead::default();
            let done = response::parse(
                &mut head,
                &mut Scan::default(),
                &out,
                &Limits::default(),
                Method::Get,
            );
            assert_eq!(done, Ok(Some(())));
            assert_eq!(head.status, status);
            let body = out.len() - head.len;
            assert_eq!(head.body, BodyKind::Length(body as u64));
            assert!(body > 5);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(&format!("details=\"{}\"\r\n", reason.as_str())));
            assert!(text.contains("\r\nCache-Control: no-store\r\n"));
            let has = |name: &str| text.contains(&format!("\r\n{name}: "));
            assert_eq!(has("Retry-After"), matches!(status, 429 | 503), "{text}");
            assert_eq!(has("Allow"), status == 405, "{text}");
            assert_eq!(has("Upgrade"), status == 426, "{text}");
            assert!(!has("Connection") || status == 426, "{text}");
        }
    }

    #[test]
    fn rule_2_7_what_closes() {
        for (reason, want) in [
            (Reason::BadHost, true),
            (Reason::PathAboveRoot, true),
            (Reason::HeadTimeout, true),
            (Reason::RequestLineTooLong, true),
            (Reason::TooManyFields, true),
            (Reason::UnknownTransferCoding, true),
            (Reason::ConnectRefused, true),
            (Reason::BadVersion, true),
            (Reason::BodyTooLarge, false),
            (Reason::NoRoute, false),
            (Reason::UpstreamReset, false),
            (Reason::Misdirected, false),
        ] {
            assert_eq!(must_close(reason), want, "{reason:?}");
        }
    }

    #[test]
    fn head_closing_and_old_clients() {
        let head = AnswerContext {
            head_request: true,
            persistence: Persistence::Close,
            ..context()
        };
        let text = error_text(Reason::NoRoute, &Extra::default(), &head);
        assert!(
            text.ends_with("Content-Length: 14\nConnection: close\n\n"),
            "{text}"
        );
        let old = AnswerContext {
            version: Version::Http10,
            request_id: Some(b"abc"),
            ..context()
        };
        let text = error_text(Reason::NoRoute, &Extra::default(), &old);
        assert!(
            text.contains("\nConnection: keep-alive\n") && text.contains("X-Request-Id: abc\n")
        );
    }

    #[test]
    fn fields_of_some_statuses() {
        let extra = Extra {
            allow: Some(b"GET"),
            retry_after: Some(7),
        };
        assert!(error_text(Reason::MethodNotAllowed, &extra, &context()).contains("Allow: GET\n"));
        assert!(error_text(Reason::QueueFull, &extra, &context()).contains("Retry-After: 7\n"));
        let upgrade = error_text(Reason::UpgradeVersion, &extra, &context());
        assert!(
            upgrade.contains("Sec-WebSocket-Version: 13\nUpgrade: websocket\n"),
            "{upgrade}"
        );
        assert!(upgrade.contains("Connection: Upgrade\n"), "{upgrade}");
    }

    #[test]
    fn broken_bytes_from_inside_become_a_500() {
        let extra = Extra {
            allow: Some(b"GET\r\nX: y"),
            retry_after: None,
        };
        let mut out = Vec::new();
        let status = write_error(&mut out, Reason::MethodNotAllowed, &extra, &context());
        assert_eq!(status, 500);
        assert!(out.starts_with(b"HTTP/1.1 500 ") && !out.windows(2).any(|w| w == b"X:"));
    }

    fn respond_text(status: u16, body: &str, cx: &AnswerContext<'_>) -> String {
        let respond = Respond {
            status,
            content_type: "text/plain",
            body: body.as_bytes(),
        };
        let mut out = Vec::new();
        let rules = ResponseRules::default();
        write_respond(&mut out, &respond, &Facts::default(), &rules, cx).unwrap();
        let text = String::from_utf8(out).unwrap().replace("\r\n", "\n");
        text.replace("Server: proxyd\nDate: Sun, 06 Nov 1994 08:49:37 GMT\n", "")
    }

    #[test]
    fn fixed_responses() {
        let head = AnswerContext {
            head_request: true,
            ..context()
        };
        let proxy =
            "Proxy-Status: proxyd; error=proxy_internal_response; details=\"route.respond\"\n";
        for (status, body, cx, want) in [
            (
                200,
                "ok\n",
                context(),
                "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 3\n\nok\n".to_owned(),
            ),
            (
                200,
                "ok\n",
                head,
                "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 3\n\n".to_owned(),
            ),
            (
                204,
                "x",
                context(),
                "HTTP/1.1 204 No Content\n\n".to_owned(),
            ),
            (
                205,
                "x",
                context(),
                "HTTP/1.1 205 Reset Content\nContent-Length: 0\n\n".to_owned(),
            ),
            (
                403,
                "",
                context(),
                format!(
                    "HTTP/1.1 403 Forbidden\nContent-Type: text/plain\n{proxy}Content-Length: 0\n\n"
                ),
            ),
        ] {
            assert_eq!(respond_text(status, body, &cx), want);
        }
    }

    #[test]
    fn redirects() {
        let facts = Facts {
            host: b"h",
            path: b"/x",
            ..Facts::default()
        };
        let mut out = Vec::new();
        let (rules, to_https) = (ResponseRules::default(), Redirect::to_https());
        write_redirect(&mut out, &to_https, &facts, &rules, &context()).unwrap();
        let text = String::from_utf8(out).unwrap().replace("\r\n", "\n");
        assert!(
            text.starts_with("HTTP/1.1 308 Permanent Redirect\n"),
            "{text}"
        );
        assert!(
            text.ends_with("Location: https://h/x\nContent-Length: 0\n\n"),
            "{text}"
        );
        let mut out = b"kept".to_vec();
        let facts = Facts { host: b"", ..facts };
        let result = write_redirect(&mut out, &to_https, &facts, &rules, &context());
        assert_eq!((result, out), (Err(Reason::BadHost), b"kept".to_vec()));
    }

    #[test]
    fn rule_9_3_options() {
        let mut out = Vec::new();
        write_options(&mut out, b"GET, HEAD", &context()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 204 ") && text.ends_with("\r\nAllow: GET, HEAD\r\n\r\n")
        );
    }

    #[test]
    fn the_interim_response_is_one() {
        let mut head = ResponseHead::default();
        let done = response::parse(
            &mut head,
            &mut Scan::default(),
            CONTINUE,
            &Limits::default(),
            Method::Post,
        );
        assert_eq!(
            (done, head.status, head.len),
            (Ok(Some(())), 100, CONTINUE.len())
        );
    }
}
