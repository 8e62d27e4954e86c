//! Bodies: where the payload is in the octets that arrive, and where it ends (sections 5.2, 6, 7.4).
//!
//! The decoder keeps no payload: it says which part of the input is payload. Limits on the size
//! of a body belong to the route, not to it.

use std::ops::Range;

use crate::base::reason::Reason;
use crate::proto::head::BodyKind;
use crate::proto::http1::chunked::Chunked;
use crate::proto::http1::{Error, Limits, Side};

pub use crate::proto::http1::trailer::Trailers;

/// What one call of [`Decoder::decode`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Number of octets of the input that are done with (`data` included).
    pub consumed: usize,
    /// The payload within the input; empty if there was none.
    pub data: Range<usize>,
    /// Whether the body ended; what is behind `consumed` belongs to the next message.
    pub end: bool,
}

/// Finds the payload in the octets of a body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Done,
    Length(u64, Side),
    UntilClose,
    Chunked(Chunked),
    Failed(Error),
}

impl Decoder {
    /// No body.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A body of `octets` octets.
    #[must_use]
    pub fn length(octets: u64, side: Side) -> Self {
        Self {
            state: if octets == 0 {
                State::Done
            } else {
                State::Length(octets, side)
            },
        }
    }

    /// A chunked body.
    #[must_use]
    pub fn chunked(limits: &Limits, side: Side) -> Self {
        Self {
            state: State::Chunked(Chunked::new(limits, side)),
        }
    }

    /// A body that goes on until the connection is closed.
    #[must_use]
    pub fn until_close() -> Self {
        Self {
            state: State::UntilClose,
        }
    }

    /// The decoder for the body kind of a head.
    #[must_use]
    pub fn of(kind: BodyKind, limits: &Limits, side: Side) -> Self {
        match kind {
            BodyKind::None => Self::none(),
            BodyKind::Length(octets) => Self::length(octets, side),
            BodyKind::Chunked => Self::chunked(limits, side),
            BodyKind::UntilClose => Self::until_close(),
        }
    }

    /// Takes the next octets. To be called again with the rest of the input until `end`, or until
    /// nothing was consumed; an empty input is allowed. An error is final.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Error> {
        let step = match &mut self.state {
            State::Done => Step {
                end: true,
                ..Step::default()
            },
            State::Failed(error) => return Err(*error),
            State::UntilClose => whole(input.len(), false),
            State::Length(left, _) => {
                let taken = shorter(input.len(), *left);
                *left = left.saturating_sub(taken as u64);
                whole(taken, *left == 0)
            }
            State::Chunked(chunked) => match chunked.decode(input) {
                // The trailers stay where they are, so the state stays as well.
                Ok(step) => return Ok(step),
                Err(reason) => {
                    let error = Error { reason };
                    self.state = State::Failed(error);
                    return Err(error);
                }
            },
        };
        if step.end {
            self.state = State::Done;
        }
        Ok(step)
    }

    /// Whether the end of the body was reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Chunked(chunked) => chunked.is_done(),
            State::Length(..) | State::UntilClose | State::Failed(_) => false,
        }
    }

    /// How much of a body of known length is still to come.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match &self.state {
            State::Done => Some(0),
            State::Length(left, _) => Some(*left),
            State::Chunked(_) | State::UntilClose | State::Failed(_) => None,
        }
    }

    /// The connection ended cleanly (FIN, close_notify): fine only for an ended body and for one
    /// that goes on until close (rules 7.4 and 14.4).
    pub fn close(&mut self) -> Result<(), Error> {
        if self.is_done() {
            return Ok(());
        }
        let side = match &self.state {
            State::Failed(error) => return Err(*error),
            State::Length(_, side) => *side,
            State::Chunked(chunked) => chunked.side(),
            State::UntilClose | State::Done => {
                self.state = State::Done;
                return Ok(());
            }
        };
        let error = Error::from(match side {
            Side::Request => Reason::BodyCutShort,
            Side::Response => Reason::UpstreamTruncated,
        });
        self.state = State::Failed(error);
        Err(error)
    }

    /// The trailers; None before the end of the body and if there were none.
    #[must_use]
    pub fn trailers(&self) -> Option<&Trailers> {
        match &self.state {
            State::Chunked(chunked) => chunked.trailers(),
            _ => None,
        }
    }
}

const fn whole(length: usize, end: bool) -> Step {
    Step {
        consumed: length,
        data: 0..length,
        end,
    }
}

pub(super) fn shorter(length: usize, left: u64) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::FieldId;

    /// Decodes everything; the payload, or the reason.
    fn run(decoder: &mut Decoder, input: &[u8]) -> Result<Vec<u8>, Reason> {
        let (mut payload, mut rest) = (Vec::new(), input);
        loop {
            let step = decoder.decode(rest).map_err(|error| error.reason)?;
            payload.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
            if step.end || step.consumed == 0 {
                return Ok(payload);
            }
        }
    }

    fn chunked(limits: &Limits, input: &[u8]) -> Result<Vec<u8>, Reason> {
        run(&mut Decoder::chunked(limits, Side::Request), input)
    }

    #[test]
    fn no_body_takes_nothing() {
        for mut decoder in [Decoder::none(), Decoder::length(0, Side::Request)] {
            assert!(decoder.is_done());
            let step = decoder.decode(b"GET").unwrap();
            assert_eq!(
                step,
                Step {
                    consumed: 0,
                    data: 0..0,
                    end: true
                }
            );
            assert_eq!(decoder.close(), Ok(()));
            assert_eq!(decoder.remaining(), Some(0));
        }
    }

    #[test]
    fn a_length_ends_exactly() {
        let mut decoder = Decoder::of(BodyKind::Length(5), &Limits::default(), Side::Request);
        assert_eq!(decoder.decode(b"").unwrap(), Step::default());
        let step = decoder.decode(b"hel").unwrap();
        assert_eq!(
            step,
            Step {
                consumed: 3,
                data: 0..3,
                end: false
            }
        );
        assert_eq!(decoder.remaining(), Some(2));
        let step = decoder.decode(b"loGET").unwrap();
        assert_eq!(
            step,
            Step {
                consumed: 2,
                data: 0..2,
                end: true
            }
        );
        assert!(decoder.is_done());
    }

    #[test]
    fn until_close_ends_with_a_clean_close_only() {
        let mut decoder = Decoder::of(BodyKind::UntilClose, &Limits::default(), Side::Response);
        assert_eq!(
            decoder.decode(b"abc").unwrap(),
            Step {
                consumed: 3,
                data: 0..3,
                end: false
            }
        );
        assert!(!decoder.is_done() && decoder.remaining().is_none());
        assert_eq!(decoder.close(), Ok(()));
        assert!(decoder.is_done());
        assert!(decoder.decode(b"x").unwrap().end);
    }

    #[test]
    fn an_early_end_is_an_error_of_the_side_it_came_from() {
        let limits = Limits::default();
        for kind in [BodyKind::Length(5), BodyKind::Chunked] {
            for (side, reason) in [
                (Side::Request, Reason::BodyCutShort),
                (Side::Response, Reason::UpstreamTruncated),
            ] {
                let mut decoder = Decoder::of(kind, &limits, side);
                assert_eq!(decoder.close(), Err(reason.into()));
                assert_eq!(
                    decoder.decode(b"5").unwrap_err().reason,
                    reason,
                    "it stays so"
                );
                assert_eq!(decoder.close(), Err(reason.into()));
            }
        }
    }

    #[test]
    fn one_step_takes_one_stretch_of_payload() {
        let mut decoder = Decoder::chunked(&Limits::default(), Side::Request);
        let input = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nGET";
        let step = decoder.decode(input).unwrap();
        assert_eq!(
            step,
            Step {
                consumed: 13,
                data: 3..6,
                end: false
            }
        );
        let step = decoder.decode(&input[13..]).unwrap();
        assert_eq!(
            step,
            Step {
                consumed: 9,
                data: 0..2,
                end: true
            }
        );
        assert!(decoder.is_done() && decoder.trailers().is_none());
        assert_eq!(
            decoder.decode(b"GET").unwrap(),
            Step {
                consumed: 0,
                data: 0..0,
                end: true
            }
        );
    }

    #[test]
    fn an_error_is_final() {
        let mut decoder = Decoder::chunked(&Limits::default(), Side::Request);
        assert_eq!(decoder.decode(b"x").unwrap_err().reason, Reason::BadChunk);
        assert_eq!(
            decoder.decode(b"0\r\n\r\n").unwrap_err().reason,
            Reason::BadChunk
        );
        assert!(!decoder.is_done());
    }

    #[test]
    fn extensions_are_bounded_per_line_and_per_message() {
        let limits = Limits {
            chunk_extension: 10,
            chunk_extensions_total: 25,
            ..Limits::default()
        };
        let line = |length: usize| format!("1;{}\r\nx\r\n", "a".repeat(length - 1));
        assert_eq!(chunked(&limits, line(10).as_bytes()), Ok(b"x".to_vec()));
        assert_eq!(chunked(&limits, line(11).as_bytes()), Err(Reason::BadChunk));
        let two = line(10).repeat(2);
        assert!(chunked(&limits, format!("{two}{}", line(5)).as_bytes()).is_ok());
        assert!(chunked(&limits, format!("{two}{}", line(6)).as_bytes()).is_err());
    }

    #[test]
    fn framing_may_not_outweigh_the_payload() {
        let limits = Limits::default();
        // 5 octets of framing for one of payload: within the factor, however long.
        assert!(chunked(&limits, "1\r\nx\r\n".repeat(100_000).as_bytes()).is_ok());
        // 20 octets of framing for one of payload: 4 too many each, until the free part is used up.
        let wasteful = "0000000000000001\r\nx\r\n";
        let free = Limits::CHUNK_OVERHEAD_FREE as usize / 4;
        assert!(chunked(&limits, wasteful.repeat(free - 50).as_bytes()).is_ok());
        assert_eq!(
            chunked(&limits, wasteful.repeat(free + 50).as_bytes()),
            Err(Reason::BadChunk)
        );
    }

    #[test]
    fn sizes_may_not_add_up_to_more_than_a_length_can_say() {
        let mut decoder = Decoder::chunked(&Limits::default(), Side::Request);
        let step = decoder.decode(b"7fffffffffffffff\r\n").unwrap();
        assert_eq!(step.consumed, 18);
        let mut decoder = Decoder::chunked(&Limits::default(), Side::Request);
        let input = b"1\r\nx\r\n7fffffffffffffff\r\n";
        let result = run(&mut decoder, input);
        assert_eq!(result, Err(Reason::BadChunk));
    }

    fn trailers(limits: &Limits, side: Side, text: &str) -> Result<Vec<(String, bool)>, Reason> {
        let mut decoder = Decoder::chunked(limits, side);
        run(&mut decoder, format!("0\r\n{text}\r\n").as_bytes())?;
        assert!(decoder.is_done());
        let Some(trailers) = decoder.trailers() else {
            return Ok(Vec::new());
        };
        let name = |span: crate::proto::head::Span| {
            String::from_utf8(span.of(&trailers.bytes).to_vec()).unwrap()
        };
        Ok(trailers
            .fields
            .iter()
            .map(|field| (name(field.name), field.hop))
            .collect())
    }

    #[test]
    fn trailers_that_mean_something_to_a_head_are_not_forwarded() {
        let limits = Limits::default();
        for id in FieldId::KNOWN {
            let text = format!("{}: 1\r\n", id.name());
            let found = trailers(&limits, Side::Response, &text).unwrap();
            assert_eq!(found, [(id.name().to_owned(), !id.is_allowed_in_trailer())]);
        }
        let found = trailers(
            &limits,
            Side::Request,
            "grpc-status: 0\r\nX-Forwarded-X: 1\r\nx_y: 2\r\n",
        );
        let marks: Vec<bool> = found.unwrap().into_iter().map(|(_, hop)| hop).collect();
        assert_eq!(marks, [false, true, true]);
        let found = trailers(&limits, Side::Response, "x_y: 2\r\n").unwrap();
        assert!(!found[0].1);
    }

    #[test]
    fn trailers_are_bounded() {
        let limits = Limits {
            trailers: 20,
            trailer_fields: 2,
            ..Limits::default()
        };
        assert!(trailers(&limits, Side::Request, "a: 1\r\nb: 2\r\n").is_ok());
        let many = trailers(&limits, Side::Request, "a:\r\nb:\r\nc:\r\n");
        assert_eq!(many, Err(Reason::BadTrailer));
        assert!(trailers(&limits, Side::Request, "a: 3456789012345\r\n").is_ok());
        let long = trailers(&limits, Side::Request, "a: 34567890123456\r\n");
        assert_eq!(long, Err(Reason::BadTrailer));
        assert_eq!(
            trailers(&limits, Side::Response, "a: 34567890123456\r\n"),
            Err(Reason::UpstreamBadBody)
        );
        // The bound does not wait for the end of a line.
        let mut decoder = Decoder::chunked(&limits, Side::Request);
        let endless = format!("0\r\n{}", "a".repeat(1 << 20));
        assert_eq!(
            run(&mut decoder, endless.as_bytes()),
            Err(Reason::BadTrailer)
        );
    }

    #[test]
    fn a_decoder_is_small() {
        assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
    }
}
