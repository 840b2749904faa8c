//! How full the flow tables are, as the controller tells the programs.

/// How full the fuller flow table is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    #[default]
    None = 0,
    /// From half of it on: whoever opens flows has to show that they come about.
    Filling = 1,
    /// From three quarters on: whoever has opened more than a quarter of all that fit, and that came about, opens no more.
    Crowded = 2,
    /// From fifteen sixteenths on: what is left is the host's.
    Reserved = 3,
}

impl Pressure {
    /// From its number; those that nobody gives are the highest.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::None,
            1 => Self::Filling,
            2 => Self::Crowded,
            _ => Self::Reserved,
        }
    }

    /// That of a table in which so many of `most` flows are.
    #[must_use]
    pub const fn of(flows: u64, most: u64) -> Self {
        match (flows * 16).checked_div(most) {
            Some(8..=11) => Self::Filling,
            Some(12..=14) => Self::Crowded,
            Some(15..) => Self::Reserved,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_what_is_in_use() {
        let parts = [(0, 0), (799, 0), (800, 1), (1199, 1), (1200, 2), (1499, 2), (1500, 3), (1700, 3)];
        for (flows, word) in parts {
            assert_eq!(Pressure::of(flows, 1600), Pressure::from_word(word), "{flows} of 1600");
        }
        assert_eq!(Pressure::of(5, 0), Pressure::None, "a table that is not there");
        assert_eq!(Pressure::from_word(77), Pressure::Reserved);
    }
}
