//! Chunked bodies of the corpus (sections 6 and 11).

use crate::base::reason::Reason::{self, BadChunk, BadTrailer};

/// Name, rule, octets; payload, octets left over, and whether the body ended.
type Good = (
    &'static str,
    &'static str,
    &'static [u8],
    (&'static str, usize, bool),
);
/// Name, rule, octets, and the reason in a request.
type Bad = (&'static str, &'static str, &'static [u8], Reason);

/// Bodies that are accepted as far as they go.
#[rustfmt::skip]
pub(super) const GOOD: &[Good] = &[
    ("no chunk", "6.1", b"0\r\n\r\n", ("", 0, true)),
    ("one chunk", "6.1", b"5\r\nhello\r\n0\r\n\r\n", ("hello", 0, true)),
    ("next request behind", "5.2", b"5\r\nhello\r\n0\r\n\r\nGET", ("hello", 3, true)),
    ("size in capitals", "6.2", b"A\r\n0123456789\r\n0\r\n\r\n", ("0123456789", 0, true)),
    ("size with zeros", "6.2", b"0000000000000005\r\nhello\r\n0\r\n\r\n", ("hello", 0, true)),
    ("many zeros at the end", "6.1", b"0000000000000000\r\n\r\n", ("", 0, true)),
    ("extension", "6.3", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", ("hello", 0, true)),
    ("extension with blanks", "6.3", b"5; a = \"b\"\t\r\nhello\r\n0\r\n\r\n", ("hello", 0, true)),
    ("empty extension", "6.3", b"5;\r\nhello\r\n0\r\n\r\n", ("hello", 0, true)),
    ("line end in the data", "6.4", b"4\r\n\r\n0\r\r\n0\r\n\r\n", ("\r\n0\r", 0, true)),
    ("cut in the size", "6.1", b"5", ("", 0, false)),
    ("cut in the data", "6.1", b"5\r\nhel", ("hel", 0, false)),
    ("cut behind the data", "6.1", b"5\r\nhello\r", ("hello", 0, false)),
    ("cut before the end", "6.1", b"5\r\nhello\r\n0\r\n", ("hello", 0, false)),
    ("trailer", "11.1", b"0\r\nX-A: b\r\n\r\n", ("", 0, true)),
    ("trailers and more", "11.1", b"0\r\nX-A: b\r\nX-B:\r\n\r\nGET", ("", 3, true)),
    ("cut in a trailer", "11.1", b"0\r\nX-A: b\r\n", ("", 0, false)),
];

/// Bodies that are refused.
#[rustfmt::skip]
pub(super) const BAD: &[Bad] = &[
    ("empty size", "6.2", b"\r\nhello", BadChunk),
    ("extension without size", "6.2", b";a\r\n", BadChunk),
    ("size of 17 digits", "6.2", b"00000000000000005\r\n", BadChunk),
    ("size of 2^63", "6.2", b"8000000000000000\r\n", BadChunk),
    ("size of 2^64-1", "6.2", b"ffffffffffffffff\r\n", BadChunk),
    ("size with prefix", "6.2", b"0x5\r\nhello\r\n", BadChunk),
    ("size with plus", "6.2", b"+5\r\nhello\r\n", BadChunk),
    ("size with minus", "6.2", b"-5\r\nhello\r\n", BadChunk),
    ("size with underscore", "6.2", b"1_0\r\n", BadChunk),
    ("blank before size", "6.2", b" 5\r\nhello\r\n", BadChunk),
    ("blank behind size", "6.2", b"5 \r\nhello\r\n", BadChunk),
    ("tab behind size", "6.2", b"5\t;a\r\nhello\r\n", BadChunk),
    ("no hexadecimal digit", "6.2", b"g\r\n", BadChunk),
    ("comma behind size", "6.2", b"5,5\r\n", BadChunk),
    ("nul behind size", "6.2", b"5\0\r\n", BadChunk),
    ("bare lf behind size", "6.1", b"5\nhello\r\n0\r\n\r\n", BadChunk),
    ("bare cr behind size", "6.1", b"5\rhello", BadChunk),
    ("cr cr lf behind size", "6.1", b"5\r\r\nhello", BadChunk),
    ("bare lf in extension", "6.3", b"5;a\nhello\r\n0\r\n\r\n", BadChunk),
    ("bare cr in extension", "6.3", b"5;a\rb\r\nhello\r\n", BadChunk),
    ("quoted lf in extension", "6.3", b"5;a=\"\n\"\r\nhello\r\n", BadChunk),
    ("nul in extension", "6.3", b"5;\0\r\nhello\r\n", BadChunk),
    ("extension beyond ascii", "6.3", b"5;\xff\r\nhello\r\n", BadChunk),
    ("del in extension", "6.3", b"5;\x7f\r\nhello\r\n", BadChunk),
    ("extension of 257 octets", "6.3", &long_extension(), BadChunk),
    ("bare lf behind data", "6.4", b"5\r\nhello\n0\r\n\r\n", BadChunk),
    ("two octets behind data", "6.4", b"5\r\nhelloXX0\r\n\r\n", BadChunk),
    ("cr and another behind data", "6.4", b"5\r\nhello\rX0\r\n\r\n", BadChunk),
    ("data too long", "6.4", b"5\r\nhello!\r\n0\r\n\r\n", BadChunk),
    ("data too short", "6.4", b"5\r\nhell\r\n0\r\n\r\n", BadChunk),
    ("bare lf at the end", "6.1", b"0\r\n\n", BadTrailer),
    ("bare lf behind last chunk", "6.1", b"0\n\r\n", BadChunk),
    ("bare cr at the end", "6.1", b"0\r\n\rX", BadChunk),
    ("trailer without colon", "11.1", b"0\r\nX\r\n\r\n", BadTrailer),
    ("trailer with blank before colon", "11.1", b"0\r\nX : a\r\n\r\n", BadTrailer),
    ("folded trailer", "11.1", b"0\r\nX: a\r\n b\r\n\r\n", BadTrailer),
    ("trailer starts with a blank", "11.1", b"0\r\n X: a\r\n\r\n", BadTrailer),
    ("bare lf in trailer", "11.1", b"0\r\nX: a\nY: b\r\n\r\n", BadTrailer),
    ("bare cr in trailer", "11.1", b"0\r\nX: a\rb\r\n\r\n", BadTrailer),
    ("nul in trailer", "11.1", b"0\r\nX: \0\r\n\r\n", BadTrailer),
    ("del in trailer", "11.1", b"0\r\nX: \x7f\r\n\r\n", BadTrailer),
    ("request as trailer", "11.1", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BadTrailer),
];

/// A size line whose extension has one octet more than the default limit.
const fn long_extension() -> [u8; 260] {
    let mut out = [b'a'; 260];
    out[0] = b'5';
    out[1] = b';';
    out[258] = b'\r';
    out[259] = b'\n';
    out
}
