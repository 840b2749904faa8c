//! Chance that can be repeated: every run prints its seed, and `VNET_SEED` sets it.

use std::{
    env,
    ops::Range,
    time::{Duration, SystemTime},
};

/// A sequence of numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// From `VNET_SEED`, or from the clock; the seed is printed.
    ///
    /// # Panics
    /// When `VNET_SEED` is no number.
    #[must_use]
    pub fn told() -> Self {
        let by_clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_micros() as u64);
        let seed = env::var("VNET_SEED").map_or_else(|_| by_clock(), |seed| seed.parse().expect("a number"));
        println!("VNET_SEED={seed}");
        Self::seeded(seed)
    }

    /// From `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    /// generators", 2014).
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `range`.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// A time from nothing up to `longest`.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.within(0..micros + 1))
    }
}
