//! Who sends at a port's device, at a network's bridge, and beyond its segment.

use vnet_common::{Address, Delivery, DropReason, Endpoint, MacPair, PortFlags, SnoopedKind, V4, V6};

use super::{Arrival, neighbours, segment as beyond};
use crate::{
    case::Case,
    headers::Service,
    packet::Packet,
    stages::{judge, neighbour::Speaker, route, segment, sender},
    tables::{Snapshot, Tables},
    verdict::{Outcome, Verdict},
};

/// Who may send at a hook, and what else than flows they may send there.
pub(super) trait Hook {
    /// Whether a fragment is held back until the first one of its datagram comes. The host sends that one first, and who is
    /// beyond a segment most often does.
    const HOLDS: bool;
    /// Whether what they send to many is limited.
    const HAS_BUDGET: bool;
    /// Whether tagged frames may be those of a port's further networks.
    const TAKES_TAGS: bool;

    /// The network that they send into.
    fn network<T: Tables>(snapshot: &Snapshot<'_, T>, arrival: Arrival) -> Result<u32, DropReason>;

    /// Who sends this frame.
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason>;

    /// Looks at a datagram before anything is decided.
    #[inline(always)]
    fn observe<A: Address, P: Packet, T: Tables>(
        _: &P,
        _: &Snapshot<'_, T>,
        _: &mut Case<A>,
    ) -> Result<(), DropReason> {
        Ok(())
    }

    /// Checks and fills in who sends the datagram; decides what is no unicast there and then, and leaves the rest open.
    fn sender<A: Address, P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome;

    /// An ARP packet.
    #[inline(always)]
    fn arp<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Outcome {
        neighbours::arp(packet, snapshot, (&Self::speaker(snapshot, arrival, macs)?, arrival.now))
    }

    /// An ICMPv6 discovery message.
    #[inline(always)]
    fn discovery<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        case: &mut Case<V6>,
    ) -> Outcome {
        let speaker = Self::speaker(snapshot, arrival, case.macs)?;
        neighbours::discovery(packet, snapshot, &speaker, case)
    }
}

/// A port's device: the workload behind it.
pub(super) struct Workload;

/// A network's bridge: the host.
pub(super) struct Host;

/// A link: whoever is beyond this host in the network.
pub(super) struct Beyond;

/// A bridged uplink: the host, on the LAN that it shares with a network.
pub(super) struct Shared;

impl Hook for Workload {
    const HOLDS: bool = true;
    const HAS_BUDGET: bool = true;
    const TAKES_TAGS: bool = true;

    #[inline(always)]
    fn network<T: Tables>(snapshot: &Snapshot<'_, T>, arrival: Arrival) -> Result<u32, DropReason> {
        Ok(snapshot.port(arrival.device)?.network)
    }

    #[inline(always)]
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason> {
        let port = snapshot.port(arrival.device)?;
        sender::check_mac(port, macs)?;
        Ok(Speaker::port(arrival.device, port))
    }

    /// In flows, too: each message to a DHCP server says anew who the client is, and may give an address back.
    #[inline(always)]
    fn observe<A: Address, P: Packet, T: Tables>(
        packet: &P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<(), DropReason> {
        if !sender::is_to_dhcp_server(&case.datagram) {
            return Ok(());
        }
        let port = snapshot.port(case.device)?;
        sender::check_client(packet, port, case)?;
        if port.flags.has(PortFlags::LEARNS) {
            case.network = port.network;
            beyond::tell_of(packet, snapshot, case, (port.mac, SnoopedKind::DhcpFromPort))?;
        }
        Ok(())
    }

    /// A function of its own in the kernel too, for the stack's sake.
    #[inline(never)]
    fn sender<A: Address, P: Packet, T: Tables>(
        _: &mut P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        let port = snapshot.port(case.device)?;
        sender::check_mac(port, case.macs)?;
        sender::check_role(&case.datagram)?;
        (case.network, case.gateway_mac) = (port.network, port.gateway_mac);
        if port.flags.has(PortFlags::NO_OVERLAY) {
            beyond::check_port(&case.datagram)?;
        }
        let is_dhcp_request = sender::is_dhcp_request(&case.datagram);
        if !is_dhcp_request || case.datagram.src.ip() != V4::default().ip() {
            case.from = *sender::check_address(*snapshot, port, case.device, &case.datagram)?;
        }
        let destination = case.datagram.dst.ip();
        if !segment::is_for_many(snapshot, case.network, (case.macs.dst(), destination))? {
            return Ok(Verdict::OPEN);
        }
        case.service = Service::of_packet(&case.datagram);
        if is_dhcp_request {
            if beyond::extends(snapshot, case.network)? {
                return Ok(Verdict::send(port.network, Delivery::Beyond));
            }
            judge::reaches_host(snapshot, case.network, &case.service)?;
            return Ok(Verdict::send(port.network, Delivery::Host));
        }
        judge::sends(snapshot, &case.service, port.group_set, snapshot.peer(destination))?;
        Ok(Verdict::PASS)
    }
}

impl Hook for Host {
    const HOLDS: bool = false;
    const HAS_BUDGET: bool = false;
    const TAKES_TAGS: bool = false;

    #[inline(always)]
    fn network<T: Tables>(_: &Snapshot<'_, T>, arrival: Arrival) -> Result<u32, DropReason> {
        Ok(arrival.device)
    }

    #[inline(always)]
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        _: MacPair,
    ) -> Result<Speaker, DropReason> {
        Ok(Speaker::host(arrival.device, snapshot.network(arrival.device)?))
    }

    /// As that of a workload.
    #[inline(never)]
    fn sender<A: Address, P: Packet, T: Tables>(
        _: &mut P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        let gateway_mac = snapshot.network(case.device)?.gateway_mac;
        (case.network, case.gateway_mac) = (case.device, gateway_mac);
        case.from = route::host(snapshot, case.network, gateway_mac, case.datagram.src.ip());
        if !case.datagram.dst.ip().is_multicast() {
            return Ok(Verdict::OPEN);
        }
        judge::host_may_speak(snapshot, case.network)?;
        Ok(Verdict::PASS)
    }
}

impl Hook for Beyond {
    const HOLDS: bool = false;
    const HAS_BUDGET: bool = false;
    const TAKES_TAGS: bool = false;

    #[inline(always)]
    fn network<T: Tables>(_: &Snapshot<'_, T>, arrival: Arrival) -> Result<u32, DropReason> {
        Ok(arrival.network)
    }

    #[inline(always)]
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason> {
        let Arrival { device, network, .. } = arrival;
        if segment::is_here(snapshot, (device, network), macs.src()) {
            return Err(DropReason::SpoofedMac);
        }
        Ok(Speaker { device, network, mac: macs.src() })
    }

    /// What DHCP gives to ports here, also when it only prolongs that.
    #[inline(always)]
    fn observe<A: Address, P: Packet, T: Tables>(
        packet: &P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<(), DropReason> {
        if segment::is_dhcp_reply(&case.datagram) {
            beyond::tell_of_dhcp(packet, snapshot, case)
        } else {
            Ok(())
        }
    }

    /// As that of a workload.
    #[inline(never)]
    fn sender<A: Address, P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        case.from = segment::sender(snapshot, case)?;
        case.gateway_mac = snapshot.network(case.network)?.gateway_mac;
        let to = case.macs.dst();
        beyond::hear(snapshot, case.network, case.macs.src(), case.heard);
        if to.is_multicast() {
            return Ok(Verdict::send(case.network, Delivery::Flood));
        }
        if segment::is_dhcp_reply(&case.datagram) {
            return beyond::to_station(packet, snapshot, case.network, to);
        }
        // Who is beyond has had the frame from its sender: it is not sent back.
        match snapshot.station(case.network, to) {
            Some(station) if station.device != case.device => Ok(Verdict::OPEN),
            _ => Err(DropReason::UnknownStation),
        }
    }

    #[inline(always)]
    fn arp<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Outcome {
        let speaker = Self::speaker(snapshot, arrival, macs)?;
        let verdict = neighbours::arp_beyond(packet, snapshot, (&speaker, arrival.heard), macs.dst())?;
        beyond::hear(snapshot, arrival.network, macs.src(), arrival.heard);
        Ok(verdict)
    }

    #[inline(always)]
    fn discovery<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        case: &mut Case<V6>,
    ) -> Outcome {
        let speaker = Self::speaker(snapshot, arrival, case.macs)?;
        let verdict = neighbours::discovery_beyond(packet, snapshot, (&speaker, arrival.heard), case)?;
        beyond::hear(snapshot, arrival.network, speaker.mac, arrival.heard);
        Ok(verdict)
    }
}

impl Hook for Shared {
    const HOLDS: bool = false;
    const HAS_BUDGET: bool = false;
    const TAKES_TAGS: bool = false;

    #[inline(always)]
    fn network<T: Tables>(_: &Snapshot<'_, T>, arrival: Arrival) -> Result<u32, DropReason> {
        Ok(arrival.network)
    }

    #[inline(always)]
    fn speaker<T: Tables>(
        _: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason> {
        Ok(Speaker { device: arrival.device, network: arrival.network, mac: macs.src() })
    }

    /// As that of a workload. What the host forwards is whoever's it is, and no more trusted than what comes by the LAN.
    #[inline(never)]
    fn sender<A: Address, P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        let (mac, identity) = (case.macs.src(), snapshot.peer(case.datagram.src.ip()));
        case.from = if packet.is_forwarded() {
            if snapshot.endpoint(case.network, case.datagram.src.ip()).is_some() {
                return Err(DropReason::SpoofedAddress);
            }
            Endpoint::behind_host(case.device, mac, identity)
        } else {
            Endpoint::gateway(case.device, mac, identity)
        };
        case.gateway_mac = snapshot.network(case.network)?.gateway_mac;
        Ok(Verdict::OPEN)
    }

    #[inline(always)]
    fn arp<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Outcome {
        to_port(packet, snapshot, arrival.network, macs)
    }

    #[inline(always)]
    fn discovery<P: Packet, T: Tables>(
        packet: &mut P,
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        case: &mut Case<V6>,
    ) -> Outcome {
        to_port(packet, snapshot, arrival.network, case.macs)
    }
}

/// What the host says to one neighbour: to the port that has the MAC. It cannot jump into a namespace from here.
#[inline(always)]
fn to_port<P: Packet, T: Tables>(
    packet: &mut P,
    snapshot: &Snapshot<'_, T>,
    network: u32,
    macs: MacPair,
) -> Outcome {
    let verdict = beyond::to_station(packet, snapshot, network, macs.dst())?;
    Ok(match verdict.destination() {
        Some((device, Delivery::Peer)) => Verdict::send(device, Delivery::Device),
        _ => verdict,
    })
}
