//! The composition root: a checked configuration becomes running parts. The plan is made in the
//! master, before the fork; building and serving happen in each thread of a worker.

pub mod build;
pub mod certificates;
pub mod plan;
pub mod serve;
