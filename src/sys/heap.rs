//! The allocator: asking it to give free memory back to the system.

#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "malloc_trim has no safe wrapper")
)]

/// Gives back free pages, also those between blocks in use, which the allocator would keep. It
/// takes about a millisecond for each hundred megabytes, so it is for the end of a load. An allocator that
/// does not know it keeps its own rules.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no arguments that point anywhere and takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_between_blocks_in_use_goes_back() {
        let resident = || crate::sys::limits::resident_bytes(std::process::id().cast_signed());
        let Some(start) = resident() else { return };
        // Small blocks between the large ones keep the heap from shrinking by itself.
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for n in 0..2000 {
            large.push(vec![n as u8; 16 * 1024]);
            small.push(Box::new([n as u8; 64]));
        }
        let full = resident().unwrap_or(0);
        drop(large);
        give_back();
        let after = resident().unwrap_or(0);
        assert_eq!(small.len(), 2000);
        if cfg!(target_env = "gnu") {
            assert!(full > start, "{start} {full}");
            // Other tests of this process may need memory meanwhile.
            assert!(after < full - (8 << 20), "{start} {full} {after}");
        }
    }
}
