//! The access log: one line for every request, compiled from a template once, rendered into a
//! buffer of the thread without allocation, written whole lines at a time, and never worth waiting
//! for: what cannot be written at once is dropped and counted.

mod record;
mod redact;
mod render;
mod sample;
mod template;
mod writer;

pub use record::{Bytes, Durations, EndedBy, Headers, Record, Tls};
pub use sample::Sampler;
pub use template::{Error, FIELDS, Template};
pub use writer::{AccessLog, Counts};
