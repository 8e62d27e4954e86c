//! The chunked coding (section 6): sizes, extensions and line ends exactly as the grammar says, with
//! bounds on everything that is not payload.

use crate::base::reason::Reason;
use crate::proto::http1::body::{Step, shorter};
use crate::proto::http1::trailer::{Reader, Trailers};
use crate::proto::http1::{Limits, Side};

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

/// The state of a chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
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
    pub(super) fn new(limits: &Limits, side: Side) -> Self {
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

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    pub(super) const fn side(&self) -> Side {
        self.side
    }

    /// The trailers, once the body ended.
    pub(super) fn trailers(&self) -> Option<&Trailers> {
        self.trailers
            .as_deref()
            .filter(|_| self.is_done())
            .map(Reader::trailers)
    }

    const fn fault(&self) -> Reason {
        match self.side {
            Side::Request => Reason::BadChunk,
            Side::Response => Reason::UpstreamBadBody,
        }
    }

    /// Goes on until a second stretch of payload would start, or the input or the body ends.
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Step, Reason> {
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
