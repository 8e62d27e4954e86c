//! The bounds of heads, chunked bodies and trailers (section 22). The configuration uses the
//! names of the members as its keys.

/// Bounds of one connection. Sizes are in octets; a line is counted without its CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The request line. Default 8 KiB, else 414.
    pub request_line: u32,
    /// One field line of a request. Default 8 KiB, else 431.
    pub field_line: u32,
    /// The head of a request with all line ends. Default 32 KiB, else 431.
    pub request_head: u32,
    /// Field lines of a request. Default 100, at most [`Limits::FIELDS_MAX`], else 431.
    pub fields: u32,
    /// Options in the Connection fields of a message. Default 64, else 400 or 502; it bounds the
    /// work of comparing them with the field names.
    pub connection_options: u32,
    /// The head of a response with all line ends. Default 32 KiB, else 502.
    pub response_head: u32,
    /// Field lines of a response. Default 200, at most [`Limits::FIELDS_MAX`], else 502.
    pub response_fields: u32,
    /// The trailer section with all line ends. Default 4 KiB.
    pub trailers: u32,
    /// Field lines of a trailer section. Default 32, at most [`Limits::FIELDS_MAX`].
    pub trailer_fields: u32,
    /// The extension of one chunk, from its semicolon on. Default 256.
    pub chunk_extension: u32,
    /// All chunk extensions of one message. Default 4 KiB.
    pub chunk_extensions_total: u32,
}

impl Limits {
    /// No configuration can allow more field lines than this.
    pub const FIELDS_MAX: u32 = 512;
    /// Octets of chunk framing that are free; beyond them, see [`Limits::CHUNK_OVERHEAD_FACTOR`].
    pub const CHUNK_OVERHEAD_FREE: u64 = 64 * 1024;
    /// Octets of chunk framing that each octet of payload allows (rule 6.5).
    pub const CHUNK_OVERHEAD_FACTOR: u64 = 16;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 8 * 1024,
            field_line: 8 * 1024,
            request_head: 32 * 1024,
            fields: 100,
            connection_options: 64,
            response_head: 32 * 1024,
            response_fields: 200,
            trailers: 4 * 1024,
            trailer_fields: 32,
            chunk_extension: 256,
            chunk_extensions_total: 4 * 1024,
        }
    }
}
