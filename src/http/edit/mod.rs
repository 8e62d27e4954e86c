//! The heads that are sent: written afresh from the received ones (rule 1.1), in one pass over
//! the fields and without allocation. What must not go on is left out first, then proxyd's own
//! fields are written (8.3), so nobody outside can remove or pre-set them. Bodies are elsewhere.

mod request;
mod response;
mod rules;

use super::template::{Facts, Template};
use crate::base::reason::Reason;
use crate::proto::http1::encode::EncodeError;
use crate::proto::http1::grammar;

pub use request::{RequestContext, max_forwards, write_request_head};
pub use response::{
    Persistence, ResponseContext, client_body, write_early_hints, write_response_head,
};
pub(super) use response::{write_persistence, write_set_fields};
pub use rules::{RequestRules, ResponseRules, RuleError};

/// A refusal of the writer (rule 18.3) is a defect of ours or of the configuration: 500.
fn refused(_error: EncodeError) -> Reason {
    Reason::Internal
}

/// Writes a field whose value is put together from pieces, and checks the whole value.
pub(super) fn line(
    out: &mut Vec<u8>,
    name: &str,
    value: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Reason> {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    value(out);
    if !grammar::is_value(out.get(start..).unwrap_or_default()) {
        return Err(Reason::Internal);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// A field from a template. One whose variables are all empty is left out.
fn configured(
    out: &mut Vec<u8>,
    name: &[u8],
    template: &Template,
    facts: &Facts<'_>,
) -> Result<(), Reason> {
    let start = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let value = out.len();
    template.write(out, facts);
    let text = out.get(value..).unwrap_or_default();
    if text.is_empty() && !template.is_fixed() {
        out.truncate(start);
        return Ok(());
    }
    if !grammar::is_value(text) {
        return Err(Reason::Internal);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Runs a writer and takes back what it wrote if it fails.
fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let start = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

#[cfg(test)]
mod tests;
