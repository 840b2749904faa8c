//! The daemon from start to end, over its socket, in a network namespace of its own.

use std::{fs, os::unix::fs::PermissionsExt as _};

use aya::maps::{HashMap, Map, MapData};
use serde_json::{Value, json};
use vnet_common::{ABI_VERSION, MacAddr, NetworkFlags, NetworkKey, NetworkRecord};
use vnet_ctl::{
    api::types::{DropReport, FlowInfo, FlowsRemoved, NetworkInfo, PortInfo, PortState, PortStats, Status},
    daemon::{RunOptions, TeardownOptions, run, teardown},
    datapath::names,
};

use crate::{
    support::{in_netns, ip},
    world::{World, links, policy, runtime, smaller},
};

#[test]
fn a_policy_becomes_networks_and_ports_and_teardown_leaves_nothing() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let handle = world.start(world.options());

        let status: Status = world.get("/v1/status");
        assert_eq!((status.generation, status.networks, status.ports, status.abi), (1, 1, 2, ABI_VERSION));
        assert_eq!(status.policy_path, world.policy_path());
        let networks: Vec<NetworkInfo> = world.get("/v1/networks");
        assert_eq!((networks[0].bridge.as_str(), networks[0].ports), ("vnet-web", 2));
        let ports: Vec<PortInfo> = world.get("/v1/ports");
        assert_eq!(
            (ports[0].name.as_str(), ports[0].state, ports[0].addresses.len()),
            ("web-1", PortState::Up, 2)
        );
        assert!(links().contains(&ports[0].device) && world.netns_exists(1));
        let stats: PortStats = world.get("/v1/ports/web-1/stats");
        assert_eq!(stats.ifindex, ports[0].ifindex);
        let _: DropReport = world.get("/v1/drops");
        assert!(world.get::<Vec<FlowInfo>>("/v1/flows?filter=port%3Dweb-1").is_empty());
        assert_eq!(fs::metadata(world.socket()).unwrap().permissions().mode() & 0o777, 0o660);

        let report = world.teardown();

        assert!(report.problems.is_empty() && !report.removed.is_empty(), "{report:?}");
        assert!(world.runtime.as_ref().unwrap().block_on(handle).unwrap().is_ok());
        world.kill();
        world.assert_nothing_left();
        assert!(world.teardown().problems.is_empty(), "twice is no error");
        world.assert_nothing_left();
    });
}

#[test]
fn errors_are_json_with_a_status() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        for (method, path, expected) in [
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/ports/nobody/stats", 404),
            ("DELETE", "/v1/status", 405),
            ("GET", "/v1/flows?filter=colour%3Dblue", 400),
            ("POST", "/v1/policy", 400),
        ] {
            let (status, body) = world.request(method, path, None);
            assert_eq!(status, expected, "{method} {path}");
            assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"].is_string(), "{method} {path}");
        }
        let (status, body) = world.apply("version = 1\n[networks.web]\ntype = \"nta\"\n");
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &error["diagnostics"][1]["line"]), (422, &json!(3)), "{error}");
        assert_eq!(world.get::<Status>("/v1/status").generation, 1);
        let (status, body) = world.request("DELETE", "/v1/flows", None);
        let FlowsRemoved { removed } = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, removed), (200, 0));
        world.teardown();
    });
}

#[test]
fn a_port_taken_out_of_the_policy_goes_with_all_that_is_its_own() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let text = policy(&world.tag);

        let applied = world.applied(&smaller(&text));

        assert_eq!((applied.generation, applied.warnings.len()), (2, 0), "{applied:?}");
        assert_eq!(links().iter().filter(|link| link.starts_with("vp-")).count(), 1);
        assert!(world.netns_exists(1) && !world.netns_exists(2));
        assert_eq!(fs::read_dir(scratch.pins().links()).unwrap().count(), 4);
        let again = world.applied(&smaller(&text));
        assert_eq!((again.generation, again.changes.len()), (2, 0), "{again:?}");
        assert_eq!(world.applied(&text).generation, 3);
        assert!(world.netns_exists(2));
        world.teardown();
    });
}

#[test]
fn a_policy_that_does_not_fit_the_host_changes_nothing() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let before = (links(), fs::read_to_string(scratch.dir().join("state/state.json")).unwrap());
        let text = policy(&world.tag)
            .replace(&format!("netns = \"{}-2\", create = true", world.tag), "device = \"tap9\"");

        let (status, body) = world.apply(&text);

        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 422, "{error}");
        assert!(error["error"].as_str().unwrap().contains("tap9"), "{error}");
        assert_eq!(world.get::<Status>("/v1/status").generation, 1);
        assert_eq!((links(), fs::read_to_string(scratch.dir().join("state/state.json")).unwrap()), before);
        world.teardown();
    });
}

#[test]
fn a_change_that_fails_halfway_is_taken_back() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let state = || fs::read_to_string(scratch.dir().join("state/state.json")).unwrap();
        let before = (links(), state(), world.get::<Vec<PortInfo>>("/v1/ports"));
        // Strangers' entries fill the map: the tables of a second network do not fit.
        let data = MapData::from_pin(scratch.pins().map(names::NETWORKS)).unwrap();
        let mut networks: HashMap<_, NetworkKey, NetworkRecord> =
            Map::from_map_data(data).unwrap().try_into().unwrap();
        let record = NetworkRecord::new(MacAddr::default(), NetworkFlags::NONE);
        (0..)
            .take_while(|&ifindex| networks.insert(NetworkKey { ifindex, side: 2 }, record, 0).is_ok())
            .count();
        let text = policy(&world.tag);

        let (status, body) =
            world.apply(&format!("{text}\n[networks.more]\ntype = \"nat\"\nsubnets = [\"10.99.0.0/24\"]\n"));

        assert_eq!(status, 500, "{}", String::from_utf8_lossy(&body));
        assert_eq!((links(), state(), world.get::<Vec<PortInfo>>("/v1/ports")), before);
        assert_eq!(world.get::<Status>("/v1/status").generation, 1);
        assert_eq!(fs::read_dir(scratch.pins().links()).unwrap().count(), 6);
        world.teardown();
    });
}

#[test]
fn a_new_daemon_takes_over_from_a_killed_one() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let before: Vec<PortInfo> = world.get("/v1/ports");
        world.kill();
        let links_before = links();
        assert_eq!(
            fs::read_dir(scratch.pins().links()).unwrap().count(),
            6,
            "the datapath outlives the daemon"
        );

        world.start(world.options());

        assert_eq!(world.get::<Vec<PortInfo>>("/v1/ports"), before);
        assert_eq!(links(), links_before);
        assert_eq!(world.get::<Status>("/v1/status").generation, 1, "nothing was committed anew");
        world.kill();
        assert!(world.teardown().problems.is_empty());
        world.assert_nothing_left();
    });
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());

        let same = world.run(world.options()).unwrap_err();
        let elsewhere = RunOptions {
            socket: scratch.dir().join("other/vnet.sock"),
            state_dir: scratch.dir().join("other-state"),
            ..world.options()
        };
        let here = world.run(elsewhere).unwrap_err();

        assert_eq!((same.exit_code(), here.exit_code()), (5, 5));
        assert!(same.to_string().contains(&std::process::id().to_string()), "{same}");
        assert!(here.to_string().contains("network namespace"), "{here}");
        assert_eq!(world.get::<Status>("/v1/status").ports, 2);
        world.teardown();
        world.kill();
        assert!(!scratch.dir().join("other").exists(), "the refused one leaves nothing");
        world.assert_nothing_left();
    });
}

#[test]
fn another_namespace_s_daemon_and_teardown_leave_the_state_alone() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let (options, state) = (world.options(), scratch.dir().join("state/state.json"));
        let before = fs::read_to_string(&state).unwrap();

        in_netns(move |other| {
            let socket = other.dir().join("run/vnet.sock");
            let bpffs = other.bpffs().to_owned();
            let second = RunOptions { socket: socket.clone(), bpffs: bpffs.clone(), ..options.clone() };
            let error = runtime().block_on(run(second)).unwrap_err();
            assert_eq!(error.exit_code(), 5, "{error}");
            assert!(error.to_string().contains("--state-dir"), "{error}");
            assert_eq!(fs::read_dir(other.dir()).unwrap().count(), 0, "the refused one leaves nothing");
            let places = TeardownOptions { socket, state_dir: options.state_dir, bpffs };
            assert_eq!(runtime().block_on(teardown(places)).unwrap_err().exit_code(), 5);
        });

        assert_eq!(fs::read_to_string(&state).unwrap(), before);
        assert!(world.netns_exists(1) && world.netns_exists(2));
        world.teardown();
        world.kill();
        world.assert_nothing_left();
    });
}

#[test]
fn a_namespace_that_somebody_made_anew_stays() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let name = format!("{}-2", world.tag);
        ip(&format!("netns del {name}"));
        ip(&format!("netns add {name}"));

        let applied = world.applied(&smaller(&policy(&world.tag)));

        let stays = world.netns_exists(2);
        ip(&format!("netns del {name}"));
        assert!(stays, "{applied:?}");
        world.teardown();
        world.kill();
        world.assert_nothing_left();
    });
}

#[test]
fn an_ephemeral_daemon_removes_everything_at_its_end() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let handle = world.start(RunOptions { ephemeral: true, ..world.options() });

        assert_eq!(world.request("POST", "/v1/shutdown", None).0, 200);

        world.runtime.as_ref().unwrap().block_on(handle).unwrap().unwrap();
        world.kill();
        world.assert_nothing_left();
    });
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    in_netns(|scratch| {
        let world = World::new(scratch);
        let text = policy(&world.tag)
            .replace(&format!("netns = \"{}-2\", create = true", world.tag), "device = \"br9\"");
        fs::write(world.policy_path(), text).unwrap();
        ip("link add br9 type bridge");
        let error = world.run(world.options()).unwrap_err();
        ip("link del br9");
        assert_eq!(error.exit_code(), 2, "{error}");
        world.assert_nothing_left();

        fs::write(world.policy_path(), "version = 1\nnetwork = 3\n").unwrap();
        let error = world.run(world.options()).unwrap_err();
        assert!(error.to_string().contains("policy.toml:2") && error.exit_code() == 2, "{error}");
        world.assert_nothing_left();

        let error = world.run(RunOptions { policy: "/nowhere.toml".into(), ..world.options() }).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        let error = world.run(RunOptions { bpffs: scratch.dir().to_owned(), ..world.options() }).unwrap_err();
        assert!(error.to_string().contains("mount -t bpf bpf"), "{error}");
        world.assert_nothing_left();
    });
}
