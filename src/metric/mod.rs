//! Counters, gauges and histograms in shared memory.
//!
//! One mapping of words is divided in columns. Column 0 holds what belongs to the whole host and is
//! changed by everybody with read-modify-write operations; every event loop and the master own one
//! more column each and are its only writer, so that counting is a plain load and store. A slot is
//! a place in a column and the same in every column. A scrape adds the columns up and needs no
//! answer from anybody; a process killed at any instruction leaves every word usable.
//!
//! This module does not know who counts what, nor how the text reaches a client. The names of all
//! metrics stand in [`catalog`] and nowhere else.

pub mod bundle;
pub mod catalog;
mod cell;
pub mod doc;
mod expose;
pub mod label;
mod registry;
mod table;
#[cfg(test)]
mod tests;

pub use cell::{Counter, Each, Gauge, Held, Histogram, HostGauge, Shared};
pub use expose::{CONTENT_TYPE, Reading, Sample, encode, readings, sample};
pub use registry::{Full, HistogramSlot, Registry, Slot};
pub use table::{Column, Columns, Layout, Owner, Role, Table};
