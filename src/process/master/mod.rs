//! The master.

pub mod supervisor;
