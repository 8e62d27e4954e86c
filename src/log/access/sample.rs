//! Which requests are written when only a share is: by status class, from a generator that the
//! thread was given a seed for.

/// Decides about lines.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// For 1xx to 5xx: a line is written when the next number is below this; `None`: always.
    below: [Option<u64>; 5],
    state: u64,
}

impl Sampler {
    /// With shares from 0 to 1 for 1xx to 5xx.
    #[must_use]
    pub fn new(shares: [f64; 5], seed: u64) -> Self {
        Self {
            below: shares.map(threshold),
            state: seed,
        }
    }

    /// Whether this request is written. One without a status always is.
    #[must_use]
    pub fn keeps(&mut self, status: u16) -> bool {
        let class = usize::from(status / 100).checked_sub(1);
        match class.and_then(|class| self.below.get(class)) {
            Some(Some(below)) => {
                let below = *below;
                self.next() < below
            }
            Some(None) | None => true,
        }
    }

    /// The next number of a Weyl sequence, well mixed.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1 of the numbers; the cast saturates"
)]
fn threshold(share: f64) -> Option<u64> {
    (share < 1.0).then(|| (share.max(0.0) * 2f64.powi(64)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(shares: [f64; 5], status: u16) -> usize {
        let mut sampler = Sampler::new(shares, 7);
        (0..10_000).filter(|_| sampler.keeps(status)).count()
    }

    #[test]
    fn all_or_nothing_is_exact() {
        let shares = [1.0, 0.0, 1.0, 0.5, 1.0];
        assert_eq!(kept(shares, 200), 0);
        assert_eq!(kept(shares, 301), 10_000);
        assert_eq!(kept(shares, 0), 10_000);
        assert_eq!(kept(shares, 999), 10_000);
    }

    #[test]
    fn a_share_is_about_that_share() {
        let shares = [1.0, 0.1, 1.0, 0.5, 1.0];
        assert!((900..1100).contains(&kept(shares, 200)));
        assert!((4800..5200).contains(&kept(shares, 404)));
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let decide = |seed| {
            let mut sampler = Sampler::new([0.5; 5], seed);
            (0..64).map(|_| sampler.keeps(200)).collect::<Vec<_>>()
        };
        assert_eq!(decide(1), decide(1));
        assert_ne!(decide(1), decide(2));
    }
}
