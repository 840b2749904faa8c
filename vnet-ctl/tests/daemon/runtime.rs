//! Ports that runtimes create through the API, and the addresses that they get.

use std::{fs, thread};

use serde_json::{Value, json};
use vnet_ctl::api::types::{
    Event, EventKind, IpamFinding, LeaseState, Pool, PortCreated, PortInfo, PortRemoved, PortState, Status,
};

use crate::{
    support::{in_netns, ip},
    world::{World, links, policy, smaller},
};

/// A port in the namespace `TAG-NAME`, which vnet makes.
fn port(world: &World<'_>, name: &str) -> Value {
    let netns = format!("{}-{name}", world.tag);
    json!({ "network": "web", "origin": "cni", "attach": { "netns": netns, "create": true } })
}

fn put(world: &World<'_>, name: &str, port: &Value) -> Result<PortCreated, (u16, String)> {
    let (status, body) = world.request("PUT", &format!("/v1/ports/{name}"), Some(port));
    let text = String::from_utf8_lossy(&body).into_owned();
    if status == 200 { Ok(serde_json::from_str(&text).unwrap()) } else { Err((status, text)) }
}

fn delete(world: &World<'_>, path: &str) -> Result<PortRemoved, (u16, String)> {
    let (status, body) = world.request("DELETE", path, None);
    let text = String::from_utf8_lossy(&body).into_owned();
    if status == 200 { Ok(serde_json::from_str(&text).unwrap()) } else { Err((status, text)) }
}

fn named(world: &World<'_>, name: &str) -> Option<PortInfo> {
    world.get::<Vec<PortInfo>>("/v1/ports").into_iter().find(|port| port.name == name)
}

fn netns(world: &World<'_>, name: &str) -> bool {
    fs::exists(format!("/run/netns/{}-{name}", world.tag)).unwrap()
}

#[test]
fn a_port_is_created_replaced_and_removed_and_outlives_the_daemon() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());

        let created = put(&world, "c1", &port(&world, "c1")).unwrap();

        assert!(created.changed && created.generation == 2, "{created:?}");
        assert_eq!((created.port.origin.as_str(), created.port.addresses.len()), ("cni", 2));
        assert!(links().contains(&created.port.device) && netns(&world, "c1"));
        ip(&format!("netns exec {}-c1 ping -c1 -W2 10.10.0.1", world.tag));
        let again = put(&world, "c1", &port(&world, "c1")).unwrap();
        assert_eq!((again.changed, again.generation), (false, 2), "the same is no change");
        assert_eq!(again.port, created.port);

        let mut other = port(&world, "c1");
        other["addresses"] = json!(["10.10.0.77"]);
        let replaced = put(&world, "c1", &other).unwrap();
        assert_eq!(replaced.port.addresses, ["10.10.0.77".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(replaced.port.ifindex, created.port.ifindex);

        world.kill();
        world.start(world.options());
        assert_eq!(named(&world, "c1").unwrap(), replaced.port);
        assert_eq!(world.get::<Status>("/v1/status").generation, replaced.generation, "taken over as it was");

        let removed = delete(&world, "/v1/ports/c1").unwrap();
        assert_eq!(removed.addresses, replaced.port.addresses);
        assert!(!netns(&world, "c1") && !links().contains(&replaced.port.device));
        assert_eq!(delete(&world, "/v1/ports/c1").unwrap_err().0, 404);
        let (status, text) = delete(&world, "/v1/ports/web-1").unwrap_err();
        assert!(status == 409 && text.contains("policy.toml"), "{status} {text}");
        put(&world, "c2", &port(&world, "c2")).unwrap();
        assert!(world.teardown().problems.is_empty());
        world.kill();
        assert!(!netns(&world, "c2"));
        world.assert_nothing_left();
    });
}

#[test]
fn what_is_wrong_with_a_port_is_told_and_changes_nothing() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let taken = world.get::<Vec<PortInfo>>("/v1/ports")[0].addresses[0].to_string();
        let with = |key: &str, value: Value| {
            let mut port = port(&world, "c1");
            port[key] = value;
            port
        };
        let elsewhere = format!("{}-nowhere", world.tag);
        for (name, port, expected, part) in [
            ("c1", with("network", json!("wbe")), 422, "did you mean `web`?"),
            ("c1", with("colour", json!("blue")), 422, "colour"),
            ("c1", with("origin", json!("policy")), 422, "policy file"),
            ("c1", with("addresses", json!([taken])), 409, "belongs to port `web-1`"),
            ("host", with("mac", json!("02:00:00:00:00:01")), 422, "cannot be called `host`"),
            ("web-1", port(&world, "c1"), 409, "policy.toml"),
            ("c1", with("attach", json!({ "netns": elsewhere })), 422, "there is no namespace"),
        ] {
            let (status, text) = put(&world, name, &port).unwrap_err();
            assert!(status == expected && text.contains(part), "{name} {port}: {status} {text}");
        }
        assert_eq!(world.get::<Status>("/v1/status").generation, 1);
        assert!(named(&world, "c1").is_none() && !netns(&world, "c1"));
        world.kill();
        world.start(world.options());
        assert!(named(&world, "c1").is_none(), "what failed is not in the store");
        world.teardown();
    });
}

#[test]
fn an_edit_that_takes_something_from_a_runtime_s_port_is_refused() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let mut grouped = port(&world, "c1");
        grouped["security_groups"] = json!(["web"]);
        let created = put(&world, "c1", &grouped).unwrap();
        let text = policy(&world.tag);
        let declared = format!("{text}\n[ports.c1]\nnetwork = \"web\"\nattach = {{ netns = \"x\" }}\n");
        let ungrouped =
            text.replace("[security_groups.web]", "[security_groups.www]").replace("[\"web\"]", "[]");

        for edited in [&declared, &ungrouped] {
            let (status, body) = world.apply(edited);
            let error: Value = serde_json::from_slice(&body).unwrap();
            let message = error["error"].as_str().unwrap();
            assert!(status == 409 && message.contains("port c1, created by cni"), "{status} {error}");
            assert!(error["help"].as_str().unwrap().contains("/v1/ports/c1"), "{error}");
        }
        assert_eq!(world.get::<Status>("/v1/status").generation, created.generation);
        assert_eq!(world.applied(&smaller(&text)).warnings.len(), 0, "others may go");

        // The file was edited while no daemon ran.
        world.kill();
        fs::write(world.policy_path(), &ungrouped).unwrap();
        world.start(world.options());
        assert!(named(&world, "c1").is_none(), "it is not in force");
        assert!(links().contains(&created.port.device) && netns(&world, "c1"), "what it has stays");
        let events: Vec<Event> = world.get("/v1/events");
        let told = |event: &Event| event.kind == EventKind::Problem && event.message.contains("port c1");
        assert!(events.iter().any(told), "{events:?}");
        let applied = world.applied(&text);
        assert_eq!(applied.warnings.len(), 0, "{applied:?}");
        let back = named(&world, "c1").unwrap();
        assert_eq!((back.device, back.addresses), (created.port.device, created.port.addresses));
        assert!(world.teardown().problems.is_empty());
        world.kill();
        assert!(!netns(&world, "c1"));
        world.assert_nothing_left();
    });
}

#[test]
fn fifty_at_once_are_all_made_and_one_bad_port_fails_alone() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let ports: Vec<_> = (0..50).map(|n| (format!("c{n}"), port(&world, &format!("c{n}")))).collect();
        let missing = json!({ "network": "web", "origin": "cni", "attach": { "device": "tap9" } });

        let (results, bad) = thread::scope(|scope| {
            let world = &world;
            let put = |(name, port)| scope.spawn(move || put(world, name, port));
            let good: Vec<_> = ports.iter().map(|(name, port)| (name.as_str(), port)).map(put).collect();
            let bad = put(("bad", &missing));
            let join = |handle: thread::ScopedJoinHandle<'_, _>| handle.join().unwrap();
            (good.into_iter().map(join).collect::<Vec<_>>(), join(bad))
        });

        let (status, text) = bad.unwrap_err();
        assert!(status == 422 && text.contains("there is no device tap9"), "{status} {text}");
        let mut addresses: Vec<_> =
            results.into_iter().map(|result| result.unwrap().port.addresses[0]).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 50, "each has its own");
        let generation = world.get::<Status>("/v1/status").generation;
        assert!(generation < 30, "they were made together: {generation}");
        world.kill();
        world.start(world.options());
        assert_eq!(world.get::<Vec<PortInfo>>("/v1/ports").len(), 52);
        assert!(world.teardown().problems.is_empty());
        world.kill();
        world.assert_nothing_left();
    });
}

#[test]
fn a_port_whose_workload_is_gone_waits_and_its_address_can_be_released() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let name = format!("{}-c1", world.tag);
        ip(&format!("netns add {name}"));
        ip("tuntap add tap1 mode tap");
        let in_netns = json!({ "network": "web", "origin": "cni", "attach": { "netns": name } });
        let on_tap = json!({ "network": "web", "origin": "qemu", "attach": { "device": "tap1" } });
        let created = put(&world, "c1", &in_netns).unwrap();
        let tap = put(&world, "c2", &on_tap).unwrap();
        let address = created.port.addresses[0];
        let lease = |address| {
            let pools: Vec<Pool> = world_get(&world, "/v1/ipam");
            pools.into_iter().flat_map(|pool| pool.leases).find(|lease| lease.address == address)
        };
        assert_eq!(lease(address).unwrap().state, LeaseState::Live);
        let (status, text) = delete(&world, &format!("/v1/ipam/{address}")).unwrap_err();
        assert!(status == 409 && text.contains("port c1 of cni"), "{status} {text}");

        ip(&format!("netns del {name}"));
        ip("link del tap1");

        assert_eq!(lease(address).unwrap().state, LeaseState::Gone);
        let (_, body) = world.request("POST", "/v1/ipam/check", None);
        let findings: Vec<IpamFinding> = serde_json::from_slice(&body).unwrap();
        assert_eq!(findings.len(), 4, "{findings:?}");
        let applied = world.applied(&smaller(&policy(&world.tag)));
        assert_eq!(applied.warnings.len(), 2, "a person's edit is not in the way of it: {applied:?}");
        world.kill();
        world.start(world.options());
        assert_eq!(named(&world, "c1").unwrap().state, PortState::Missing);

        ip("tuntap add tap1 mode tap");
        let back = put(&world, "c2", &on_tap).unwrap();
        assert!(back.port.ifindex != 0 && back.port.addresses == tap.port.addresses, "{back:?}");
        let removed = delete(&world, &format!("/v1/ipam/{address}")).unwrap();
        assert_eq!((removed.port.as_str(), &removed.addresses), ("c1", &created.port.addresses));
        let next = put(&world, "c3", &port(&world, "c3")).unwrap();
        assert_ne!(next.port.addresses[0], address, "an address rests");
        assert!(world.teardown().problems.is_empty());
        assert!(!fs::read_to_string("/sys/class/net/tap1/flags").is_ok_and(|flags| flags.ends_with("3\n")));
        ip("link del tap1");
        world.kill();
        world.assert_nothing_left();
    });
}

fn world_get<T: serde::de::DeserializeOwned>(world: &World<'_>, path: &str) -> T {
    world.get(path)
}

#[test]
fn a_damaged_store_is_told_and_left_as_it_is() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        put(&world, "c1", &port(&world, "c1")).unwrap();
        world.kill();
        let path = scratch.dir().join("state/ports.redb");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "not a database").unwrap();

        let error = world.run(world.options()).unwrap_err();

        let text = error.to_string();
        assert!(text.contains("ports.redb") && text.contains("mv "), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"not a database");
        fs::write(&path, whole).unwrap();
        world.start(world.options());
        assert!(named(&world, "c1").is_some());
        world.teardown();
    });
}

#[test]
fn a_port_asked_for_again_is_there_when_the_answer_comes() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let netns = format!("{}-c1", world.tag);
        let mut port = port(&world, "c1");
        port["attach"] = json!({ "netns": netns });
        ip(&format!("netns add {netns}"));
        let before = put(&world, "c1", &port).unwrap();

        // The container is started anew, and its runtime asks again.
        ip(&format!("netns del {netns}"));
        ip(&format!("netns add {netns}"));
        let after = put(&world, "c1", &port).unwrap();

        ip(&format!("netns exec {netns} ping -c1 -W2 10.10.0.1"));
        assert_eq!(after.port.addresses, before.port.addresses);
        let again = put(&world, "c1", &port).unwrap();
        assert!(!again.changed);
        delete(&world, "/v1/ports/c1").unwrap();
        ip(&format!("netns del {netns}"));
    });
}

#[test]
fn a_newcomer_is_refused_what_another_port_has_whatever_their_names() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let at = |name: &str| {
            let mut port = port(&world, name);
            port["addresses"] = json!(["10.10.0.77"]);
            port
        };
        put(&world, "m", &at("m")).unwrap();

        let (status, text) = put(&world, "a", &at("a")).unwrap_err();

        assert!(status == 409 && text.contains("belongs to port `m`"), "{status} {text}");
        delete(&world, "/v1/ports/m").unwrap();
    });
}

#[test]
fn a_port_made_while_a_policy_waited_does_not_keep_anybody_from_rolling_it_back() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        world.start(world.options());
        let text = policy(&world.tag);
        let update = json!({ "text": smaller(&text), "origin": "new.toml", "confirm_secs": 3600 });
        assert_eq!(world.request("POST", "/v1/policy", Some(&update)).0, 200);
        put(&world, "web-2", &port(&world, "c1")).unwrap();

        let (status, body) = world.request("POST", "/v1/policy/rollback", None);

        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert_eq!(named(&world, "web-2").unwrap().origin, "policy");
        assert_eq!(fs::read_to_string(world.policy_path()).unwrap(), text);
        world.wait_for_event(EventKind::Problem, "the policy file declares a port `web-2` itself");
        assert!(world.teardown().problems.is_empty());
    });
}
