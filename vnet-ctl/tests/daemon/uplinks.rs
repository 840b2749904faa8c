//! Devices that networks leave by: attached to, followed, given back, and never configured.

use std::{collections::BTreeSet, fs, net::IpAddr, os::fd::AsRawFd as _, time::Duration};

use aya::{
    maps::{Array, HashMap, Map, MapData},
    programs::{SchedClassifier, TcAttachType},
};
use nix::sys::{
    socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
    },
    time::TimeVal,
};
use vnet_common::{Control, Exit, ExitKey, MacAddr, UplinkKey, UplinkRecord};
use vnet_ctl::{
    api::types::{EventKind, NetworkInfo},
    datapath::names::{self, Hook, Pins},
    host::{Announcement, Claim, Host, monitor::Monitor},
};

use crate::{
    repair::detach,
    support::{Scratch, ifindex, in_netns, ip, output},
    world::{World, policy, runtime, wait_until},
};

/// Makes a device that leads outside, up, with these addresses; its other end is `out-NAME`.
pub(crate) fn uplink(name: &str, addresses: &[&str]) {
    ip(&format!("link add {name} type veth peer name out-{name}"));
    for addr in addresses {
        let at_once = if addr.contains(':') { "nodad" } else { "" };
        ip(&format!("addr add {addr} dev {name} {at_once}"));
    }
    ip(&format!("link set {name} up"));
    ip(&format!("link set out-{name} up"));
    // Until then it drops what it is to send.
    let is_up = || output(&format!("ip link show {name}")).contains("state UP");
    wait_until(is_up, || format!("{name} does not come up"));
}

/// A world whose network leads outside.
fn leading<'a>(scratch: &'a Scratch) -> World<'a> {
    let world = World::new(scratch);
    fs::write(world.policy_path(), text(&world, "nat")).unwrap();
    world
}

pub(crate) fn text(world: &World<'_>, kind: &str) -> String {
    policy(&world.tag).replace("private", kind)
}

/// The programs of vnet on what comes in by a device.
fn programs(device: &str) -> Vec<String> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn is_attached(scratch: &Scratch, device: &str) -> bool {
    let is_pinned = scratch.pins().link(ifindex(device), Hook::FromUplink).exists();
    assert_eq!(is_pinned, programs(device) == [Hook::FromUplink.program()], "{:?}", programs(device));
    is_pinned
}

pub(crate) fn map(pins: &Pins, name: &str) -> Map {
    Map::from_map_data(MapData::from_pin(pins.map(name)).unwrap()).unwrap()
}

pub(crate) fn side(pins: &Pins) -> u32 {
    let control: Array<MapData, Control> = map(pins, names::CONTROL).try_into().unwrap();
    control.get(&0, 0).unwrap().generation & 1
}

/// The devices and addresses that packets leave by and with, as the datapath reads them.
pub(crate) fn exits(scratch: &Scratch) -> BTreeSet<(u32, IpAddr)> {
    let pins = scratch.pins();
    let (side, table) = (side(&pins), map(&pins, names::EXITS));
    let table: HashMap<MapData, ExitKey, Exit> = table.try_into().unwrap();
    let entries = table.iter().map(Result::unwrap).filter(|(key, _)| key.side == side);
    entries.map(|(_, exit)| (exit.uplink, exit.addr.to_std())).collect()
}

/// The uplinks that the datapath knows, with their MACs.
fn uplinks(scratch: &Scratch) -> Vec<(u32, MacAddr)> {
    records(scratch).into_iter().map(|(ifindex, record)| (ifindex, record.mac)).collect()
}

/// What the datapath knows of uplinks.
fn records(scratch: &Scratch) -> Vec<(u32, UplinkRecord)> {
    let pins = scratch.pins();
    let (side, table) = (side(&pins), map(&pins, names::UPLINKS));
    let table: HashMap<MapData, UplinkKey, UplinkRecord> = table.try_into().unwrap();
    let entries = table.iter().map(Result::unwrap).filter(|(key, _)| key.side == side);
    entries.map(|(key, record)| (key.ifindex, record)).collect()
}

pub(crate) fn wait_for_exits(scratch: &Scratch, expected: &[(&str, &str)]) {
    let expected: BTreeSet<(u32, IpAddr)> =
        expected.iter().map(|(device, addr)| (ifindex(device), addr.parse().unwrap())).collect();
    wait_until(|| exits(scratch) == expected, || format!("{:?} is not {expected:?}", exits(scratch)));
}

pub(crate) fn problems(world: &World<'_>) -> Vec<String> {
    let events = world.events().into_iter().filter(|event| event.kind == EventKind::Problem);
    events.map(|event| event.message).collect()
}

#[test]
fn a_network_leaves_by_the_default_route_until_it_leads_outside_no_more() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24", "2001:db8::2/64"]);
        ip("route add default via 198.51.100.1");
        let before = (output("ip addr show up0 scope global"), output("ip route"));
        let mut world = leading(scratch);
        world.start(world.options());

        assert!(is_attached(scratch, "up0") && programs("out-up0").is_empty());
        wait_for_exits(scratch, &[("up0", "198.51.100.2"), ("up0", "2001:db8::2")]);
        let network = world.get::<Vec<NetworkInfo>>("/v1/networks").remove(0);
        assert_eq!(network.uplink.as_deref(), Some("up0"));
        let addresses: Vec<_> = network.exit_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["198.51.100.2", "2001:db8::2"]);

        let changes = world.applied(&text(&world, "private")).changes;
        assert!(changes.contains(&"detach from uplink up0".to_owned()), "{changes:?}");
        assert!(!is_attached(scratch, "up0") && exits(scratch).is_empty());
        let changes = world.applied(&text(&world, "nat")).changes;
        assert!(changes.contains(&"attach to uplink up0".to_owned()), "{changes:?}");
        assert!(is_attached(scratch, "up0"));

        assert!(world.teardown().problems.is_empty());
        world.kill();
        assert!(programs("up0").is_empty());
        let routes = output("ip route");
        assert_eq!(
            (output("ip addr show up0 scope global"), routes),
            before,
            "somebody else's device is left as it was"
        );
        ip("link del up0");
        world.assert_nothing_left();
    });
}

#[test]
fn another_mtu_of_the_uplink_is_followed() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        ip("route add default dev up0");
        let mut world = leading(scratch);
        world.start(world.options());
        let mtus = || records(scratch).into_iter().map(|(_, record)| record.mtu).collect::<Vec<_>>();
        assert_eq!(mtus(), [1500]);
        ip("link set up0 mtu 1400");
        world.wait_for_event(
            EventKind::Followed,
            "the MTU of up0 is now 1400 bytes: networks web leave with it",
        );
        assert_eq!(mtus(), [1400]);
    });
}

#[test]
fn another_address_of_the_uplink_is_followed() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        ip("route add default dev up0");
        let mut world = leading(scratch);
        world.start(world.options());
        wait_for_exits(scratch, &[("up0", "198.51.100.2")]);

        // A second address changes nothing.
        ip("addr add 203.0.113.7/24 dev up0");
        ip("addr del 198.51.100.2/24 dev up0");
        world.wait_for_event(
            EventKind::Followed,
            "the address of up0 is now 203.0.113.7: networks web leave with it",
        );
        wait_for_exits(scratch, &[("up0", "203.0.113.7")]);
        ip("addr add 2001:db8::2/64 dev up0 nodad");
        world.wait_for_event(EventKind::Followed, "the address of up0 is now 2001:db8::2");
        ip("link set up0 address 02:00:00:00:00:99");
        world.wait_for_event(EventKind::Followed, "the MAC of up0 is now 02:00:00:00:00:99");
        assert_eq!(uplinks(scratch), [(ifindex("up0"), MacAddr([2, 0, 0, 0, 0, 0x99]))]);
        ip("-6 route add default dev up0");
        ip("-4 addr flush dev up0");
        world.wait_for_event(EventKind::Problem, "up0 has no IPv4 address any more");
        wait_for_exits(scratch, &[("up0", "2001:db8::2")]);
        assert!(is_attached(scratch, "up0"));
    });
}

#[test]
fn another_default_route_is_followed() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        uplink("up1", &["203.0.113.2/24"]);
        ip("route add default via 198.51.100.1 metric 100");
        let mut world = leading(scratch);
        world.start(world.options());
        assert!(is_attached(scratch, "up0") && !is_attached(scratch, "up1"));

        ip("route add default via 203.0.113.1 metric 50");
        world.wait_for_event(EventKind::Followed, "the way out is up1 now: networks web leave with it");
        wait_for_exits(scratch, &[("up1", "203.0.113.2")]);
        wait_until(|| !is_attached(scratch, "up0"), || "it is still attached to up0".to_owned());
        assert!(is_attached(scratch, "up1"));

        ip("link set up1 down");
        wait_for_exits(scratch, &[("up0", "198.51.100.2")]);
        ip("route del default");
        world.wait_for_event(EventKind::Problem, "the way out by up0 is gone: what networks web send there");
        wait_until(|| !is_attached(scratch, "up0"), || "it is still attached to up0".to_owned());
        assert!(exits(scratch).is_empty());
    });
}

#[test]
fn a_way_out_that_comes_later_is_taken() {
    in_netns(|scratch| {
        let mut world = leading(scratch);
        world.start(world.options());
        assert!(exits(scratch).is_empty() && problems(&world).is_empty(), "{:?}", problems(&world));

        uplink("up0", &["198.51.100.2/24"]);
        ip("route add default nexthop via 198.51.100.1 nexthop via 198.51.100.9");

        world.wait_for_event(EventKind::Followed, "the way out is up0 now");
        wait_for_exits(scratch, &[("up0", "198.51.100.2")]);
        assert!(is_attached(scratch, "up0"));
        ip("link del up0");
        world.wait_for_event(EventKind::Problem, "the way out by up0 is gone");
        wait_for_exits(scratch, &[]);
        assert_eq!(fs::read_dir(scratch.pins().links()).unwrap().count(), 6, "the other programs' alone");
    });
}

#[test]
fn a_restart_takes_over_and_follows_what_changed_meanwhile() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        uplink("up1", &["203.0.113.2/24"]);
        ip("route add default via 198.51.100.1 metric 100");
        let mut world = leading(scratch);
        world.start(world.options());
        let generation = side(&scratch.pins());
        let link = fs::metadata(scratch.pins().link(ifindex("up0"), Hook::FromUplink)).unwrap();
        world.kill();
        assert!(is_attached(scratch, "up0"), "it outlives the daemon");

        world.start(world.options());
        assert_eq!(side(&scratch.pins()), generation, "nothing changed");
        let again = fs::metadata(scratch.pins().link(ifindex("up0"), Hook::FromUplink)).unwrap();
        assert_eq!(link.modified().unwrap(), again.modified().unwrap(), "the same pin");

        world.kill();
        ip("route add default via 203.0.113.1 metric 50");
        world.start(world.options());
        wait_for_exits(scratch, &[("up1", "203.0.113.2")]);
        assert!(is_attached(scratch, "up1") && !is_attached(scratch, "up0"));
    });
}

#[test]
fn a_program_that_somebody_detached_comes_back() {
    in_netns(|scratch| {
        uplink("up0", &["198.51.100.2/24"]);
        ip("route add default dev up0");
        let mut world = leading(scratch);
        world.start(world.options());

        detach(&scratch.pins().link(ifindex("up0"), Hook::FromUplink));

        world.wait_for_event(EventKind::Repaired, "from_uplink of up0 had been detached: attached again");
        assert!(is_attached(scratch, "up0"));
        assert!(output("ip link show up0").contains("state UP"), "it is never brought down");
    });
}

#[test]
fn a_way_out_that_is_no_ethernet_is_told_and_not_taken() {
    in_netns(|scratch| {
        ip("tuntap add tun0 mode tun");
        ip("addr add 198.51.100.2/24 dev tun0");
        ip("link set tun0 up");
        ip("route add default dev tun0");
        let mut world = leading(scratch);
        world.start(world.options());
        world.applied(&text(&world, "private"));
        let warnings = world.applied(&text(&world, "nat")).warnings;
        assert!(warnings.iter().any(|told| told.contains("tun0, no Ethernet device")), "{warnings:?}");
        assert!(exits(scratch).is_empty() && programs("tun0").is_empty());
    });
}

#[test]
fn changes_of_addresses_and_default_routes_are_told_as_such() {
    in_netns(|_| {
        uplink("up0", &["198.51.100.2/24"]);
        runtime().block_on(async {
            let mut monitor = Monitor::open(1 << 20).unwrap();
            ip("route add 203.0.113.0/24 dev up0");
            let route = async { monitor.next().await.unwrap() };
            let route = tokio::time::timeout(Duration::from_secs(5), route).await.unwrap();
            assert!(!route.addresses && !route.default_routes, "{route:?}");
            ip("addr add 198.51.100.3/32 dev up0");
            let addr = async { while !monitor.next().await.unwrap().addresses {} };
            tokio::time::timeout(Duration::from_secs(5), addr).await.unwrap();
            ip("route add default nexthop dev up0 nexthop dev lo");
            let default_route = async { while !monitor.next().await.unwrap().default_routes {} };
            tokio::time::timeout(Duration::from_secs(5), default_route).await.unwrap();
        });
    });
}

#[test]
fn an_address_is_announced_beyond_its_uplink() {
    in_netns(|_| {
        uplink("up0", &[]);
        let flags = SockFlag::SOCK_CLOEXEC;
        let neighbour = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&neighbour, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        let claims = ["198.51.100.20", "2001:db8::20"].map(|addr| Announcement {
            claim: Claim { bridge: ifindex("up0"), addr: addr.parse().unwrap(), mac },
            listeners: vec![ifindex("up0")],
        });

        runtime().block_on(async { Host::open().unwrap().announce(&claims).await.unwrap() });

        let mut buffer = [0; 2048];
        let mut hear = |words: &[u8]| {
            // The socket hears what the kernel itself sends as well, and every device.
            while let Ok((len, Some(from))) = recvfrom::<LinkAddr>(neighbour.as_raw_fd(), &mut buffer) {
                let is_there = from.ifindex() == ifindex("out-up0") as usize;
                let frame = &buffer[..len];
                if is_there && frame[6..12] == mac.0 && frame.windows(words.len()).any(|part| part == words) {
                    return;
                }
            }
            panic!("not announced: {words:?}");
        };
        hear(&[&mac.0[..], &[198, 51, 100, 20]].concat());
        hear(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20]);
    });
}
