//! The rules of the world, and how they stand in the policy table.

use vnet_common::{AclAction, Direction, GroupSet, Identity, PolicyEntry, PolicyKey};

use super::world::{Device, number};

/// The identity of 239.1.0.0/16, which a rule of B names.
pub(super) const STREAMS: u32 = Identity::FIRST.0 + 100;
/// The identity of some stations of network W that are beyond the host, which a rule of A names.
pub(super) const LAN: u32 = Identity::FIRST.0 + 101;
const ANY: [u32; 2] = [Identity::ANY_V4.0, Identity::ANY_V6.0];

/// The rule that `Policy::WithoutHttp` lacks.
pub(super) const HTTP: u32 = 0xb1;
/// The rule by which A may send everything.
pub(super) const A_SENDS: u32 = 0xa1;

/// The rule by which A may be asked from the LAN.
pub(super) const FROM_LAN: u32 = 0xa5;
/// The rule by which A may ask D for tcp/80.
pub(super) const D_SERVES: u32 = 0x92;

/// A rule of a port's group, of the acl or of the host.
pub(super) struct Rule {
    /// Its id.
    pub(super) id: u32,
    /// Whose group it is in.
    pub(super) set: Device,
    direction: Direction,
    peers: &'static [u32],
    protocol: u8,
    ports: (u16, u16),
}

const fn rule(
    (id, set, direction): (u32, Device, Direction),
    peers: &'static [u32],
    (protocol, first, last): (u8, u16, u16),
) -> Rule {
    Rule { id, set, direction, peers, protocol, ports: (first, last) }
}

const ALL_PORTS: (u16, u16) = (0, u16::MAX);
const ECHO: u16 = 8 << 8;
const TIMESTAMP: u16 = 13 << 8;
const ECHO_V6: u16 = 128 << 8;

/// The rules of the ports.
pub(super) const RULES: &[Rule] = {
    use Direction::{Egress as Out, Ingress as In};
    const A: &[u32] = &[number(Device::A)];
    const B: &[u32] = &[number(Device::B)];
    const G: &[u32] = &[number(Device::W)];
    // Port D's number; its own host knows its device.
    const D: &[u32] = &[number(Device::BeyondW)];
    &[
        rule((A_SENDS, Device::A, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xa2, Device::A, In), B, (6, 9000, 9000)),
        rule((0xa3, Device::A, In), &ANY, (17, 5000, 5000)),
        rule((0xa4, Device::A, In), D, (6, 9002, 9002)),
        rule((FROM_LAN, Device::A, In), &[LAN], (6, 9500, 9500)),
        rule((HTTP, Device::B, In), A, (6, 80, 80)),
        rule((0xb2, Device::B, In), &ANY, (6, 8000, 8010)),
        rule((0xb3, Device::B, In), &ANY, (17, 53, 53)),
        rule((0xb4, Device::B, In), &ANY, (1, ECHO, ECHO)),
        rule((0xb5, Device::B, In), &ANY, (58, ECHO_V6, ECHO_V6)),
        rule((0xb6, Device::B, In), &ANY, (132, 5000, 5000)),
        rule((0xb7, Device::B, In), &ANY, (47, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xb8, Device::B, In), &ANY, (1, TIMESTAMP, TIMESTAMP + 255)),
        rule((0xc1, Device::B, Out), A, (6, 9000, 9001)),
        rule((0xc2, Device::B, Out), G, (6, 22, 22)),
        rule((0xc3, Device::B, Out), &[STREAMS], (17, 5000, 5000)),
        rule((0xd1, Device::T, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0xd2, Device::T, In), A, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((0x91, Device::BeyondW, Out), A, (6, 9002, 9003)),
        rule((D_SERVES, Device::BeyondW, In), A, (6, 80, 80)),
        rule((0x93, Device::BeyondW, In), &ANY, (17, 53, 53)),
        rule((0xe1, Device::C, Out), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
        rule((C_SERVES, Device::C, In), &ANY, (0, ALL_PORTS.0, ALL_PORTS.1)),
    ]
};

/// The rule by which everybody may ask C for anything.
pub(super) const C_SERVES: u32 = 0xe2;

/// The acl of [`super::world::Policy::Acl`], in its order. Whose set is none of its business.
pub(super) const ACL: &[(AclAction, Rule)] = {
    use AclAction::{Allow, Deny};
    use Direction::{Egress as Out, Ingress as In};
    const A: &[u32] = &[number(Device::A)];
    const G: &[u32] = &[number(Device::W)];
    &[
        (Deny, rule((0xf0, Device::W, In), &ANY, (6, 8003, 8003))),
        (Allow, rule((ACL_ADMITS, Device::W, In), A, (6, 81, 81))),
        (Deny, rule((0xf2, Device::W, In), &ANY, (0, 0, 1023))),
        (Allow, rule((0xf3, Device::W, In), &ANY, (6, 8003, 8003))),
        (Deny, rule((0xf4, Device::W, Out), &ANY, (17, 53, 53))),
        (Deny, rule((0xf5, Device::W, Out), &ANY, (6, 22, 22))),
        (Allow, rule((0xf6, Device::W, Out), G, (6, 23, 23))),
        (Deny, rule((0xf7, Device::W, Out), &ANY, (17, 5353, 5353))),
        (Deny, rule((0xf8, Device::W, In), &ANY, (17, 5000, 5000))),
    ]
};

/// The rule of the acl by which A reaches a port of B that no group opens.
pub(super) const ACL_ADMITS: u32 = 0xf1;

/// The host's failsafe port.
pub(super) const FAILSAFE: Rule = rule((0xfa, Device::W, Direction::Ingress), &ANY, (6, 22, 22));

impl Rule {
    /// Adds it to a table, as `entry` under `set`.
    pub(super) fn add(&self, policy: &mut Vec<(PolicyKey, PolicyEntry)>, set: GroupSet, entry: PolicyEntry) {
        for peer in self.peers {
            let head = PolicyKey::head(0, set, self.direction, Identity(*peer), self.protocol);
            let mut sizes = 0;
            for (port, prefix_len) in blocks(self.ports) {
                sizes |= 1 << prefix_len;
                let key = head.block(port, prefix_len);
                // Of two acl rules with the same block the first decides.
                if !policy.iter().any(|(other, _)| *other == key) {
                    policy.push((key, entry));
                }
            }
            match policy.iter_mut().find(|(key, _)| *key == head) {
                Some((_, value)) => *value = PolicyEntry::head(value.sizes() | sizes),
                None => policy.push((head, PolicyEntry::head(sizes))),
            }
        }
    }
}

/// The aligned power-of-two blocks that make up a range: first port and prefix length of each.
fn blocks((first, last): (u16, u16)) -> Vec<(u16, u8)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    let mut blocks = Vec::new();
    while next < end {
        let fits = |bits: &u32| next.is_multiple_of(1 << bits) && next + (1 << bits) <= end;
        let bits = (0..=16).rev().find(fits).unwrap_or_default();
        blocks.push((next as u16, (16 - bits) as u8));
        next += 1 << bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_range_exactly() {
        assert_eq!(blocks((80, 80)), [(80, 16)]);
        assert_eq!(blocks((0, u16::MAX)), [(0, 0)]);
        assert_eq!(blocks((8000, 8010)), [(8000, 13), (8008, 15), (8010, 16)]);
    }
}
