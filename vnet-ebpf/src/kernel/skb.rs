//! A socket buffer as a packet of the pipeline.

use core::ptr::NonNull;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail},
    programs::TcContext,
};
use network_types::eth::EtherType;
use vnet_common::{DropReason, mark};
use vnet_ebpf::packet::{Change, ChangeKind, Packet, Wire};

/// Highest offset of a header: what the parser can reach without passing a limit of its own.
const MAX_OFFSET: usize = 0x3fff;

/// `pkt_type` of a packet that is addressed to this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
/// `pkt_type` of a copy of what the host sent to many, for the host itself. No frame arrives with it.
const PACKET_LOOPBACK: u32 = 5;

/// A socket buffer in a tc program.
pub(super) struct Skb {
    context: TcContext,
}

impl Skb {
    #[inline(always)]
    pub(super) const fn new(context: TcContext) -> Self {
        Self { context }
    }

    /// The device whose hook runs.
    #[inline(always)]
    pub(super) fn ifindex(&self) -> u32 {
        // SAFETY: the context of a tc program is a valid __sk_buff for as long as it runs.
        unsafe { (*self.context.skb.skb).ifindex }
    }

    /// Pulls the headers into the linear part of the buffer if they are not there.
    ///
    /// The kernel's own stacks, taps and drivers put all headers there; a raw socket may leave them in
    /// pages. What lies beyond the linear part reads as truncated.
    #[inline(always)]
    pub(super) fn make_headers_linear(&mut self) {
        /// Ethernet, IPv4 and TCP, all without options: the linear part of a local TCP segment is not
        /// much longer.
        const LEAST: usize = 54;
        /// The same for IPv6.
        const LEAST_IPV6: usize = 74;
        /// Ethernet, and extension headers or a quoted packet.
        const ENOUGH: u32 = 256;
        let (data, end) = self.bounds();
        let len = self.context.len();
        // SAFETY: as in `ifindex`.
        let protocol = unsafe { (*self.context.skb.skb).protocol };
        let least = if protocol == u32::from(EtherType::Ipv6 as u16) { LEAST_IPV6 } else { LEAST };
        if end - data < least && end - data < len as usize {
            // If it fails, the parser finds the packet truncated.
            _ = self.context.pull_data(if len < ENOUGH { len } else { ENOUGH });
        }
    }

    /// Gives the packet a mark.
    #[inline(always)]
    pub(super) fn give_mark(&self, mark: u32) {
        self.context.set_mark(mark);
    }

    /// Whether vnet has decided it; takes the mark off.
    #[inline(always)]
    pub(super) fn take_decided(&self) -> bool {
        let decided = self.own_mark() == mark::DECIDED;
        if decided {
            self.give_mark(0);
        }
        decided
    }

    #[inline(always)]
    fn own_mark(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.context.skb.skb).mark }
    }

    /// Whether the host made the packet and hands a copy of it to itself.
    #[inline(always)]
    pub(super) fn is_own_echo(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.context.skb.skb).pkt_type == PACKET_LOOPBACK }
    }

    /// Makes the receiving stack accept the packet: it was addressed to another MAC than the device's
    /// when it arrived here, and `bpf_redirect_peer` does not look again.
    #[inline(always)]
    pub(super) fn accept(&self) {
        // SAFETY: as in `ifindex`.
        if unsafe { (*self.context.skb.skb).pkt_type } != PACKET_HOST {
            // It fails only for types that no unicast packet has; the stack then drops it.
            _ = self.context.change_type(PACKET_HOST);
        }
    }

    /// The context of the program.
    #[inline(always)]
    pub(super) const fn as_ptr(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }

    /// Where the linear part begins and ends.
    ///
    /// Volatile, for LLVM would otherwise prove a check from an earlier one that the verifier no longer
    /// remembers: "invalid access to packet, R3 offset is outside of the packet" (6.18, `from_host`).
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let skb = self.context.skb.skb;
        // SAFETY: as in `ifindex`.
        unsafe {
            (
                (&raw const (*skb).data).read_volatile() as usize,
                (&raw const (*skb).data_end).read_volatile() as usize,
            )
        }
    }

    /// The address of `size_of::<T>()` readable and writable bytes at `offset`: the one bounds check.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        if offset > MAX_OFFSET {
            return None;
        }
        let (data, end) = self.bounds();
        let start = data + offset;
        if start + size_of::<T>() > end {
            return None;
        }
        NonNull::new(start as *mut T)
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn segment_payload(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.context.skb.skb).gso_size }
    }

    /// The first helper makes the whole packet linear and drops what its segments and the sum that the device gave for
    /// it (`CHECKSUM_COMPLETE`) say, the latter only if the length changes: so it changes twice.
    #[inline(always)]
    fn reshape(&mut self, kept: u32, room: u32) -> Result<(), DropReason> {
        let skb = self.context.skb.skb;
        if kept > self.context.len() {
            return Err(DropReason::Truncated);
        }
        // SAFETY: the context is valid; the helpers check the lengths. Nobody holds an address in the packet: each
        // access asks for the bounds anew.
        let result = unsafe {
            bpf_skb_change_tail(skb, kept + 1, 0)
                | bpf_skb_change_tail(skb, kept, 0)
                | bpf_skb_adjust_room(skb, room as i32, BPF_ADJ_ROOM_MAC, 0)
        };
        if result == 0 { Ok(()) } else { Err(DropReason::Internal) }
    }

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        let Some(from) = self.at::<T>(offset) else { return Err(DropReason::Truncated) };
        // SAFETY: `at` has checked the bounds, and any bytes are a `T: Wire`. The address need not be aligned
        // as `T` is: the kernel takes words at any address of a packet, on every architecture that can do
        // it (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`), and its verifier refuses the program elsewhere.
        // `read_unaligned` would make LLVM fetch single bytes.
        Ok(unsafe { from.as_ptr().read() })
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        let Some(to) = self.at::<T>(offset) else { return Err(DropReason::Truncated) };
        // SAFETY: `at` has checked the bounds, and as in `read`.
        unsafe { to.as_ptr().write(value) };
        Ok(())
    }

    #[inline(always)]
    fn update_checksum(&mut self, offset: usize, change: Change) -> Result<(), DropReason> {
        let pseudo = match change.kind {
            ChangeKind::Covered => 0,
            ChangeKind::Pseudo => u64::from(BPF_F_PSEUDO_HDR),
        };
        // Size 0: the change is given as a sum.
        let flags = pseudo | if change.is_udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // SAFETY: the context is valid; the helper checks the offset.
        let result =
            unsafe { bpf_l4_csum_replace(self.context.skb.skb, offset as u32, 0, change.sum.into(), flags) };
        if result == 0 { Ok(()) } else { Err(DropReason::Truncated) }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.context.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn is_forwarded(&self) -> bool {
        // SAFETY: as in `ifindex`. Packets that the host makes itself came in nowhere.
        unsafe { (*self.context.skb.skb).ingress_ifindex != 0 }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        self.own_mark()
    }

    #[inline(always)]
    fn set_mark(&mut self, mark: u32) {
        self.context.set_mark(mark);
    }
}
