//! Memory shared with children: one zeroed, anonymous mapping of atomic words, inherited by
//! `fork`. It may be far larger than the memory of the machine; only pages that are written cost
//! something. What the words mean is not known here.

#![expect(unsafe_code, reason = "mapping memory is what this file is for")]

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::libc::c_void;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// A shared mapping of words. Dropping it unmaps it in this process alone.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    words: usize,
}

// SAFETY: the mapping is plain memory that is only ever read and written as atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `words` zeroed words.
    ///
    /// # Errors
    /// When the address space or descriptors run out.
    pub fn new(words: usize) -> io::Result<Self> {
        let bytes = words
            .checked_mul(size_of::<AtomicU64>())
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let fd = memfd_create(c"proxyd", MFdFlags::MFD_CLOEXEC)?;
        let len = i64::try_from(bytes.get()).map_err(|_e| io::ErrorKind::InvalidInput)?;
        nix::unistd::ftruncate(&fd, len)?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the file is as long as
        // the mapping and nobody else holds a descriptor to make it shorter.
        let start = unsafe { mmap(None, bytes, access, flags, &fd, 0) }?;
        Ok(Self { start, words })
    }

    /// Keeps the words out of core files: for key material.
    ///
    /// # Errors
    /// When the kernel does not know the advice.
    pub fn hide_from_dumps(&self) -> io::Result<()> {
        // SAFETY: the range is the whole mapping, and the advice does not change its content.
        unsafe { madvise(self.start, self.bytes(), MmapAdvise::MADV_DONTDUMP) }?;
        Ok(())
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page aligned, zeroed (a valid AtomicU64), `words` long and lives
        // as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.words) }
    }

    /// The words for the rest of the life of this process.
    #[must_use]
    pub fn leak(self) -> &'static [AtomicU64] {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: as in `words`; the mapping is never removed because `self` is never dropped.
        unsafe { std::slice::from_raw_parts(this.start.as_ptr().cast(), this.words) }
    }

    const fn bytes(&self) -> usize {
        self.words * size_of::<AtomicU64>()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `new`; no reference outlives `self`. It cannot
        // fail for a valid range, and there is nothing to do if it did.
        let _done = unsafe { munmap(self.start, self.bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Fork, exit_now, fork_for_test, wait_for};
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn words_start_at_zero_and_can_be_sparse() {
        // 64 GiB of address space, three pages of memory.
        let map = Mapping::new(8 << 30).unwrap();
        let words = map.words();
        assert_eq!(words.len(), 8 << 30);
        for at in [0, 4 << 30, (8 << 30) - 1] {
            assert_eq!(words[at].load(Relaxed), 0);
            words[at].store(at as u64 + 1, Relaxed);
        }
        assert_eq!(words[4 << 30].load(Relaxed), (4 << 30) + 1);
        map.hide_from_dumps().unwrap();
    }

    #[test]
    fn nonsense_sizes_are_errors() {
        assert!(Mapping::new(0).is_err());
        assert!(Mapping::new(usize::MAX).is_err());
    }

    #[test]
    fn a_child_writes_what_the_parent_reads() {
        let words = Mapping::new(100).unwrap().leak();
        match fork_for_test().unwrap() {
            Fork::Child => {
                words[42].fetch_add(7, Relaxed);
                exit_now(0);
            }
            Fork::Parent(pid) => {
                wait_for(pid).unwrap();
                assert_eq!(words[42].load(Relaxed), 7);
            }
        }
    }

    #[test]
    fn dropping_unmaps_only_here() {
        let map = Mapping::new(1).unwrap();
        match fork_for_test().unwrap() {
            Fork::Child => {
                drop(map);
                exit_now(0);
            }
            Fork::Parent(pid) => {
                wait_for(pid).unwrap();
                map.words()[0].store(1, Relaxed);
                assert_eq!(map.words()[0].load(Relaxed), 1);
            }
        }
    }
}
