//! The smuggling corpus: one line per attack or near miss, with the rule that decides it. Every
//! vector is also run octet by octet, and its answer must be the same.

use crate::base::reason::Reason;
use crate::proto::head::{BodyKind, Method, RequestHead, ResponseHead};
use crate::proto::http1::body::Decoder;
use crate::proto::http1::request::{self, RequestRules};
use crate::proto::http1::{Error, Limits, Scan, Side, response};

mod chunks;
mod requests;
mod responses;

/// What has to come of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The head is accepted with this body.
    Body(BodyKind),
    /// It is refused.
    No(Reason),
    /// More octets are needed.
    More,
}

use Want::{Body, More, No};

const NONE: Want = Body(BodyKind::None);
const CHUNKED: Want = Body(BodyKind::Chunked);
const UNTIL_CLOSE: Want = Body(BodyKind::UntilClose);

const fn length(octets: u64) -> Want {
    Body(BodyKind::Length(octets))
}

/// Name, rule, octets, and what has to come of it.
type Vector = (&'static str, &'static str, &'static [u8], Want);

fn want(result: Result<Option<()>, Error>, body: BodyKind) -> Want {
    match result {
        Ok(Some(())) => Body(body),
        Ok(None) => More,
        Err(error) => No(error.reason),
    }
}

fn parse_request(octets: &[u8], from: usize) -> Want {
    let (mut head, mut scan) = (RequestHead::default(), Scan::default());
    for end in from..=octets.len() {
        let result = request::parse(
            &mut head,
            &mut scan,
            &octets[..end],
            &Limits::default(),
            RequestRules::default(),
        );
        if result != Ok(None) || end == octets.len() {
            return want(result, head.body);
        }
    }
    unreachable!("the last piece always has an answer")
}

fn parse_response(octets: &[u8], from: usize, method: Method) -> Want {
    let (mut head, mut scan) = (ResponseHead::default(), Scan::default());
    for end in from..=octets.len() {
        let result = response::parse(
            &mut head,
            &mut scan,
            &octets[..end],
            &Limits::default(),
            method,
        );
        if result != Ok(None) || end == octets.len() {
            return want(result, head.body);
        }
    }
    unreachable!("the last piece always has an answer")
}

fn run(vectors: &[Vector], parse: impl Fn(&[u8], usize) -> Want) {
    let mut failed = Vec::new();
    for (name, rule, octets, want) in vectors {
        let whole = parse(octets, octets.len());
        let pieces = parse(octets, 0);
        if whole != *want || pieces != *want {
            failed.push(format!(
                "{name} ({rule}): {whole:?}, in pieces {pieces:?}, not {want:?}"
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn requests() {
    run(requests::LINES, parse_request);
    run(requests::FIELDS, parse_request);
    run(requests::FRAMING, |octets, from| {
        parse_request(octets, from)
    });
}

#[test]
fn responses() {
    run(responses::TO_GET, |octets, from| {
        parse_response(octets, from, Method::Get)
    });
    run(responses::TO_HEAD, |octets, from| {
        parse_response(octets, from, Method::Head)
    });
    run(responses::TO_CONNECT, |octets, from| {
        parse_response(octets, from, Method::Connect)
    });
}

/// What a chunked body has to come to: its payload, or a fault.
fn decode(octets: &[u8], piece: usize, side: Side) -> Result<(String, usize, bool), Reason> {
    let mut decoder = Decoder::chunked(&Limits::default(), side);
    let (mut payload, mut consumed, mut end) = (Vec::new(), 0, false);
    for input in octets.chunks(piece) {
        let mut rest = input;
        while !rest.is_empty() && !end {
            let step = decoder.decode(rest).map_err(|error| error.reason)?;
            payload.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
            consumed += step.consumed;
            end = step.end;
        }
    }
    Ok((
        String::from_utf8(payload).unwrap(),
        octets.len() - consumed,
        end,
    ))
}

#[test]
fn chunked_bodies() {
    for (name, rule, octets, want) in chunks::GOOD {
        let (payload, left, end) = *want;
        for piece in [octets.len(), 1, 2, 3] {
            let got = decode(octets, piece, Side::Request);
            assert_eq!(got, Ok((payload.to_owned(), left, end)), "{name} ({rule})");
        }
    }
    for (name, rule, octets, reason) in chunks::BAD {
        for piece in [octets.len(), 1, 2, 3] {
            assert_eq!(
                decode(octets, piece, Side::Request),
                Err(*reason),
                "{name} ({rule})"
            );
            let response = decode(octets, piece, Side::Response);
            assert_eq!(response, Err(Reason::UpstreamBadBody), "{name} ({rule})");
        }
    }
}

#[test]
fn names_are_unique_and_there_are_enough() {
    let heads = [
        requests::LINES,
        requests::FIELDS,
        requests::FRAMING,
        responses::TO_GET,
        responses::TO_HEAD,
        responses::TO_CONNECT,
    ];
    let mut names: Vec<&str> = heads
        .iter()
        .flat_map(|table| table.iter())
        .map(|row| row.0)
        .collect();
    names.extend(chunks::GOOD.iter().map(|row| row.0));
    names.extend(chunks::BAD.iter().map(|row| row.0));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a name stands for one vector");
    assert!(all >= 120, "{all}");
}
