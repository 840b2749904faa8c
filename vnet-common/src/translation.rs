//! Where networks lead outside, and what is translated on the way: uplinks, exits, elastic IPs, forwards.

use crate::{Address, Ip, MacAddr, MacPair, Side, V4, V6, shared};

/// Key of an uplink's record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UplinkKey {
    /// The uplink.
    pub ifindex: u32,
    /// Which copy.
    pub side: Side,
}

/// What the datapath knows of an uplink.
///
/// Layout: `mac` [u8; 6], `mtu` u16, `gateway4` 4, `gateway6` 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UplinkRecord {
    /// Its MAC: what comes in is addressed to it.
    pub mac: MacAddr,
    /// The longest IP packet in bytes that leaves by it; 0: not known.
    pub mtu: u16,
    /// The router to whom packets go that leave by it, prefixes under its number in the table of joins aside;
    /// unspecified: the kernel looks for the next hop of each packet.
    pub gateway4: V4,
    /// The same for IPv6: the last eight bytes of a link-local address (fe80::/64), as they stand in it.
    pub gateway6: [u32; 2],
}

impl UplinkRecord {
    /// The uplink that has `mac` and sends IP packets of `mtu` bytes at most.
    #[must_use]
    pub const fn new(mac: MacAddr, mtu: u16) -> Self {
        Self { mac, mtu, gateway4: V4::from_octets([0; 4]), gateway6: [0; 2] }
    }

    /// The same with these routers; of IPv6's only a link-local address is of use.
    #[must_use]
    pub fn behind(self, gateway4: Option<V4>, gateway6: Option<V6>) -> Self {
        const LINK_LOCAL: [u32; 2] = [0xfe80_0000_u32.to_be(), 0];
        let gateway6 =
            gateway6.map(V6::words).and_then(|[a, b, c, d]| ([a, b] == LINK_LOCAL).then_some([c, d]));
        Self { gateway4: gateway4.unwrap_or_default(), gateway6: gateway6.unwrap_or_default(), ..self }
    }

    /// The router of an IP version, as the first words of a frame tell it on the way out; `None` if none is known.
    #[inline(always)]
    #[must_use]
    pub fn gateway<A: Address>(&self) -> Option<MacPair> {
        let [first, second] = if A::IS_V4 { [self.gateway4.word(), 0] } else { self.gateway6 };
        (first | second != 0).then(|| MacPair::from_words([first, second, 0]))
    }
}

/// Key of a network's exit for one IP version. Each slot has one address to leave with; slot 0 is always there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitKey {
    /// The network's bridge.
    pub network: u32,
    /// Which copy.
    pub side: Side,
    /// 4 or 6.
    pub version: u16,
    /// Below [`Exit::slots`].
    pub slot: u16,
}

/// How packets of a network leave.
///
/// Layout: `addr` 16, `uplink` u32, `slots`, `first_port`, `last_port` u16, 2 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The source address that they get.
    pub addr: Ip,
    /// The device that they leave by.
    pub uplink: u32,
    /// How many addresses the network has to leave with. A workload always gets the same (RFC 4787 REQ-2).
    pub slots: u16,
    /// The first source port that they may get.
    pub first_port: u16,
    /// The last one.
    pub last_port: u16,
    padding: u16,
}

impl Exit {
    /// By `uplink` with `addr`, one of `slots` addresses, and a source port from `first_port` to `last_port`.
    #[must_use]
    pub const fn new(uplink: u32, addr: Ip, slots: u16, (first_port, last_port): (u16, u16)) -> Self {
        Self { addr, uplink, slots, first_port, last_port, padding: 0 }
    }
}

/// The elastic IP of an endpoint; its key is the [`crate::EndpointKey`] of the private address.
///
/// Layout: `addr` 16, `uplink` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElasticIp {
    /// The public address.
    pub addr: Ip,
    /// The device behind which it is known.
    pub uplink: u32,
}

/// Key of what stands behind an address and a block of ports, or of the head of an address and protocol.
///
/// As with rules, a range of ports is split into aligned power-of-two blocks, and the head says which sizes
/// there are. Layout: `scope` u32, `side` u32, `addr` 16, `port` u16, `protocol` u8, `len` u8.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardKey {
    /// The bridge of the network in which it holds; 0: everywhere; [`ForwardKey::HOST`].
    pub scope: u32,
    /// Which copy.
    pub side: Side,
    addr: [u8; 16],
    port: u16,
    protocol: u8,
    len: u8,
}

impl ForwardKey {
    /// The scope of what holds for the host's own processes alone: what listens on its loopback.
    pub const HOST: u32 = u32::MAX;
    /// The head of nothing.
    pub const NONE: Self = Self::head(0, 0, Ip::UNSPECIFIED, 0);
    const HEAD: u8 = 0x3f;
    /// The length of a key of [`ForwardKey::slot`].
    const SLOT: u8 = 0x3e;
    /// The length of a key of [`ForwardKey::member`].
    const MEMBER: u8 = 0x3d;
    /// The protocol of what holds for every protocol: elastic IPs.
    pub const ANY_PROTOCOL: u8 = 0;

    /// The head of an address and protocol.
    #[inline(always)]
    #[must_use]
    pub const fn head(scope: u32, side: Side, addr: Ip, protocol: u8) -> Self {
        Self { scope, side, addr: addr.octets(), port: 0, protocol, len: Self::HEAD }
    }

    /// The block of `prefix_len` significant bits, 0 to 16, that contains `port`.
    #[inline(always)]
    #[must_use]
    pub const fn block(&self, port: u16, prefix_len: u8) -> Self {
        let mut block = *self;
        block.narrow(port, prefix_len);
        block
    }

    /// One of the slots of list `list`, which clients are spread over: the backend that it belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn slot(list: u32, side: Side, slot: u16) -> Self {
        Self { port: slot, len: Self::SLOT, ..Self::head(list, side, Ip::UNSPECIFIED, 0) }
    }

    /// The backend at `addr` of list `list`, if it is one; a list names an address once.
    #[inline(always)]
    #[must_use]
    pub const fn member(list: u32, side: Side, addr: Ip) -> Self {
        Self { len: Self::MEMBER, ..Self::head(list, side, addr, 0) }
    }

    /// The protocol.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Becomes that block.
    #[inline(always)]
    pub const fn narrow(&mut self, port: u16, prefix_len: u8) {
        let mask = (0xffff_0000_u32 >> prefix_len) as u16;
        (self.port, self.len) = (port & mask, prefix_len);
    }

    /// Becomes the head to look under after this one: that of every protocol, then those of everywhere, beginning with
    /// `protocol`; false after the last.
    #[inline(always)]
    pub const fn advance(&mut self, protocol: u8) -> bool {
        if self.protocol != Self::ANY_PROTOCOL {
            self.protocol = Self::ANY_PROTOCOL;
            return true;
        }
        let has_more = self.scope != 0;
        (self.scope, self.protocol) = (0, protocol);
        has_more
    }

    /// The same on another side.
    #[must_use]
    pub const fn on_side(&self, side: Side) -> Self {
        Self { side, ..*self }
    }
}

/// Why a destination is translated; the order is that of precedence.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKind {
    /// A metadata service, which no rule is asked about.
    Metadata = 1,
    /// A forward.
    Forward = 2,
    /// An elastic IP.
    Elastic = 3,
    /// A forward to several backends: [`Forward::list`].
    List = 4,
}

/// What stands behind a block of ports; in a head, only which blocks there are.
///
/// Layout: `target` 16, `network` u32, `listen` u16, `port` u16, `kind` u32, with bit 8 set if it keeps
/// its flows, bit 9 if a client stays with its backend (in a head: bit n set when blocks of n significant bits
/// exist). A list has its number in `network`, the number of its slots in `listen`, and no target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Who gets it: an endpoint of `network`.
    pub target: Ip,
    /// The bridge of the target's network.
    pub network: u32,
    /// The first port of the range that is listened on.
    pub listen: u16,
    /// Which port of the target's that one becomes; those after it follow. 0: every port stays what it is.
    pub port: u16,
    word: u32,
}

impl Forward {
    /// The head: bit `n` of `sizes` is set when blocks of prefix length `n` exist.
    #[must_use]
    pub const fn head(sizes: u32) -> Self {
        Self { target: Ip::UNSPECIFIED, network: 0, listen: 0, port: 0, word: sizes }
    }

    /// The bit of `word` that tells [`Forward::keeps`].
    const KEEPS: u32 = 1 << 8;

    /// The same, whose flows stay with whoever had them when it leads to somebody else.
    #[must_use]
    pub const fn keeping(self) -> Self {
        Self { word: self.word | Self::KEEPS, ..self }
    }

    /// Whether established flows stay with whoever had them.
    #[inline(always)]
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.word & Self::KEEPS != 0
    }

    /// To `target` of `network`; a range that begins at `listen` becomes one that begins at `port`.
    #[must_use]
    pub const fn to(kind: ForwardKind, network: u32, target: Ip, (listen, port): (u16, u16)) -> Self {
        Self { target, network, listen, port, word: kind as u32 }
    }

    /// The bit of `word` that tells [`Forward::is_by_client`].
    const BY_CLIENT: u32 = 1 << 9;

    /// To the backends of list `list`, which has `slots` of [`ForwardKey::slot`]: which one, the addresses and ports of
    /// a flow tell, or, with `by_client`, its client's address alone. Without slots none of them takes new flows.
    #[must_use]
    pub const fn list(list: u32, slots: u16, by_client: bool) -> Self {
        let word = ForwardKind::List as u32 | if by_client { Self::BY_CLIENT } else { 0 };
        Self { target: Ip::UNSPECIFIED, network: list, listen: slots, port: 0, word }
    }

    /// Which of a list's slots a number falls on that may be any with equal chance (Lemire, Fast Random Integer
    /// Generation in an Interval, 2019: a multiplication in place of a division).
    #[inline(always)]
    #[must_use]
    pub const fn slot(&self, number: u32) -> u16 {
        ((number as u64 * self.listen as u64) >> 32) as u16
    }

    /// Whether all flows of a client go to the same backend.
    #[inline(always)]
    #[must_use]
    pub const fn is_by_client(&self) -> bool {
        self.word & Self::BY_CLIENT != 0
    }

    /// The prefix lengths of a head.
    #[inline(always)]
    #[must_use]
    pub const fn sizes(&self) -> u32 {
        self.word
    }

    /// Why it is translated.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, kind: ForwardKind) -> bool {
        self.word & !(Self::KEEPS | Self::BY_CLIENT) == kind as u32
    }

    /// What `port` becomes.
    #[inline(always)]
    #[must_use]
    pub const fn translate(&self, port: u16) -> u16 {
        if self.port == 0 { port } else { self.port.wrapping_add(port.wrapping_sub(self.listen)) }
    }
}

/// Whom a socket of the host's spoke to.
///
/// Layout: `cookie` u64, `peer` 20, 4 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// The kernel's number of the socket (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// The workload that it speaks to.
    pub peer: SocketAddress,
    padding: u32,
}

impl SocketKey {
    /// The socket with `cookie`, speaking to `peer`.
    #[inline(always)]
    #[must_use]
    pub const fn new(cookie: u64, peer: SocketAddress) -> Self {
        Self { cookie, peer, padding: 0 }
    }
}

/// An address and a port.
///
/// Layout: `addr` 16, `port` u16 in the host's order, 2 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketAddress {
    /// The address.
    pub addr: Ip,
    /// The port.
    pub port: u16,
    padding: u16,
}

impl SocketAddress {
    /// `port` of `addr`.
    #[inline(always)]
    #[must_use]
    pub const fn new(addr: Ip, port: u16) -> Self {
        Self { addr, port, padding: 0 }
    }
}

shared! {
    SocketAddress = 20,
    SocketKey = 32,
    UplinkKey = 8,
    UplinkRecord = 20,
    ExitKey = 12,
    Exit = 28,
    ElasticIp = 20,
    ForwardKey = 28,
    Forward = 28,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_its_port() {
        let head = ForwardKey::head(0, 0, Ip::UNSPECIFIED, 6);
        assert_eq!(head.block(8080, 16), head.block(8080, 16));
        assert_eq!(head.block(8081, 15), head.block(8080, 15));
        assert_ne!(head.block(8082, 15), head.block(8080, 15));
        assert_eq!(head.block(1, 0), head.block(65535, 0));
        assert_ne!(head, head.block(0, 0));
    }

    #[test]
    fn heads_follow_from_the_narrowest_to_the_widest() {
        let mut head = ForwardKey::head(5, 1, Ip::UNSPECIFIED, 6);
        let expected = [(5, 0, true), (0, 6, true), (0, 0, true), (0, 6, false)];
        for (scope, protocol, has_more) in expected {
            assert_eq!((head.advance(6), head.scope, head.protocol), (has_more, scope, protocol));
        }
    }

    #[test]
    fn every_slot_of_a_list_is_met_and_no_other() {
        let list = Forward::list(7, 3, true);
        assert!(list.is(ForwardKind::List) && list.is_by_client() && !list.keeps());
        let third = u32::MAX / 3;
        let met = [0, third, third + 1, 2 * third, 2 * third + 1, 2 * third + 2, u32::MAX]
            .map(|number| list.slot(number));
        assert_eq!(met, [0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(Forward::list(7, 0, false).slot(u32::MAX), 0, "there is none");
        let keys =
            [ForwardKey::slot(7, 0, 0), ForwardKey::slot(7, 0, 1), ForwardKey::member(7, 0, Ip::UNSPECIFIED)];
        assert!(keys[0] != keys[1] && !keys.contains(&ForwardKey::head(7, 0, Ip::UNSPECIFIED, 0)));
        assert_ne!(keys[0], keys[2]);
    }

    #[test]
    fn a_range_moves_as_a_whole() {
        let forward = Forward::to(ForwardKind::Forward, 1, Ip::UNSPECIFIED, (5000, 80));
        assert_eq!((forward.translate(5000), forward.translate(5009)), (80, 89));
        let elastic = Forward::to(ForwardKind::Elastic, 1, Ip::UNSPECIFIED, (0, 0));
        assert_eq!(elastic.translate(443), 443);
    }
}
