//! An allocator that counts what this thread asks for and what it holds.

#![expect(unsafe_code, reason = "an allocator is unsafe by its nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static BLOCKS: Cell<[i32; CLASSES]> = const { Cell::new([0; CLASSES]) };
    static TRAP: Cell<bool> = const { Cell::new(false) };
}

/// Sizes of blocks are told apart in steps of 16 bytes, up to 16 KiB.
const CLASSES: usize = 1024;

/// How often this thread has allocated (growing counts).
pub fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// Bytes that this thread holds: what it has asked for less what it has given back.
pub fn held() -> i64 {
    HELD.with(Cell::get)
}

/// How many blocks of which size this thread holds, in steps of 16 bytes.
pub fn blocks() -> Vec<i32> {
    BLOCKS.with(Cell::get).to_vec()
}

/// Prints where each allocation comes from while it is on.
pub fn trap(on: bool) {
    TRAP.with(|trap| trap.set(on));
}

fn hold(size: usize, sign: i32) {
    let _ended = HELD.try_with(|held| held.set(held.get() + size as i64 * i64::from(sign)));
    let _ended = BLOCKS.try_with(|blocks| {
        // Only the one entry is touched: the table is not copied.
        let table = blocks.as_ptr();
        // SAFETY: the cell belongs to this thread, and nothing else runs meanwhile.
        unsafe { (&mut *table)[(size / 16).min(CLASSES - 1)] += sign };
    });
}

fn note(size: usize) {
    let _ended = COUNT.try_with(|count| count.set(count.get() + 1));
    hold(size, 1);
    if TRAP.try_with(|trap| trap.replace(false)).unwrap_or(false) {
        eprintln!("{}", std::backtrace::Backtrace::force_capture());
        let _ended = TRAP.try_with(|trap| trap.set(true));
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        hold(layout.size(), -1);
        note(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}
