//! Session tickets whose keys live in shared memory: made and rotated by the master, read by
//! every worker of every generation, so that a ticket from one worker resumes on any other.
//!
//! The words of one set hold three keys (previous, current, next) behind a sequence lock: the
//! single writer makes the sequence odd, writes, makes it even; a reader that saw an odd or a
//! changed sequence reads again, so it never uses half of an old and half of a new key. A writer
//! that dies in between leaves the sequence odd: readers then do without tickets (a full
//! handshake) until the next rotation repairs it.
//!
//! A ticket is `key name (16) | nonce (12) | ciphertext | tag (16)`. The associated data binds it
//! to one listener and its client authentication: a session never crosses server configurations.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use rustls::server::ProducesTickets;

use super::crypto::{KEY_LEN, NONCE_LEN, TAG_LEN, hkdf, open, random, seal, sha256};
use crate::base::time::Instant;

/// Words of shared memory for one set of keys.
pub const WORDS: usize = 24;
/// Random bytes for one key: its name and its secret.
pub const KEY_BYTES: usize = NAME_LEN + KEY_LEN;
/// Random bytes for the first rotation of an empty set.
pub const FIRST_BYTES: usize = KEYS * KEY_BYTES;
/// A ticket longer than this is not even looked at.
pub const TICKET_BYTES_MAX: usize = 16 * 1024;
/// The least length of the contents of a `key_file`.
pub const SECRET_BYTES_MIN: usize = 32;

const NAME_LEN: usize = 16;
const KEYS: usize = 3;
const KEY_WORDS: usize = KEY_BYTES / 8;
const SEQUENCE: usize = 0;
const ROTATED_AT: usize = 1;
const PERIOD: usize = 2;
const FIRST_KEY: usize = 4;
/// A rotation takes well under a microsecond; a reader that meets this many in a row has found
/// the remains of a dead writer.
const READ_TRIES: usize = 1000;
const LIFETIME_MAX: u64 = 7 * 24 * 3600;

/// Why keys were not rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateError {
    /// The slice of words is shorter than [`WORDS`].
    TooFewWords,
    /// Fewer random bytes than needed.
    TooFewBytes,
    /// The provider has no key derivation.
    NoDerivation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u8; KEY_BYTES]);

impl Key {
    fn name(&self) -> Option<&[u8; NAME_LEN]> {
        self.0.first_chunk()
    }

    fn secret(&self) -> Option<&[u8; KEY_LEN]> {
        self.0.last_chunk()
    }
}

/// Previous, current, next.
type Keys = [Key; KEYS];

fn read_words(words: &[AtomicU64]) -> Option<Keys> {
    let sequence = words.get(SEQUENCE)?;
    let keys = words.get(FIRST_KEY..FIRST_KEY + KEYS * KEY_WORDS)?;
    for _ in 0..READ_TRIES {
        let before = sequence.load(Ordering::Acquire);
        if before == 0 {
            return None;
        }
        if before % 2 == 1 {
            std::hint::spin_loop();
            continue;
        }
        let mut found = [Key([0; KEY_BYTES]); KEYS];
        let places = found.iter_mut().flat_map(|key| key.0.chunks_exact_mut(8));
        for (place, word) in places.zip(keys) {
            place.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        fence(Ordering::Acquire);
        if sequence.load(Ordering::Relaxed) == before {
            return Some(found);
        }
    }
    None
}

fn write_words(words: &[AtomicU64], keys: &Keys, rotated_at: u64, period: u64) {
    let (Some(sequence), Some(places)) = (
        words.get(SEQUENCE),
        words.get(FIRST_KEY..FIRST_KEY + KEYS * KEY_WORDS),
    ) else {
        return;
    };
    // An odd sequence here is what a dead writer left; it stays odd while its keys are replaced.
    let odd = sequence.load(Ordering::Relaxed) | 1;
    sequence.store(odd, Ordering::Relaxed);
    fence(Ordering::Release);
    let bytes = keys.iter().flat_map(|key| key.0.chunks_exact(8));
    for (place, chunk) in places.iter().zip(bytes) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        place.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
    for (at, value) in [(ROTATED_AT, rotated_at), (PERIOD, period)] {
        if let Some(word) = words.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
    sequence.store(odd.wrapping_add(1), Ordering::Release);
}

fn key_from(bytes: &[u8]) -> Option<Key> {
    bytes.first_chunk().copied().map(Key)
}

/// Makes the next key the current one and puts a fresh one behind it. The first call fills all
/// three and needs [`FIRST_BYTES`] of randomness, later ones [`KEY_BYTES`]. Only one process may
/// rotate a set at a time.
///
/// # Errors
/// Too few words or bytes; the keys are then as before.
pub fn rotate(words: &[AtomicU64], bytes: &[u8], now: Instant) -> Result<(), RotateError> {
    if words.len() < WORDS {
        return Err(RotateError::TooFewWords);
    }
    let mut fresh = bytes.chunks_exact(KEY_BYTES).filter_map(key_from);
    let mut next = || fresh.next().ok_or(RotateError::TooFewBytes);
    let keys = match read_words(words) {
        Some([_, current, after]) => [current, after, next()?],
        None => [next()?, next()?, next()?],
    };
    write_words(words, &keys, now.as_nanos(), 0);
    Ok(())
}

/// Whether it is time for [`rotate`]: the set is empty, damaged, or older than `every`.
#[must_use]
pub fn is_due(words: &[AtomicU64], every: Duration, now: Instant) -> bool {
    let Some(at) = words.get(ROTATED_AT) else {
        return false;
    };
    let rotated_at = Instant::from_nanos(at.load(Ordering::Relaxed));
    read_words(words).is_none() || now.saturating_since(rotated_at) >= every
}

/// Sets the keys that `key_file` gives for the present period of `every`: all machines with the
/// same file have the same three keys at the same time, a little clock skew included. Returns
/// whether anything changed.
///
/// # Errors
/// The contents of the file are too short, or the provider cannot derive keys.
pub fn derive(
    words: &[AtomicU64],
    secret: &[u8],
    every: Duration,
    unix_seconds: u64,
    now: Instant,
) -> Result<bool, RotateError> {
    if words.len() < WORDS {
        return Err(RotateError::TooFewWords);
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(RotateError::TooFewBytes);
    }
    let period = unix_seconds / every.as_secs().max(1);
    let mut keys = [Key([0; KEY_BYTES]); KEYS];
    let periods = [period.saturating_sub(1), period, period.saturating_add(1)];
    for (key, number) in keys.iter_mut().zip(periods) {
        let purpose: [&[u8]; 2] = [b"proxyd session ticket", &number.to_be_bytes()];
        if !hkdf(secret, &purpose, &mut key.0) {
            return Err(RotateError::NoDerivation);
        }
    }
    if read_words(words).is_some_and(|old| old == keys) {
        return Ok(false);
    }
    write_words(words, &keys, now.as_nanos(), period);
    Ok(true)
}

/// What a listener's sessions are bound to: changes with its name, its client authentication
/// mode and the contents of its CA and CRL files, so that a client whose certificate was revoked
/// cannot come back on an old ticket.
#[must_use]
pub fn binding(listener: &str, mode: &str, ca: &[u8], crls: &[Vec<u8>]) -> [u8; 32] {
    let mut crl_hashes = Vec::with_capacity(crls.len() * 32);
    for crl in crls {
        crl_hashes.extend_from_slice(&sha256(&[crl]));
    }
    let ca_hash = sha256(&[ca]);
    let name_len = (listener.len() as u64).to_be_bytes();
    sha256(&[
        b"proxyd ticket v1",
        &name_len,
        listener.as_bytes(),
        mode.as_bytes(),
        b"\0",
        &ca_hash,
        &crl_hashes,
    ])
}

/// Issues and opens the tickets of one listener.
pub struct Ticketer {
    words: &'static [AtomicU64],
    binding: [u8; 32],
    lifetime: u32,
}

impl Ticketer {
    /// With keys from shared memory, rotated every `every`, bound as [`binding`] says.
    #[must_use]
    pub fn new(words: &'static [AtomicU64], binding: [u8; 32], every: Duration) -> Self {
        // A ticket works until two rotations later, so at least one whole period.
        let lifetime = every.as_secs().clamp(1, LIFETIME_MAX);
        Self {
            words,
            binding,
            lifetime: u32::try_from(lifetime).unwrap_or(u32::MAX),
        }
    }
}

impl std::fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticketer")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        read_words(self.words).is_some()
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let [_, current, _] = read_words(self.words)?;
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + plain.len() + TAG_LEN);
        ticket.extend_from_slice(current.name()?);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let payload = ticket.get_mut(NAME_LEN + NONCE_LEN..)?;
        let tag = seal(current.secret()?, &nonce, &self.binding, payload)?;
        ticket.extend_from_slice(&tag);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = read_words(self.words)?;
        let key = keys.iter().find(|key| key.name() == Some(name))?;
        let mut payload = sealed.to_vec();
        open(key.secret()?, nonce, &self.binding, &mut payload).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const HOUR: Duration = Duration::from_secs(3600);

    fn words() -> &'static [AtomicU64] {
        Vec::leak((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn bytes(n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        random(&mut out).unwrap();
        out
    }

    fn filled() -> &'static [AtomicU64] {
        let words = words();
        rotate(words, &bytes(FIRST_BYTES), Instant::ZERO).unwrap();
        words
    }

    fn ticketer(words: &'static [AtomicU64], name: &str) -> Ticketer {
        Ticketer::new(words, binding(name, "off", b"", &[]), HOUR)
    }

    #[test]
    fn an_empty_set_gives_no_tickets_and_does_not_fail() {
        let t = ticketer(words(), "a");
        assert!(!t.enabled());
        assert_eq!(t.encrypt(b"x"), None);
        assert_eq!(t.decrypt(&[0; 100]), None);
    }

    #[test]
    fn a_ticket_of_one_worker_opens_on_another_until_two_rotations_later() {
        let words = filled();
        let (one, other) = (ticketer(words, "a"), ticketer(words, "a"));
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        rotate(words, &bytes(KEY_BYTES), Instant::ZERO).unwrap();
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        rotate(words, &bytes(KEY_BYTES), Instant::ZERO).unwrap();
        assert_eq!(other.decrypt(&ticket), None);
    }

    #[test]
    fn a_longer_ticket_than_this_worker_issued_opens_too() {
        // The reason why the provider's own ticketer cannot be shared by forking.
        let words = filled();
        let ticket = ticketer(words, "a").encrypt(&[5; 4000]).unwrap();
        assert_eq!(ticketer(words, "a").decrypt(&ticket), Some(vec![5; 4000]));
    }

    #[test]
    fn a_session_does_not_cross_listeners_or_client_authentication() {
        let words = filled();
        let ticket = ticketer(words, "a").encrypt(b"s").unwrap();
        assert_eq!(ticketer(words, "b").decrypt(&ticket), None);
        for other in [
            binding("a", "required", b"", &[]),
            binding("a", "off", b"ca", &[]),
            binding("a", "off", b"", &[b"crl".to_vec()]),
        ] {
            assert_eq!(Ticketer::new(words, other, HOUR).decrypt(&ticket), None);
        }
        assert_ne!(
            binding("ab", "c", b"", &[]),
            binding("a", "bc", b"", &[]),
            "name and mode must not run into each other"
        );
    }

    #[test]
    fn rotation_is_refused_without_enough_randomness_and_changes_nothing() {
        let words = filled();
        let ticket = ticketer(words, "a").encrypt(b"s").unwrap();
        assert_eq!(
            rotate(words, &bytes(KEY_BYTES - 1), Instant::ZERO),
            Err(RotateError::TooFewBytes)
        );
        assert!(ticketer(words, "a").decrypt(&ticket).is_some());
        let empty = self::words();
        assert_eq!(
            rotate(empty, &bytes(FIRST_BYTES - 1), Instant::ZERO),
            Err(RotateError::TooFewBytes)
        );
        assert_eq!(
            rotate(&empty[1..], &bytes(FIRST_BYTES), Instant::ZERO),
            Err(RotateError::TooFewWords)
        );
    }

    #[test]
    fn rotation_is_due_when_empty_old_or_damaged() {
        let words = words();
        let now = Instant::from_nanos(1_000);
        assert!(is_due(words, HOUR, now));
        rotate(words, &bytes(FIRST_BYTES), now).unwrap();
        assert!(!is_due(words, HOUR, now));
        assert!(is_due(words, HOUR, now + HOUR));
        words[SEQUENCE].fetch_add(1, Ordering::Relaxed);
        assert!(is_due(words, HOUR, now));
    }

    #[test]
    fn a_writer_that_died_half_way_is_repaired_by_the_next_rotation() {
        let words = filled();
        words[SEQUENCE].fetch_add(1, Ordering::Relaxed);
        let t = ticketer(words, "a");
        assert_eq!(t.encrypt(b"s"), None);
        assert!(!t.enabled());
        rotate(words, &bytes(FIRST_BYTES), Instant::ZERO).unwrap();
        let ticket = t.encrypt(b"s").unwrap();
        assert_eq!(t.decrypt(&ticket).as_deref(), Some(&b"s"[..]));
    }

    #[test]
    fn machines_with_the_same_key_file_share_tickets_across_a_period() {
        let secret = bytes(SECRET_BYTES_MIN);
        let (a, b) = (words(), words());
        let at = 100 * 3600;
        assert_eq!(derive(a, &secret, HOUR, at, Instant::ZERO), Ok(true));
        assert_eq!(derive(a, &secret, HOUR, at + 5, Instant::ZERO), Ok(false));
        let ticket = ticketer(a, "l").encrypt(b"s").unwrap();
        for (skew, works) in [(-3600_i64, true), (0, true), (3600, true), (7200, false)] {
            let clock = u64::try_from(at as i64 + skew).unwrap();
            derive(b, &secret, HOUR, clock, Instant::ZERO).unwrap();
            assert_eq!(ticketer(b, "l").decrypt(&ticket).is_some(), works, "{skew}");
        }
        assert_eq!(
            derive(b, &secret[1..], HOUR, at, Instant::ZERO),
            Err(RotateError::TooFewBytes)
        );
    }

    #[test]
    fn readers_never_see_a_torn_key() {
        // Every key consists of one repeated byte, so a mixture would show.
        let words = words();
        rotate(words, &[1; FIRST_BYTES], Instant::ZERO).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = || {
                let mut seen = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let Some(keys) = read_words(words) else {
                        continue;
                    };
                    for key in keys {
                        assert!(key.0.iter().all(|b| *b == key.0[0]), "torn key");
                    }
                    let [p, c, n] = keys.map(|k| k.0[0]);
                    assert!(
                        (p, c, n) == (1, 1, 1) || c == p.wrapping_add(1) || p == c,
                        "keys of different rotations: {p} {c} {n}"
                    );
                    seen += 1;
                }
                seen
            };
            let readers = [scope.spawn(reader), scope.spawn(reader)];
            for i in 2..20_000_u32 {
                rotate(words, &[i as u8; KEY_BYTES], Instant::ZERO).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            for handle in readers {
                assert!(handle.join().unwrap() > 0);
            }
        });
    }

    #[test]
    fn tickets_keep_working_while_another_thread_rotates() {
        let words = filled();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    rotate(words, &bytes(KEY_BYTES), Instant::ZERO).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let t = ticketer(words, "a");
            let mut opened = 0;
            for _ in 0..500 {
                let ticket = t.encrypt(b"s").unwrap();
                opened += usize::from(t.decrypt(&ticket).is_some());
            }
            stop.store(true, Ordering::Relaxed);
            // A ticket may only fail when two rotations fell between the two calls.
            assert!(opened > 400, "{opened}");
        });
    }

    proptest::proptest! {
        #[test]
        fn hostile_tickets_are_refused(ticket in proptest::collection::vec(0_u8.., 0..200)) {
            proptest::prop_assert_eq!(ticketer(filled(), "a").decrypt(&ticket), None);
        }

        #[test]
        fn any_changed_byte_spoils_a_ticket(plain in proptest::collection::vec(0_u8.., 0..100), at in 0_usize..144, bit in 0_u8..8) {
            let t = ticketer(filled(), "a");
            let mut ticket = t.encrypt(&plain).unwrap();
            proptest::prop_assert_eq!(t.decrypt(&ticket), Some(plain));
            let at = at % ticket.len();
            ticket[at] ^= 1 << bit;
            proptest::prop_assert_eq!(t.decrypt(&ticket), None);
        }
    }
}
