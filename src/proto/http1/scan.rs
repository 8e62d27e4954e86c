//! Finding the end of a head.

/// Where the search for the end of a head has got to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {}
