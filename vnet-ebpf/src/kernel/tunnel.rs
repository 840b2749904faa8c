//! A packet's tunnel, as the kernel's VXLAN device tells it, and is told.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX},
    helpers::generated::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
};
use vnet_common::{DropReason, Ip};
use vnet_ebpf::packet::Tunnel;

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
/// Hops that an outer packet may take (RFC 1700: the recommended default).
const TTL: u8 = 64;
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
