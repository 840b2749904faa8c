//! Tracked flows. A flow has two entries, one for each direction, and each holds the whole
//! decision for the packets that arrive with its tuple.
//!
//! An entry belongs to its tuple for as long as a packet may be looking at it. Packets change it in place and
//! never replace or remove it: the kernel gives the memory of an element that was replaced or removed to the
//! next one at once, and a packet on another CPU would read there what was decided about somebody else. The
//! controller alone has entries removed, those that it has marked [`Flow::EXPIRED`] and no packet uses any more; unless
//! a new flow begins in one of them before.
//!
//! The packets of a direction change its record; those of both directions change `state`. CPUs that handle
//! packets of one direction at once may each miss the other's last write, never tear it. Two words decide
//! between them, by compare-and-exchange: `last_seen`, whether the entry lives, and `generation`, who may
//! write its decision and who may rely on it.

use core::cell::Cell;

use crate::{Address, Be16, Ip, MacPair, V4, V6, bits, shared};

/// Version of the layout of [`Flow`] and [`FlowKey`]: entries of another ABI with this one or a lower one can be
/// taken over. Layout 1 had zeros where translations are, layout 2 where the MTU is, layout 3 where tags are.
pub const FLOW_LAYOUT: u32 = 4;

/// Where a packet was received, and its protocol: 24 bits of the ifindex or of the number of a link ([`crate::link`]),
/// then 8 of protocol.
///
/// A tuple that arrives elsewhere is another key, so no port can speak in the flow of another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin(u32);

impl Origin {
    /// The bits of the device.
    const DEVICE: u32 = (1 << 24) - 1;

    /// Received on `ifindex`, at most [`crate::limits::MAX_IFINDEX`], or by a link of that number, with IP protocol
    /// number `protocol`.
    #[inline(always)]
    #[must_use]
    pub const fn new(ifindex: u32, protocol: u8) -> Self {
        Self(ifindex & Self::DEVICE | (protocol as u32) << 24)
    }

    /// Both in one word.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// The device.
    #[inline(always)]
    #[must_use]
    pub const fn ifindex(self) -> u32 {
        self.0 & Self::DEVICE
    }

    /// The protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// A tuple as the packet was received.
///
/// Layout (IPv4, 16 bytes): `origin` u32, `src` 4, `dst` 4, `ports` u16 and u16 in wire
/// order. ICMP echo has its identifier as source port of the request and as destination port of the reply.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// Device and protocol.
    pub origin: Origin,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source and destination port, or 0 for protocols without.
    pub ports: Ports,
}

/// The addresses and ports of a packet.
///
/// Layout (IPv4, 12 bytes): `src` 4, `dst` 4, `ports` u16 and u16 in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source and destination port, or 0 for protocols without.
    pub ports: Ports,
}

impl<A: Copy> Tuple<A> {
    /// That of an answer.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, ports: self.ports.reversed() }
    }
}

/// Source and destination port in wire order, as they stand in the headers of TCP, UDP and SCTP: one word,
/// so that it is copied as such.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports(u32);

impl Ports {
    /// From both ports.
    #[inline(always)]
    #[must_use]
    pub const fn new(src: Be16, dst: Be16) -> Self {
        let ([a, b], [c, d]) = (src.to_bytes(), dst.to_bytes());
        Self(u32::from_ne_bytes([a, b, c, d]))
    }

    /// The source port.
    #[inline(always)]
    #[must_use]
    pub const fn src(self) -> Be16 {
        let [a, b, _, _] = self.0.to_ne_bytes();
        Be16::from_bytes([a, b])
    }

    /// The destination port.
    #[inline(always)]
    #[must_use]
    pub const fn dst(self) -> Be16 {
        let [_, _, c, d] = self.0.to_ne_bytes();
        Be16::from_bytes([c, d])
    }

    /// Both in one word, as they stand in a header.
    #[inline(always)]
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Those of an answer.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self(self.0.rotate_left(16))
    }
}

impl<A: Address> FlowKey<A> {
    /// The key of an endpoint-independent mapping: what `ports.src` of `addr`, sent at `ifindex`, becomes outside. No
    /// packet has it, for none arrives at device 0; the device stands where the destination would.
    #[inline(always)]
    #[must_use]
    pub fn mapping(ifindex: u32, protocol: u8, addr: A, port: Be16) -> Self {
        let tuple =
            Tuple { src: addr, dst: device_as_address(ifindex), ports: Ports::new(port, Be16::default()) };
        Self::of(0, protocol, tuple)
    }

    /// Whether this is the key of a mapping, or of the reservation that belongs to one.
    #[inline(always)]
    #[must_use]
    pub const fn is_of_mapping(&self) -> bool {
        self.origin.ifindex() == 0
    }

    /// The key of packets with `tuple` that arrive at `ifindex` with IP protocol number `protocol`.
    #[inline(always)]
    #[must_use]
    pub const fn of(ifindex: u32, protocol: u8, tuple: Tuple<A>) -> Self {
        let Tuple { src, dst, ports } = tuple;
        Self { origin: Origin::new(ifindex, protocol), src, dst, ports }
    }

    /// Its addresses and ports.
    #[inline(always)]
    #[must_use]
    pub const fn tuple(&self) -> Tuple<A> {
        Tuple { src: self.src, dst: self.dst, ports: self.ports }
    }

    /// The tuple of an answer that is received on `ifindex`.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self, ifindex: u32) -> Self {
        Self {
            origin: Origin::new(ifindex, self.origin.protocol()),
            src: self.dst,
            dst: self.src,
            ports: self.ports.reversed(),
        }
    }
}

impl<A: Address> Tuple<A> {
    /// The tuple with which an endpoint-independent mapping leaves by `uplink`: its source alone means something. The
    /// pair of a mapping's entry reserves it.
    #[inline(always)]
    #[must_use]
    pub fn mapped(uplink: u32, addr: A, port: Be16) -> Self {
        Self { src: addr, dst: device_as_address(uplink), ports: Ports::new(port, Be16::default()) }
    }
}

/// A device in the place of an address, in keys that no packet has.
#[inline(always)]
fn device_as_address<A: Address>(ifindex: u32) -> A {
    A::of(Ip::from_words([0, 0, 0xffff_u32.to_be(), ifindex]))
}

/// Coarse monotonic time in ticks of 2^30 ns (1.07 s); it wraps after 146 years.
#[inline(always)]
#[must_use]
pub const fn ticks_from_ns(ns: u64) -> u32 {
    (ns >> 30) as u32
}

/// Ticks that cover at least `secs`.
#[inline(always)]
#[must_use]
pub const fn ticks_from_secs(secs: u32) -> u32 {
    ((secs as u64 * 1_000_000_000) >> 30) as u32 + 1
}

/// Where a connection stands; both of its entries say the same, except while two CPUs change it at once.
///
/// For TCP the names are those of RFC 9293 section 3.3.2, seen from the middle. Other protocols are
/// `New` until the first answer, then `Established`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowState {
    /// The opening packet passed: SYN-SENT.
    New = 1,
    /// The answer passed: SYN-RECEIVED.
    SynReceived = 2,
    /// Data may pass both ways.
    Established = 3,
    /// One end closed: FIN-WAIT.
    FinWait = 4,
    /// Both ends closed: TIME-WAIT.
    TimeWait = 5,
    /// An exact RST passed, or the policy allows the flow no more: CLOSED.
    Closed = 6,
}

impl FlowState {
    /// From the byte in an entry; an unknown one is `Closed`, so that it is judged anew.
    #[inline(always)]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::New,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::TimeWait,
            _ => Self::Closed,
        }
    }

    /// After how many seconds without a packet in either direction the flow is forgotten.
    #[must_use]
    pub const fn timeout_secs(self, protocol: u8) -> u32 {
        const TCP: u8 = 6;
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        match (protocol, self) {
            // RFC 5382 REQ-5: at least 2 h 4 min.
            (TCP, Self::Established) => 7440,
            // An exact RST or the policy ended it; leave time for what is still in flight.
            (_, Self::Closed) => 10,
            // RFC 5382 REQ-5: transitory connections at least 4 minutes.
            (TCP, _) => 240,
            // RFC 5508 REQ-2: at least 60 seconds.
            (ICMP | ICMPV6, _) => 60,
            // RFC 4787 REQ-5: at least 2 minutes, 5 recommended.
            (_, Self::Established) => 300,
            (_, _) => 120,
        }
    }
}

/// What is done to a packet beyond its delivery; a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ops(u8);

impl Ops {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// One hop: decrement the TTL, rewrite both MACs.
    pub const ROUTE: Self = Self(1);
    /// This entry is the reply direction of its flow.
    pub const REPLY: Self = Self(1 << 1);
    /// The rule that allowed the flow at the sender's end keeps it when no rule allows it any more.
    pub const KEEP_EGRESS: Self = Self(1 << 2);
    /// The same for the receiver's end.
    pub const KEEP_INGRESS: Self = Self(1 << 3);
    /// Addresses or ports are replaced.
    pub const TRANSLATE: Self = Self(1 << 4);
    /// The segment size that a SYN announces is lowered to what fits the MTU.
    pub const CLAMP_MSS: Self = Self(1 << 5);
}

bits!(Ops);

/// One direction of a flow.
///
/// Layout, offsets in bytes: 0 `generation`, 4 `last_seen`, 8 `received`, 20 `sent`, 32 `device`,
/// 36 `delivery`, 37 `ops`, 38 `state`, 39 `finished`, 40 `seq_next`, 44 `ack`, 48 `packets`, 56 `bytes`,
/// 64 `pair_device`, 68 `rules`, 76 `mtu`, 78 `vlan`, 80 `leaves`, then `outer` u16 and `heard` u16.
#[repr(C, align(8))]
#[derive(Clone, Debug, Default)]
pub struct Flow<A: Copy> {
    /// The policy generation that allowed the flow last; [`Flow::UNDECIDED`] while a CPU writes the decision.
    pub generation: Cell<u32>,
    /// Tick of the last packet of this direction; [`Flow::EXPIRED`] once its flow is forgotten.
    pub last_seen: Cell<u32>,
    /// Decision: the MACs that its packets carry on arrival; a packet with others is judged anew.
    pub received: Cell<MacPair>,
    /// Decision: the MACs that they carry away, if routed.
    pub sent: Cell<MacPair>,
    /// Decision: where they go.
    pub device: Cell<u32>,
    /// Decision: how they get there: a [`crate::Delivery`].
    pub delivery: Cell<u8>,
    /// Decision: what is done to them.
    pub ops: Cell<Ops>,
    /// A [`FlowState`].
    pub state: Cell<u8>,
    /// TCP: 1 once this direction has sent its FIN.
    pub finished: Cell<u8>,
    /// TCP: the highest sequence number sent, plus one.
    pub seq_next: Cell<u32>,
    /// TCP: the highest acknowledgement sent.
    pub ack: Cell<u32>,
    /// Packets of this direction. Packets that pass on two CPUs at once may be counted as one.
    pub packets: Cell<u64>,
    /// Bytes of this direction, Ethernet headers included.
    pub bytes: Cell<u64>,
    /// Decision: the device where packets of the other direction arrive.
    pub pair_device: Cell<u32>,
    /// Decision: the rules that allowed the flow: the sender's egress, then the receiver's ingress.
    pub rules: Cell<[u32; 2]>,
    /// Decision: the longest IP packet in bytes that passes where they go, if they are routed; 0: whatever comes.
    pub mtu: Cell<u16>,
    /// Decision: the tag that its packets leave with, as in [`crate::Link::vlan`]; 0: none.
    pub vlan: Cell<u16>,
    /// Decision: the tuple that its packets leave with, if they are translated.
    pub leaves: Cell<Tuple<A>>,
    /// Decision: the service tag around that one, or the number of the overlay's peer that they go to; 0: none.
    pub outer: Cell<u16>,
    /// Decision: the number of the overlay's peer that they come from; 0: they do not come from one.
    pub heard: Cell<u16>,
}

impl<A: Copy> Flow<A> {
    /// The `last_seen` of an entry that will be removed: its flow is over, but another one may begin in it.
    pub const EXPIRED: u32 = u32::MAX;
    /// The `last_seen` of an entry that is being removed at this moment.
    pub const REMOVED: u32 = u32::MAX - 1;
    /// The `generation` of an entry whose decision is being written: that of no policy.
    pub const UNDECIDED: u32 = 0;

    /// The tuple with which its packets leave that arrive with `key`.
    #[inline(always)]
    #[must_use]
    pub fn leaving(&self, key: &FlowKey<A>) -> Tuple<A>
    where
        A: Address,
    {
        if self.ops.get().has(Ops::TRANSLATE) { self.leaves.get() } else { key.tuple() }
    }

    /// The key of the other direction's entry, where this is the one of `key`.
    #[inline(always)]
    #[must_use]
    pub fn pair_key(&self, key: &FlowKey<A>) -> FlowKey<A>
    where
        A: Address,
    {
        let answer = self.leaving(key).reversed();
        FlowKey::of(self.pair_device.get(), key.origin.protocol(), answer)
    }

    /// Where the connection stands.
    #[inline(always)]
    #[must_use]
    pub fn state(&self) -> FlowState {
        FlowState::from_byte(self.state.get())
    }
}

shared! {
    FlowKey<V4> = 16,
    FlowKey<V6> = 40,
    Tuple<V4> = 12,
    Tuple<V6> = 36,
    MacPair = 12,
}

/// The bytes of an entry as the controller reads them from a map: a copy that no packet changes.
macro_rules! flow_image {
    ($name:ident, $addr:ty, $words:literal) => {
        #[doc = concat!("A copy of a `Flow<", stringify!($addr), ">`, to read from or write to a map.")]
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name([u64; $words]);

        shared! { $name = { size_of::<Flow<$addr>>() } }

        impl core::ops::Deref for $name {
            type Target = Flow<$addr>;

            fn deref(&self) -> &Flow<$addr> {
                // SAFETY: both types have the same size and alignment (asserted above), and any
                // bytes are a valid `Flow`: integers, arrays and cells of integers.
                unsafe { &*(&raw const self.0).cast() }
            }
        }

        impl From<Flow<$addr>> for $name {
            fn from(flow: Flow<$addr>) -> Self {
                // SAFETY: as above, in the other direction; a `Flow` has no padding.
                Self(unsafe { core::mem::transmute::<Flow<$addr>, [u64; $words]>(flow) })
            }
        }
    };
}
flow_image!(FlowImage4, V4, 12);
flow_image!(FlowImage6, V6, 15);

const _: () =
    assert!(align_of::<Flow<V4>>() == align_of::<u64>() && align_of::<Flow<V6>>() == align_of::<u64>());

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn reversing_twice_gives_the_tuple_back() {
        let key = FlowKey {
            origin: Origin::new(7, 6),
            src: V4::from_octets([10, 0, 0, 1]),
            dst: V4::from_octets([10, 0, 0, 2]),
            ports: Ports::new(Be16::new(40000), Be16::new(80)),
        };
        assert_eq!((key.ports.src().get(), key.ports.dst().get()), (40000, 80));
        assert_eq!(key.reversed(9).ports.src().get(), 80);
        assert_eq!(key.reversed(9).origin.ifindex(), 9);
        assert_eq!(key.reversed(9).reversed(7), key);
    }

    #[test]
    fn fields_stand_where_the_layout_says() {
        assert_eq!((offset_of!(Flow<V4>, received), offset_of!(Flow<V4>, device)), (8, 32));
        assert_eq!((offset_of!(Flow<V4>, packets), offset_of!(Flow<V4>, pair_device)), (48, 64));
        assert_eq!(offset_of!(Flow<V6>, leaves), 80);
        assert_eq!(size_of::<Tuple<V4>>(), 12);
    }

    #[test]
    fn ticks_never_shorten_a_timeout() {
        for secs in [1, 10, 60, 7440] {
            assert!(u64::from(ticks_from_secs(secs)) << 30 >= u64::from(secs) * 1_000_000_000);
        }
    }
}
