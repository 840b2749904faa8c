//! Stage 1: what the packet says of itself.
//!
//! Decides whether the headers are whole, consistent and of a kind that vnet carries, and reads out of
//! them what the other stages need. Whether any of it is true is the sender stage's question.

use vnet_common::{Address, Be16, DropReason, Ip, MacPair, Ports, V4, V6, limits};

use crate::{
    fragments::Fragment,
    headers::{Carries, Datagram, Frame, Kind, Message, Segment, Tags, ether_type, protocol},
    packet::{AddressWire, Buffer, FragmentWire, Ipv4Wire, Ipv6Wire, Tag, TcpWire},
};

/// Reads the Ethernet header.
///
/// # Errors
/// Truncated, tagged, or none of the three protocols. An ethertype below 0x600 is a length (LLC, IEEE
/// 802.3 section 3.2.6) and not on the list either.
#[inline(always)]
pub fn ethernet(packet: &impl Buffer) -> Result<Frame, DropReason> {
    if packet.tag_beside().is_some() {
        return Err(DropReason::VlanTag);
    }
    let macs: MacPair = packet.read(0)?;
    let kind: Be16 = packet.read(size_of::<MacPair>())?;
    let carries = match kind.get() {
        ether_type::IPV4 => Carries::Ipv4,
        ether_type::IPV6 => Carries::Ipv6,
        ether_type::ARP => Carries::Arp,
        Tag::CUSTOMER | Tag::SERVICE => return Err(DropReason::VlanTag),
        _ => return Err(DropReason::EtherType),
    };
    Ok(Frame { macs, carries })
}

/// The tags of a frame, from the outermost on: beside it, in it, or one of each.
///
/// # Errors
/// [`DropReason::Truncated`].
#[inline(always)]
pub fn tags(packet: &impl Buffer) -> Result<Tags, DropReason> {
    const FIRST: usize = size_of::<MacPair>();
    let in_frame = |at: usize| -> Result<Option<Tag>, DropReason> {
        let protocol = packet.read::<Be16>(at)?.get();
        if !Tag::is_announced_by(protocol) {
            return Ok(None);
        }
        Ok(Some(Tag { protocol, control: packet.read::<Be16>(at + 2)?.get() }))
    };
    let (outer, next) = match packet.tag_beside() {
        Some(tag) => (Some(tag), FIRST),
        None => (in_frame(FIRST)?, FIRST + 4),
    };
    let Some(outer) = outer else { return Ok(Tags::NONE) };
    Ok(Tags::of(outer, in_frame(next)?))
}

/// Reads IPv4 (RFC 791) and what it carries, at `at` bytes into the frame.
///
/// # Errors
/// Truncated, malformed, or a fragment.
#[inline(always)]
pub fn ipv4(packet: &impl Buffer, at: usize) -> Result<Datagram<V4>, DropReason> {
    let header: Ipv4Wire = packet.read(at)?;
    let (datagram, len) = ipv4_header(packet, at, &header)?;
    if header.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
        return Err(DropReason::Fragment);
    }
    transport(packet, datagram, len)
}

/// In an IPv4 header: there are later fragments.
const MORE_FRAGMENTS: u16 = 0x2000;
/// In an IPv4 header: where the fragment begins, in units of 8 bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// What an IPv4 header says, and how many bytes follow it.
#[inline(always)]
fn ipv4_header(
    packet: &impl Buffer,
    at: usize,
    header: &Ipv4Wire,
) -> Result<(Datagram<V4>, u32), DropReason> {
    let header_len = usize::from(header.version_len & 0x0f) * 4;
    let total_len = header.total_len.get();
    if header.version_len >> 4 != 4
        || header_len < size_of::<Ipv4Wire>()
        || usize::from(total_len) < header_len
    {
        return Err(DropReason::MalformedHeader);
    }
    if header_len > size_of::<Ipv4Wire>() {
        packet.check_options(at + size_of::<Ipv4Wire>(), at + header_len)?;
    }
    let datagram = Datagram {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        ports: Ports::default(),
        payload: at + header_len,
        message: Message::default(),
    };
    Ok((datagram, u32::from(total_len) - header_len as u32))
}

/// Refuses source routes (RFC 791 section 3.1, option types 131 and 137), which steer a packet past the
/// policy, and more options than any sane packet has. It is called through [`Buffer::check_options`].
///
/// # Errors
/// [`DropReason::MalformedHeader`], [`DropReason::Truncated`].
#[inline(always)]
pub fn check_options(packet: &impl Buffer, mut offset: usize, end: usize) -> Result<(), DropReason> {
    for _ in 0..=limits::IPV4_OPTIONS {
        if offset >= end {
            return Ok(());
        }
        // Both bytes at once: the verifier does not see the bounds of a single one.
        let [len, option] = packet.read::<Be16>(offset)?.get().to_le_bytes();
        offset += match option {
            0 => return Ok(()),
            1 => 1,
            131 | 137 => break,
            _ => usize::from(len).max(2),
        };
    }
    Err(DropReason::MalformedHeader)
}

/// Reads IPv6 (RFC 8200), its extension headers and what it carries, at `at` bytes into the frame.
///
/// # Errors
/// Truncated, malformed, a fragment, or with a header that is not on the list.
#[inline(always)]
pub fn ipv6(packet: &impl Buffer, at: usize) -> Result<Datagram<V6>, DropReason> {
    let (datagram, len) = ipv6_header(packet, at, limits::IPV6_EXTENSIONS)?;
    if datagram.protocol == protocol::FRAGMENT {
        return Err(DropReason::Fragment);
    }
    transport(packet, datagram, len)
}

/// What an IPv6 header says, behind its extension headers, so many at most, and how many bytes follow those.
#[inline(always)]
fn ipv6_header(packet: &impl Buffer, at: usize, most: u32) -> Result<(Datagram<V6>, u32), DropReason> {
    let header: Ipv6Wire = packet.read(at)?;
    // RFC 6890 section 2.2.3: IPv4-mapped addresses do not appear on the wire; here they would be IPv4's.
    if header.version_class >> 4 != 6 || header.src.ip().is_v4() || header.dst.ip().is_v4() {
        return Err(DropReason::MalformedHeader);
    }
    let first = at + size_of::<Ipv6Wire>();
    let (protocol, payload) = skip_extensions(packet, header.next_header, first, most)?;
    let whole = u32::from(header.payload_len.get());
    let len = whole.checked_sub((payload - first) as u32).ok_or(DropReason::MalformedHeader)?;
    let (src, dst, ports) = (header.src, header.dst, Ports::default());
    Ok((Datagram { src, dst, protocol, ports, payload, message: Message::default() }, len))
}

/// Walks the extension headers from `next` at `offset`; returns the first other protocol and where it begins. A
/// fragment header ends the walk, too.
#[inline(always)]
fn skip_extensions(
    packet: &impl Buffer,
    mut next: u8,
    mut offset: usize,
    most: u32,
) -> Result<(u8, usize), DropReason> {
    for _ in 0..=most {
        match next {
            // RFC 8200 section 4.1 has hop-by-hop options stand first only; here they may stand anywhere,
            // for they steer nothing past the policy. More headers than the list allows end the loop.
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                let [units, following] = packet.read::<Be16>(offset)?.get().to_le_bytes();
                next = following;
                offset += (usize::from(units) + 1) * 8;
            }
            // RFC 5095 forbids type 0; the others steer packets past the policy.
            protocol::ROUTING | protocol::AUTHENTICATION | protocol::MOBILITY => {
                return Err(DropReason::ExtensionHeader);
            }
            other => return Ok((other, offset)),
        }
    }
    Err(DropReason::ExtensionHeader)
}

/// Completes `datagram` with what its payload, `len` bytes long, says.
#[inline(always)]
fn transport<A: Address>(
    packet: &impl Buffer,
    mut datagram: Datagram<A>,
    len: u32,
) -> Result<Datagram<A>, DropReason> {
    // RFC 9293, 9260, 768, 792 and 4443: no header is shorter. What lies behind the end is padding.
    let least = match datagram.protocol {
        protocol::TCP => 20,
        protocol::SCTP => 12,
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        _ => 0,
    };
    if len < least || datagram.payload + len as usize > packet.length() as usize {
        return Err(DropReason::Truncated);
    }
    match datagram.protocol {
        protocol::TCP => {
            let header: TcpWire = packet.read(datagram.payload)?;
            datagram.ports = header.ports;
            datagram.message.kind = Kind::Tcp;
            datagram.message.segment = segment(&header, len)?;
        }
        protocol::UDP | protocol::SCTP => datagram.ports = packet.read(datagram.payload)?,
        protocol::ICMP if A::IS_V4 => icmp(packet, &mut datagram, icmp4_kind)?,
        protocol::ICMPV6 if !A::IS_V4 => {
            let dst = datagram.dst.ip();
            icmp(packet, &mut datagram, |kind| icmp6_kind(kind, dst))?;
        }
        // Each ICMP belongs to its own version of IP.
        protocol::ICMP | protocol::ICMPV6 => return Err(DropReason::MalformedHeader),
        _ => {}
    }
    Ok(datagram)
}

/// What a TCP header (RFC 9293 section 3.1) says; the segment is `len` bytes long, header included.
#[inline(always)]
fn segment(header: &TcpWire, len: u32) -> Result<Segment, DropReason> {
    let (seq, ack) = (header.seq.get(), header.ack.get());
    let [flags, offset] = header.offset_flags.get().to_le_bytes();
    let header_len = u32::from(offset >> 4) * 4;
    let Some(data_len) = len.checked_sub(header_len) else {
        return Err(DropReason::MalformedHeader);
    };
    if header_len < 20 {
        return Err(DropReason::MalformedHeader);
    }
    let (syn, fin) = (flags >> 1 & 1, flags & 1);
    // A SYN with FIN or RST, or no flag at all, is only ever a probe.
    if flags & (Segment::FIN | Segment::SYN | Segment::RST | Segment::ACK) == 0
        || syn == 1 && flags & (Segment::FIN | Segment::RST) != 0
    {
        return Err(DropReason::TcpFlags);
    }
    let end = seq.wrapping_add(data_len).wrapping_add(u32::from(syn + fin));
    Ok(Segment { flags, header_len: header_len as u8, seq, end, ack })
}

/// Reads an ICMP header; `classify` tells what its type means.
#[inline(always)]
fn icmp<A: Copy>(
    packet: &impl Buffer,
    datagram: &mut Datagram<A>,
    classify: impl Fn(u8) -> Kind,
) -> Result<(), DropReason> {
    let kind_code = packet.read::<Be16>(datagram.payload)?.get();
    datagram.message.kind = classify((kind_code >> 8) as u8);
    datagram.message.icmp = kind_code;
    match datagram.message.kind {
        Kind::Echo => datagram.ports = Ports::new(packet.read(datagram.payload + 4)?, Be16::default()),
        Kind::EchoReply => datagram.ports = Ports::new(Be16::default(), packet.read(datagram.payload + 4)?),
        _ => {}
    }
    Ok(())
}

/// ICMP types, RFC 792.
#[inline(always)]
const fn icmp4_kind(kind: u8) -> Kind {
    match kind {
        8 => Kind::Echo,
        0 => Kind::EchoReply,
        // Destination unreachable, time exceeded, parameter problem.
        3 | 11 | 12 => Kind::Error,
        _ => Kind::Single,
    }
}

/// ICMPv6 types, RFC 4443 section 2.1, RFC 4861 and RFC 3810.
///
/// What a host tells routers it tells a group; sent to one address it is a message like any other, which
/// the rules judge.
#[inline(always)]
const fn icmp6_kind(kind: u8, dst: Ip) -> Kind {
    match kind {
        128 => Kind::Echo,
        129 => Kind::EchoReply,
        1..=4 => Kind::Error,
        134..=137 => Kind::Discovery,
        130..=133 | 143 if dst.is_multicast() => Kind::Discovery,
        _ => Kind::Single,
    }
}

/// How packets of a version of IP are read, which are at `at` bytes into the frame.
pub trait Version: AddressWire + Default {
    /// Reads a whole packet.
    ///
    /// # Errors
    /// Truncated, malformed, or a fragment.
    fn whole(packet: &impl Buffer, at: usize, datagram: &mut Datagram<Self>) -> Result<(), DropReason>;

    /// The tuple of the packet that an ICMP error quotes, of whose payload only the first eight bytes are sure to be
    /// there (RFC 792).
    ///
    /// # Errors
    /// Truncated, malformed, or a later fragment.
    fn quoted(packet: &impl Buffer, at: usize) -> Result<Datagram<Self>, DropReason>;

    /// What a fragment says: the first one what its datagram is, others their addresses.
    ///
    /// # Errors
    /// Truncated, malformed, or a first fragment that is too short to tell.
    fn fragment(packet: &impl Buffer, at: usize) -> Result<(Datagram<Self>, Fragment), DropReason>;
}

impl Version for V4 {
    #[inline(always)]
    fn whole(packet: &impl Buffer, at: usize, datagram: &mut Datagram<Self>) -> Result<(), DropReason> {
        *datagram = ipv4(packet, at)?;
        Ok(())
    }

    #[inline(always)]
    fn quoted(packet: &impl Buffer, at: usize) -> Result<Datagram<Self>, DropReason> {
        let header: Ipv4Wire = packet.read(at)?;
        let header_len = usize::from(header.version_len & 0x0f) * 4;
        if header.version_len >> 4 != 4 || header_len < size_of::<Ipv4Wire>() {
            return Err(DropReason::MalformedHeader);
        }
        if header.fragment.get() & FRAGMENT_OFFSET != 0 {
            return Err(DropReason::Fragment);
        }
        quoted(packet, header.src, header.dst, header.protocol, at + header_len)
    }

    #[inline(always)]
    fn fragment(packet: &impl Buffer, at: usize) -> Result<(Datagram<Self>, Fragment), DropReason> {
        let header: Ipv4Wire = packet.read(at)?;
        let (datagram, len) = ipv4_header(packet, at, &header)?;
        let bits = header.fragment.get();
        let place = Place {
            id: u32::from(header.id.get()),
            start: bits & FRAGMENT_OFFSET,
            is_last: bits & MORE_FRAGMENTS == 0,
        };
        part(packet, datagram, place, len)
    }
}

impl Version for V6 {
    /// A function of its own in the kernel too, for the stack's sake.
    #[inline(never)]
    fn whole(packet: &impl Buffer, at: usize, datagram: &mut Datagram<Self>) -> Result<(), DropReason> {
        *datagram = ipv6(packet, at)?;
        Ok(())
    }

    #[inline(always)]
    fn quoted(packet: &impl Buffer, at: usize) -> Result<Datagram<Self>, DropReason> {
        let header: Ipv6Wire = packet.read(at)?;
        if header.version_class >> 4 != 6 {
            return Err(DropReason::MalformedHeader);
        }
        let (protocol, payload) =
            skip_extensions(packet, header.next_header, at + size_of::<Ipv6Wire>(), limits::IPV6_EXTENSIONS)?;
        if protocol == protocol::FRAGMENT {
            return Err(DropReason::Fragment);
        }
        quoted(packet, header.src, header.dst, protocol, payload)
    }

    #[inline(always)]
    fn fragment(packet: &impl Buffer, at: usize) -> Result<(Datagram<Self>, Fragment), DropReason> {
        const UNITS: u16 = 0xfff8;
        let (mut datagram, len) = ipv6_header(packet, at, limits::IPV6_EXTENSIONS_IN_FRAGMENTS)?;
        let header: FragmentWire = packet.read(datagram.payload)?;
        let len = len.checked_sub(size_of::<FragmentWire>() as u32).ok_or(DropReason::MalformedHeader)?;
        let bits = header.place.get();
        let place = Place {
            id: u32::from_be_bytes(header.id.to_bytes()),
            start: (bits & UNITS) >> 3,
            is_last: bits & 1 == 0,
        };
        datagram.payload += size_of::<FragmentWire>();
        [datagram.protocol, _] = header.next_reserved.to_bytes();
        if place.start != 0 {
            return part(packet, datagram, place, len);
        }
        // RFC 7112: the first one has all headers.
        let (protocol, payload) = skip_extensions(
            packet,
            datagram.protocol,
            datagram.payload,
            limits::IPV6_EXTENSIONS_IN_FRAGMENTS,
        )?;
        let rest = len.checked_sub((payload - datagram.payload) as u32).ok_or(DropReason::MalformedHeader)?;
        if protocol == protocol::FRAGMENT {
            return Err(DropReason::MalformedHeader);
        }
        let fragment = place.fragment(len)?;
        let datagram = transport(packet, Datagram { protocol, payload, ..datagram }, rest)?;
        Ok((datagram, fragment))
    }
}

/// Which part of its datagram a fragment is.
struct Place {
    id: u32,
    start: u16,
    is_last: bool,
}

impl Place {
    /// The fragment, which carries `len` bytes.
    #[inline(always)]
    fn fragment(&self, len: u32) -> Result<Fragment, DropReason> {
        let end = u32::from(self.start) + len.div_ceil(8);
        // RFC 791 section 3.2: all but the last carry a multiple of 8 bytes. No datagram is longer than 65,535.
        if len == 0 || end > 8192 || !self.is_last && !len.is_multiple_of(8) {
            return Err(DropReason::MalformedHeader);
        }
        Ok(Fragment { id: self.id, start: self.start, end: end as u16, is_last: u32::from(self.is_last) })
    }
}

/// Completes a fragment that carries `len` bytes.
#[inline(always)]
fn part<A: Address>(
    packet: &impl Buffer,
    mut datagram: Datagram<A>,
    place: Place,
    len: u32,
) -> Result<(Datagram<A>, Fragment), DropReason> {
    let fragment = place.fragment(len)?;
    if place.start == 0 {
        return Ok((transport(packet, datagram, len)?, fragment));
    }
    // RFC 3128: the flags of TCP are the first fragment's to tell.
    if datagram.protocol == protocol::TCP && place.start == 1 {
        return Err(DropReason::Fragment);
    }
    if datagram.payload + len as usize > packet.length() as usize {
        return Err(DropReason::Truncated);
    }
    datagram.message.kind = Kind::Part;
    Ok((datagram, fragment))
}

#[inline(always)]
fn quoted<A: Address>(
    packet: &impl Buffer,
    src: A,
    dst: A,
    protocol: u8,
    payload: usize,
) -> Result<Datagram<A>, DropReason> {
    let mut datagram =
        Datagram { src, dst, protocol, ports: Ports::default(), payload, message: Message::default() };
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => datagram.ports = packet.read(payload)?,
        protocol::ICMP if A::IS_V4 => icmp(packet, &mut datagram, icmp4_kind)?,
        protocol::ICMPV6 if !A::IS_V4 => icmp(packet, &mut datagram, |kind| icmp6_kind(kind, dst.ip()))?,
        _ => {}
    }
    Ok(datagram)
}
