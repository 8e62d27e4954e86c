//! Writers.

use crate::proto::http1::body::Trailers;

/// What a writer refused (rule 18.3); nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The method is not a token of at most 32 octets.
    Method,
    /// The request target has octets that are not allowed.
    Target,
    /// The status is not between 100 and 599.
    Status,
    /// The field name is not a token.
    FieldName,
    /// The field value has control octets or blanks around it.
    FieldValue,
}

/// `METHOD target HTTP/1.1 CRLF`
pub fn request_line(_out: &mut Vec<u8>, _method: &[u8], _target: &[u8]) -> Result<(), EncodeError> {
    Ok(())
}

/// `METHOD path?query HTTP/1.1 CRLF`
pub fn request_line_parts(
    _out: &mut Vec<u8>,
    _method: &[u8],
    _path: &[u8],
    _query: Option<&[u8]>,
) -> Result<(), EncodeError> {
    Ok(())
}

/// `HTTP/1.1 status phrase CRLF`; the phrase is always our own (rule 7.1).
pub fn status_line(_out: &mut Vec<u8>, _status: u16) -> Result<(), EncodeError> {
    Ok(())
}

/// `name: value CRLF`
pub fn field(_out: &mut Vec<u8>, _name: &[u8], _value: &[u8]) -> Result<(), EncodeError> {
    Ok(())
}

/// `name: number CRLF`
pub fn field_decimal(_out: &mut Vec<u8>, _name: &[u8], _number: u64) -> Result<(), EncodeError> {
    Ok(())
}

/// The empty line that ends a head.
pub fn end(_out: &mut Vec<u8>) {}

/// The size line of a chunk of `len` octets (rule 6.7). `len` 0 would end the body: use
/// [`last_chunk`] for that.
pub fn chunk_head(buf: &mut [u8; 18], _len: usize) -> &[u8] {
    buf.as_slice()
}

/// The last chunk with those trailers that may be forwarded, and the end of the body.
pub fn last_chunk(_out: &mut Vec<u8>, _trailers: Option<&Trailers>) -> Result<(), EncodeError> {
    Ok(())
}
