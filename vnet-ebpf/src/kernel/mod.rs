//! Everything that touches the kernel: entry points, packet access, maps.
//!
//! An entry point reads the clock, runs the pipeline and turns its verdict into a tc action; a drop is
//! counted here, once.

mod apart;
mod expire;
mod linear;
mod maps;
mod skb;
mod snoop;
mod socket;
mod tables;
mod tunnel;
mod xdp;

use core::ptr;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_ktime_get_coarse_ns, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};
use vnet_common::{Delivery, DropReason, PortDropKey, mark, ticks_from_ns};
use vnet_ebpf::{
    pipeline::{self, Arrival},
    verdict::{Outcome, Verdict},
};

use self::{skb::Skb, tables::Kernel};

/// Runs the pipeline over a packet; if it is dropped, `answer` may send something else in its place.
#[inline(always)]
fn run(
    context: TcContext,
    entry: impl Fn(&mut Skb, &Kernel, Arrival) -> Outcome,
    answer: impl Fn(&Skb, Arrival, DropReason) -> Option<Verdict>,
) -> i32 {
    let mut skb = Skb::new(context);
    skb.make_headers_linear();
    let arrival = Arrival::at(skb.ifindex(), now());
    match entry(&mut skb, &Kernel, arrival) {
        Ok(verdict) => act(&skb, verdict),
        Err(reason) => {
            count_drop(arrival.device, reason);
            answer(&skb, arrival, reason).map_or(TC_ACT_SHOT, |verdict| act(&skb, verdict))
        }
    }
}

/// Of what leaves a bridge, to whomever, nobody is told.
#[inline(always)]
fn silence(_: &Skb, _: Arrival, _: DropReason) -> Option<Verdict> {
    None
}

/// Runs the pipeline over a packet that leaves a network's bridge, and takes its mark off.
#[inline(always)]
fn leave(context: TcContext, entry: impl Fn(&mut Skb, &Kernel, Arrival) -> Outcome) -> i32 {
    let skb = Skb::new(TcContext::new(context.skb.skb));
    if skb.take_decided() {
        return TC_ACT_UNSPEC;
    }
    let action = run(context, entry, silence);
    if action == TC_ACT_UNSPEC {
        skb.give_mark(0);
    }
    action
}

/// Runs the pipeline over a packet at a device that others use, too; what vnet itself sent there passes.
#[inline(always)]
fn shared(
    context: TcContext,
    entry: impl Fn(&mut Skb, &Kernel, Arrival) -> Outcome,
    answer: impl Fn(&Skb, Arrival, DropReason) -> Option<Verdict>,
) -> i32 {
    if Skb::new(TcContext::new(context.skb.skb)).take_decided() {
        return TC_ACT_UNSPEC;
    }
    run(context, entry, answer)
}

/// tc ingress of a port's device: what the workload sends.
#[classifier]
fn from_port(context: TcContext) -> i32 {
    run(context, pipeline::from_port, apart::answer)
}

/// tc egress of a network's bridge: what the host sends.
#[classifier]
fn from_host(context: TcContext) -> i32 {
    run(context, pipeline::from_host, silence)
}

/// tc egress of a port's device: what the bridge floods, and what vnet itself sends there.
#[classifier]
fn to_port(context: TcContext) -> i32 {
    leave(context, pipeline::to_port)
}

/// tc ingress of a network's bridge: what reaches the host's own stack, by the bridge or from vnet itself.
#[classifier]
fn to_host(context: TcContext) -> i32 {
    if Skb::new(TcContext::new(context.skb.skb)).is_own_echo() {
        return TC_ACT_UNSPEC;
    }
    leave(context, pipeline::to_host)
}

/// tc ingress of an uplink: what comes from outside.
#[classifier]
fn from_uplink(context: TcContext) -> i32 {
    run(context, pipeline::from_uplink, apart::answer_outside)
}

/// tc ingress of what carries networks' segments: trunks, bridged uplinks, vnet's VXLAN device.
#[classifier]
fn from_segment(context: TcContext) -> i32 {
    shared(context, pipeline::from_segment, apart::answer)
}

/// tc egress of a bridged uplink: what the host sends to the LAN that it shares with a network.
#[classifier]
fn to_segment(context: TcContext) -> i32 {
    shared(context, pipeline::to_segment, silence)
}

/// tc ingress of an overlay's uplink: what other hosts send.
#[classifier]
fn from_underlay(context: TcContext) -> i32 {
    run(context, pipeline::from_underlay, apart::answer)
}

/// Marks an expired flow; the controller runs it by `BPF_PROG_TEST_RUN`.
#[classifier]
fn expire(context: TcContext) -> i32 {
    expire::run(&context)
}

/// Ticks of the coarse monotonic clock.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: the helper takes no arguments and only reads the clock.
    ticks_from_ns(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The tc action of a verdict. `TC_ACT_UNSPEC` lets other programs on the device have their say.
#[inline(always)]
fn act(skb: &Skb, verdict: Verdict) -> i32 {
    match verdict.destination() {
        Some((device, delivery)) => send(skb, device, delivery),
        None if verdict.is_taken() => TC_ACT_SHOT,
        None => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
fn send(skb: &Skb, device: u32, delivery: Delivery) -> i32 {
    const INGRESS: u64 = aya_ebpf::bindings::BPF_F_INGRESS as u64;
    let action = match delivery {
        Delivery::Peer => {
            skb.accept();
            // SAFETY: the helper only records the device; this is a tc ingress program.
            unsafe { bpf_redirect_peer(device, 0) }
        }
        Delivery::Device => {
            skb.give_mark(mark::DECIDED);
            // SAFETY: the helper only records the device.
            unsafe { bpf_redirect(device, 0) }
        }
        Delivery::Host => {
            skb.give_mark(mark::DECIDED);
            // SAFETY: the helper only records the device.
            unsafe { bpf_redirect(device, INGRESS) }
        }
        Delivery::NextHop => {
            // SAFETY: the helper only records the device; without parameters it takes the packet's own route.
            unsafe { bpf_redirect_neigh(device, ptr::null_mut(), 0, 0) }
        }
        Delivery::Gateway => return skb.send_by_gateway(device),
        Delivery::Flood => {
            // SAFETY: the helper only records the device. The packet has its mark.
            unsafe { bpf_redirect(device, 0) }
        }
        // The pipeline has carried them out.
        Delivery::Link | Delivery::Beyond => return TC_ACT_SHOT,
    };
    action as i32
}

/// Counts a drop: in total, and for the device.
#[inline(always)]
fn count_drop(device: u32, reason: DropReason) {
    let number = reason.number();
    if let Some(total) = maps::DROPS.get_ptr_mut(number) {
        // SAFETY: the pointer is into this CPU's slot, which nobody else writes.
        unsafe { *total += 1 };
    }
    let key = PortDropKey { ifindex: device, reason: number };
    match maps::PORT_DROPS.get_ptr_mut(key) {
        // SAFETY: as above.
        Some(count) => unsafe { *count += 1 },
        // A full table loses the split by device; the total stays right.
        None => _ = maps::PORT_DROPS.insert(key, 1, 0),
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can reach this.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
