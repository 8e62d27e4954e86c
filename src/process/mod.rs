//! Master, workers and the admin process.

pub mod master;
