//! Response heads of the corpus.

use super::{CHUNKED, More, NONE, No, UNTIL_CLOSE, Vector, length};
use crate::base::reason::Reason::{UpstreamBadFraming, UpstreamBadHead};

/// Answers to GET (section 7).
#[rustfmt::skip]
pub(super) const TO_GET: &[Vector] = &[
    ("response until close", "7.2 g", b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE),
    ("response incomplete", "7.1", b"HTTP/1.1 200 OK\r\n", More),
    ("response start", "7.1", b"HTT", More),
    ("response with length", "7.2 e", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", length(5)),
    ("response with chunks", "7.2 c", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED),
    ("response http 1.0", "7.1", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", length(5)),
    ("response http 1.3", "7.1", b"HTTP/1.3 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED),
    ("response http 2.0", "7.1", b"HTTP/2.0 200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response no status line", "7.1", b"<html>", No(UpstreamBadHead)),
    ("response lower case", "7.1", b"http/1.1 200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response icy", "7.1", b"ICY 200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response empty line in front", "7.1", b"\r\nHTTP/1.1 200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response without phrase", "7.1", b"HTTP/1.1 200\r\n\r\n", UNTIL_CLOSE),
    ("response with empty phrase", "7.1", b"HTTP/1.1 200 \r\n\r\n", UNTIL_CLOSE),
    ("response with opaque phrase", "7.1", b"HTTP/1.1 200 \xff\t!\r\n\r\n", UNTIL_CLOSE),
    ("response with control in phrase", "7.1", b"HTTP/1.1 200 \x01\r\n\r\n", No(UpstreamBadHead)),
    ("response with del in phrase", "7.1", b"HTTP/1.1 200 \x7f\r\n\r\n", No(UpstreamBadHead)),
    ("response two blanks", "7.1", b"HTTP/1.1  200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response tab", "7.1", b"HTTP/1.1\t200 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response two digits", "7.1", b"HTTP/1.1 20 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response four digits", "7.1", b"HTTP/1.1 2000 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response status 099", "7.1", b"HTTP/1.1 099 OK\r\n\r\n", No(UpstreamBadHead)),
    ("response status 599", "7.1", b"HTTP/1.1 599 X\r\n\r\n", UNTIL_CLOSE),
    ("response status 600", "7.1", b"HTTP/1.1 600 X\r\n\r\n", No(UpstreamBadHead)),
    ("response status 999", "7.1", b"HTTP/1.1 999 X\r\n\r\n", No(UpstreamBadHead)),
    ("response signed status", "7.1", b"HTTP/1.1 +20 X\r\n\r\n", No(UpstreamBadHead)),
    ("response bare lf", "2.1", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", No(UpstreamBadHead)),
    ("response bare cr", "2.1", b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", No(UpstreamBadHead)),
    ("response nul", "2.1", b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", No(UpstreamBadHead)),
    ("response obs-fold", "3.3", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", No(UpstreamBadHead)),
    ("response blank before colon", "3.1", b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", No(UpstreamBadHead)),
    ("response no colon", "3.1", b"HTTP/1.1 200 OK\r\nX\r\n\r\n", No(UpstreamBadHead)),
    ("response bad connection", "8.1", b"HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n", No(UpstreamBadHead)),
    ("response equal lengths", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", length(5)),
    ("response list of equal lengths", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 05 ,5\r\n\r\n", length(5)),
    ("response different lengths", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", No(UpstreamBadFraming)),
    ("response list of lengths", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", No(UpstreamBadFraming)),
    ("response list with empty element", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 5,\r\n\r\n", No(UpstreamBadFraming)),
    ("response bad length", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", No(UpstreamBadFraming)),
    ("response signed length", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", No(UpstreamBadFraming)),
    ("response empty length", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", No(UpstreamBadFraming)),
    ("response large length", "7.2 f", b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", No(UpstreamBadFraming)),
    ("response te and cl", "7.2 d", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", No(UpstreamBadFraming)),
    ("response te in 1.0", "7.2 d", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", No(UpstreamBadFraming)),
    ("response gzip, chunked", "7.2 d", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", No(UpstreamBadFraming)),
    ("response te identity", "7.2 d", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", No(UpstreamBadFraming)),
    ("response te twice", "7.2 d", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", No(UpstreamBadFraming)),
    ("response te empty", "7.2 d", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", No(UpstreamBadFraming)),
    ("response 204 with length", "7.2 a", b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", NONE),
    ("response 204 with chunks", "7.2 a", b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", NONE),
    ("response 304 with length", "7.2 a", b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", NONE),
    ("response 304 with bad length", "7.2 a", b"HTTP/1.1 304 X\r\nContent-Length: x\r\n\r\n", NONE),
    ("response 100", "7.2 a", b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", NONE),
    ("response 103", "7.2 a", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", NONE),
    ("response 101", "7.2 b", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", NONE),
    ("response 205 with length", "7.3", b"HTTP/1.1 205 X\r\nContent-Length: 5\r\n\r\n", length(5)),
];

/// Answers to HEAD.
#[rustfmt::skip]
pub(super) const TO_HEAD: &[Vector] = &[
    ("head with length", "7.2 a", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", NONE),
    ("head with chunks", "7.2 a", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NONE),
    ("head with both", "7.2 a", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", NONE),
    ("head with nothing", "7.2 a", b"HTTP/1.1 200 OK\r\n\r\n", NONE),
];

/// Answers to CONNECT.
#[rustfmt::skip]
pub(super) const TO_CONNECT: &[Vector] = &[
    ("tunnel with length", "7.2 b", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", NONE),
    ("tunnel with chunks", "7.2 b", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NONE),
    ("refused tunnel", "7.2 e", b"HTTP/1.1 403 X\r\nContent-Length: 5\r\n\r\n", length(5)),
];
