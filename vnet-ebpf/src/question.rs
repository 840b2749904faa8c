//! What the rules are asked, and what they answer: both fit registers.

use vnet_common::{Direction, GroupSet, PolicyEntry, RuleId, Side};

use crate::headers::Service;

/// Whether rules admit something.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What is asked for.
    pub service: Service,
    /// The side that the packet reads.
    pub side: Side,
    /// Which way, as seen from the end that is asked.
    pub direction: Direction,
    /// The groups of that end.
    pub set: GroupSet,
    /// The identity of the other end.
    pub peer: u32,
}

/// What the rules of one end say: a word, so that it comes out of a function in a register.
///
/// Bits 0 to 31 are the rule; bit 32 is that of the entry's rank: whether an acl rule denies, or a group's
/// keeps; bit 62 tells an acl rule; bit 63 that there is a rule at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer(u64);

impl Answer {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    const FOUND: u64 = 1 << 63;
    const ACL: u64 = 1 << 62;

    /// As a word.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From [`Answer::to_bits`].
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A rule of a group.
    #[inline(always)]
    #[must_use]
    pub const fn group(entry: PolicyEntry) -> Self {
        Self(Self::FOUND | (entry.keeps() as u64) << 32 | entry.rule() as u64)
    }

    /// From a rank above a rule, whose lowest bit says whether it denies.
    #[inline(always)]
    #[must_use]
    pub const fn acl(ranked: u64) -> Self {
        Self(Self::FOUND | Self::ACL | ranked & 0x1_ffff_ffff)
    }

    /// Whether there is a rule.
    #[inline(always)]
    #[must_use]
    pub const fn is_found(self) -> bool {
        self.0 & Self::FOUND != 0
    }

    /// Whether it is the acl's.
    #[inline(always)]
    #[must_use]
    pub const fn is_acl(self) -> bool {
        self.0 & Self::ACL != 0
    }

    /// The rule.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> RuleId {
        self.0 as u32
    }

    /// Whether the acl denies, or the group keeps.
    #[inline(always)]
    #[must_use]
    pub const fn rank_bit(self) -> bool {
        self.0 >> 32 & 1 == 1
    }
}
