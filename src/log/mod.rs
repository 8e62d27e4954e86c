//! The error log and the access log.
//!
//! Both write whole lines of plain ASCII to an output that the master has opened, and neither waits
//! for it. This module knows no configuration file and counts no metrics: its users take the
//! counts.

pub mod access;
pub mod calendar;
mod error;
mod escape;
mod level;
pub mod params;
mod repeat;
mod sink;

pub use error::{descriptor, identify, install, reopen, tick};
pub use sink::{Dialect, Priority, Sink, Stamp, Stopped};
