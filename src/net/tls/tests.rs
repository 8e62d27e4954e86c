//! Whole sessions: both sides of TLS over in-memory streams.
