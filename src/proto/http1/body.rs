//! Bodies: where the payload is in the octets that arrive, and where it ends (sections 5.2, 6, 7.4).
//!
//! The decoder keeps no payload: it says which part of the input is payload. Limits on the size
//! of a body belong to the route, not to it.

use std::ops::Range;

use crate::base::reason::Reason;
use crate::proto::head::BodyKind;
use crate::proto::http1::trailer::Reader;
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
            State::Chunked(chunked) => chunked.phase == Phase::Done,
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
            State::Chunked(chunked) => chunked.side,
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
            State::Chunked(chunked) if chunked.phase == Phase::Done => {
                chunked.trailers.as_deref().map(Reader::trailers)
            }
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

fn shorter(length: usize, left: u64) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In the digits of a size; this many were read.
    Size(u8),
    /// In the extension; this many octets were read.
    Extension(u32),
    /// Behind the CR of the size line.
    SizeLf,
    /// In the data.
    Data,
    /// Behind the data.
    DataCr,
    /// Behind the CR behind the data.
    DataLf,
    /// Behind the last chunk: an empty line or the first trailer.
    AfterLast,
    /// Behind a CR at the start of the trailer section.
    AfterLastLf,
    /// In the trailer section.
    Trailers,
    /// Behind the end.
    Done,
}

/// Number of hexadecimal digits of the longest chunk size (rule 6.2).
const SIZE_DIGITS: u8 = 16;
/// The largest size of a chunk and of all chunks (rule 6.2).
const SIZE_MAX: u64 = i64::MAX.unsigned_abs();

#[derive(Debug)]
struct Chunked {
    phase: Phase,
    side: Side,
    extension_max: u32,
    extensions_max: u32,
    trailers_max: u32,
    trailer_fields_max: u32,
    /// The size of the chunk that is read; in its data, how much is left.
    left: u64,
    /// Payload of all chunks of which the size line was read.
    payload: u64,
    /// Octets of framing so far.
    framing: u64,
    /// Octets of extensions so far.
    extensions: u32,
    /// Made when the first trailer comes; most bodies have none.
    trailers: Option<Box<Reader>>,
}

impl Chunked {
    fn new(limits: &Limits, side: Side) -> Self {
        Self {
            phase: Phase::Size(0),
            side,
            extension_max: limits.chunk_extension,
            extensions_max: limits.chunk_extensions_total,
            trailers_max: limits.trailers,
            trailer_fields_max: limits.trailer_fields,
            left: 0,
            payload: 0,
            framing: 0,
            extensions: 0,
            trailers: None,
        }
    }

    const fn fault(&self) -> Reason {
        match self.side {
            Side::Request => Reason::BadChunk,
            Side::Response => Reason::UpstreamBadBody,
        }
    }

    /// Goes on until a second stretch of payload would start, or the input or the body ends.
    fn decode(&mut self, input: &[u8]) -> Result<Step, Reason> {
        let mut at = 0_usize;
        let mut data = 0..0;
        while self.phase != Phase::Done {
            let rest = input.get(at..).unwrap_or_default();
            let Some(octet) = rest.first() else { break };
            match self.phase {
                Phase::Data => {
                    if !data.is_empty() {
                        break;
                    }
                    let taken = shorter(rest.len(), self.left);
                    self.left = self.left.saturating_sub(taken as u64);
                    data = at..at.saturating_add(taken);
                    at = data.end;
                    if self.left == 0 {
                        self.phase = Phase::DataCr;
                    }
                }
                Phase::Trailers => at = at.saturating_add(self.trailer(rest)?),
                _ => {
                    // The first octet of a trailer is not framing: it is read again as a trailer.
                    let framing = self.framing_octet(*octet)?;
                    at = at.saturating_add(usize::from(framing));
                }
            }
        }
        Ok(Step {
            consumed: at,
            data,
            end: self.phase == Phase::Done,
        })
    }

    /// Takes one octet of framing; false if it was not framing.
    fn framing_octet(&mut self, octet: u8) -> Result<bool, Reason> {
        self.framing = self.framing.saturating_add(1);
        self.phase = match (self.phase, octet) {
            (Phase::Size(digits), _) => self.size(digits, octet)?,
            (Phase::Extension(length), _) => self.extension(length, octet)?,
            (Phase::SizeLf, b'\n') => self.size_line_end()?,
            (Phase::DataCr, b'\r') => Phase::DataLf,
            (Phase::DataLf, b'\n') => Phase::Size(0),
            (Phase::AfterLast, b'\r') => Phase::AfterLastLf,
            (Phase::AfterLastLf, b'\n') => Phase::Done,
            (Phase::AfterLast, _) => {
                let (octets, lines) = (self.trailers_max, self.trailer_fields_max);
                self.trailers = Some(Box::new(Reader::new(octets, lines, self.side)));
                self.phase = Phase::Trailers;
                return Ok(false);
            }
            _ => return Err(self.fault()),
        };
        Ok(true)
    }

    fn size(&mut self, digits: u8, octet: u8) -> Result<Phase, Reason> {
        let value = match octet {
            b'0'..=b'9' => octet.wrapping_sub(b'0'),
            b'a'..=b'f' => octet.wrapping_sub(b'a').wrapping_add(10),
            b'A'..=b'F' => octet.wrapping_sub(b'A').wrapping_add(10),
            b'\r' if digits > 0 => return Ok(Phase::SizeLf),
            b';' if digits > 0 => return self.extension(0, octet),
            _ => return Err(self.fault()),
        };
        if digits >= SIZE_DIGITS {
            return Err(self.fault());
        }
        // 16 digits fill 64 bits, so nothing is lost before the bound is checked.
        self.left = self.left.wrapping_shl(4) | u64::from(value);
        if self.left > SIZE_MAX {
            return Err(self.fault());
        }
        Ok(Phase::Size(digits.saturating_add(1)))
    }

    /// Rule 6.3; `length` octets of the extension were read before this one.
    fn extension(&mut self, length: u32, octet: u8) -> Result<Phase, Reason> {
        if octet == b'\r' {
            return Ok(Phase::SizeLf);
        }
        if !matches!(octet, b'\t' | b' '..=b'~') {
            return Err(self.fault());
        }
        self.extensions = self.extensions.saturating_add(1);
        let length = length.saturating_add(1);
        if length > self.extension_max || self.extensions > self.extensions_max {
            return Err(self.fault());
        }
        Ok(Phase::Extension(length))
    }

    fn size_line_end(&mut self) -> Result<Phase, Reason> {
        let allowed = self
            .payload
            .saturating_mul(Limits::CHUNK_OVERHEAD_FACTOR)
            .saturating_add(Limits::CHUNK_OVERHEAD_FREE);
        self.payload = self.payload.saturating_add(self.left);
        if self.framing > allowed || self.payload > SIZE_MAX {
            return Err(self.fault());
        }
        Ok(if self.left == 0 {
            Phase::AfterLast
        } else {
            Phase::Data
        })
    }

    fn trailer(&mut self, rest: &[u8]) -> Result<usize, Reason> {
        let fault = self.fault();
        let reader = self.trailers.as_mut().ok_or(fault)?;
        let (taken, done) = reader.take(rest)?;
        if done {
            self.phase = Phase::Done;
        }
        Ok(taken)
    }
}
