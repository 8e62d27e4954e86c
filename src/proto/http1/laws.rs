//! Laws of the HTTP/1.1 core, tested with generated messages: what is written is read again, and
//! it does not matter in which pieces a message arrives.

use proptest::prelude::*;

use crate::proto::head::{BodyKind, Field, FieldId, Method, RequestHead, ResponseHead};
use crate::proto::http1::body::Decoder;
use crate::proto::http1::request::{self, RequestRules, Underscores};
use crate::proto::http1::{Limits, Scan, Side, encode, fuzz, response};

/// Names that are not known, so that a field means nothing but itself.
fn name() -> impl Strategy<Value = String> {
    "[xX]-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}"
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
    prop::collection::vec(octet, 0..40).prop_map(|mut octets| {
        let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
        while blank(octets.first()) {
            octets.remove(0);
        }
        while blank(octets.last()) {
            octets.pop();
        }
        octets
    })
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec((name(), value()), 0..40)
}

fn target() -> impl Strategy<Value = String> {
    let part = "([A-Za-z0-9/._~!$&'()*+,;=:@\"<>\\\\^`{|}-]|%[1-9A-Fa-f][0-9A-Fa-f]){0,30}";
    (part, prop::option::of(part)).prop_map(|(path, query)| {
        query.map_or(format!("/{path}"), |query| format!("/{path}?{query}"))
    })
}

#[derive(Clone, Debug)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    length: Option<u64>,
}

fn a_request() -> impl Strategy<Value = Request> {
    let length = prop::option::of(0..=i64::MAX as u64);
    ("[A-Za-z!#$%&'*+.^_`|~-]{1,32}", target(), fields(), length).prop_map(
        |(method, target, fields, length)| Request {
            method,
            target,
            fields,
            length,
        },
    )
}

fn write(request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request_line(
        &mut out,
        request.method.as_bytes(),
        request.target.as_bytes(),
    )
    .unwrap();
    encode::field(&mut out, b"Host", b"example.com:80").unwrap();
    for (name, value) in &request.fields {
        encode::field(&mut out, name.as_bytes(), value).unwrap();
    }
    match request.length {
        Some(length) => encode::field_decimal(&mut out, b"Content-Length", length).unwrap(),
        None => encode::field(&mut out, b"Transfer-Encoding", b"chunked").unwrap(),
    }
    encode::end(&mut out);
    out
}

/// Parses the octets as they grow by the sizes in `pieces`, then as a whole.
fn grow(octets: &[u8], pieces: &[usize], mut parse: impl FnMut(&[u8]) -> Option<()>) {
    let mut end = 0;
    for piece in pieces {
        if parse(&octets[..end]).is_some() {
            return;
        }
        end = (end + piece).min(octets.len());
    }
    assert!(parse(octets).is_some(), "a whole head has an answer");
}

fn read_request(octets: &[u8], pieces: &[usize]) -> RequestHead {
    let (mut head, mut scan) = (RequestHead::default(), Scan::default());
    let rules = RequestRules {
        underscores: Underscores::Pass,
        ..RequestRules::default()
    };
    let limits = Limits::default();
    grow(octets, pieces, |buf| {
        request::parse(&mut head, &mut scan, buf, &limits, rules).unwrap()
    });
    head
}

fn read_response(octets: &[u8], pieces: &[usize]) -> ResponseHead {
    let (mut head, mut scan) = (ResponseHead::default(), Scan::default());
    let limits = Limits::default();
    grow(octets, pieces, |buf| {
        response::parse(&mut head, &mut scan, buf, &limits, Method::Get).unwrap()
    });
    head
}

/// The fields that are not known, which the strategies make.
fn unknown(fields: &[Field], buf: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    fields
        .iter()
        .filter(|field| field.id == FieldId::Other)
        .map(|field| (text(field.name.of(buf)), field.value.of(buf).to_vec()))
        .collect()
}

/// Writes `payload` in chunks of these sizes, with an extension in some and a trailer.
fn write_chunks(payload: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), payload);
    for size in sizes.iter().copied().chain([payload.len()]) {
        let (chunk, tail) = rest.split_at(size.min(rest.len()));
        if chunk.is_empty() {
            continue;
        }
        rest = tail;
        out.extend_from_slice(encode::chunk_head(
            &mut [0; encode::CHUNK_HEAD],
            chunk.len(),
        ));
        if size % 3 == 0 {
            out.truncate(out.len() - 2);
            out.extend_from_slice(b"; a=\"b\"\r\n");
        }
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_request_that_is_written_is_read(request in a_request(), pieces in prop::collection::vec(0..90_usize, 0..40)) {
        let octets = write(&request);
        let head = read_request(&octets, &pieces);
        prop_assert_eq!(head.len, octets.len());
        prop_assert_eq!(head.method.as_bytes(&octets), request.method.as_bytes());
        let mut line = Vec::new();
        let query = head.query.map(|query| query.of(&octets));
        encode::request_line_parts(&mut line, head.method.as_bytes(&octets), head.path_bytes(&octets), query).unwrap();
        prop_assert!(octets.starts_with(&line));
        prop_assert_eq!(unknown(&head.fields, &octets), request.fields);
        prop_assert_eq!(head.body, request.length.map_or(BodyKind::Chunked, BodyKind::Length));
    }

    #[test]
    fn a_response_that_is_written_is_read(
        status in 100..=599_u16,
        fields in fields(),
        pieces in prop::collection::vec(0..90_usize, 0..40),
    ) {
        let mut octets = Vec::new();
        encode::status_line(&mut octets, status).unwrap();
        for (name, value) in &fields {
            encode::field(&mut octets, name.as_bytes(), value).unwrap();
        }
        encode::field_decimal(&mut octets, b"Content-Length", 7).unwrap();
        encode::end(&mut octets);
        let head = read_response(&octets, &pieces);
        prop_assert_eq!(head.status, status);
        prop_assert_eq!(head.len, octets.len());
        prop_assert_eq!(head.content_length, Some(7));
        prop_assert_eq!(unknown(&head.fields, &octets), fields);
    }

    #[test]
    fn pieces_of_a_chunked_body_do_not_matter(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1..60_usize, 0..10),
        pieces in prop::collection::vec(1..40_usize, 1..60),
    ) {
        let mut octets = write_chunks(&payload, &sizes);
        octets.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let mut decoder = Decoder::chunked(&Limits::default(), Side::Request);
        let (mut got, mut at, mut arrived) = (Vec::new(), 0, 0);
        for piece in pieces.into_iter().chain([octets.len()]) {
            arrived = (arrived + piece).min(octets.len());
            loop {
                let input = &octets[at..arrived];
                let step = decoder.decode(input).unwrap();
                got.extend_from_slice(&input[step.data]);
                at += step.consumed;
                if step.end || step.consumed == 0 {
                    break;
                }
            }
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(got, payload);
        prop_assert_eq!(&octets[at..], b"GET / HTTP/1.1\r\n");
        prop_assert_eq!(decoder.trailers().unwrap().forwardable().count(), 1);
    }

    #[test]
    fn a_changed_request_never_breaks_the_parser(
        request in a_request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut octets = write(&request);
        for (place, octet) in changes {
            *place.get_mut(&mut octets[..]) = octet;
        }
        fuzz::request_head(&octets);
        fuzz::response_head(&octets);
        fuzz::chunked(&octets);
    }

    #[test]
    fn any_octets_never_break_the_parser(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::request_head(&octets);
        fuzz::chunked(&octets);
        fuzz::response_head(&[b"HTTP/1.1 200 ", &octets[..]].concat());
    }

    #[test]
    fn the_writer_writes_only_what_can_be_read(
        name in "[xX:_ \r\n-]{0,4}",
        value in prop::collection::vec(
            prop_oneof![3 => b'a'..=b'z', 1 => Just(b' '), 1 => b'\0'..=b'\r', 1 => any::<u8>()],
            0..5,
        ),
    ) {
        let mut out = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        let before = out.len();
        if encode::field(&mut out, name.as_bytes(), &value).is_err() {
            prop_assert_eq!(out.len(), before);
        } else {
            encode::end(&mut out);
            let head = read_request(&out, &[]);
            prop_assert_eq!(head.fields.len(), 2);
            prop_assert_eq!(head.fields[1].name.of(&out), name.as_bytes());
            prop_assert_eq!(head.fields[1].value.of(&out), &value[..]);
        }
    }
}
