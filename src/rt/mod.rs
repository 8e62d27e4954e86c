//! The event loop of a worker thread: executor, reactor, timers.
