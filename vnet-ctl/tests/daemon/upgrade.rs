//! A datapath of another ABI is carried over, and one that cannot be is left alone.
//!
//! Another ABI differs in the name of its folder; a folder that is renamed is that of another version.

use std::{collections::BTreeSet, fs, path::Path};

use aya::{
    maps::{Array, Map, MapData},
    programs::{SchedClassifier, TcAttachType},
};
use vnet_common::{ABI_VERSION, Control};
use vnet_ctl::{
    api::types::PortInfo,
    datapath::{
        Capacity, CarryError, Datapath,
        names::{self, Hook, Pins},
    },
};

use crate::{
    support::{Scratch, in_netns, ip},
    traffic::Connection,
    world::World,
};

const OTHER: u32 = ABI_VERSION + 1000;

fn rename(scratch: &Scratch, from: u32, to: u32) {
    let root = |abi| Pins::of_abi(scratch.bpffs(), abi).root();
    fs::rename(root(from), root(to)).unwrap();
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn control(pins: &Pins) -> Array<MapData, Control> {
    let data = MapData::from_pin(pins.map(names::CONTROL)).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

fn program_ids(device: &str) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.id()).collect()
}

#[test]
fn an_upgrade_and_the_way_back_keep_every_connection() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let port = world.get::<Vec<PortInfo>>("/v1/ports").remove(0);
        let links = names_in(&scratch.pins().links());
        let connection = Connection::open(&world.netns(2), &world.netns(1), port.addresses[0]);
        let drops: u64 = {
            std::process::Command::new("ip")
                .args(["netns", "exec", &world.netns(1), "ping", "-c1", "-W1", "10.10.0.99"])
                .output()
                .unwrap();
            total_drops(&world)
        };
        for abi in [OTHER, 1, OTHER] {
            world.kill();
            let generation = control(&scratch.pins()).get(&0, 0).unwrap().generation;
            rename(scratch, ABI_VERSION, abi);
            if abi == 1 {
                // Which had no such program.
                let bridge = crate::support::ifindex("vnet-web");
                fs::remove_file(Pins::of_abi(scratch.bpffs(), abi).link(bridge, Hook::ToHost)).unwrap();
            }

            world.start(world.options());

            let after = control(&scratch.pins()).get(&0, 0).unwrap().generation;
            assert!(after > generation, "{after} is not above {generation}");
            assert_eq!(names_in(&scratch.bpffs().join("vnet")), [format!("v{ABI_VERSION}")].into());
            assert_eq!(names_in(&scratch.pins().links()), links);
            assert_eq!(program_ids(&port.device).len(), 1);
            assert!(total_drops(&world) >= drops, "counters are carried over");
        }
        let report = connection.close();
        assert!(report.words > 100, "{report:?}");
    });
}

fn total_drops(world: &World<'_>) -> u64 {
    let report: vnet_ctl::api::types::DropReport = world.get("/v1/drops");
    report.total.iter().map(|count| count.packets).sum()
}

#[test]
fn an_upgrade_that_was_interrupted_goes_on_at_the_next_start() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let port = world.get::<Vec<PortInfo>>("/v1/ports").remove(0);
        let links = names_in(&scratch.pins().links());
        let connection = Connection::open(&world.netns(2), &world.netns(1), port.addresses[0]);
        world.kill();
        rename(scratch, ABI_VERSION, OTHER);
        // Killed before anything was committed, and before the pins of some links were moved.
        drop(Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap());
        let other = Pins::of_abi(scratch.bpffs(), OTHER);
        fs::rename(other.link(port.ifindex, Hook::ToPort), scratch.pins().link(port.ifindex, Hook::ToPort))
            .unwrap();

        world.start(world.options());

        assert_eq!(names_in(&scratch.bpffs().join("vnet")), [format!("v{ABI_VERSION}")].into());
        assert_eq!(names_in(&scratch.pins().links()), links);
        assert!(connection.close().words > 10);
        // What is left of a folder that was being removed is no datapath.
        world.kill();
        fs::create_dir_all(other.maps()).unwrap();
        world.start(world.options());
        assert_eq!(names_in(&scratch.bpffs().join("vnet")), [format!("v{ABI_VERSION}")].into());
    });
}

#[test]
fn flows_of_a_layout_that_is_not_understood_stay_with_their_datapath() {
    in_netns(|scratch| {
        ip("link add vp0 type veth peer name eth0");
        let port = crate::support::ifindex("vp0");
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        datapath.attach_port(port).unwrap();
        datapath.commit(&std::sync::Arc::default()).unwrap();
        drop(datapath);
        let layout = |flow_layout| {
            let mut map = control(&scratch.pins());
            let generation = map.get(&0, 0).unwrap().generation;
            let mut control = Control::new(generation);
            control.flow_layout = flow_layout;
            map.set(0, control, 0).unwrap();
        };
        layout(77);
        rename(scratch, ABI_VERSION, OTHER);
        let before = program_ids("vp0");

        let error = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap_err();

        let text = error.to_string();
        assert!(error.downcast_ref::<CarryError>().is_some(), "{text}");
        assert!(text.contains(&format!("/vnet/v{OTHER}")) && text.contains("layout 77"), "{text}");
        assert!(text.contains("vnet-ctl teardown"), "{text}");
        assert_eq!(program_ids("vp0"), before, "it keeps running");

        fs::remove_file(Pins::of_abi(scratch.bpffs(), OTHER).map(names::FLOWS6)).unwrap();
        let text = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap_err().to_string();
        assert!(text.contains("its map FLOWS6 is not there"), "{text}");
    });
}

#[test]
fn a_datapath_that_another_daemon_uses_is_not_carried_over() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        world.kill();
        rename(scratch, ABI_VERSION, OTHER);
        let root = Pins::of_abi(scratch.bpffs(), OTHER).root();
        let other_daemon = fs::File::open(&root).unwrap();
        other_daemon.lock().unwrap();

        let error = world.run(world.options()).unwrap_err();

        assert_eq!(error.exit_code(), 5, "{error}");
        assert!(error.to_string().contains(&root.display().to_string()), "{error}");
        drop(other_daemon);
        world.start(world.options());
        assert_eq!(names_in(&scratch.bpffs().join("vnet")), [format!("v{ABI_VERSION}")].into());
    });
}

#[test]
fn flows_of_a_lower_layout_are_carried_over() {
    in_netns(|scratch| {
        ip("link add vp0 type veth peer name eth0");
        let port = crate::support::ifindex("vp0");
        // ABI 1 wrote no layout.
        for (abi, layout) in [(OTHER, 1), (1, 0)] {
            let pins = scratch.pins();
            let mut datapath = Datapath::open(&pins, Capacity::DECLARED).unwrap();
            datapath.attach_port(port).unwrap();
            datapath.commit(&std::sync::Arc::default()).unwrap();
            let before = datapath.flow_counts().unwrap().v4;
            crate::datapath::track(&pins, [port, 99], 443 + layout, [0, 0]);
            drop(datapath);
            let mut map = control(&pins);
            let mut old = map.get(&0, 0).unwrap();
            old.flow_layout = u32::from(layout);
            map.set(0, old, 0).unwrap();
            rename(scratch, ABI_VERSION, abi);

            let mut datapath = Datapath::open(&pins, Capacity::DECLARED).unwrap();
            datapath.commit(&std::sync::Arc::default()).unwrap();

            let flows = datapath.flows(&|ifindex| ifindex.to_string(), &|_| true).unwrap();
            assert_eq!(flows.len() as u64, before + 1, "{flows:?}");
            assert!(flows.iter().all(|flow| flow.translated.is_none()), "{flows:?}");
            assert_eq!(control(&pins).get(&0, 0).unwrap().flow_layout, vnet_common::FLOW_LAYOUT);
        }
    });
}
