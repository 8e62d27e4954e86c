//! Limits on rates and connections.
