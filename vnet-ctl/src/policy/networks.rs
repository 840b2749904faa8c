//! The `networks` of a policy file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use ipnet::IpNet;

use super::{
    HostAccess, Mistake, Network, NetworkKind, Subnet, closest,
    diagnostic::Finding,
    exits::{Leaving, Whose, check_snats, refuse_keys, way_out},
    joints::{self, Joint, check_joints},
    model::is_reserved,
    names::check_network,
    overlaps::{Claimed, KnownTo, check_no_snat, overlap, report_overlaps},
    parse::Names,
    rule::{host_bits, parse_cidr},
    section::{Named, Node, Report, Schema, Section, boolean, integer, list_of, string},
    segments::{self, Segments, check_segments, default_mtu, segment},
};

pub(super) const NETWORK: Schema = Schema {
    keys: &[
        "type",
        "subnets",
        "gateway",
        "mtu",
        "connect",
        "host",
        "uplink",
        "snat",
        "snat_ports",
        "no_snat",
        "mapping",
        "clamp_mss",
        "vlan",
        "trunk",
        "priority",
        "vni",
        "peers",
    ],
    later: &[],
};

/// Bytes of IP packet in an Ethernet frame, IEEE 802.3.
pub(super) const DEFAULT_MTU: u32 = 1500;
/// RFC 8200 section 5: what each link that carries IPv6 must take.
const MIN_MTU: u32 = 1280;
/// The kernel's `ETH_MAX_MTU`.
const MAX_MTU: u32 = 65535;

/// Something and its place.
type Placed<T> = (T, Range<usize>);

/// The networks that are right, and where the peers of overlays are; what is wrong with the others is recorded.
pub(super) fn networks(
    named: &[Named<'_>],
    names: &Names<'_>,
    report: &mut Report,
) -> (BTreeMap<String, Network>, segments::Places) {
    let mut networks = BTreeMap::new();
    let mut found = Found::default();
    for (name, place, node) in named {
        let valid_name = report.keep(place.clone(), check_network(name));
        let mut reader = Reader { names, found: &mut found, report };
        let network = reader.network(name, place.clone(), *node);
        if let (Some(()), Some(network)) = (valid_name, network) {
            networks.insert((*name).to_owned(), network);
        }
    }
    report_overlaps(&mut found.subnets, report);
    check_joints(&found.joints, &networks, report);
    check_snats(&found.leaving.snats, &found.subnets, &networks, report);
    check_no_snat(&found.leaving.exempt, &networks, report);
    let places = check_segments(found.segments, &found.subnets, &networks, report);
    (networks, places)
}

/// What has to be compared between networks.
#[derive(Default)]
struct Found<'t> {
    subnets: Vec<Claimed<'t>>,
    joints: Vec<Joint<'t>>,
    leaving: Leaving<'t>,
    segments: Segments<'t>,
}

/// Reads networks.
struct Reader<'a, 't> {
    names: &'a Names<'t>,
    found: &'a mut Found<'t>,
    report: &'a mut Report,
}

impl<'t> Reader<'_, 't> {
    fn network(&mut self, name: &'t str, place: Range<usize>, node: Node<'t>) -> Option<Network> {
        let heading = (format!("networks.{name}"), format!("network `{name}`"));
        let section = Section::open((&heading.0, heading.1, place), node, &NETWORK, self.report)?;
        let kind = section
            .require(
                "type",
                "write type = \"nat\" (leads outside) or type = \"private\" (closed)",
                self.report,
            )
            .and_then(|node| kind(node, self.report));
        let whose = Whose { name, kind, names: self.names };
        let fitting = refuse_keys(&section, &whose, self.report);
        let mtu = match section.get("mtu") {
            Some(node) => mtu(node, self.report).map(Some),
            None => Some(None),
        };
        let host = match section.get("host") {
            Some(node) => host(node, self.report),
            None => Some(HostAccess::default()),
        };
        let subnets = self.subnets(&section, &whose, host);
        let connect = match section.get("connect") {
            Some(node) => {
                joints::connect((name, node), &self.names.networks, &mut self.found.joints, self.report)
            }
            None => Some(BTreeSet::new()),
        };
        let clamp_mss = match section.get("clamp_mss") {
            Some(node) => boolean(node, self.report),
            None => Some(false),
        };
        // What does not go with the type is told once.
        fitting?;
        let way_out = way_out(&section, &whose, &mut self.found.leaving, self.report);
        let uplink = way_out.as_ref().and_then(|way_out| way_out.uplink.as_deref());
        let segment = segment(&section, &whose, uplink, (&mut self.found.segments, self.report));
        let (way_out, segment) = (way_out?, segment?);
        Some(Network {
            kind: kind?,
            subnets: subnets?,
            mtu: mtu?.unwrap_or_else(|| default_mtu(segment.as_ref(), DEFAULT_MTU)),
            connect: connect?,
            host: host?,
            uplink: way_out.uplink,
            snat: way_out.snat,
            snat_ports: way_out.snat_ports,
            no_snat: way_out.no_snat,
            mapping: way_out.mapping,
            clamp_mss: clamp_mss?,
            segment,
        })
    }

    /// The subnets with their gateways. A bridged network may do without: its LAN has them.
    fn subnets(
        &mut self,
        section: &Section<'t>,
        whose: &Whose<'_, 't>,
        host: Option<HostAccess>,
    ) -> Option<Vec<Subnet>> {
        let is_bridged = whose.kind == Some(NetworkKind::Bridged);
        let nets = match section.get("subnets") {
            None if is_bridged => {
                if let Some((place, _)) = section.entry("gateway") {
                    let message = format!("network `{}` has a `gateway`, and no `subnets`", whose.name);
                    let help = "add the subnets that the LAN has, or take `gateway` out";
                    self.report.error(place, Mistake::new(message).help(help));
                    return None;
                }
                Some(Vec::new())
            }
            _ => section
                .require("subnets", "write subnets = [\"10.10.0.0/24\"]", self.report)
                .and_then(|node| self.nets(whose, host, node)),
        };
        let given = match section.get("gateway") {
            Some(node) => list_of(node, self.report, |node, report| {
                let text = string(node, report)?;
                Some((report.keep(node.span(), parse_address(text))?, node.span()))
            }),
            None => Some(Vec::new()),
        };
        place_gateways(&nets?, &given?, self.report)
    }

    fn nets(
        &mut self,
        Whose { name, kind, .. }: &Whose<'_, 't>,
        host: Option<HostAccess>,
        node: Node<'t>,
    ) -> Option<Vec<Placed<IpNet>>> {
        let nets = list_of(node, self.report, |node, report| Some((subnet(node, report)?, node.span())))?;
        if nets.is_empty() {
            let help = "name at least one: subnets = [\"10.10.0.0/24\"]";
            self.report
                .error(node.span(), Mistake::new(format!("network `{name}` has no subnet")).help(help));
            return None;
        }
        // What kind of network it is may be said wrong: then nothing follows from it.
        let known_to = kind.zip(host).map_or(KnownTo::Lan, |(kind, host)| KnownTo::of(kind, host));
        let claimed = |(net, place): &Placed<IpNet>| Claimed {
            net: *net,
            place: place.clone(),
            network: name,
            known_to,
        };
        self.found.subnets.extend(nets.iter().map(claimed));
        Some(nets)
    }
}

fn host(node: Node<'_>, report: &mut Report) -> Option<HostAccess> {
    Some(if boolean(node, report)? { HostAccess::Trusted } else { HostAccess::Excluded })
}

fn kind(node: Node<'_>, report: &mut Report) -> Option<NetworkKind> {
    let known = [NetworkKind::Nat, NetworkKind::Private, NetworkKind::Routed, NetworkKind::Bridged];
    let text = string(node, report)?;
    if let Some(kind) = known.into_iter().find(|kind| kind.to_string() == text) {
        return Some(kind);
    }
    let help = match closest(&text.to_ascii_lowercase(), ["nat", "private", "routed", "bridged"]) {
        Some(known) => format!("did you mean \"{known}\"?"),
        None => {
            "write \"nat\" (leads outside), \"private\" (closed), \"routed\" (leads outside with its own \
                 addresses) or \"bridged\" (the LAN of its uplink)"
                .to_owned()
        }
    };
    report.error(node.span(), Mistake::new(format!("\"{text}\" is not a type of network")).help(help));
    None
}

fn mtu(node: Node<'_>, report: &mut Report) -> Option<u32> {
    let number = integer(node, report)?;
    let mtu = u32::try_from(number).ok().filter(|mtu| (MIN_MTU..=MAX_MTU).contains(mtu));
    if mtu.is_none() {
        let mistake = Mistake::new(format!("an MTU of {number} bytes is out of range"));
        report.error(
            node.span(),
            mistake.help(format!("choose from {MIN_MTU} to {MAX_MTU}; {DEFAULT_MTU} is usual")),
        );
    }
    mtu
}

/// An address that a person wrote, for a workload or a gateway.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, Mistake> {
    text.parse().map_err(|_| {
        let mistake = Mistake::new(format!("`{text}` is not an address"));
        match text.split_once('/') {
            Some((addr, _)) if addr.parse::<IpAddr>().is_ok() => {
                mistake.help(format!("write \"{addr}\"; the prefix length comes from the subnet"))
            }
            _ => mistake.help("write an address such as \"10.10.0.10\" or \"fd00:10::a\""),
        }
    })
}

fn subnet(node: Node<'_>, report: &mut Report) -> Option<IpNet> {
    let text = string(node, report)?;
    let checked = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) if net.trunc() != net => Err(host_bits(net, "")),
        (_, Ok(addr)) => {
            let length = if addr.is_ipv4() { 24 } else { 64 };
            let help = format!("write \"{addr}/{length}\" or another length");
            Err(Mistake::new(format!("`{text}` has no prefix length")).help(help))
        }
        _ => parse_cidr(text).and_then(check_subnet),
    };
    report.keep(node.span(), checked)
}

/// Whether workloads can live in `net`.
fn check_subnet(net: IpNet) -> Result<IpNet, Mistake> {
    let (longest, example) = if net.addr().is_ipv4() { (30, "/24") } else { (126, "/64") };
    if net.prefix_len() > longest {
        return Err(Mistake::new(format!("{net} has no room for a gateway and a port"))
            .help(format!("a prefix length of {longest} is the longest, {example} is usual")));
    }
    if let Some(special) = special_ranges().into_iter().find(|special| overlap(*special, net)) {
        return Err(Mistake::new(format!("{net} overlaps {special}, which hosts cannot have addresses in"))
            .help("use private addresses: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8"));
    }
    Ok(net)
}

/// Addresses with a meaning of their own: RFC 6890, and RFC 4291 for link-local and multicast.
fn special_ranges() -> [IpNet; 7] {
    let v4 = |a, len| IpNet::new_assert(Ipv4Addr::new(a, 0, 0, 0).into(), len);
    let v6 = |a, len| IpNet::new_assert(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0).into(), len);
    [v4(0, 8), v4(127, 8), v4(224, 3), v6(0, 64), v6(0xfe80, 10), v6(0xfec0, 10), v6(0xff00, 8)]
}

/// Each subnet with its gateway: the one given for it, else its first host address.
fn place_gateways(
    nets: &[Placed<IpNet>],
    given: &[Placed<IpAddr>],
    report: &mut Report,
) -> Option<Vec<Subnet>> {
    let before = report.errors.len();
    for (addr, span) in given {
        if !nets.iter().any(|(net, _)| net.contains(addr)) {
            let mistake = Mistake::new(format!("the gateway {addr} is in none of the network's subnets"));
            report.error(span.clone(), mistake.help("a gateway has an address of a subnet"));
        }
    }
    let with_gateway = |(net, _): &Placed<IpNet>| {
        let mut inside = given.iter().filter(|(addr, _)| net.contains(addr));
        let Some((gateway, span)) = inside.next() else {
            return Subnet { net: *net, gateway: first_host(*net) };
        };
        if is_reserved(*net, *gateway) {
            let mistake = Mistake::new(format!("{gateway} is the network or broadcast address of {net}"));
            report.error(
                span.clone(),
                mistake.help(format!("use a host address such as {}", first_host(*net))),
            );
        }
        if let Some((second, again)) = inside.next() {
            let mistake = Mistake::new(format!("{second} is a second gateway in {net}"));
            let finding = Finding::new(again.clone(), mistake.help("give one gateway for each subnet"));
            report.errors.push(finding.related(span.clone(), "the first"));
        }
        Subnet { net: *net, gateway: *gateway }
    };
    let subnets = nets.iter().map(with_gateway).collect();
    (report.errors.len() == before).then_some(subnets)
}

/// The address after the network's own.
fn first_host(net: IpNet) -> IpAddr {
    match net.network() {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() | 1).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() | 1).into(),
    }
}
