//! Channels between the tasks of one loop: one value, a bounded queue, the latest value. Nothing
//! here crosses threads.

mod latest;
mod oneshot;
mod queue;

pub use latest::{Latest, LatestSender, latest};
pub use oneshot::{OneReceiver, OneSender, oneshot};
pub use queue::{Receiver, Sender, TrySendError, queue};

use std::fmt;

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other end of the channel is gone")
    }
}

impl std::error::Error for Closed {}

#[cfg(test)]
mod tests;
