//! What leads to the rest of networks' segments.

use std::net::{IpAddr, Ipv4Addr};

use vnet_common::MacAddr;
use vnet_ctl::plan::{Desired, OVERLAY_DEVICE, Obstacle, Role, Segment, Source, Uplink};

use crate::world::{Call, World, addresses, desired, ip, isolated};

const STATIONS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 1, 2]), MacAddr([2, 0, 0, 0, 1, 3])];

/// A network whose ports are reached beyond eth1, which the host has an address on.
pub(crate) fn trunked() -> Desired {
    let mut desired = desired();
    let web = desired.networks.get_mut("web").expect("the network");
    web.segment = Some(Segment::Lan { trunk: "eth1".to_owned(), shared: true });
    web.stations = STATIONS.into();
    desired
}

/// Other hosts: on the link of eth1, and behind it.
const PEERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))];

pub(crate) fn overlaid(uplink: Uplink) -> Desired {
    let mut desired = desired();
    let segment = Segment::Overlay { uplink, peers: PEERS.into() };
    desired.networks.get_mut("web").expect("the network").segment = Some(segment);
    desired
}

pub(crate) fn make_eth1() {
    ip("link add eth1 type veth peer name eth2");
    ip("link set eth1 up");
    ip("addr add 192.0.2.1/24 dev eth1");
}

/// What `bridge` of iproute2 prints.
fn fdb(device: &str) -> String {
    let output = std::process::Command::new("bridge").args(["fdb", "show", "dev", device]).output();
    let output = output.expect("iproute2");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn takes_all_multicast(device: &str) -> bool {
    ip(&format!("-d link show {device}")).contains("allmulti 1")
}

#[test]
fn a_trunk_takes_what_is_for_ports_and_is_as_it_was_afterwards() {
    isolated(async |world: &mut World| {
        make_eth1();
        let before = (ip("-d addr show eth1"), fdb("eth1"));
        world.converge(&trunked()).await;
        let again = world.plan(&trunked()).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        for station in STATIONS {
            assert!(fdb("eth1").contains(&format!("{station} self permanent")), "{}", fdb("eth1"));
        }
        assert!(takes_all_multicast("eth1"));
        let eth1 = ip("addr show eth1");
        assert!(eth1.contains("192.0.2.1/24") && !eth1.contains("master"), "{eth1}");
        let located = world.located(&trunked()).await.segments["web"].clone();
        assert_eq!(world.datapath.outside, located.roles);
        assert_eq!(located.roles.len(), 2, "{located:?}");

        let mut fewer = trunked();
        fewer.networks.get_mut("web").unwrap().stations = [STATIONS[0]].into();
        world.converge(&fewer).await;
        assert!(fdb("eth1").contains("02:00:00:00:01:02") && !fdb("eth1").contains("02:00:00:00:01:03"));

        world.teardown().await;
        assert_eq!((ip("-d addr show eth1"), fdb("eth1")), before);
        assert!(world.datapath.outside.is_empty() && world.state.groups.is_empty());
    });
}

#[test]
fn what_somebody_took_from_a_trunk_comes_back_and_what_they_gave_it_stays() {
    isolated(async |world: &mut World| {
        make_eth1();
        let own = ["fdb", "add", "02:00:00:00:01:02", "dev", "eth1", "self", "permanent"];
        assert!(std::process::Command::new("bridge").args(own).status().unwrap().success());
        world.converge(&trunked()).await;
        ip("link set eth1 allmulticast off");
        let gone = ["fdb", "del", "02:00:00:00:01:03", "dev", "eth1", "self"];
        assert!(std::process::Command::new("bridge").args(gone).status().unwrap().success());
        world.converge(&trunked()).await;
        assert!(takes_all_multicast("eth1") && fdb("eth1").contains("02:00:00:00:01:03"));
        world.teardown().await;
        assert!(!takes_all_multicast("eth1") && !fdb("eth1").contains("02:00:00:00:01:03"));
        assert!(fdb("eth1").contains("02:00:00:00:01:02 self permanent"), "somebody else wants it");
    });
}

#[test]
fn a_bridge_of_somebody_else_may_lead_to_the_lan() {
    isolated(async |world: &mut World| {
        ip("link add eth1 type bridge");
        ip("link set eth1 up");
        world.converge(&trunked()).await;
        assert!(fdb("eth1").contains("02:00:00:00:01:02"), "{}", fdb("eth1"));
        let again = world.plan(&trunked()).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        world.teardown().await;
        assert!(!fdb("eth1").contains("02:00:00:00:01:02"), "{}", fdb("eth1"));
    });
}

#[test]
fn a_trunk_that_went_leaves_nothing_to_take_back() {
    isolated(async |world: &mut World| {
        make_eth1();
        world.converge(&trunked()).await;
        ip("link del eth1");
        let obstacles = world.plan(&trunked()).await.unwrap_err();
        assert!(matches!(&obstacles.0[..], [Obstacle::TrunkMissing { .. }]), "{obstacles}");
        make_eth1();
        world.datapath.outside.clear();
        world.converge(&trunked()).await;
        assert!(takes_all_multicast("eth1") && fdb("eth1").contains("02:00:00:00:01:02"));
        ip("link del eth1");
        world.teardown().await;
        assert!(world.state.groups.is_empty());
    });
}

#[test]
fn the_host_speaks_to_other_hosts_as_its_routes_say() {
    isolated(async |world: &mut World| {
        make_eth1();
        let desired = overlaid(Uplink::Device("eth1".to_owned()));
        world.converge(&desired).await;
        let eth1 = nix::net::if_::if_nametoindex("eth1").expect("eth1");
        let from = |address: [u8; 4]| Source { ifindex: eth1, address: address.into() };
        assert_eq!(
            world.located(&desired).await.segments["web"].sources,
            [(PEERS[0], from([192, 0, 2, 1]))].into()
        );
        ip("addr add 198.51.100.7/32 dev eth1");
        ip("route add 203.0.113.0/24 via 192.0.2.9 src 198.51.100.7");
        let sources = [(PEERS[0], from([192, 0, 2, 1])), (PEERS[1], from([198, 51, 100, 7]))];
        assert_eq!(world.located(&desired).await.segments["web"].sources, sources.into());
        ip("route add prohibit 203.0.113.9");
        assert_eq!(world.located(&desired).await.segments["web"].sources.len(), 1);
    });
}

#[test]
fn a_device_is_made_for_overlays_that_takes_any_and_has_no_address() {
    isolated(async |world: &mut World| {
        make_eth1();
        let desired = overlaid(Uplink::Device("eth1".to_owned()));
        world.converge(&desired).await;
        let again = world.plan(&desired).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        let shown = ip(&format!("-d link show {OVERLAY_DEVICE}"));
        for expected in [
            "vxlan external",
            "dstport 4789 nolearning",
            "udpcsum noudp6zerocsumtx noudp6zerocsumrx",
            "mtu 1400",
            "alias vnet:overlay:vxlan",
            "addrgenmode none",
            "group default",
            ",UP",
        ] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert_eq!(addresses("", OVERLAY_DEVICE), [] as [String; 0]);
        let located = world.located(&desired).await.segments["web"].clone();
        assert_eq!(world.datapath.outside, located.roles);
        let roles: Vec<_> = located.roles.iter().map(|(_, role)| *role).collect();
        assert_eq!(roles, [Role::Underlay, Role::Segment]);
        let is_closed = |call: &Call| matches!(call, Call::AttachedOutside { was_up: false });
        assert!(world.datapath.calls.iter().any(is_closed), "{:?}", world.datapath.calls);

        let mut wider = desired.clone();
        wider.networks.get_mut("web").unwrap().mtu = 8900;
        world.converge(&wider).await;
        assert!(ip(&format!("link show {OVERLAY_DEVICE}")).contains("mtu 8900"));
        world.teardown().await;
        assert!(!ip("link").contains(OVERLAY_DEVICE) && world.datapath.outside.is_empty());
    });
}

#[test]
fn who_receives_vxlan_already_is_in_the_way() {
    isolated(async |world: &mut World| {
        let desired = overlaid(Uplink::DefaultRoute);
        ip("link add vxlan7 type vxlan id 7 dstport 4789");
        let obstacles = world.plan(&desired).await.unwrap_err();
        assert!(
            obstacles.to_string().contains("vxlan7 already receives VXLAN at UDP port 4789"),
            "{obstacles}"
        );
        ip("link del vxlan7");
        let plan = world.plan(&desired).await.unwrap();
        let before = ip("link");
        // A socket of a device that has moved to another namespace, as overlays of container engines do.
        ip("netns add engine");
        ip("link add vxlan7 type vxlan id 7 dstport 4789");
        ip("link set vxlan7 netns engine");
        ip("-n engine link set vxlan7 up");
        let prepared = world.host.apply(&plan.prepare, &mut world.datapath).await.unwrap();
        let error = world.host.apply(&plan.finish, &mut world.datapath).await.unwrap_err();
        assert!(error.to_string().contains("UDP port 4789 must be free"), "{error}");
        assert!(world.host.undo(prepared, &mut world.datapath).await.is_empty());
        assert_eq!(ip("link"), before);
    });
}

#[test]
fn a_network_that_the_host_is_no_gateway_of_has_no_part_of_the_hosts_stack() {
    isolated(async |world: &mut World| {
        make_eth1();
        let mut bridged = trunked();
        bridged.networks.get_mut("web").unwrap().gateways.clear();
        world.converge(&bridged).await;
        let again = world.plan(&bridged).await.unwrap();
        assert!(again.is_empty(), "{:#?}", again.changes());
        let disabled = || std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        assert!(!disabled().contains("vnet-web") && ip("link show vnet-web").contains("NOARP"));
        assert_eq!(addresses("", "vnet-web"), [] as [String; 0]);

        world.converge(&trunked()).await;
        assert!(!ip("link show vnet-web").contains("NOARP"));
        assert_eq!(addresses("", "vnet-web").len(), 3);
        assert!(world.plan(&trunked()).await.unwrap().is_empty());
        world.converge(&bridged).await;
        assert_eq!(addresses("", "vnet-web"), [] as [String; 0]);
        assert!(world.plan(&bridged).await.unwrap().is_empty());
    });
}
