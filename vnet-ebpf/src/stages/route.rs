//! Stage 5: where it goes.
//!
//! Decides who has a destination, in the packet's own network or in one that is joined to it, by which device
//! and with which MACs a packet reaches them, and how answers come back. A frame addressed to the endpoint
//! itself is switched, one addressed to the gateway is routed; between networks there is only routing.

use vnet_common::{Address, Delivery, DropReason, Endpoint, Ip, MacAddr, MacPair, NetworkFlags, Ops};

use crate::{
    case::Case,
    hop::Hop,
    tables::{Snapshot, Tables},
};

/// Fills in who has the destination address, and in which network.
///
/// # Errors
/// [`DropReason::NoRoute`], [`DropReason::Untranslated`].
#[inline(always)]
pub fn destination<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    (case.to_network, case.to_gateway_mac) = (case.network, case.gateway_mac);
    match snapshot.endpoint(case.network, case.datagram.dst.ip()) {
        Some(endpoint) => {
            case.to = *endpoint;
            Ok(())
        }
        None => beyond(snapshot, case),
    }
}

/// The same for an address that the packet's own network does not have. What the host sends is in the right
/// network already. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn beyond<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> Result<(), DropReason> {
    let own = snapshot.network(case.network)?;
    let addr = case.datagram.dst.ip();
    if case.from.is_gateway() || !own.flags.has(NetworkFlags::JOINED) {
        return Err(own.unknown_destination());
    }
    let Some(network) = snapshot.join(case.network, addr) else {
        return Err(own.unknown_destination());
    };
    let endpoint = snapshot.endpoint(network, addr).ok_or(DropReason::NoRoute)?;
    if endpoint.is_gateway() {
        // The host answers by the asker's own network, where the flow is.
        case.to = Endpoint::gateway(case.network, case.gateway_mac, endpoint.identity);
        return Ok(());
    }
    case.to = *endpoint;
    (case.to_network, case.to_gateway_mac) = (network, snapshot.network(network)?.gateway_mac);
    Ok(())
}

/// The host, which sends from `addr` into `network`, whose gateway has `mac`: as the gateway, as that of a
/// joined network, or under an address of its own elsewhere.
#[inline(always)]
pub fn host<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, mac: MacAddr, addr: Ip) -> Endpoint {
    let gateway = match snapshot.endpoint(network, addr) {
        None => snapshot.join(network, addr).and_then(|joined| snapshot.endpoint(joined, addr)),
        own => own,
    };
    match gateway {
        Some(endpoint) if endpoint.is_gateway() => Endpoint::gateway(network, mac, endpoint.identity),
        _ => Endpoint::host_elsewhere(network, mac),
    }
}

/// Makes the host the destination, under an address that is none of the network's.
#[inline(always)]
pub fn to_host_elsewhere<A: Copy>(case: &mut Case<A>) {
    case.to = Endpoint::host_elsewhere(case.network, case.gateway_mac);
    (case.to_network, case.to_gateway_mac) = (case.network, case.gateway_mac);
}

/// Fills in the way from `case.from` to `case.to` and back.
///
/// # Errors
/// [`DropReason::WrongMac`] when the frame is addressed to somebody else.
#[inline(always)]
pub fn way<A: Copy>(case: &mut Case<A>) -> Result<(), DropReason> {
    let (ops, answered_to) = if case.macs.dst() == case.to.mac && case.to_network == case.network {
        (Ops::NONE, case.from.mac)
    } else if case.macs.dst() == case.gateway_mac {
        (Ops::ROUTE, case.to_gateway_mac)
    } else {
        return Err(DropReason::WrongMac);
    };
    let hop = |from: &Endpoint, to: &Endpoint, gateway: MacAddr| {
        Ok(Hop {
            device: to.device,
            delivery: delivery(from, to)? as u8,
            ops,
            sent: MacPair::new(to.mac, gateway),
        })
    };
    case.forth = hop(&case.from, &case.to, case.to_gateway_mac)?;
    case.back = hop(&case.to, &case.from, case.gateway_mac)?;
    case.answered = MacPair::new(answered_to, case.to.mac);
    Ok(())
}

/// What the host sends cannot jump into a namespace: `bpf_redirect_peer` works at ingress only.
#[inline(always)]
fn delivery(from: &Endpoint, to: &Endpoint) -> Result<Delivery, DropReason> {
    Ok(match to.delivery()? {
        Delivery::Peer if from.is_gateway() => Delivery::Device,
        delivery => delivery,
    })
}
