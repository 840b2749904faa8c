//! Lowers the maximum segment size that a TCP SYN announces.

use core::ops::Range;

use vnet_common::{Be16, DropReason, limits::TCP_OPTIONS};

use super::translate::{difference, word};
use crate::packet::{Change, ChangeKind, Packet};

/// Length of a TCP header without options.
const FIXED_LEN: usize = 20;

/// Lowers the segment size that a SYN announces to `most`; its header is at these bytes of the frame. One that announces none is left alone,
/// for then it is 536 or 1220 bytes (RFC 9293 section 3.7.1), and so is one whose options make no sense. A function of
/// its own in the kernel too: it is rare.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(never)]
pub fn clamp_mss(packet: &mut impl Packet, header: Range<usize>, most: Be16) -> Result<(), DropReason> {
    /// Kinds of options, RFC 9293 section 3.2.
    const END: u8 = 0;
    const PADDING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const SEGMENT_SIZE_LEN: u8 = 4;
    let mut offset = header.start + FIXED_LEN;
    for _ in 0..TCP_OPTIONS {
        if offset + usize::from(SEGMENT_SIZE_LEN) > header.end {
            break;
        }
        // Both bytes at once: the verifier does not see the bounds of a single one.
        let Ok(option) = packet.read::<Be16>(offset) else { break };
        let [len, kind] = option.get().to_le_bytes();
        offset += match (kind, len) {
            (SEGMENT_SIZE, SEGMENT_SIZE_LEN) => return lower(packet, header.start, offset + 2, most),
            (PADDING, _) => 1,
            (END | SEGMENT_SIZE, _) | (_, 0 | 1) => break,
            _ => usize::from(len),
        };
    }
    Ok(())
}

/// Lowers the segment size at `place` of the segment at `at` bytes.
#[inline(always)]
fn lower(packet: &mut impl Packet, at: usize, place: usize, most: Be16) -> Result<(), DropReason> {
    let Ok(announced) = packet.read::<Be16>(place) else { return Ok(()) };
    if announced.get() <= most.get() {
        return Ok(());
    }
    packet.write(place, most)?;
    let mut words = [announced, most].map(word);
    if (place - at) % 2 == 1 {
        // Half of it stands in one word, half in the next (RFC 1071 section 2).
        words = words.map(|word| u32::from((word as u16).swap_bytes()));
    }
    let sum = difference(words[0], words[1]);
    packet.update_checksum(at + 16, Change { sum, kind: ChangeKind::Covered, is_udp: false })
}
