//! Compiled rules: the keys by which the datapath finds the rule that allows a packet.
//!
//! A rule becomes one entry per peer identity and port prefix. A port range is split into aligned
//! power-of-two blocks, so a probe for `port` with its low bits cleared finds the block; the *head*
//! of each (set, direction, identity, protocol) says which block sizes exist. A decision therefore
//! costs at most four heads and their blocks, whatever the number of rules.

use crate::{Side, shared};

/// Id of a distinct set of security groups; ports with the same groups share it. 0 is the empty set.
pub type GroupSet = u32;

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

    /// The head: its value has bit `n` set when blocks of prefix length `n` exist.
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
        Self { set, identity: identity.0, port: 0, protocol, scope }
    }

    /// The block of `port` with `prefix_len` significant bits, of the same kind as this head. Its
    /// value is a [`RuleId`]. For ICMP, `port` is type × 256 + code.
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

shared! { PolicyKey = 12 }

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
}
