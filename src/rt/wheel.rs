//! The hierarchical timer wheel: pure, the time is a parameter. It knows keys and deadlines, not
//! tasks; `timer.rs` is what tasks use. Every operation is O(1); a timer that is moved to a later
//! time stays where it is and is sorted in again when its old place comes up.

use crate::base::time::Instant;
use slab::Slab;

/// log2 of the tick in nanoseconds: a tick is 4.19 ms.
const TICK_SHIFT: u32 = 22;
/// log2 of the slots in a level.
const LEVEL_SHIFT: u32 = 6;
const SLOTS: usize = 1 << LEVEL_SHIFT;
/// Seven levels of six bits hold the 42 bits that a tick number can have.
const LEVELS: usize = 7;
const NIL: u32 = u32::MAX;
const NOWHERE: u16 = u16::MAX;

/// The name of a timer in its wheel.
pub type Key = u32;

struct Entry<P> {
    deadline: Instant,
    next: u32,
    prev: u32,
    /// `level << 6 | slot`, or `NOWHERE` when not linked.
    place: u16,
    payload: P,
}

struct Level {
    occupied: u64,
    heads: [u32; SLOTS],
}

/// Timers by deadline, each with a payload `P`.
pub struct Wheel<P> {
    /// Everything up to this tick was handed out.
    tick: u64,
    levels: [Level; LEVELS],
    entries: Slab<Entry<P>>,
    /// Reused by `expire`.
    due: Vec<(Instant, Key)>,
}

/// The first tick that is not before `at`; the last tick stands for all that is beyond it.
const fn tick_of(at: Instant) -> u64 {
    let nanos = at.as_nanos();
    let floor = nanos >> TICK_SHIFT;
    if floor << TICK_SHIFT == nanos || floor == u64::MAX >> TICK_SHIFT {
        floor
    } else {
        floor + 1
    }
}

const fn time_of(tick: u64) -> Instant {
    match tick.checked_mul(1 << TICK_SHIFT) {
        Some(nanos) => Instant::from_nanos(nanos),
        None => Instant::FAR,
    }
}

impl<P> Wheel<P> {
    /// Memory of one timer.
    #[cfg(test)]
    pub const ENTRY_SIZE: usize = size_of::<Entry<P>>();

    /// An empty wheel whose time starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            tick: now.as_nanos() >> TICK_SHIFT,
            levels: std::array::from_fn(|_| Level {
                occupied: 0,
                heads: [NIL; SLOTS],
            }),
            entries: Slab::new(),
            due: Vec::new(),
        }
    }

    /// Number of timers, armed or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no timer at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new timer, not armed.
    pub fn insert(&mut self, payload: P) -> Key {
        let key = self.entries.insert(Entry {
            deadline: Instant::FAR,
            next: NIL,
            prev: NIL,
            place: NOWHERE,
            payload,
        });
        Key::try_from(key).unwrap_or(NIL)
    }

    /// Takes a timer out; its payload comes back.
    pub fn remove(&mut self, key: Key) -> Option<P> {
        self.unlink(key);
        self.entries
            .try_remove(key as usize)
            .map(|entry| entry.payload)
    }

    /// The payload of a timer.
    pub fn payload(&mut self, key: Key) -> Option<&mut P> {
        self.entries
            .get_mut(key as usize)
            .map(|entry| &mut entry.payload)
    }

    /// When the timer is due; `FAR` when it is not armed.
    #[must_use]
    pub fn deadline(&self, key: Key) -> Instant {
        self.entries
            .get(key as usize)
            .map_or(Instant::FAR, |entry| entry.deadline)
    }

    /// Arms the timer. A later deadline than before is only noted.
    pub fn set(&mut self, key: Key, deadline: Instant) {
        let tick = self.tick;
        let Some(entry) = self.entries.get_mut(key as usize) else {
            return;
        };
        entry.deadline = deadline;
        if entry.place != NOWHERE {
            if tick_of(deadline) >= start_of(tick, entry.place) {
                return;
            }
            self.unlink(key);
        }
        // A deadline that has passed goes to the next tick: it was not due when the wheel last turned.
        let at = tick_of(deadline).max(self.tick + 1);
        if deadline != Instant::FAR {
            self.link(key, at);
        }
    }

    /// Disarms the timer, as a plain store.
    pub fn clear(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(key as usize) {
            entry.deadline = Instant::FAR;
        }
    }

    /// When the wheel has to be turned next; `None` when nothing is in it.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next_place()
            .map(|(place, _)| time_of(start_of(self.tick, place)))
    }

    /// Turns the wheel to `now` and hands out what is due, earliest first; those timers are
    /// disarmed. Never hands out a timer before its deadline.
    pub fn expire(&mut self, now: Instant, mut fire: impl FnMut(Key, &mut P)) {
        let target = now.as_nanos() >> TICK_SHIFT;
        let mut due = std::mem::take(&mut self.due);
        while let Some((place, start)) = self.next_place().filter(|(_, start)| *start <= target) {
            self.tick = start;
            self.empty_slot(place, &mut due);
        }
        self.tick = self.tick.max(target);
        due.sort_unstable();
        for (_, key) in due.drain(..) {
            if let Some(entry) = self.entries.get_mut(key as usize) {
                entry.deadline = Instant::FAR;
                fire(key, &mut entry.payload);
            }
        }
        self.due = due;
    }

    /// The earliest occupied slot and the tick at which it starts. A lower level is always
    /// earlier: its slots lie inside the present slot of the level above.
    fn next_place(&self) -> Option<(u16, u64)> {
        let (level, slots) = self
            .levels
            .iter()
            .enumerate()
            .find(|(_, level)| level.occupied != 0)?;
        let slot = slots.occupied.trailing_zeros();
        let place = u16::try_from((level << LEVEL_SHIFT) as u32 | slot).ok()?;
        Some((place, start_of(self.tick, place)))
    }

    fn empty_slot(&mut self, place: u16, due: &mut Vec<(Instant, Key)>) {
        let (level, slot) = split(place);
        let Some(slots) = self.levels.get_mut(level) else {
            return;
        };
        slots.occupied &= !(1 << slot);
        let mut key = slots
            .heads
            .get_mut(slot)
            .map_or(NIL, |head| std::mem::replace(head, NIL));
        while let Some(entry) = self.entries.get_mut(key as usize) {
            let (this, deadline) = (key, entry.deadline);
            key = entry.next;
            (entry.next, entry.prev, entry.place) = (NIL, NIL, NOWHERE);
            if deadline == Instant::FAR {
                continue;
            }
            let at = tick_of(deadline);
            if at <= self.tick {
                due.push((deadline, this));
            } else {
                self.link(this, at);
            }
        }
    }

    /// Puts an unlinked timer where tick `at` (later than the present one) belongs.
    fn link(&mut self, key: Key, at: u64) {
        let differing = 63 - (self.tick ^ at).leading_zeros().min(63);
        let level = (differing / LEVEL_SHIFT) as usize;
        let slot = ((at >> (level as u32 * LEVEL_SHIFT)) & (SLOTS as u64 - 1)) as usize;
        let Some(slots) = self.levels.get_mut(level) else {
            return;
        };
        let Some(head) = slots.heads.get_mut(slot) else {
            return;
        };
        slots.occupied |= 1 << slot;
        let second = std::mem::replace(head, key);
        if let Some(entry) = self.entries.get_mut(second as usize) {
            entry.prev = key;
        }
        if let Some(entry) = self.entries.get_mut(key as usize) {
            entry.next = second;
            entry.prev = NIL;
            entry.place = (level << LEVEL_SHIFT | slot) as u16;
        }
    }

    fn unlink(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(key as usize) else {
            return;
        };
        if entry.place == NOWHERE {
            return;
        }
        let (next, prev, place) = (entry.next, entry.prev, entry.place);
        (entry.next, entry.prev, entry.place) = (NIL, NIL, NOWHERE);
        if let Some(after) = self.entries.get_mut(next as usize) {
            after.prev = prev;
        }
        if let Some(before) = self.entries.get_mut(prev as usize) {
            before.next = next;
            return;
        }
        let (level, slot) = split(place);
        let Some(slots) = self.levels.get_mut(level) else {
            return;
        };
        if let Some(head) = slots.heads.get_mut(slot) {
            *head = next;
        }
        if next == NIL {
            slots.occupied &= !(1 << slot);
        }
    }
}

const fn split(place: u16) -> (usize, usize) {
    (
        (place >> LEVEL_SHIFT) as usize,
        place as usize & (SLOTS - 1),
    )
}

/// The first tick of a slot, seen from tick `now`.
const fn start_of(now: u64, place: u16) -> u64 {
    let (level, slot) = split(place);
    let low = level as u32 * LEVEL_SHIFT;
    let round = (now >> low) >> LEVEL_SHIFT << LEVEL_SHIFT;
    (round | slot as u64) << low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn ms(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000)
    }

    fn fired(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.expire(now, |_, payload| out.push(*payload));
        out
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut wheel = Wheel::new(ms(0));
        for (name, at) in [(1, 900), (2, 30), (3, 100_000), (4, 31)] {
            let key = wheel.insert(name);
            wheel.set(key, ms(at));
        }
        assert!(fired(&mut wheel, ms(29)).is_empty());
        assert_eq!(fired(&mut wheel, ms(40)), [2, 4]);
        assert!(fired(&mut wheel, ms(899)).is_empty());
        assert_eq!(fired(&mut wheel, ms(200_000)), [1, 3]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_later_deadline_stays_in_its_slot_and_still_comes() {
        let mut wheel = Wheel::new(ms(0));
        let key = wheel.insert(7);
        wheel.set(key, ms(50));
        let first = wheel.next();
        wheel.set(key, ms(5_000));
        assert_eq!(wheel.next(), first);
        assert!(fired(&mut wheel, ms(100)).is_empty());
        assert!(fired(&mut wheel, ms(4_999)).is_empty());
        assert_eq!(fired(&mut wheel, ms(5_010)), [7]);
    }

    #[test]
    fn cleared_and_removed_timers_do_not_fire_and_the_wheel_becomes_empty() {
        let mut wheel = Wheel::new(ms(0));
        let (a, b) = (wheel.insert(1), wheel.insert(2));
        wheel.set(a, ms(50));
        wheel.set(b, ms(50));
        wheel.clear(a);
        assert_eq!(wheel.remove(b), Some(2));
        assert!(fired(&mut wheel, ms(1_000)).is_empty());
        assert_eq!(wheel.next(), None);
        wheel.set(a, ms(1_500));
        assert_eq!(fired(&mut wheel, ms(1_510)), [1]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::new(ms(1_000));
        let key = wheel.insert(1);
        wheel.set(key, ms(3));
        assert_eq!(fired(&mut wheel, ms(1_010)), [1]);
    }

    #[test]
    fn the_farthest_deadlines_have_a_place() {
        let mut wheel = Wheel::new(ms(0));
        let key = wheel.insert(1);
        wheel.set(key, Instant::from_nanos(u64::MAX - 1));
        assert!(wheel.next().is_some());
        wheel.set(key, ms(10));
        assert_eq!(fired(&mut wheel, ms(20)), [1]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(usize, u64),
        Clear(usize),
        Replace(usize),
        Pass(u64),
        PassToNext,
    }

    fn op() -> impl Strategy<Value = Op> {
        let span = prop_oneof![0_u64..40, 0_u64..2_000, 0_u64..100_000_000];
        prop_oneof![
            4 => (0_usize..12, span.clone()).prop_map(|(i, d)| Op::Set(i, d)),
            1 => (0_usize..12).prop_map(Op::Clear),
            1 => (0_usize..12).prop_map(Op::Replace),
            2 => span.prop_map(Op::Pass),
            2 => Just(Op::PassToNext),
        ]
    }

    proptest! {
        /// Against a plain sorted map: nothing early, nothing more than a tick late, in order,
        /// nothing twice, nothing lost.
        #[test]
        fn agrees_with_a_sorted_map(start in 0_u64..1 << 50, ops in proptest::collection::vec(op(), 1..120)) {
            let mut now = Instant::from_nanos(start);
            let mut wheel = Wheel::new(now);
            let mut keys: Vec<Key> = (0..12).map(|i| wheel.insert(i)).collect();
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Set(i, d) => {
                        let at = now + Duration::from_micros(d * 997);
                        wheel.set(keys[i], at);
                        model.insert(i as u32, at);
                    }
                    Op::Clear(i) => { wheel.clear(keys[i]); model.remove(&(i as u32)); }
                    Op::Replace(i) => {
                        prop_assert_eq!(wheel.remove(keys[i]), Some(i as u32));
                        keys[i] = wheel.insert(i as u32);
                        model.remove(&(i as u32));
                    }
                    Op::Pass(d) => now = now + Duration::from_micros(d * 991),
                    Op::PassToNext => now = wheel.next().unwrap_or(now).max(now),
                }
                let mut last = Instant::ZERO;
                let mut out = Vec::new();
                wheel.expire(now, |_, name| out.push(*name));
                for name in out {
                    let at = model.remove(&name);
                    prop_assert!(at.is_some_and(|at| at <= now && at >= last), "{} fired at {:?}", name, now);
                    last = at.unwrap_or_default();
                }
                let tick = Duration::from_nanos(1 << TICK_SHIFT);
                for at in model.values() {
                    prop_assert!(*at + tick > now, "{:?} was missed at {:?}", at, now);
                }
                for (i, key) in keys.iter().enumerate() {
                    let at = model.get(&(i as u32)).copied().unwrap_or(Instant::FAR);
                    prop_assert_eq!(wheel.deadline(*key), at);
                }
                prop_assert!(model.is_empty() || wheel.next().is_some_and(|next| next + tick > now));
            }
        }
    }
}
