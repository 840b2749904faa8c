//! The host module against the kernel. Each test runs on a thread with network and mount namespaces of
//! its own, so that nothing outside sees it. Needs root; without it the tests fail.

#[path = "host/world.rs"]
mod world;

use std::{collections::BTreeSet, fs, process::Command};

use vnet_common::{Delivery, MacAddr};
use vnet_ctl::{
    plan::{self, Attach, NetnsRef, Obstacle, port_device},
    state::State,
};
use world::{Call, World, addresses, desired, ip, ip_in, isolated, port_in};

#[test]
fn a_host_is_built_and_the_second_plan_is_empty() {
    isolated(async |world: &mut World| {
        let plan = world.converge(&desired()).await;
        assert!(!plan.is_empty());
        let again = world.plan(&desired()).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());

        let bridge = ip("-d link show vnet-web");
        for expected in
            ["alias vnet:network:web", "stp_state 0", "mcast_snooping 0", "mtu 1400", "02:00:00:00:00:01"]
        {
            assert!(bridge.contains(expected), "{expected} in {bridge}");
        }
        assert_eq!(addresses("", "vnet-web"), ["10.0.0.1/24", "fd00::1/64", "fe80::ff:fe00:1/64"]);
        let veth = ip(&format!("-d link show {}", port_device("a", 0)));
        for expected in [
            "alias vnet:port:a",
            "master vnet-web",
            "mtu 1400",
            "addrgenmode none",
            "state UP",
            "group default",
        ] {
            assert!(veth.contains(expected), "{expected} in {veth}");
        }
        assert_eq!(addresses("", &port_device("a", 0)), [] as [String; 0]);
        assert_eq!(addresses("one", "eth0"), ["10.0.0.2/24", "fd00::2/64", "fe80::ff:fe00:102/64"]);
        let eth0 = ip_in("one", "link show eth0");
        assert!(eth0.contains("02:00:00:00:01:02") && eth0.contains("mtu 1400"), "{eth0}");
        assert!(ip_in("one", "route").contains("default via 10.0.0.1 dev eth0"));
        assert!(ip_in("one", "-6 route").contains("default via fd00::1 dev eth0"));
        assert!(ip_in("one", "link show lo").contains("UP"));
        assert!(!ip_in("one", "-6 addr").contains("tentative") && !ip("-6 addr").contains("tentative"));
    });
}

#[test]
fn workloads_reach_the_gateway_and_each_other_without_waiting() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        for target in ["10.0.0.1", "10.0.0.3", "fd00::1", "fd00::3", "fe80::ff:fe00:1%eth0"] {
            let ping = Command::new("ip")
                .args(["netns", "exec", "one", "ping", "-c1", "-W2", target])
                .output()
                .unwrap();
            assert!(ping.status.success(), "{target}: {ping:?}");
        }
    });
}

#[test]
fn programs_are_attached_while_devices_are_down() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let attached: Vec<_> = world.datapath.calls.iter().collect();
        assert_eq!(attached.len(), 3, "{attached:?}");
        for call in attached {
            assert!(matches!(call, Call::Attached { was_up: false, was_enslaved: false, .. }), "{call:?}");
        }
    });
}

#[test]
fn offloads_and_queues_of_a_veth_are_untouched() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        ip("link add plain0 type veth peer name plain1");
        let gso = |text: &str| {
            let words: Vec<_> = text.split_whitespace().collect();
            let value = |name| words.iter().position(|word| *word == name).map(|at| words[at + 1].to_owned());
            (value("gso_max_size"), value("tso_max_size"), value("gro_max_size"))
        };
        let device = port_device("a", 0);
        assert_eq!(gso(&ip(&format!("-d link show {device}"))), gso(&ip("-d link show plain0")));
        assert_eq!(gso(&ip_in("one", "-d link show eth0")), gso(&ip("-d link show plain1")));
    });
}

#[test]
fn teardown_leaves_nothing() {
    isolated(async |world: &mut World| {
        let before = (ip("link"), ip("addr"), ip("route"), ip("-6 route"));
        world.converge(&desired()).await;
        world.teardown().await;
        assert_eq!((ip("link"), ip("addr"), ip("route"), ip("-6 route")), before);
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
        assert!(world.datapath.attached.is_empty());
        assert_eq!(world.state, State::default());
    });
}

#[test]
fn what_others_made_survives_a_teardown() {
    isolated(async |world: &mut World| {
        ip("netns add mine");
        ip("link add veth9 type veth peer name veth8");
        let mut desired = desired();
        desired.ports.insert("c".to_owned(), port_in(9, "mine", "eth0", false));
        let device = Attach::Device { device: "veth9".to_owned() };
        desired.ports.insert("d".to_owned(), world::port(10, device));
        world.converge(&desired).await;
        assert!(ip("link show veth9").contains("master vnet-web"));
        assert!(ip_in("mine", "link").contains("eth0"));

        world.teardown().await;
        assert!(!ip("link show veth9").contains("master"));
        assert_eq!(ip("netns").split_whitespace().next(), Some("mine"));
        assert!(!ip_in("mine", "link").contains("eth0"));
    });
}

#[test]
fn wrong_settings_are_repaired_in_place() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let before = world.located(&desired()).await;
        let device = port_device("a", 0);
        ip("link set vnet-web address 02:11:11:11:11:11");
        ip("link set vnet-web mtu 1300");
        ip("link set vnet-web type bridge stp_state 1");
        ip("addr del 10.0.0.1/24 dev vnet-web");
        ip("addr add 10.7.7.7/24 dev vnet-web");
        ip(&format!("link set {device} nomaster"));
        ip(&format!("link set {device} mtu 1300 down"));
        ip_in("one", "link set eth0 address 02:11:11:11:11:12 mtu 1300");
        ip_in("one", "addr add 10.7.7.8/24 dev eth0");
        ip_in("two", "link set eth0 down");
        world.converge(&desired()).await;
        let again = world.plan(&desired()).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        let after = world.located(&desired()).await;
        assert_eq!(before, after, "nothing was made anew");
        assert_eq!(addresses("two", "eth0"), ["10.0.0.3/24", "fd00::3/64", "fe80::ff:fe00:103/64"]);
    });
}

#[test]
fn changed_wishes_are_followed() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let mut changed = desired();
        let network = changed.networks.get_mut("web").unwrap();
        network.mtu = 9000;
        network.gateways = vec!["10.0.1.1/24".parse().unwrap()];
        let a = changed.ports.get_mut("a").unwrap();
        (a.mtu, a.mac) = (9000, MacAddr([2, 0, 0, 0, 1, 0x22]));
        a.addresses = vec!["10.0.1.2/24".parse().unwrap(), "10.0.1.3/24".parse().unwrap()];
        a.gateways = vec!["10.0.1.1".parse().unwrap()];
        changed.ports.remove("b");
        world.converge(&changed).await;
        assert!(world.plan(&changed).await.unwrap().is_empty());
        assert_eq!(addresses("", "vnet-web"), ["10.0.1.1/24"]);
        // The interface keeps a link-local address that the kernel may have made.
        assert_eq!(addresses("one", "eth0")[..2], ["10.0.1.2/24", "10.0.1.3/24"]);
        assert!(ip("link show vnet-web").contains("mtu 9000"));
        let routes = ip_in("one", "route");
        assert!(routes.contains("default via 10.0.1.1") && !routes.contains("10.0.0.1"), "{routes}");
        assert!(!ip("netns").contains("two"));
    });
}

#[test]
fn a_port_moves_to_another_namespace_and_to_another_name() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let mut moved = desired();
        moved.ports.get_mut("a").unwrap().attach = world::in_netns("three", "net0", true);
        world.converge(&moved).await;
        assert!(world.plan(&moved).await.unwrap().is_empty());
        assert_eq!(addresses("three", "net0")[0], "10.0.0.2/24");
        assert!(!ip("netns").contains("one"));

        let before = world.located(&moved).await;
        let port = moved.ports.remove("a").unwrap();
        moved.ports.insert("renamed".to_owned(), port);
        world.converge(&moved).await;
        let after = world.located(&moved).await;
        assert_eq!(before.ports["a"].ifindex, after.ports["renamed"].ifindex);
        assert!(ip("link").contains("vnet:port:renamed") && !ip("link").contains("vnet:port:a"));
    });
}

#[test]
fn whatever_step_a_crash_comes_after_the_next_plan_completes() {
    isolated(async |world: &mut World| {
        let steps = world.plan(&desired()).await.unwrap();
        let total = steps.prepare.len() + steps.finish.len();
        assert!(total > 10);
        for crash_after in 0..total {
            world.converge_until(&desired(), crash_after).await;
            world.converge(&desired()).await;
            let again = world.plan(&desired()).await.unwrap();
            assert!(again.is_empty(), "after {crash_after}: {:#?}", again.changes());
            world.teardown().await;
            let links = ip("link");
            assert!(!links.contains("vnet") && !links.contains("vp-"), "after {crash_after}: {links}");
            assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0, "after {crash_after}");
        }
    });
}

#[test]
fn a_device_that_a_crash_left_without_its_alias_is_known() {
    isolated(async |world: &mut World| {
        ip("netns add one");
        let group = plan::NEWBORN_GROUP;
        ip(&format!("link add vnet-web group {group} type bridge"));
        let device = port_device("a", 0);
        ip(&format!("link add {device} group {group} type veth peer name eth0 netns one"));
        ip(&format!("link add vp-forgotten group {group} type veth peer name eth7 netns one"));
        world.converge(&desired()).await;
        assert!(world.plan(&desired()).await.unwrap().is_empty());
        assert!(ip(&format!("link show {device}")).contains("alias vnet:port:a"));
        assert!(!ip("link").contains("vp-forgotten"));
        assert!(!ip("-d link").contains(&group.to_string()));
        // Made by hand before: not vnet's to remove.
        world.teardown().await;
        assert!(ip("netns").contains("one"));
    });
}

#[test]
fn an_empty_namespace_file_that_a_crash_left_is_used() {
    isolated(async |world: &mut World| {
        fs::create_dir_all("/run/netns").unwrap();
        fs::write("/run/netns/one", "").unwrap();
        assert!(
            matches!(world.plan(&desired()).await, Err(all) if matches!(all.0[..], [Obstacle::NotANamespace { .. }]))
        );
        world.state.namespaces.insert("one".to_owned());
        world.converge(&desired()).await;
        assert_eq!(addresses("one", "eth0").len(), 3);
    });
}

#[test]
fn a_failed_step_takes_back_all_before_it() {
    isolated(async |world: &mut World| {
        let before = ip("link");
        let plan = world.plan(&desired()).await.unwrap();
        // Somebody takes the interface's name after the plan was made.
        let failing =
            plan.prepare.iter().position(|step| step.action.to_string().contains("port b")).unwrap();
        world.datapath.fail_on = Some(port_device("b", 0));
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.not_undone.is_empty(), "{error}");
        assert_eq!(error.failure.action, plan.prepare[failing + 1].action);
        assert!(error.to_string().contains("the datapath refuses"), "{error}");
        assert_eq!(ip("link"), before);
        assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
        assert!(world.datapath.attached.is_empty());
    });
}

#[test]
fn a_failed_repair_restores_what_was_there() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let before = (ip("addr show vnet-web"), addresses("one", "eth0"), ip_in("one", "route"));
        let mut changed = desired();
        changed.networks.get_mut("web").unwrap().mtu = 9000;
        for port in changed.ports.values_mut() {
            port.mtu = 9000;
            port.addresses = vec![format!("10.0.0.{}/24", port.mac.0[5] + 100).parse().unwrap()];
        }
        let plan = world.plan(&changed).await.unwrap();
        let prepared = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap();
        ip_in("two", "link set eth0 name gone0");
        let error = world.host.apply(&plan.finish, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("eth0"), "{error}");
        let failures = world.host.undo(prepared, &mut world.datapath).await;
        assert!(failures.is_empty(), "{failures:?}");
        ip_in("two", "link set gone0 name eth0");
        let after = (ip("addr show vnet-web"), addresses("one", "eth0"), ip_in("one", "route"));
        assert_eq!(before, after);
        assert!(world.plan(&desired()).await.unwrap().is_empty());
    });
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_touched() {
    isolated(async |world: &mut World| {
        ip("link add vnet-web type bridge");
        ip("link add br0 type bridge");
        ip("link add veth9 type veth peer name veth8");
        ip("link set veth9 master br0");
        ip("netns add one");
        ip_in("one", "link add eth0 type veth peer name eth5");
        fs::write("/run/file", "").unwrap();
        let mut desired = desired();
        let mut add = |name: &str, attach| desired.ports.insert(name.to_owned(), world::port(50, attach));
        add("c", Attach::Device { device: "veth9".to_owned() });
        add("d", Attach::Device { device: "none0".to_owned() });
        add("e", world::in_netns("none", "eth0", false));
        let at = |path: &str| Attach::Netns {
            netns: NetnsRef::Path(path.into()),
            create: false,
            interface: "eth0".to_owned(),
        };
        add("f", at("/run/file"));
        add("g", at("/proc/thread-self/ns/net"));
        let before = ip("link");
        let obstacles = world.plan(&desired).await.unwrap_err().0;
        let kinds: BTreeSet<_> =
            obstacles.iter().map(|o| format!("{o:?}").split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(
            kinds.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "DeviceMissing",
                "ForeignMaster",
                "InterfaceInTheWay",
                "LinkInTheWay",
                "NamespaceMissing",
                "NotANamespace",
                "OwnNamespace"
            ]
        );
        assert_eq!(ip("link"), before);
    });
}

#[test]
fn a_namespace_that_appears_meanwhile_is_not_removed_by_the_undo() {
    isolated(async |world: &mut World| {
        let plan = world.plan(&desired()).await.unwrap();
        ip("netns add one");
        let error = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("already there"), "{error}");
        assert!(ip("netns").contains("one"));
    });
}

#[test]
fn namespaces_are_those_of_iproute2() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let output = Command::new("ip").args(["netns", "exec", "one", "true"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        ip("netns del one");
        world.converge(&desired()).await;
        assert_eq!(addresses("one", "eth0").len(), 3);
        assert!(world.plan(&desired()).await.unwrap().is_empty());
    });
}

#[test]
fn a_namespace_without_ipv6_gets_it_on_the_interface_of_a_port_that_has_it() {
    isolated(async |world: &mut World| {
        ip("netns add one");
        for which in ["all", "default"] {
            let setting = format!("echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            let output =
                Command::new("ip").args(["netns", "exec", "one", "sh", "-c", &setting]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        world.converge(&desired()).await;
        assert_eq!(addresses("one", "eth0").len(), 3);
    });
}

#[test]
fn default_routes_that_a_workload_has_already_stay_preferred() {
    isolated(async |world: &mut World| {
        ip("netns add one");
        ip_in("one", "link add up0 type veth peer name up1");
        ip_in("one", "link set up0 up");
        ip_in("one", "link set up1 up");
        ip_in("one", "addr add 192.0.2.2/24 dev up0");
        ip_in("one", "route add default via 192.0.2.1");
        world.converge(&desired()).await;
        let routes = ip_in("one", "route");
        assert!(routes.starts_with("default via 192.0.2.1 dev up0"), "{routes}");
        assert!(routes.contains("default via 10.0.0.1 dev eth0 proto static metric 1"), "{routes}");
        assert!(world.plan(&desired()).await.unwrap().is_empty());
    });
}

#[test]
fn a_gateway_outside_the_subnet_is_reached_on_the_link() {
    isolated(async |world: &mut World| {
        let mut desired = desired();
        let a = desired.ports.get_mut("a").unwrap();
        a.addresses = vec!["10.0.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()];
        world.converge(&desired).await;
        assert!(ip_in("one", "route").contains("default via 10.0.0.1 dev eth0 proto static onlink"));
        assert!(world.plan(&desired).await.unwrap().is_empty());
    });
}

#[test]
fn packets_are_counted_on_both_ends() {
    isolated(async |world: &mut World| {
        world.converge(&desired()).await;
        let device = port_device("a", 0);
        let before = world.host.counters(&device).await.unwrap();
        let ping =
            Command::new("ip").args(["netns", "exec", "one", "ping", "-c3", "-i0.01", "10.0.0.1"]).output();
        assert!(ping.unwrap().status.success());
        let after = world.host.counters(&device).await.unwrap();
        assert!(after.host.rx_packets >= before.host.rx_packets + 3, "{before:?} {after:?}");
        let (inside, was) = (after.workload.unwrap(), before.workload.unwrap());
        assert!(
            inside.tx_packets >= was.tx_packets + 3 && inside.rx_bytes > was.rx_bytes,
            "{was:?} {inside:?}"
        );
        assert_eq!(after.seen_by_workload(), inside);

        ip("link add veth9 type veth peer name veth8");
        assert_eq!(world.host.counters("veth9").await.unwrap().workload, None);
        assert!(world.host.counters("none0").await.is_err());
    });
}

#[test]
fn delivery_tells_veths_that_lead_elsewhere_from_other_devices() {
    isolated(async |world: &mut World| {
        ip("netns add mine");
        ip("link add veth9 type veth peer name veth8");
        ip("link add veth7 type veth peer name eth0 netns mine");
        ip("tuntap add tap0 mode tap");
        let mut desired = desired();
        for (name, device) in [("c", "veth9"), ("d", "veth7"), ("e", "tap0")] {
            let attach = Attach::Device { device: device.to_owned() };
            desired.ports.insert(name.to_owned(), world::port(60, attach));
        }
        world.converge(&desired).await;
        let located = world.located(&desired).await;
        let delivery = |port: &str| located.ports[port].delivery;
        assert_eq!(["a", "d"].map(delivery), [Delivery::Peer; 2]);
        assert_eq!(["c", "e"].map(delivery), [Delivery::Device; 2]);
    });
}

#[test]
fn a_hundred_ports_are_adopted_quickly_and_leak_no_descriptor() {
    isolated(async |world: &mut World| {
        let mut desired = desired();
        for number in 0..100 {
            let port = port_in(number + 10, &format!("many-{number}"), "eth0", true);
            desired.ports.insert(format!("many-{number}"), port);
        }
        world.converge(&desired).await;
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let start = std::time::Instant::now();
        assert!(world.plan(&desired).await.unwrap().is_empty());
        let took = start.elapsed();
        println!("observed and planned 102 ports in {took:?}");
        assert!(took.as_secs() < 5, "{took:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        // Other tests of this process open some at the same time, but not one for each port.
        assert!(open() < 200, "{} descriptors are open", open());
        world.teardown().await;
    });
}
