//! What is repaired, changed, moved and removed.

use std::fs;

use vnet_common::MacAddr;
use vnet_ctl::{
    plan::{Attach, port_device},
    state::State,
};

use crate::world::{self, World, addresses, desired, ip, ip_in, isolated, port_in};

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
