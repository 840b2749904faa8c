//! A frame before the kernel has made a socket buffer of it, and the program that sees it.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    macros::xdp,
    programs::XdpContext,
};
use vnet_common::DropReason;
use vnet_ebpf::{
    packet::{Buffer, Tag, Wire},
    pipeline::{self, Arrival},
};

use super::{count_drop, linear::Linear, now, tables::Kernel};

/// XDP on an uplink: what comes from outside. Of what `from_uplink` would drop, it drops what it can tell at once.
#[xdp]
fn uplink_xdp(context: XdpContext) -> u32 {
    let mut frame = Frame { context: context.ctx };
    let arrival = Arrival::at(frame.ifindex(), now());
    match pipeline::early(&frame, &Kernel, arrival) {
        Ok(_) => XDP_PASS,
        Err(reason) => {
            count_drop(arrival.device, reason);
            if reason == DropReason::SynChallenged { frame.challenge() } else { XDP_DROP }
        }
    }
}

/// A frame in a driver's memory.
struct Frame {
    context: *mut xdp_md,
}

impl Frame {
    /// The device that it arrived at.
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the context of an XDP program is valid for as long as it runs.
        unsafe { (*self.context).ingress_ifindex }
    }

    /// Sends a challenge back in its place. A function of its own for the stack's sake.
    #[inline(never)]
    fn challenge(&mut self) -> u32 {
        let Some(len) = pipeline::challenge_early(self, &Kernel) else { return XDP_DROP };
        let longer = len as i32 - self.length() as i32;
        // SAFETY: the context is valid; nobody holds an address in the frame.
        if unsafe { bpf_xdp_adjust_tail(self.context, longer) } == 0 { XDP_TX } else { XDP_DROP }
    }
}

impl Linear for Frame {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: as in `ifindex`.
        unsafe {
            (
                (&raw const (*self.context).data).read_volatile() as usize,
                (&raw const (*self.context).data_end).read_volatile() as usize,
            )
        }
    }
}

impl Buffer for Frame {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        (unsafe { bpf_xdp_get_buff_len(self.context) }) as u32
    }

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        self.fetch(offset)
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        self.store(offset, value)
    }

    /// A tag that the device has taken off is nowhere to be seen: see `vnet_ctl`, which attaches the program where none
    /// are.
    #[inline(always)]
    fn tag_beside(&self) -> Option<Tag> {
        None
    }

    /// Packets with options are left to others: they are rare.
    #[inline(always)]
    fn check_options(&self, _: usize, _: usize) -> Result<(), DropReason> {
        Err(DropReason::MalformedHeader)
    }
}
