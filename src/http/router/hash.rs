//! A cheap hash for the tables of the router. Their keys come from the configuration, and what a
//! client asks for is looked up, never stored: nobody outside can make keys collide, so the
//! protection of the standard hash is not needed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table with octet strings as keys.
pub(super) type Table = HashMap<Box<[u8]>, u32, BuildHasherDefault<Mix>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Mix {
    const fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = 0;
        for byte in tail {
            last = last << 8 | u64::from(*byte);
        }
        self.add(last);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        // A product has its best bits on top; the table uses those at the bottom as well.
        self.0.rotate_left(26)
    }
}
