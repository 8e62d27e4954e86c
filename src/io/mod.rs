//! Streams and packet ports, and what works on any of them.

pub mod facts;
