//! What should be on the host for a policy, in the words of the plan.
//!
//! Pure: the policy and its addresses in, data out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;
use vnet_common::MacAddr;

use crate::{
    compile::Assigned,
    plan,
    policy::{self, Overlaps},
};

/// The bridges and devices of `policy`, whose ports have the addresses `assigned`.
pub(super) fn desired(policy: &policy::Policy, assigned: &Assigned) -> plan::Desired {
    let overlaps = Overlaps::of(&policy.networks);
    let networks = policy.networks.iter().map(|(name, network)| {
        let bridge = bridge((name, network), &overlaps);
        (name.clone(), plan::Network { groups: groups(policy, name, network), ..bridge })
    });
    let ports = policy.ports.iter().filter_map(|(name, port)| {
        let network = policy.networks.get(&port.network)?;
        let addresses = assigned.get(name).map_or(&[][..], Vec::as_slice);
        Some((name.clone(), device(port, network, addresses)))
    });
    plan::Desired { networks: networks.collect(), ports: ports.collect(), spared: BTreeMap::new() }
}

fn bridge((name, network): (&str, &policy::Network), overlaps: &Overlaps<'_>) -> plan::Network {
    let of_host = network.subnets.iter().filter(|subnet| overlaps.host_is_in(name, subnet));
    plan::Network {
        bridge: policy::bridge_name(name),
        mac: bridge_mac(name),
        mtu: network.mtu,
        gateways: of_host.map(|subnet| in_subnet(subnet.gateway, subnet)).collect(),
        uplink: uplink(network),
        groups: BTreeSet::new(),
    }
}

/// To which multicast MACs neighbours on the uplink ask for what vnet answers for: IPv6 addresses that the network
/// leaves with, and elastic IPs of its ports. Of those that the host has itself, the device takes them anyway.
fn groups(policy: &policy::Policy, name: &str, network: &policy::Network) -> BTreeSet<MacAddr> {
    let is_here = |port: &str| policy.ports.get(port).is_some_and(|port| port.network == name);
    let elastic = policy.elastic_ips.iter().filter(|(_, elastic)| is_here(&elastic.port));
    let answered = network.snat.iter().chain(elastic.map(|(addr, _)| addr));
    answered
        .filter_map(|addr| if let IpAddr::V6(addr) = addr { Some(solicited_node(*addr)) } else { None })
        .collect()
}

/// The MAC of an address's solicited-node group: RFC 4291 section 2.7.1, RFC 2464 section 7.
const fn solicited_node(addr: Ipv6Addr) -> MacAddr {
    let [.., a, b, c] = addr.octets();
    MacAddr([0x33, 0x33, 0xff, a, b, c])
}

fn uplink(network: &policy::Network) -> plan::Uplink {
    match (network.kind, &network.uplink) {
        (policy::NetworkKind::Private, _) => plan::Uplink::None,
        (policy::NetworkKind::Nat, None) => plan::Uplink::DefaultRoute,
        (policy::NetworkKind::Nat, Some(device)) => plan::Uplink::Device(device.clone()),
    }
}

fn device(port: &policy::Port, network: &policy::Network, addresses: &[IpAddr]) -> plan::Port {
    let subnets = || addresses.iter().filter_map(|&addr| Some((addr, network.subnet_of(addr)?)));
    // One default route for each IP version: that of the first address.
    let mut gateways = BTreeMap::new();
    for (_, subnet) in subnets() {
        gateways.entry(subnet.gateway.is_ipv6()).or_insert(subnet.gateway);
    }
    plan::Port {
        network: port.network.clone(),
        mac: port.mac,
        mtu: network.mtu,
        addresses: subnets().map(|(addr, subnet)| in_subnet(addr, subnet)).collect(),
        gateways: gateways.into_values().collect(),
        attach: place(&port.attach),
    }
}

/// The MAC of a network's gateway, the same for the same name. No port's name has a colon, so none has the
/// same by its name.
pub(super) fn bridge_mac(network: &str) -> MacAddr {
    policy::port_mac(&format!("network:{network}"))
}

/// The address with the length of its subnet.
fn in_subnet(addr: IpAddr, subnet: &policy::Subnet) -> IpNet {
    IpNet::new(addr, subnet.net.prefix_len()).unwrap_or_else(|_| addr.into())
}

/// Where a port is.
pub(super) fn place(attach: &policy::Attach) -> plan::Attach {
    match attach {
        policy::Attach::Netns { netns, create, name } => {
            plan::Attach::Netns { netns: netns.in_one_form(), create: *create, interface: name.clone() }
        }
        policy::Attach::Device { device } => plan::Attach::Device { device: device.clone() },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const POLICY: &str = r#"
version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24", "10.20.0.0/16", "fd00:10::/64"]
mtu = 1400
snat = ["198.51.100.9", "2001:db8::12:3456"]
[elastic_ips]
"2001:db8::a:20" = { port = "web-1" }
"198.51.100.20" = { port = "web-1" }
[ports.web-1]
network = "web"
addresses = ["10.20.0.9", "fd00:10::a"]
attach = { netns = "/run/ns/1", name = "net0" }
[ports.web-2]
network = "web"
attach = { device = "tap0" }
"#;

    #[test]
    fn addresses_carry_the_length_of_their_subnet_and_lead_to_its_gateway() {
        let (policy, _) = policy::parse(POLICY, Path::new("policy.toml")).unwrap();
        let assigned = crate::compile::assign(&policy, &BTreeMap::new()).unwrap();

        let desired = desired(&policy, &assigned);

        let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let network = &desired.networks["web"];
        assert_eq!((network.bridge.as_str(), network.mtu), ("vnet-web", 1400));
        assert_eq!(texts(&network.gateways), ["10.10.0.1/24", "10.20.0.1/16", "fd00:10::1/64"]);
        assert_eq!(network.uplink, plan::Uplink::DefaultRoute);
        let groups = [[0x33, 0x33, 0xff, 0x0a, 0, 0x20], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]];
        assert_eq!(network.groups, groups.map(MacAddr).into());
        let port = &desired.ports["web-1"];
        assert_eq!(texts(&port.addresses), ["10.20.0.9/16", "fd00:10::a/64"]);
        assert_eq!(port.gateways, ["10.20.0.1".parse::<IpAddr>().unwrap(), "fd00:10::1".parse().unwrap()]);
        let second = &desired.ports["web-2"];
        assert_eq!((second.addresses.len(), second.gateways.len(), second.mtu), (3, 2, 1400));
        assert_eq!(second.attach, plan::Attach::Device { device: "tap0".to_owned() });
    }

    #[test]
    fn the_host_has_no_address_where_it_is_kept_out_and_others_have_the_same() {
        let closed = |name: &str, subnet: &str| {
            format!("[networks.{name}]\ntype = \"nat\"\nsubnets = [{subnet}]\nhost = false\n")
        };
        let addresses = |more: &str| {
            let (policy, _) = policy::parse(&format!("{POLICY}{more}"), Path::new("policy.toml")).unwrap();
            let desired = desired(&policy, &Assigned::new());
            let texts = |network: &plan::Network| network.gateways.iter().map(ToString::to_string).collect();
            let of = desired.networks.iter().map(|(name, network)| (name.clone(), texts(network)));
            of.collect::<BTreeMap<String, Vec<String>>>()
        };
        let alone = addresses(&closed("x", "\"10.66.0.0/24\", \"fd66::/64\""));
        assert_eq!(alone["x"], ["10.66.0.1/24", "fd66::1/64"]);
        let both = addresses(&closed("x", "\"10.10.0.0/16\", \"fd66::/64\""));
        assert_eq!(both["x"], ["fd66::1/64"]);
        assert_eq!(both["web"], ["10.10.0.1/24", "10.20.0.1/16", "fd00:10::1/64"]);
        let neither = addresses(&[closed("x", "\"10.66.0.0/24\""), closed("y", "\"10.66.0.0/16\"")].concat());
        assert_eq!((neither["x"].len(), neither["y"].len()), (0, 0));
    }
}
