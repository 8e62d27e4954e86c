//! Buffers from a pool of the thread: taken while bytes are in flight, given back on drop. The
//! pool is bounded in bytes, counts what it does, and gives its spare memory back within seconds
//! after the load has ended.

use crate::sys::heap;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// The size of a large buffer.
pub const LARGE: usize = 64 * 1024;

/// How long the pool looks back before it gives spare buffers away. Two such spans pass at most
/// from the last use of a buffer until its memory is free.
const LOOK_BACK: Duration = Duration::from_secs(3);

/// Freed bytes from which on the allocator is asked to give memory back to the system.
const GIVE_BACK: usize = 1024 * 1024;

/// Settings of the pool of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The size of an ordinary buffer.
    pub buffer_size: usize,
    /// Bytes that all buffers in use may have together.
    pub max: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            buffer_size: 16 * 1024,
            max: 256 * 1024 * 1024,
        }
    }
}

/// What the pool has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the buffers in use.
    pub in_use: usize,
    /// The most that was ever in use.
    pub high_water: usize,
    /// Bytes kept for the next to come.
    pub spare: usize,
    /// Requests refused because `max` was reached, since [`take_refused`].
    pub refused: u64,
}

/// Spare buffers of one size, and how few there were of late.
#[derive(Default)]
struct Shelf {
    spare: Vec<Box<[u8]>>,
    least: usize,
}

impl Shelf {
    fn take(&mut self) -> Option<Box<[u8]>> {
        let data = self.spare.pop();
        self.least = self.least.min(self.spare.len());
        data
    }

    /// Frees what was not needed since the last call; gives how many bytes.
    fn trim(&mut self) -> usize {
        // The oldest lie at the bottom.
        let freed = self
            .spare
            .drain(..self.least.min(self.spare.len()))
            .map(|data| data.len())
            .sum();
        self.spare.shrink_to(self.spare.len() * 2);
        self.least = self.spare.len();
        freed
    }
}

struct Pool {
    params: Cell<Params>,
    stats: Cell<Stats>,
    ordinary: RefCell<Shelf>,
    large: RefCell<Shelf>,
    trimming: Cell<bool>,
}

thread_local! {
    static POOL: Pool = Pool {
        params: Cell::new(Params::default()),
        stats: Cell::default(),
        ordinary: RefCell::default(),
        large: RefCell::default(),
        trimming: const { Cell::new(false) },
    };
}

/// Sets up the pool of this thread; buffers in use stay as they are.
pub fn configure(params: Params) {
    POOL.with(|pool| {
        pool.params.set(Params {
            buffer_size: params.buffer_size.max(1),
            ..params
        });
        pool.clear();
    });
}

/// What the pool of this thread has counted.
#[must_use]
pub fn stats() -> Stats {
    POOL.try_with(|pool| Stats {
        spare: pool.spare(),
        ..pool.stats.get()
    })
    .unwrap_or_default()
}

/// How often the pool of this thread had nothing to give, since the last call.
pub fn take_refused() -> u64 {
    let take = |pool: &Pool| {
        let stats = pool.stats.get();
        pool.stats.set(Stats {
            refused: 0,
            ..stats
        });
        stats.refused
    };
    POOL.try_with(take).unwrap_or_default()
}

impl Pool {
    fn spare(&self) -> usize {
        let size = self.params.get().buffer_size;
        self.ordinary.borrow().spare.len() * size + self.large.borrow().spare.len() * LARGE
    }

    fn clear(&self) {
        self.ordinary.borrow_mut().spare.clear();
        self.large.borrow_mut().spare.clear();
    }

    fn shelf(&self, size: usize) -> Option<&RefCell<Shelf>> {
        if size == self.params.get().buffer_size {
            Some(&self.ordinary)
        } else if size == LARGE {
            Some(&self.large)
        } else {
            None
        }
    }

    fn take(&self, size: usize) -> Option<Box<[u8]>> {
        let mut stats = self.stats.get();
        let in_use = stats.in_use.saturating_add(size);
        if in_use > self.params.get().max {
            stats.refused += 1;
            self.stats.set(stats);
            return None;
        }
        stats.in_use = in_use;
        stats.high_water = stats.high_water.max(in_use);
        self.stats.set(stats);
        let spare = self.shelf(size).and_then(|shelf| shelf.borrow_mut().take());
        Some(spare.unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }

    fn give(&self, data: Box<[u8]>) {
        let mut stats = self.stats.get();
        stats.in_use = stats.in_use.saturating_sub(data.len());
        self.stats.set(stats);
        let Some(shelf) = self.shelf(data.len()) else {
            return;
        };
        // Without a loop nobody would trim the pool later.
        if crate::rt::is_running() {
            shelf.borrow_mut().spare.push(data);
            if !self.trimming.replace(true) {
                crate::rt::spawn(trim(Trimming)).detach();
            }
        }
    }

    /// Frees what was not needed of late; gives whether anything is left.
    fn trim(&self) -> bool {
        let freed = self.ordinary.borrow_mut().trim() + self.large.borrow_mut().trim();
        if freed >= GIVE_BACK {
            heap::give_back();
        }
        self.spare() != 0
    }
}

/// Says that the trimming task runs, until it is dropped.
struct Trimming;

impl Drop for Trimming {
    fn drop(&mut self) {
        // A thread that ends has no pool any more.
        let _ended = POOL.try_with(|pool| {
            pool.trimming.set(false);
            pool.clear();
        });
    }
}

/// Runs as long as there are spare buffers, so that an idle loop is never woken by it.
async fn trim(_running: Trimming) {
    loop {
        crate::rt::sleep(LOOK_BACK).await;
        if !POOL.with(Pool::trim) {
            break;
        }
    }
}

/// A buffer with a readable part in the middle: bytes are put in at the end of it and taken out
/// at its start. An empty one (`Buf::default()`) owns no memory.
#[derive(Default)]
pub struct Buf {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buf {
    /// An ordinary buffer; `None` when the pool is at its limit.
    #[must_use]
    pub fn take() -> Option<Self> {
        POOL.try_with(|pool| pool.take(pool.params.get().buffer_size))
            .ok()
            .flatten()
            .map(Self::over)
    }

    /// A buffer of 64 KiB; `None` when the pool is at its limit.
    #[must_use]
    pub fn take_large() -> Option<Self> {
        POOL.try_with(|pool| pool.take(LARGE))
            .ok()
            .flatten()
            .map(Self::over)
    }

    const fn over(data: Box<[u8]>) -> Self {
        Self {
            data,
            start: 0,
            end: 0,
        }
    }

    /// The bytes that were put in and not taken out.
    #[must_use]
    pub fn readable(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// The same, to be changed in place.
    #[must_use]
    pub fn readable_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes are readable.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is readable.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// All bytes that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// The free part behind the readable one; what is written to it counts after `advance`.
    #[must_use]
    pub fn space(&mut self) -> &mut [u8] {
        self.data.get_mut(self.end..).unwrap_or_default()
    }

    /// Makes the first `n` bytes of the space readable.
    pub fn advance(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.data.len());
    }

    /// Takes out the first `n` readable bytes.
    pub fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Takes out everything.
    pub const fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Moves the readable part to the front, so that all that is free is in the space.
    pub fn compact(&mut self) {
        if self.start != 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Reads once from `from` into the space (which must not be empty); 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_fill<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(self.space());
        ready!(Pin::new(from).poll_read(cx, &mut space))?;
        let n = space.filled().len();
        self.advance(n);
        Poll::Ready(Ok(n))
    }

    /// Puts in as much of `bytes` as there is space for; gives how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let n = space.len().min(bytes.len());
        if let (Some(to), Some(from)) = (space.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.advance(n);
        n
    }

    /// Moves the content to a larger buffer: ordinary, then 64 KiB, then twice as much each time,
    /// never above `max`. False when that would not be larger, or the pool is at its limit; then
    /// nothing has changed.
    pub fn grow(&mut self, max: usize) -> bool {
        POOL.try_with(|pool| {
            let old = self.data.len();
            let ordinary = pool.params.get().buffer_size;
            let size = if old < ordinary {
                ordinary
            } else if old < LARGE {
                LARGE
            } else {
                old.saturating_mul(2)
            };
            let size = size.min(max);
            if size <= old {
                return false;
            }
            let Some(data) = pool.take(size) else {
                return false;
            };
            let mut larger = Self::over(data);
            larger.put(self.readable());
            *self = larger;
            true
        })
        .unwrap_or(false)
    }

    /// Makes room for `n` more bytes by moving and growing, never above `max` bytes in all.
    pub fn reserve(&mut self, n: usize, max: usize) -> bool {
        while self.data.len() - self.end < n {
            if self.start != 0 {
                self.compact();
            } else if !self.grow(max) {
                return false;
            }
        }
        true
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            // A thread that ends has no pool any more; the memory is freed all the same.
            let _given = POOL.try_with(|pool| pool.give(data));
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {})", self.len(), self.capacity())
    }
}

#[cfg(test)]
mod tests;
