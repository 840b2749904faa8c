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
    compile::{Assigned, learns, network_of},
    plan,
    policy::{self, Overlaps},
};

/// The bridges and devices of `policy`, whose ports have the addresses `assigned`.
pub(super) fn desired(policy: &policy::Policy, assigned: &Assigned) -> plan::Desired {
    let overlaps = Overlaps::of(&policy.networks);
    let networks = policy.networks.iter().map(|(name, network)| {
        let of_host = network.subnets.iter().filter(|subnet| overlaps.host_is_in(name, subnet));
        let desired = plan::Network {
            gateways: of_host.map(|subnet| in_subnet(subnet.gateway, subnet)).collect(),
            groups: groups(policy, name, network),
            stations: network.segment.as_ref().map(|_| stations(policy, name, network)).unwrap_or_default(),
            ..bridge(name, network)
        };
        (name.clone(), desired)
    });
    let ports = policy.ports.iter().filter_map(|(name, port)| {
        let network = policy.networks.get(&port.network)?;
        let addresses = assigned.get(name).map_or(&[][..], Vec::as_slice);
        let attach = place(&port.attach)?;
        let own = addresses.iter().copied().filter(|addr| network_of(policy, port, *addr) == port.network);
        let device = device(port, network, &own.collect::<Vec<_>>(), attach);
        let addressing = match learns(policy, port, &port.network) {
            true => plan::Addressing::Own,
            false => plan::Addressing::Given,
        };
        Some((name.clone(), plan::Port { addressing, ..device }))
    });
    plan::Desired { networks: networks.collect(), ports: ports.collect(), spared: BTreeMap::new() }
}

/// The bridge of a network, and where it leads; without what depends on the rest of the policy.
pub(super) fn bridge(name: &str, network: &policy::Network) -> plan::Network {
    plan::Network {
        bridge: policy::bridge_name(name),
        mac: gateway_mac(name, network),
        mtu: network.mtu,
        gateways: Vec::new(),
        uplink: if leads_outside(network) { way(network.uplink.as_ref()) } else { plan::Uplink::None },
        groups: BTreeSet::new(),
        segment: network.segment.as_ref().map(|segment| reach(segment, network)),
        stations: BTreeSet::new(),
    }
}

/// Which device a segment is beyond.
fn reach(segment: &policy::Segment, network: &policy::Network) -> plan::Segment {
    match segment {
        policy::Segment::Lan { trunk, vlan, .. } => plan::Segment::Lan {
            trunk: trunk.clone(),
            shared: network.kind == policy::NetworkKind::Bridged && vlan.is_empty(),
        },
        policy::Segment::Overlay { uplink, peers, .. } => plan::Segment::Overlay {
            uplink: way(uplink.as_ref().or(network.uplink.as_ref())),
            peers: peers.iter().copied().collect(),
        },
    }
}

/// The MACs for which frames may come from beyond: of the ports here, and of the gateway if the host is it.
fn stations(policy: &policy::Policy, name: &str, network: &policy::Network) -> BTreeSet<MacAddr> {
    let is_here = |port: &&policy::Port| {
        let takes_part = port.network == name || port.vlans.iter().any(|network| network == name);
        takes_part && !matches!(port.attach, policy::Attach::Remote { .. })
    };
    let gateway = (network.kind != policy::NetworkKind::Bridged).then(|| gateway_mac(name, network));
    policy.ports.values().filter(is_here).map(|port| port.mac).chain(gateway).collect()
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

/// Whether packets of the network leave by an uplink.
pub(super) const fn leads_outside(network: &policy::Network) -> bool {
    matches!(network.kind, policy::NetworkKind::Nat | policy::NetworkKind::Routed)
}

/// The way by the device of that name, or where the host's default route leads.
fn way(device: Option<&String>) -> plan::Uplink {
    device.map_or(plan::Uplink::DefaultRoute, |device| plan::Uplink::Device(device.clone()))
}

/// The device of a port whose `addresses` in its own network are these. Those that it has in others are for whoever makes
/// the tagged interfaces there.
fn device(
    port: &policy::Port,
    network: &policy::Network,
    addresses: &[IpAddr],
    attach: plan::Attach,
) -> plan::Port {
    let with_length = |&addr: &IpAddr| match network.subnet_of(addr) {
        Some(subnet) => Some(in_subnet(addr, subnet)),
        // Of a LAN without subnets nothing more is known.
        None => network.subnets.is_empty().then(|| addr.into()),
    };
    // One default route for each IP version: that of the first address.
    let mut gateways = BTreeMap::new();
    for subnet in addresses.iter().filter_map(|addr| network.subnet_of(*addr)) {
        gateways.entry(subnet.gateway.is_ipv6()).or_insert(subnet.gateway);
    }
    plan::Port {
        network: port.network.clone(),
        mac: port.mac,
        mtu: network.mtu,
        addresses: addresses.iter().filter_map(with_length).collect(),
        gateways: gateways.into_values().collect(),
        addressing: plan::Addressing::Given,
        attach,
    }
}

/// The MAC of a network's gateway, the same for the same name. No port's name has a colon, so none has the
/// same by its name.
pub(super) fn bridge_mac(network: &str) -> MacAddr {
    policy::port_mac(&format!("network:{network}"))
}

/// The MAC of a network's gateway. Where the network goes beyond this host, other hosts may be gateways in it as well, under
/// other addresses: hence the addresses are in it. The host is none in a bridged network, whose addresses are those of a
/// gateway beyond, which may be of the same name.
pub(super) fn gateway_mac(name: &str, network: &policy::Network) -> MacAddr {
    if network.segment.is_none() || network.kind == policy::NetworkKind::Bridged {
        return bridge_mac(name);
    }
    let gateways: Vec<_> = network.subnets.iter().map(|subnet| subnet.gateway.to_string()).collect();
    bridge_mac(&format!("{name}:{}", gateways.join(",")))
}

/// The address with the length of its subnet.
fn in_subnet(addr: IpAddr, subnet: &policy::Subnet) -> IpNet {
    IpNet::new(addr, subnet.net.prefix_len()).unwrap_or_else(|_| addr.into())
}

/// Where a port is; nothing if another host looks after it.
pub(super) fn place(attach: &policy::Attach) -> Option<plan::Attach> {
    Some(match attach {
        policy::Attach::Netns { netns, create, name } => {
            plan::Attach::Netns { netns: netns.in_one_form(), create: *create, interface: name.clone() }
        }
        policy::Attach::Device { device } => plan::Attach::Device { device: device.clone() },
        policy::Attach::Tap { tap, create, owner } => {
            plan::Attach::Tap { device: tap.clone(), create: *create, owner: *owner }
        }
        policy::Attach::Remote { .. } => return None,
    })
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

    /// What is desired for the policy after `change`.
    fn desired_after(change: impl FnOnce(&mut policy::Policy)) -> plan::Desired {
        let (mut policy, _) = policy::parse(POLICY, Path::new("policy.toml")).unwrap();
        let assigned = crate::compile::assign(&policy, &BTreeMap::new()).unwrap();
        change(&mut policy);
        desired(&policy, &assigned)
    }

    fn lan(vlan: &[u16]) -> policy::Segment {
        policy::Segment::Lan { trunk: "eth1".to_owned(), vlan: vlan.to_vec(), priority: None }
    }

    #[test]
    fn the_gateway_of_a_bridged_network_is_that_of_its_workloads_and_not_the_host() {
        let desired = desired_after(|policy| {
            let web = policy.networks.get_mut("web").unwrap();
            (web.kind, web.segment) = (policy::NetworkKind::Bridged, Some(lan(&[])));
        });
        let web = &desired.networks["web"];
        assert!(web.is_mute() && web.gateways.is_empty() && web.addresses().is_empty());
        assert_eq!(web.uplink, plan::Uplink::None);
        assert_eq!(web.segment, Some(plan::Segment::Lan { trunk: "eth1".to_owned(), shared: true }));
        // Another host may be the gateway of the same network, in the same VLAN.
        let there = desired_after(|policy| {
            policy.networks.get_mut("web").unwrap().segment = Some(lan(&[10]));
        });
        assert_ne!(web.mac, there.networks["web"].mac);
        assert_eq!(desired.ports["web-1"].gateways[0], "10.20.0.1".parse::<IpAddr>().unwrap());
        let ports = ["web-1", "web-2"].map(policy::port_mac);
        assert_eq!(web.stations, ports.into());
    }

    #[test]
    fn a_port_that_is_heard_is_left_to_itself() {
        let desired = desired_after(|policy| {
            let web = policy.networks.get_mut("web").unwrap();
            (web.kind, web.segment) = (policy::NetworkKind::Bridged, Some(lan(&[])));
        });
        let addressing = ["web-1", "web-2"].map(|port| desired.ports[port].addressing);
        assert_eq!(addressing, [plan::Addressing::Given, plan::Addressing::Own]);
    }

    #[test]
    fn an_interface_has_the_addresses_of_its_untagged_network() {
        let addresses = |desired: &plan::Desired| {
            let port = &desired.ports["web-1"];
            let texts: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
            (texts, port.gateways.len())
        };
        let other = |policy: &mut policy::Policy| {
            let mut red = policy.networks["web"].clone();
            red.segment = Some(lan(&[10]));
            let web = policy.networks.get_mut("web").unwrap();
            (red.subnets, web.subnets) = web.subnets.iter().partition(|subnet| subnet.net.addr().is_ipv6());
            policy.networks.insert("red".to_owned(), red);
            policy.ports.get_mut("web-1").unwrap().vlans = vec!["red".to_owned()];
        };
        assert_eq!(addresses(&desired_after(other)), (vec!["10.20.0.9/16".to_owned()], 1));
        let open = desired_after(|policy| {
            let web = policy.networks.get_mut("web").unwrap();
            (web.kind, web.segment) = (policy::NetworkKind::Bridged, Some(lan(&[])));
            web.subnets.clear();
        });
        assert_eq!(addresses(&open), (vec!["10.20.0.9/32".to_owned(), "fd00:10::a/128".to_owned()], 0));
    }

    #[test]
    fn frames_are_wanted_for_who_is_here_and_takes_part() {
        let desired = desired_after(|policy| {
            let mut red = policy.networks["web"].clone();
            (red.kind, red.segment) = (policy::NetworkKind::Routed, Some(lan(&[10])));
            policy.networks.insert("red".to_owned(), red);
            policy.ports.get_mut("web-1").unwrap().vlans = vec!["red".to_owned()];
            let remote = policy.ports.get_mut("web-2").unwrap();
            (remote.network, remote.attach) = ("red".to_owned(), policy::Attach::Remote { remote: None });
        });
        let red = &desired.networks["red"];
        assert_eq!(red.stations, [policy::port_mac("web-1"), red.mac].into());
        assert_eq!(red.uplink, plan::Uplink::DefaultRoute);
        assert_eq!(red.segment, Some(plan::Segment::Lan { trunk: "eth1".to_owned(), shared: false }));
        assert!(desired.networks["web"].stations.is_empty() && !desired.ports.contains_key("web-2"));
    }

    #[test]
    fn an_overlay_goes_by_what_is_named_for_it_or_for_the_network_or_the_default_route() {
        let underlay = |named: Option<&str>, way_out: Option<&str>| {
            let desired = desired_after(|policy| {
                let web = policy.networks.get_mut("web").unwrap();
                web.uplink = way_out.map(str::to_owned);
                let (vni, peers, uplink) = (7, vec![[192, 0, 2, 2].into()], named.map(str::to_owned));
                web.segment = Some(policy::Segment::Overlay { vni, peers, uplink });
            });
            match &desired.networks["web"].segment {
                Some(plan::Segment::Overlay { uplink, .. }) => uplink.clone(),
                other => panic!("{other:?}"),
            }
        };
        let device = |name: &str| plan::Uplink::Device(name.to_owned());
        assert_eq!(underlay(Some("eth2"), Some("eth1")), device("eth2"));
        assert_eq!(underlay(None, Some("eth1")), device("eth1"));
        assert_eq!(underlay(None, None), plan::Uplink::DefaultRoute);
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
