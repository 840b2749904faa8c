//! Who sends at a port's device and at a network's bridge.

use vnet_common::{Address, Delivery, DropReason, MacPair, V4};

use super::Arrival;
use crate::{
    case::Case,
    headers::Service,
    stages::{judge, neighbour::Speaker, route, sender},
    tables::{Snapshot, Tables},
    verdict::Verdict,
};

/// Who may send at a hook, and what else than flows they may send there.
pub(super) trait Hook {
    /// Whether a fragment is held back until the first one of its datagram comes. The host sends that one first.
    const HOLDS: bool;

    /// Who sends this frame.
    fn speaker<T: Tables>(
        snapshot: &Snapshot<'_, T>,
        arrival: Arrival,
        macs: MacPair,
    ) -> Result<Speaker, DropReason>;

    /// Checks and fills in who sends the datagram; decides what is no unicast there and then.
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason>;
}

/// A port's device: the workload behind it.
pub(super) struct Workload;

/// A network's bridge: the host.
pub(super) struct Host;

impl Hook for Workload {
    const HOLDS: bool = true;

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

    /// A function of its own in the kernel too, for the stack's sake.
    #[inline(never)]
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason> {
        let port = snapshot.port(case.device)?;
        sender::check_mac(port, case.macs)?;
        sender::check_role(&case.datagram)?;
        let is_dhcp_request = sender::is_dhcp_request(&case.datagram);
        if !is_dhcp_request || case.datagram.src.ip() != V4::default().ip() {
            case.from = *sender::check_address(*snapshot, port, case.device, &case.datagram)?;
        }
        (case.network, case.gateway_mac) = (port.network, port.gateway_mac);
        let destination = case.datagram.dst.ip();
        if !destination.is_multicast() {
            return Ok(None);
        }
        case.service = Service::of_packet(&case.datagram);
        if is_dhcp_request {
            judge::reaches_host(snapshot, case.network, &case.service)?;
            return Ok(Some(Verdict::send(port.network, Delivery::Host)));
        }
        judge::sends(snapshot, &case.service, port.group_set, snapshot.peer(destination))?;
        Ok(Some(Verdict::PASS))
    }
}

impl Hook for Host {
    const HOLDS: bool = false;

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
    fn sender<A: Address, T: Tables>(
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Result<Option<Verdict>, DropReason> {
        let gateway_mac = snapshot.network(case.device)?.gateway_mac;
        (case.network, case.gateway_mac) = (case.device, gateway_mac);
        case.from = route::host(snapshot, case.network, gateway_mac, case.datagram.src.ip());
        if !case.datagram.dst.ip().is_multicast() {
            return Ok(None);
        }
        judge::host_may_speak(snapshot, case.network)?;
        Ok(Some(Verdict::PASS))
    }
}
