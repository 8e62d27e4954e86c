//! Master, workers and the admin process.
