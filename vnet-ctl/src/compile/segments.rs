//! By which links networks go beyond this host, who has a MAC, and the peers of overlays, made from a policy and its
//! devices.
//!
//! A network whose trunk, uplink or overlay device is not there has no links: what would leave by them is dropped.

use std::{collections::BTreeMap, net::IpAddr};

use vnet_common::{Delivery, Ip, Link, LinkFlags, LinkKey, MacAddr, Station, V4, limits, link};

use super::{
    Bridge, Devices, SegmentDevice, Source, TooLarge,
    records::mtu_of_record,
    seats::{Seat, Tags, extending, numbered},
};
use crate::policy::{Network, NetworkKind, Policy, Segment};

/// Where the three bits of priority begin in a tag (IEEE 802.1Q section 9.6).
const PRIORITY_SHIFT: u32 = 13;

/// The links of networks, by what arrives, by what leaves, and where each network floods.
///
/// # Errors
/// When a network floods to more links than the datapath copies frames to.
pub(super) fn links(
    policy: &Policy,
    devices: &Devices,
    seats: &[Seat<'_>],
) -> Result<BTreeMap<LinkKey, Link>, TooLarge> {
    let mut links = Links::default();
    for (name, network) in &policy.networks {
        let (Some(bridge), Some(segment), Some(device)) =
            (devices.bridges.get(name), &network.segment, devices.segments.get(name))
        else {
            continue;
        };
        let source = |peer| devices.sources.get(&(name.clone(), peer)).copied();
        links.segment(segment, beyond(*bridge, *device, network), (network.kind, &source));
    }
    for seat in seats {
        let (Some((device, tags)), Some(network)) = (seat.member, policy.networks.get(seat.network)) else {
            continue;
        };
        let link = Link {
            number: seat.device.ifindex,
            network: seat.bridge.ifindex,
            device,
            vlan: tags.vlan,
            outer: tags.service,
            flags: LinkFlags::PORT,
            mtu: mtu_of_record(network.mtu),
            ..Link::default()
        };
        links.lan(tags, link);
    }
    links.check()?;
    Ok(links.table)
}

/// What all links of a network's segment have in common.
fn beyond(bridge: Bridge, device: SegmentDevice, network: &Network) -> Link {
    Link {
        number: link::segment(bridge.ifindex),
        network: bridge.ifindex,
        device: device.ifindex,
        mtu: mtu_of_record(network.mtu),
        ..Link::default()
    }
}

#[derive(Debug, Default)]
struct Links {
    table: BTreeMap<LinkKey, Link>,
    /// To how many links each network floods, by its bridge.
    floods: BTreeMap<u32, u32>,
}

impl Links {
    /// `source` tells how the host speaks to a peer, if the programs may encapsulate what goes there.
    fn segment(
        &mut self,
        segment: &Segment,
        link: Link,
        (kind, source): (NetworkKind, &dyn Fn(IpAddr) -> Option<Source>),
    ) {
        match segment {
            Segment::Lan { vlan, priority, .. } => {
                let tags = Tags::of(vlan);
                let tagged = |tag: u16| match tag {
                    0 => 0,
                    tag => tag | u16::from(priority.unwrap_or_default()) << PRIORITY_SHIFT,
                };
                let is_shared = kind == NetworkKind::Bridged && vlan.is_empty();
                let flags = if is_shared { LinkFlags::SHARED } else { LinkFlags::NONE };
                self.lan(tags, Link { vlan: tagged(tags.vlan), outer: tagged(tags.service), flags, ..link });
            }
            Segment::Overlay { vni, peers, .. } => self.overlay(*vni, (peers, source), link),
        }
    }

    /// A link by which one tells the frames of a network by their tags.
    fn lan(&mut self, tags: Tags, link: Link) {
        self.table.insert(LinkKey::arrival(link.device, tags.key()), link);
        self.table.insert(LinkKey::departure(link.number, 0), link);
        self.flood(link);
    }

    fn overlay(
        &mut self,
        vni: u32,
        (peers, source): (&[IpAddr], &dyn Fn(IpAddr) -> Option<Source>),
        link: Link,
    ) {
        let link = Link { vni, flags: LinkFlags::OVERLAY, ..link };
        self.table.insert(LinkKey::arrival(link.device, vni), link);
        // What comes without an overlay is for no network.
        let none = Link { device: link.device, flags: LinkFlags::OVERLAY, ..Link::default() };
        self.table.insert(LinkKey::arrival(link.device, 0), none);
        for (peer, addr) in numbered(peers) {
            let mut link = Link { outer: peer, remote: Ip::from_std(addr), ..link };
            if let Some(Source { ifindex, address }) = source(addr) {
                (link.underlay, link.local) = (ifindex, V4::from_octets(address.octets()));
                self.table.insert(LinkKey::encapsulated(ifindex, vni), link);
            }
            self.table.insert(LinkKey::departure(link.number, peer.into()), link);
            self.flood(link);
        }
    }

    fn flood(&mut self, link: Link) {
        let index = self.floods.entry(link.network).or_default();
        self.table.insert(LinkKey::flood(link.network, *index), link);
        *index += 1;
    }

    fn check(&self) -> Result<(), TooLarge> {
        let most = self.floods.values().copied().max().unwrap_or_default();
        if most <= limits::FLOODS {
            return Ok(());
        }
        Err(TooLarge {
            what: "links to which one network floods",
            needed: most as usize,
            limit: limits::FLOODS as usize,
            help: "give its overlay fewer peers, or let fewer ports with other networks take part in it by a VLAN",
        })
    }
}

/// Who has a MAC, in networks that go beyond this host: their ports and gateways, and the host where it shares a LAN.
pub(super) fn stations(
    policy: &Policy,
    devices: &Devices,
    seats: &[Seat<'_>],
) -> BTreeMap<(u32, MacAddr), Station> {
    let extending = extending(policy);
    let mut stations = BTreeMap::new();
    for (name, network) in policy.networks.iter().filter(|(name, _)| extending.contains(name.as_str())) {
        let Some(bridge) = devices.bridges.get(name) else { continue };
        let host = |device| Station { device, delivery: Delivery::Host as u16, peer: 0 };
        if network.kind != NetworkKind::Bridged {
            stations.insert((bridge.ifindex, bridge.mac), host(bridge.ifindex));
        } else if let (Some(Tags { vlan: 0, .. }), Some(uplink)) =
            (Tags::of_network(network), devices.segments.get(name))
        {
            stations.insert((bridge.ifindex, uplink.mac), host(uplink.ifindex));
        }
    }
    for seat in seats.iter().filter(|seat| extending.contains(seat.network)) {
        let (device, delivery) = (seat.device.ifindex, seat.device.delivery as u16);
        let station = Station { device, delivery, peer: seat.peer };
        stations.insert((seat.bridge.ifindex, seat.port.mac), station);
    }
    stations
}

/// The peers of overlays, numbered from 1 in each.
pub(super) fn vteps(policy: &Policy) -> BTreeMap<(u32, IpAddr), u32> {
    let peers = |segment: &Segment| match segment {
        Segment::Overlay { vni, peers, .. } => {
            let vni = *vni;
            numbered(peers).map(|(number, addr)| ((vni, addr), number.into())).collect::<Vec<_>>()
        }
        Segment::Lan { .. } => Vec::new(),
    };
    policy.networks.values().filter_map(|network| network.segment.as_ref()).flat_map(peers).collect()
}
