//! Plans as data: each test starts from a host on which everything is as desired, and disturbs it.

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
        attach,
    };
    Desired {
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
    let inside = Inside { nsid: Some(0), links: [("eth0".to_owned(), inside)].into() };
    let observed = Observed {
        links: [(BRIDGE, bridge), (VETH, veth), (TAP, tap)].into(),
        namespaces: [(name("one"), Namespace::Present(inside))].into(),
        attached: [BRIDGE, VETH, TAP].into(),
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
fn nothing_is_planned_where_all_is_right() {
    let plan = plan_after(|_, _, _| {}).unwrap();
    assert!(plan.is_empty(), "{:#?}", plan.changes());
    let (_, state) = settled();
    assert_eq!((plan.intended(&state), plan.settled(&state)), (state.clone(), state));
}

#[test]
fn programs_are_attached_before_a_device_joins_its_bridge_or_comes_up() {
    let plan = plan_after(|_, observed, state| {
        observed.links.retain(|_, link| link.name == "tap0");
        link(observed, TAP).master = None;
        observed.namespaces.insert(name("one"), Namespace::Missing);
        observed.attached.clear();
        *state = State::default();
    })
    .unwrap();
    let desired = desired();
    let workload = Workload::new(&desired.ports["a"], &name("one"), "eth0");
    let bridge = || "vnet-web".to_owned();
    assert_eq!(
        actions(&plan.prepare),
        [
            Action::CreateBridge {
                network: "web".to_owned(),
                device: bridge(),
                mac: desired.networks["web"].mac,
                mtu: 1500
            },
            Action::AttachBridge { device: bridge() },
            Action::CreateNamespace(name("one")),
            Action::CreateVeth { port: "a".to_owned(), device: veth(), workload: workload.clone() },
            Action::AttachPort { device: veth() },
            Action::Enslave { device: veth(), bridge: bridge() },
            Action::AttachPort { device: "tap0".to_owned() },
            Action::Enslave { device: "tap0".to_owned(), bridge: bridge() },
        ]
    );
    assert_eq!(
        actions(&plan.finish),
        [
            Action::SetAddresses { device: bridge(), addresses: desired.networks["web"].addresses() },
            Action::Up { device: bridge() },
            Action::Up { device: veth() },
            Action::Configure(workload),
        ]
    );
    assert!(plan.remove.is_empty());
    assert_eq!(
        undos(&plan.prepare),
        [
            Action::DeleteLink { device: bridge(), owner: Some(Owner::Network("web".to_owned())) },
            Action::Detach(Target::Device(bridge())),
            Action::DeleteNamespace(name("one")),
            Action::DeleteLink { device: veth(), owner: Some(Owner::Port("a".to_owned())) },
            Action::Detach(Target::Device(veth())),
            Action::Detach(Target::Device("tap0".to_owned())),
            Action::Release { device: "tap0".to_owned() },
        ]
    );
    let intended = plan.intended(&State::default());
    assert!(intended.namespaces.contains("one") && intended.devices.contains("tap0"));
}

#[test]
fn wrong_settings_are_repaired_and_the_old_ones_restored_on_failure() {
    let mac = MacAddr([2, 9, 9, 9, 9, 9]);
    let plan = plan_after(|_, observed, _| {
        let bridge = link(observed, BRIDGE);
        bridge.mtu = 1400;
        bridge.mac = Some(mac);
        bridge.kind = Kind::Bridge { stp: true, mcast_snooping: false };
        bridge.makes_link_local = true;
        bridge.addresses = vec!["10.9.9.9/24".parse().unwrap()];
        bridge.up = false;
        let veth = link(observed, VETH);
        veth.mtu = 9000;
        veth.master = None;
    })
    .unwrap();
    let device = || "vnet-web".to_owned();
    let network = &desired().networks["web"];
    assert_eq!(
        actions(&plan.prepare),
        [
            Action::SimplifyBridge { device: device() },
            Action::SetQuiet { device: device() },
            Action::SetMac { device: device(), mac: network.mac },
            Action::SetMtu { device: device(), mtu: 1500 },
            Action::SetMtu { device: veth(), mtu: 1500 },
            Action::Enslave { device: veth(), bridge: device() },
        ]
    );
    assert_eq!(
        undos(&plan.prepare),
        [
            Action::SetMac { device: device(), mac },
            Action::SetMtu { device: device(), mtu: 1400 },
            Action::SetMtu { device: veth(), mtu: 9000 },
            Action::Release { device: veth() },
        ]
    );
    let addresses = sorted(network.addresses());
    assert_eq!(
        actions(&plan.finish),
        [Action::SetAddresses { device: device(), addresses }, Action::Up { device: device() }]
    );
    assert_eq!(
        undos(&plan.finish),
        [
            Action::SetAddresses { device: device(), addresses: vec!["10.9.9.9/24".parse().unwrap()] },
            Action::Down { device: device() }
        ]
    );
}

#[test]
fn each_wrong_setting_inside_is_repaired() {
    let disturbances: [(&str, fn(&mut Link)); 7] = [
        ("down", |link| link.up = false),
        ("MAC", |link| link.mac = Some(MacAddr([2, 9, 9, 9, 9, 9]))),
        ("MTU", |link| link.mtu = 1400),
        ("an address is missing", |link| drop(link.addresses.remove(0))),
        ("an address too many", |link| link.addresses.push("10.9.9.9/24".parse().unwrap())),
        ("a route is missing", |link| link.gateways.truncate(1)),
        ("link-local addresses", |link| link.makes_link_local = true),
    ];
    for (what, disturb) in disturbances {
        let plan =
            plan_after(|_, observed, _| disturb(inside(observed, "one").links.get_mut("eth0").unwrap()))
                .unwrap();
        assert!(plan.prepare.is_empty() && plan.remove.is_empty(), "{what}: {:?}", plan.changes());
        assert!(matches!(actions(&plan.finish)[..], [Action::Configure(_)]), "{what}: {:?}", plan.changes());
        assert!(matches!(undos(&plan.finish)[..], [Action::Configure(_)]), "{what}");
    }
}

#[test]
fn a_link_local_address_of_the_workload_is_left_alone() {
    let plan = plan_after(|_, observed, _| {
        let eth0 = inside(observed, "one").links.get_mut("eth0").unwrap();
        eth0.addresses.push("fe80::1234/64".parse().unwrap());
    })
    .unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
}

#[test]
fn a_newborn_is_completed() {
    let plan = plan_after(|_, observed, _| {
        let veth = link(observed, VETH);
        veth.ownership = Ownership::Newborn;
        veth.makes_link_local = true;
        (veth.up, veth.master) = (false, None);
        observed.attached.remove(&VETH);
        let eth0 = inside(observed, "one").links.get_mut("eth0").unwrap();
        (eth0.up, eth0.addresses, eth0.gateways) = (false, vec![], vec![]);
    })
    .unwrap();
    assert_eq!(
        actions(&plan.prepare),
        [
            Action::SetOwner { device: veth(), owner: Owner::Port("a".to_owned()) },
            Action::SetQuiet { device: veth() },
            Action::AttachPort { device: veth() },
            Action::Enslave { device: veth(), bridge: "vnet-web".to_owned() },
        ]
    );
    assert!(matches!(actions(&plan.finish)[..], [Action::Up { .. }, Action::Configure(_)]));
    assert!(plan.remove.is_empty());
}

#[test]
fn a_renamed_port_takes_over_the_device_in_its_place() {
    let plan = plan_after(|desired, _, _| {
        let port = desired.ports.remove("a").unwrap();
        desired.ports.insert("z".to_owned(), port);
    })
    .unwrap();
    let set = |port: &str| Action::SetOwner { device: veth(), owner: Owner::Port(port.to_owned()) };
    assert_eq!((actions(&plan.prepare), undos(&plan.prepare)), (vec![set("z")], vec![set("a")]));
    assert!(plan.finish.is_empty() && plan.remove.is_empty());
}

#[test]
fn a_moved_port_gets_a_second_device_before_the_first_goes() {
    let plan = plan_after(|desired, _, _| {
        desired.ports.get_mut("a").unwrap().attach = in_netns("two", "eth0");
    })
    .unwrap();
    let new = port_device("a", 1);
    assert!(
        plan.prepare
            .iter()
            .any(|step| matches!(&step.action, Action::CreateVeth { device, .. } if *device == new))
    );
    assert_eq!(
        plan.remove,
        [
            Action::DeleteLink { device: veth(), owner: Some(Owner::Port("a".to_owned())) },
            Action::Detach(Target::Ifindex(VETH)),
            Action::DeleteNamespace(name("one")),
        ]
    );
    let (_, state) = settled();
    assert_eq!(plan.intended(&state).namespaces, ["one".to_owned(), "two".to_owned()].into());
    assert_eq!(plan.settled(&state).namespaces, ["two".to_owned()].into());
}

#[test]
fn a_port_that_changes_its_network_changes_its_bridge() {
    let plan = plan_after(|desired, _, _| {
        let mut network = desired.networks["web"].clone();
        network.bridge = "vnet-new".to_owned();
        desired.networks.insert("new".to_owned(), network);
        desired.ports.get_mut("a").unwrap().network = "new".to_owned();
    })
    .unwrap();
    let enslave = |bridge: &str| Action::Enslave { device: veth(), bridge: bridge.to_owned() };
    assert!(
        plan.prepare
            .iter()
            .any(|step| step.action == enslave("vnet-new") && step.undo == Some(enslave("vnet-web")))
    );
}

#[test]
fn what_is_not_desired_goes_and_devices_of_others_are_only_released() {
    let plan = plan_after(|desired, _, _| *desired = Desired::default()).unwrap();
    assert!(plan.prepare.is_empty() && plan.finish.is_empty());
    let delete = |device: &str, owner| Action::DeleteLink { device: device.to_owned(), owner: Some(owner) };
    let detach = |ifindex| Action::Detach(Target::Ifindex(ifindex));
    let expected = [
        Action::Release { device: "tap0".to_owned() },
        delete(&veth(), Owner::Port("a".to_owned())),
        delete("vnet-web", Owner::Network("web".to_owned())),
        detach(BRIDGE),
        detach(VETH),
        detach(TAP),
        Action::DeleteNamespace(name("one")),
    ];
    assert_eq!(plan.remove, expected);
    let (observed, state) = settled();
    assert_eq!(teardown(&observed, &state).remove, expected);
    assert_eq!(plan.settled(&state), State::default());
}

#[test]
fn a_namespace_that_vnet_did_not_make_stays() {
    let (observed, _) = settled();
    let plan = teardown(&observed, &State::default());
    assert!(!plan.remove.iter().any(|action| matches!(action, Action::DeleteNamespace(_))));
}

#[test]
fn a_namespace_that_another_port_uses_stays() {
    let plan = plan_after(|desired, observed, _| {
        let mut port = desired.ports.remove("a").unwrap();
        port.attach = in_netns("one", "eth1");
        desired.ports.insert("c".to_owned(), port);
        inside(observed, "one").links.clear();
    })
    .unwrap();
    assert!(!plan.remove.iter().any(|action| matches!(action, Action::DeleteNamespace(_))));
    assert_eq!(plan.settled(&State::default()).namespaces, ["one".to_owned()].into());
}

#[test]
fn a_device_of_somebody_else_on_the_bridge_is_not_touched() {
    let plan = plan_after(|_, observed, _| {
        let stranger =
            Link { ifindex: 40, name: "veth9".to_owned(), master: Some(BRIDGE), ..Link::default() };
        observed.links.insert(40, stranger);
    })
    .unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
}

#[test]
fn programs_on_devices_that_are_gone_are_detached() {
    let plan = plan_after(|_, observed, _| drop(observed.attached.insert(99))).unwrap();
    assert_eq!(plan.remove, [Action::Detach(Target::Ifindex(99))]);
}

#[test]
fn two_ports_share_a_namespace_that_is_made_once() {
    let plan = plan_after(|desired, _, _| {
        let mut port = desired.ports["a"].clone();
        port.attach = in_netns("two", "eth0");
        desired.ports.insert("c".to_owned(), port.clone());
        port.attach = in_netns("two", "eth1");
        desired.ports.insert("d".to_owned(), port);
    })
    .unwrap();
    let creates = actions(&plan.prepare);
    assert_eq!(creates.iter().filter(|action| matches!(action, Action::CreateNamespace(_))).count(), 1);
    assert_eq!(creates.iter().filter(|action| matches!(action, Action::CreateVeth { .. })).count(), 2);
}

#[test]
fn a_small_mtu_of_a_device_is_warned_about() {
    let plan = plan_after(|_, observed, _| link(observed, TAP).mtu = 1400).unwrap();
    assert!(plan.is_empty());
    assert!(matches!(&plan.warnings[..], [warning] if warning.contains("tap0") && warning.contains("1400")));
}

/// The obstacle that `disturb` puts in the way.
fn obstacle(disturb: impl FnOnce(&mut Desired, &mut Observed, &mut State)) -> Obstacle {
    let mut obstacles = plan_after(disturb).expect_err("an obstacle");
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    let obstacle = obstacles.remove(0);
    assert!(!obstacle.help().is_empty());
    obstacle
}

#[test]
fn links_of_others_are_in_the_way() {
    let found = obstacle(|desired, observed, _| {
        desired.ports.clear();
        link(observed, BRIDGE).ownership = Ownership::Foreign;
    });
    assert!(matches!(found, Obstacle::LinkInTheWay { device, .. } if device == "vnet-web"));
    let found = obstacle(|desired, observed, _| {
        desired.ports.clear();
        link(observed, BRIDGE).kind = Kind::Other;
    });
    assert!(matches!(found, Obstacle::LinkInTheWay { .. }));
    let found = obstacle(|_, observed, _| link(observed, VETH).ownership = Ownership::Foreign);
    assert!(matches!(found, Obstacle::InterfaceInTheWay { interface, .. } if interface == "eth0"));
    let found = obstacle(|_, observed, _| inside(observed, "one").nsid = Some(7));
    assert!(matches!(found, Obstacle::InterfaceInTheWay { .. }));
}

#[test]
fn namespaces_may_be_in_the_way() {
    let found = obstacle(|_, observed, state| {
        observed.namespaces.insert(name("one"), Namespace::NotANamespace);
        state.namespaces.clear();
    });
    assert!(matches!(found, Obstacle::NotANamespace { path, .. } if path == "/run/netns/one"));
    let found = obstacle(|_, observed, _| drop(observed.namespaces.insert(name("one"), Namespace::Own)));
    assert!(matches!(found, Obstacle::OwnNamespace { .. }));
    let found = obstacle(|desired, observed, _| {
        observed.namespaces.insert(name("one"), Namespace::Missing);
        if let Attach::Netns { create, .. } = &mut desired.ports.get_mut("a").unwrap().attach {
            *create = false;
        }
    });
    assert!(found.help().contains("ip netns add one"), "{}", found.help());
}

#[test]
fn a_namespace_file_that_a_crash_left_empty_is_used() {
    let plan = plan_after(|_, observed, _| {
        observed.links.remove(&VETH);
        observed.attached.remove(&VETH);
        observed.namespaces.insert(name("one"), Namespace::NotANamespace);
    })
    .unwrap();
    assert_eq!(plan.prepare[0].action, Action::CreateNamespace(name("one")));
}

#[test]
fn devices_may_be_in_the_way() {
    let found = obstacle(|_, observed, _| drop(observed.links.remove(&TAP)));
    assert!(matches!(found, Obstacle::DeviceMissing { device, .. } if device == "tap0"));
    let found = obstacle(|_, observed, _| link(observed, TAP).kind = Kind::Loopback);
    assert!(matches!(found, Obstacle::NotAPort { .. }));
    let found = obstacle(|_, observed, _| link(observed, TAP).ownership = Ownership::Newborn);
    assert!(matches!(found, Obstacle::NotAPort { .. }));
    let found = obstacle(|_, observed, _| {
        link(observed, TAP).master = Some(50);
        observed.links.insert(50, Link { ifindex: 50, name: "br0".to_owned(), ..Link::default() });
    });
    assert!(matches!(found, Obstacle::ForeignMaster { master, .. } if master == "br0"));
    let found = obstacle(|_, observed, _| {
        link(observed, TAP).master = None;
        link(observed, TAP).addresses = vec!["192.0.2.1/24".parse().unwrap()];
    });
    assert!(matches!(found, Obstacle::DeviceInUse { address, .. } if address == "192.0.2.1/24"));
}

#[test]
fn two_ports_cannot_have_one_place() {
    let found = obstacle(|desired, _, _| {
        let port = desired.ports["b"].clone();
        desired.ports.insert("c".to_owned(), port);
    });
    assert!(matches!(found, Obstacle::PlaceTaken { port, other, .. } if (&*port, &*other) == ("c", "b")));
}

#[test]
fn a_port_needs_its_network() {
    let found = obstacle(|desired, _, _| {
        desired.ports.get_mut("b").unwrap().network = "none".to_owned();
    });
    assert!(matches!(found, Obstacle::UnknownNetwork { network, .. } if network == "none"));
}

#[test]
fn indexes_beyond_24_bits_are_refused_before_and_after() {
    const TOO_LARGE: u32 = vnet_common::limits::MAX_IFINDEX + 1;
    let found = obstacle(|_, observed, _| {
        let mut tap = observed.links.remove(&TAP).unwrap();
        tap.ifindex = TOO_LARGE;
        observed.links.insert(TOO_LARGE, tap);
        observed.attached = [BRIDGE, VETH, TOO_LARGE].into();
    });
    assert!(matches!(found, Obstacle::IfindexTooLarge { device } if device == "tap0"));
    let found = obstacle(|desired, observed, _| {
        desired.ports.get_mut("a").unwrap().attach = in_netns("two", "eth0");
        observed.links.insert(TOO_LARGE - 1, Link { ifindex: TOO_LARGE - 1, ..Link::default() });
    });
    assert!(matches!(found, Obstacle::IfindexTooLarge { device } if device.starts_with("vp-")));
}

#[test]
fn all_obstacles_are_told_at_once() {
    let obstacles = plan_after(|_, observed, _| {
        link(observed, BRIDGE).ownership = Ownership::Foreign;
        observed.links.remove(&TAP);
    });
    assert!(matches!(obstacles, Err(all) if all.iter().any(|o| matches!(o, Obstacle::LinkInTheWay { .. }))
        && all.iter().any(|o| matches!(o, Obstacle::DeviceMissing { .. }))));
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
    for owner in [Owner::Network("web".to_owned()), Owner::Port("a:b".to_owned())] {
        assert_eq!(Ownership::from_marks(Some(&owner.alias()), 0), Ownership::Ours(owner));
    }
    assert_eq!(Ownership::from_marks(None, NEWBORN_GROUP), Ownership::Newborn);
    assert_eq!(Ownership::from_marks(Some("mine"), NEWBORN_GROUP), Ownership::Foreign);
    assert_eq!(Ownership::from_marks(Some("vnet:other:x"), 0), Ownership::Foreign);
    assert_eq!(Ownership::from_marks(None, 0), Ownership::Foreign);
}
