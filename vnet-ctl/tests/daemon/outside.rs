//! What a policy names of the outside: uplinks by name, addresses that are listened on, elastic IPs.

use std::fs;

use serde_json::Value;
use vnet_common::{Forward, ForwardKey, Ip};
use vnet_ctl::{
    api::types::{EventKind, NetworkInfo},
    datapath::names::{self, Hook},
};

use aya::maps::{HashMap, MapData};

use crate::{
    support::{Scratch, ifindex, in_netns, ip},
    uplinks::{exits, is_attached, map, problems, side, text, uplink, wait_for_exits},
    world::{World, wait_until},
};

/// The policy with `more`, and `network` among what it says of its network.
fn outside(world: &World<'_>, network: &str, more: &str) -> String {
    text(world, "nat").replace("type = \"nat\"", &format!("type = \"nat\"\n{network}")) + more
}

fn refused(world: &World<'_>, text: &str) -> String {
    let (status, body) = world.apply(text);
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 422, "{error}");
    error["rendered"].as_str().or(error["error"].as_str()).unwrap().to_owned()
}

/// The addresses under which TCP port 8080 is forwarded.
fn listened_on(scratch: &Scratch, candidates: &[&str]) -> Vec<String> {
    let pins = scratch.pins();
    let table: HashMap<MapData, ForwardKey, Forward> = map(&pins, names::FORWARDS).try_into().unwrap();
    let side = side(&pins);
    let is_known = |addr: &&&str| {
        let head = ForwardKey::head(0, side, Ip::from_std(addr.parse().unwrap()), 6);
        table.get(&head.block(8080, 16), 0).is_ok()
    };
    candidates.iter().filter(is_known).map(|addr| (*addr).to_owned()).collect()
}

#[test]
fn a_named_uplink_that_is_missing_is_refused_and_waited_for() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        fs::write(world.policy_path(), text(&world, "nat")).unwrap();
        world.start(world.options());
        let named = outside(&world, "uplink = \"up0\"", "");
        let told = refused(&world, &named);
        assert!(told.contains("network web: there is no device up0; name a device"), "{told}");
        world.kill();

        fs::write(world.policy_path(), &named).unwrap();
        world.start(world.options());
        assert!(world.get::<Vec<NetworkInfo>>("/v1/networks")[0].exit_addresses.is_empty());
        uplink("up0", &["198.51.100.2/24"]);
        world.wait_for_event(EventKind::Followed, "the way out is up0 now: networks web leave with it");
        wait_for_exits(scratch, &[("up0", "198.51.100.2")]);
        assert!(is_attached(scratch, "up0"));

        ip("link del up0");
        world
            .wait_for_event(EventKind::Problem, "network web: there is no device up0; what it sends outside");
        wait_until(|| exits(scratch).is_empty(), || "it still leaves".to_owned());
        let told = refused(&world, &named.replace("[80]", "[81]"));
        assert!(told.contains("there is no device up0"), "{told}");
    });
}

#[test]
fn an_uplink_that_becomes_a_port_and_back_has_the_right_programs() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        ip("link add dev0 type veth peer name dev1");
        let mut world = World::new(scratch);
        let leaving = outside(&world, "uplink = \"dev0\"", "");
        fs::write(world.policy_path(), &leaving).unwrap();
        world.start(world.options());
        let port = "[ports.web-3]\nnetwork = \"web\"\nattach = { device = \"dev0\" }\n";
        let pin = |hook| scratch.pins().link(ifindex("dev0"), hook).exists();
        let programs = || [Hook::FromUplink, Hook::FromPort, Hook::ToPort].map(pin);
        assert_eq!(programs(), [true, false, false]);
        for _ in 0..2 {
            let applied = world.applied(&outside(&world, "uplink = \"up0\"", port));
            assert_eq!((programs(), applied.warnings), ([false, true, true], vec![]));
            let applied = world.applied(&leaving);
            assert_eq!((programs(), applied.warnings), ([true, false, false], vec![]));
        }
        assert!(problems(&world).is_empty(), "{:?}", problems(&world));
    });
}

#[test]
fn what_is_listened_on_is_an_address_of_the_host() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        let mut world = World::new(scratch);
        let forward = |listen: &str| {
            let forward =
                format!("[[forwards]]\nlisten = \"{listen}\"\nprotocol = \"tcp\"\nto = \"web-1:80\"\n");
            outside(&world, "uplink = \"up0\"", &forward)
        };
        let (all, one) = (forward("0.0.0.0:8080"), forward("198.51.100.2:8080"));
        let other = forward("198.51.100.9:8080");
        fs::write(world.policy_path(), &all).unwrap();
        world.start(world.options());
        let candidates = ["198.51.100.2", "198.51.100.3", "10.10.0.1", "127.0.0.1"];
        assert_eq!(listened_on(scratch, &candidates), ["198.51.100.2", "10.10.0.1"]);

        ip("addr add 198.51.100.3/32 dev out-up0");
        wait_until(
            || listened_on(scratch, &candidates) == ["198.51.100.2", "198.51.100.3", "10.10.0.1"],
            || format!("{:?}", listened_on(scratch, &candidates)),
        );
        let told = refused(&world, &other);
        assert!(told.contains("no device of the host has the address 198.51.100.9"), "{told}");
        let line = other.lines().position(|line| line.starts_with("listen")).unwrap() + 1;
        assert!(told.contains(&format!("policy.toml:{line}:10\n")), "{told}");
        assert!(told.contains("198.51.100.2 (up0), 198.51.100.3 (out-up0)"), "{told}");

        world.applied(&one);
        assert_eq!(listened_on(scratch, &candidates), ["198.51.100.2"]);
        ip("addr del 198.51.100.2/24 dev up0");
        world.wait_for_event(EventKind::Problem, "no device of the host has the address 198.51.100.2");
        assert_eq!(listened_on(scratch, &candidates), ["198.51.100.2"], "it holds all the same");
        ip("addr add 198.51.100.2/24 dev up0");
        wait_for_exits(scratch, &[("up0", "198.51.100.2")]);
        world.applied(&one.replace("[80]", "[81]"));
    });
}

#[test]
fn an_elastic_ip_is_none_of_the_hosts_own_addresses() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        let mut world = World::new(scratch);
        let elastic = |addr: &str| {
            let elastic = format!("[elastic_ips]\n\"{addr}\" = {{ port = \"web-1\" }}\n");
            outside(&world, "uplink = \"up0\"", &elastic)
        };
        let (own, other) = (elastic("198.51.100.2"), elastic("198.51.100.20"));
        fs::write(world.policy_path(), &other).unwrap();
        world.start(world.options());
        let told = refused(&world, &own);
        assert!(told.contains("elastic IP 198.51.100.2 is the own address of up0"), "{told}");
        assert!(problems(&world).is_empty(), "{:?}", problems(&world));

        ip("addr add 198.51.100.20/32 dev up0");
        world.wait_for_event(EventKind::Problem, "elastic IP 198.51.100.20 is the own address of up0");
        ip("addr del 198.51.100.20/32 dev up0");
        wait_until(
            || world.apply(&other.replace("[80]", "[81]")).0 == 200,
            || "it is still refused".to_owned(),
        );
    });
}
