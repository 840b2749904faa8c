//! Programs at the root of the control groups: they tell sockets of the host's processes whom they really speak to,
//! and the processes whom they asked for. Sockets in other network namespaces are left alone.

use core::ptr::{from_mut, from_ref};

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use vnet_common::{Address as _, Be16, Ip, SocketAddress, SocketKey, V4};
use vnet_ebpf::pipeline::socket::{self, Destination};

use super::{maps, tables::Kernel};

/// The system call goes on.
const ALLOW: i32 = 1;
/// The system call fails with EPERM.
const REFUSE: i32 = 0;

/// Where the context of a socket of an address family has its peer's address.
trait Family {
    fn read(context: &bpf_sock_addr) -> Ip;
    fn write(context: &mut bpf_sock_addr, addr: Ip);
}

struct Inet;
struct Inet6;

impl Family for Inet {
    #[inline(always)]
    fn read(context: &bpf_sock_addr) -> Ip {
        V4::from_octets(context.user_ip4.to_ne_bytes()).ip()
    }

    #[inline(always)]
    fn write(context: &mut bpf_sock_addr, addr: Ip) {
        context.user_ip4 = addr.words()[3];
    }
}

impl Family for Inet6 {
    #[inline(always)]
    fn read(context: &bpf_sock_addr) -> Ip {
        // Volatile, word by word: the verifier allows no wider access, and LLVM would make two words of four.
        // SAFETY: references to words of the context.
        Ip::from_words(context.user_ip6.each_ref().map(|word| unsafe { from_ref(word).read_volatile() }))
    }

    #[inline(always)]
    fn write(context: &mut bpf_sock_addr, addr: Ip) {
        for (to, word) in context.user_ip6.iter_mut().zip(addr.words()) {
            // SAFETY: as in `read`.
            unsafe { from_mut(to).write_volatile(word) };
        }
    }
}

/// The context, if its socket is one of the host's own namespace.
#[inline(always)]
fn of_host(context: &mut SockAddrContext) -> Option<&mut bpf_sock_addr> {
    let host = maps::HOST.get(0)?;
    // SAFETY: the context is valid while the program runs.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: as above, and this is the one reference to it.
    (*host != 0 && cookie == *host).then(|| unsafe { &mut *context.sock_addr })
}

#[inline(always)]
fn cookie(context: &SockAddrContext) -> u64 {
    // SAFETY: as in `of_host`.
    unsafe { bpf_get_socket_cookie(context.as_ptr()) }
}

#[inline(always)]
fn peer<F: Family>(context: &bpf_sock_addr) -> SocketAddress {
    SocketAddress::new(F::read(context), u16::from_be(context.user_port as u16))
}

#[inline(always)]
fn set_peer<F: Family>(context: &mut bpf_sock_addr, peer: SocketAddress) {
    F::write(context, peer.addr);
    context.user_port = u32::from(Be16::new(peer.port).to_ne());
}

/// A process tells its socket whom to speak to.
#[inline(always)]
fn ask<F: Family>(context: &mut SockAddrContext) -> i32 {
    let cookie = cookie(context);
    let Some(sock_addr) = of_host(context) else { return ALLOW };
    let asked = peer::<F>(sock_addr);
    match socket::destination(&Kernel, asked, sock_addr.protocol as u8, cookie) {
        Destination::Itself => ALLOW,
        Destination::Workload(target) => {
            set_peer::<F>(sock_addr, target);
            // If there is no room, the process sees the workload's own address.
            _ = maps::SOCKETS.insert(SocketKey::new(cookie, target), asked, 0);
            ALLOW
        }
        Destination::Closed => REFUSE,
    }
}

/// A process asks whom its socket speaks to, or who sent what it receives.
#[inline(always)]
fn tell<F: Family>(context: &mut SockAddrContext) -> i32 {
    let cookie = cookie(context);
    let Some(sock_addr) = of_host(context) else { return ALLOW };
    let key = SocketKey::new(cookie, peer::<F>(sock_addr));
    // SAFETY: it is copied at once; what an element holds that is used anew meanwhile is another socket's.
    if let Some(asked) = unsafe { maps::SOCKETS.get(key) } {
        set_peer::<F>(sock_addr, *asked);
    }
    ALLOW
}

macro_rules! programs {
    ($($name:ident: $attach:ident, $work:ident::<$family:ident>;)+) => {$(
        #[cgroup_sock_addr($attach)]
        fn $name(mut context: SockAddrContext) -> i32 {
            $work::<$family>(&mut context)
        }
    )+};
}

programs! {
    host_connect4: connect4, ask::<Inet>;
    host_connect6: connect6, ask::<Inet6>;
    host_sendmsg4: sendmsg4, ask::<Inet>;
    host_sendmsg6: sendmsg6, ask::<Inet6>;
    host_recvmsg4: recvmsg4, tell::<Inet>;
    host_recvmsg6: recvmsg6, tell::<Inet6>;
    host_peername4: getpeername4, tell::<Inet>;
    host_peername6: getpeername6, tell::<Inet6>;
}
