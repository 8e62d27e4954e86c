//! Master, workers and helpers: who runs, as whom, with which sockets, and until when. What is
//! served stands behind [`program::Program`].

pub mod master;
pub mod program;
pub mod worker;
