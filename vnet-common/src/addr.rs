//! Addresses: one type per IP version in flow keys, one for both in the policy tables.

use core::{fmt, hash::Hash};

/// A hardware address (EUI-48).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: multicast or broadcast.
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The link-local address that a host derives from this one (modified EUI-64, RFC 4291 appendix A).
    #[inline(always)]
    #[must_use]
    pub const fn link_local(self) -> Ip {
        let [a, b, c, d, e, f] = self.0;
        Ip::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// Destination and source of an Ethernet header: twelve bytes in the order of the frame, kept as words so
/// that they are copied and compared as such.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MacPair([u32; 3]);

impl MacPair {
    /// Words in the place of MACs, as they stand in a frame.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 3]) -> Self {
        Self(words)
    }

    /// To whom, from whom.
    #[inline(always)]
    #[must_use]
    pub const fn new(dst: MacAddr, src: MacAddr) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (dst.0, src.0);
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }

    /// To whom.
    #[inline(always)]
    #[must_use]
    pub const fn dst(self) -> MacAddr {
        let ([a, b, c, d], [e, f, _, _]) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        MacAddr([a, b, c, d, e, f])
    }

    /// From whom.
    #[inline(always)]
    #[must_use]
    pub const fn src(self) -> MacAddr {
        let ([_, _, a, b], [c, d, e, f]) = (self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes());
        MacAddr([a, b, c, d, e, f])
    }
}

/// An IPv4 address, its four bytes in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4(u32);

/// An IPv6 address, its sixteen bytes in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V6([u32; 4]);

/// An address of either version; IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ip([u32; 4]);

/// What IPv4 and IPv6 addresses have in common; the datapath is generic over it.
pub trait Address: Copy + Eq + Hash + fmt::Debug {
    /// Whether this is IPv4.
    const IS_V4: bool;

    /// The address as the policy tables know it.
    fn ip(self) -> Ip;
    /// From what the policy tables have, which is of the same version.
    fn of(ip: Ip) -> Self;
}

impl V4 {
    /// The word as it stands in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// From the bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// As the bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl V6 {
    /// From the bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(Ip::from_octets(octets).0)
    }

    /// As the bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        Ip(self.0).octets()
    }

    /// As words, each as the host reads four bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }
}

impl Address for V4 {
    const IS_V4: bool = true;

    #[inline(always)]
    fn ip(self) -> Ip {
        Ip([0, 0, 0xffff_u32.to_be(), self.0])
    }

    #[inline(always)]
    fn of(ip: Ip) -> Self {
        Self(ip.0[3])
    }
}

impl Address for V6 {
    const IS_V4: bool = false;

    #[inline(always)]
    fn ip(self) -> Ip {
        Ip(self.0)
    }

    #[inline(always)]
    fn of(ip: Ip) -> Self {
        Self(ip.0)
    }
}

impl Ip {
    /// `::`, which no endpoint has.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// From sixteen bytes in wire order.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// From words, each as the host reads four bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The same words.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// Sixteen bytes in wire order.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether this is a mapped IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be()
    }

    /// Whether packets to it reach many: IPv4 224.0.0.0/4 and 255.255.255.255, IPv6 ff00::/8.
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        let octets = self.octets();
        if self.is_v4() { octets[12] & 0xf0 == 0xe0 || self.0[3] == u32::MAX } else { octets[0] == 0xff }
    }

    /// Whether it means something on one link or host only, so that nobody routes it: 127.0.0.0/8, 169.254.0.0/16
    /// (RFC 3927 section 7), 0.0.0.0/8, `::`, `::1`, fe80::/10; and fd00:ec2::254, where clouds have their metadata.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(self) -> bool {
        let octets = self.octets();
        if self.is_v4() {
            return octets[12] == 127 || octets[12] == 169 && octets[13] == 254 || octets[12] == 0;
        }
        let is_low = self.0[0] | self.0[1] | self.0[2] == 0;
        let is_metadata = self.0[0] == 0xfd00_0ec2_u32.to_be()
            && self.0[1] | self.0[2] == 0
            && self.0[3] == 0x0254_u32.to_be();
        octets[0] == 0xfe && octets[1] & 0xc0 == 0x80 || is_low && u32::from_be(self.0[3]) <= 1 || is_metadata
    }

    /// A number that spreads addresses evenly.
    #[inline(always)]
    #[must_use]
    pub const fn digest(self) -> u32 {
        digest(self.0)
    }

    /// The host's own type for the same address.
    #[must_use]
    pub const fn to_std(self) -> core::net::IpAddr {
        core::net::Ipv6Addr::from_octets(self.octets()).to_canonical()
    }

    /// From the host's own type.
    #[must_use]
    pub const fn from_std(addr: core::net::IpAddr) -> Self {
        match addr {
            core::net::IpAddr::V4(v4) => Self::from_octets(v4.to_ipv6_mapped().octets()),
            core::net::IpAddr::V6(v6) => Self::from_octets(v6.octets()),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_std(), out)
    }
}

/// A number that spreads what has these words evenly: a multiplicative hash.
#[inline(always)]
#[must_use]
pub const fn digest([a, b, c, d]: [u32; 4]) -> u32 {
    /// 2^32 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    const GOLDEN: u32 = 0x9e37_79b9;
    let sum = (a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d.rotate_left(24)).wrapping_mul(GOLDEN);
    sum ^ sum >> 16
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_mac_pair_gives_both_back() {
        let (dst, src) = (MacAddr([1, 2, 3, 4, 5, 6]), MacAddr([7, 8, 9, 10, 11, 12]));
        let pair = MacPair::new(dst, src);
        assert_eq!((pair.dst(), pair.src()), (dst, src));
    }

    #[test]
    fn ipv4_is_mapped_and_back() {
        let ip = V4::from_octets([10, 0, 0, 1]).ip();
        assert!(ip.is_v4());
        assert_eq!(ip.to_std(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(Ip::from_std(ip.to_std()), ip);
    }

    #[test]
    fn multicast_covers_broadcast_and_both_versions() {
        let is_multicast = |text: &str| Ip::from_std(text.parse().expect("an address")).is_multicast();
        assert!(is_multicast("224.0.0.1") && is_multicast("255.255.255.255") && is_multicast("ff02::1"));
        assert!(!is_multicast("10.0.0.255") && !is_multicast("fe80::1"));
    }

    #[test]
    fn what_nobody_routes_is_local() {
        let is_local = |text: &str| Ip::from_std(text.parse().expect("an address")).is_local();
        assert!(
            ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::", "::1", "fe80::1", "febf::1", "fd00:ec2::254"]
                .map(is_local)
                .iter()
                .all(|is| *is)
        );
        assert!(
            ["10.0.0.1", "169.253.0.1", "fd00::1", "fec0::1", "2001:db8::1", "::2", "fd00:ec2::253"]
                .map(is_local)
                .iter()
                .all(|is| !*is)
        );
    }

    #[test]
    fn link_local_is_the_modified_eui64() {
        let ip = MacAddr([0x02, 0, 0, 0, 0, 0x0a]).link_local();
        assert_eq!(ip.to_std(), IpAddr::V6("fe80::ff:fe00:a".parse::<Ipv6Addr>().expect("an address")));
    }
}
