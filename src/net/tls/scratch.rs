//! The buffers that all TLS connections of a thread share: bytes from the socket, bytes to the
//! socket, and small writes being gathered. A connection has them only while it is being
//! polled, so an idle one holds none.

use std::cell::Cell;

/// Bytes of ciphertext that may wait for the rest of a record or handshake message.
pub(super) const INPUT_BYTES: usize = 96 * 1024;
/// The largest plain text of one record.
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// What one record adds to its plain text, at most.
pub(super) const RECORD_OVERHEAD: usize = 64;
const OUTPUT_BYTES: usize = 68 * 1024;

/// Bytes on their way out.
#[derive(Default)]
pub(super) struct Output {
    buf: Vec<u8>,
    len: usize,
}

impl Output {
    pub(super) fn filled(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }

    /// At least `n` bytes to write to; [`Output::advance`] keeps some of them.
    pub(super) fn space(&mut self, n: usize) -> &mut [u8] {
        let needed = self.len + n;
        if self.buf.len() < needed {
            self.buf.resize(needed, 0);
        }
        self.buf.get_mut(self.len..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.len = (self.len + n).min(self.buf.len());
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let space = self.space(bytes.len());
        for (to, from) in space.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.advance(bytes.len());
    }
}

/// The buffers.
pub(super) struct Scratch {
    pub(super) input: Box<[u8]>,
    pub(super) output: Output,
    pub(super) gather: Box<[u8]>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            input: vec![0; INPUT_BYTES].into(),
            output: Output {
                buf: vec![0; OUTPUT_BYTES],
                len: 0,
            },
            gather: vec![0; RECORD_BYTES].into(),
        }
    }
}

thread_local! {
    static SLOT: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffers. A call from inside another (TLS in TLS) gets a set of
/// its own, of which one is kept.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SLOT
        .with(Cell::take)
        .unwrap_or_else(|| Box::new(Scratch::new()));
    scratch.output.clear();
    let out = work(&mut scratch);
    // A burst must not keep a large buffer for ever.
    if scratch.output.buf.len() > 4 * OUTPUT_BYTES {
        scratch.output.buf = vec![0; OUTPUT_BYTES];
    }
    SLOT.with(|slot| slot.set(Some(scratch)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_grows_and_keeps_what_it_has() {
        let mut out = Output::default();
        out.put(b"ab");
        out.space(3)[..3].copy_from_slice(b"cde");
        out.advance(2);
        assert_eq!(out.filled(), b"abcd");
        out.clear();
        assert!(out.is_empty());
    }

    #[test]
    fn a_nested_use_has_its_own_buffers() {
        with(|outer| {
            outer.output.put(b"outer");
            with(|inner| {
                assert!(inner.output.is_empty());
                inner.output.put(b"inner");
            });
            assert_eq!(outer.output.filled(), b"outer");
        });
        with(|again| assert!(again.output.is_empty()));
    }
}
