//! Field lines: where they stand in the buffer and which of the known fields they are.
//!
//! Only names that some rule asks for are known; every other field is `Other` and passes.

/// A range of octets of the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first octet.
    pub start: u32,
    /// One behind the last octet.
    pub end: u32,
}

impl Span {
    /// The span of nothing.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// A span; places above 4 GiB do not occur in a bounded head and are clamped.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let clamp = |place| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            start: clamp(start),
            end: clamp(end),
        }
    }

    /// The octets of `buf` that the span covers; nothing if the span does not lie in `buf`.
    #[must_use]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Number of octets.
    #[must_use]
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether the span covers nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as received.
    pub name: Span,
    /// The value without the blanks around it.
    pub value: Span,
    /// Which field it is.
    pub id: FieldId,
    /// Whether the field must not be forwarded as it is: fields that hold for one hop (rule 8.1),
    /// fields named by Connection (8.2), the framing (1.2), Expect (10.1), dropped names (3.6).
    pub hop: bool,
}

/// The value of the first field `id`.
pub(super) fn first<'b>(fields: &[Field], id: FieldId, buf: &'b [u8]) -> Option<&'b [u8]> {
    fields
        .iter()
        .find(|field| field.id == id)
        .map(|field| field.value.of(buf))
}

macro_rules! field_ids {
    ($( $variant:ident, $name:literal; )*) => {
        /// The fields that some rule asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FieldId {
            $( #[doc = concat!("`", $name, "`")] $variant, )*
            /// Any other field.
            Other,
        }

        impl FieldId {
            /// Every known field.
            pub const KNOWN: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The usual spelling of the name; empty for `Other`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* Self::Other => "" }
            }
        }
    };
}

field_ids! {
    Accept, "Accept";
    AcceptEncoding, "Accept-Encoding";
    Allow, "Allow";
    Authorization, "Authorization";
    CacheControl, "Cache-Control";
    Connection, "Connection";
    ContentEncoding, "Content-Encoding";
    ContentLength, "Content-Length";
    ContentRange, "Content-Range";
    ContentType, "Content-Type";
    Cookie, "Cookie";
    Date, "Date";
    Expect, "Expect";
    Forwarded, "Forwarded";
    Host, "Host";
    Http2Settings, "HTTP2-Settings";
    IdempotencyKey, "Idempotency-Key";
    IfMatch, "If-Match";
    IfModifiedSince, "If-Modified-Since";
    IfNoneMatch, "If-None-Match";
    IfRange, "If-Range";
    IfUnmodifiedSince, "If-Unmodified-Since";
    KeepAlive, "Keep-Alive";
    Link, "Link";
    Location, "Location";
    MaxForwards, "Max-Forwards";
    Origin, "Origin";
    ProxyAuthenticate, "Proxy-Authenticate";
    ProxyAuthenticationInfo, "Proxy-Authentication-Info";
    ProxyAuthorization, "Proxy-Authorization";
    ProxyConnection, "Proxy-Connection";
    ProxyStatus, "Proxy-Status";
    Range, "Range";
    Referer, "Referer";
    RetryAfter, "Retry-After";
    SecWebSocketAccept, "Sec-WebSocket-Accept";
    SecWebSocketExtensions, "Sec-WebSocket-Extensions";
    SecWebSocketKey, "Sec-WebSocket-Key";
    SecWebSocketProtocol, "Sec-WebSocket-Protocol";
    SecWebSocketVersion, "Sec-WebSocket-Version";
    Server, "Server";
    SetCookie, "Set-Cookie";
    Te, "TE";
    Traceparent, "Traceparent";
    Tracestate, "Tracestate";
    Trailer, "Trailer";
    TransferEncoding, "Transfer-Encoding";
    Upgrade, "Upgrade";
    UserAgent, "User-Agent";
    Via, "Via";
    WwwAuthenticate, "WWW-Authenticate";
    XAccelBuffering, "X-Accel-Buffering";
    XForwardedFor, "X-Forwarded-For";
    XForwardedHost, "X-Forwarded-Host";
    XForwardedPort, "X-Forwarded-Port";
    XForwardedProto, "X-Forwarded-Proto";
    XPoweredBy, "X-Powered-By";
    XRealIp, "X-Real-IP";
    XRequestId, "X-Request-Id";
}

/// Number of places of the lookup table; the hash of a name is one octet.
const PLACES: usize = 256;

/// Hash of a name from its length and three of its letters. The factors were searched so that no
/// two known names meet; [`table`] does not compile if a new name breaks that.
const fn hash(name: &[u8]) -> u8 {
    let [first, .., before, last] = name else {
        return match name {
            [first, last] => mix(2, *first, *first, *last),
            _ => 0,
        };
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a hash; only the low octet counts"
    )]
    mix(name.len() as u8, *first, *before, *last)
}

const fn mix(len: u8, first: u8, before: u8, last: u8) -> u8 {
    len.wrapping_add((first | 0x20).wrapping_mul(54))
        .wrapping_add(before | 0x20)
        .wrapping_add((last | 0x20).wrapping_mul(26))
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
const fn table() -> [FieldId; PLACES] {
    let mut places = [FieldId::Other; PLACES];
    let mut rest = FieldId::KNOWN;
    while let [id, tail @ ..] = rest {
        let place = hash(id.name().as_bytes()) as usize;
        assert!(
            matches!(places[place], FieldId::Other),
            "two names meet: search other factors"
        );
        places[place] = *id;
        rest = tail;
    }
    places
}

static TABLE: [FieldId; PLACES] = table();

impl FieldId {
    /// The field with this name, in any spelling (rule 3.4).
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let id = TABLE
            .get(usize::from(hash(name)))
            .copied()
            .unwrap_or(Self::Other);
        if name.eq_ignore_ascii_case(id.name().as_bytes()) {
            id
        } else {
            Self::Other
        }
    }

    /// Whether the field holds for one hop only and is never forwarded (rule 8.1).
    #[must_use]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyAuthenticationInfo
                | Self::Trailer
        )
    }

    /// Whether a Connection option of this name is ignored (rule 8.2): the field goes on.
    #[must_use]
    pub const fn is_kept_against_connection(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Cookie
                | Self::Authorization
                | Self::Date
                | Self::Forwarded
                | Self::Via
                | Self::XRequestId
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XRealIp
                | Self::Traceparent
                | Self::Tracestate
        )
    }

    /// Whether the field may stand in a forwarded trailer section (rule 11.3).
    #[must_use]
    pub const fn is_allowed_in_trailer(self) -> bool {
        if self.is_hop_by_hop() {
            return false;
        }
        !matches!(
            self,
            Self::ContentLength
                | Self::Host
                | Self::Authorization
                | Self::Cookie
                | Self::SetCookie
                | Self::Expect
                | Self::MaxForwards
                | Self::ContentEncoding
                | Self::ContentType
                | Self::ContentRange
                | Self::Range
                | Self::IfMatch
                | Self::IfNoneMatch
                | Self::IfModifiedSince
                | Self::IfUnmodifiedSince
                | Self::IfRange
                | Self::Forwarded
                | Self::Via
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XRealIp
                | Self::XRequestId
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_spelling() {
        for id in FieldId::KNOWN {
            let name = id.name();
            assert_eq!(FieldId::of(name.as_bytes()), *id);
            assert_eq!(FieldId::of(name.to_lowercase().as_bytes()), *id);
            assert_eq!(FieldId::of(name.to_uppercase().as_bytes()), *id);
        }
    }

    #[test]
    fn near_misses_are_other_fields() {
        for id in FieldId::KNOWN {
            let name = id.name();
            for near in [
                format!("{name}x"),
                name[1..].to_owned(),
                name.replace('-', "_"),
            ] {
                if near.eq_ignore_ascii_case(name) {
                    continue; // no dash in it
                }
                assert_eq!(FieldId::of(near.as_bytes()), FieldId::Other, "{near}");
            }
        }
        assert_eq!(FieldId::of(b""), FieldId::Other);
        assert_eq!(FieldId::of(b"T"), FieldId::Other);
        assert_eq!(FieldId::of(&[b'x'; 4096]), FieldId::Other);
    }

    #[test]
    fn spans_never_reach_outside() {
        let buf = b"0123456789";
        assert_eq!(Span::new(2, 5).of(buf), b"234");
        assert_eq!(Span::new(5, 2).of(buf), b"");
        assert_eq!(Span::new(8, 11).of(buf), b"");
        assert_eq!(Span::new(usize::MAX, usize::MAX).of(buf), b"");
        assert_eq!(Span::new(2, 5).len(), 3);
        assert!(Span::new(5, 5).is_empty() && !Span::new(5, 6).is_empty());
    }

    #[test]
    fn fields_of_one_hop_are_never_in_trailers() {
        for id in FieldId::KNOWN.iter().filter(|id| id.is_hop_by_hop()) {
            assert!(!id.is_allowed_in_trailer(), "{id:?}");
        }
        assert!(FieldId::Other.is_allowed_in_trailer());
    }

    #[test]
    fn a_field_takes_little_room() {
        assert!(size_of::<Field>() <= 20);
    }
}
