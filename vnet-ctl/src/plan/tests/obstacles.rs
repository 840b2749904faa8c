//! What is in the way.

use super::*;

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
