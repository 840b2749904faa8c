//! How a network leads outside: the keys of `networks.NAME` that are for the type `nat`, and `uplinks`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use ipnet::IpNet;

use super::{
    Attach, DEFAULT_SNAT_PORTS, Mapping, Mistake, Network, NetworkKind, Port, PortRange, bridge_name,
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

pub(super) const UPLINK: Schema = Schema { keys: &[], later: &["xdp"] };

/// The keys of a network that say how it leads outside.
const KEYS: [&str; 5] = ["uplink", "snat", "snat_ports", "no_snat", "mapping"];

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
    Whose { name, kind, names }: Whose<'_, 't>,
    leaving: &mut Leaving<'t>,
    report: &mut Report,
) -> Option<WayOut> {
    if kind == Some(NetworkKind::Private) {
        refuse_keys(section, name, report)?;
    }
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

/// A private network leads nowhere.
fn refuse_keys(section: &Section<'_>, name: &str, report: &mut Report) -> Option<()> {
    let given: Vec<_> = KEYS.into_iter().filter_map(|key| Some((key, section.entry(key)?.0))).collect();
    for (key, place) in &given {
        let message = format!("`{key}` does not go with a private network");
        let help =
            format!("take it out, or write type = \"nat\" for network `{name}` to let it lead outside");
        report.error(place.clone(), Mistake::new(message).help(help));
    }
    given.is_empty().then_some(())
}

fn uplink(node: Node<'_>, names: &Names<'_>, report: &mut Report) -> Option<String> {
    let name = string(node, report)?;
    report.keep(node.span(), check_uplink(name, names))?;
    Some(name.to_owned())
}

/// What is wrong with a device as an uplink, as far as its name tells.
fn check_uplink(name: &str, names: &Names<'_>) -> Result<(), Mistake> {
    check_interface(name).and_then(|()| is_not_loopback(name))?;
    if names.networks.iter().any(|network| bridge_name(network) == name) {
        return Err(Mistake::new(format!("`{name}` is the bridge of a network, not an uplink"))
            .help("name the device that leads outside"));
    }
    Ok(())
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
        if let Some(Claimed { net, place: there, network: owner, .. }) =
            subnets.iter().find(|subnet| subnet.net.contains(addr))
        {
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
) -> BTreeSet<String> {
    let of_networks = targets.networks.values().filter_map(|network| network.uplink.clone());
    let mut uplinks: BTreeSet<_> = of_networks.collect();
    for (name, place, node) in named {
        let title = format!("uplink `{name}`");
        let _ = Section::open((&format!("uplinks.{name}"), title, place.clone()), *node, &UPLINK, report);
        let checked = check_uplink(name, names).and_then(|()| is_no_ports(name, targets.ports));
        if report.keep(place.clone(), checked).is_some() {
            uplinks.insert((*name).to_owned());
        }
    }
    uplinks
}

/// Whether no port is attached to the device.
fn is_no_ports(device: &str, ports: &BTreeMap<String, Port>) -> Result<(), Mistake> {
    let is_its = |port: &Port| matches!(&port.attach, Attach::Device { device: own } if own == device);
    match ports.iter().find(|(_, port)| is_its(port)) {
        None => Ok(()),
        Some((port, _)) => {
            Err(Mistake::new(format!("`{device}` is the device of port `{port}`, not an uplink"))
                .help("name the device that leads outside"))
        }
    }
}

/// Whether `device`, of a port, is neither a network's bridge nor its uplink.
pub(super) fn is_no_networks(
    device: &str,
    names: &Names<'_>,
    networks: &BTreeMap<String, Network>,
) -> Result<(), Mistake> {
    if names.networks.iter().any(|network| bridge_name(network) == device) {
        return Err(Mistake::new(format!("`{device}` is the bridge of a network, not a port's device"))
            .help("name a veth or a tap"));
    }
    let is_uplink = |network: &Network| network.uplink.as_deref() == Some(device);
    match networks.iter().find(|(_, network)| is_uplink(network)) {
        None => Ok(()),
        Some((network, _)) => {
            let message = format!("`{device}` is the uplink of network `{network}`, not a port's device");
            Err(Mistake::new(message).help("name a veth or a tap"))
        }
    }
}
