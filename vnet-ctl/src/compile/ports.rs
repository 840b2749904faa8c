//! Ports and ICMP messages as aligned power-of-two blocks, the form that the datapath probes.

use crate::policy::{PortRange, Rule};

/// Values that share their first `len` of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    /// The lowest value.
    pub(super) base: u16,
    /// How many leading bits are fixed, 0 to 16.
    pub(super) len: u8,
}

impl Block {
    /// Every value.
    pub(super) const ALL: Self = Self { base: 0, len: 0 };

    /// Whether `value` is in the block.
    pub(super) const fn contains(self, value: u16) -> bool {
        (value ^ self.base) as u32 >> (16 - self.len) == 0
    }
}

/// The blocks, each once, of what `rule` says about ports or ICMP messages (type × 256 + code).
pub(super) fn blocks_of(rule: &Rule) -> Vec<Block> {
    if let Some((kind, code)) = rule.icmp {
        let base = u16::from_be_bytes([kind, code.unwrap_or(0)]);
        return vec![Block { base, len: if code.is_some() { 16 } else { 8 } }];
    }
    if rule.ports.is_empty() {
        return vec![Block::ALL];
    }
    let mut blocks: Vec<_> = rule.ports.iter().copied().flat_map(split).collect();
    if rule.ports.len() > 1 {
        blocks.sort_unstable();
        blocks.dedup();
    }
    blocks
}

/// The fewest blocks that cover exactly `range`.
pub(super) fn split(range: PortRange) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut next, last) = (u32::from(range.first), u32::from(range.last));
    while next <= last {
        // The widest block that may begin here, and that does not reach beyond the end.
        let widest = next.trailing_zeros().min(16);
        let fitting = (last - next + 1).ilog2();
        let bits = widest.min(fitting);
        blocks.push(Block { base: next as u16, len: (16 - bits) as u8 });
        next += 1 << bits;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports at which alignment changes: both sides of every power of two and of their neighbours.
    fn borders() -> Vec<u16> {
        let mut borders: Vec<u16> = (0..16)
            .flat_map(|bit| {
                let power = 1_u16 << bit;
                [power.wrapping_sub(1), power, power.wrapping_add(1), !power, (!power).wrapping_add(1)]
            })
            .chain([1, 2, 3, 8000, 8010, 9100, 9110, 49151, 49152, 65533, 65534, 65535])
            .filter(|&port| port != 0)
            .collect();
        borders.sort_unstable();
        borders.dedup();
        borders
    }

    #[test]
    fn a_split_range_covers_exactly_its_ports_once() {
        for &first in &borders() {
            for &last in borders().iter().filter(|&&last| first <= last) {
                let blocks = split(PortRange { first, last });
                let mut next = u32::from(first);
                for block in &blocks {
                    let size = 1_u32 << (16 - block.len);
                    assert_eq!(u32::from(block.base), next, "{first}-{last}: gap or overlap");
                    assert_eq!(next % size, 0, "{first}-{last}: unaligned");
                    next += size;
                }
                assert_eq!(next, u32::from(last) + 1, "{first}-{last}: wrong end");
                assert!(blocks.len() <= 30, "{first}-{last}: {} blocks", blocks.len());
            }
        }
    }

    #[test]
    fn a_block_contains_its_values_alone() {
        for &first in &borders() {
            for &last in borders().iter().filter(|&&last| first <= last) {
                let range = PortRange { first, last };
                let blocks = split(range);
                for port in borders().into_iter().chain([0]) {
                    let is_in = blocks.iter().filter(|block| block.contains(port)).count();
                    assert_eq!(is_in, usize::from(range.contains(port)), "{port} in {range}");
                }
            }
        }
    }

    #[test]
    fn small_ranges_are_split_exactly_in_every_position() {
        for first in 1..=300_u16 {
            for last in first..=300 {
                let blocks = split(PortRange { first, last });
                for port in 0..=400 {
                    let is_in = blocks.iter().any(|block| block.contains(port));
                    assert_eq!(is_in, (first..=last).contains(&port), "{port} in {first}-{last}");
                }
            }
        }
    }

    #[test]
    fn every_port_takes_sixteen_blocks_and_all_values_one() {
        assert_eq!(split(PortRange { first: 1, last: 65535 }).len(), 16);
        assert!(Block::ALL.contains(0) && Block::ALL.contains(65535));
        assert_eq!(split(PortRange { first: 0, last: 65535 }), [Block::ALL]);
    }
}
