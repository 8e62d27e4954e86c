//! What must hold for any octets at all. The fuzz targets call these functions, and a seeded smoke
//! test runs them without a fuzzer. They fail by assertion; no program calls them.

use crate::proto::head::{Field, Method, RequestHead, ResponseHead, TargetForm};
use crate::proto::http1::body::Decoder;
use crate::proto::http1::request::{self, RequestRules};
use crate::proto::http1::{Error, Limits, Scan, Side, encode, response};

/// Bounds that a small input can reach.
fn limits() -> Limits {
    Limits {
        request_line: 200,
        field_line: 200,
        request_head: 500,
        fields: 20,
        response_head: 500,
        response_fields: 20,
        trailers: 200,
        trailer_fields: 5,
        chunk_extension: 20,
        chunk_extensions_total: 100,
        ..Limits::default()
    }
}

/// Offers `data` in growing pieces, until the parser has an answer.
fn in_pieces<T>(data: &[u8], piece: usize, mut parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let mut end = 0_usize;
    while end < data.len() {
        if let Some(answer) = parse(data.get(..end).unwrap_or_default()) {
            return Some(answer);
        }
        end = end.saturating_add(piece);
    }
    parse(data)
}

fn request_in_pieces(data: &[u8], piece: usize) -> Option<Result<RequestHead, Error>> {
    let (mut head, mut scan) = (RequestHead::default(), Scan::default());
    let limits = limits();
    let rules = RequestRules::default();
    in_pieces(data, piece, |buf| {
        request::parse(&mut head, &mut scan, buf, &limits, rules)
            .map(|found| found.map(|()| head.clone()))
            .transpose()
    })
}

fn response_in_pieces(
    data: &[u8],
    piece: usize,
    method: Method,
) -> Option<Result<ResponseHead, Error>> {
    let (mut head, mut scan) = (ResponseHead::default(), Scan::default());
    let limits = limits();
    in_pieces(data, piece, |buf| {
        response::parse(&mut head, &mut scan, buf, &limits, method)
            .map(|found| found.map(|()| head.clone()))
            .transpose()
    })
}

fn assert_plain(fields: &[Field], buf: &[u8]) {
    for field in fields {
        for part in [field.name.of(buf), field.value.of(buf)] {
            assert!(
                !part.iter().any(|octet| b"\r\n\0".contains(octet)),
                "a line end in a field"
            );
        }
        assert!(!field.name.is_empty(), "an empty name");
    }
}

/// A request head: pieces do not matter, spans are plain, and what is written is read again.
pub fn request_head(data: &[u8]) {
    let whole = request_in_pieces(data, data.len().max(1));
    let pieces = request_in_pieces(data, 3);
    assert_eq!(
        format!("{whole:?}"),
        format!("{pieces:?}"),
        "pieces change the answer"
    );
    let Some(Ok(head)) = whole else { return };
    assert!(head.len <= data.len(), "the head is longer than the input");
    assert_plain(&head.fields, data);
    let mut out = Vec::new();
    let method = head.method.as_bytes(data);
    let line = if head.form == TargetForm::Authority {
        let authority = head.authority.unwrap_or_default();
        encode::request_line(&mut out, method, authority.of(data))
    } else {
        let query = head.query.map(|query| query.of(data));
        encode::request_line_parts(&mut out, method, head.path_bytes(data), query)
    };
    assert_eq!(line, Ok(()), "an accepted request line cannot be written");
    write_fields(&mut out, &head.fields, data);
    let again = request_in_pieces(&out, out.len()).map(|again| again.map(|again| again.fields));
    // Blanks that were left out and `, ` that were put in can make a line longer or shorter, so
    // that only the bounds may give another answer.
    if let Some(Ok(fields)) = again {
        assert_same(&head.fields, data, &fields, &out);
    }
}

/// A response head: as with requests.
pub fn response_head(data: &[u8]) {
    for method in [Method::Get, Method::Head, Method::Connect] {
        let whole = response_in_pieces(data, data.len().max(1), method);
        let pieces = response_in_pieces(data, 3, method);
        assert_eq!(
            format!("{whole:?}"),
            format!("{pieces:?}"),
            "pieces change the answer"
        );
        let Some(Ok(head)) = whole else { continue };
        assert!(head.len <= data.len(), "the head is longer than the input");
        assert_plain(&head.fields, data);
        let mut out = Vec::new();
        assert_eq!(
            encode::status_line(&mut out, head.status),
            Ok(()),
            "a status without a line"
        );
        write_fields(&mut out, &head.fields, data);
        if let Some(Ok(again)) = response_in_pieces(&out, out.len(), method) {
            assert_eq!(again.status, head.status);
            assert_same(&head.fields, data, &again.fields, &out);
        }
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &[Field], buf: &[u8]) {
    for field in fields {
        let result = encode::field(out, field.name.of(buf), field.value.of(buf));
        assert_eq!(result, Ok(()), "an accepted field cannot be written");
    }
    encode::end(out);
}

fn assert_same(fields: &[Field], buf: &[u8], others: &[Field], out: &[u8]) {
    assert_eq!(fields.len(), others.len(), "another number of fields");
    for (field, other) in fields.iter().zip(others) {
        assert_eq!(field.name.of(buf), other.name.of(out), "another name");
        assert_eq!(field.value.of(buf), other.value.of(out), "another value");
        assert_eq!(
            (field.id, field.hop),
            (other.id, other.hop),
            "another meaning"
        );
    }
}

/// What a chunked body came to.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    consumed: usize,
    end: Result<bool, Error>,
}

fn decode(data: &[u8], piece: usize, side: Side) -> Body {
    let mut decoder = Decoder::chunked(&limits(), side);
    let mut body = Body {
        payload: Vec::new(),
        trailers: Vec::new(),
        consumed: 0,
        end: Ok(false),
    };
    for input in data.chunks(piece) {
        let mut rest = input;
        while !rest.is_empty() && body.end == Ok(false) {
            match decoder.decode(rest) {
                Ok(step) => {
                    assert!(
                        step.data.end <= step.consumed,
                        "payload that is not consumed"
                    );
                    assert!(step.consumed > 0 || step.end, "no progress");
                    body.payload
                        .extend_from_slice(rest.get(step.data).unwrap_or_default());
                    body.consumed = body.consumed.saturating_add(step.consumed);
                    rest = rest.get(step.consumed..).unwrap_or_default();
                    body.end = Ok(step.end);
                }
                Err(error) => body.end = Err(error),
            }
        }
    }
    assert_eq!(
        decoder.is_done(),
        body.end == Ok(true),
        "the decoder disagrees with its steps"
    );
    if let Some(trailers) = decoder.trailers() {
        assert_plain(&trailers.fields, &trailers.bytes);
        body.trailers.clone_from(&trailers.bytes);
    }
    body
}

/// A chunked body: pieces do not matter, and the payload survives being written and read again.
pub fn chunked(data: &[u8]) {
    for side in [Side::Request, Side::Response] {
        let whole = decode(data, data.len().max(1), side);
        for piece in [1, 5] {
            let pieces = decode(data, piece, side);
            assert_eq!(whole.end, pieces.end, "pieces change the answer");
            if whole.end.is_ok() {
                assert_eq!(whole, pieces, "pieces change the body");
            }
        }
        if whole.end != Ok(true) {
            continue;
        }
        let mut out = Vec::new();
        for part in whole.payload.chunks(7) {
            out.extend_from_slice(encode::chunk_head(&mut [0; encode::CHUNK_HEAD], part.len()));
            out.extend_from_slice(part);
            encode::end(&mut out);
        }
        assert_eq!(encode::last_chunk(&mut out, None), Ok(()));
        let again = decode(&out, out.len(), side);
        assert_eq!(
            (again.end, again.consumed),
            (Ok(true), out.len()),
            "our own chunks fail"
        );
        assert_eq!(again.payload, whole.payload, "another payload");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a?b=c%20d HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        "\r\nGET http://h/ HTTP/1.0\r\nHost: h\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n0\r\n\r\n",
        "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ];
    const RESPONSES: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nKeep-Alive: timeout=5\r\n\r\nabc",
        "HTTP/1.0 404\r\nConnection: keep-alive\r\nSet-Cookie: a=b\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
    ];
    const BODIES: &[&str] = &[
        "5\r\nhello\r\n0\r\n\r\nnext",
        "a;b=\"c\"\r\n0123456789\r\n1\r\nx\r\n000\r\nX-A: 1\r\nHost: b\r\n\r\n",
        "0\r\n\r\n",
    ];
    const PARTS: &[&str] = &[
        "\r\n",
        "\n",
        "\r",
        "\0",
        ":",
        " ",
        "\t",
        ",",
        ";",
        "chunked",
        "Content-Length: 1\r\n",
        "%00",
        "0",
        "7fffffffffffffff",
        "Host: b\r\n",
        "Transfer-Encoding: chunked\r\n",
        "close",
        "\u{e4}",
        "#",
        "_",
        "_",
    ];

    /// A small generator; the smoke test has to be the same every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound.max(1)
        }
    }

    fn mutate(random: &mut Random, seed: &str) -> Vec<u8> {
        let mut data = seed.as_bytes().to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(data.len() + 1);
            match random.below(4) {
                0 if at < data.len() => data[at] = random.below(256) as u8,
                1 if at < data.len() => drop(data.remove(at)),
                2 => {
                    let part = PARTS[random.below(PARTS.len())];
                    drop(data.splice(at..at, part.bytes()));
                }
                _ => {
                    let end = data.len().min(at + random.below(40));
                    let copy = data[at..end].to_vec();
                    drop(data.splice(at..at, copy));
                }
            }
        }
        data
    }

    fn smoke(seeds: &[&str], check: fn(&[u8])) {
        let mut random = Random(7);
        for round in 0..4000 {
            check(&mutate(&mut random, seeds[round % seeds.len()]));
        }
    }

    #[test]
    fn request_heads_survive_mutation() {
        smoke(REQUESTS, request_head);
    }

    #[test]
    fn response_heads_survive_mutation() {
        smoke(RESPONSES, response_head);
    }

    #[test]
    fn chunked_bodies_survive_mutation() {
        smoke(BODIES, chunked);
    }

    #[test]
    fn the_seeds_are_accepted() {
        for seed in REQUESTS {
            assert!(
                matches!(request_in_pieces(seed.as_bytes(), 999), Some(Ok(_))),
                "{seed}"
            );
        }
        for seed in RESPONSES {
            let found = response_in_pieces(seed.as_bytes(), 999, Method::Get);
            assert!(matches!(found, Some(Ok(_))), "{seed}");
        }
        for seed in BODIES {
            assert_eq!(
                decode(seed.as_bytes(), 999, Side::Request).end,
                Ok(true),
                "{seed}"
            );
        }
    }
}
