//! Ports that take part in several networks.

use super::*;

/// `trunk` takes part in `red` and `blue`, too, which have VLANs.
fn trunked(policy: &mut Policy) {
    segment(policy, "red", lan(&[20], Some(3)));
    segment(policy, "blue", lan(&[100, 30], None));
    policy.ports.get_mut("trunk").unwrap().vlans = vec!["red".to_owned(), "blue".to_owned()];
}

#[test]
fn a_trunk_port_is_in_each_of_its_networks() {
    let world = world(trunked);
    let (red, blue) = (link::member(0), link::member(1));
    let link = Link {
        number: red,
        network: RED,
        device: TRUNK,
        vlan: 20,
        flags: LinkFlags::PORT,
        mtu: 1500,
        ..Link::default()
    };
    for key in [LinkKey::arrival(TRUNK, 20), LinkKey::departure(red, 0), LinkKey::flood(RED, 1)] {
        assert_eq!(world.tables.links[&key], link);
    }
    let both = world.tables.links[&LinkKey::arrival(TRUNK, 100 << 12 | 30)];
    assert_eq!((both.number, both.network, both.outer, both.vlan), (blue, BLUE, 100, 30));

    let port = &world.policy.ports["trunk"];
    let own = world.record_of("trunk");
    let there = PortRecord::new(RED, own.group_set, port.mac, world.devices.bridges["red"].mac);
    assert_eq!(world.tables.ports[&red], there);
    assert_eq!(
        world.assigned["trunk"].iter().map(IpAddr::to_string).collect::<Vec<_>>(),
        ["10.3.0.3", "10.2.0.2", "fd02::2", "10.1.0.2"]
    );
    for (network, number, of) in [(RED, red, "10.2.0.2"), (RED, red, "fd02::2"), (BLUE, blue, "10.1.0.2")] {
        let endpoint = world.endpoint(network, of).unwrap();
        assert_eq!(
            (endpoint.device, endpoint.delivery(), endpoint.mac),
            (number, Ok(Delivery::Link), port.mac)
        );
    }
    assert_eq!(world.endpoint(WEB, "10.3.0.3").unwrap().device, TRUNK);
    assert_eq!(world.endpoint(WEB, "10.2.0.2"), None);
    let station = Station { device: red, delivery: Delivery::Link as u16, peer: 0 };
    assert_eq!(world.station(RED, "trunk"), Some(station));
    assert_eq!(world.station(WEB, "trunk"), None, "its own network does not extend");
}

#[test]
fn a_trunk_port_has_the_addresses_that_it_names_in_any_of_its_networks() {
    let world = world(|policy| {
        trunked(policy);
        policy.ports.get_mut("trunk").unwrap().addresses = vec![addr("10.2.0.50")];
    });
    let own: Vec<_> = world.assigned["trunk"].iter().map(IpAddr::to_string).collect();
    assert_eq!(own, ["10.2.0.50", "10.3.0.3", "10.1.0.2"], "none of red's other subnet");
    assert_eq!(assign(&world.policy, &world.assigned).unwrap(), world.assigned);
}

#[test]
fn a_trunk_port_learns_in_a_bridged_network_alone() {
    let mut world = world(|policy| {
        bridged(policy);
        segment(policy, "lan", lan(&[40], None));
        policy.networks.get_mut("lan").unwrap().subnets.clear();
        policy.ports.get_mut("trunk").unwrap().vlans = vec!["lan".to_owned()];
    });
    let number = world.tables.links[&LinkKey::arrival(TRUNK, 40)].number;
    assert!(world.tables.ports[&number].flags.has(PortFlags::LEARNS));
    assert!(!world.record_of("trunk").flags.has(PortFlags::LEARNS));
    world.assigned.get_mut("trunk").unwrap().push(addr("198.51.100.5"));
    world.tables = compile(&world.policy, &world.assigned, &world.devices).unwrap();
    assert_eq!(world.endpoint(LAN, "198.51.100.5").unwrap().device, number);
}

#[test]
fn a_member_link_keeps_its_number_for_as_long_as_it_is_there() {
    let mut random = Random(11);
    let mut compiler = Compiler::default();
    let mut numbers: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut kept = 0;
    for round in 0..200 {
        let mut policy = policy(TEXT);
        segment(&mut policy, "red", lan(&[20], None));
        segment(&mut policy, "blue", lan(&[30], None));
        if random.below(2) == 0 {
            segment(&mut policy, "web", overlay(7, &["203.0.113.2"]));
        }
        for name in ["a", "far", "trunk", "vm"] {
            let port = policy.ports.get_mut(name).unwrap();
            let further = ["red", "blue"].into_iter().filter(|further| *further != port.network);
            port.vlans = further.filter(|_| random.below(2) == 0).map(str::to_owned).collect();
        }
        policy.ports.get_mut("far").unwrap().attach = match random.below(2) {
            0 => Attach::Remote { remote: None },
            _ => Attach::Device { device: "tap0".to_owned() },
        };
        let assigned = assign(&policy, &BTreeMap::new()).unwrap();
        let devices = with_segments(&policy);
        compiler.update(&policy, &assigned, &devices).unwrap();
        compiler.settle();
        let is_arrival =
            |key: &LinkKey, link: &Link| link.flags.has(LinkFlags::PORT) && key.place == link.device;
        let links = compiler.tables().links.iter().filter(|(key, link)| is_arrival(key, link));
        let now: BTreeMap<_, _> = links.map(|(key, link)| ((key.place, key.tag), link.number)).collect();
        for (place, number) in &now {
            let before = numbers.get(place);
            assert!(before.is_none_or(|before| before == number), "round {round}: {place:?}");
            assert!(before.is_some() || !numbers.values().any(|taken| taken == number), "it was another's");
            kept += usize::from(before.is_some());
            assert!(compiler.tables().ports.contains_key(number));
        }
        numbers = now;
        let mut resumed = Compiler::resume(Arc::clone(compiler.tables()));
        resumed.update(&policy, &assigned, &devices).unwrap();
        assert!(resumed.difference().is_empty(), "round {round}: {:#?}", resumed.difference());
    }
    assert!(kept > 100, "{kept}");
}
