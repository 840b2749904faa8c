//! How many ICMP errors a device may still cause.

use crate::{limits::ERRORS_PER_TICK, shared};

/// The ICMP errors about packets that came in at a device, on one CPU.
///
/// Layout: `tick` u32, `spent` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    tick: u32,
    spent: u32,
}

impl Budget {
    /// Spends an error in the tick `now`; `false` when all of that tick's are spent.
    #[inline(always)]
    pub const fn spend(&mut self, now: u32) -> bool {
        if self.tick != now {
            *self = Self { tick: now, spent: 0 };
        }
        let has_one = self.spent < ERRORS_PER_TICK;
        self.spent += has_one as u32;
        has_one
    }
}

shared! {
    Budget = 8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tick_has_its_own_errors() {
        let mut budget = Budget::default();
        let spent = |budget: &mut Budget, tick| (0..100).filter(|_| budget.spend(tick)).count();
        assert_eq!([7, 7, 8].map(|tick| spent(&mut budget, tick)), [50, 0, 50]);
    }
}
