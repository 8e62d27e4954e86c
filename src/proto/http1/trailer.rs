//! Trailer sections (section 11): collected, bounded, and checked like any field section.

use crate::base::reason::Reason;
use crate::proto::head::{Field, FieldId, Span};
use crate::proto::http1::scan::{Bounds, Scan};
use crate::proto::http1::{Limits, Side, fields};

/// The trailer section of a chunked body. A field with `hop` set must not be forwarded (11.3).
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    /// The octets that the spans of the fields point into.
    pub bytes: Vec<u8>,
    /// The fields in their order.
    pub fields: Vec<Field>,
}

impl Trailers {
    /// Names and values of the fields that may be forwarded.
    pub fn forwardable(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .filter(|field| !field.hop)
            .map(|field| (field.name.of(&self.bytes), field.value.of(&self.bytes)))
    }
}

/// Collects a trailer section.
#[derive(Debug)]
pub(super) struct Reader {
    scan: Scan,
    bounds: Bounds,
    side: Side,
    trailers: Trailers,
}

impl Reader {
    /// A section of at most `octets` with its line ends, and of at most `lines` fields.
    pub(super) fn new(octets: u32, lines: u32, side: Side) -> Self {
        let bounds = Bounds {
            first_line: octets,
            line: octets,
            head: octets,
            lines: lines.min(Limits::FIELDS_MAX),
            skip: None,
        };
        Self {
            scan: Scan::default(),
            bounds,
            side,
            trailers: Trailers::default(),
        }
    }

    pub(super) const fn trailers(&self) -> &Trailers {
        &self.trailers
    }

    /// Takes octets up to the end of a line; says how many, and whether the section ended.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<(usize, bool), Reason> {
        let line = input.iter().position(|octet| *octet == b'\n');
        // One octet over the bound is enough to see that it is passed.
        let room = (self.bounds.head as usize).saturating_sub(self.trailers.bytes.len());
        let taken = line
            .map_or(input.len(), |place| place.saturating_add(1))
            .min(room.saturating_add(1));
        self.trailers
            .bytes
            .extend_from_slice(input.get(..taken).unwrap_or_default());
        let fault = self.fault();
        match self.scan.advance(&self.trailers.bytes, &self.bounds) {
            Err(_) => Err(fault),
            Ok(None) => Ok((taken, false)),
            Ok(Some(found)) => {
                let section = Span::new(0, found.end);
                let Trailers { bytes, fields } = &mut self.trailers;
                fields::read(fields, bytes, section, found.lines).map_err(|_| fault)?;
                for field in fields.iter_mut() {
                    field.hop = !may_be_forwarded(*field, bytes, self.side);
                }
                Ok((taken, true))
            }
        }
    }

    const fn fault(&self) -> Reason {
        match self.side {
            Side::Request => Reason::BadTrailer,
            Side::Response => Reason::UpstreamBadBody,
        }
    }
}

/// Rule 11.3. Request trailers with an underscore in the name are dropped whatever the listener
/// says about fields: no client needs them.
fn may_be_forwarded(field: Field, bytes: &[u8], side: Side) -> bool {
    let name = field.name.of(bytes);
    match field.id {
        FieldId::Other => {
            let dropped = side == Side::Request && name.contains(&b'_');
            !dropped && !fields::is_x_forwarded(name)
        }
        id => id.is_allowed_in_trailer(),
    }
}
