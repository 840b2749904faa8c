//! Announcements: that an address has a new owner, told to those who may remember the old one, and to an uplink's
//! neighbours that an address is behind it.
//!
//! The datapath answers all questions for neighbours itself, so nobody hears the newcomer ask, from which
//! they would learn on a wire. Workloads are told by a packet on their own device, which is the datapath's
//! to let through; the host's own neighbour table is corrected by netlink. Who is told what is the caller's
//! to decide.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use futures_util::TryStreamExt as _;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, setsockopt, socket,
        sockopt,
    },
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use vnet_common::{MacAddr, mark};

use super::{
    Host,
    links::{is_errno, kernel},
};

/// Who has an address now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The bridge of the network in which it is one's own, or the uplink behind which it is known.
    pub bridge: u32,
    /// The address.
    pub addr: IpAddr,
    /// Its owner's MAC.
    pub mac: MacAddr,
}

/// A claim, and whom to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What is told.
    pub claim: Claim,
    /// The host-side devices of the ports that are told, or the uplink whose neighbours are. The host itself always is.
    pub listeners: Vec<u32>,
}

impl Host {
    /// Makes announcements. A workload that cannot be told (its device is down, its queue full) finds out by
    /// itself when its own memory expires.
    ///
    /// # Errors
    /// When the kernel does not let the host speak, or its neighbour table cannot be read or changed.
    pub async fn announce(&self, announcements: &[Announcement]) -> Result<()> {
        if announcements.is_empty() {
            return Ok(());
        }
        self.forget(announcements).await.context("correct the host's neighbour table")?;
        self.tell(announcements)
    }

    /// Makes announcements of which the host itself knows.
    ///
    /// # Errors
    /// When the kernel does not let the host speak.
    pub fn tell(&self, announcements: &[Announcement]) -> Result<()> {
        if announcements.is_empty() {
            return Ok(());
        }
        let socket = packet_socket().context("open a packet socket")?;
        for Announcement { claim, listeners } in announcements {
            let frame = frame(claim).context("build an announcement")?;
            for listener in listeners {
                if let Err(error) = send(&socket, *listener, &frame) {
                    tracing::debug!("tell device {listener} who has {}: {error}", claim.addr);
                }
            }
        }
        Ok(())
    }

    /// Removes what the host remembers of addresses that others have now; it asks again.
    async fn forget(&self, announcements: &[Announcement]) -> Result<()> {
        let request = self.netlink.neighbours().get().execute();
        let entries: Vec<NeighbourMessage> = request.try_collect().await.map_err(kernel)?;
        let is_stale = |entry: &&NeighbourMessage| {
            announcements.iter().any(|announcement| contradicts(entry, &announcement.claim))
        };
        for entry in entries.iter().filter(is_stale) {
            match self.netlink.neighbours().del(entry.clone()).execute().await {
                Err(error) if !is_errno(&error, Errno::ENOENT) => return Err(kernel(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether the kernel learnt something else than `claim`. What a person entered is theirs.
fn contradicts(entry: &NeighbourMessage, claim: &Claim) -> bool {
    let (mut is_its_address, mut is_its_mac) = (false, false);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => {
                is_its_address = claim.addr == IpAddr::V4(*addr);
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => {
                is_its_address = claim.addr == IpAddr::V6(*addr);
            }
            NeighbourAttribute::LinkLayerAddress(mac) => is_its_mac = *mac == claim.mac.0,
            _ => {}
        }
    }
    let is_permanent = entry.header.state == NeighbourState::Permanent;
    entry.header.ifindex == claim.bridge && is_its_address && !is_its_mac && !is_permanent
}

/// The frame that announces `claim`.
fn frame(claim: &Claim) -> Result<Vec<u8>> {
    match claim.addr {
        IpAddr::V4(addr) => arp_announcement(addr, claim.mac),
        IpAddr::V6(addr) => unsolicited_advertisement(addr, claim.mac),
    }
}

/// RFC 5227 section 3: a request in which sender and target are the same.
fn arp_announcement(addr: Ipv4Addr, mac: MacAddr) -> Result<Vec<u8>> {
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac.0,
        &addr.octets(),
        &[0; 6],
        &addr.octets(),
    )?;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.0, MacAddr::BROADCAST.0).arp(arp).write(&mut frame)?;
    Ok(frame)
}

/// RFC 4861 section 7.2.6: an advertisement to all nodes that overrides what they remember.
fn unsolicited_advertisement(addr: Ipv6Addr, mac: MacAddr) -> Result<Vec<u8>> {
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_ADDRESS: u8 = 2;
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let mut body = addr.octets().to_vec();
    body.extend([TARGET_LINK_ADDRESS, 1]);
    body.extend(mac.0);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.0, ALL_NODES_MAC)
        .ipv6(addr.octets(), ALL_NODES.octets(), 255)
        .icmpv6_raw(ADVERTISEMENT, 0, [OVERRIDE, 0, 0, 0])
        .write(&mut frame, &body)?;
    Ok(frame)
}

/// A socket that sends whole frames, with the mark by which the datapath lets them pass, and receives none.
fn packet_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    setsockopt(&socket, sockopt::Mark, &mark::DECIDED)?;
    Ok(socket)
}

fn send(socket: &OwnedFd, ifindex: u32, frame: &[u8]) -> nix::Result<()> {
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(ifindex).map_err(|_| Errno::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&to) as libc::socklen_t;
    // SAFETY: the pointer leads to a whole sockaddr_ll of `len` bytes that lives until the call has copied
    // it, and its family is AF_PACKET.
    let to = unsafe { LinkAddr::from_raw((&raw const to).cast(), Some(len)) }.ok_or(Errno::EINVAL)?;
    sendto(socket.as_raw_fd(), frame, &to, MsgFlags::empty()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);

    #[test]
    fn an_ipv4_address_is_announced_by_a_question_for_oneself() {
        let frame = arp_announcement(Ipv4Addr::new(10, 0, 0, 2), MAC).unwrap();
        assert_eq!((&frame[..6], &frame[6..12]), (&[0xff; 6][..], &MAC.0[..]));
        let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&frame).unwrap().net else {
            panic!("not ARP: {frame:?}")
        };
        assert_eq!(arp.operation(), ArpOperation::REQUEST);
        assert_eq!((arp.sender_hw_addr(), arp.sender_protocol_addr()), (&MAC.0[..], &[10, 0, 0, 2][..]));
        assert_eq!(arp.target_protocol_addr(), [10, 0, 0, 2]);
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_overriding_advertisement() {
        let addr: Ipv6Addr = "fd00::a".parse().unwrap();
        let frame = unsolicited_advertisement(addr, MAC).unwrap();
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ipv6)) = &packet.net else { panic!("not IPv6: {packet:?}") };
        let (src, dst) = (ipv6.header().source(), ipv6.header().destination());
        assert_eq!((src, ipv6.header().hop_limit()), (addr.octets(), 255));
        let Some(TransportSlice::Icmpv6(message)) = &packet.transport else {
            panic!("not ICMPv6: {packet:?}")
        };
        assert!(message.is_checksum_valid(src, dst));
        assert_eq!((message.type_u8(), message.code_u8()), (136, 0));
        assert_eq!(message.bytes5to8(), [0x20, 0, 0, 0]);
        assert_eq!(message.payload(), [&addr.octets()[..], &[2, 1], &MAC.0[..]].concat());
    }

    #[test]
    fn only_what_was_learnt_wrongly_is_forgotten() {
        let claim = Claim { bridge: 3, addr: [10, 0, 0, 2].into(), mac: MAC };
        let entry = |ifindex, mac: [u8; 6], state| {
            let mut entry = NeighbourMessage::default();
            (entry.header.ifindex, entry.header.state) = (ifindex, state);
            entry.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 2))),
                NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
            ];
            entry
        };
        assert!(contradicts(&entry(3, [2; 6], NeighbourState::Stale), &claim));
        assert!(!contradicts(&entry(3, MAC.0, NeighbourState::Stale), &claim));
        assert!(!contradicts(&entry(4, [2; 6], NeighbourState::Stale), &claim));
        assert!(!contradicts(&entry(3, [2; 6], NeighbourState::Permanent), &claim));
    }
}
