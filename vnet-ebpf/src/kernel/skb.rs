//! A socket buffer as a packet of the pipeline.

use core::{cell::Cell, ptr};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_get_hash_recalc, bpf_get_prandom_u32, bpf_l4_csum_replace,
        bpf_redirect_neigh, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_adjust_room, bpf_skb_change_tail,
        bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
    programs::TcContext,
};
use network_types::eth::EtherType;
use vnet_common::{Address, Be16, Delivery, DropReason, MacAddr, Snooped, Tuple, limits, mark};
use vnet_ebpf::{
    case::Case,
    packet::{Buffer, Change, ChangeKind, Packet, Tag, Tunnel, Wire},
    stages::{follow::Followed, parse::Version, segment::Came},
    tables::{FlowTable, Snapshot, Tables},
    verdict::Outcome,
};

use super::{apart, linear::Linear, snoop, tunnel};

/// Keeps the checksum right that a device has given for the whole packet (`CHECKSUM_COMPLETE`).
const RECOMPUTE: u64 = BPF_F_RECOMPUTE_CSUM as u64;

/// `pkt_type` of a packet that is addressed to this host (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
/// `pkt_type` of a copy of what the host sent to many, for the host itself. No frame arrives with it.
const PACKET_LOOPBACK: u32 = 5;

/// A next hop (`struct bpf_redir_neigh`, `linux/bpf.h`).
#[repr(C)]
struct RedirectNeighbour {
    family: u32,
    addr: [u32; 4],
}

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

    /// Sends it out of `device` to the router that the first words of the frame tell; the tc action. The kernel finds
    /// the router's MAC, and writes it. A function of its own for the stack's sake.
    #[inline(never)]
    pub(super) fn send_by_gateway(&self, device: u32) -> i32 {
        const INET: u32 = 2;
        const INET6: u32 = 10;
        const LINK_LOCAL: u32 = 0xfe80_0000_u32.to_be();
        let Some(words) = self.at::<[u32; 2]>(0) else { return TC_ACT_SHOT };
        // SAFETY: `at` has checked the bounds.
        let [first, second] = unsafe { words.as_ptr().read() };
        // SAFETY: as in `ifindex`.
        let is_ipv4 = unsafe { (*self.context.skb.skb).protocol } == u32::from(EtherType::Ipv4 as u16);
        let mut next_hop = RedirectNeighbour { family: INET, addr: [first, 0, 0, 0] };
        if !is_ipv4 {
            next_hop = RedirectNeighbour { family: INET6, addr: [LINK_LOCAL, 0, first, second] };
        }
        let len = size_of::<RedirectNeighbour>() as i32;
        // SAFETY: the structure has the layout that the helper expects, which copies it.
        (unsafe { bpf_redirect_neigh(device, (&raw mut next_hop).cast(), len, 0) }) as i32
    }

    /// The context of the program.
    #[inline(always)]
    pub(super) const fn as_ptr(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }
}

impl Linear for Skb {
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
}

impl Buffer for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        self.fetch(offset)
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        self.store(offset, value)
    }

    #[inline(always)]
    fn tag_beside(&self) -> Option<Tag> {
        let skb = self.context.skb.skb;
        // SAFETY: as in `ifindex`.
        unsafe {
            if (*skb).vlan_present == 0 {
                return None;
            }
            let protocol = u16::from_be((*skb).vlan_proto as u16);
            Some(Tag { protocol, control: (*skb).vlan_tci as u16 })
        }
    }

    #[inline(always)]
    fn check_options(&self, offset: usize, end: usize) -> Result<(), DropReason> {
        apart::check_options(self.context.skb.skb, offset, end)
    }
}

impl Packet for Skb {
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
    fn pop_tag(&mut self) -> Result<(), DropReason> {
        // SAFETY: the context is valid; nobody holds an address in the packet.
        let result = unsafe { bpf_skb_vlan_pop(self.context.skb.skb) };
        if result == 0 { Ok(()) } else { Err(DropReason::Truncated) }
    }

    #[inline(always)]
    fn push_tag(&mut self, tag: Tag) -> Result<(), DropReason> {
        // SAFETY: as in `pop_tag`.
        let result = unsafe { bpf_skb_vlan_push(self.context.skb.skb, tag.protocol.to_be(), tag.control) };
        if result == 0 { Ok(()) } else { Err(DropReason::Internal) }
    }

    #[inline(always)]
    fn priority(&self) -> u16 {
        // SAFETY: as in `ifindex`.
        (unsafe { (*self.context.skb.skb).priority } & 7) as u16
    }

    #[inline(always)]
    fn set_priority(&mut self, priority: u16) {
        // SAFETY: as in `ifindex`; programs may write the field.
        unsafe { (*self.context.skb.skb).priority = priority.into() };
    }

    #[inline(always)]
    fn tunnel(&self) -> Option<Tunnel> {
        tunnel::left(self.context.skb.skb)
    }

    #[inline(always)]
    fn enter_tunnel(&mut self, tunnel: Tunnel) -> Result<(), DropReason> {
        tunnel::enter(self.context.skb.skb, tunnel)
    }

    #[inline(always)]
    fn encapsulate(&mut self) -> bool {
        tunnel::encapsulate(self.context.skb.skb)
    }

    #[inline(always)]
    fn decapsulate(&mut self, ether_type: Be16) -> bool {
        tunnel::decapsulate(self.context.skb.skb, ether_type)
    }

    #[inline(always)]
    fn entropy(&mut self) -> (u32, u32) {
        // SAFETY: the context is valid.
        unsafe { (bpf_get_hash_recalc(self.context.skb.skb), bpf_get_prandom_u32()) }
    }

    #[inline(always)]
    fn copy_to(&mut self, device: u32, delivery: Delivery) {
        let flags = if matches!(delivery, Delivery::Host) { u64::from(BPF_F_INGRESS) } else { 0 };
        // SAFETY: the context is valid.
        _ = unsafe { bpf_clone_redirect(self.context.skb.skb, device, flags) };
    }

    #[inline(always)]
    fn tell(&self, message: &Snooped, offset: usize) {
        _ = snoop::message(self.context.skb.skb, message, offset as u32);
    }

    #[inline(always)]
    fn came<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason> {
        apart::came(self.context.skb.skb, device, snapshot.generation)
    }

    #[inline(always)]
    fn came_encapsulated<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason> {
        apart::came_encapsulated(self.context.skb.skb, device, snapshot.generation)
    }

    #[inline(always)]
    fn spread<T: Tables>(&mut self, snapshot: &Snapshot<'_, T>, network: u32, except: u32) {
        apart::spread(self.context.skb.skb, network, except, snapshot.generation);
    }

    #[inline(always)]
    fn spread_by<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        network: u32,
        except: u32,
        index: u32,
    ) -> bool {
        apart::vnet_spread_by(self.context.skb.skb, network, except, index, snapshot.generation) != 0
    }

    #[inline(always)]
    fn is_forwarded(&self) -> bool {
        // SAFETY: as in `ifindex`. Packets that the host makes itself came in nowhere.
        unsafe { (*self.context.skb.skb).ingress_ifindex != 0 }
    }

    #[inline(always)]
    fn check_link_options(&self, offset: usize, end: usize, mac: MacAddr) -> Result<(), DropReason> {
        apart::check_link_options(self.context.skb.skb, offset, end, mac)
    }

    #[inline(always)]
    fn unicast<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        apart::unicast(self.context.skb.skb, case, snapshot.generation)
    }

    #[inline(always)]
    fn carry_on<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        apart::carry_on(self.context.skb.skb, case, snapshot.generation)
    }

    #[inline(always)]
    fn follow<A: Address, T: Tables>(
        &mut self,
        _: &T,
        case: &mut Case<A>,
        may_hold: bool,
    ) -> Result<Followed, DropReason> {
        apart::follow(self.context.skb.skb, case, may_hold)
    }

    #[inline(always)]
    fn is_awaited<A: Address>(&self, tuple: &Tuple<A>) -> bool {
        /// The namespace of the device.
        const OWN_NAMESPACE: u64 = u64::MAX;
        /// `BPF_TCP_ESTABLISHED`: connected, of whatever protocol.
        const CONNECTED: u32 = 1;
        // A `Tuple` has the layout of `struct bpf_sock_tuple` of its version.
        let (tuple, len) = (ptr::from_ref(tuple).cast_mut().cast(), size_of::<Tuple<A>>() as u32);
        // SAFETY: the context is valid, and the helper reads `len` bytes of the tuple.
        let socket = unsafe { bpf_sk_lookup_udp(self.context.skb.skb.cast(), tuple, len, OWN_NAMESPACE, 0) };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the helper has given a reference, which is given back here.
        unsafe {
            let is_connected = (*socket).state == CONNECTED;
            bpf_sk_release(socket.cast());
            is_connected
        }
    }

    #[inline(always)]
    fn save(&self, frame: &[Cell<u8>; limits::HELD_BYTES]) -> bool {
        let len = self.context.len();
        if len == 0 || len > limits::HELD_BYTES as u32 {
            return false;
        }
        // SAFETY: the frame has room for `len` bytes, and is a map's, which programs may write.
        unsafe {
            bpf_skb_load_bytes(self.context.skb.skb.cast(), 0, frame.as_ptr().cast_mut().cast(), len) == 0
        }
    }

    #[inline(always)]
    fn become_frame(&mut self, frame: &[Cell<u8>; limits::HELD_BYTES], len: u32) -> bool {
        if len == 0 || len > limits::HELD_BYTES as u32 {
            return false;
        }
        // SAFETY: the context is valid, and the frame has `len` bytes.
        unsafe {
            bpf_skb_change_tail(self.context.skb.skb, len, 0) == 0
                && bpf_skb_store_bytes(self.context.skb.skb, 0, frame.as_ptr().cast(), len, RECOMPUTE) == 0
        }
    }

    #[inline(always)]
    fn arrive_again(&mut self, device: u32) {
        const INGRESS: u64 = BPF_F_INGRESS as u64;
        self.give_mark(mark::AGAIN);
        // If it fails, the packet is lost as any may be. SAFETY: the context is valid.
        _ = unsafe { bpf_clone_redirect(self.context.skb.skb, device, INGRESS) };
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
