//! Request ids (rule 8.6): believed from trusted peers when they are well-formed, otherwise made
//! from random bits.

use super::trace::write_hex;

/// The longest id that is taken over.
pub const MAX: usize = 128;

/// The id of one request; holds its text itself, so nothing is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; MAX],
    len: usize,
}

impl RequestId {
    /// A new id of 32 hexadecimal digits.
    #[must_use]
    pub fn generate(random: u128) -> Self {
        let mut id = Self {
            text: [0; MAX],
            len: 32,
        };
        write_hex(id.text.get_mut(..32), random);
        id
    }

    /// The id that a trusted peer sent, if it is 1 to 128 of `A-Z a-z 0-9 . _ ~ -`.
    #[must_use]
    pub fn accept(received: &[u8]) -> Option<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._~-".contains(b);
        if received.is_empty() || !received.iter().all(plain) {
            return None;
        }
        let mut text = [0; MAX];
        text.get_mut(..received.len())?.copy_from_slice(received);
        Some(Self {
            text,
            len: received.len(),
        })
    }

    /// The id for a request: the received one if the peer is trusted and it is well-formed.
    #[must_use]
    pub fn decide(received: Option<&[u8]>, trusted: bool, random: u128) -> Self {
        received
            .filter(|_| trusted)
            .and_then(Self::accept)
            .unwrap_or_else(|| Self::generate(random))
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_one_is_all_of_the_random_bits() {
        let id = RequestId::generate(0x0123_4567_89ab_cdef_0011_2233_4455_66ff);
        assert_eq!(id.as_str(), "0123456789abcdef00112233445566ff");
        assert_eq!(RequestId::generate(0).as_str(), "0".repeat(32));
    }

    #[test]
    fn rule_8_6_what_is_accepted() {
        let long = "a".repeat(128);
        for good in ["a", "A9._~-", "550e8400-e29b-41d4-a716-446655440000", &long] {
            assert_eq!(RequestId::accept(good.as_bytes()).unwrap().as_str(), good);
        }
        let longer = "a".repeat(129);
        for bad in ["", "a b", "a,b", "a\"", "\u{e9}", "a/b", "a=", &longer] {
            assert_eq!(RequestId::accept(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rule_8_6_only_trusted_peers_bring_their_own() {
        let own = RequestId::generate(5);
        assert_eq!(RequestId::decide(Some(b"x"), true, 5).as_bytes(), b"x");
        assert_eq!(RequestId::decide(Some(b"x"), false, 5), own);
        assert_eq!(RequestId::decide(Some(b"x y"), true, 5), own);
        assert_eq!(RequestId::decide(None, true, 5), own);
    }
}
