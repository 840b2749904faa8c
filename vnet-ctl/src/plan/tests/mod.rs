//! Plans as data: each test starts from a host on which everything is as desired, and disturbs it.

mod leftovers;
mod obstacles;
mod receptions;
mod restore;
mod segments;
mod steps;
mod taps;
mod uplinks;

use super::*;

const BRIDGE: u32 = 10;
const VETH: u32 = 20;
const TAP: u32 = 30;

/// One network with a port in the namespace `one` and a port on `tap0`.
fn desired() -> Desired {
    let network = Network {
        bridge: "vnet-web".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        gateways: vec!["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()],
        uplink: Uplink::None,
        groups: BTreeSet::new(),
        segment: None,
        stations: BTreeSet::new(),
    };
    let port = |last: u8, attach| Port {
        network: "web".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 1, last]),
        mtu: 1500,
        addresses: vec![
            format!("10.0.0.{last}/24").parse().unwrap(),
            format!("fd00::{last}/64").parse().unwrap(),
        ],
        gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        addressing: Addressing::Given,
        attach,
    };
    Desired {
        spared: BTreeMap::new(),
        networks: [("web".to_owned(), network)].into(),
        ports: [
            ("a".to_owned(), port(2, in_netns("one", "eth0"))),
            ("b".to_owned(), port(3, Attach::Device { device: "tap0".to_owned() })),
        ]
        .into(),
    }
}

fn in_netns(netns: &str, interface: &str) -> Attach {
    Attach::Netns { netns: name(netns), create: true, interface: interface.to_owned() }
}

fn name(netns: &str) -> NetnsRef {
    NetnsRef::Name(netns.to_owned())
}

fn sorted(mut addresses: Vec<ipnet::IpNet>) -> Vec<ipnet::IpNet> {
    addresses.sort_unstable();
    addresses
}

/// The host as [`desired`] wants it.
fn settled() -> (Observed, State) {
    let desired = desired();
    let (network, port) = (&desired.networks["web"], &desired.ports["a"]);
    let bridge = Link {
        ifindex: BRIDGE,
        name: "vnet-web".to_owned(),
        ownership: Ownership::Ours(Owner::Network("web".to_owned())),
        kind: Kind::Bridge { stp: false, mcast_snooping: false },
        mac: Some(network.mac),
        mtu: 1500,
        up: true,
        addresses: sorted(network.addresses()),
        ..Link::default()
    };
    let veth = Link {
        ifindex: VETH,
        name: port_device("a", 0),
        ownership: Ownership::Ours(Owner::Port("a".to_owned())),
        kind: Kind::Veth,
        mtu: 1500,
        up: true,
        master: Some(BRIDGE),
        peer: Some(Peer { ifindex: 2, nsid: Some(0) }),
        ..Link::default()
    };
    let tap = Link {
        ifindex: TAP,
        name: "tap0".to_owned(),
        mtu: 1500,
        up: true,
        master: Some(BRIDGE),
        makes_link_local: true,
        ..Link::default()
    };
    let inside = Link {
        ifindex: 2,
        name: "eth0".to_owned(),
        kind: Kind::Veth,
        mac: Some(port.mac),
        mtu: 1500,
        up: true,
        peer: Some(Peer { ifindex: VETH, nsid: Some(0) }),
        addresses: sorted(Workload::new(port, &name("one"), "eth0").addresses),
        gateways: port.gateways.clone(),
        ..Link::default()
    };
    let inside = Inside { nsid: Some(0), links: [("eth0".to_owned(), inside)].into(), ..Inside::default() };
    let observed = Observed {
        links: [(BRIDGE, bridge), (VETH, veth), (TAP, tap)].into(),
        namespaces: [(name("one"), Namespace::Present(inside))].into(),
        attached: [BRIDGE, VETH, TAP].into(),
        ..Observed::default()
    };
    let mut state = State::default();
    state.namespaces.insert("one".to_owned());
    state.devices.insert("tap0".to_owned());
    (observed, state)
}

/// A plan on the settled host after `disturb`.
fn plan_after(disturb: impl FnOnce(&mut Desired, &mut Observed, &mut State)) -> Result<Plan, Vec<Obstacle>> {
    let mut desired = desired();
    let (mut observed, mut state) = settled();
    disturb(&mut desired, &mut observed, &mut state);
    plan(&desired, &observed, &state).map_err(|obstacles| obstacles.0)
}

fn actions(steps: &[Step]) -> Vec<Action> {
    steps.iter().map(|step| step.action.clone()).collect()
}

fn undos(steps: &[Step]) -> Vec<Action> {
    steps.iter().filter_map(|step| step.undo.clone()).collect()
}

fn inside<'a>(observed: &'a mut Observed, netns: &str) -> &'a mut Inside {
    match observed.namespaces.get_mut(&name(netns)) {
        Some(Namespace::Present(inside)) => inside,
        other => panic!("{netns} is {other:?}"),
    }
}

fn link(observed: &mut Observed, ifindex: u32) -> &mut Link {
    observed.links.get_mut(&ifindex).expect("a link of the settled host")
}

fn veth() -> String {
    port_device("a", 0)
}

#[test]
fn desired_objects_are_located() {
    let (observed, _) = settled();
    let located = locate(&desired(), &observed);
    assert_eq!(located.bridges["web"].ifindex, BRIDGE);
    assert_eq!(located.ports["a"].ifindex, VETH);
    assert_eq!(located.ports["a"].delivery, Delivery::Peer);
    assert_eq!(located.ports["b"].delivery, Delivery::Device);
    assert_eq!(locate(&desired(), &Observed::default()), Located::default());
}

#[test]
fn names_of_devices_fit_the_kernel_and_are_stable() {
    assert_eq!(port_device("web-1", 0).len(), 15);
    assert_ne!(port_device("web-1", 0), port_device("web-1", 1));
    assert_ne!(port_device("web-1", 0), port_device("web-2", 0));
    assert_eq!(port_device("web-1", 0), "vp-666fc22e095c");
}

#[test]
fn marks_survive_a_round_trip() {
    for owner in [Owner::Network("web".to_owned()), Owner::Port("a:b".to_owned()), Owner::Overlay] {
        assert_eq!(Ownership::from_marks(Some(&owner.alias()), 0), Ownership::Ours(owner));
    }
    assert_eq!(Ownership::from_marks(None, NEWBORN_GROUP), Ownership::Newborn);
    assert_eq!(Ownership::from_marks(Some("mine"), NEWBORN_GROUP), Ownership::Foreign);
    assert_eq!(Ownership::from_marks(Some("vnet:other:x"), 0), Ownership::Foreign);
    assert_eq!(Ownership::from_marks(None, 0), Ownership::Foreign);
}
