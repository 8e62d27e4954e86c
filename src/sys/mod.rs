//! The kernel: the only unsafe code, one facility in each file.
