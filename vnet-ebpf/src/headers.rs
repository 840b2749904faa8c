//! What the headers of a packet say, as the parse stage hands it to the others.

use network_types::eth::EthHdr;
use vnet_common::{Address, DropReason, FlowKey, MacPair, Origin, Ports, Tuple};

use crate::packet::Tag;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IGMP, RFC 9776.
    pub const IGMP: u8 = 2;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// IPv6 hop-by-hop options, RFC 8200 section 4.3.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv6 routing header, RFC 8200 section 4.4.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header, RFC 8200 section 4.5.
    pub const FRAGMENT: u8 = 44;
    /// IP authentication header, RFC 4302.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options, RFC 8200 section 4.6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility header, RFC 6275.
    pub const MOBILITY: u8 = 135;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// UDP ports of DHCP (RFC 2131 section 4.1) and DHCPv6 (RFC 8415 section 7.2).
pub mod dhcp {
    use vnet_common::Address;

    /// Of a server.
    pub const SERVER: u16 = 67;
    /// Of a client.
    pub const CLIENT: u16 = 68;

    /// Those of a server and of a client that speak by `A`.
    #[inline(always)]
    #[must_use]
    pub const fn ports<A: Address>() -> (u16, u16) {
        if A::IS_V4 { (SERVER, CLIENT) } else { (547, 546) }
    }
}

/// Ethertypes of what vnet carries, as numbers.
pub mod ether_type {
    use network_types::eth::EtherType;

    /// ARP (RFC 826).
    pub const ARP: u16 = value(EtherType::Arp);
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = value(EtherType::Ipv4);
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = value(EtherType::Ipv6);

    const fn value(ether_type: EtherType) -> u16 {
        u16::from_be(ether_type as u16)
    }
}

/// Length of the Ethernet header: where the IP header begins.
pub const ETHERNET_LEN: usize = size_of::<EthHdr>();

/// What the Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// To whom, from whom.
    pub macs: MacPair,
    /// What it carries.
    pub carries: Carries,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The VLAN tags of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// How many it has, as far as they are of use: 0, 1 or 2.
    pub count: u32,
    /// The one next to the payload, as in [`vnet_common::Link::vlan`].
    pub vlan: u16,
    /// The service tag around it.
    pub service: u16,
    /// Whether they are none that a link has.
    pub is_strange: bool,
}

impl Tags {
    /// None.
    pub const NONE: Self = Self { count: 0, vlan: 0, service: 0, is_strange: false };

    /// The outermost one and the next: a customer's, or a customer's within a service tag (IEEE 802.1ad).
    #[inline(always)]
    #[must_use]
    pub const fn of(outer: Tag, inner: Option<Tag>) -> Self {
        match inner {
            None => {
                let is_strange = outer.protocol != Tag::CUSTOMER;
                Self { count: 1, vlan: outer.control, service: 0, is_strange }
            }
            Some(inner) => {
                let is_strange = outer.protocol != Tag::SERVICE || inner.protocol != Tag::CUSTOMER;
                Self { count: 2, vlan: inner.control, service: outer.control, is_strange }
            }
        }
    }

    /// The priority that they tell, 0 to 7.
    #[inline(always)]
    #[must_use]
    pub const fn priority(&self) -> u16 {
        self.vlan >> 13
    }
}

/// What the IP header, and the header above it, say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// What the payload is; extension headers are walked.
    pub protocol: u8,
    /// Its ports as flows know them.
    pub ports: Ports,
    /// Where the payload begins, in bytes from the start of the frame.
    pub payload: usize,
    /// What the payload means to flows.
    pub message: Message,
}

/// What a payload means to flows.
///
/// Not an enum with contents: LLVM would copy the contents of a variant that has none, which the verifier
/// refuses ("R8 !read_ok", 6.18). Zeroed memory is a plain message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// ICMP: type × 256 + code, else 0.
    pub icmp: u16,
    /// TCP: what its header says, else zeros.
    pub segment: Segment,
}

/// Kinds of payload.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// UDP, SCTP or a protocol without ports.
    #[default]
    Plain = 0,
    /// A TCP segment.
    Tcp = 1,
    /// An ICMP echo request.
    Echo = 2,
    /// An ICMP echo reply.
    EchoReply = 3,
    /// An ICMP error; what it is about follows 8 bytes into the payload.
    Error = 4,
    /// ICMPv6 neighbour discovery (RFC 4861) or multicast listener discovery (RFC 3810).
    Discovery = 5,
    /// Another ICMP message, judged by itself.
    Single = 6,
    /// A fragment but the first: part of whatever that one is.
    Part = 7,
}

impl Message {
    /// The TCP segment, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn tcp(&self) -> Option<&Segment> {
        match self.kind {
            Kind::Tcp => Some(&self.segment),
            _ => None,
        }
    }

    /// Whether it is an ICMPv6 discovery message of type `kind`.
    #[inline(always)]
    #[must_use]
    pub const fn is_discovery(&self, kind: u8) -> bool {
        matches!(self.kind, Kind::Discovery) && self.icmp >> 8 == kind as u16
    }
}

/// What connection tracking needs of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The flag byte: see the constants.
    pub flags: u8,
    /// Length of the header in bytes, its options included.
    pub header_len: u8,
    /// Sequence number of the first byte, or of the SYN or FIN.
    pub seq: u32,
    /// Sequence number after the last byte, SYN and FIN counted.
    pub end: u32,
    /// Acknowledgement number; meaningless without `ACK`.
    pub ack: u32,
}

impl Segment {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 1 << 1;
    /// RST.
    pub const RST: u8 = 1 << 2;
    /// ACK.
    pub const ACK: u8 = 1 << 4;

    /// Whether any of `flags` is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it opens a connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN
    }
}

impl<A: Address> Datagram<A> {
    /// Where the payload begins, for who takes the datagram out of scratch memory: the verifier wants to see again
    /// that it is no huge number, before anything is added ("R5 min value is negative", 6.18, `from_port`).
    ///
    /// # Errors
    /// [`DropReason::Truncated`], which no parsed packet meets.
    #[inline(always)]
    pub const fn payload_offset(&self) -> Result<usize, DropReason> {
        /// Headers end before: all extension headers of IPv6, of the greatest length, do.
        const MOST: usize = 0x3fff;
        if self.payload > MOST { Err(DropReason::Truncated) } else { Ok(self.payload) }
    }

    /// The tuple of this packet as received on `ifindex`.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self, ifindex: u32) -> FlowKey<A> {
        FlowKey {
            origin: Origin::new(ifindex, self.protocol),
            src: self.src,
            dst: self.dst,
            ports: self.ports,
        }
    }
}

/// What rules can match of a packet, beside its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; for ICMP type × 256 + code; 0 for protocols without ports.
    pub port: u16,
    /// Whether peers are IPv4 addresses.
    pub is_v4: bool,
}

impl Service {
    /// What the packet that opens a flow asks for, where it has `tuple` when it reaches whom it asks. Of ICMP only echo requests open flows.
    #[inline(always)]
    #[must_use]
    pub const fn of_flow<A: Address>(protocol: u8, tuple: &Tuple<A>) -> Self {
        let port = match protocol {
            protocol::ICMP => 8 << 8,
            protocol::ICMPV6 => 128 << 8,
            _ => tuple.ports.dst().get(),
        };
        Self { protocol, port, is_v4: A::IS_V4 }
    }

    /// What a packet that belongs to no flow asks for.
    #[inline(always)]
    #[must_use]
    pub const fn of_packet<A: Address>(datagram: &Datagram<A>) -> Self {
        let port = match datagram.message.kind {
            Kind::Plain | Kind::Tcp | Kind::Part => datagram.ports.dst().get(),
            _ => datagram.message.icmp,
        };
        Self { protocol: datagram.protocol, port, is_v4: A::IS_V4 }
    }
}
