//! Compiled rules: the keys by which the datapath finds the rule that allows a packet.
//!
//! A rule becomes one entry per peer identity and port prefix. A port range is split into aligned
//! power-of-two blocks, so a probe for `port` with its low bits cleared finds the block; the *head*
//! of each (set, direction, identity, protocol) says which block sizes exist. A decision therefore
//! costs at most four heads and their blocks, whatever the number of rules.

use crate::{Side, shared};

/// Number of a distinct set of security groups; ports with the same groups share it. Those of ports count
/// from 1 to below [`GROUP_SET_ACL`].
///
/// In the records of ports and endpoints two bits on top, the *gates*, tell whether the acl has rules for a
/// direction, so that without any no look-up is spent on it. Keys are made without them.
pub type GroupSet = u32;

/// The host's own set: its ingress rules are the failsafe ports, which win over all that keeps a port from
/// the host. Their peers are [`Identity::ANY_V4`] and [`Identity::ANY_V6`].
pub const GROUP_SET_HOST: GroupSet = 0;
/// The set under which the acl stands, which goes before every port's own.
pub const GROUP_SET_ACL: GroupSet = GATE_EGRESS_ACL - 1;
/// Gate: the acl has ingress rules.
pub const GATE_INGRESS_ACL: GroupSet = 1 << 31;
/// Gate: the acl has egress rules.
pub const GATE_EGRESS_ACL: GroupSet = 1 << 30;

/// Whether the gates of `set`, as it stands in a record, say that the acl has rules for `direction`.
#[inline(always)]
#[must_use]
pub const fn has_acl(set: GroupSet, direction: Direction) -> bool {
    let gate = match direction {
        Direction::Ingress => GATE_INGRESS_ACL,
        Direction::Egress => GATE_EGRESS_ACL,
    };
    set & gate != 0
}

/// Id of the rule that decided, as `sg list` prints it (hexadecimal). 0 is no rule.
pub type RuleId = u32;

/// Which way, as seen from the workload.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the workload.
    Ingress = 0,
    /// From the workload.
    Egress = 1,
}

/// Who a packet's other end is to the rules: one number per distinct combination of groups, network
/// and prefixes that some rule could name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u32);

impl Identity {
    /// Nobody that a rule names.
    pub const UNKNOWN: Self = Self(0);
    /// Any IPv4 peer.
    pub const ANY_V4: Self = Self(1);
    /// Any IPv6 peer.
    pub const ANY_V6: Self = Self(2);
    /// The first that the compiler gives out.
    pub const FIRST: Self = Self(16);
}

/// Key of a compiled rule, or of the head of its kind.
///
/// Layout: `set` u32, `identity` u32, `port` u16, `protocol` u8, `scope` u8: bit 7 the side, bit 6
/// egress, bits 0 to 5 the prefix length of `port` (0 to 16), or all ones in a head.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    set: GroupSet,
    identity: u32,
    port: u16,
    protocol: u8,
    scope: u8,
}

impl PolicyKey {
    const HEAD: u8 = 0x3f;

    /// The head: its value has bit `n` set when blocks of prefix length `n` exist. The gates of `set` are
    /// left out.
    #[inline(always)]
    #[must_use]
    pub const fn head(
        side: Side,
        set: GroupSet,
        direction: Direction,
        identity: Identity,
        protocol: u8,
    ) -> Self {
        let scope = (side as u8) << 7 | (direction as u8) << 6 | Self::HEAD;
        let set = set & !(GATE_INGRESS_ACL | GATE_EGRESS_ACL);
        Self { set, identity: identity.0, port: 0, protocol, scope }
    }

    /// The block of `port` with `prefix_len` significant bits, of the same kind as this head. Its
    /// value tells the rule. For ICMP, `port` is type × 256 + code.
    #[inline(always)]
    #[must_use]
    pub const fn block(self, port: u16, prefix_len: u8) -> Self {
        let port = (port as u32 & !(0xffff >> prefix_len)) as u16;
        Self { port, scope: self.scope & !Self::HEAD | prefix_len, ..self }
    }

    /// Whether this is a head.
    #[must_use]
    pub const fn is_head(self) -> bool {
        self.scope & Self::HEAD == Self::HEAD
    }

    /// The same key on `side`.
    #[must_use]
    pub const fn on_side(self, side: Side) -> Self {
        Self { scope: self.scope & 0x7f | (side as u8) << 7, ..self }
    }

    /// Which copy the key belongs to.
    #[must_use]
    pub const fn side(self) -> Side {
        (self.scope >> 7) as Side
    }
}

/// What becomes of a flow that a rule allowed, when no rule allows it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnChange {
    /// It is cut.
    #[default]
    Cut,
    /// It stays.
    Keep,
}

/// What an acl rule does to the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclAction {
    /// Drops them.
    Deny,
    /// Admits them, whatever the groups say.
    Allow,
}

/// Value of a [`PolicyKey`].
///
/// Layout: `word` u32: in a head the sizes of blocks, in a block the [`RuleId`]; `rank` u32: under
/// [`GROUP_SET_ACL`] bits 1 to 31 the position and bit 0 whether it denies, under another set bit 0 whether the
/// rule keeps its flows, in a head 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyEntry {
    word: u32,
    rank: u32,
}

impl PolicyEntry {
    /// Positions in an acl count from 0 to below this.
    pub const MAX_POSITIONS: u32 = 1 << 31;

    /// A head: bit `n` is set when blocks of prefix length `n` exist.
    #[must_use]
    pub const fn head(sizes: u32) -> Self {
        Self { word: sizes, rank: 0 }
    }

    /// A rule of a security group.
    #[must_use]
    pub const fn group(rule: RuleId, on_change: OnChange) -> Self {
        Self { word: rule, rank: matches!(on_change, OnChange::Keep) as u32 }
    }

    /// The acl rule at `position`, counted from 0, below [`Self::MAX_POSITIONS`].
    #[must_use]
    pub const fn acl(rule: RuleId, position: u32, action: AclAction) -> Self {
        Self { word: rule, rank: position << 1 | matches!(action, AclAction::Deny) as u32 }
    }

    /// A head's sizes of blocks.
    #[inline(always)]
    #[must_use]
    pub const fn sizes(self) -> u32 {
        self.word
    }

    /// A block's rule.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> RuleId {
        self.word
    }

    /// Whether a group's rule keeps its flows when no rule allows them any more.
    #[inline(always)]
    #[must_use]
    pub const fn keeps(self) -> bool {
        self.rank & 1 == 1
    }

    /// The position of an acl rule: the lowest that matches decides.
    #[inline(always)]
    #[must_use]
    pub const fn position(self) -> u32 {
        self.rank >> 1
    }

    /// Whether an acl rule denies.
    #[inline(always)]
    #[must_use]
    pub const fn denies(self) -> bool {
        self.rank & 1 == 1
    }
}

shared! {
    PolicyKey = 12,
    PolicyEntry = 8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_the_significant_bits_of_its_port() {
        let head = PolicyKey::head(1, 7, Direction::Egress, Identity::ANY_V4, 6);
        assert_eq!(head.block(8081, 16).port, 8081);
        assert_eq!(head.block(8081, 12).port, 8080);
        assert_eq!(head.block(8081, 0).port, 0);
        assert!(head.is_head() && !head.block(8081, 16).is_head());
        assert_eq!((head.block(8081, 12).side(), head.on_side(0).side()), (1, 0));
    }

    #[test]
    fn gates_do_not_make_another_key() {
        let key = |set| PolicyKey::head(0, set, Direction::Ingress, Identity::ANY_V4, 6);
        assert_eq!(key(7 | GATE_INGRESS_ACL | GATE_EGRESS_ACL), key(7));
        assert!(
            has_acl(7 | GATE_INGRESS_ACL, Direction::Ingress)
                && !has_acl(7 | GATE_INGRESS_ACL, Direction::Egress)
        );
        assert_eq!(GROUP_SET_ACL & (GATE_INGRESS_ACL | GATE_EGRESS_ACL), 0);
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let last = PolicyEntry::MAX_POSITIONS - 1;
        for (position, action) in [(0, AclAction::Deny), (last, AclAction::Allow)] {
            let entry = PolicyEntry::acl(9, position, action);
            assert_eq!(
                (entry.rule(), entry.position(), entry.denies()),
                (9, position, action == AclAction::Deny)
            );
        }
        assert!(
            PolicyEntry::group(9, OnChange::Keep).keeps() && !PolicyEntry::group(9, OnChange::Cut).keeps()
        );
        assert_eq!(PolicyEntry::head(5).sizes(), 5);
    }
}
