//! The `ports` of a policy file.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt::Display,
    net::IpAddr,
    ops::Range,
    path::PathBuf,
};

use vnet_common::MacAddr;

use super::{
    DEFAULT_GROUP, Mistake, Network, Port, Segment,
    attach::{EXAMPLES, Whose},
    diagnostic::Finding,
    names::{check_port, parse_mac, port_mac},
    networks::parse_address,
    overlaps::clash,
    parse::{Names, unknown},
    section::{Named, Node, Report, Schema, Section, list_of, string},
    special::check_plain,
};

pub(super) const PORT: Schema = Schema {
    keys: &["network", "addresses", "mac", "security_groups", "attach", "vlans"],
    later: &["allowed_addresses"],
};

/// The ports that are right; what is wrong with the others is recorded. Only ports of `networks`, which
/// are right themselves, have their addresses compared with subnets.
pub(super) fn ports(
    named: &[Named<'_>],
    networks: &BTreeMap<String, Network>,
    names: &Names<'_>,
    report: &mut Report,
) -> BTreeMap<String, Port> {
    let mut ports = BTreeMap::new();
    let mut reader = Reader { networks, names, claims: Claims::default(), report };
    for (name, place, node) in named {
        let _ = reader.report.keep(place.clone(), check_port(name));
        if let Some(port) = reader.port(name, place.clone(), *node) {
            ports.insert((*name).to_owned(), port);
        }
    }
    ports
}

/// What only one port may have.
#[derive(Default)]
pub(super) struct Claims {
    /// In each network its own.
    addresses: Owners<(String, IpAddr)>,
    macs: Owners<MacAddr>,
    pub(super) interfaces: Owners<(PathBuf, String)>,
    pub(super) devices: Owners<String>,
}

/// Which port has something, and where the file says so.
type Owners<T> = BTreeMap<T, (String, Range<usize>)>;

/// Reads ports.
pub(super) struct Reader<'a, 't> {
    pub(super) networks: &'a BTreeMap<String, Network>,
    pub(super) names: &'a Names<'t>,
    pub(super) claims: Claims,
    pub(super) report: &'a mut Report,
}

impl Reader<'_, '_> {
    fn port(&mut self, name: &str, place: Range<usize>, node: Node<'_>) -> Option<Port> {
        let heading = (format!("ports.{name}"), format!("port `{name}`"));
        let section = Section::open((&heading.0, heading.1, place.clone()), node, &PORT, self.report)?;
        let network = section
            .require("network", "write network = \"NAME\", one of [networks]", self.report)
            .and_then(|node| self.network(node));
        let vlans = match section.get("vlans") {
            Some(node) => self.vlans(name, network.as_deref(), node),
            None => Some(Vec::new()),
        };
        let addresses = match section.get("addresses") {
            Some(node) => self.addresses(name, network.as_ref().zip(vlans.as_ref()), node),
            None => Some(Vec::new()),
        };
        let mac = self.mac(name, place, section.get("mac"));
        let security_groups = match section.get("security_groups") {
            Some(node) => self.groups(node),
            None => Some(vec![DEFAULT_GROUP.to_owned()]),
        };
        let attach =
            section.require("attach", &format!("write attach = {EXAMPLES}"), self.report).and_then(|node| {
                let whose = Whose { port: name, network: network.as_deref(), section: &section };
                self.attach(&whose, node)
            });
        Some(Port {
            network: network?,
            vlans: vlans?,
            addresses: addresses?,
            mac: mac?,
            security_groups: security_groups?,
            attach: attach?,
        })
    }

    fn network(&mut self, node: Node<'_>) -> Option<String> {
        let name = string(node, self.report)?;
        if !self.names.networks.contains(name) {
            self.report.error(node.span(), unknown("network", name, &self.names.networks, "networks"));
            return None;
        }
        Some(name.to_owned())
    }

    /// The networks that the port takes part in by tagged frames.
    fn vlans(&mut self, port: &str, own: Option<&str>, node: Node<'_>) -> Option<Vec<String>> {
        let (known, networks) = (&self.names.networks, self.networks);
        let mut seen: BTreeMap<u16, (&str, Range<usize>)> = BTreeMap::new();
        let mut names = BTreeSet::new();
        list_of(node, self.report, |node, report| {
            let name = string(node, report)?;
            if !known.contains(name) {
                report.error(node.span(), unknown("network", name, known, "networks"));
                return None;
            }
            if own == Some(name) {
                let mistake =
                    Mistake::new(format!("network `{name}` is that of port `{port}` itself, without a tag"));
                report.error(node.span(), mistake.help("take it out here"));
                return None;
            }
            if names.contains(name) {
                let mistake = Mistake::new(format!("network `{name}` is given twice"));
                report.error(node.span(), mistake.help("remove one of them"));
                return None;
            }
            let before = own.into_iter().chain(names.iter().copied());
            report.keep(node.span(), are_apart(networks, port, before, name))?;
            names.insert(name);
            // What is wrong with the others is told at their own places.
            let Some(network) = networks.get(name) else { return Some(name.to_owned()) };
            let tag = report.keep(node.span(), tag_of(name, network))?;
            if let Some((other, first)) = seen.get(&tag) {
                let message = format!("network `{name}` has VLAN {tag}, as network `{other}` on this port");
                let mistake =
                    Mistake::new(message).help("their tags would not tell them apart; remove one of them");
                report
                    .errors
                    .push(Finding::new(node.span(), mistake).related(first.clone(), "given here first"));
                return None;
            }
            seen.insert(tag, (name, node.span()));
            Some(name.to_owned())
        })
    }

    fn addresses(
        &mut self,
        port: &str,
        networks: Option<(&String, &Vec<String>)>,
        node: Node<'_>,
    ) -> Option<Vec<IpAddr>> {
        let known = networks.map(|(own, _)| own.as_str()).unwrap_or_default();
        // Of networks that are not right nothing is known.
        let networks = networks.and_then(|(own, vlans)| {
            let names = std::iter::once(own).chain(vlans);
            names.map(|name| Some((name.as_str(), self.networks.get(name)?))).collect::<Option<Vec<_>>>()
        });
        let claims = &mut self.claims.addresses;
        let addresses = list_of(node, self.report, |node, report| {
            let text = string(node, report)?;
            let addr = report.keep(node.span(), parse_address(text))?;
            let network = match &networks {
                Some(networks) => report.keep(node.span(), check_address(addr, networks))?,
                None => known,
            };
            let claimed = try_claim(claims, (network.to_owned(), addr), (port, node.span()), |(_, addr)| {
                format!("the address {addr}")
            });
            claimed.map_err(|finding| report.errors.push(finding)).ok()?;
            Some(addr)
        })?;
        if addresses.is_empty() {
            let mistake = Mistake::new(format!("port `{port}` has an empty list of addresses"));
            self.report.error(node.span(), mistake.help("take `addresses` out to have them assigned"));
            return None;
        }
        Some(addresses)
    }

    fn mac(&mut self, port: &str, place: Range<usize>, node: Option<Node<'_>>) -> Option<MacAddr> {
        let (mac, place) = match node {
            Some(node) => {
                let text = string(node, self.report)?;
                (self.report.keep(node.span(), parse_mac(text))?, node.span())
            }
            None => (port_mac(port), place),
        };
        claim(&mut self.claims.macs, mac, "the MAC address", (port, place), self.report)?;
        Some(mac)
    }

    fn groups(&mut self, node: Node<'_>) -> Option<Vec<String>> {
        let known = &self.names.groups;
        let mut groups: Vec<String> = list_of(node, self.report, |node, report| {
            let name = string(node, report)?;
            if !known.contains(name) {
                let mistake = match name.strip_prefix("sg:").filter(|name| known.contains(name)) {
                    Some(name) => Mistake::new(format!("there is no security group `sg:{name}`"))
                        .help(format!("write \"{name}\"; `sg:` is for the peers of rules")),
                    None => unknown("security group", name, known, "security_groups"),
                };
                report.error(node.span(), mistake);
                return None;
            }
            Some(name.to_owned())
        })?;
        let mut seen = BTreeSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        if groups.is_empty() {
            groups.push(DEFAULT_GROUP.to_owned());
        }
        Some(groups)
    }
}

/// Records that `port` has `thing`, or that another has it already.
pub(super) fn claim<T: Ord + Display>(
    owners: &mut Owners<T>,
    thing: T,
    what: &str,
    claimant: (&str, Range<usize>),
    report: &mut Report,
) -> Option<()> {
    try_claim(owners, thing, claimant, |thing| format!("{what} {thing}"))
        .map_err(|finding| report.errors.push(finding))
        .ok()
}

/// The same; the finding is the caller's to record.
pub(super) fn try_claim<T: Ord>(
    owners: &mut Owners<T>,
    thing: T,
    (port, place): (&str, Range<usize>),
    describe: impl Fn(&T) -> String,
) -> Result<(), Finding> {
    match owners.entry(thing) {
        Entry::Vacant(entry) => {
            entry.insert((port.to_owned(), place));
            Ok(())
        }
        Entry::Occupied(entry) => {
            let (owner, first) = entry.get();
            let what = describe(entry.key());
            let message = if owner == port {
                format!("{what} is given twice")
            } else {
                format!("{what} belongs to port `{owner}` already")
            };
            let finding = Finding::new(place, Mistake::new(message).help("give each port its own"));
            Err(finding.related(first.clone(), "given here first"))
        }
    }
}

/// The tag that frames of `network` have on a trunk port.
fn tag_of(name: &str, network: &Network) -> Result<u16, Mistake> {
    let vlan = match &network.segment {
        Some(Segment::Lan { vlan, .. }) => &vlan[..],
        Some(Segment::Overlay { .. }) | None => &[],
    };
    match vlan {
        [tag] => Ok(*tag),
        [] => Err(Mistake::new(format!("network `{name}` has no `vlan`, so its frames have no tag"))
            .help("give it a `vlan`, or make a port of its own for it")),
        [..] => Err(Mistake::new(format!("network `{name}` has two tags, and those of a port have one"))
            .help("name a network with one tag")),
    }
}

/// Whether a port that takes part in those `before` may take part in `network`, too: what it has an address for is told by
/// the address.
fn are_apart<'n>(
    networks: &BTreeMap<String, Network>,
    port: &str,
    before: impl Iterator<Item = &'n str>,
    network: &str,
) -> Result<(), Mistake> {
    for other in before {
        if let Some((one, two)) = clash(networks, network, other) {
            let message = format!(
                "port `{port}` cannot take part in both `{other}` and `{network}`: {two} and {one} overlap"
            );
            return Err(Mistake::new(message).help(
                "an address of the port would be one of either: give one of them other subnets, or a port of its own",
            ));
        }
    }
    Ok(())
}

/// In which of `networks` a port of them all has `addr`, if it may.
fn check_address<'n>(addr: IpAddr, networks: &[(&'n str, &Network)]) -> Result<&'n str, Mistake> {
    let subnet = |(name, network): &(&'n str, &'_ Network)| Some((*name, *network.subnet_of(addr)?));
    let Some((name, subnet)) = networks.iter().find_map(subnet) else {
        let is_open = |network: &Network| !network.is_routed_here() && network.subnets.is_empty();
        if let Some((name, _)) = networks.iter().find(|(_, network)| is_open(network)) {
            return check_plain(addr, "a port's address", &[]).map(|_| *name);
        }
        let subnets = networks.iter().flat_map(|(_, network)| &network.subnets);
        let subnets: Vec<_> = subnets.map(|subnet| subnet.net.to_string()).collect();
        let names: Vec<_> = networks.iter().map(|(name, _)| format!("`{name}`")).collect();
        let noun = if names.len() == 1 { "network" } else { "the networks" };
        return Err(Mistake::new(format!("{addr} is in no subnet of {noun} {}", names.join(", ")))
            .help(format!("choose an address of {}", subnets.join(" or "))));
    };
    let net = subnet.net;
    let what = if addr == subnet.gateway {
        format!("the gateway of network `{name}`")
    } else if addr == net.network() {
        format!("the network address of {net}")
    } else if !subnet.has_room_for(addr) {
        format!("the broadcast address of {net}")
    } else {
        return Ok(name);
    };
    Err(Mistake::new(format!("{addr} is {what}"))
        .help("choose another address, or take it out to have one assigned"))
}
