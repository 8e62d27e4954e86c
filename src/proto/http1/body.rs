//! Bodies.

use std::ops::Range;

use crate::proto::head::{BodyKind, Field};
use crate::proto::http1::{Error, Limits, Side};

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

/// The trailer section of a chunked body. A field with `hop` set must not be forwarded (11.3).
#[derive(Clone, Debug, Default)]
pub struct Trailers {
    /// The octets that the spans of the fields point into.
    pub bytes: Vec<u8>,
    /// The fields in their order.
    pub fields: Vec<Field>,
}

/// Finds the payload in the octets of a body.
#[derive(Clone, Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// No body.
    #[must_use]
    pub fn none() -> Self {
        Self {}
    }

    /// A body of `octets` octets.
    #[must_use]
    pub fn length(_octets: u64) -> Self {
        Self {}
    }

    /// A chunked body.
    #[must_use]
    pub fn chunked(_limits: &Limits, _side: Side) -> Self {
        Self {}
    }

    /// A body that goes on until the connection is closed.
    #[must_use]
    pub fn until_close() -> Self {
        Self {}
    }

    /// The decoder for the body kind of a head.
    #[must_use]
    pub fn of(_kind: BodyKind, _limits: &Limits, _side: Side) -> Self {
        Self {}
    }

    /// Takes the next octets. To be called again with the rest of the input until `end`, or until
    /// nothing was consumed; an empty input is allowed.
    pub fn decode(&mut self, _input: &[u8]) -> Result<Step, Error> {
        Ok(Step::default())
    }

    /// Whether the end of the body was reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        true
    }

    /// The connection ended cleanly (FIN, close_notify): fine only for an ended body and for one
    /// that goes on until close.
    pub fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The trailers; empty before the end of the body.
    #[must_use]
    pub fn trailers(&self) -> Option<&Trailers> {
        None
    }
}
