//! The configuration file: parse, check, explain.
