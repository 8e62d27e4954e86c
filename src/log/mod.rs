//! The error log and the access log.

pub mod access;
mod calendar;
mod escape;
pub mod params;
mod sink;

pub use sink::{Dialect, Sink, Stopped};
