//! A look at a wire for as long as a test lasts: the IP packets that it picks, and how many there were.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::{Namespace, raw::RawSocket};

/// What waits for a watcher that does not get the processor.
const ROOM: usize = 64 << 20;
/// Between two looks at whether to end.
const PAUSE: Duration = Duration::from_millis(20);

/// An IP packet on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it says it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// The protocol of its payload.
    pub protocol: u8,
    /// Source and destination port, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// The whole frame.
    pub frame: Vec<u8>,
}

impl Packet {
    /// The IP packet in `frame`, if it has one.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let parsed = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let (src, dst, protocol): (IpAddr, IpAddr, _) = match parsed.net? {
            LaxNetSlice::Ipv4(ipv4) => {
                let header = ipv4.header();
                (header.source_addr().into(), header.destination_addr().into(), ipv4.payload().ip_number)
            }
            LaxNetSlice::Ipv6(ipv6) => {
                let header = ipv6.header();
                (header.source_addr().into(), header.destination_addr().into(), ipv6.payload().ip_number)
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let ports = match parsed.transport {
            Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
            Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
            _ => None,
        };
        Some(Self { src, dst, protocol: protocol.0, ports, frame: frame.to_owned() })
    }

    /// Whether it carries the bytes of `address` anywhere, in a quoted packet too.
    #[must_use]
    pub fn mentions(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.frame.windows(4).any(|bytes| bytes == v4.octets()),
            IpAddr::V6(v6) => self.frame.windows(16).any(|bytes| bytes == v6.octets()),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, protocol, ports, frame } = self;
        let len = frame.len();
        match ports {
            Some((from, to)) => {
                write!(out, "{src} port {from} to {dst} port {to}, protocol {protocol}, {len} bytes")
            }
            None => write!(out, "{src} to {dst}, protocol {protocol}, {len} bytes"),
        }
    }
}

/// Whether `address` is one that means nothing outside: of private use (RFC 1918, RFC 4193), shared
/// (RFC 6598), of the link of IPv4 (RFC 3927), or this machine's own.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    let within = |v4: Ipv4Addr| v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_shared(v4);
    match address {
        IpAddr::V4(v4) => within(v4),
        IpAddr::V6(v6) => v6.is_unique_local() || v6 == Ipv6Addr::LOCALHOST,
    }
}

fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 0x40
}

/// Looks at a wire until [`Watch::finish`].
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a [`Watch`] saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many IP packets there were.
    pub packets: u64,
    /// Those that were picked.
    pub picked: Vec<Packet>,
}

impl Watch {
    /// Looks at `interface` of `namespace`, in both directions, and keeps what `wanted` picks.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        wanted: impl Fn(&Packet) -> bool + Send + 'static,
    ) -> Self {
        let socket = RawSocket::open(namespace, interface);
        socket.make_room(ROOM);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || look(&socket, &stop, wanted))
        };
        Self { stop, thread }
    }

    /// Looks for private source addresses on the router's side of the host's wire.
    ///
    /// # Panics
    /// When the world has no outside.
    #[must_use]
    pub fn for_leaks(router: &Namespace) -> Self {
        Self::start(router, "h0", |packet| is_private(packet.src))
    }

    /// Ends it, once all that has arrived was looked at.
    ///
    /// # Panics
    /// When its thread did.
    #[must_use]
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the watcher")
    }

    /// Ends it, and asserts that there were packets and that none of them was picked.
    ///
    /// # Panics
    /// With those that were.
    #[track_caller]
    pub fn assert_none(self) {
        let seen = self.finish();
        assert!(seen.packets > 0, "a wire without a packet tells nothing");
        seen.assert_none();
    }
}

impl Seen {
    /// Asserts that nothing was picked, though there may have been no packet at all.
    ///
    /// # Panics
    /// With what was.
    #[track_caller]
    pub fn assert_none(&self) {
        let Self { packets, picked } = self;
        let lines: Vec<String> = picked.iter().take(20).map(ToString::to_string).collect();
        assert!(picked.is_empty(), "{} of {packets} packets:\n{}", picked.len(), lines.join("\n"));
    }
}

fn look(socket: &RawSocket, stop: &AtomicBool, wanted: impl Fn(&Packet) -> bool) -> Seen {
    let mut seen = Seen::default();
    loop {
        let last = stop.load(Ordering::Acquire);
        if !last && !socket.wait(PAUSE) {
            continue;
        }
        for packet in socket.pending().filter_map(|frame| Packet::parse(&frame)) {
            seen.packets += 1;
            if wanted(&packet) {
                seen.picked.push(packet);
            }
        }
        if last {
            return seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Eth, MacAddr, udp4, udp6};

    const ETH: Eth = Eth::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));

    #[test]
    fn packets_of_both_versions_are_read() {
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(203, 0, 113, 5)];
        let packet = Packet::parse(&udp4(ETH, (a, 1), (b, 2), b"x")).expect("an IPv4 packet");
        assert_eq!((packet.src, packet.dst, packet.ports), (a.into(), b.into(), Some((1, 2))));
        assert!(packet.mentions(a.into()) && !packet.mentions(Ipv4Addr::new(10, 0, 0, 2).into()));
        let [a, b] = [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED];
        let packet = Packet::parse(&udp6(ETH, (a, 3), (b, 4), b"x")).expect("an IPv6 packet");
        assert_eq!((packet.src, packet.protocol, packet.ports), (a.into(), 17, Some((3, 4))));
    }

    #[test]
    fn private_addresses_are_known() {
        for private in ["10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "fd00::1"] {
            assert!(is_private(private.parse().expect("an address")), "{private}");
        }
        for public in ["198.51.100.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "fe80::1"] {
            assert!(!is_private(public.parse().expect("an address")), "{public}");
        }
    }
}
