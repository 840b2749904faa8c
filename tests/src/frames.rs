//! Frames as bytes: the ordinary ones, and those that only an attacker sends.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv6Extensions, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header,
    Ipv6RawExtHeader, PacketBuilder, PacketBuilderStep, VlanId,
};
pub use vnet_common::MacAddr;

/// A MAC as people write it.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn parse_mac(text: &str) -> MacAddr {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    MacAddr(bytes.try_into().expect("six bytes"))
}

/// Hop limit that neighbour discovery asks for (RFC 4861 section 7.1).
const ND_HOP_LIMIT: u8 = 255;
/// What ordinary hosts send with.
const TTL: u8 = 64;

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Option types of neighbour discovery (RFC 4861 section 4.6).
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;

/// Source and destination MAC of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Eth {
    /// Who sends it.
    pub src: MacAddr,
    /// Whom it is for.
    pub dst: MacAddr,
}

impl Eth {
    /// From `src` to `dst`.
    #[must_use]
    pub const fn new(src: MacAddr, dst: MacAddr) -> Self {
        Self { src, dst }
    }

    /// From `src` to everybody.
    #[must_use]
    pub const fn broadcast(src: MacAddr) -> Self {
        Self::new(src, MacAddr::BROADCAST)
    }

    /// From `src` to the group of `address` (RFC 2464 section 7).
    #[must_use]
    pub const fn multicast(src: MacAddr, address: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = address.octets();
        Self::new(src, MacAddr([0x33, 0x33, a, b, c, d]))
    }

    fn builder(self) -> PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2(self.src.0, self.dst.0)
    }
}

/// Finishes a frame of any layer.
macro_rules! written {
    ($builder:expr, $payload:expr) => {{
        let payload: &[u8] = $payload;
        let mut frame = Vec::new();
        $builder.write(&mut frame, payload).expect("a frame in memory");
        frame
    }};
}

/// Tags of a frame, the outer one first: what announces each, and its priority and VLAN.
pub type Tags = Vec<(u16, u16)>;
/// What announces a tag of IEEE 802.1Q.
pub const CUSTOMER_TAG: u16 = 0x8100;
/// What announces an outer tag of IEEE 802.1ad.
pub const SERVICE_TAG: u16 = 0x88a8;
/// Bytes of a frame before its first tag: both MACs.
const MACS_LEN: usize = 12;

/// `frame` with `tags` around it, the outer one first.
#[must_use]
pub fn tagged(mut frame: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    let bytes = tags.iter().flat_map(|(kind, control)| [kind.to_be_bytes(), control.to_be_bytes()].concat());
    frame.splice(MACS_LEN..MACS_LEN, bytes.collect::<Vec<_>>());
    frame
}

/// The tags of `frame`.
#[must_use]
pub fn tags_of(frame: &[u8]) -> Tags {
    let words = frame[MACS_LEN..]
        .chunks_exact(4)
        .map(|four| (u16::from_be_bytes([four[0], four[1]]), u16::from_be_bytes([four[2], four[3]])));
    words.take_while(|(kind, _)| matches!(*kind, CUSTOMER_TAG | SERVICE_TAG)).collect()
}

/// `frame` without its tags.
#[must_use]
pub fn untagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.drain(MACS_LEN..MACS_LEN + 4 * tags_of(&frame).len());
    frame
}

/// A UDP datagram over IPv4.
#[must_use]
pub fn udp4(eth: Eth, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    written!(eth.builder().ipv4(src.0.octets(), dst.0.octets(), TTL).udp(src.1, dst.1), payload)
}

/// A TCP SYN over IPv4.
#[must_use]
pub fn syn4(eth: Eth, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), sequence_number: u32) -> Vec<u8> {
    const WINDOW: u16 = 0xffff;
    let ip = eth.builder().ipv4(src.0.octets(), dst.0.octets(), TTL);
    written!(ip.tcp(src.1, dst.1, sequence_number, WINDOW).syn(), &[])
}

/// A UDP datagram over IPv6.
#[must_use]
pub fn udp6(eth: Eth, src: (Ipv6Addr, u16), dst: (Ipv6Addr, u16), payload: &[u8]) -> Vec<u8> {
    written!(eth.builder().ipv6(src.0.octets(), dst.0.octets(), TTL).udp(src.1, dst.1), payload)
}

/// An IPv4 packet of any protocol.
#[must_use]
pub fn ipv4(eth: Eth, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = eth.builder().ipv4(src.octets(), dst.octets(), TTL);
    let mut frame = Vec::new();
    ip.write(&mut frame, IpNumber(protocol), payload).expect("a frame in memory");
    frame
}

/// An ICMP message of any type; `rest` are bytes 4 to 7 of its header.
#[must_use]
pub fn icmp4(eth: Eth, src: Ipv4Addr, dst: Ipv4Addr, message: (u8, u8), rest: [u8; 4]) -> Vec<u8> {
    let ipv4 = eth.builder().ipv4(src.octets(), dst.octets(), TTL);
    written!(ipv4.icmpv4_raw(message.0, message.1, rest), &[0; 12])
}

/// An ICMPv6 message of any type.
#[must_use]
pub fn icmp6(eth: Eth, src: Ipv6Addr, dst: Ipv6Addr, message: (u8, u8), rest: [u8; 4]) -> Vec<u8> {
    let ipv6 = eth.builder().ipv6(src.octets(), dst.octets(), TTL);
    written!(ipv6.icmpv6_raw(message.0, message.1, rest), &[0; 12])
}

/// Whether an ARP packet asks or answers.
#[derive(Clone, Copy, Debug)]
pub enum ArpKind {
    /// Who has the target address?
    Request = 1,
    /// The sender has its address.
    Reply = 2,
}

/// An ARP packet (RFC 826) for IPv4 over Ethernet.
#[must_use]
pub fn arp(eth: Eth, kind: ArpKind, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&eth.dst.0);
    frame.extend_from_slice(&eth.src.0);
    // EtherType ARP; hardware Ethernet, protocol IPv4, their address lengths; the operation.
    frame.extend_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, kind as u8]);
    for (mac, address) in [sender, target] {
        frame.extend_from_slice(&mac.0);
        frame.extend_from_slice(&address.octets());
    }
    frame
}

/// A neighbour advertisement: `target` is at `claimed`; solicited (unicast) or not.
#[must_use]
pub fn neighbour_advertisement(
    eth: Eth,
    route: (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    claimed: MacAddr,
) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    const SOLICITED: u8 = 0x40;
    let flags = if route.1.is_multicast() { OVERRIDE } else { OVERRIDE | SOLICITED };
    let body = nd_body(target, TARGET_LINK_ADDRESS, claimed);
    nd_message(eth, route, NEIGHBOUR_ADVERTISEMENT, [flags, 0, 0, 0], &body)
}

/// A neighbour solicitation for `target`, whose sender says that it is at `own`.
#[must_use]
pub fn neighbour_solicitation(
    eth: Eth,
    route: (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    own: MacAddr,
) -> Vec<u8> {
    let body = nd_body(target, SOURCE_LINK_ADDRESS, own);
    nd_message(eth, route, NEIGHBOUR_SOLICITATION, [0; 4], &body)
}

/// A redirect: `target` is the better way to `destination` (RFC 4861 section 4.5).
#[must_use]
pub fn redirect(eth: Eth, route: (Ipv6Addr, Ipv6Addr), target: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let body = [target.octets(), destination.octets()].concat();
    nd_message(eth, route, REDIRECT, [0; 4], &body)
}

fn nd_body(target: Ipv6Addr, option: u8, mac: MacAddr) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend_from_slice(&[option, 1]);
    body.extend_from_slice(&mac.0);
    body
}

fn nd_message(eth: Eth, route: (Ipv6Addr, Ipv6Addr), kind: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let ipv6 = eth.builder().ipv6(route.0.octets(), route.1.octets(), ND_HOP_LIMIT);
    written!(ipv6.icmpv6_raw(kind, 0, rest), body)
}

/// What stands between the IPv6 header of a router advertisement and its message, to hide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disguise {
    /// Nothing.
    Plain,
    /// A destination options header (RFC 7113 section 2).
    DestinationOptions,
    /// A fragment header of a packet in one piece (an atomic fragment, RFC 6946).
    AtomicFragment,
    /// A priority tag: VLAN 0 (CVE-2021-27853).
    VlanZero,
}

/// A router advertisement for a default route, with the sender's link address.
#[must_use]
pub fn router_advertisement(eth: Eth, route: (Ipv6Addr, Ipv6Addr), disguise: Disguise) -> Vec<u8> {
    // Hop limit 64, no flags, a lifetime of 1800 s; reachable and retransmission time unspecified.
    let rest = [64, 0, 0x07, 0x08];
    let mut body = vec![0; 8];
    body.extend_from_slice(&[SOURCE_LINK_ADDRESS, 1]);
    body.extend_from_slice(&eth.src.0);
    let mut extensions = Ipv6Extensions::default();
    match disguise {
        Disguise::Plain | Disguise::VlanZero => {}
        Disguise::DestinationOptions => {
            // PadN with four bytes of padding (RFC 8200 section 4.2).
            let options = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &[1, 4, 0, 0, 0, 0]);
            extensions.destination_options = Some(options.expect("a whole extension header"));
        }
        Disguise::AtomicFragment => {
            let whole = Ipv6FragmentHeader::new(IpNumber::IPV6_ICMP, IpFragOffset::ZERO, false, 7);
            extensions.fragment = Some(whole);
        }
    }
    let ipv6 = Ipv6Header {
        flow_label: Ipv6FlowLabel::ZERO,
        hop_limit: ND_HOP_LIMIT,
        source: route.0.octets(),
        destination: route.1.octets(),
        ..Ipv6Header::default()
    };
    let headers = IpHeaders::Ipv6(ipv6, extensions);
    if disguise == Disguise::VlanZero {
        let tagged = eth.builder().single_vlan(VlanId::ZERO).ip(headers);
        return written!(tagged.icmpv6_raw(ROUTER_ADVERTISEMENT, 0, rest), &body);
    }
    written!(eth.builder().ip(headers).icmpv6_raw(ROUTER_ADVERTISEMENT, 0, rest), &body)
}

/// A router advertisement of a default route and of `prefix`, with 64 bits, for addresses of one's own (RFC 4862).
#[must_use]
pub fn prefix_advertisement(eth: Eth, route: (Ipv6Addr, Ipv6Addr), prefix: Ipv6Addr) -> Vec<u8> {
    /// On the link, and for addresses of one's own (RFC 4861 section 4.6.2).
    const FLAGS: u8 = 0xc0;
    let mut body = vec![0; 8];
    body.extend_from_slice(&[3, 4, 64, FLAGS]);
    // It is valid for two hours, preferred for one.
    body.extend([7200_u32, 3600, 0].into_iter().flat_map(u32::to_be_bytes));
    body.extend_from_slice(&prefix.octets());
    body.extend_from_slice(&[SOURCE_LINK_ADDRESS, 1]);
    body.extend_from_slice(&eth.src.0);
    nd_message(eth, route, ROUTER_ADVERTISEMENT, [64, 0, 0x07, 0x08], &body)
}

/// A DHCPOFFER of `offered` (RFC 2131 section 2), from `src` to everybody.
#[must_use]
pub fn dhcp_offer(eth: Eth, src: Ipv4Addr, offered: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0; 240];
    // BOOTREPLY over Ethernet with addresses of six bytes.
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[16..20].copy_from_slice(&offered.octets());
    message[20..24].copy_from_slice(&src.octets());
    message[28..34].copy_from_slice(&eth.dst.0);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    // Message type: offer. End.
    message.extend_from_slice(&[53, 1, 2, 255]);
    udp4(eth, (src, 67), (Ipv4Addr::BROADCAST, 68), &message)
}

/// A DHCPv6 ADVERTISE (RFC 8415 section 7.3) from `src` to `dst`.
#[must_use]
pub fn dhcpv6_advertise(eth: Eth, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    udp6(eth, (src, 547), (dst, 546), &[2, 0, 0, 1])
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn tags_stand_between_the_macs_and_the_rest() {
        let plain =
            arp(Eth::broadcast(A), ArpKind::Request, (A, Ipv4Addr::LOCALHOST), (A, Ipv4Addr::LOCALHOST));
        let both = [(SERVICE_TAG, 100), (CUSTOMER_TAG, 0xa00a)];
        let frame = tagged(plain.clone(), &both);
        assert_eq!((tags_of(&plain), tags_of(&frame)), (vec![], both.to_vec()));
        assert_eq!((untagged(plain.clone()), untagged(frame.clone())), (plain.clone(), plain));
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0xa0, 0x0a, 8, 6]);
    }

    #[test]
    fn arp_is_28_bytes_after_the_ethernet_header() {
        let b = (MacAddr([0; 6]), Ipv4Addr::new(10, 0, 0, 2));
        let frame = arp(Eth::broadcast(A), ArpKind::Request, (A, Ipv4Addr::new(10, 0, 0, 1)), b);
        assert_eq!(frame.len(), 14 + 28);
        let parsed = SlicedPacket::from_ethernet(&frame).expect("a whole frame");
        let Some(NetSlice::Arp(arp)) = parsed.net else { panic!("not ARP: {parsed:?}") };
        assert_eq!(arp.sender_protocol_addr(), [10, 0, 0, 1]);
        assert_eq!(arp.target_protocol_addr(), [10, 0, 0, 2]);
    }

    #[test]
    fn a_disguised_router_advertisement_is_one_underneath() {
        for disguise in
            [Disguise::Plain, Disguise::DestinationOptions, Disguise::AtomicFragment, Disguise::VlanZero]
        {
            let eth = Eth::multicast(A, ALL_NODES);
            let frame = router_advertisement(eth, (LINK_LOCAL, ALL_NODES), disguise);
            let parsed = SlicedPacket::from_ethernet(&frame).expect("a whole frame");
            let Some(TransportSlice::Icmpv6(icmp)) = parsed.transport else {
                panic!("{disguise:?} hides no ICMPv6: {parsed:?}")
            };
            assert_eq!(icmp.type_u8(), ROUTER_ADVERTISEMENT, "{disguise:?}");
            assert!(icmp.is_checksum_valid(LINK_LOCAL.octets(), ALL_NODES.octets()), "{disguise:?}");
        }
    }

    #[test]
    fn multicast_goes_to_the_mac_of_its_group() {
        assert_eq!(Eth::multicast(A, ALL_NODES).dst, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    }
}
