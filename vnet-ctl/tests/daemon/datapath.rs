//! The datapath in the kernel: what is pinned, taken over, committed and removed.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::{SchedClassifier, TcAttachType, loaded_programs},
};
use aya_obj::generated::bpf_prog_type;
use nix::time::{ClockId, clock_gettime};
use vnet_common::{
    Be16, Delivery, Direction, ElasticIp, Endpoint, Exit, Flow, FlowImage4, FlowKey, Forward, ForwardKey,
    Identity, Ip, Link, LinkKey, MacAddr, NetworkFlags, NetworkKey, NetworkRecord, OnChange, Ops, Origin,
    PolicyEntry, PolicyKey, PortRecord, Station, UplinkRecord, V4, link, ticks_from_ns,
};
use vnet_ctl::{
    compile::{Difference, ExitPlace, Tables},
    datapath::{
        Capacity, Datapath, FlowFilter, PinError,
        names::{self, Hook, Pins},
        remove_pins,
    },
};

use crate::support::{ifindex, in_netns, ip};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// A network with one port.
fn tables(bridge: u32, port: u32, rule: u32) -> Arc<Tables> {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap();
    let head = PolicyKey::head(0, 1, Direction::Ingress, Identity::ANY_V4, 6);
    Arc::new(Tables {
        ports: [(port, PortRecord::new(bridge, 1, MAC, GATEWAY_MAC))].into(),
        networks: [(bridge, NetworkRecord::new(GATEWAY_MAC, NetworkFlags::LEADS_OUTSIDE))].into(),
        endpoints: [
            ((bridge, addr("10.10.0.1")), Endpoint::gateway(bridge, GATEWAY_MAC, 16)),
            ((bridge, addr("fd00:10::7")), Endpoint::port(port, Delivery::Peer, MAC, 17, 1)),
        ]
        .into(),
        peers: [("203.0.113.0/24".parse().unwrap(), 18), ("2001:db8::/32".parse().unwrap(), 19)].into(),
        policy: [
            (head, PolicyEntry::head(1 << 16)),
            (head.block(80, 16), PolicyEntry::group(rule, OnChange::Cut)),
        ]
        .into(),
        joins: [((bridge, "10.20.0.0/24".parse().unwrap()), port)].into(),
        links: [(LinkKey::arrival(port, 10), Link { number: link::segment(bridge), ..Link::default() })]
            .into(),
        stations: [((bridge, MAC), Station { device: port, delivery: Delivery::Peer as u16, peer: 0 })]
            .into(),
        vteps: [((5001, addr("192.0.2.12")), 1)].into(),
        uplinks: [(port, UplinkRecord::new(MAC, 0))].into(),
        exits: [(
            ExitPlace { network: bridge, version: 4, slot: 0 },
            Exit::new(port, Ip::from_std(addr("198.51.100.1")), 1, (1024, 32767)),
        )]
        .into(),
        elastic_ips: [(
            (bridge, addr("10.10.0.7")),
            ElasticIp { addr: Ip::from_std(addr("198.51.100.20")), uplink: port },
        )]
        .into(),
        forwards: [(
            ForwardKey::head(0, 0, Ip::from_std(addr("198.51.100.20")), ForwardKey::ANY_PROTOCOL),
            Forward::head(1),
        )]
        .into(),
    })
}

/// A bridge with one veth; their indexes.
fn devices() -> (u32, u32) {
    ip("link add br0 type bridge");
    ip("link add vp0 type veth peer name eth0");
    ip("link set vp0 master br0");
    (ifindex("br0"), ifindex("vp0"))
}

fn programs(device: &str, attach_type: TcAttachType) -> Vec<(u32, String)> {
    let (_, programs) = SchedClassifier::query_tcx(device, attach_type).unwrap();
    programs.iter().map(|program| (program.id(), program.name_as_str().unwrap().to_owned())).collect()
}

fn pinned(pins: &Pins) -> BTreeSet<String> {
    let names =
        |folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names(pins.maps()).chain(names(pins.links())).collect()
}

#[test]
fn a_new_controller_takes_over_what_the_old_one_left() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let wanted = tables(bridge, port, 0xabcd);
        let mut old = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        old.attach_bridge(bridge).unwrap();
        old.attach_port(port).unwrap();
        assert_eq!(old.commit(&wanted).unwrap().generation, 1);
        let before = programs("vp0", TcAttachType::Ingress);
        drop(old);
        assert_eq!(
            programs("vp0", TcAttachType::Ingress),
            before,
            "the end of the controller detaches nothing"
        );

        let mut new = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();

        assert_eq!(new.in_force().unwrap(), &wanted);
        assert_eq!(new.attached().len(), 4);
        let after = programs("vp0", TcAttachType::Ingress);
        assert_eq!((after.len(), after[0].1.as_str()), (1, "from_port"));
        assert_ne!(after[0].0, before[0].0, "the link runs the new program");
        assert_eq!(programs("vp0", TcAttachType::Egress)[0].1, "to_port");
        assert_eq!(programs("br0", TcAttachType::Egress)[0].1, "from_host");
        let again = new.commit(&wanted).unwrap();
        assert!(!again.flipped && again.generation == 1 && again.changes.is_empty());
        new.attach_port(port).unwrap();
        assert_eq!(programs("vp0", TcAttachType::Ingress), after, "attaching again changes nothing");
    });
}

/// The tc programs in the kernel that read the generation which is pinned here; `expire`, of which each controller has
/// one, does not.
fn loaded(pins: &Pins) -> BTreeSet<String> {
    let control = MapData::from_pin(pins.map(names::CONTROL)).unwrap().info().unwrap().id();
    // Programs of others may go away while they are looked through.
    let infos = loaded_programs().filter_map(Result::ok);
    let of_tc = infos.filter(|info| info.program_type() == bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS);
    let ours = of_tc.filter(|info| info.map_ids().is_ok_and(|ids| ids.unwrap().contains(&control)));
    ours.map(|info| info.name_as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_program_is_loaded_when_something_is_to_run_it() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let pins = scratch.pins();
        let mut old = Datapath::open(&pins, Capacity::DECLARED).unwrap();
        assert_eq!(loaded(&pins), [].into());
        old.attach_bridge(bridge).unwrap();
        let of_bridge: BTreeSet<_> = ["from_host", "to_host"].map(String::from).into();
        assert_eq!(loaded(&pins), of_bridge);
        old.commit(&tables(bridge, port, 0xabcd)).unwrap();
        drop(old);

        let mut new = Datapath::open(&pins, Capacity::DECLARED).unwrap();
        assert_eq!(loaded(&pins), of_bridge, "what is pinned runs on by new ones");
        new.load(&Hook::OF_PORT.into()).unwrap();
        let and_of_port: BTreeSet<_> = ["from_port", "to_port"].map(String::from).into();
        assert_eq!(loaded(&pins), &of_bridge | &and_of_port);
        new.attach_port(port).unwrap();
        assert_eq!(new.in_force().unwrap().ports.len(), 1, "its maps are those of the others");
    });
}

#[test]
fn each_commit_writes_one_side_whole_and_flips() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        let empty = datapath.commit(&Arc::default()).unwrap();
        assert!(empty.flipped && empty.generation == 1, "the first commit says that there is a policy");
        for generation in 2..7 {
            let mut wanted = tables(2, 3, generation);
            let port = wanted.ports[&3];
            Arc::make_mut(&mut wanted).ports.insert(100 + generation, port);
            let committed = datapath.commit(&wanted).unwrap();
            assert_eq!((committed.generation, committed.flipped), (generation, true));
            let reader = &mut Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
            assert_eq!(reader.in_force().unwrap(), &wanted, "generation {generation}");
            assert_eq!(reader.generation(), generation);
        }
        let committed = datapath.commit(&tables(2, 3, 6)).unwrap();
        assert_eq!((committed.changes.ports.removed, committed.changes.policy.put), (1, 0));
    });
}

#[test]
fn a_commit_of_many_rules_and_then_of_one_touches_the_difference() {
    const RULES: u32 = 500_000;
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        let key = |set| PolicyKey::head(0, set, Direction::Ingress, Identity::ANY_V4, 6);
        let mut many = Arc::clone(&tables(2, 3, 1));
        Arc::make_mut(&mut many)
            .policy
            .extend((100..100 + RULES).map(|set| (key(set), PolicyEntry::head(1))));
        let mut timed = |wanted: &Arc<Tables>| {
            let start = Instant::now();
            let committed = datapath.commit(wanted).unwrap();
            println!("{:?} for {:?}", start.elapsed(), committed.changes.policy);
            committed.changes.policy.put
        };
        assert_eq!(timed(&many), RULES as usize + 2);
        let mut one = Arc::clone(&many);
        for rule in 2..6 {
            Arc::make_mut(&mut one).policy.insert(key(100), PolicyEntry::head(rule));
            assert_eq!(timed(&one), 1);
        }
        assert_eq!(Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap().in_force().unwrap(), &one);
    });
}

#[test]
fn commits_of_differences_leave_what_commits_of_whole_tables_do() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        let in_force =
            || Arc::clone(Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap().in_force().unwrap());
        let steps = [tables(2, 3, 1), tables(2, 3, 5), tables(7, 8, 5), Arc::default(), tables(2, 8, 9)];
        let mut before = Arc::<Tables>::default();
        for (n, wanted) in steps.iter().enumerate() {
            let mut compiled = Tables::clone(wanted);
            let difference = Difference::between(&before, wanted);
            assert!(datapath.commit_difference(&compiled, difference.clone()).unwrap().flipped);
            assert_eq!(in_force(), *wanted, "step {n}");

            datapath.take_back(&mut compiled).unwrap();
            assert_eq!((&compiled, &*in_force()), (&*before, &*before), "step {n}, taken back");

            datapath.commit_difference(wanted, difference).unwrap();
            if n % 2 == 0 {
                datapath.catch_up().unwrap();
            }
            assert_eq!(in_force(), *wanted, "step {n}, again");
            before = Arc::clone(wanted);
        }
        assert!(!datapath.commit(&before).unwrap().flipped);
    });
}

#[test]
fn a_commit_that_fails_leaves_the_old_policy_in_force() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        let old = tables(2, 3, 1);
        datapath.commit(&old).unwrap();
        // Strangers' entries fill the map, so that the new network does not fit.
        let data = MapData::from_pin(scratch.pins().map(names::NETWORKS)).unwrap();
        let mut networks: HashMap<_, NetworkKey, NetworkRecord> =
            Map::from_map_data(data).unwrap().try_into().unwrap();
        let stranger = |ifindex| NetworkKey { ifindex, side: 2 };
        let record = NetworkRecord::new(MAC, NetworkFlags::NONE);
        let strangers =
            (0..5000).take_while(|&ifindex| networks.insert(stranger(ifindex), record, 0).is_ok()).count();

        let error = datapath.commit(&tables(7, 8, 2)).unwrap_err();

        assert!(format!("{error:#}").contains("the old one stays in force"), "{error:#}");
        assert_eq!(datapath.generation(), 1);
        assert_eq!(Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap().in_force().unwrap(), &old);
        for ifindex in 0..strangers {
            networks.remove(&stranger(u32::try_from(ifindex).unwrap())).unwrap();
        }
        let difference = Difference::between(&old, &tables(7, 8, 2));
        assert_eq!(datapath.commit_difference(&tables(7, 8, 2), difference).unwrap().generation, 2);
        assert_eq!(
            Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap().in_force().unwrap(),
            &tables(7, 8, 2)
        );
    });
}

#[test]
fn a_pin_of_another_shape_is_refused_by_name() {
    in_netns(|scratch| {
        let pins = scratch.pins();
        fs::create_dir_all(pins.maps()).unwrap();
        let shape = aya_obj::Map::new_from_params(1, 8, 16, 64, 0);
        MapData::create(shape, "PORTS", None).unwrap().pin(pins.map(names::PORTS)).unwrap();

        let error = Datapath::open(&pins, Capacity::DECLARED).unwrap_err();

        let Some(PinError::Shape { pin, found, .. }) = error.downcast_ref() else { panic!("{error:#}") };
        assert_eq!((pin.as_str(), found.value_size), (pins.map(names::PORTS).to_str().unwrap(), 16));
        assert!(error.to_string().contains("vnet-ctl teardown"), "{error}");
        assert_eq!(pinned_maps(&pins), ["PORTS"], "nothing else was pinned");
    });
}

#[test]
fn a_single_map_of_another_shape_leaves_a_running_datapath_as_it_is() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let pins = scratch.pins();
        let mut datapath = Datapath::open(&pins, Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        datapath.commit(&tables(bridge, port, 1)).unwrap();
        drop(datapath);
        let before = (programs("vp0", TcAttachType::Ingress), pinned(&pins));
        // The last of them all, with one entry more.
        let shape = vnet_ctl::datapath::declared().unwrap()[names::PORT_DROPS];
        fs::rename(pins.map(names::PORT_DROPS), scratch.bpffs().join("aside")).unwrap();
        let larger = aya_obj::Map::new_from_params(
            shape.map_type,
            shape.key_size,
            shape.value_size,
            shape.max_entries + 1,
            shape.flags,
        );
        MapData::create(larger, "PORT_DROPS", None).unwrap().pin(pins.map(names::PORT_DROPS)).unwrap();

        let error = Datapath::open(&pins, Capacity::DECLARED).unwrap_err();

        assert!(matches!(error.downcast_ref(), Some(PinError::Shape { .. })), "{error:#}");
        assert_eq!((programs("vp0", TcAttachType::Ingress), pinned(&pins)), before);
        fs::rename(scratch.bpffs().join("aside"), pins.map(names::PORT_DROPS)).unwrap();
        assert_eq!(
            *Datapath::open(&pins, Capacity::DECLARED).unwrap().in_force().unwrap(),
            tables(bridge, port, 1)
        );
    });
}

fn pinned_maps(pins: &Pins) -> Vec<String> {
    fs::read_dir(pins.maps())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_lost_control_map_is_not_replaced_under_attached_programs() {
    in_netns(|scratch| {
        let (_, port) = devices();
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        fs::remove_file(scratch.pins().map(names::CONTROL)).unwrap();

        let error = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap_err();

        assert!(matches!(error.downcast_ref(), Some(PinError::Missing { .. })), "{error:#}");
    });
}

#[test]
fn what_an_interrupted_removal_has_left_is_not_taken_for_the_policy_and_flows_of_now() {
    in_netns(|scratch| {
        let pins = scratch.pins();
        let mut datapath = Datapath::open(&pins, Capacity::DECLARED).unwrap();
        // Both sides hold a policy.
        datapath.commit(&tables(2, 3, 1)).unwrap();
        datapath.commit(&tables(2, 3, 2)).unwrap();
        track(&pins, [3, 2], 443, [0, 0]);
        drop(datapath);
        fs::remove_file(pins.map(names::CONTROL)).unwrap();

        let mut datapath = Datapath::open(&pins, Capacity::DECLARED).unwrap();

        assert_eq!(datapath.generation(), 0);
        assert_eq!(**datapath.in_force().unwrap(), Tables::default(), "nothing is in force");
        assert_eq!(datapath.flow_counts().unwrap().v4, 0);
        assert_eq!(pinned(&pins).len(), names::MAPS.len());
    });
}

#[test]
fn links_of_vanished_devices_are_given_up() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        datapath.attach_bridge(bridge).unwrap();
        ip("link del vp0");

        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();

        assert_eq!(datapath.attached().len(), 2);
        assert_eq!(pinned(&scratch.pins()).iter().filter(|name| name.contains("port")).count(), 0);
        assert_eq!(datapath.retain_devices(&BTreeSet::new(), &BTreeSet::new()).unwrap(), [bridge]);
        assert!(programs("br0", TcAttachType::Egress).is_empty());
    });
}

fn flow_key(device: u32, dst_port: u16) -> FlowKey<V4> {
    FlowKey {
        origin: Origin::new(device, 6),
        src: V4::from_octets([10, 10, 0, 7]),
        dst: V4::from_octets([10, 10, 0, 1]),
        ports: vnet_common::Ports::new(Be16::new(40000), Be16::new(dst_port)),
    }
}

/// Enters both directions of a closed TCP flow between two devices, silent for so many ticks.
pub(crate) fn track(pins: &Pins, devices: [u32; 2], dst_port: u16, silent: [u32; 2]) {
    let data = MapData::from_pin(pins.map(names::FLOWS4)).unwrap();
    let mut flows: HashMap<_, FlowKey<V4>, FlowImage4> =
        Map::from_map_data(data).unwrap().try_into().unwrap();
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap());
    let entry = |pair_device, ops, silent| {
        let flow = Flow::<V4>::default();
        flow.pair_device.set(pair_device);
        flow.ops.set(ops);
        flow.last_seen.set(ticks_from_ns(u64::try_from(now.as_nanos()).unwrap()) - silent);
        FlowImage4::from(flow)
    };
    let key = flow_key(devices[0], dst_port);
    flows.insert(key, entry(devices[1], Ops::NONE, silent[0]), 0).unwrap();
    flows.insert(key.reversed(devices[1]), entry(devices[0], Ops::REPLY, silent[1]), 0).unwrap();
}

#[test]
fn flows_expire_when_both_directions_are_silent() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        // A closed TCP flow is kept for ten seconds.
        for (dst_port, silent) in [(1, [0, 0]), (2, [100, 0]), (3, [0, 100]), (4, [100, 100]), (5, [15, 20])]
        {
            track(&scratch.pins(), [2, 3], dst_port, silent);
        }

        assert_eq!(datapath.expire_flows().unwrap(), 2);

        let flows = datapath.flows(&|ifindex| ifindex.to_string(), &|_| true).unwrap();
        let mut left: Vec<u16> = flows.iter().map(|flow| flow.dst_port).collect();
        left.sort_unstable();
        assert_eq!(left, [1, 2, 3]);
        assert_eq!(datapath.expire_flows().unwrap(), 0);
    });
}

#[test]
fn flows_are_listed_and_flushed_by_filter_and_go_with_their_device() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        for dst_port in 1..=5000 {
            track(&scratch.pins(), [port, bridge], dst_port, [0, 0]);
        }
        let name = |ifindex| if ifindex == port { "web-1".to_owned() } else { "host".to_owned() };
        let one: FlowFilter = "port=web-1,dst_port=443".parse().unwrap();

        let flows = datapath.flows(&name, &|flow| one.matches(flow)).unwrap();

        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].from.as_str(), flows[0].to.as_str()), ("web-1", "host"));
        assert_eq!(datapath.flow_counts().unwrap().v4, 5000);
        assert_eq!(datapath.flush_flows(&name, &|flow| one.matches(flow)).unwrap(), 1);
        assert_eq!(datapath.flow_counts().unwrap().v4, 4999);
        datapath.detach(port, &names::Hook::ALL).unwrap();
        assert_eq!(datapath.flow_counts().unwrap().v4, 0);
    });
}

#[test]
fn removing_the_pins_leaves_nothing() {
    in_netns(|scratch| {
        let (bridge, port) = devices();
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        datapath.attach_bridge(bridge).unwrap();
        datapath.commit(&tables(bridge, port, 1)).unwrap();
        assert_eq!(pinned(&scratch.pins()).len(), names::MAPS.len() + 4);
        drop(datapath);

        let removed = remove_pins(&scratch.pins());

        assert_eq!((removed.links, removed.maps, removed.problems.len()), (4, names::MAPS.len(), 0));
        assert_eq!(fs::read_dir(scratch.bpffs()).unwrap().count(), 0);
        assert!(
            programs("vp0", TcAttachType::Ingress).is_empty()
                && programs("vp0", TcAttachType::Egress).is_empty()
        );
        assert!(programs("br0", TcAttachType::Egress).is_empty());
        assert_eq!(remove_pins(&scratch.pins()).links, 0, "twice is no error");
    });
}
