//! Response heads.

use crate::proto::head::{Method, ResponseHead};
use crate::proto::http1::{Error, Limits, Scan};

/// Parses a response head that starts at the first octet of `buf`; `method` is that of the
/// request.
///
/// `Ok(None)` means that more octets are needed.
pub fn parse(
    head: &mut ResponseHead,
    _scan: &mut Scan,
    _buf: &[u8],
    _limits: &Limits,
    _method: Method,
) -> Result<Option<()>, Error> {
    head.clear();
    Ok(None)
}
