//! The devices of ports.

use super::{
    Action, Attach, Inside, Kind, Link, Namespace, NetnsRef, Network, Observed, Obstacle, Owner, Ownership,
    Port, Workload, planner::Planner, port_device, taps,
};

impl<'a> Planner<'a> {
    pub(super) fn port(&mut self, name: &'a str, port: &'a Port) {
        let Some(network) = self.desired.networks.get(&port.network) else {
            let network = port.network.clone();
            return self.obstacles.push(Obstacle::UnknownNetwork { port: name.to_owned(), network });
        };
        let place = match &port.attach {
            Attach::Netns { netns, interface, .. } => format!("{interface} in namespace {netns}"),
            Attach::Device { device } | Attach::Tap { device, .. } => format!("device {device}"),
        };
        if let Some(other) = self.places.insert(place.clone(), name) {
            let (port, other) = (name.to_owned(), other.to_owned());
            return self.obstacles.push(Obstacle::PlaceTaken { port, other, place });
        }
        let result = match &port.attach {
            Attach::Netns { netns, create, interface } => {
                let workload = Workload::new(port, netns, interface);
                self.namespace(name, netns, *create)
                    .and_then(|inside| self.veth(name, network, inside, workload))
            }
            Attach::Device { device } => self.device(name, network, device, Borrowed::Any),
            Attach::Tap { device, create: false, .. } => self.device(name, network, device, Borrowed::Tap),
            Attach::Tap { device, create: true, owner } => self.tap(name, network, device, *owner),
        };
        self.obstacles.extend(result.err());
    }

    /// What is inside `netns`, which is made if that is asked for.
    fn namespace(
        &mut self,
        port: &str,
        netns: &NetnsRef,
        create: bool,
    ) -> Result<Option<&'a Inside>, Obstacle> {
        let (port, text) = (port.to_owned(), netns.to_string());
        let was_ours = self.state.namespaces.contains(&text);
        match self.observed.namespaces.get(netns) {
            Some(Namespace::Present(inside)) => return Ok(Some(inside)),
            Some(Namespace::Own) => return Err(Obstacle::OwnNamespace { port, netns: text }),
            // Stopped between making the file and putting the namespace there.
            Some(Namespace::NotANamespace) if create && was_ours => {}
            Some(Namespace::NotANamespace) => {
                return Err(Obstacle::NotANamespace { port, path: netns.path().display().to_string() });
            }
            Some(Namespace::Missing) | None if create => {}
            Some(Namespace::Missing) | None => return Err(Obstacle::NamespaceMissing { port, netns: text }),
        }
        let create = Action::CreateNamespace(netns.clone());
        if !self.plan.prepare.iter().any(|step| step.action == create) {
            self.prepare(create, Action::DeleteNamespace(netns.clone()));
        }
        Ok(None)
    }

    fn veth(
        &mut self,
        name: &str,
        network: &Network,
        inside: Option<&Inside>,
        workload: Workload,
    ) -> Result<(), Obstacle> {
        let Some((inside, interface)) =
            inside.and_then(|inside| Some((inside, inside.links.get(&workload.interface)?)))
        else {
            self.create_veth(name, network, workload);
            return Ok(());
        };
        let Some(link) = host_side(self.observed, inside, interface).filter(|link| is_port(link)) else {
            let Workload { netns, interface, .. } = workload;
            let (port, netns) = (name.to_owned(), netns.to_string());
            return Err(Obstacle::InterfaceInTheWay { port, netns, interface });
        };
        self.repair_port(name, network, link, workload.mtu);
        self.configure(interface, workload);
        Ok(())
    }

    fn create_veth(&mut self, name: &str, network: &Network, workload: Workload) {
        let device = self.free_name(name);
        let owner = Some(Owner::Port(name.to_owned()));
        self.created.insert(device.clone());
        self.prepare(
            Action::CreateVeth { port: name.to_owned(), device: device.clone(), workload: workload.clone() },
            Action::DeleteLink { device: device.clone(), owner },
        );
        self.attach(None, Action::AttachPort { device: device.clone() }, &device);
        self.prepare(Action::Enslave { device: device.clone(), bridge: network.bridge.clone() }, None);
        self.up(None, &device);
        self.finish(Action::Configure(workload), None);
    }

    /// Makes a device that vnet made for a port what it should be.
    pub(super) fn repair_port(&mut self, name: &str, network: &Network, link: &Link, mtu: u32) {
        self.taken.insert(link.ifindex);
        self.owner(link, Owner::Port(name.to_owned()));
        if link.makes_link_local {
            self.prepare(Action::SetQuiet { device: link.name.clone() }, None);
        }
        self.mtu(link, mtu);
        self.attach(Some(link), Action::AttachPort { device: link.name.clone() }, &link.name);
        self.enslave(network, link);
        self.up(Some(link), &link.name);
    }

    /// Makes the inside of a port what it should be.
    fn configure(&mut self, interface: &Link, mut workload: Workload) {
        let mut gateways = interface.gateways.clone();
        workload.gateways.sort_unstable();
        gateways.sort_unstable();
        // Link-local addresses of others are left alone: the kernel may have made them.
        let is_ours = |net: &&ipnet::IpNet| workload.addresses.contains(net) || !is_link_local(net);
        let mut present: Vec<_> = interface.addresses.iter().filter(is_ours).copied().collect();
        present.sort_unstable();
        let mut wanted = workload.addresses.clone();
        wanted.sort_unstable();
        let mac = interface.mac.unwrap_or_default();
        let has_settings = interface.up && (mac, interface.mtu) == (workload.mac, workload.mtu);
        let has_addresses = workload.configures_itself()
            || !interface.makes_link_local && present == wanted && gateways == workload.gateways;
        let is_right = has_settings && has_addresses;
        if !is_right {
            let before = Workload {
                mac,
                mtu: interface.mtu,
                addresses: interface.addresses.clone(),
                gateways,
                up: interface.up,
                ..workload.clone()
            };
            self.finish(Action::Configure(workload), Action::Configure(before));
        }
    }

    fn device(
        &mut self,
        name: &str,
        network: &Network,
        device: &str,
        wanted: Borrowed,
    ) -> Result<(), Obstacle> {
        let (port, device) = (name.to_owned(), device.to_owned());
        let Some(link) = self.observed.by_name(&device) else {
            return Err(Obstacle::DeviceMissing { port, device });
        };
        let not_a_port = match link.kind {
            _ if link.is_ours() => Some("one of vnet's own devices"),
            Kind::Bridge { .. } => Some("a bridge"),
            Kind::Loopback => Some("the loopback device"),
            Kind::Tap { .. } => None,
            _ if wanted == Borrowed::Tap => Some("no tap"),
            Kind::Veth | Kind::Vxlan { .. } | Kind::Other => None,
        };
        if let Some(what) = not_a_port {
            return Err(Obstacle::NotAPort { port, device, what });
        }
        if let Some(master) = link.master {
            let master = self.observed.links.get(&master);
            if !master.is_some_and(Link::is_ours) {
                let master = master.map_or_else(|| "another bridge".to_owned(), |link| link.name.clone());
                return Err(Obstacle::ForeignMaster { port, device, master });
            }
        } else if let Some(net) = link.addresses.iter().find(|net| !is_link_local(net)) {
            return Err(Obstacle::DeviceInUse { port, device, address: net.to_string() });
        }
        if link.mtu < network.mtu {
            self.plan.warnings.push(format!(
                "port {port}: {device} has an MTU of {}, its network {}; larger packets to it are lost. \
                 Set one of them with `ip link set {device} mtu {}` or mtu = {} in the policy",
                link.mtu, network.mtu, network.mtu, link.mtu
            ));
        }
        self.taken.insert(link.ifindex);
        self.attach(Some(link), Action::AttachPort { device: device.clone() }, &device);
        self.enslave(network, link);
        self.up(Some(link), &device);
        Ok(())
    }

    fn enslave(&mut self, network: &Network, link: &Link) {
        let master = link.master.and_then(|master| self.observed.links.get(&master));
        if master.is_some_and(|master| master.name == network.bridge) {
            return;
        }
        let device = || link.name.clone();
        let undo = master.map_or_else(
            || Action::Release { device: device() },
            |master| Action::Enslave { device: device(), bridge: master.name.clone() },
        );
        self.prepare(Action::Enslave { device: device(), bridge: network.bridge.clone() }, undo);
    }

    /// A port whose veth is being replaced needs a second name until the first is gone.
    fn free_name(&self, port: &str) -> String {
        let is_free = |name: &String| self.observed.by_name(name).is_none() && !self.created.contains(name);
        (0..).map(|attempt| port_device(port, attempt)).find(is_free).unwrap_or_default()
    }
}

/// What a device of somebody else has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Borrowed {
    Any,
    Tap,
}

/// The host's device of `port`, as far as it is there.
pub(super) fn device_of<'a>(observed: &'a Observed, port: &Port) -> Option<&'a Link> {
    match &port.attach {
        Attach::Tap { device, create: true, .. } => {
            observed.by_name(device).filter(|link| taps::is_ours(link))
        }
        Attach::Device { device } | Attach::Tap { device, .. } => {
            observed.by_name(device).filter(|link| !link.is_ours())
        }
        Attach::Netns { netns, interface, .. } => match observed.namespaces.get(netns) {
            Some(Namespace::Present(inside)) => {
                host_side(observed, inside, inside.links.get(interface)?).filter(|link| is_port(link))
            }
            _ => None,
        },
    }
}

/// The host's end of the veth whose other end is `interface`.
fn host_side<'a>(observed: &'a Observed, inside: &Inside, interface: &Link) -> Option<&'a Link> {
    let link = observed.links.get(&interface.peer?.ifindex)?;
    let peer = link.peer?;
    (peer.ifindex == interface.ifindex && peer.nsid.is_some() && peer.nsid == inside.nsid).then_some(link)
}

fn is_port(link: &Link) -> bool {
    link.kind == Kind::Veth && matches!(link.ownership, Ownership::Ours(Owner::Port(_)) | Ownership::Newborn)
}

/// Whether an address is one that an interface makes for itself (RFC 4291 section 2.5.6).
pub(crate) fn is_link_local(net: &ipnet::IpNet) -> bool {
    matches!(net, ipnet::IpNet::V6(net) if net.addr().is_unicast_link_local())
}
