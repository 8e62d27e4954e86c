//! Master, workers and helpers: who runs, as whom, with which sockets, and until when. What is
//! served stands behind [`program::Program`].

pub mod admin;
pub mod control;
pub mod demo;
mod event_loop;
pub mod master;
pub mod pidfile;
pub mod program;
pub mod proxyd;
pub mod status;
mod web;
pub mod worker;
