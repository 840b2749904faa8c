//! What is made, and that it works.

use std::{fs, process::Command, time::Duration, time::Instant};

use vnet_common::Delivery;
use vnet_ctl::plan::{Attach, port_device};

use crate::world::{self, Call, World, addresses, desired, ip, ip_in, isolated, port_in};

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
        let start = Instant::now();
        assert!(world.plan(&desired).await.unwrap().is_empty());
        let took = start.elapsed();
        println!("observed and planned 102 ports in {took:?}");
        assert!(took.as_secs() < 5, "{took:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Other tests of this process open some at the same time, but not one for each port.
        assert!(open() < 200, "{} descriptors are open", open());
        world.teardown().await;
    });
}
