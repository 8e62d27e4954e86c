//! The kernel: the only unsafe code, one facility in each file. Nothing here knows what a worker
//! or a listener is for; every function is a system call made safe and given a plain name.

pub mod clock;
pub mod entropy;
pub mod fdpass;
pub mod file;
pub mod heap;
pub mod limits;
pub mod msg;
pub mod notify;
pub mod poll;
pub mod privilege;
pub mod process;
pub mod sandbox;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod title;
pub mod usage;
pub mod wall;
