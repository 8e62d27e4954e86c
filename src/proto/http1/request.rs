//! Request heads.

use crate::proto::head::RequestHead;
use crate::proto::http1::{Error, Limits, Scan};

/// What is done with field names that have an underscore (rule 3.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// The field is not forwarded, and counted.
    #[default]
    Drop,
    /// The field is an ordinary one.
    Pass,
    /// The request is rejected.
    Reject,
}

/// What the listener adds to the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// Whether the connection is a TLS connection: an absolute target must agree (rule 4.3).
    pub tls: bool,
    /// Field names with an underscore.
    pub underscores: Underscores,
}

/// Parses a request head that starts at the first octet of `buf`.
///
/// `Ok(None)` means that more octets are needed.
pub fn parse(
    head: &mut RequestHead,
    _scan: &mut Scan,
    _buf: &[u8],
    _limits: &Limits,
    _rules: RequestRules,
) -> Result<Option<()>, Error> {
    head.clear();
    Ok(None)
}

/// Checks the fields that a WebSocket handshake needs (rule 16.2): to be called only if the head
/// says [`crate::proto::head::Upgrade::WebSocket`] and the route allows it.
pub fn check_websocket(_head: &RequestHead, _buf: &[u8]) -> Result<(), Error> {
    Ok(())
}
