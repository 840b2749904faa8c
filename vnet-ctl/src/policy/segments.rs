//! How a network goes beyond this host: its keys `vlan`, `trunk`, `priority`, `vni` and `peers`, and what a bridged
//! network makes of `uplink`.
//!
//! Which devices and addresses this host has is not known here; [`super::placed()`] tells what turns out wrong there.

mod between;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    ops::Range,
};

pub(super) use self::between::check_segments;
use super::{
    Mistake, NetworkKind, Segment,
    exits::{Whose, check_device},
    networks::parse_address,
    section::{Node, Report, Section, integer, list_of, string},
    special::{check_plain, version},
    tree::Kind,
};

/// The highest VLAN identifier, IEEE 802.1Q clause 9.6: 4095 is reserved, and 0 stands for no VLAN.
const MAX_VLAN: u16 = 4094;
/// Three bits, IEEE 802.1Q clause 9.6.
const MAX_PRIORITY: u8 = 7;
/// 24 bits, RFC 7348 section 5.
const MAX_VNI: u32 = (1 << 24) - 1;
/// Bytes of Ethernet, VXLAN, UDP and IPv4 headers around an IP packet in an overlay, RFC 7348 section 5.
const OVERHEAD_V4: u32 = 50;
/// The same with an IPv6 header.
const OVERHEAD_V6: u32 = 70;

impl fmt::Display for Segment {
    /// In a few words, such as `vlan 10 on eth1` and `vni 5001 to 2 peers`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan { trunk, vlan, .. } if vlan.is_empty() => write!(out, "bridged to {trunk}"),
            Self::Lan { trunk, vlan, .. } => write!(out, "vlan {} on {trunk}", tags(vlan)),
            Self::Overlay { vni, peers, .. } => {
                let noun = if peers.len() == 1 { "peer" } else { "peers" };
                write!(out, "vni {vni} to {} {noun}", peers.len())
            }
        }
    }
}

/// `10`, or `10 in 100`.
fn tags(vlan: &[u16]) -> String {
    vlan.iter().rev().map(ToString::to_string).collect::<Vec<_>>().join(" in ")
}

/// What networks say of their segments, to be compared between them.
#[derive(Default)]
pub(super) struct Segments<'t> {
    lans: Vec<Lan<'t>>,
    vnis: Vec<(u32, Range<usize>, &'t str)>,
    peers: Vec<(IpAddr, Range<usize>, &'t str)>,
    uplinks: Vec<(String, Range<usize>, &'t str)>,
}

/// The frames of a LAN that a network takes: a device, tags, where the file says so, and the network.
struct Lan<'t> {
    trunk: String,
    vlan: Vec<u16>,
    place: Range<usize>,
    network: &'t str,
}

/// Where the file gives each peer of each network.
pub(super) type Places = BTreeMap<(String, IpAddr), Range<usize>>;

/// Bytes of IP packet that fit a frame of the network unless it says otherwise; `usual` without an overlay.
pub(super) fn default_mtu(segment: Option<&Segment>, usual: u32) -> u32 {
    match segment {
        Some(Segment::Overlay { peers, .. }) if peers.iter().any(IpAddr::is_ipv6) => usual - OVERHEAD_V6,
        Some(Segment::Overlay { .. }) => usual - OVERHEAD_V4,
        Some(Segment::Lan { .. }) | None => usual,
    }
}

/// What of a network lies beyond this host, if anything. `uplink` is what it says of that, if it is right.
pub(super) fn segment<'t>(
    section: &Section<'t>,
    whose: &Whose<'_, 't>,
    uplink: Option<&str>,
    (found, report): (&mut Segments<'t>, &mut Report),
) -> Option<Option<Segment>> {
    let mut reader = Reader { section, whose, found, report };
    // Without a type nothing tells which keys go with it.
    let kind = whose.kind?;
    if let (Some(uplink), Some((_, node)), NetworkKind::Nat | NetworkKind::Routed) =
        (uplink, section.entry("uplink"), kind)
    {
        reader.found.uplinks.push((uplink.to_owned(), node.span(), whose.name));
    }
    if kind == NetworkKind::Bridged {
        return reader.bridged(uplink).map(Some);
    }
    let first = |keys: &[&'static str]| keys.iter().find_map(|key| Some((*key, section.entry(key)?.0)));
    match (first(&["vlan", "trunk", "priority"]), first(&["vni", "peers"])) {
        (None, None) => Some(None),
        (Some(_), None) => reader.trunk().map(Some),
        (None, Some(_)) => reader.overlay(uplink).map(Some),
        (Some((lan, _)), Some((overlay, place))) => {
            let message = format!("`{overlay}` does not go with `{lan}`");
            let help =
                format!("network `{}` goes beyond this host one way: take one of them out", whose.name);
            report.error(place, Mistake::new(message).help(help));
            None
        }
    }
}

struct Reader<'a, 'n, 't> {
    section: &'a Section<'t>,
    whose: &'a Whose<'n, 't>,
    found: &'a mut Segments<'t>,
    report: &'a mut Report,
}

impl<'t> Reader<'_, '_, 't> {
    /// The LAN of `uplink`, or a VLAN of it.
    fn bridged(&mut self, uplink: Option<&str>) -> Option<Segment> {
        let help = "write uplink = \"eth0\", the device that leads to its LAN";
        let (device, place) = (self.section.require("uplink", help, self.report), self.section.entry("vlan"));
        let vlan = match place {
            Some((_, node)) => vlan(node, self.report),
            None => Some(Vec::new()),
        };
        let place = self.section.get("vlan").or(device).map(|node| node.span());
        self.lan(uplink.map(str::to_owned), (vlan, place))
    }

    /// The VLAN of a trunk.
    fn trunk(&mut self) -> Option<Segment> {
        let name = self.whose.name;
        let (vlan_node, trunk_node) = (self.section.get("vlan"), self.section.get("trunk"));
        if let (None, Some((place, _))) = (vlan_node, self.section.entry("trunk")) {
            let mistake = Mistake::new(format!("network `{name}` has a `trunk`, and no `vlan`"));
            let help = "write vlan = 10, or for a LAN without tags type = \"bridged\" and `uplink` instead of `trunk`";
            self.report.error(place, mistake.help(help));
        }
        if let (Some((place, _)), None) = (self.section.entry("vlan"), trunk_node) {
            let mistake = Mistake::new(format!("network `{name}` has a `vlan`, and no `trunk`"));
            self.report.error(place, mistake.help("write trunk = \"eth1\", the device that carries it"));
        }
        let trunk = trunk_node.and_then(|node| {
            let name = string(node, self.report)?;
            self.report.keep(node.span(), check_device(name, self.whose.names, "a trunk"))?;
            Some(name.to_owned())
        });
        let tags = vlan_node.and_then(|node| vlan(node, self.report));
        self.lan(trunk, (tags, vlan_node.map(|node| node.span())))
    }

    fn lan(
        &mut self,
        trunk: Option<String>,
        (vlan, place): (Option<Vec<u16>>, Option<Range<usize>>),
    ) -> Option<Segment> {
        let priority = self.priority();
        let (trunk, vlan, place) = (trunk?, vlan?, place?);
        let lan = Lan { trunk: trunk.clone(), vlan: vlan.clone(), place, network: self.whose.name };
        self.found.lans.push(lan);
        Some(Segment::Lan { trunk, vlan, priority: priority? })
    }

    fn priority(&mut self) -> Option<Option<u8>> {
        let Some((place, node)) = self.section.entry("priority") else { return Some(None) };
        if self.section.get("vlan").is_none() {
            let mistake =
                Mistake::new(format!("network `{}` has a `priority`, and no `vlan`", self.whose.name));
            self.report.error(place, mistake.help("tags carry it: add `vlan`, or take `priority` out"));
            return None;
        }
        let number = integer(node, self.report)?;
        let priority = u8::try_from(number).ok().filter(|priority| *priority <= MAX_PRIORITY);
        if priority.is_none() {
            let mistake = Mistake::new(format!("a priority of {number} is out of range"));
            self.report.error(node.span(), mistake.help(format!("choose from 0 to {MAX_PRIORITY}")));
        }
        priority.map(Some)
    }

    fn overlay(&mut self, uplink: Option<&str>) -> Option<Segment> {
        let name = self.whose.name;
        let (vni_entry, peers_entry) = (self.section.entry("vni"), self.section.entry("peers"));
        if let (Some((place, _)), None) = (&vni_entry, &peers_entry) {
            let mistake = Mistake::new(format!("network `{name}` has a `vni`, and no `peers`"));
            let help = "write peers = [\"192.0.2.12\"], the other hosts that take part";
            self.report.error(place.clone(), mistake.help(help));
        }
        if let (None, Some((place, _))) = (&vni_entry, &peers_entry) {
            let mistake = Mistake::new(format!("network `{name}` has `peers`, and no `vni`"));
            let help = "write vni = 5001, the number that it has on all of them";
            self.report.error(place.clone(), mistake.help(help));
        }
        let vni = vni_entry.and_then(|(_, node)| {
            let vni = vni(node, self.report)?;
            self.found.vnis.push((vni, node.span(), name));
            Some(vni)
        });
        let peers = peers_entry.and_then(|(_, node)| self.peers(node));
        Some(Segment::Overlay { vni: vni?, peers: peers?, uplink: uplink.map(str::to_owned) })
    }

    fn peers(&mut self, node: Node<'t>) -> Option<Vec<IpAddr>> {
        let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
        let (found, name) = (&mut self.found.peers, self.whose.name);
        let peers = list_of(node, self.report, |node, report| {
            let text = string(node, report)?;
            let addr = parse_address(text).and_then(|addr| check_plain(addr, "a peer", &[]));
            let addr = report.keep(node.span(), addr)?;
            let other = seen.first().filter(|other| other.is_ipv4() != addr.is_ipv4());
            if let Some(other) = other {
                let message = format!(
                    "the peer {addr} has an {} address, and {other} an {} one",
                    version(addr.is_ipv4()),
                    version(other.is_ipv4())
                );
                let help = "an overlay runs over one IP version: give each peer's address of that one";
                report.error(node.span(), Mistake::new(message).help(help));
                return None;
            }
            if !seen.insert(addr) {
                let mistake = Mistake::new(format!("the peer {addr} is given twice"));
                report.error(node.span(), mistake.help("remove one of them"));
                return None;
            }
            found.push((addr, node.span(), name));
            Some(addr)
        })?;
        if peers.is_empty() {
            let mistake = Mistake::new(format!("network `{name}` has no peer"));
            let help =
                "name the other hosts: peers = [\"192.0.2.12\"]; without any, take `vni` and `peers` out";
            self.report.error(node.span(), mistake.help(help));
            return None;
        }
        Some(peers)
    }
}

/// One tag, or the outer and the inner one.
fn vlan(node: Node<'_>, report: &mut Report) -> Option<Vec<u16>> {
    let Kind::List = node.kind() else { return tag(node, report).map(|tag| vec![tag]) };
    let tags = list_of(node, report, tag)?;
    if tags.len() != 2 {
        let mistake = Mistake::new(format!(
            "a list of VLANs has two of them, the outer and the inner one, not {}",
            tags.len()
        ));
        report.error(node.span(), mistake.help("write vlan = 10 for one tag, vlan = [100, 10] for two"));
        return None;
    }
    Some(tags)
}

fn tag(node: Node<'_>, report: &mut Report) -> Option<u16> {
    let number = integer(node, report)?;
    let tag = u16::try_from(number).ok().filter(|tag| (1..=MAX_VLAN).contains(tag));
    if tag.is_none() {
        let mistake = Mistake::new(format!("there is no VLAN {number}"));
        report.error(node.span(), mistake.help(format!("choose from 1 to {MAX_VLAN}")));
    }
    tag
}

fn vni(node: Node<'_>, report: &mut Report) -> Option<u32> {
    let number = integer(node, report)?;
    let vni = u32::try_from(number).ok().filter(|vni| (1..=MAX_VNI).contains(vni));
    if vni.is_none() {
        let mistake = Mistake::new(format!("there is no VNI {number}"));
        report.error(node.span(), mistake.help(format!("choose from 1 to {MAX_VNI}")));
    }
    vni
}
