//! The `ports` of a policy file.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Display,
    net::IpAddr,
    ops::Range,
    path::PathBuf,
};

use vnet_common::MacAddr;

use super::{
    Attach, DEFAULT_GROUP, Mistake, NetnsRef, Network, Port,
    diagnostic::Finding,
    exits::is_no_networks,
    names::{check_interface, check_port, is_not_loopback, parse_mac, port_mac},
    networks::parse_address,
    parse::{Names, unknown},
    section::{Named, Node, Report, Schema, Section, boolean, list_of, string},
};

pub(super) const PORT: Schema = Schema {
    keys: &["network", "addresses", "mac", "security_groups", "attach"],
    later: &["allowed_addresses", "vlans"],
};
pub(super) const ATTACH: Schema =
    Schema { keys: &["netns", "create", "name", "device"], later: &["container", "tap", "owner"] };

/// The interface in a namespace unless the file names it.
pub const DEFAULT_INTERFACE: &str = "eth0";

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
struct Claims {
    /// In each network its own.
    addresses: Owners<(String, IpAddr)>,
    macs: Owners<MacAddr>,
    interfaces: Owners<(PathBuf, String)>,
    devices: Owners<String>,
}

/// Which port has something, and where the file says so.
type Owners<T> = BTreeMap<T, (String, Range<usize>)>;

struct Reader<'a, 't> {
    networks: &'a BTreeMap<String, Network>,
    names: &'a Names<'t>,
    claims: Claims,
    report: &'a mut Report,
}

impl Reader<'_, '_> {
    fn port(&mut self, name: &str, place: Range<usize>, node: Node<'_>) -> Option<Port> {
        let heading = (format!("ports.{name}"), format!("port `{name}`"));
        let section = Section::open((&heading.0, heading.1, place.clone()), node, &PORT, self.report)?;
        let network = section
            .require("network", "write network = \"NAME\", one of [networks]", self.report)
            .and_then(|node| self.network(node));
        let addresses = match section.get("addresses") {
            Some(node) => self.addresses(name, network.as_deref(), node),
            None => Some(Vec::new()),
        };
        let mac = self.mac(name, place, section.get("mac"));
        let security_groups = match section.get("security_groups") {
            Some(node) => self.groups(node),
            None => Some(vec![DEFAULT_GROUP.to_owned()]),
        };
        let attach = section
            .require(
                "attach",
                "write attach = { netns = \"NAME\", create = true } or { device = \"IF\" }",
                self.report,
            )
            .and_then(|node| self.attach(name, node));
        Some(Port {
            network: network?,
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

    fn addresses(&mut self, port: &str, network: Option<&str>, node: Node<'_>) -> Option<Vec<IpAddr>> {
        let known = network.unwrap_or_default();
        let network = network.and_then(|name| Some((name, self.networks.get(name)?)));
        let claims = &mut self.claims.addresses;
        let addresses = list_of(node, self.report, |node, report| {
            let text = string(node, report)?;
            let addr = report.keep(node.span(), parse_address(text))?;
            if let Some((name, network)) = network {
                report.keep(node.span(), check_address(addr, name, network))?;
            }
            let claimed = try_claim(claims, (known.to_owned(), addr), (port, node.span()), |(_, addr)| {
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
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        if groups.is_empty() {
            groups.push(DEFAULT_GROUP.to_owned());
        }
        Some(groups)
    }

    fn attach(&mut self, port: &str, node: Node<'_>) -> Option<Attach> {
        let heading = (format!("ports.{port}.attach"), format!("`attach` of port `{port}`"));
        let before = self.report.errors.len();
        let section = Section::open((&heading.0, heading.1, node.span()), node, &ATTACH, self.report)?;
        match (section.get("netns"), section.entry("device")) {
            (Some(netns), None) => self.netns(port, &section, netns),
            (None, Some((_, device))) => self.device(port, &section, device),
            (Some(_), Some((place, _))) => {
                let mistake =
                    Mistake::new(format!("port `{port}` is attached to a namespace and to a device"));
                self.report.error(place, mistake.help("choose one of them"));
                None
            }
            // A key that is not supported yet, or misspelt, has been told already.
            (None, None) if self.report.errors.len() > before => None,
            (None, None) => {
                let mistake = Mistake::new(format!("`attach` of port `{port}` says nothing"));
                let help = "write { netns = \"NAME\", create = true } or { device = \"IF\" }";
                self.report.error(node.span(), mistake.help(help));
                None
            }
        }
    }

    fn netns(&mut self, port: &str, section: &Section<'_>, node: Node<'_>) -> Option<Attach> {
        let text = string(node, self.report)?;
        let netns = self.report.keep(node.span(), parse_netns(text));
        let create = match section.get("create") {
            Some(node) => boolean(node, self.report),
            None => Some(false),
        };
        let (name, place) = match section.get("name") {
            Some(node) => (string(node, self.report)?, node.span()),
            None => (DEFAULT_INTERFACE, node.span()),
        };
        self.report.keep(place.clone(), check_interface(name).and_then(|()| is_not_loopback(name)))?;
        let (netns, create) = (netns?, create?);
        if create && matches!(netns, NetnsRef::Path(_)) {
            let mistake = Mistake::new("vnet creates namespaces by name, not by path");
            let help = "give a name (it appears under /run/netns), or write create = false";
            self.report.error(node.span(), mistake.help(help));
            return None;
        }
        let interface = (netns.in_one_form().path(), name.to_owned());
        let what = format!("the interface `{name}` in namespace");
        if let Err(finding) =
            try_claim(&mut self.claims.interfaces, interface, (port, place), |_| format!("{what} `{netns}`"))
        {
            self.report.errors.push(finding);
            return None;
        }
        Some(Attach::Netns { netns, create, name: name.to_owned() })
    }

    fn device(&mut self, port: &str, section: &Section<'_>, node: Node<'_>) -> Option<Attach> {
        for key in ["create", "name"] {
            if let Some((place, _)) = section.entry(key) {
                let mistake = Mistake::new(format!("`{key}` does not go with `device`"));
                self.report.error(
                    place,
                    mistake.help("a device is used as it is; `create` and `name` belong to `netns`"),
                );
            }
        }
        let device = string(node, self.report)?;
        self.report.keep(node.span(), check_interface(device).and_then(|()| is_not_loopback(device)))?;
        self.report.keep(node.span(), is_no_networks(device, self.names, self.networks))?;
        claim(&mut self.claims.devices, device.to_owned(), "the device", (port, node.span()), self.report)?;
        Some(Attach::Device { device: device.to_owned() })
    }
}

/// Records that `port` has `thing`, or that another has it already.
fn claim<T: Ord + Display>(
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

fn try_claim<T: Ord>(
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

/// Whether a port of `network` may have `addr`.
fn check_address(addr: IpAddr, name: &str, network: &Network) -> Result<(), Mistake> {
    let Some(subnet) = network.subnet_of(addr) else {
        let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.net.to_string()).collect();
        return Err(Mistake::new(format!("{addr} is in no subnet of network `{name}`"))
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
        return Ok(());
    };
    Err(Mistake::new(format!("{addr} is {what}"))
        .help("choose another address, or take it out to have one assigned"))
}

fn parse_netns(text: &str) -> Result<NetnsRef, Mistake> {
    if text.starts_with('/') {
        return Ok(NetnsRef::Path(PathBuf::from(text)));
    }
    let is_wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text == "." || text == ".." || text.len() > 255 || text.contains(is_wrong) {
        return Err(Mistake::new(format!("`{}` cannot name a namespace", text.escape_default()))
            .help("give a name as `ip netns` shows it, or an absolute path"));
    }
    Ok(NetnsRef::Name(text.to_owned()))
}
