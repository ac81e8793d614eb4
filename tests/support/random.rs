//! Seeded random numbers for tests that print their seed. Not for secrets.

use std::ops::RangeInclusive;

/// A stream of numbers determined by its key (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub struct Random(u64);

impl Random {
    pub fn of(key: &[u64]) -> Self {
        let start = Self(0x243F_6A88_85A3_08D3);
        key.iter().fold(start, |mut random, part| Self(random.next() ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, its ends included; the bias is far below what a test could see.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// One of so many.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.within(0..=count as u64 - 1)).expect("an index")
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.within(0..=items.len() as u64 - 1)).expect("an index")]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.within(0..=last as u64)).expect("an index"));
        }
    }
}
