//! Counters, gauges and histograms in shared memory.
