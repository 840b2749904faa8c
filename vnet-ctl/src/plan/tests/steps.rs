//! What is made, repaired and moved.

use super::*;

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
    type Disturbance = (&'static str, fn(&mut Link));
    let disturbances: [Disturbance; 7] = [
        ("down", |link| link.up = false),
        ("MAC", |link| link.mac = Some(MacAddr([2, 9, 9, 9, 9, 9]))),
        ("MTU", |link| link.mtu = 1400),
        ("an address is missing", |link| link.addresses.truncate(1)),
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
fn addresses_and_routes_of_a_workload_that_sets_them_itself_are_left_alone() {
    let disturb = |desired: &mut Desired, observed: &mut Observed, mac| {
        let port = desired.ports.get_mut("a").unwrap();
        (port.addressing, port.addresses, port.gateways) = (Addressing::Own, Vec::new(), Vec::new());
        let eth0 = inside(observed, "one").links.get_mut("eth0").unwrap();
        eth0.addresses = vec!["192.0.2.44/24".parse().unwrap(), "fe80::1234/64".parse().unwrap()];
        eth0.gateways = vec!["192.0.2.1".parse().unwrap()];
        (eth0.mac, eth0.makes_link_local) = (mac, true);
    };
    let mac = desired().ports["a"].mac;
    let plan = plan_after(|desired, observed, _| disturb(desired, observed, Some(mac))).unwrap();
    assert!(plan.is_empty(), "{:?}", plan.changes());
    let plan = plan_after(|desired, observed, _| disturb(desired, observed, None)).unwrap();
    let [Action::Configure(workload)] = &actions(&plan.finish)[..] else { panic!("{:?}", plan.changes()) };
    assert_eq!((workload.mac, workload.addressing), (mac, Addressing::Own));
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
