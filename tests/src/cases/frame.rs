//! Frames of the cases, byte by byte, with all checksums right unless a case breaks them.

use std::{net::IpAddr, ops::Range};

use vnet_common::MacAddr;

use super::world::{Party, Version};

pub(super) const FIN: u8 = 1;
/// A segment that opens a connection (RFC 9293 section 3.1).
pub const SYN: u8 = 2;
/// One that resets it (RFC 9293 section 3.1).
pub const RST: u8 = 4;
/// One that acknowledges (RFC 9293 section 3.1).
pub const ACK: u8 = 16;
pub(super) const SYN_ACK: u8 = SYN | ACK;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// Where the IP header begins.
pub(super) const IP: usize = 14;

/// An Ethernet frame.
pub(super) fn ether(src: MacAddr, dst: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ether_type.to_be_bytes(), payload].concat()
}

/// An IP packet in a frame from `src` to `dst`.
#[must_use]
pub fn carried(src: MacAddr, dst: MacAddr, packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    ether(src, dst, ether_type, packet)
}

/// `payload` from one party straight to another of its network.
pub(super) fn switched(
    version: Version,
    (from, to): (&Party, &Party),
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    carried(from.mac, to.mac, &packet(from.addr(version), to.addr(version), protocol, payload))
}

/// An IP packet with a TTL of 64, the checksum of its payload filled in.
#[must_use]
pub fn packet(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_with_ttl(64, src, dst, protocol, payload)
}

/// As [`packet`], with this TTL or hop limit.
pub(super) fn packet_with_ttl(ttl: u8, src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let payload = with_checksum(src, dst, protocol, payload);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [hi, lo] = (20 + payload.len() as u16).to_be_bytes();
            let mut header = vec![0x45, 0, hi, lo, 0x12, 0x34, 0x40, 0, ttl, protocol, 0, 0];
            header.extend_from_slice(&src.octets());
            header.extend_from_slice(&dst.octets());
            fix_ipv4_checksum(&mut header);
            [header, payload].concat()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [hi, lo] = (payload.len() as u16).to_be_bytes();
            let header = [0x60, 0, 0, 0, hi, lo, protocol, ttl];
            [&header[..], &src.octets(), &dst.octets(), &payload].concat()
        }
        _ => panic!("{src} and {dst} are of two versions"),
    }
}

/// The fragment of an IP packet without options that carries this part of its payload, in bytes.
#[must_use]
pub fn fragment(packet: &[u8], id: u16, part: Range<usize>) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let (header, payload) = packet.split_at(if is_v4 { 20 } else { 40 });
    let more = part.end < payload.len();
    let place = part.start as u16;
    let part = &payload[part];
    let mut header = header.to_vec();
    if is_v4 {
        header[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[6..8].copy_from_slice(&(place / 8 + (u16::from(more) << 13)).to_be_bytes());
        fix_ipv4_checksum(&mut header);
        return [&header, part].concat();
    }
    header[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
    let [hi, lo] = (place | u16::from(more)).to_be_bytes();
    let [id_hi, id_lo] = id.to_be_bytes();
    let between = [std::mem::replace(&mut header[6], 44), 0, hi, lo, 0, 0, id_hi, id_lo];
    [&header[..], &between, part].concat()
}

/// Computes the checksum of an IPv4 header of 20 bytes or more anew.
pub(super) fn fix_ipv4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let len = usize::from(header[0] & 15) * 4;
    let sum = checksum(&header[..len]);
    header[10..12].copy_from_slice(&sum);
}

/// What a packet of an overlay has in common with all others: a source port and an identification, as the model gives them.
/// Other frames are as they were.
#[must_use]
pub fn without_entropy(frame: &[u8]) -> Vec<u8> {
    /// From any dynamic port to that of VXLAN.
    const TO_OVERLAY: [u8; 2] = 4789_u16.to_be_bytes();
    const PORTS: usize = IP + 20;
    let is_ipv4 = frame.get(12..IP + 1) == Some(&[8, 0, 0x45]);
    let is_overlay = is_ipv4 && frame.get(PORTS + 2..PORTS + 4) == Some(&TO_OVERLAY[..]);
    // A checksum that is wrong stays so.
    if !is_overlay || frame[PORTS] < 0xc0 || checksum(&frame[IP..PORTS]) != [0, 0] {
        return frame.to_vec();
    }
    let mut frame = frame.to_vec();
    frame[IP + 4..IP + 6].fill(0);
    frame[PORTS..PORTS + 2].copy_from_slice(&[0xc0, 0]);
    fix_ipv4_checksum(&mut frame[IP..]);
    frame
}

/// The frame after one hop: TTL one less, checksum computed anew, from the MAC `src` to `dst`.
pub(super) fn routed(frame: &[u8], dst: MacAddr, src: MacAddr) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&dst.0);
    out[6..12].copy_from_slice(&src.0);
    if out[IP] >> 4 == 4 {
        out[IP + 8] -= 1;
        fix_ipv4_checksum(&mut out[IP..]);
    } else {
        out[IP + 7] -= 1;
    }
    out
}

/// RFC 1071.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn with_checksum(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let (at, is_pseudo) = match protocol {
        TCP => (16, true),
        UDP => (6, true),
        ICMPV6 => (2, true),
        ICMP => (2, false),
        _ => return payload,
    };
    if payload.len() < at + 2 {
        return payload;
    }
    payload[at..at + 2].fill(0);
    let pseudo = match (src, dst) {
        _ if !is_pseudo => Vec::new(),
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
        _ => panic!("{src} and {dst} are of two versions"),
    };
    let len = (payload.len() as u32).to_be_bytes();
    let tail = if is_pseudo { [&len[..], &[0, 0, 0, protocol]].concat() } else { Vec::new() };
    let sum = checksum(&[&pseudo[..], &tail, &payload].concat());
    payload[at..at + 2].copy_from_slice(&sum);
    payload
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) data: usize,
}

/// A TCP segment with a 20-byte header.
pub(super) fn tcp((src_port, dst_port): (u16, u16), segment: Segment) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&src_port.to_be_bytes());
    bytes.extend_from_slice(&dst_port.to_be_bytes());
    bytes.extend_from_slice(&segment.seq.to_be_bytes());
    bytes.extend_from_slice(&segment.ack.to_be_bytes());
    bytes.extend_from_slice(&[5 << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.resize(bytes.len() + segment.data, b'x');
    bytes
}

/// A UDP datagram with four bytes of data.
pub(super) fn udp((src_port, dst_port): (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&src_port.to_be_bytes());
    bytes.extend_from_slice(&dst_port.to_be_bytes());
    bytes.extend_from_slice(&[0, 12, 0, 0, b'd', b'a', b't', b'a']);
    bytes
}

/// An ICMP message of either version: type, code, the rest of its header, what follows.
pub(super) fn icmp((kind, code): (u8, u8), rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0], &rest[..], body].concat()
}

/// A TCP connection from its client's side; sequence numbers of both ends are at the caller's choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    pub(super) version: Version,
    pub(super) client: Party,
    pub(super) server: Party,
    pub(super) ports: (u16, u16),
}

impl Talk {
    /// The client's initial sequence number.
    pub(super) const CLIENT: u32 = 1_000;
    /// The server's.
    pub(super) const SERVER: u32 = 5_000;

    pub(super) const fn new(version: Version, client: Party, server: Party, port: u16) -> Self {
        Self { version, client, server, ports: (40_000, port) }
    }

    /// A segment of the client.
    pub(super) fn forth(&self, flags: u8, seq: u32, ack: u32, data: usize) -> Vec<u8> {
        let segment = tcp(self.ports, Segment { flags, seq, ack, data });
        switched(self.version, (&self.client, &self.server), TCP, &segment)
    }

    /// A segment of the server.
    pub(super) fn back(&self, flags: u8, seq: u32, ack: u32, data: usize) -> Vec<u8> {
        let (client_port, server_port) = self.ports;
        let segment = tcp((server_port, client_port), Segment { flags, seq, ack, data });
        switched(self.version, (&self.server, &self.client), TCP, &segment)
    }

    pub(super) fn syn(&self) -> Vec<u8> {
        self.forth(SYN, Self::CLIENT, 0, 0)
    }

    pub(super) fn syn_ack(&self) -> Vec<u8> {
        self.back(SYN_ACK, Self::SERVER, Self::CLIENT + 1, 0)
    }

    /// The acknowledgement that completes the handshake.
    pub(super) fn ack(&self) -> Vec<u8> {
        self.forth(ACK, Self::CLIENT + 1, Self::SERVER + 1, 0)
    }
}
