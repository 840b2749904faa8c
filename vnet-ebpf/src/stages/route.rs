//! Stage 5: where it goes.
//!
//! Decides by which device and with which MACs a packet reaches an endpoint, and how answers come back. A
//! frame addressed to the endpoint itself is switched, one addressed to the gateway is routed.

use vnet_common::{Delivery, DropReason, Endpoint, MacPair, Ops};

use crate::{case::Case, hop::Hop};

/// Fills in the way from `case.from` to `case.to` and back.
///
/// # Errors
/// [`DropReason::WrongMac`] when the frame is addressed to somebody else.
#[inline(always)]
pub fn way<A>(case: &mut Case<A>) -> Result<(), DropReason> {
    let (ops, answered_to) = if case.macs.dst() == case.to.mac {
        (Ops::NONE, case.from.mac)
    } else if case.macs.dst() == case.gateway_mac {
        (Ops::ROUTE, case.gateway_mac)
    } else {
        return Err(DropReason::WrongMac);
    };
    let gateway = case.gateway_mac;
    let hop = |from: &Endpoint, to: &Endpoint| {
        Ok(Hop {
            device: to.device,
            delivery: delivery(from, to)? as u8,
            ops,
            sent: MacPair::new(to.mac, gateway),
        })
    };
    case.forth = hop(&case.from, &case.to)?;
    case.back = hop(&case.to, &case.from)?;
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
