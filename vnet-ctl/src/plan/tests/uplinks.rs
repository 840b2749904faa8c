//! Devices of others that networks leave by: attached to, and nothing more.

use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;

fn ethernet(ifindex: u32, name: &str, addresses: &[&str]) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        mac: Some(MacAddr([4, 0, 0, 0, 0, ifindex as u8])),
        mtu: 1500,
        up: true,
        makes_link_local: true,
        global: addresses.iter().map(|addr| addr.parse().unwrap()).collect(),
        ..Link::default()
    }
}

/// The settled host with two devices, whose default route leaves by the first, and a network that follows it.
fn with_uplinks(desired: &mut Desired, observed: &mut Observed) {
    observed.links.insert(ETH0, ethernet(ETH0, "eth0", &["198.51.100.2", "2001:db8::2"]));
    observed.links.insert(ETH1, ethernet(ETH1, "eth1", &["203.0.113.2"]));
    observed.default_routes = vec![route(ETH1, true, 200), route(ETH0, true, 100)];
    desired.networks.get_mut("web").unwrap().uplink = Uplink::DefaultRoute;
}

const fn route(ifindex: u32, is_ipv4: bool, metric: u32) -> DefaultRoute {
    DefaultRoute { ifindex, is_ipv4, metric }
}

/// A plan with uplinks after `disturb`.
fn uplinked(disturb: impl FnOnce(&mut Desired, &mut Observed)) -> Result<Plan, Vec<Obstacle>> {
    plan_after(|desired, observed, _| {
        with_uplinks(desired, observed);
        disturb(desired, observed);
    })
}

fn named(desired: &mut Desired, device: &str) {
    desired.networks.get_mut("web").unwrap().uplink = Uplink::Device(device.to_owned());
}

fn attach(device: &str) -> Action {
    Action::AttachOutside { device: device.to_owned(), role: Role::Uplink }
}

fn detach(device: &str) -> Action {
    Action::DetachOutside(Target::Device(device.to_owned()), Role::Uplink)
}

#[test]
fn the_default_route_or_a_name_tells_what_to_attach_to() {
    let plan = uplinked(|_, _| ()).unwrap();
    assert_eq!(actions(&plan.prepare), [attach("eth0")]);
    assert_eq!(undos(&plan.prepare), [detach("eth0")]);
    assert_eq!(plan.changes(), ["attach to uplink eth0"]);
    let plan = uplinked(|desired, _| named(desired, "eth1")).unwrap();
    assert_eq!(actions(&plan.prepare), [attach("eth1")]);
    assert!(plan.finish.is_empty() && plan.remove.is_empty(), "nothing is configured");
}

#[test]
fn an_uplink_that_is_attached_is_left_alone() {
    let plan = uplinked(|_, observed| observed.outside = [(ETH0, Role::Uplink)].into()).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn what_no_network_leaves_by_any_more_is_detached_last() {
    let plan =
        uplinked(|_, observed| observed.outside = [(ETH1, Role::Uplink), (99, Role::Uplink)].into()).unwrap();
    assert_eq!(actions(&plan.prepare), [attach("eth0")]);
    assert_eq!(plan.remove, [detach("eth1"), Action::DetachOutside(Target::Ifindex(99), Role::Uplink)]);
    let plan = uplinked(|desired, observed| {
        observed.outside = [(ETH0, Role::Uplink)].into();
        desired.networks.get_mut("web").unwrap().uplink = Uplink::None;
    });
    assert_eq!(plan.unwrap().remove, [detach("eth0")]);
}

#[test]
fn networks_share_an_uplink() {
    let plan = uplinked(|desired, _| {
        let mut second = desired.networks["web"].clone();
        second.bridge = "vnet-db".to_owned();
        desired.networks.insert("db".to_owned(), second);
    });
    let steps = actions(&plan.unwrap().prepare);
    assert_eq!(steps.iter().filter(|action| matches!(action, Action::AttachOutside { .. })).count(), 1);
}

#[test]
fn without_a_default_route_there_is_no_exit_and_nothing_in_the_way() {
    let plan = uplinked(|_, observed| observed.default_routes.clear()).unwrap();
    assert!(plan.is_empty() && plan.warnings.is_empty(), "{plan:?}");
}

#[test]
fn the_default_route_of_ipv4_counts_before_that_of_ipv6() {
    let way_out = |routes: Vec<DefaultRoute>| {
        let mut observed = settled().0;
        with_uplinks(&mut desired(), &mut observed);
        observed.default_routes = routes;
        observed.way_out().map(|link| link.ifindex)
    };
    assert_eq!(way_out(vec![route(ETH0, false, 1), route(ETH1, true, 600)]), Some(ETH1));
    assert_eq!(way_out(vec![route(ETH0, false, 1)]), Some(ETH0));
    assert_eq!(way_out(vec![route(77, true, 1)]), None);
}

#[test]
fn a_name_that_will_not_do_is_in_the_way() {
    let obstacle = |disturb: fn(&mut Desired, &mut Observed)| {
        let mut obstacles = uplinked(disturb).unwrap_err();
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        assert!(!obstacles[0].help().is_empty());
        obstacles.remove(0)
    };
    let missing = obstacle(|desired, _| named(desired, "eth9"));
    assert_eq!(missing.to_string(), "network web: there is no device eth9");
    assert_eq!(missing.absent(), Some(Absent::Uplink("web")));
    for (device, what) in [
        ("vnet-web", "network web: vnet-web is one of vnet's own devices, which cannot be an uplink"),
        ("tap0", "network web: tap0 is the device of a port, which cannot be an uplink"),
        ("lo", "network web: lo is the loopback device, which cannot be an uplink"),
        ("wg0", "network web: wg0 is no Ethernet device, which cannot be an uplink"),
    ] {
        let found = uplinked(|desired, observed| {
            let lo = Link { kind: Kind::Loopback, ..ethernet(1, "lo", &[]) };
            let wg0 = Link { mac: None, ..ethernet(4, "wg0", &[]) };
            observed.links.extend([(1, lo), (4, wg0)]);
            named(desired, device);
        });
        let found = found.unwrap_err();
        assert_eq!((found.len(), found[0].to_string()), (1, what.to_owned()));
        assert_eq!(found[0].absent(), None);
    }
}

#[test]
fn a_default_route_that_will_not_do_is_told() {
    let plan = uplinked(|_, observed| link(observed, ETH0).mac = None).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert!(plan.warnings[0].contains("leaves by eth0, no Ethernet device"), "{:?}", plan.warnings);
}

#[test]
fn a_device_that_was_a_ports_becomes_an_uplink_when_it_is_released() {
    let plan = uplinked(|desired, observed| {
        desired.ports.remove("b");
        link(observed, TAP).mac = Some(MacAddr([4; 6]));
        named(desired, "tap0");
    });
    let plan = plan.unwrap();
    assert_eq!(actions(&plan.prepare), [attach("tap0")]);
    let release = Action::Release { device: "tap0".to_owned() };
    assert_eq!(plan.remove, [release, Action::Detach(Target::Ifindex(TAP))]);
}

#[test]
fn a_repair_attaches_to_another_uplink_and_tells_it() {
    let plan = uplinked(|_, observed| observed.outside = [(ETH1, Role::Uplink)].into()).unwrap().restoring();
    assert_eq!(plan.repairs(), ["attached to uplink eth0", "detached from uplink eth1"]);
}

#[test]
fn uplinks_and_the_hosts_addresses_are_located() {
    let (mut desired, (mut observed, _)) = (desired(), settled());
    with_uplinks(&mut desired, &mut observed);
    link(&mut observed, BRIDGE).global = vec!["10.0.0.1".parse().unwrap()];
    let located = locate(&desired, &observed);
    let uplink = &located.uplinks["web"];
    assert_eq!((uplink.ifindex, uplink.device.as_str()), (ETH0, "eth0"));
    assert_eq!(uplink.addresses[0].to_string(), "198.51.100.2");
    let addresses: Vec<_> =
        located.addresses.iter().map(|(addr, device)| format!("{addr} {device}")).collect();
    assert_eq!(addresses, ["198.51.100.2 eth0", "203.0.113.2 eth1", "2001:db8::2 eth0"]);
    link(&mut observed, ETH0).global.remove(0);
    assert!(!locate(&desired, &observed).is_same_place(&located));
}
