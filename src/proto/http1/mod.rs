//! HTTP/1.1 without I/O: heads, bodies and the strict writer.
//!
//! One parser, one framing decision, one serialiser: a message is parsed into a typed head
//! ([`crate::proto::head`]), and what is sent is written afresh from it. There is no lenient mode.
//! Rule numbers in comments are those of the HTTP rules that proxyd follows.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod body;
mod chunked;
#[cfg(test)]
mod corpus;
pub mod date;
pub mod encode;
mod fields;
mod framing;
pub mod fuzz;
pub mod grammar;
#[cfg(test)]
mod laws;
mod limit;
pub mod request;
pub mod response;
mod scan;
pub mod status;
mod target;
mod trailer;

use std::fmt;

pub use limit::Limits;
pub use scan::Scan;
pub use target::Authority;

use crate::base::reason::Reason;

/// Which way a message goes: the grammar is the same (rule 1.7), the reasons are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a client.
    Request,
    /// From an upstream.
    Response,
}

/// A message that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Why; it also holds the status of the answer.
    pub reason: Reason,
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())
    }
}

impl std::error::Error for Error {}
