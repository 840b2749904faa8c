//! Numbers that spread flows over the backends of a list: made of what stays the same for as long as a flow, or a
//! client, is to go to the same backend.
//!
//! They are no secret. Who chooses ports so as to meet one backend meets one that everybody meets.

use vnet_common::{Ip, SocketAddress};

/// A number each bit of which depends on all bits of both: the finaliser of MurmurHash3 (A. Appleby, public domain).
#[inline(always)]
const fn mix(number: u32, word: u32) -> u32 {
    let mut mixed = number ^ word;
    mixed ^= mixed >> 16;
    mixed = mixed.wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// The host, whichever of its addresses a socket has in the end.
pub const HOST: u32 = client(Ip::UNSPECIFIED);

/// A client: the same for all that it asks for.
#[inline(always)]
#[must_use]
pub const fn client(addr: Ip) -> u32 {
    mix(0, addr.digest())
}

/// A flow of [`client`]'s from one port to another of `listen`.
#[inline(always)]
#[must_use]
pub const fn flow(client: u32, (from, to): (u16, u16), listen: Ip, protocol: u8) -> u32 {
    mix(mix(client, ((from as u32) << 16) | to as u32), listen.digest() ^ protocol as u32)
}

/// All that a socket of the host's with `cookie` sends to `asked`.
#[inline(always)]
#[must_use]
pub const fn socket(cookie: u64, asked: SocketAddress) -> u32 {
    let socket = mix(mix(HOST, cookie as u32), (cookie >> 32) as u32);
    mix(mix(socket, asked.port as u32), asked.addr.digest())
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use vnet_common::Forward;

    use super::*;

    const SLOTS: u16 = 251;

    /// How often the slots are met, the rarest and the most frequent, by numbers of which 100 fall on each.
    fn extremes(numbers: impl Iterator<Item = u32>) -> (u32, u32) {
        let list = Forward::list(1, SLOTS, false);
        let mut met = [0; SLOTS as usize];
        for number in numbers.take(100 * usize::from(SLOTS)) {
            met[usize::from(list.slot(number))] += 1;
        }
        (met.into_iter().min().unwrap(), met.into_iter().max().unwrap())
    }

    fn v4(number: u32) -> Ip {
        Ip::from_std(Ipv4Addr::from(0x0a00_0000 + number).into())
    }

    fn v6(number: u32) -> Ip {
        Ip::from_std(Ipv6Addr::new(0x2001, 0xdb8, (number >> 16) as u16, number as u16, 0, 0, 0, 1).into())
    }

    #[test]
    fn neighbouring_clients_and_flows_are_spread_evenly() {
        let asked = SocketAddress::new(v4(1), 80);
        let flows = |of: Ip| {
            (0..).map(move |n: u32| {
                flow(client(of), ((n % 60_000) as u16, 80 + (n / 60_000) as u16), v4(1), 6)
            })
        };
        // Six standard deviations of a Poisson distribution around 100 on either side.
        for (what, (rarest, most)) in [
            ("IPv4 clients", extremes((0..).map(|n| client(v4(n))))),
            ("networks of IPv4 clients", extremes((0..).map(|n| client(v4(n << 8))))),
            ("IPv6 clients", extremes((0..).map(|n| client(v6(n))))),
            ("flows of an IPv4 client", extremes(flows(v4(7)))),
            ("flows of an IPv6 client", extremes(flows(v6(7)))),
            ("sockets", extremes((0..).map(|n| socket(n, asked)))),
        ] {
            assert!(rarest >= 40 && most <= 160, "{what}: {rarest} to {most}");
        }
    }

    #[test]
    fn all_that_tells_flows_apart_counts() {
        let of = client(v4(1));
        let all = [
            of,
            flow(of, (1, 2), v4(2), 6),
            flow(of, (2, 1), v4(2), 6),
            flow(of, (1, 2), v4(3), 6),
            flow(of, (1, 2), v4(2), 17),
            flow(client(v4(2)), (1, 2), v4(2), 6),
            socket(1, SocketAddress::new(v4(2), 80)),
            socket(1 << 32, SocketAddress::new(v4(2), 80)),
            socket(1, SocketAddress::new(v4(2), 81)),
            socket(1, SocketAddress::new(v4(3), 80)),
        ];
        for (index, number) in all.iter().enumerate() {
            assert!(!all[..index].contains(number), "{index}");
        }
    }
}
