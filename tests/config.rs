//! The configuration from outside: what a file means, what is reported and how it looks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

#[path = "config/command.rs"]
mod command;
#[path = "config/files.rs"]
mod files;
#[path = "config/findings.rs"]
mod findings;
#[path = "config/host.rs"]
mod host;
#[path = "config/look.rs"]
mod look;
#[path = "config/meaning.rs"]
mod meaning;
#[path = "config/property.rs"]
mod property;
