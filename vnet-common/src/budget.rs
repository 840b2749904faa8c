//! What a device may still cause in this tick: ICMP errors, copies of what is for many, and flows that do not come about;
//! and the last of these for somebody outside.

use crate::{
    limits::{ERRORS_PER_TICK, FLOODS_PER_TICK, NEWCOMERS_OF_SOURCE, NEWCOMERS_PER_TICK},
    shared, ticks_from_secs,
};

/// What packets that came in at a device have caused in a tick, on one CPU.
///
/// Layout: `tick` u32, `errors` u32, `floods` u32, `newcomers` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    tick: u32,
    errors: u32,
    floods: u32,
    newcomers: u32,
}

impl Budget {
    /// Spends an ICMP error in the tick `now`; `false` when all of that tick's are spent.
    #[inline(always)]
    pub const fn spend_error(&mut self, now: u32) -> bool {
        self.turn(now);
        spend(&mut self.errors, ERRORS_PER_TICK)
    }

    /// Spends a frame for many in the tick `now`; `false` when all of that tick's are spent.
    #[inline(always)]
    pub const fn spend_flood(&mut self, now: u32) -> bool {
        self.turn(now);
        spend(&mut self.floods, FLOODS_PER_TICK)
    }

    /// Spends a flow in the tick `now`; `false` when all of that tick's are spent.
    #[inline(always)]
    pub const fn spend_newcomer(&mut self, now: u32) -> bool {
        self.turn(now);
        spend(&mut self.newcomers, NEWCOMERS_PER_TICK)
    }

    /// Gives a flow back, if one was spent in the tick `now`.
    #[inline(always)]
    pub const fn give_newcomer_back(&mut self, now: u32) {
        if self.tick == now && self.newcomers > 0 {
            self.newcomers -= 1;
        }
    }

    /// Each tick begins with nothing spent.
    #[inline(always)]
    const fn turn(&mut self, now: u32) {
        if self.tick != now {
            *self = Self { tick: now, errors: 0, floods: 0, newcomers: 0 };
        }
    }
}

#[inline(always)]
const fn spend(spent: &mut u32, limit: u32) -> bool {
    let has_one = *spent < limit;
    *spent += has_one as u32;
    has_one
}

/// Somebody outside who is where the source address says, and the flows of TCP that they have opened in a tick, on all CPUs.
///
/// CPUs that count at once may lose one of both counts: the limit holds but for these.
///
/// Layout: `known` u32, `tick` u32, `newcomers` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Genuine {
    known: u32,
    tick: u32,
    newcomers: u32,
}

impl Genuine {
    /// Ticks for which it is believed that somebody is there: 10 minutes.
    const BELIEVED: u32 = ticks_from_secs(600);

    /// Somebody of whom it is known since the tick `now`.
    #[inline(always)]
    #[must_use]
    pub const fn since(now: u32) -> Self {
        Self { known: now, tick: now, newcomers: 0 }
    }

    /// Notes that it was shown again in the tick `now`. What they have spent stays so.
    #[inline(always)]
    pub const fn renew(&mut self, now: u32) {
        self.known = now;
    }

    /// Whether that is believed in the tick `now`.
    #[inline(always)]
    pub const fn is_believed(&self, now: u32) -> bool {
        now.wrapping_sub(self.known) <= Self::BELIEVED
    }

    /// Whether not all flows of the tick `now` are spent.
    #[inline(always)]
    pub const fn has_newcomers(&self, now: u32) -> bool {
        self.tick != now || self.newcomers < NEWCOMERS_OF_SOURCE
    }

    /// Spends a flow in the tick `now`; `false` when all of that tick's are spent.
    #[inline(always)]
    pub const fn spend_newcomer(&mut self, now: u32) -> bool {
        if self.tick != now {
            (self.tick, self.newcomers) = (now, 0);
        }
        spend(&mut self.newcomers, NEWCOMERS_OF_SOURCE)
    }

    /// Gives a flow back, if one was spent in the tick `now`.
    #[inline(always)]
    pub const fn give_newcomer_back(&mut self, now: u32) {
        if self.tick == now {
            self.newcomers = self.newcomers.saturating_sub(1);
        }
    }
}

shared! {
    Budget = 16,
    Genuine = 12,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tick_has_its_own_errors_and_floods() {
        let mut budget = Budget::default();
        let spent = |budget: &mut Budget, tick| {
            let errors = (0..10_000).filter(|_| budget.spend_error(tick)).count();
            (errors, (0..10_000).filter(|_| budget.spend_flood(tick)).count())
        };
        assert_eq!([7, 7, 8].map(|tick| spent(&mut budget, tick)), [(50, 5000), (0, 0), (50, 5000)]);
    }

    #[test]
    fn a_flow_that_comes_about_is_given_back_in_its_tick() {
        let mut budget = Budget::default();
        let open = |budget: &mut Budget, tick| (0..10_000).filter(|_| budget.spend_newcomer(tick)).count();
        assert_eq!(open(&mut budget, 7), 2000);
        (0..3).for_each(|_| budget.give_newcomer_back(7));
        assert_eq!(open(&mut budget, 7), 3);
        budget.give_newcomer_back(8);
        assert_eq!((open(&mut budget, 7), open(&mut budget, 8)), (0, 2000));
        let mut fresh = Budget::default();
        fresh.give_newcomer_back(0);
        assert_eq!(open(&mut fresh, 0), 2000);
    }

    #[test]
    fn who_shows_again_that_they_are_there_has_spent_what_they_have() {
        let mut known = Genuine::since(7);
        while known.spend_newcomer(700) {}
        assert!(!known.is_believed(700));
        known.renew(700);
        assert_eq!((known.is_believed(700), known.has_newcomers(700)), (true, false));
    }

    #[test]
    fn who_is_known_has_flows_of_their_own_in_each_tick() {
        let mut known = Genuine::since(7);
        let open = |known: &mut Genuine, tick| (0..10_000).filter(|_| known.spend_newcomer(tick)).count();
        assert_eq!(
            (open(&mut known, 7), known.has_newcomers(7), known.has_newcomers(8)),
            (1000, false, true)
        );
        (0..3).for_each(|_| known.give_newcomer_back(7));
        assert!(known.has_newcomers(7));
        assert_eq!(open(&mut known, 7), 3);
        known.give_newcomer_back(8);
        assert_eq!((open(&mut known, 7), open(&mut known, 8)), (0, 1000));
        assert!(known.is_believed(7 + ticks_from_secs(600)));
        assert!(!known.is_believed(8 + ticks_from_secs(600)));
    }
}
