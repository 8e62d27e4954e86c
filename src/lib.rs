//! proxyd: a master/worker reverse proxy, SOCKS5 server, tunnel and relay.
//!
//! The modules stand in rank order: a module may use those above it in this list, never those
//! below, and modules of one rank do not know each other (`tests/tidy.rs` keeps it so).
//! `docs/ARCHITECTURE.md` is the map.

// rank 0: values
pub mod base;
// rank 1: protocol machines without I/O; the kernel (the only unsafe code)
pub mod proto;
pub mod sys;
// rank 2: what is written down
pub mod log;
pub mod metric;
// rank 3: the event loop
pub mod rt;
// rank 4: streams and packet ports
pub mod io;
// rank 5: transports
pub mod net;
// rank 6: limits and upstreams
pub mod limit;
pub mod upstream;
// rank 7: services
pub mod http;
// rank 8: the configuration file
pub mod conf;
// rank 9: the composition root
pub mod app;
// rank 10: processes
pub mod process;
// rank 11: the command line
pub mod cli;
