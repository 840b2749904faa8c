//! How much fits: capacities of maps, and bounds of loops. The controller sizes a policy against
//! these before it touches anything.

/// Flow entries for IPv4; a flow takes two. 262,144 entries are 42 MB, preallocated.
pub const FLOWS4: u32 = 1 << 18;
/// Flow entries for IPv6; a flow takes two.
pub const FLOWS6: u32 = 1 << 17;
/// Records of ports, both sides together.
pub const PORTS: u32 = 1 << 13;
/// Ports of one network on a host: a Linux bridge has no more (`BR_MAX_PORTS` in `net/bridge/br_private.h`; number 0 is
/// nobody's).
pub const PORTS_OF_NETWORK: usize = 1023;
/// Records of networks, both sides together.
pub const NETWORKS: u32 = 1 << 11;
/// Addresses of ports and gateways, both sides together.
pub const ENDPOINTS: u32 = 1 << 16;
/// CIDR prefixes that rules name, both sides together.
pub const PEERS: u32 = 1 << 17;
/// Prefixes of networks as others see them that are joined to them, both sides together.
pub const JOINS: u32 = 1 << 14;
/// Entries of compiled rules, both sides together.
pub const POLICY: u32 = 1 << 21;
/// Uplinks, both sides together.
pub const UPLINKS: u32 = 1 << 8;
/// Addresses that networks leave with, both sides together.
pub const EXITS: u32 = 1 << 14;
/// Private addresses with an elastic IP, both sides together.
pub const ELASTIC_IPS: u32 = 1 << 14;
/// Blocks of ports that are forwarded, both sides together.
pub const FORWARDS: u32 = 1 << 17;
/// Links by which networks go beyond this host: each by what arrives, by what leaves, and where its network floods;
/// both sides together.
pub const LINKS: u32 = 1 << 15;
/// MACs of ports and gateways, both sides together.
pub const STATIONS: u32 = 1 << 14;
/// Peers of overlays, both sides together.
pub const VTEPS: u32 = 1 << 13;
/// Stations of overlays of which it is known behind which peer they are; the oldest are forgotten first.
pub const HEARD: u32 = 1 << 14;
/// Links to which a network floods: its trunk or the peers of its overlay, and ports that take part in several networks.
pub const FLOODS: u32 = 64;
/// Bytes of what is seen of ports whose addresses are learned, until the controller has read it: over 400 messages of
/// DHCP, or 5900 claims.
pub const SNOOPED: u32 = 1 << 18;
/// Sockets of the host of which it is known whom they believe to speak to; the oldest are forgotten first.
pub const SOCKETS: u32 = 1 << 14;
/// Counters of drops by port and reason.
pub const PORT_DROPS: u32 = 1 << 16;
/// One above the highest number of a drop reason.
pub const DROP_REASONS: u32 = 128;

/// Groups of fragmented datagrams: one for all devices whose ifindexes are alike modulo this number, so that what one
/// device does to others stays within its group.
pub const FRAGMENT_GROUPS: u32 = 64;
/// Fragmented datagrams that each group follows at once.
pub const DATAGRAMS_IN_GROUP: u32 = 64;
/// Fragments that are held back in each group until the first one of their datagram arrives.
pub const HELD_IN_GROUP: u32 = 64;
/// Fragments of a datagram: 65,535 bytes take 45 of 1,480.
pub const FRAGMENTS: usize = 64;
/// Bytes of a frame that can be held back.
pub const HELD_BYTES: usize = 2048;
/// Budgets of what devices cause: those whose numbers agree in the lowest 12 bits share one. 64 kB on each CPU.
pub const BUDGETS: u32 = 1 << 12;

/// Refused tuples that each CPU remembers, of each IP version: 128 kB for both.
pub const REFUSALS: u32 = 1 << 10;

/// ICMP errors about packets that came in at one device, in each tick (1.07 s) on each CPU; RFC 4443 section 2.4(f)
/// and RFC 1812 section 4.3.2.8 ask for a limit. The former has 10 in a second for small devices; Linux has bursts of
/// 50 for the whole host (`icmp_msgs_burst`). Errors of at most 560 bytes make 28 kB a tick of it, and a sender that
/// learns an MTU or traces a route needs one or three.
pub const ERRORS_PER_TICK: u32 = 50;

/// Frames for many that a workload may send by one port, in each tick on each CPU: what a switch calls storm control. A
/// workload that bridges two ports of its own sends the same frame round and round, as fast as it can; so many are
/// a few per cent of a CPU for each ten ports that get a copy. Streams for many are slower: 50 Mbit/s of video in
/// packets of 1,316 bytes are 4,750 packets a second.
pub const FLOODS_PER_TICK: u32 = 5000;

/// Flows that who speaks at one device may have opened in a tick on each CPU that have not come about yet, while a flow
/// table fills up. What comes about is given back, so whoever is served may open as many as they like.
pub const NEWCOMERS_PER_TICK: u32 = 2000;

/// Devices, and links, at which more than one [`LARGEST_PART`] of all flows of either IP version that fit have come about.
pub const HAVE_MOST: u32 = 2 * LARGEST_PART;

/// One part in this many of all flows that fit may come about at one device, or link, once a table is crowded.
pub const LARGEST_PART: u32 = 4;

/// TCP connections that a source outside which is known to be there may have opened in a tick on all CPUs, likewise, in the
/// place of that. So it takes none from others. Many clients may have one address (RFC 6888), and what comes about is given
/// back: with a round trip of 100 ms they may open 10,000 in a second.
pub const NEWCOMERS_OF_SOURCE: u32 = 1000;

/// Sources outside of which it is known that they are there; those asked for longest ago are forgotten first.
pub const GENUINE: u32 = 1 << 16;

/// Bytes of the packet that an ICMP error of vnet's own quotes at most: the error then stays below 576 bytes in IPv4
/// (RFC 1812 section 4.3.2.3), and below the least MTU of IPv6.
pub const QUOTED_BYTES: u32 = 512;

/// TCP options that are looked at for the segment size, single bytes of padding counted too. 40 bytes have room for
/// ten of four bytes; systems put the segment size first.
pub const TCP_OPTIONS: u32 = 10;

/// IPv6 extension headers that the parser follows. RFC 8200 section 4.1 gives six kinds, each of
/// which a sane packet carries once; destination options may stand twice.
pub const IPV6_EXTENSIONS: u32 = 6;

/// The same before a fragment header, and behind it. RFC 8200 section 4.1 has hop-by-hop and destination options
/// before, destination options behind.
pub const IPV6_EXTENSIONS_IN_FRAGMENTS: u32 = 2;

/// IPv4 options that the parser looks at: 40 bytes have room for ten of four bytes, the padding aside.
pub const IPV4_OPTIONS: u32 = 10;

/// Interface indexes that a flow key can tell apart: 22 bits of 24, above them are numbers of links. The kernel counts
/// them up from 1 in each network namespace.
pub const MAX_IFINDEX: u32 = (1 << 22) - 1;
