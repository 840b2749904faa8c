//! A packet's tunnel, as the kernel's VXLAN device tells it, and is told; and room for the headers of one.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
};
use vnet_common::{Be16, DropReason, Ip};
use vnet_ebpf::{
    headers::{ETHERNET_LEN, ether_type},
    packet::{ENCAPSULATION_LEN, Tunnel},
    rewrite::TTL,
};

/// The first fields of `struct bpf_tunnel_key` (`linux/bpf.h`), which every kernel knows.
#[repr(C)]
#[derive(Default)]
struct Key {
    /// In the host's byte order.
    id: u32,
    /// IPv4: the first word, in the host's byte order. IPv6: as it stands in a header.
    remote: [u32; 4],
    tos: u8,
    ttl: u8,
    padding: u16,
}

/// Bytes of a key without the padding: the size that the helpers take for one without what follows.
const KEY_LEN: u32 = 22;
/// An IPv4 address among IPv6 ones (RFC 4291 section 2.5.5.2): its third word.
const MAPPED: u32 = 0xffff_u32.to_be();

/// Out of which tunnel the packet came; nothing if out of none.
#[inline(always)]
pub(super) fn left(skb: *mut __sk_buff) -> Option<Tunnel> {
    let mut key = Key::default();
    // SAFETY: the context is valid, and the helper writes that many bytes of the key.
    let get = |key: &mut Key, flags: u32| unsafe {
        bpf_skb_get_tunnel_key(skb, core::ptr::from_mut(key).cast(), KEY_LEN, flags.into())
    };
    if get(&mut key, 0) == 0 {
        let [addr, ..] = key.remote;
        return Some(Tunnel { vni: key.id, remote: Ip::from_words([0, 0, MAPPED, addr.to_be()]) });
    }
    (get(&mut key, BPF_F_TUNINFO_IPV6) == 0)
        .then(|| Tunnel { vni: key.id, remote: Ip::from_words(key.remote) })
}

/// Says into which tunnel the packet goes. A function of its own for the stack's sake.
#[inline(always)]
pub(super) fn enter(skb: *mut __sk_buff, tunnel: Tunnel) -> Result<(), DropReason> {
    let mut key = Key { id: tunnel.vni, ttl: TTL, ..Key::default() };
    // IPv4 needs no checksum around what has its own (RFC 7348 section 5), IPv6 does (RFC 8200 section 8.1).
    let flags = if tunnel.remote.is_v4() {
        let [.., addr] = tunnel.remote.words();
        key.remote = [u32::from_be(addr), 0, 0, 0];
        BPF_F_ZERO_CSUM_TX
    } else {
        key.remote = tunnel.remote.words();
        BPF_F_TUNINFO_IPV6
    };
    // SAFETY: the context is valid, and the helper reads that many bytes of the key.
    let result =
        unsafe { bpf_skb_set_tunnel_key(skb, core::ptr::from_mut(&mut key).cast(), KEY_LEN, flags.into()) };
    if result == 0 { Ok(()) } else { Err(DropReason::Internal) }
}

/// Makes room for an overlay's headers. The kernel then knows where those inside are, and cuts what is to be segmented.
#[inline(always)]
pub(super) fn encapsulate(skb: *mut __sk_buff) -> bool {
    /// `BPF_F_ADJ_ROOM_ENCAP_L2`: the length of the inner Ethernet header, and that it is one (Linux 5.14).
    const INNER_ETHERNET: u64 = (ETHERNET_LEN as u64) << 56 | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64;
    const FLAGS: u64 = INNER_ETHERNET
        | (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP) as u64;
    // SAFETY: the context is valid, and nobody holds an address in the packet.
    unsafe { bpf_skb_adjust_room(skb, ENCAPSULATION_LEN as i32, BPF_ADJ_ROOM_MAC, FLAGS) == 0 }
}

/// Takes it away. What is inside may be of another IP version than what is around it (Linux 6.3).
#[inline(always)]
pub(super) fn decapsulate(skb: *mut __sk_buff, carries: Be16) -> bool {
    let flags = if carries.get() == ether_type::IPV6 { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 } else { 0 };
    // SAFETY: as above.
    unsafe { bpf_skb_adjust_room(skb, -(ENCAPSULATION_LEN as i32), BPF_ADJ_ROOM_MAC, flags.into()) == 0 }
}
