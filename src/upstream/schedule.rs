//! A fixed order of turns in which every entry comes up as often as its weight says, spread as
//! evenly as possible. Made once; taking a turn is one array access. Not a balancer: it knows
//! nothing of the state of the entries.

/// The most turns of a schedule (unless there are more entries): 32 KiB of memory.
const TURNS_MAX: u64 = 8192;

/// Whose turn it is, over and over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    turns: Box<[u32]>,
}

impl Schedule {
    /// Makes the order from `(entry, weight)` pairs. Entries of weight 0 get no turn.
    ///
    /// Weights are exact as long as their sum, divided by their greatest common divisor, is at
    /// most 8192; above they are rounded to that many turns, with at least one for each entry.
    #[must_use]
    pub fn new(entries: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut shares: Vec<Share> = entries
            .filter(|(_, weight)| *weight > 0)
            .map(|(entry, weight)| Share {
                entry,
                turns: u64::from(weight),
            })
            .collect();
        fit(&mut shares);
        // Entries with equal shares are staggered: otherwise they would all stand side by side.
        shares.sort_by_key(|share| (share.turns, share.entry));
        let total: u64 = shares.iter().map(|share| share.turns).sum();
        let mut placed: Vec<(u64, u32)> = Vec::with_capacity(usize_from(total));
        for group in shares.chunk_by(|a, b| a.turns == b.turns) {
            place(group, total, &mut placed);
        }
        placed.sort_unstable();
        Self {
            turns: placed.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    /// How many turns there are before the order repeats.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether no entry has a turn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Where cursor number `part` of `parts` starts, so that several users of one schedule do not
    /// all begin with the same entry.
    #[must_use]
    pub fn start(&self, part: usize, parts: usize) -> usize {
        self.len()
            .checked_mul(part)
            .and_then(|product| product.checked_div(parts))
            .and_then(|start| start.checked_rem(self.len()))
            .unwrap_or(0)
    }

    /// The entry at the cursor, which moves on.
    pub fn take(&self, cursor: &mut usize) -> Option<u32> {
        let entry = self.turns.get(*cursor).or_else(|| {
            *cursor = 0;
            self.turns.first()
        })?;
        *cursor += 1;
        Some(*entry)
    }
}

struct Share {
    entry: u32,
    turns: u64,
}

/// Divides the weights by their greatest common divisor and rounds them when they are too many.
fn fit(shares: &mut [Share]) {
    let divisor = shares.iter().fold(0, |gcd, share| common(gcd, share.turns));
    for share in shares.iter_mut() {
        share.turns = share.turns.checked_div(divisor).unwrap_or(0);
    }
    let sum: u64 = shares.iter().map(|share| share.turns).sum();
    let bound = TURNS_MAX.max(2 * shares.len() as u64);
    if sum <= bound {
        return;
    }
    for share in shares.iter_mut() {
        let scaled = (u128::from(share.turns) * u128::from(bound) + u128::from(sum) / 2)
            .checked_div(u128::from(sum))
            .unwrap_or(0);
        share.turns = u64::try_from(scaled).unwrap_or(bound).max(1);
    }
}

fn common(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

/// Gives every entry of a group with equal shares its evenly spaced places on the circle.
fn place(group: &[Share], total: u64, placed: &mut Vec<(u64, u32)>) {
    let members = group.len() as u64;
    for (rank, share) in group.iter().enumerate() {
        let slots = 2 * members * share.turns;
        for turn in 0..share.turns {
            let step = 2 * (turn * members + rank as u64) + 1;
            // 20 bits behind the point tell places within one turn apart.
            let at = ((u128::from(step) * u128::from(total)) << 20)
                .checked_div(u128::from(slots))
                .unwrap_or(0);
            placed.push((u64::try_from(at).unwrap_or(u64::MAX), share.entry));
        }
    }
}

fn usize_from(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(weights: &[u32]) -> Schedule {
        Schedule::new((0_u32..).zip(weights.iter().copied()))
    }

    fn turns(weights: &[u32]) -> Vec<u32> {
        schedule(weights).turns.into_vec()
    }

    #[test]
    fn equal_weights_come_in_the_order_of_the_file() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[7, 7]), [0, 1]);
    }

    #[test]
    fn a_heavy_entry_is_interleaved_with_the_light_ones() {
        assert_eq!(turns(&[5, 1, 1]), [0, 1, 0, 0, 0, 2, 0]);
        assert_eq!(turns(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(turns(&[2, 1]), [0, 1, 0]);
    }

    #[test]
    fn weight_zero_has_no_turn() {
        assert_eq!(turns(&[0, 4, 0]), [1]);
        assert!(schedule(&[0, 0]).is_empty());
        assert!(schedule(&[]).is_empty());
        assert_eq!(schedule(&[]).take(&mut 0), None);
        assert_eq!(schedule(&[]).start(1, 2), 0);
    }

    #[test]
    fn an_order_repeats() {
        let s = schedule(&[2, 1]);
        let mut cursor = 2;
        let seen: Vec<_> = (0..5).filter_map(|_| s.take(&mut cursor)).collect();
        assert_eq!(seen, [0, 0, 1, 0, 0]);
    }

    #[test]
    fn starts_are_spread() {
        let s = schedule(&[1, 1, 1, 1]);
        let starts: Vec<_> = (0..4).map(|part| s.start(part, 4)).collect();
        assert_eq!(starts, [0, 1, 2, 3]);
        assert_eq!(s.start(5, 0), 0);
        assert_eq!(s.start(9, 4), 1);
    }

    #[test]
    fn huge_weights_are_bounded_and_nobody_starves() {
        let s = schedule(&[u32::MAX, 1, u32::MAX - 1]);
        assert!(s.len() <= 8192 + 3, "{}", s.len());
        assert!(s.turns.contains(&1));
        let many = Schedule::new((0..20_000).map(|i| (i, 1 + i % 7)));
        assert!(many.len() <= 3 * 20_000, "{}", many.len());
    }

    proptest! {
        #[test]
        fn every_entry_has_its_share(weights in prop::collection::vec(0_u32..2000, 1..40)) {
            let s = schedule(&weights);
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for (entry, weight) in (0_u32..).zip(&weights) {
                let count = s.turns.iter().filter(|t| **t == entry).count();
                if *weight == 0 {
                    prop_assert_eq!(count, 0);
                } else {
                    let share = f64::from(*weight) / sum as f64;
                    let got = count as f64 / s.len() as f64;
                    prop_assert!((share - got).abs() < 0.001, "{} {}", share, got);
                }
            }
        }

        #[test]
        fn any_stretch_is_close_to_the_shares(
            weights in prop::collection::vec(1_u32..50, 1..12),
            start in 0_usize..500,
            length in 1_usize..300,
        ) {
            let s = schedule(&weights);
            let sum: u32 = weights.iter().sum();
            let mut cursor = start % s.len();
            let mut counts = vec![0_i64; weights.len()];
            for _ in 0..length {
                counts[s.take(&mut cursor).unwrap() as usize] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let due = length as f64 * f64::from(*weight) / f64::from(sum);
                prop_assert!((*count as f64 - due).abs() <= 4.0, "{} {} {:?}", count, due, weights);
            }
        }
    }
}
