//! Ports that a runtime makes through the API: created, found again after a restart, removed; what
//! is in their way is named; and the pool that their addresses come from.

use std::{collections::BTreeSet, fs, thread};

use serde_json::{Value, json};
use vnet_tests::{
    Namespace, World,
    api::Api,
    eventually, netns,
    soak::size,
    traffic::{ANSWER, Echo, Outcome, ping, tcp},
    world::rows,
};

const POLICY: &str = r#"version = 1

[networks.web]
type = "private"
subnets = ["10.10.0.0/24"]

[networks.small]
type = "private"
subnets = ["10.20.0.0/29"]

[security_groups.web]
ingress = [
  { protocol = "tcp", ports = [80], from = ["any"] },
  { protocol = "icmp", from = ["any"] },
]

[ports.a]
network = "web"
addresses = ["10.10.0.10"]
security_groups = ["web"]
attach = { netns = "@a", create = true }
"#;

/// A port of network web in the namespace `@NAME`, that vnet makes.
fn body(world: &World, name: &str) -> Value {
    json!({
        "network": "web",
        "security_groups": ["web"],
        "attach": { "netns": world.netns_name(name), "create": true },
        "origin": "cni",
    })
}

/// The first address in an answer to the creation of a port.
fn address_of(created: &Value) -> String {
    let address = created["port"]["addresses"][0].as_str();
    address.unwrap_or_else(|| panic!("no address in {created}")).to_owned()
}

fn names(world: &World) -> BTreeSet<String> {
    let list = world.api().get("/v1/ports").ok().json();
    rows(&list, "ports").iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

/// What the pool says about `address`.
fn lease(world: &World, address: &str) -> Option<Value> {
    let pools = world.api().get("/v1/ipam").ok().json();
    let pools = pools.as_array().expect("pools");
    let mut leases = pools.iter().flat_map(|pool| pool["leases"].as_array().expect("leases"));
    leases.find(|lease| lease["address"] == address).cloned()
}

#[test]
fn a_port_of_a_runtime_works_like_any_other() {
    let world = World::running(POLICY);
    let mut api = world.api();
    let created = api.put("/v1/ports/c1", &body(&world, "c1")).ok().json();
    let address = address_of(&created);
    let _server = Echo::serve(&world.port("c1"), 80);
    world.assert_reaches("a", tcp(&format!("{address}:80")));
    world.assert_silent("a", tcp(&format!("{address}:81")));
    assert_eq!(ping(&address).run(world.host(), ANSWER), Outcome::Answered);
    assert_eq!(world.port_row("c1")["origin"], "cni");
    assert_eq!(world.port_row("a")["origin"], "policy");
    assert!(!world.policy_text().contains("c1"), "the policy file is a person's");

    let generation = api.get("/v1/status").ok().json()["generation"].clone();
    let again = api.put("/v1/ports/c1", &body(&world, "c1")).ok().json();
    assert_eq!((&again["changed"], &again["generation"]), (&json!(false), &generation), "{again}");
    assert_eq!(address_of(&again), address);

    let _ = api.delete("/v1/ports/c1").ok();
    assert!(!world.port("c1").exists(), "the namespace that vnet made is gone");
    assert_eq!(names(&world), BTreeSet::from(["a".to_owned()]));
    let _ = api.delete("/v1/ports/c1").refused(404, &["c1"]);
}

#[test]
fn a_namespace_of_the_runtime_s_own_stays_when_the_port_goes() {
    let world = World::running(POLICY);
    world.create_namespace("mine");
    let mut port = body(&world, "mine");
    port["attach"] = json!({ "netns": Namespace::named(&world.netns_name("mine")).path(), "name": "net1" });
    let created = world.api().put("/v1/ports/mine", &port).ok().json();
    let link = world.exec("mine", &["ip", "-oneline", "address", "show", "dev", "net1"]).ok();
    assert!(link.stdout.contains(&address_of(&created)), "{link}");
    let _ = world.api().delete("/v1/ports/mine").ok();
    assert!(world.port("mine").exists());
    assert!(!world.exec("mine", &["ip", "link", "show", "dev", "net1"]).success());
}

#[test]
fn a_replaced_port_is_as_it_was_asked_for_last() {
    let world = World::running(POLICY);
    let mut api = world.api();
    let created = api.put("/v1/ports/c1", &body(&world, "c1")).ok().json();
    let address = address_of(&created);
    let _server = Echo::serve(&world.port("c1"), 80);
    let mut other = body(&world, "c1");
    other["security_groups"] = json!([]);
    let changed = api.put("/v1/ports/c1", &other).ok().json();
    assert_eq!((address_of(&changed), &changed["changed"]), (address.clone(), &json!(true)));
    // The group `default`: only its own members may reach it.
    world.assert_silent("a", tcp(&format!("{address}:80")));
}

#[test]
fn ports_of_runtimes_outlive_the_daemon() {
    let mut world = World::running(POLICY);
    let first = world.api().put("/v1/ports/c1", &body(&world, "c1")).ok().json();
    let address = address_of(&first);
    let _server = Echo::serve(&world.port("c1"), 80);
    for round in 0..2 {
        if round == 0 {
            world.kill()
        } else {
            world.stop()
        };
        world.assert_reaches("a", tcp(&format!("{address}:80")));
        world.start(&[]);
        assert_eq!(world.port_row("c1")["addresses"][0], *address);
        world.assert_reaches("a", tcp(&format!("{address}:80")));
    }
    let again = world.api().put("/v1/ports/c1", &body(&world, "c1")).ok().json();
    assert_eq!(again["changed"], false, "{again}");
    // A policy that is applied has the runtime's ports beside its own.
    let _ = world.ctl(&["apply"]).ok();
    assert_eq!(names(&world).len(), 2);
    let before = world.api().delete("/v1/ports/c1").ok().json();
    assert_eq!(before["port"], "c1");
    world.kill();
    world.start(&[]);
    assert_eq!(names(&world).len(), 1, "what was removed does not come back");
}

#[test]
fn what_is_in_the_way_of_a_port_is_named() {
    let world = World::running(POLICY);
    let mut api = world.api();
    let with = |key: &str, value: Value| {
        let mut body = body(&world, "c1");
        body[key] = value;
        body
    };
    let path = world.policy_path().to_str().expect("UTF-8").to_owned();
    let _ = api.put("/v1/ports/a", &body(&world, "x")).refused(409, &["a", &path]);
    let _ = api.delete("/v1/ports/a").refused(409, &["a", &path]);
    let _ =
        api.put("/v1/ports/c1", &with("addresses", json!(["10.10.0.10"]))).refused(409, &["10.10.0.10", "a"]);
    let taken = json!({ "netns": world.netns_name("a"), "create": true });
    let _ = api.put("/v1/ports/c1", &with("attach", taken)).refused(409, &["eth0", "a"]);
    for (key, value, words) in [
        ("network", json!("wbe"), ["wbe", "web"]),
        ("security_groups", json!(["wbe"]), ["wbe", "web"]),
        ("addresses", json!(["10.99.0.1"]), ["10.99.0.1", "10.10.0.0/24"]),
        ("addresses", json!(["10.10.0.1"]), ["10.10.0.1", "gateway"]),
        ("mac", json!("03:00:00:00:00:01"), ["03:00:00:00:00:01", "mac"]),
        ("attach", json!({ "device": "nosuch0" }), ["nosuch0", "c1"]),
        ("attach", json!({ "netns": "nosuch-namespace" }), ["nosuch-namespace", "c1"]),
        ("nonsense", json!(1), ["nonsense", "c1"]),
    ] {
        let answer = api.put("/v1/ports/c1", &with(key, value.clone()));
        assert!((400..500).contains(&answer.status), "{key} = {value}: {answer:?}");
        let status = answer.status;
        let _ = answer.refused(status, &words[..1]);
    }
    assert_eq!(names(&world), BTreeSet::from(["a".to_owned()]), "nothing of them is left");
    assert!(!world.port("c1").exists());
    let _ = api.put("/v1/ports/c1", &body(&world, "c1")).ok();
}

#[test]
fn a_policy_that_conflicts_with_a_runtime_s_port_is_refused_with_its_name() {
    let world = World::running(POLICY);
    let mut port = body(&world, "c1");
    port["addresses"] = json!(["10.10.0.77"]);
    let _ = world.api().put("/v1/ports/c1", &port).ok();
    let generation = world.json(&["status"])["generation"].clone();
    let text = world.policy_text();
    let more = |name: &str, address: &str| {
        format!(
            "{text}\n[ports.{name}]\nnetwork = \"web\"\naddresses = [\"{address}\"]\nattach = {{ netns = \"{}\", create = true }}\n",
            world.netns_name("z")
        )
    };
    let without_group =
        text.replace("[security_groups.web]", "[security_groups.other]").replace("[\"web\"]", "[\"other\"]");
    for (case, conflicting, words) in [
        ("the same name", more("c1", "10.10.0.78"), &["c1", "cni"][..]),
        ("the same address", more("z", "10.10.0.77"), &["c1", "10.10.0.77", "cni"]),
        ("its group gone", without_group, &["c1", "web", "cni"]),
        ("its network gone", text.replace("web", "net2"), &["c1", "web", "cni"]),
        ("its subnet gone", text.replace("10.10.0.", "10.11.0."), &["c1", "10.10.0.77", "cni"]),
    ] {
        let file = world.folder().join("conflict.toml");
        fs::write(&file, &conflicting).expect("write a policy");
        let refused = world.ctl(&["apply", "-f", file.to_str().expect("UTF-8")]);
        println!("{case}: {}", refused.stderr.trim());
        let refused = refused.refused().says(words);
        assert!(
            refused.stderr.contains("port delete") || refused.stderr.contains("remove"),
            "what to do: {refused}"
        );
    }
    assert_eq!(world.json(&["status"])["generation"], generation);
    let _server = Echo::serve(&world.port("c1"), 80);
    world.assert_reaches("a", tcp("10.10.0.77:80"));
}

#[test]
fn ports_can_be_made_by_command_as_well() {
    let world = World::running(POLICY);
    let netns = world.netns_name("c1");
    let made = [
        "port",
        "create",
        "c1",
        "--runtime",
        "--network",
        "web",
        "--group",
        "web",
        "--netns",
        &netns,
        "--create",
    ];
    let _ = world.ctl(&made).ok();
    assert_eq!(world.json(&["port", "show", "c1"])["name"], "c1");
    let _ = world.ctl(&["port", "delete", "c1"]).ok();
    let _ = world.ctl(&["port", "delete", "c1"]).fails_with(4);
    let _ = world.ctl(&["port", "delete", "c1", "--if-exists"]).ok();
}

#[test]
fn many_at_once_get_ports_and_addresses_of_their_own() {
    let world = World::running(POLICY);
    let count = size(24, 200);
    let create = |world: &World, n: usize| {
        let name = format!("m{n}");
        let created = Api::at(&world.socket()).put(&format!("/v1/ports/{name}"), &body(world, &name)).ok();
        address_of(&created.json())
    };
    let addresses: Vec<String> = thread::scope(|scope| {
        let world = &world;
        // Sixteen at a time, and each port is asked for twice.
        let clients: Vec<_> = (0..16)
            .map(|client| {
                scope.spawn(move || {
                    (client..count * 2).step_by(16).map(|n| create(world, n % count)).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    assert_eq!(addresses.len(), count * 2);
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), count, "each port has an address of its own");
    assert_eq!(names(&world).len(), count + 1);
    thread::scope(|scope| {
        for client in 0..16 {
            let socket = world.socket();
            scope.spawn(move || {
                for n in (client..count).step_by(16) {
                    let _ = Api::at(&socket).delete(&format!("/v1/ports/m{n}")).ok();
                }
            });
        }
    });
    assert_eq!(names(&world), BTreeSet::from(["a".to_owned()]));
    let left = netns::Namespace::named(&world.netns_name("m0"));
    assert!(!left.exists());
}

#[test]
fn a_pool_gives_each_address_once_until_none_is_left() {
    let world = World::running(POLICY);
    let mut api = world.api();
    let mut small = |name: &str| {
        let mut port = body(&world, name);
        port["network"] = json!("small");
        api.put(&format!("/v1/ports/{name}"), &port)
    };
    // A /29 has six hosts, and the gateway is one of them.
    let given: BTreeSet<String> = (0..5).map(|n| address_of(&small(&format!("s{n}")).ok().json())).collect();
    assert_eq!(given.len(), 5);
    let refused = small("s5");
    assert!([409, 422].contains(&refused.status) && refused.body.contains("10.20.0.0/29"), "{refused:?}");
    let shown = world.ctl(&["ipam", "show"]).ok();
    assert!(shown.stdout.contains("10.20.0.0/29") && shown.stdout.contains("10.10.0.0/24"), "{shown}");
    let json = world.json(&["ipam", "show"]);
    let pool =
        json.as_array().expect("pools").iter().find(|pool| pool["network"] == "small").expect("the pool");
    assert_eq!((&pool["used"], &pool["free"]), (&json!(5), &json!(0)), "{pool}");
    let _ = world.ctl(&["ipam", "check"]).ok();
    let freed = world.api().delete("/v1/ports/s2").ok().json();
    assert_eq!(address_of(&small_again(&world, "s6")), freed["addresses"][0].as_str().expect("an address"));
}

fn small_again(world: &World, name: &str) -> Value {
    let mut port = body(world, name);
    port["network"] = json!("small");
    world.api().put(&format!("/v1/ports/{name}"), &port).ok().json()
}

#[test]
fn the_address_of_a_workload_that_is_gone_can_be_released() {
    let world = World::running(POLICY);
    world.create_namespace("w");
    let mut port = body(&world, "w");
    port["attach"] = json!({ "netns": world.netns_name("w") });
    let address = address_of(&world.api().put("/v1/ports/w", &port).ok().json());
    assert_eq!(lease(&world, &address).expect("a lease")["state"], "live");
    let _ = world.ctl(&["ipam", "release", &address]).fails_with(5).says(&["w"]);
    let _ = world.ctl(&["ipam", "release", "10.10.0.10"]).fails_with(5).says(&["a"]);
    let _ = world.ctl(&["ipam", "release", "10.10.0.99"]).fails_with(4);

    netns::delete(&world.netns_name("w"));
    eventually("the workload to be missed", || (lease(&world, &address)?["state"] == "gone").then_some(()));
    let checked = world.ctl(&["ipam", "check"]).fails_with(1);
    assert!(checked.stdout.contains(&address) && checked.stdout.contains("release"), "{checked}");
    let _ = world.ctl(&["ipam", "release", &address]).ok();
    assert!(lease(&world, &address).is_none());
    assert_eq!(names(&world), BTreeSet::from(["a".to_owned()]));
    let _ = world.ctl(&["ipam", "check"]).ok();
}
