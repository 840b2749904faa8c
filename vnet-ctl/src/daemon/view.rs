//! What is in force, in the words of the API.
//!
//! Pure: the policy, the devices and the counters in, answers out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use vnet_common::link;

use crate::{
    api::types::{
        AttachInfo, BackendInfo, DropCount, DropReport, ElasticIpInfo, ForwardInfo, NetworkInfo,
        POLICY_ORIGIN, PortDrops, PortInfo, PortState, PortVlan, SubnetInfo,
    },
    compile::{Assigned, Devices, exit_addresses},
    datapath::describe,
    policy::{
        Attach, Backend, ElasticIp, Forward, HostAccess, NetworkKind, Policy, Port, PortRange, Segment,
        bridge_name,
    },
    state::LearnedAddresses,
};

/// What people call the host in lists of flows.
const HOST: &str = "host";

/// The policy in force, and the devices that it found or got.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The policy.
    pub(super) policy: Arc<Policy>,
    /// The runtimes that created ports, by port; the policy file declares the others.
    pub(super) origins: BTreeMap<String, String>,
    /// The addresses of its ports.
    pub(super) assigned: Assigned,
    /// Those of them that ports were heard with.
    pub(super) learned: LearnedAddresses,
    /// Its bridges, the host-side devices of its ports, and its uplinks.
    pub(super) devices: Devices,
    /// The numbers of the links by which ports take part in further networks, with the port's device.
    pub(super) member_links: BTreeMap<u32, u32>,
    /// The names of those devices.
    pub(super) device_names: BTreeMap<u32, String>,
    /// The host's ids of the namespaces that the ports lead to.
    pub(super) namespaces: BTreeSet<i32>,
}

impl View {
    /// What people call the device `ifindex` as the end of a flow.
    pub(super) fn party(&self, ifindex: u32) -> String {
        if self.devices.bridges.values().any(|bridge| bridge.ifindex == ifindex) {
            return HOST.to_owned();
        }
        if self.devices.uplinks.values().any(|uplink| uplink.ifindex == ifindex) {
            return self.device(ifindex);
        }
        if link::is_segment(ifindex) {
            return self.beyond(link::bridge(ifindex)).unwrap_or_else(|| format!("if{ifindex}"));
        }
        self.port_at(ifindex).map_or_else(|| format!("if{ifindex}"), str::to_owned)
    }

    /// What people call whoever is beyond this host in the network of a bridge.
    fn beyond(&self, bridge: u32) -> Option<String> {
        let (name, _) = self.devices.bridges.iter().find(|(_, known)| known.ifindex == bridge)?;
        Some(format!("net:{name}"))
    }

    /// The name of the device `ifindex`, or its number.
    pub(super) fn device(&self, ifindex: u32) -> String {
        self.device_names.get(&ifindex).cloned().unwrap_or_else(|| format!("if{ifindex}"))
    }

    /// What a repair calls the device `ifindex`, now known as `device`.
    pub(super) fn place(&self, ifindex: u32, device: &str) -> String {
        self.port_at(ifindex).map_or_else(|| device.to_owned(), |port| format!("port {port} ({device})"))
    }

    /// The port with the device `ifindex`, or with a member link of that number.
    fn port_at(&self, ifindex: u32) -> Option<&str> {
        let ifindex = self.member_links.get(&ifindex).copied().unwrap_or(ifindex);
        self.devices.ports.iter().find(|(_, device)| device.ifindex == ifindex).map(|(name, _)| name.as_str())
    }

    fn device_name(&self, ifindex: u32) -> String {
        self.device_names.get(&ifindex).cloned().unwrap_or_default()
    }

    /// The networks.
    pub(super) fn networks(&self) -> Vec<NetworkInfo> {
        let show = |(name, network): (&String, &crate::policy::Network)| {
            let bridge = self.devices.bridges.get(name);
            let uplink = self.devices.uplinks.get(name);
            let addresses = |uplink| [true, false].map(|is_ipv4| exit_addresses(network, uplink, is_ipv4));
            NetworkInfo {
                name: name.clone(),
                kind: network.kind.to_string(),
                bridge: bridge_name(name),
                ifindex: bridge.map_or(0, |bridge| bridge.ifindex),
                mac: bridge.map(|bridge| bridge.mac.to_string()).unwrap_or_default(),
                mtu: network.mtu,
                subnets: network
                    .subnets
                    .iter()
                    .map(|subnet| SubnetInfo { subnet: subnet.net.to_string(), gateway: subnet.gateway })
                    .collect(),
                connected: self.policy.joined(name).into_iter().map(str::to_owned).collect(),
                exit_addresses: uplink.map(addresses).unwrap_or_default().concat(),
                host: network.host == HostAccess::Trusted,
                ports: self.policy.ports.values().filter(|port| is_in(port, name)).count(),
                uplink: self.uplink(name),
                snat: network.snat.clone(),
                snat_ports: (network.kind == NetworkKind::Nat).then(|| {
                    let (first, last) = network.snat_ports;
                    PortRange { first, last }.to_string()
                }),
                no_snat: network.no_snat.iter().map(ToString::to_string).collect(),
                mapping: (network.kind == NetworkKind::Nat).then(|| network.mapping.to_string()),
                clamp_mss: network.clamp_mss,
                segment: network.segment.clone(),
            }
        };
        self.policy.networks.iter().map(show).collect()
    }

    /// The device that packets of `network` leave by: the one in use, else the one that the policy names.
    fn uplink(&self, network: &str) -> Option<String> {
        let in_use = self.devices.uplinks.get(network).map(|uplink| self.device_name(uplink.ifindex));
        let named = || self.policy.networks.get(network).and_then(|network| network.uplink.clone());
        in_use.filter(|name| !name.is_empty()).or_else(named)
    }

    /// The address of a port of the same IP version as `addr`.
    fn address(&self, port: &str, addr: IpAddr) -> Option<IpAddr> {
        let mut own = self.assigned.get(port).into_iter().flatten();
        own.find(|own| own.is_ipv4() == addr.is_ipv4()).copied()
    }

    fn network_of(&self, port: &str) -> String {
        self.policy.ports.get(port).map(|port| port.network.clone()).unwrap_or_default()
    }

    /// The forwards, in the order of the policy.
    pub(super) fn forwards(&self) -> Vec<ForwardInfo> {
        let show = |forward: &Forward| ForwardInfo {
            name: forward.name(),
            listen: forward.listens().to_string(),
            protocol: forward.protocol.to_string(),
            affinity: forward.affinity,
            backends: forward.to.iter().map(|backend| self.backend(forward, backend)).collect(),
        };
        self.policy.forwards.iter().map(show).collect()
    }

    fn backend(&self, forward: &Forward, backend: &Backend) -> BackendInfo {
        BackendInfo {
            to: format!("{}:{}", backend.port, forward.to_ports(backend)),
            port: backend.port.clone(),
            weight: backend.weight,
            network: self.network_of(&backend.port),
            address: self.address(&backend.port, forward.listen),
        }
    }

    /// The elastic IPs.
    pub(super) fn elastic_ips(&self) -> Vec<ElasticIpInfo> {
        let show = |(addr, elastic_ip): (&IpAddr, &ElasticIp)| {
            let network = self.network_of(&elastic_ip.port);
            ElasticIpInfo {
                elastic_ip: *addr,
                port: elastic_ip.port.clone(),
                address: self.address(&elastic_ip.port, *addr),
                uplink: self.uplink(&network),
                network,
                on_change: elastic_ip.on_change,
            }
        };
        self.policy.elastic_ips.iter().map(show).collect()
    }

    /// The ports; `state` tells the state of a device.
    pub(super) fn ports(&self, state: impl Fn(u32) -> PortState) -> Vec<PortInfo> {
        self.policy.ports.iter().map(|(name, port)| self.show(name, port, &state)).collect()
    }

    /// The port called `name`, if there is one.
    pub(super) fn port(&self, name: &str, state: impl Fn(u32) -> PortState) -> Option<PortInfo> {
        Some(self.show(name, self.policy.ports.get(name)?, state))
    }

    fn show(&self, name: &str, port: &Port, state: impl Fn(u32) -> PortState) -> PortInfo {
        let ifindex = self.devices.ports.get(name).map_or(0, |device| device.ifindex);
        PortInfo {
            name: name.to_owned(),
            origin: self.origin(name).to_owned(),
            network: port.network.clone(),
            vlans: port.vlans.iter().filter_map(|network| self.vlan(network)).collect(),
            device: self.device_name(ifindex),
            ifindex,
            mac: port.mac.to_string(),
            addresses: self.assigned.get(name).cloned().unwrap_or_default(),
            learned: self.learned.get(name).into_iter().flatten().map(|learned| learned.address).collect(),
            security_groups: port.security_groups.clone(),
            attach: attach_info(&port.attach),
            state: if matches!(port.attach, Attach::Remote { .. }) {
                PortState::Remote
            } else {
                state(ifindex)
            },
        }
    }

    /// The network with the tag that its frames have on ports.
    fn vlan(&self, network: &str) -> Option<PortVlan> {
        let Some(Segment::Lan { vlan, .. }) = &self.policy.networks.get(network)?.segment else {
            return None;
        };
        Some(PortVlan { network: network.to_owned(), vlan: *vlan.first()? })
    }

    /// Who declared the port called `name`.
    pub(super) fn origin(&self, name: &str) -> &str {
        self.origins.get(name).map_or(POLICY_ORIGIN, String::as_str)
    }

    /// Index and name of a port's device, 0 and empty if it is not there; `None` if there is no such port.
    pub(super) fn port_device(&self, name: &str) -> Option<(u32, String)> {
        self.policy.ports.get(name)?;
        let ifindex = self.devices.ports.get(name).map_or(0, |device| device.ifindex);
        Some((ifindex, self.device_name(ifindex)))
    }

    /// The drop counters.
    pub(super) fn drops(
        &self,
        total: &BTreeMap<u32, u64>,
        by_device: &BTreeMap<(u32, u32), u64>,
    ) -> DropReport {
        let at_port = |(&(ifindex, number), &packets): (&(u32, u32), &u64)| PortDrops {
            port: match (self.port_at(ifindex), self.device_names.get(&ifindex)) {
                (Some(port), _) => port.to_owned(),
                (None, Some(device)) => device.clone(),
                (None, None) => format!("if{ifindex}"),
            },
            ifindex,
            reason: describe(number).0,
            number,
            packets,
        };
        DropReport {
            total: total.iter().map(|(&reason, &packets)| drop_count(reason, packets)).collect(),
            ports: by_device.iter().map(at_port).collect(),
        }
    }
}

/// Whether the port takes part in the network.
fn is_in(port: &Port, network: &str) -> bool {
    port.network == network || port.vlans.iter().any(|vlan| vlan == network)
}

/// The drops at one device.
pub(super) fn drops_at(ifindex: u32, by_device: &BTreeMap<(u32, u32), u64>) -> Vec<DropCount> {
    let own = by_device.iter().filter(|((device, _), _)| *device == ifindex);
    own.map(|(&(_, reason), &packets)| drop_count(reason, packets)).collect()
}

fn drop_count(number: u32, packets: u64) -> DropCount {
    let (reason, explanation) = describe(number);
    DropCount { reason, number, packets, explanation }
}

fn attach_info(attach: &Attach) -> AttachInfo {
    match attach {
        Attach::Netns { netns, create, name } => {
            AttachInfo::Netns { netns: netns.to_string(), create: *create, name: name.clone() }
        }
        Attach::Device { device } => AttachInfo::Device { device: device.clone() },
        Attach::Tap { tap, create, owner } => {
            AttachInfo::Tap { tap: tap.clone(), create: *create, owner: *owner }
        }
        Attach::Remote { remote } => AttachInfo::Remote { remote: remote.map(|host| host.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vnet_common::{Delivery, MacAddr};

    use super::*;
    use crate::compile::{Bridge, PortDevice, UplinkDevice};
    use crate::policy::Affinity;

    const POLICY: &str = r#"
version = 1
[networks.web]
type = "nat"
subnets = ["10.10.0.0/24"]
[ports.web-1]
network = "web"
addresses = ["10.10.0.10"]
attach = { netns = "web-1", create = true }
[ports.web-2]
network = "web"
addresses = ["10.10.0.11"]
attach = { device = "tap0" }
[[forwards]]
listen = "0.0.0.0:8000-8001"
protocol = "tcp"
to = ["web-1:80", { port = "web-2:90", weight = 3 }]
affinity = "client"
[elastic_ips]
"198.51.100.20" = { port = "web-2", on_change = "keep" }
"#;

    fn view() -> View {
        let (policy, _) = crate::policy::parse(POLICY, Path::new("policy.toml")).unwrap();
        let mut devices = Devices::default();
        devices.bridges.insert("web".to_owned(), Bridge { ifindex: 3, mac: MacAddr([2, 0, 0, 0, 0, 1]) });
        devices.ports.insert("web-1".to_owned(), PortDevice { ifindex: 5, delivery: Delivery::Peer });
        let addresses = vec![[198, 51, 100, 2].into(), [198, 51, 100, 3].into()];
        let uplink = UplinkDevice::new(7, MacAddr([2, 0, 0, 0, 0, 7]), addresses, 1500);
        devices.uplinks.insert("web".to_owned(), uplink);
        View {
            assigned: crate::compile::assign(&policy, &BTreeMap::new()).unwrap(),
            policy: Arc::new(policy),
            origins: [("web-2".to_owned(), "cni".to_owned())].into(),
            devices,
            member_links: [(link::member(0), 5)].into(),
            device_names: [(3, "vnet-web".to_owned()), (5, "vp-1".to_owned()), (7, "eth0".to_owned())].into(),
            namespaces: BTreeSet::new(),
            learned: BTreeMap::new(),
        }
    }

    #[test]
    fn devices_are_called_by_what_they_are() {
        let view = view();
        assert_eq!(
            (view.party(3), view.party(5), view.party(9)),
            ("host".into(), "web-1".into(), "if9".into())
        );
        assert_eq!(view.party(7), "eth0");
        assert_eq!(
            (view.party(link::member(0)), view.party(link::segment(3))),
            ("web-1".into(), "net:web".into())
        );
        let web = view.networks().remove(0);
        assert_eq!(web.uplink.as_deref(), Some("eth0"));
        assert_eq!(web.exit_addresses, ["198.51.100.2".parse::<std::net::IpAddr>().unwrap()]);
        let drops = view.drops(&[(48, 3)].into(), &[((5, 48), 2), ((3, 16), 1), ((9, 16), 1)].into());
        let ports: Vec<&str> = drops.ports.iter().map(|drop| drop.port.as_str()).collect();
        assert_eq!(ports, ["vnet-web", "web-1", "if9"]);
        assert_eq!(drops_at(5, &[((5, 16), 4), ((6, 16), 9)].into())[0].packets, 4);
        assert_eq!(
            (view.port_device("web-1"), view.port_device("web-3")),
            (Some((5, "vp-1".to_owned())), None)
        );
        assert_eq!((drops.total[0].reason.as_str(), drops.total[0].packets), ("egress-denied", 3));
    }

    #[test]
    fn what_leads_to_a_port_is_told_with_where_it_ends() {
        let mut view = view();
        let forward = &view.forwards()[0];
        assert_eq!((forward.name.as_str(), forward.affinity), ("tcp/0.0.0.0:8000-8001", Affinity::Client));
        let told: Vec<_> = forward
            .backends
            .iter()
            .map(|backend| (backend.to.as_str(), backend.weight, &*backend.network))
            .collect();
        assert_eq!(told, [("web-1:80-81", 1, "web"), ("web-2:90-91", 3, "web")]);
        assert_eq!(forward.backends[0].address, Some("10.10.0.10".parse().unwrap()));
        let elastic_ip = &view.elastic_ips()[0];
        assert_eq!(elastic_ip.address, Some("10.10.0.11".parse().unwrap()));
        assert_eq!(elastic_ip.uplink.as_deref(), Some("eth0"));
        let network = &view.networks()[0];
        let told = (network.uplink.as_deref(), network.snat_ports.as_deref());
        assert_eq!(told, (Some("eth0"), Some("1024-32767")));
        view.devices.uplinks.clear();
        assert_eq!(view.elastic_ips()[0].uplink, None);
    }

    #[test]
    fn a_port_whose_device_is_gone_is_still_listed() {
        let ports = view().ports(|ifindex| if ifindex == 0 { PortState::Missing } else { PortState::Up });
        assert_eq!((ports[0].device.as_str(), ports[0].state), ("vp-1", PortState::Up));
        assert_eq!((ports[1].ifindex, ports[1].state), (0, PortState::Missing));
        assert_eq!((ports[0].origin.as_str(), ports[1].origin.as_str()), ("policy", "cni"));
        assert_eq!(view().networks()[0].ports, 2);
    }

    #[test]
    fn ports_of_other_hosts_and_of_several_networks_are_shown_as_such() {
        let text = "version = 1\n\
                    networks.red = { type = \"private\", subnets = [\"10.1.0.0/24\"], vlan = 10, trunk = \"eth1\" }\n\
                    networks.lan = { type = \"bridged\", uplink = \"eth0\" }\n\
                    ports.far = { network = \"red\", addresses = [\"10.1.0.9\"], attach = { remote = true } }\n\
                    ports.vm = { network = \"lan\", vlans = [\"red\"], attach = { tap = \"tap0\" } }\n";
        let (policy, _) = crate::policy::parse(text, Path::new("policy.toml")).unwrap();
        let view = View { policy: policy.into(), ..View::default() };
        let ports = view.ports(|_| PortState::Missing);
        assert_eq!((ports[0].state, ports[1].state), (PortState::Remote, PortState::Missing));
        assert_eq!(ports[1].vlans, [PortVlan { network: "red".to_owned(), vlan: 10 }]);
        assert!(ports[1].is_in("red") && ports[1].is_in("lan") && !ports[0].is_in("lan"));
        let shown: Vec<_> = view
            .networks()
            .into_iter()
            .map(|network| (network.name, network.ports, network.segment.unwrap().to_string()))
            .collect();
        let lan = ("lan".to_owned(), 1, "bridged to eth0".to_owned());
        assert_eq!(shown, [lan, ("red".to_owned(), 2, "vlan 10 on eth1".to_owned())]);
    }
}
