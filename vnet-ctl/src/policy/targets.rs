//! What forwards, elastic IPs and metadata services lead to, and whose addresses they must not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Mistake, Network, NetworkKind, Overlaps, Port, closest,
    section::{Node, Report, list},
    special::version,
};

/// The networks and ports of the file.
pub(super) struct Targets<'a, 't> {
    /// The networks that are right.
    pub(super) networks: &'a BTreeMap<String, Network>,
    /// The ports that are right.
    pub(super) ports: &'a BTreeMap<String, Port>,
    /// The names of all ports of the file. A runtime's come and go without it, so nothing here may name them.
    pub(super) port_names: BTreeSet<&'t str>,
}

impl Targets<'_, '_> {
    /// Whether traffic from outside for `addr`, if that is known, can be led to the port `name`.
    pub(super) fn check_port(&self, name: &str, addr: Option<IpAddr>) -> Result<(), Mistake> {
        if !self.port_names.contains(name) {
            let mistake = Mistake::new(format!("there is no port `{name}` in the policy file"));
            return Err(mistake.help(match closest(name, self.port_names.iter().copied()) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None if name == "host" => "name the port of a workload, one of [ports]".to_owned(),
                None => format!("declare it under [ports.{name}]; ports of runtimes cannot be named here"),
            }));
        }
        // What is wrong with the others is told at their own places.
        let Some(port) = self.ports.get(name) else { return Ok(()) };
        let Some(network) = self.networks.get(&port.network) else { return Ok(()) };
        let why = match network.kind {
            NetworkKind::Nat => None,
            NetworkKind::Private => Some("nothing from outside gets there"),
            NetworkKind::Routed => Some("it is reached at its own addresses"),
            NetworkKind::Bridged => Some("the LAN reaches it at its own addresses"),
        };
        if let Some(why) = why {
            let message = format!("port `{name}` is in the {} network `{}`", network.kind, port.network);
            let help = format!(
                "{why}; name a port of a nat network, or write type = \"nat\" under [networks.{}]",
                port.network
            );
            return Err(Mistake::new(message).help(help));
        }
        let Some(is_ipv4) = addr.map(|addr| addr.is_ipv4()) else { return Ok(()) };
        if has_version(port, network, is_ipv4) {
            return Ok(());
        }
        let (version, network) = (version(is_ipv4), &port.network);
        Err(Mistake::new(format!("port `{name}` has no {version} address"))
            .help(format!("give it one; network `{network}` needs an {version} subnet for that")))
    }

    /// Whether `addr`, which is to be one of the host's own, can be. What a bridged network is in the host may have an
    /// address in, too.
    pub(super) fn check_hosts(&self, addr: IpAddr) -> Result<(), Mistake> {
        let own = self.networks.iter().filter(|(_, network)| network.is_routed_here());
        let subnets: Vec<_> =
            own.filter_map(|(name, network)| Some((name, network.subnet_of(addr)?))).collect();
        let Some((network, first)) = subnets.first() else { return Ok(()) };
        let overlaps = Overlaps::of(self.networks);
        let help = match subnets.iter().find(|(name, subnet)| overlaps.host_is_in(name, subnet)) {
            Some((_, subnet)) if subnet.gateway == addr => return Ok(()),
            Some((_, subnet)) => format!("in the subnet {} the host has {}", subnet.net, subnet.gateway),
            None => format!(
                "it is kept out of network `{network}`, and has no address in {}, which other networks overlap",
                first.net
            ),
        };
        Err(Mistake::new(format!("{addr} is no address of the host")).help(help))
    }

    /// Whether `addr`, which is to be `what`, is in no network: there it would be a workload's, or the gateway. What a
    /// bridged network is in is outside.
    pub(super) fn check_outside(&self, addr: IpAddr, what: &str) -> Result<(), Mistake> {
        let subnet = |(name, network): (&'_ String, &'_ Network)| {
            network.subnet_of(addr).map(|subnet| (name.clone(), *subnet))
        };
        let mut own = self.networks.iter().filter(|(_, network)| network.is_routed_here());
        let Some((name, subnet)) = own.find_map(subnet) else { return Ok(()) };
        let message = if addr == subnet.gateway {
            format!("{addr} is the gateway of network `{name}`")
        } else {
            format!("{addr} is in the subnet {} of network `{name}`", subnet.net)
        };
        Err(Mistake::new(message).help(format!("{what} is an address outside all networks")))
    }
}

/// Whether the port has, or will be assigned, an address of the IP version.
fn has_version(port: &Port, network: &Network, is_ipv4: bool) -> bool {
    if port.addresses.is_empty() {
        return network.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == is_ipv4);
    }
    port.addresses.iter().any(|addr| addr.is_ipv4() == is_ipv4)
}

/// The items of the list `[[key]]`; nothing once it is recorded that it is none.
pub(super) fn entries<'t>(key: &str, node: Node<'t>, report: &mut Report) -> Vec<Node<'t>> {
    if node.entries().is_some() {
        let mistake = Mistake::new(format!("`{key}` is a list of entries, this is one table"));
        report.error(node.span(), mistake.help(format!("write [[{key}]] above each entry")));
        return Vec::new();
    }
    list(node, report).unwrap_or_default()
}
