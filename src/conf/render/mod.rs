//! Findings for people and for programs, and the one-screen summary of a good configuration.

mod json;
mod summary;
mod text;

pub use json::json;
pub use summary::summary;
pub use text::text;
