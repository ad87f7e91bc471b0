//! A hash table of 32-bit values that wastes little.
//!
//! A slot is a value and its tag, 32 bits of its hash. Tags are spread over the slots in their own order and a value
//! stands at its place or behind it, so a part of the table grows by a quarter at a time, in one pass over both: between
//! 10 and 12.5 bytes a value, where a table that doubles takes 10 to 21. Below some hundred thousand values it grows by half,
//! to 15 bytes a value at most: then what it has outgrown is two of its sizes and not four, memory that the system had to
//! clear. The first bits of the tag choose the part; a part is small, so what growing leaves behind is soon used again,
//! and growing keeps nobody waiting.

const PART_BITS: u32 = 7;
/// Marks a slot without a value, so no value may be that.
const EMPTY: u32 = u32::MAX;
/// A part with fewer places grows by half.
const SMALL_HOMES: u32 = 1024;
/// Room behind the last place: few searches end there.
const TAIL: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    value: u32,
}

/// Values by their tags. Several may have the same one: the caller says which is meant.
#[derive(Clone, Debug, Default)]
pub struct TagTable {
    /// All of them once there is a value.
    parts: Box<[Part]>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// Those after the first `homes` hold what has no room before.
    slots: Vec<Slot>,
    homes: u32,
    len: u32,
}

impl TagTable {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let slots: usize = self.parts.iter().map(|p| p.slots.capacity()).sum();
        size_of_val(&*self.parts) + slots * size_of::<Slot>()
    }

    /// The first value with this tag that `is` takes.
    #[inline]
    #[must_use]
    pub fn find(&self, tag: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        let part = self.parts.get(part_of(tag))?;
        Some(part.slots[part.place(tag, is)?].value)
    }

    /// Inserts a value, less than `u32::MAX`, whatever is there already.
    pub fn insert(&mut self, tag: u32, value: u32) {
        debug_assert_ne!(value, EMPTY);
        if self.parts.is_empty() {
            self.parts = (0..1 << PART_BITS).map(|_| Part::default()).collect();
        }
        self.parts[part_of(tag)].insert(Slot { tag, value });
        self.len += 1;
    }

    /// Takes the first value with this tag that `is` takes out.
    pub fn remove(&mut self, tag: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        let value = self.parts.get_mut(part_of(tag))?.remove(tag, is)?;
        self.len -= 1;
        Some(value)
    }
}

#[inline]
fn part_of(tag: u32) -> usize {
    (tag >> (u32::BITS - PART_BITS)) as usize
}

impl Part {
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag << PART_BITS) * u64::from(self.homes)) >> 32) as usize
    }

    #[inline]
    fn place(&self, tag: u32, mut is: impl FnMut(u32) -> bool) -> Option<usize> {
        let home = self.home(tag);
        for (i, slot) in self.slots.get(home..)?.iter().enumerate() {
            if slot.value == EMPTY {
                return None;
            }
            if slot.tag == tag && is(slot.value) {
                return Some(home + i);
            }
        }
        None
    }

    fn insert(&mut self, slot: Slot) {
        if self.len >= self.homes / 5 * 4 {
            self.grow();
        }
        self.put(slot);
        self.len += 1;
    }

    fn put(&mut self, slot: Slot) {
        let home = self.home(slot.tag);
        match self.slots[home..].iter().position(|s| s.value == EMPTY) {
            Some(i) => self.slots[home + i] = slot,
            None => {
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(TAIL);
                }
                self.slots.push(slot);
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.homes += self.homes / if self.homes < SMALL_HOMES { 2 } else { 4 } + 10;
        let mut slots = Vec::with_capacity(self.homes as usize + TAIL);
        slots.resize(self.homes as usize, Slot { tag: 0, value: EMPTY });
        let old = std::mem::replace(&mut self.slots, slots);
        old.into_iter().filter(|s| s.value != EMPTY).for_each(|s| self.put(s));
    }

    fn remove(&mut self, tag: u32, is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut hole = self.place(tag, is)?;
        let value = std::mem::replace(&mut self.slots[hole].value, EMPTY);
        self.len -= 1;
        // What stands behind its place moves up, so that every search ends at the first empty slot.
        for at in hole + 1..self.slots.len() {
            let slot = self.slots[at];
            if slot.value == EMPTY {
                break;
            }
            if self.home(slot.tag) <= hole {
                self.slots[hole] = slot;
                self.slots[at].value = EMPTY;
                hole = at;
            }
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_multimap(ops in proptest::collection::vec((any::<bool>(), prop_oneof![0u32..8, Just(u32::MAX), any::<u32>()], 0u32..20), 0..400)) {
            let mut table = TagTable::default();
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (insert, tag, value) in ops {
                let at = model.iter().position(|m| *m == (tag, value));
                prop_assert_eq!(table.find(tag, |v| v == value), at.map(|_| value));
                match at {
                    Some(at) if !insert => {
                        prop_assert_eq!(table.remove(tag, |v| v == value), Some(value));
                        model.swap_remove(at);
                    }
                    None if insert => {
                        table.insert(tag, value);
                        model.push((tag, value));
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (tag, value) in &model {
                prop_assert_eq!(table.find(*tag, |v| v == *value), Some(*value));
            }
            for (tag, value) in model {
                prop_assert_eq!(table.remove(tag, |v| v == value), Some(value));
                prop_assert_eq!(table.find(tag, |v| v == value), None);
            }
            prop_assert!(table.is_empty());
        }

        #[test]
        fn it_takes_little(n in prop_oneof![1000u32..50_000, 110_000u32..200_000]) {
            let mut table = TagTable::default();
            (0..n).for_each(|i| table.insert(i.wrapping_mul(0x9e37_79b9), i));
            // Half a byte for parts that are fuller than others.
            let bytes = if n < 110_000 { 31 } else { 26 } * n as usize / 2;
            prop_assert!(table.heap_bytes() <= bytes + 32_000, "{}", table.heap_bytes());
            prop_assert!((0..n).all(|i| table.find(i.wrapping_mul(0x9e37_79b9), |v| v == i) == Some(i)));
        }
    }
}
