//! The error log and the access log.
