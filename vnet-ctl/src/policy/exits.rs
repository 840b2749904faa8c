//! How a network leads outside: `uplink` and the keys of `networks.NAME` that are for the type `nat`, which keys go
//! with the other types, and `uplinks`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use ipnet::IpNet;

use super::{
    Attach, DEFAULT_SNAT_PORTS, Mapping, Mistake, Network, NetworkKind, OVERLAY_DEVICE, Port, PortRange,
    Segment, Uplink, Xdp, bridge_name,
    diagnostic::Finding,
    names::{check_interface, is_not_loopback},
    networks::parse_address,
    overlaps::Claimed,
    parse::Names,
    rule::parse_cidr,
    section::{Named, Node, Report, Schema, Section, integer, list_of, one_of, string},
    special::{check_plain, version},
    targets::Targets,
    tree::Kind,
};

pub(super) const UPLINK: Schema = Schema { keys: &["xdp"], later: &[] };

/// What a network that others translate nothing for cannot say.
const OF_NAT: [&str; 4] = ["snat", "snat_ports", "no_snat", "mapping"];

/// How a network leads outside.
pub(super) struct WayOut {
    pub(super) uplink: Option<String>,
    pub(super) snat: Vec<IpAddr>,
    pub(super) snat_ports: (u16, u16),
    pub(super) no_snat: Vec<IpNet>,
    pub(super) mapping: Mapping,
}

/// An address that a network leaves with, its place, and the network.
pub(super) type Snat<'t> = (IpAddr, Range<usize>, &'t str);

/// What networks leave with, and where, as far as it has to be compared between them.
#[derive(Default)]
pub(super) struct Leaving<'t> {
    pub(super) snats: Vec<Snat<'t>>,
    /// The prefixes to which they leave with their own addresses, their places, and the networks.
    pub(super) exempt: Vec<(IpNet, Range<usize>, &'t str)>,
}

/// Whose way out it is.
pub(super) struct Whose<'a, 't> {
    pub(super) name: &'t str,
    pub(super) kind: Option<NetworkKind>,
    pub(super) names: &'a Names<'t>,
}

/// How a network leads outside; what it leaves with goes to `leaving`, too.
pub(super) fn way_out<'t>(
    section: &Section<'t>,
    Whose { name, names, .. }: &Whose<'_, 't>,
    leaving: &mut Leaving<'t>,
    report: &mut Report,
) -> Option<WayOut> {
    let uplink = match section.get("uplink") {
        Some(node) => uplink(node, names, report).map(Some),
        None => Some(None),
    };
    let snat = match section.get("snat") {
        Some(node) => snat(name, node, &mut leaving.snats, report),
        None => Some(Vec::new()),
    };
    let snat_ports = match section.get("snat_ports") {
        Some(node) => snat_ports(node, report),
        None => Some(DEFAULT_SNAT_PORTS),
    };
    let no_snat = match section.get("no_snat") {
        Some(node) => list_of(node, report, |node, report| {
            let text = string(node, report)?;
            let net = report.keep(node.span(), parse_cidr(text))?;
            leaving.exempt.push((net, node.span(), name));
            Some(net)
        }),
        None => Some(Vec::new()),
    };
    let mapping = match section.get("mapping") {
        Some(node) => mapping(node, report),
        None => Some(Mapping::default()),
    };
    Some(WayOut {
        uplink: uplink?,
        snat: snat?,
        snat_ports: snat_ports?,
        no_snat: no_snat?,
        mapping: mapping?,
    })
}

/// Records the keys of a network that do not go with its type; nothing if there are any.
pub(super) fn refuse_keys(section: &Section<'_>, whose: &Whose<'_, '_>, report: &mut Report) -> Option<()> {
    let Whose { name, kind, .. } = whose;
    // What is no type is told by itself.
    let Some(kind) = *kind else { return Some(()) };
    let uplink = if section.get("vni").is_none() { &["uplink"][..] } else { &[] };
    let outside = format!("take it out, or write type = \"nat\" for network `{name}` to let it lead outside");
    let translated =
        format!("take it out: the addresses of network `{name}` leave as they are, without type = \"nat\"");
    let bridged =
        "take it out: the host neither routes nor translates for the LAN of a bridged network".to_owned();
    let device =
        "take it out: `uplink` names the device that leads to the LAN of a bridged network".to_owned();
    let overlay = format!("take it out, or write type = \"private\" for network `{name}`");
    let refused: &[(&[&str], &String)] = match kind {
        NetworkKind::Nat => &[],
        NetworkKind::Private => &[(uplink, &outside), (&OF_NAT, &outside)],
        NetworkKind::Routed => &[(&OF_NAT, &translated)],
        NetworkKind::Bridged => &[
            (&OF_NAT, &bridged),
            (&["connect", "clamp_mss"], &bridged),
            (&["trunk"], &device),
            (&["vni", "peers"], &overlay),
        ],
    };
    let before = report.errors.len();
    for (keys, help) in refused {
        for (key, (place, _)) in keys.iter().filter_map(|key| Some((key, section.entry(key)?))) {
            let message = format!("`{key}` does not go with a {kind} network");
            report.error(place, Mistake::new(message).help(*help));
        }
    }
    (report.errors.len() == before).then_some(())
}

fn uplink(node: Node<'_>, names: &Names<'_>, report: &mut Report) -> Option<String> {
    let name = string(node, report)?;
    report.keep(node.span(), check_device(name, names, "an uplink"))?;
    Some(name.to_owned())
}

/// What is wrong with a device as `what`, an uplink or a trunk, as far as its name tells.
pub(super) fn check_device(name: &str, names: &Names<'_>, what: &str) -> Result<(), Mistake> {
    check_interface(name).and_then(|()| is_not_loopback(name))?;
    is_not_vnets(name, names, what).map_err(|mistake| mistake.help("name the device that leads outside"))
}

/// Whether a device, to be `what`, is none that vnet makes for networks.
fn is_not_vnets(name: &str, names: &Names<'_>, what: &str) -> Result<(), Mistake> {
    let owner = if names.networks.iter().any(|network| bridge_name(network) == name) {
        "the bridge of a network"
    } else if name == OVERLAY_DEVICE {
        "vnet's own device for overlays"
    } else {
        return Ok(());
    };
    Err(Mistake::new(format!("`{name}` is {owner}, not {what}")))
}

/// One address, or a list of them.
fn snat<'t>(
    network: &'t str,
    node: Node<'t>,
    snats: &mut Vec<Snat<'t>>,
    report: &mut Report,
) -> Option<Vec<IpAddr>> {
    let mut seen = BTreeSet::new();
    let mut address = |node: Node<'t>, report: &mut Report| {
        let text = string(node, report)?;
        let addr = parse_address(text).and_then(|addr| check_plain(addr, "a source address outside", &[]));
        let addr = report.keep(node.span(), addr)?;
        if !seen.insert(addr) {
            let mistake = Mistake::new(format!("the address {addr} is given twice"));
            report.error(node.span(), mistake.help("remove one of them"));
            return None;
        }
        snats.push((addr, node.span(), network));
        Some(addr)
    };
    if let Kind::String(_) = node.kind() {
        return address(node, report).map(|addr| vec![addr]);
    }
    let addrs = list_of(node, report, address)?;
    if addrs.is_empty() {
        let mistake = Mistake::new("no address is named");
        report.error(node.span(), mistake.help("take `snat` out to leave with the uplink's own address"));
        return None;
    }
    Some(addrs)
}

fn snat_ports(node: Node<'_>, report: &mut Report) -> Option<(u16, u16)> {
    let range = match node.kind() {
        Kind::Integer(_) => PortRange::from_number(integer(node, report)?),
        _ => string(node, report)?.parse(),
    };
    let help = |mistake: Mistake| match mistake.help {
        Some(_) => mistake,
        None => mistake.help("write a range such as \"1024-32767\""),
    };
    let range = report.keep(node.span(), range.map_err(help))?;
    Some((range.first, range.last))
}

fn mapping(node: Node<'_>, report: &mut Report) -> Option<Mapping> {
    let words = [
        ("endpoint-dependent", Mapping::EndpointDependent),
        ("endpoint-independent", Mapping::EndpointIndependent),
    ];
    one_of(node, "a mapping", words, report)
}

/// Records the addresses to leave with that are a workload's, and warns of those of the wrong IP version.
pub(super) fn check_snats(
    snats: &[Snat<'_>],
    subnets: &[Claimed<'_>],
    networks: &BTreeMap<String, Network>,
    report: &mut Report,
) {
    for (addr, place, name) in snats {
        let inside = |subnet: &&Claimed<'_>| {
            subnet.net.contains(addr) && networks.get(subnet.network).is_none_or(Network::is_routed_here)
        };
        if let Some(Claimed { net, place: there, network: owner, .. }) = subnets.iter().find(inside) {
            let message = format!("{addr} is in the subnet {net} of network `{owner}`, not outside");
            let mistake =
                Mistake::new(message).help("`snat` takes addresses that others know as this host's");
            let finding = Finding::new(place.clone(), mistake);
            report.errors.push(finding.related(there.clone(), format!("network `{owner}` has it")));
        }
        let Some(network) = networks.get(*name) else { continue };
        if !network.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == addr.is_ipv4()) {
            let version = version(addr.is_ipv4());
            let message =
                format!("nothing of network `{name}` leaves with {addr}: it has no {version} subnet");
            let mistake = Mistake::new(message).help(format!("take it out, or add an {version} subnet"));
            report.warnings.push(Finding::new(place.clone(), mistake));
        }
    }
}

/// The uplinks: those that are declared, and those that networks name.
pub(super) fn uplinks(
    named: &[Named<'_>],
    targets: &Targets<'_, '_>,
    names: &Names<'_>,
    report: &mut Report,
) -> BTreeMap<String, Uplink> {
    let of_networks = targets.networks.values().filter_map(|network| network.uplink.clone());
    let mut uplinks: BTreeMap<_, _> = of_networks.map(|name| (name, Uplink::default())).collect();
    for (name, place, node) in named {
        let title = format!("uplink `{name}`");
        let opened =
            Section::open((&format!("uplinks.{name}"), title, place.clone()), *node, &UPLINK, report);
        let xdp = opened.and_then(|section| xdp(section.get("xdp")?, report)).unwrap_or_default();
        let checked = check_device(name, names, "an uplink").and_then(|()| is_no_ports(name, targets.ports));
        if report.keep(place.clone(), checked).is_some() {
            uplinks.insert((*name).to_owned(), Uplink { xdp });
        }
    }
    uplinks
}

/// By whom the XDP program of an uplink is run.
fn xdp(node: Node<'_>, report: &mut Report) -> Option<Xdp> {
    let words = [("auto", Xdp::Auto), ("native", Xdp::Native), ("generic", Xdp::Generic), ("off", Xdp::Off)];
    one_of(node, "a way to run XDP", words, report)
}

/// Whether no port is attached to the device.
fn is_no_ports(device: &str, ports: &BTreeMap<String, Port>) -> Result<(), Mistake> {
    let is_its = |port: &Port| match &port.attach {
        Attach::Device { device: own } | Attach::Tap { tap: own, .. } => own == device,
        Attach::Netns { .. } | Attach::Remote { .. } => false,
    };
    match ports.iter().find(|(_, port)| is_its(port)) {
        None => Ok(()),
        Some((port, _)) => {
            Err(Mistake::new(format!("`{device}` is the device of port `{port}`, not an uplink"))
                .help("name the device that leads outside"))
        }
    }
}

/// Whether `device`, of a port, is neither a network's bridge nor its uplink or trunk.
pub(super) fn is_no_networks(
    device: &str,
    names: &Names<'_>,
    networks: &BTreeMap<String, Network>,
) -> Result<(), Mistake> {
    const HELP: &str = "name a veth or a tap";
    is_not_vnets(device, names, "a port's device").map_err(|mistake| mistake.help(HELP))?;
    let used_as = |network: &Network| match &network.segment {
        _ if network.uplink.as_deref() == Some(device) => Some("uplink"),
        Some(Segment::Lan { trunk, .. }) if trunk == device => Some("trunk"),
        _ => None,
    };
    match networks.iter().find_map(|(name, network)| Some((name, used_as(network)?))) {
        None => Ok(()),
        Some((network, role)) => {
            let message = format!("`{device}` is the {role} of network `{network}`, not a port's device");
            Err(Mistake::new(message).help(HELP))
        }
    }
}
