//! Which of vnet's programs on a device sees a packet first.

use aya::programs::{SchedClassifier, TcAttachType};
use vnet_ctl::datapath::{Capacity, Datapath, names::Hook};

use crate::{
    repair::detach,
    support::{ifindex, in_netns, ip},
};

const IN_ORDER: [Hook; 3] = [Hook::FromSegment, Hook::FromUnderlay, Hook::FromUplink];

fn programs(device: &str) -> Vec<String> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
}

/// The names of `hooks` as the kernel has them, which keeps fifteen characters.
fn names(hooks: &[Hook]) -> Vec<&str> {
    hooks.iter().map(|hook| hook.program()).collect()
}

#[test]
fn what_a_device_leads_to_is_asked_in_one_order_whichever_program_came_first() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for (number, order) in orders.into_iter().enumerate() {
            let device = format!("eth{number}");
            ip(&format!("link add {device} type veth peer name out{number}"));
            for hook in order.map(|place| IN_ORDER[place]) {
                datapath.attach_outside(ifindex(&device), hook).unwrap();
            }
            assert_eq!(programs(&device), names(&IN_ORDER), "attached as {order:?}");
        }
    });
}

#[test]
fn a_program_that_somebody_detached_comes_back_in_its_place() {
    in_netns(|scratch| {
        let mut datapath = Datapath::open(&scratch.pins(), Capacity::DECLARED).unwrap();
        ip("link add eth0 type veth peer name out0");
        let eth0 = ifindex("eth0");
        for hook in IN_ORDER {
            datapath.attach_outside(eth0, hook).unwrap();
        }
        for hook in IN_ORDER {
            detach(&scratch.pins().link(eth0, hook));
            assert_eq!(programs("eth0").len(), 2);
            assert!(datapath.look_after().unwrap().is_empty());
            assert_eq!(programs("eth0"), names(&IN_ORDER), "{hook}");
        }
        let kept = [(eth0, Hook::FromSegment), (eth0, Hook::ToSegment)];
        datapath.attach_outside(eth0, Hook::ToSegment).unwrap();
        datapath.retain_devices(&[].into(), &kept.into()).unwrap();
        assert_eq!(programs("eth0"), names(&IN_ORDER[..1]));
        assert_eq!(datapath.attached(), kept.into());
    });
}
