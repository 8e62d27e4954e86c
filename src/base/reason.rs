//! The closed list of reason codes (D12): one word for every response that proxyd makes itself
//! and for every connection that it refuses or breaks. The same word stands in the access log,
//! in the metric label and in the `Proxy-Status` header (RFC 9209).

macro_rules! reasons {
    ($( $variant:ident, $word:literal, $status:literal, $help:literal; )*) => {
        /// Why proxyd answered by itself, refused or broke something.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $( #[doc = $help] $variant, )* }

        impl Reason {
            /// Every reason, in the order of the list.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The word for logs, metrics and headers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// The status sent when no response was started yet; 0 where nothing is sent.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $( Self::$variant => $status, )* }
            }

            /// One sentence for `docs/reasons.md`.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $( Self::$variant => $help, )* }
            }
        }
    };
}

reasons! {
    Ok, "ok", 0, "Nothing went wrong: the response came from the upstream or from the route's own action.";
    // malformed requests
    BadRequestLine, "h1.bad_request_line", 400, "The request line is not method, target and version.";
    BadVersion, "h1.bad_version", 505, "The major version of HTTP is not 1.";
    BadField, "h1.bad_field", 400, "A header field has an invalid name or value, or is folded.";
    BareLf, "h1.bare_lf", 400, "A line ends in a bare LF, or a bare CR or NUL stands in the head.";
    BadHost, "h1.bad_host", 400, "The Host field is missing, repeated, invalid or contradicts the target.";
    BadTarget, "h1.bad_target", 400, "The request target has a form or bytes that are not allowed.";
    BadContentLength, "h1.bad_content_length", 400, "Content-Length is not one plain number.";
    BadTransferEncoding, "h1.bad_transfer_encoding", 400, "Transfer-Encoding is malformed, repeated or not allowed in this version.";
    UnknownTransferCoding, "h1.unknown_transfer_coding", 501, "A transfer coding other than chunked was used.";
    ClTe, "h1.cl_te", 400, "Both Content-Length and Transfer-Encoding were sent.";
    RepeatedField, "h1.repeated_field", 400, "A field that must not repeat was sent twice.";
    Underscore, "h1.underscore", 400, "A field name has an underscore and the listener rejects those.";
    BadChunk, "h1.bad_chunk", 400, "The chunked coding is malformed or has too much framing.";
    BadTrailer, "h1.bad_trailer", 400, "A trailer field is malformed or over a limit.";
    RequestLineTooLong, "h1.request_line_too_long", 414, "The request line is longer than its limit.";
    FieldTooLarge, "h1.field_too_large", 431, "A field line is longer than its limit.";
    HeadTooLarge, "h1.head_too_large", 431, "The request head is larger than its limit.";
    TooManyFields, "h1.too_many_fields", 431, "The request has more fields than the limit.";
    TlsOnPlain, "h1.tls_on_plain", 0, "TLS bytes came to a listener without TLS.";
    H2Preface, "h1.h2_preface", 400, "An HTTP/2 preface came to a listener without h2c.";
    SchemeMismatch, "req.scheme_mismatch", 421, "The scheme of the target does not fit the listener.";
    Misdirected, "req.misdirected", 421, "The host needs another certificate or client certificate than the connection has.";
    PathAboveRoot, "req.path_above_root", 400, "Dot segments lead above the root.";
    PathNotNormal, "req.path_not_normal", 400, "The path is not in normal form and the route is strict.";
    BadExpect, "req.bad_expect", 417, "Expect has another value than 100-continue.";
    BadMaxForwards, "req.bad_max_forwards", 400, "Max-Forwards is not a number.";
    BadUpgrade, "req.bad_upgrade", 400, "The WebSocket handshake lacks its key.";
    UpgradeVersion, "req.upgrade_version", 426, "Sec-WebSocket-Version is not 13.";
    ConnectRefused, "req.connect", 501, "CONNECT is not served by a reverse proxy listener.";
    TraceRefused, "req.trace", 405, "TRACE is not enabled.";
    MethodNotAllowed, "req.method", 405, "The route does not allow the method.";
    BodyTooLarge, "req.body_too_large", 413, "The request body is larger than the route allows.";
    Loop, "req.loop", 508, "The request came back to this instance.";
    NoRoute, "route.none", 404, "No route matches the request.";
    RouteRespond, "route.respond", 0, "The route answers by itself.";
    RouteRedirect, "route.redirect", 0, "The route redirects.";
    // clients that are too slow, or gone
    TlsTimeout, "client.tls_timeout", 0, "The TLS handshake took too long.";
    TlsFailed, "client.tls_failed", 0, "The TLS handshake failed.";
    FirstByteTimeout, "client.first_byte_timeout", 0, "No byte came on a new connection.";
    HeadTimeout, "client.head_timeout", 408, "The request head took too long.";
    BodyTimeout, "client.body_timeout", 408, "The request body stopped coming.";
    BodyTooSlow, "client.body_too_slow", 408, "The request body came slower than the least rate.";
    WriteTimeout, "client.write_timeout", 0, "The client stopped reading.";
    ReadTooSlow, "client.read_too_slow", 0, "The client read slower than the least rate.";
    ClientGone, "client.gone", 0, "The client left before the exchange was complete.";
    BodyCutShort, "client.body_cut", 400, "The client ended its body before the announced end.";
    IdleTimeout, "client.idle", 0, "An idle connection was closed.";
    // limits
    TooManyConnections, "limit.connections", 0, "The worker holds as many connections as it may.";
    TooManyPerClient, "limit.client_connections", 0, "The client address holds as many connections as it may.";
    QueueFull, "limit.queue_full", 503, "Too many requests wait for a connection to the upstream.";
    QueueTimeout, "limit.queue_timeout", 503, "No connection to the upstream became free in time.";
    // upstreams
    NoServer, "up.no_server", 503, "No server of the upstream can be used.";
    ResolveFailed, "up.resolve_failed", 503, "The name of the server does not resolve.";
    UpstreamConnect, "up.connect_failed", 502, "The connection to the server failed.";
    ConnectTimeout, "up.connect_timeout", 504, "The connection to the server took too long.";
    UpstreamTls, "up.tls_failed", 502, "TLS with the server failed, or its certificate is not the expected one.";
    UpstreamReset, "up.reset", 502, "The server closed or reset the connection before a response.";
    UpstreamBadHead, "up.bad_head", 502, "The head of the response is malformed or over a limit.";
    UpstreamBadFraming, "up.bad_framing", 502, "The length of the response is contradictory.";
    UpstreamBadUpgrade, "up.bad_upgrade", 502, "The server switched protocols without being asked.";
    UpstreamInterim, "up.interim", 502, "The server sent too many interim responses.";
    ResponseTimeout, "up.response_timeout", 504, "The head of the response did not come in time.";
    TotalTimeout, "up.total_timeout", 504, "The whole exchange took too long.";
    UpstreamTruncated, "up.truncated", 0, "The response ended before its announced end.";
    UpstreamBadBody, "up.bad_body", 502, "The body of the response is malformed.";
    UpstreamStalled, "up.stalled", 0, "The body of the response stopped coming.";
    // our side
    TunnelIdle, "tunnel.idle", 0, "No byte went through the tunnel for too long.";
    DrainLimit, "drain.limit", 0, "The worker left while the exchange or tunnel was running.";
    Internal, "internal", 500, "A defect of proxyd or of its configuration.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.as_str()), "{} twice", reason.as_str());
            assert!(
                reason.as_str().bytes().all(|b| b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || b == b'.'
                    || b == b'_')
            );
            assert!(reason.help().ends_with('.'));
        }
    }

    #[test]
    fn a_status_is_an_error_status_or_none() {
        for reason in Reason::ALL {
            assert!(reason.status() == 0 || (400..600).contains(&reason.status()));
        }
    }

    #[test]
    fn the_number_of_a_reason_is_its_place_in_the_list() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
