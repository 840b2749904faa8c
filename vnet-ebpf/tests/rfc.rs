//! Single stages against what the RFCs say of them.

use vnet_common::{Flow, FlowState, MacAddr, MacPair, Ops, V4, V6};
use vnet_ebpf::{
    headers::{Kind, Message, Segment},
    model::ModelPacket,
    rewrite,
    stages::track,
};

const MACS: MacPair = MacPair::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));

/// RFC 1071, over a header whose checksum field counts as zero.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).enumerate().filter(|(number, _)| *number != 5);
    let mut sum: u32 = words.map(|(_, pair)| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4_frame(id: u16, ttl: u8) -> Vec<u8> {
    let [hi, lo] = id.to_be_bytes();
    let mut header = vec![0x45, 0, 0, 20, hi, lo, 0, 0, ttl, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [vec![0; 12], vec![8, 0], header].concat()
}

/// RFC 1624 section 3: the update gives what a computation from nothing gives, for every checksum that a
/// header can have, 0 in place of 0xffff among them.
#[test]
fn a_hop_updates_every_header_checksum_as_if_computed_anew() {
    for id in 0..=u16::MAX {
        let mut packet = ModelPacket::new(ipv4_frame(id, 64));
        rewrite::routed::<V4>(&mut packet, MACS).expect("a whole header");
        let header = &packet.bytes[14..];
        assert_eq!(header[8], 63);
        assert_eq!(
            u16::from_be_bytes([header[10], header[11]]),
            checksum(header),
            "identification {id:#06x}"
        );
    }
}

/// RFC 1812 section 5.3.1, RFC 8200 section 3: the hop that makes it zero is the last.
#[test]
fn the_last_hop_leaves_the_packet_as_it_is() {
    for ttl in [0, 1] {
        let frame = ipv4_frame(7, ttl);
        let mut packet = ModelPacket::new(frame.clone());
        rewrite::routed::<V4>(&mut packet, MACS).expect_err("no hop left");
        assert_eq!(packet.bytes, frame);
        let mut frame = vec![0; 54];
        (frame[14], frame[21]) = (0x60, ttl);
        let mut packet = ModelPacket::new(frame.clone());
        rewrite::routed::<V6>(&mut packet, MACS).expect_err("no hop left");
        assert_eq!(packet.bytes, frame);
    }
}

fn sent(seq: u32, end: u32, ack: u32) -> Message {
    let segment = Segment { flags: Segment::ACK, header_len: 20, seq, end, ack };
    Message { kind: Kind::Tcp, segment, ..Message::default() }
}

/// RFC 9293 section 3.4: numbers are compared modulo 2^32.
#[test]
fn sequence_numbers_are_compared_across_the_wrap() {
    let flow = Flow::<V4>::default();
    flow.seq_next.set(u32::MAX - 9);
    flow.ack.set(u32::MAX - 99);
    track::record(&flow, &sent(u32::MAX - 9, 20, 1));
    assert_eq!((flow.seq_next.get(), flow.ack.get()), (20, 1));
    // What was sent before the wrap comes again.
    track::record(&flow, &sent(u32::MAX - 9, 5, u32::MAX));
    assert_eq!((flow.seq_next.get(), flow.ack.get()), (20, 1));
    // Half of the space ahead is not ahead any more.
    track::record(&flow, &sent(0, 20_u32.wrapping_add(1 << 31), 0));
    assert_eq!(flow.seq_next.get(), 20);
    track::record(&flow, &sent(0, 20 + (1 << 31) - 1, 0));
    assert_eq!(flow.seq_next.get(), 20 + (1 << 31) - 1);
}

/// The states after a reset at `seq` of a sender that has sent up to `sent`, its peer having acknowledged
/// up to `acked`.
fn after_reset(seq: u32, sent: u32, acked: u32) -> (FlowState, FlowState) {
    let (own, pair) = (Flow::<V4>::default(), Flow::<V4>::default());
    pair.ops.set(Ops::REPLY);
    for flow in [&own, &pair] {
        flow.state.set(FlowState::Established as u8);
    }
    own.seq_next.set(sent);
    pair.ack.set(acked);
    let segment = Segment { flags: Segment::RST, header_len: 20, seq, end: seq, ack: 0 };
    let message = Message { kind: Kind::Tcp, segment, ..Message::default() };
    track::advance(&own, &pair, &message).expect("a reset passes");
    (own.state(), pair.state())
}

/// RFC 5961 section 3.2: a reset is obeyed exactly at the next byte that its receiver expects.
#[test]
fn a_reset_is_exact_at_one_number_only() {
    let (expected, sent): (u32, u32) = (3, 1_000_003);
    for seq in [expected, 0, 2, 4, u32::MAX, 1 << 31, expected.wrapping_add(65_535), sent - 1, sent + 1] {
        let state = if seq == expected { FlowState::Closed } else { FlowState::Established };
        assert_eq!(after_reset(seq, sent, expected), (state, state), "reset at {seq}");
    }
}

/// What the receiver expects is not known while its acknowledgement is on the way: the sender is done, the
/// receiver perhaps not.
#[test]
fn a_reset_behind_unacknowledged_data_closes_one_end() {
    assert_eq!(after_reset(103, 103, 3), (FlowState::FinWait, FlowState::FinWait));
}

#[test]
fn timeouts_are_no_shorter_than_the_rfcs_ask() {
    const TCP: u8 = 6;
    let minutes = 60;
    // RFC 5382 REQ-5.
    assert!(FlowState::Established.timeout_secs(TCP) >= 124 * minutes);
    for state in [FlowState::New, FlowState::SynReceived, FlowState::FinWait, FlowState::TimeWait] {
        assert!(state.timeout_secs(TCP) >= 4 * minutes, "{state:?}");
    }
    // RFC 4787 REQ-5, also for protocols that no RFC speaks of.
    for protocol in [17, 132, 47] {
        assert!(FlowState::New.timeout_secs(protocol) >= 2 * minutes);
        assert!(FlowState::Established.timeout_secs(protocol) >= 5 * minutes);
    }
    // RFC 5508 REQ-2.
    for protocol in [1, 58] {
        assert!(FlowState::New.timeout_secs(protocol) >= minutes);
        assert!(FlowState::Established.timeout_secs(protocol) >= minutes);
    }
}
