//! The reverse proxy on virtual time and a simulated network: the same code as in a worker, with
//! the clock and the sockets replaced. Every scenario runs with many seeds and ends with the same
//! questions: is every connection closed, every buffer back, every task over? A failing seed is
//! printed and can be given back in `PROXYD_SEED`; `PROXYD_SEEDS` asks for more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::print_stderr,
    clippy::excessive_nesting,
    reason = "test code"
)]

mod balance;
mod bodies;
mod chaos;
mod client_deadlines;
mod drain;
mod expect;
mod house;
mod messages;
mod peer;
mod pool;
mod retry;
mod server_deadlines;
mod upgrade;
