//! The configuration file: parse, check, explain.

pub mod model;
