//! What somebody else changes comes back, and is told.

use std::{fs, path::Path, time::Duration};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::libc;
use vnet_ctl::{
    api::types::{EventKind, PortInfo},
    datapath::names::{self, Hook},
    host::monitor::Monitor,
};

use crate::{
    support::{ifindex, in_netns, ip, output},
    traffic::{Connection, connects, inside},
    world::{World, runtime, wait_until},
};

fn ip_in(netns: &str, arguments: &str) {
    ip(&format!("-n {netns} {arguments}"));
}

/// Whether what a command prints has these words.
fn prints(command: &str, words: &str) -> bool {
    output(command).contains(words)
}

fn wait_for_print(command: &str, words: &str) {
    wait_until(|| prints(command, words), || format!("{command} lacks {words}: {}", output(command)));
}

/// A running daemon, and its first port.
fn started<'a>(world: &mut World<'a>) -> PortInfo {
    world.start(world.options());
    world.get::<Vec<PortInfo>>("/v1/ports").remove(0)
}

/// Detaches a pinned link, as bpftool does.
pub(crate) fn detach(pin: &Path) {
    let bpftool = std::process::Command::new("bpftool").args(["link", "detach", "pinned"]).arg(pin).status();
    if bpftool.is_ok_and(|status| status.success()) {
        return;
    }
    let link = aya::programs::links::PinnedLink::from_pin(pin).unwrap();
    let id = aya::programs::links::FdLink::from(link).info().unwrap().id();
    let call = |command: bpf_cmd, word: u32| {
        // SAFETY: integers and addresses; all zero is a valid value.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        attr.link_detach.link_fd = word;
        // SAFETY: a whole `bpf_attr` of the size given, which holds no address.
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut attr, size_of::<bpf_attr>()) }
    };
    let fd = call(bpf_cmd::BPF_LINK_GET_FD_BY_ID, id);
    assert_eq!(call(bpf_cmd::BPF_LINK_DETACH, u32::try_from(fd).unwrap()), 0);
}

#[test]
fn a_deleted_bridge_comes_back_with_all_that_was_on_it() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let port = started(&mut world);
        let workload = port.addresses[0];
        let connection = Connection::open(&world.netns(2), &world.netns(1), workload);

        ip("link del vnet-web");

        world.wait_for_event(
            EventKind::Repaired,
            "bridge vnet-web of network web had been deleted: made again",
        );
        wait_for_print("ip addr show vnet-web", "10.10.0.1/24");
        wait_for_print(&format!("ip link show {}", port.device), "master vnet-web");
        wait_until(
            || {
                std::process::Command::new("ping")
                    .args(["-c1", "-W1", &workload.to_string()])
                    .output()
                    .unwrap()
                    .status
                    .success()
            },
            || "the host does not reach its workload".to_owned(),
        );
        let report = connection.close();
        assert!(report.words > 10, "{report:?}");
        assert!(world.events().iter().all(|event| event.kind != EventKind::Problem), "{:#?}", world.events());
    });
}

#[test]
fn addresses_and_routes_that_somebody_removed_come_back_and_what_they_added_stays() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let port = started(&mut world);
        let netns = world.netns(1);
        ip("addr add 192.0.2.1/32 dev vnet-web");
        ip_in(&netns, "addr add 192.0.2.2/32 dev eth0");

        ip("addr del 10.10.0.1/24 dev vnet-web");
        world.wait_for_event(
            EventKind::Repaired,
            "address 10.10.0.1/24 of vnet-web had been removed: set again",
        );
        ip(&format!("link set {} nomaster", port.device));
        world.wait_for_event(EventKind::Repaired, "had been taken off vnet-web: put back");
        ip(&format!("link set {} down", port.device));
        world.wait_for_event(EventKind::Repaired, "was down: brought up");
        ip_in(&netns, "route del default");
        world.wait_for_event(EventKind::Repaired, "the default route via 10.10.0.1 of eth0");
        ip_in(&netns, "addr flush dev eth0 scope global");
        world.wait_for_event(EventKind::Repaired, &format!("address {}/24 of eth0", port.addresses[0]));
        ip_in(&netns, "link set eth0 mtu 1300");
        world.wait_for_event(EventKind::Repaired, "the MTU of eth0");

        let inside = output(&format!("ip -n {netns} addr show eth0"));
        assert!(port.addresses.iter().all(|addr| inside.contains(&addr.to_string())), "{inside}");
        assert!(prints(&format!("ip -n {netns} route"), "default via 10.10.0.1"));
        assert!(prints(&format!("ip -n {netns} -6 route"), "default via fd00:10::1"));
        assert!(prints("ip addr show vnet-web", "192.0.2.1/32"), "what somebody added stays");
    });
}

#[test]
fn an_interface_that_its_workload_brought_down_stays_down_and_is_complete_when_it_is_up_again() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        started(&mut world);
        let netns = world.netns(1);

        ip_in(&netns, "link set eth0 down");
        ip("addr del 10.10.0.1/24 dev vnet-web");
        world.wait_for_event(EventKind::Repaired, "address 10.10.0.1/24");
        assert!(prints(&format!("ip -n {netns} link show eth0"), "state DOWN"));

        ip_in(&netns, "link set eth0 up");
        world.wait_for_event(EventKind::Repaired, "the default route via 10.10.0.1 of eth0");
        wait_for_print(&format!("ip -n {netns} -6 route"), "default via fd00:10::1");
    });
}

#[test]
fn a_namespace_that_was_removed_comes_back_with_its_port() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let port = started(&mut world);
        let netns = world.netns(1);

        ip(&format!("netns del {netns}"));

        world.wait_for_event(EventKind::Repaired, &format!("namespace {netns} had been removed: made again"));
        wait_for_print(&format!("ip -n {netns} addr show eth0"), &port.addresses[0].to_string());
        assert!(connects(&world.netns(2), &netns, port.addresses[0], 80));
    });
}

#[test]
fn detached_programs_and_removed_pins_come_back_under_their_connections() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        let port = started(&mut world);
        let pins = scratch.pins();
        let connection = Connection::open(&world.netns(2), &world.netns(1), port.addresses[0]);
        let (device, bridge) = (ifindex(&port.device), ifindex("vnet-web"));

        for hook in [Hook::FromPort, Hook::ToPort] {
            detach(&pins.link(device, hook));
            let words = format!("{hook} of port web-1 ({}) had been detached: attached again", port.device);
            world.wait_for_event(EventKind::Repaired, &words);
        }
        detach(&pins.link(bridge, Hook::FromHost));
        world.wait_for_event(EventKind::Repaired, "from_host of vnet-web had been detached: attached again");
        fs::remove_file(pins.link(device, Hook::FromPort)).unwrap();
        world.wait_for_event(EventKind::Repaired, "the pin of from_port of port web-1");
        fs::remove_file(pins.map(names::FLOWS4)).unwrap();
        world.wait_for_event(EventKind::Repaired, "the pin of the map FLOWS4 had been removed: pinned again");

        for pin in
            [pins.link(device, Hook::FromPort), pins.link(bridge, Hook::FromHost), pins.map(names::FLOWS4)]
        {
            assert!(pin.exists(), "{}", pin.display());
        }
        world.kill();
        let report = connection.close();
        assert!(report.words > 100, "{report:?}");
    });
}

#[test]
fn what_is_as_it_should_be_is_left_alone_in_silence() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        started(&mut world);
        let netns = world.netns(1);
        ip_in(&netns, "addr add 192.0.2.2/32 dev eth0");
        ip_in(&netns, "link add br0 type bridge");
        ip("link add br9 type bridge");
        ip("addr add 192.0.2.1/32 dev vnet-web");
        world.applied(&fs::read_to_string(world.policy_path()).unwrap().replace("[80]", "[80, 81]"));
        // Another change that is to be repaired shows that those before it have been looked at.
        ip("addr del 10.10.0.1/24 dev vnet-web");
        world.wait_for_event(EventKind::Repaired, "address 10.10.0.1/24");
        let repaired: Vec<_> =
            world.events().into_iter().filter(|event| event.kind != EventKind::Applied).collect();
        assert_eq!(repaired.len(), 1, "{repaired:#?}");
    });
}

#[test]
fn a_repair_that_fails_is_told_once_and_tried_again() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        started(&mut world);

        ip("link del vnet-web");
        ip("link add vnet-web type bridge");
        world.wait_for_event(EventKind::Problem, "vnet-web that is not vnet's");
        let problems = || world.events().iter().filter(|event| event.kind == EventKind::Problem).count();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(problems(), 1, "{:#?}", world.events());
        ip("link del vnet-web");

        world.wait_for_event(EventKind::Repaired, "the host is as it should be again");
        assert!(prints("ip addr show vnet-web", "10.10.0.1/24"));
    });
}

#[test]
fn more_changes_than_the_socket_holds_count_as_changes_everywhere() {
    in_netns(|_| {
        runtime().block_on(async {
            let mut monitor = Monitor::open(256).unwrap();
            for number in 0..50 {
                ip(&format!("link add br{number} type bridge"));
            }
            let overrun = async { while !monitor.next().await.unwrap().overrun {} };
            tokio::time::timeout(Duration::from_secs(5), overrun).await.unwrap();
        });
    });
}

#[test]
fn changes_are_told_by_place() {
    in_netns(|scratch| {
        let mut world = World::new(scratch);
        started(&mut world);
        let netns = world.netns(1);
        let bridge = ifindex("vnet-web");
        runtime().block_on(async {
            let mut monitor = Monitor::open(1 << 20).unwrap();
            ip("addr add 192.0.2.1/32 dev vnet-web");
            let here = async { while !monitor.next().await.unwrap().links.contains(&bridge) {} };
            tokio::time::timeout(Duration::from_secs(5), here).await.unwrap();
            inside(&netns, || ip("route add 192.0.2.0/24 dev eth0")).join().unwrap();
            let there = async { while monitor.next().await.unwrap().namespaces.is_empty() {} };
            tokio::time::timeout(Duration::from_secs(5), there).await.unwrap();
        });
    });
}
