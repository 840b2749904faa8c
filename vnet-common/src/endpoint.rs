//! Who is where: the records of ports, networks, endpoints and peers.
//!
//! A network is known by the ifindex of its bridge, a port by that of its device.

use crate::{DropReason, FLOW_LAYOUT, GroupSet, Identity, Ip, MacAddr, Side, bits, shared};

/// The one word that a commit flips.
///
/// Layout: `generation` u32, `flow_layout` u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The policy generation in force; its parity names the side.
    pub generation: u32,
    /// The [`FLOW_LAYOUT`] of the flow tables beside it. ABI 1 wrote 0, which means layout 1.
    pub flow_layout: u32,
}

impl Control {
    /// The control word of `generation`, beside flows of this version's layout.
    #[must_use]
    pub const fn new(generation: u32) -> Self {
        Self { generation, flow_layout: FLOW_LAYOUT }
    }
}

/// Key of a port's record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortKey {
    /// The port's device on the host side.
    pub ifindex: u32,
    /// Which copy.
    pub side: Side,
}

/// What the datapath knows of the port behind a device.
///
/// Layout: `network` u32, `group_set` u32, `mac` [u8; 6], `gateway_mac` [u8; 6], `flags` u16, 2 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRecord {
    /// The network's bridge.
    pub network: u32,
    /// The port's compiled security groups, with the gates of the acl.
    pub group_set: GroupSet,
    /// The workload's own MAC, the only one that it may send from.
    pub mac: MacAddr,
    /// The MAC of the network's gateway: frames to it are routed.
    pub gateway_mac: MacAddr,
    /// What is special about it.
    pub flags: PortFlags,
    padding: u16,
}

impl PortRecord {
    /// A port of the network whose bridge is `network` and whose gateway has `gateway_mac`.
    #[must_use]
    pub const fn new(network: u32, group_set: GroupSet, mac: MacAddr, gateway_mac: MacAddr) -> Self {
        Self { network, group_set, mac, gateway_mac, flags: PortFlags::NONE, padding: 0 }
    }

    /// The same, with `flags`.
    #[must_use]
    pub const fn with(self, flags: PortFlags) -> Self {
        Self { flags, ..self }
    }
}

/// What is special about a port; a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags(u16);

impl PortFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// This host takes part in overlays: what looks like one does not come from a workload.
    pub const NO_OVERLAY: Self = Self(1);
    /// Its addresses are learned: the controller hears of those that it claims.
    pub const LEARNS: Self = Self(1 << 1);
}

bits!(PortFlags);

/// Key of a network's record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkKey {
    /// The network's bridge.
    pub ifindex: u32,
    /// Which copy.
    pub side: Side,
}

/// What is special about a network; a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkFlags(u16);

impl NetworkFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Packets to strangers are meant for the way out rather than for nobody.
    pub const LEADS_OUTSIDE: Self = Self(1);
    /// The host is kept out: its ports and the host do not speak, failsafe ports aside.
    pub const EXCLUDES_HOST: Self = Self(1 << 1);
    /// Another network is joined to it: the table of joins has prefixes for it.
    pub const JOINED: Self = Self(1 << 2);
    /// SYNs that are routed out of it or into it announce no larger segments than fit the way.
    pub const CLAMPS_MSS: Self = Self(1 << 3);
    /// A workload's source port becomes the same one outside, whoever it speaks to (RFC 4787 REQ-1).
    pub const ENDPOINT_INDEPENDENT: Self = Self(1 << 4);
    /// It goes beyond this host, by links: whoever is not known here may be there.
    pub const EXTENDS: Self = Self(1 << 5);
    /// Its addresses are known outside: they leave as they are, and are reached from there.
    pub const ROUTED: Self = Self(1 << 6);
    /// It is a LAN's: its gateway is somebody else, whom it may reach by any address.
    pub const BRIDGED: Self = Self(1 << 7);
    /// Another network has addresses of its subnets, too: elsewhere they tell nothing.
    pub const SHARES_ADDRESSES: Self = Self(1 << 8);
}

bits!(NetworkFlags);

/// What the datapath knows of a network.
///
/// Layout: `gateway_mac` [u8; 6], `flags` u16, `gateway4` 16, `gateway6` 16, `mtu` u16, 2 bytes of padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkRecord {
    /// The bridge's MAC.
    pub gateway_mac: MacAddr,
    /// What is special about it.
    pub flags: NetworkFlags,
    /// The IPv4 gateway's address, with which vnet tells workloads of ICMP errors of its own; unspecified: none.
    pub gateway4: Ip,
    /// The IPv6 gateway's address, likewise.
    pub gateway6: Ip,
    /// The longest IP packet in bytes; 0: not known.
    pub mtu: u16,
    padding: u16,
}

impl NetworkRecord {
    /// A network whose gateway has `gateway_mac`.
    #[must_use]
    pub const fn new(gateway_mac: MacAddr, flags: NetworkFlags) -> Self {
        let nobody = Ip::UNSPECIFIED;
        Self { gateway_mac, flags, gateway4: nobody, gateway6: nobody, mtu: 0, padding: 0 }
    }

    /// The same, with gateways at `gateway4` and `gateway6` (unspecified: none) and packets of `mtu` bytes at most.
    #[must_use]
    pub const fn reached_at(self, gateway4: Ip, gateway6: Ip, mtu: u16) -> Self {
        Self { gateway4, gateway6, mtu, ..self }
    }
}

/// Key of an endpoint: an address within a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The network's bridge; with [`EndpointKey::ABROAD`] as other networks know the endpoint.
    pub network: u32,
    /// Which copy.
    pub side: Side,
    /// The endpoint's address.
    pub addr: Ip,
}

impl EndpointKey {
    /// The bit of `network` under which a port of a network that shares addresses has the identity that counts in
    /// others: by its groups and its network, not by prefixes. No device has such an index.
    pub const ABROAD: u32 = 1 << 31;
}

/// What has an address.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A workload's port.
    Port = 1,
    /// The network's gateway: the host itself.
    Gateway = 2,
    /// The host under another address. No record has it, the datapath makes it.
    Elsewhere = 3,
    /// Somebody beyond an uplink. No record has it either.
    Outside = 4,
    /// Somebody in the network, beyond this host, whom the policy does not know. Nor has any record it.
    Station = 5,
}

/// How a packet gets to a device.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Straight into the other end of a veth in another namespace (`bpf_redirect_peer`).
    Peer = 1,
    /// Out of the device (`bpf_redirect`): taps, and veths whose other end is in this namespace.
    Device = 2,
    /// Up the host's own stack, as received on the network's bridge.
    Host = 3,
    /// Out of an uplink, to the next hop on the way to the destination, which the kernel looks for.
    NextHop = 4,
    /// Out of an uplink, to a router that is known: the first words of the frame, in the place of MACs, tell which,
    /// see [`crate::UplinkRecord::gateway`].
    Gateway = 5,
    /// By a link, in the same network: endpoints have it, ways have the link's own device and tags. In a verdict about a
    /// network: by all of its links, and to nobody here.
    Link = 6,
    /// To all ports of a network, and to the host: verdicts only.
    Flood = 7,
    /// By all links of a network, for nobody knows by which; in a verdict what is for many is for the host, too.
    Beyond = 8,
}

/// Who has an address, how to reach them, and who they are to the rules of others.
///
/// Layout: `device` u32, `identity` u32, `group_set` u32, `mac` [u8; 6], `kind` u8, with bit 7 set if it is apart from the
/// host, `delivery` u8.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The port's device, or the bridge for the gateway.
    pub device: u32,
    /// Who the endpoint is to the rules of others.
    pub identity: u32,
    /// The endpoint's own compiled security groups, with the gates of the acl.
    pub group_set: GroupSet,
    /// The endpoint's MAC.
    pub mac: MacAddr,
    kind: u8,
    delivery: u8,
}

impl Endpoint {
    /// A port that is reached through `device` by `delivery`.
    #[must_use]
    pub const fn port(
        device: u32,
        delivery: Delivery,
        mac: MacAddr,
        identity: u32,
        group_set: GroupSet,
    ) -> Self {
        Self { device, identity, group_set, mac, kind: EndpointKind::Port as u8, delivery: delivery as u8 }
    }

    /// The gateway of the network whose bridge is `bridge`.
    #[must_use]
    pub const fn gateway(bridge: u32, mac: MacAddr, identity: u32) -> Self {
        Self {
            device: bridge,
            identity,
            group_set: 0,
            mac,
            kind: EndpointKind::Gateway as u8,
            delivery: Delivery::Host as u8,
        }
    }

    /// The host under an address of its own that is not the gateway's: no rule can name it.
    #[inline(always)]
    #[must_use]
    pub const fn host_elsewhere(bridge: u32, mac: MacAddr) -> Self {
        Self { kind: EndpointKind::Elsewhere as u8, ..Self::gateway(bridge, mac, Identity::UNKNOWN.0) }
    }

    /// Whoever is beyond `uplink`; `identity` is what rules call them. The next hop's MAC is
    /// found later.
    #[inline(always)]
    #[must_use]
    pub const fn outside(uplink: u32, identity: u32) -> Self {
        Self {
            device: uplink,
            identity,
            group_set: 0,
            mac: MacAddr([0; 6]),
            kind: EndpointKind::Outside as u8,
            delivery: Delivery::NextHop as u8,
        }
    }

    /// A port elsewhere that the policy knows, beyond the link with the number `link`.
    #[must_use]
    pub const fn remote(link: u32, mac: MacAddr, identity: u32, group_set: GroupSet) -> Self {
        Self::port(link, Delivery::Link, mac, identity, group_set)
    }

    /// Whoever has `mac` beyond `link`; `identity` is what rules call them.
    #[inline(always)]
    #[must_use]
    pub const fn station(link: u32, mac: MacAddr, identity: u32) -> Self {
        Self { kind: EndpointKind::Station as u8, ..Self::remote(link, mac, identity, 0) }
    }

    /// Whoever the host forwards for to the LAN of its `uplink`, whose MAC is `mac`: a station like others there, but what
    /// is for it goes to the host's stack.
    #[inline(always)]
    #[must_use]
    pub const fn behind_host(uplink: u32, mac: MacAddr, identity: u32) -> Self {
        Self { delivery: Delivery::Host as u8, ..Self::station(uplink, mac, identity) }
    }

    /// Whether it is such a station.
    #[inline(always)]
    #[must_use]
    pub const fn is_station(&self) -> bool {
        self.is(EndpointKind::Station)
    }

    /// Whether no rule of the policy is its own: it is beyond an uplink, or a station that the policy does not know.
    #[inline(always)]
    #[must_use]
    pub const fn is_stranger(&self) -> bool {
        self.is_outside() || self.is_station()
    }

    /// The bit of `kind` that tells [`Self::is_apart_from_host`].
    const APART_FROM_HOST: u8 = 1 << 7;

    /// The same in a subnet in which the host has neither an address nor a route.
    #[must_use]
    pub const fn apart_from_host(self) -> Self {
        Self { kind: self.kind | Self::APART_FROM_HOST, ..self }
    }

    /// Whether the host has neither an address in its subnet nor a route there: what the host sent to its address would
    /// be for somebody else.
    #[inline(always)]
    #[must_use]
    pub const fn is_apart_from_host(&self) -> bool {
        self.kind & Self::APART_FROM_HOST != 0
    }

    #[inline(always)]
    const fn is(&self, kind: EndpointKind) -> bool {
        self.kind & !Self::APART_FROM_HOST == kind as u8
    }

    /// Whether it is beyond an uplink.
    #[inline(always)]
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        self.is(EndpointKind::Outside)
    }

    /// Whether it is the host under such an address, which no port can have asked for.
    #[inline(always)]
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        self.is(EndpointKind::Elsewhere)
    }

    /// Whether the endpoint is the host itself, under whatever address.
    #[inline(always)]
    #[must_use]
    pub const fn is_gateway(&self) -> bool {
        self.is(EndpointKind::Gateway) || self.is_elsewhere()
    }

    /// How to reach it.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when the byte is none of the known ways.
    #[inline(always)]
    pub const fn delivery(&self) -> Result<Delivery, DropReason> {
        Delivery::from_byte(self.delivery)
    }
}

impl Delivery {
    /// From the byte in a record.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when the byte is none of the known ways.
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Result<Self, DropReason> {
        match byte {
            1 => Ok(Self::Peer),
            2 => Ok(Self::Device),
            3 => Ok(Self::Host),
            4 => Ok(Self::NextHop),
            5 => Ok(Self::Gateway),
            6 => Ok(Self::Link),
            7 => Ok(Self::Flood),
            8 => Ok(Self::Beyond),
            _ => Err(DropReason::Internal),
        }
    }
}

/// Data of a longest-prefix-match key: the prefixes that rules name.
///
/// The prefix length counts `side` too: 32 bits, then 128 of the address (96 + n for IPv4).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerPrefix {
    /// Which copy.
    pub side: Side,
    /// The address; bits beyond the prefix are zero.
    pub addr: Ip,
}

impl PeerPrefix {
    /// Bits of a complete key.
    pub const BITS: u32 = 32 + 128;
}

/// The value of a [`JoinPrefix`] that is no network's: packets to it leave by the exit with the address that
/// they have.
pub const JOIN_OUTSIDE: u32 = u32::MAX;

/// Data of a longest-prefix-match key: the prefixes of the networks that are joined to another. The value is
/// the bridge of the network that has the prefix, or [`JOIN_OUTSIDE`].
///
/// The prefix length counts `network` and `side` too: 64 bits, then 128 of the address (96 + n for IPv4).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinPrefix {
    /// The bridge of the network that asks; 0 for the prefixes of all networks; an uplink for those that its gateway
    /// does not lead to.
    pub network: u32,
    /// Which copy.
    pub side: Side,
    /// The address; bits beyond the prefix are zero.
    pub addr: Ip,
}

impl JoinPrefix {
    /// Bits of a complete key.
    pub const BITS: u32 = 64 + 128;
}

/// Key of a drop counter.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortDropKey {
    /// The device where the packet was dropped.
    pub ifindex: u32,
    /// Number of the [`DropReason`].
    pub reason: u32,
}

shared! {
    Control = 8,
    PortKey = 8,
    PortRecord = 24,
    NetworkKey = 8,
    NetworkRecord = 44,
    EndpointKey = 24,
    Endpoint = 20,
    PeerPrefix = 20,
    JoinPrefix = 24,
    PortDropKey = 8,
}
