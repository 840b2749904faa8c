//! Stages 5 and 8: which addresses and ports it leaves with.
//!
//! Decides whom a destination stands for (a metadata service, a forward, an elastic IP, in this order), to which of
//! several backends a flow goes, and with which source address a packet leaves its network (its own elastic IP, else one of the network's exit). Which
//! source port it gets is found by the install stage, which reserves it.

use vnet_common::{
    Address, Be16, DropReason, Forward, ForwardKey, ForwardKind, Ip, JOIN_OUTSIDE, NetworkFlags,
    NetworkRecord, Ops, Ports, Tuple, link,
};

use crate::{
    case::{Case, Source, Step, Target},
    headers::{Kind, protocol},
    spread,
    tables::{Snapshot, Tables},
};

/// Finds whom the destination that was asked for stands for, and fills it in; whether it stands for anybody.
///
/// It is called through [`crate::tables::FlowTable::destination`].
#[inline(always)]
pub fn destination<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> bool {
    case.target = Target::NONE;
    case.asked_tuple = case.asker_tuple;
    if case.asker.is_gateway() {
        return false;
    }
    let mut scope = 0;
    if !case.asker.is_outside() {
        scope = case.asker_network;
        if stands_for_itself(snapshot, scope, case.asker_tuple.dst.ip()) {
            return false;
        }
    }
    let Some(mut forward) = behind(snapshot, case, scope) else { return is_routed(snapshot, case) };
    let keeps = forward.keeps();
    if forward.is(ForwardKind::List) {
        let Some(backend) = backend(snapshot, case, forward) else { return false };
        forward = backend;
    }
    let port = match case.datagram.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            forward.translate(case.asker_tuple.ports.dst().get())
        }
        _ => case.asker_tuple.ports.dst().get(),
    };
    case.target = Target {
        network: forward.network,
        is_metadata: u32::from(forward.is(ForwardKind::Metadata)),
        keeps: u32::from(keeps),
    };
    case.asked_tuple.dst = A::of(forward.target);
    case.asked_tuple.ports = Ports::new(case.asker_tuple.ports.src(), Be16::new(port));
    true
}

/// Whether what comes from outside is for a network whose addresses are known there; they stand for themselves.
#[inline(always)]
fn is_routed<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) -> bool {
    if !case.asker.is_outside() {
        return false;
    }
    let Some(network) = snapshot.join(0, case.asker_tuple.dst.ip()) else { return false };
    let is_routed = snapshot.network(network).is_ok_and(|record| record.flags.has(NetworkFlags::ROUTED));
    if is_routed {
        case.target.network = network;
    }
    is_routed
}

/// Whether `addr` is somebody's in `network`, here or beyond its segment, or a port's of one joined to it: that stands for
/// itself, also where the host has the same address elsewhere. On a LAN any address may be somebody's.
#[inline(always)]
fn stands_for_itself<T: Tables>(snapshot: &Snapshot<'_, T>, network: u32, addr: Ip) -> bool {
    if let Some(endpoint) = snapshot.endpoint(network, addr) {
        return !endpoint.is_gateway();
    }
    let Ok(&NetworkRecord { flags, .. }) = snapshot.network(network) else { return false };
    if flags.has(NetworkFlags::BRIDGED) {
        return true;
    }
    if !flags.has(NetworkFlags::JOINED) && !flags.has(NetworkFlags::EXTENDS) {
        return false;
    }
    match snapshot.join(network, addr) {
        None | Some(JOIN_OUTSIDE) => false,
        Some(other) if other == network => true,
        Some(other) => snapshot.endpoint(other, addr).is_some_and(|endpoint| !endpoint.is_gateway()),
    }
}

/// Leaves a flow that is judged again with whom it was, where that is what becomes of flows whose destination stands
/// for somebody else now.
#[inline(always)]
pub fn keep_target<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &mut Case<A>) {
    if case.step != Step::Renew || case.target.keeps == 0 {
        return;
    }
    let network = if link::is_segment(case.before_pair) {
        Some(link::bridge(case.before_pair))
    } else {
        snapshot.port(case.before_pair).ok().map(|port| port.network)
    };
    if let Some(network) = network {
        case.target.network = network;
        case.asked_tuple.dst = case.before_leaves.dst;
    }
}

/// What stands behind the destination that was asked for: in the network `scope`, if it is not 0, or everywhere; for
/// its protocol, or for every one. Keys are made in the case, for the stack has no room for them.
#[inline(always)]
fn behind<'a, A: Address, T: Tables>(
    snapshot: &Snapshot<'a, T>,
    case: &mut Case<A>,
    scope: u32,
) -> Option<&'a Forward> {
    let (protocol, dst) = (case.datagram.protocol, case.asker_tuple.dst.ip());
    case.forward_head = ForwardKey::head(scope, snapshot.side(), dst, protocol);
    for _ in 0..4 {
        case.forward_key = case.forward_head;
        if let Some(forward) = under(snapshot, &mut case.forward_key, case.asker_tuple.ports.dst().get()) {
            return Some(forward);
        }
        if !case.forward_head.advance(protocol) {
            break;
        }
    }
    None
}

/// The entry that has `port` under the head that `key` is; the caller owns the key, which becomes that of a block.
#[inline(always)]
pub fn under<'a, T: Tables>(
    snapshot: &Snapshot<'a, T>,
    key: &mut ForwardKey,
    port: u16,
) -> Option<&'a Forward> {
    let mut sizes = snapshot.tables.forward(key)?.sizes();
    for _ in 0..=16 {
        if sizes == 0 {
            break;
        }
        let prefix_len = sizes.trailing_zeros() as u8;
        sizes &= sizes - 1;
        key.narrow(port, prefix_len);
        if let Some(forward) = snapshot.tables.forward(key) {
            return Some(forward);
        }
    }
    None
}

/// Whom of a list the packet is for. A flow that is there stays with who has it for as long as they are in the list;
/// a new one goes to whoever has its slot.
#[inline(always)]
fn backend<'a, A: Address, T: Tables>(
    snapshot: &Snapshot<'a, T>,
    case: &mut Case<A>,
    list: &Forward,
) -> Option<&'a Forward> {
    if matches!(case.step, Step::Challenge | Step::Renew) {
        let is_answer = case.before.keep.has(Ops::REPLY);
        let who = if is_answer { case.key.src } else { case.before_leaves.dst };
        case.forward_key = ForwardKey::member(list.network, snapshot.side(), who.ip());
        let member = snapshot.tables.forward(&case.forward_key);
        if member.is_some() {
            return member;
        }
    }
    let Tuple { src, dst, ports } = case.asker_tuple;
    let mut number = spread::client(src.ip());
    if !list.is_by_client() {
        let ports = (ports.src().get(), ports.dst().get());
        number = spread::flow(number, ports, dst.ip(), case.datagram.protocol);
    }
    case.forward_key = ForwardKey::slot(list.network, snapshot.side(), list.slot(number));
    snapshot.tables.forward(&case.forward_key)
}

/// Whether `addr` is an elastic IP that is known behind `uplink`.
#[inline(always)]
pub fn is_elastic<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, uplink: u32, addr: A) -> bool {
    elastic(snapshot, addr).is_some_and(|forward| {
        let own = snapshot.elastic_ip(forward.network, forward.target);
        own.is_some_and(|elastic| elastic.uplink == uplink)
    })
}

/// What stands behind the elastic IP `addr`.
#[inline(always)]
fn elastic<'a, A: Address, T: Tables>(snapshot: &Snapshot<'a, T>, addr: A) -> Option<&'a Forward> {
    let head = ForwardKey::head(0, snapshot.side(), addr.ip(), ForwardKey::ANY_PROTOCOL);
    snapshot.tables.forward(&head.block(0, 0)).filter(|forward| forward.is(ForwardKind::Elastic))
}

/// Decides the source address with which the packet of `case` leaves; it goes outside, or to somebody who was
/// asked for under another name.
///
/// # Errors
/// [`DropReason::Untranslated`].
#[inline(always)]
pub fn source<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
) -> Result<(), DropReason> {
    let private = case.asker_tuple.src;
    case.source = Source { addr: private, first_port: 0, last_port: 0, is_independent: 0 };
    if case.asker.is_outside() || case.asker.is_gateway() || case.target.is_metadata != 0 {
        return Ok(());
    }
    let (is_hairpin, network) = (!case.asked.is_outside(), case.asker_network);
    let keeps = if is_hairpin { case.target.network == 0 } else { is_exempt(snapshot, case)? };
    if keeps {
        return Ok(());
    }
    if let Some(elastic) = snapshot.elastic_ip(network, private.ip()) {
        case.source.addr = A::of(elastic.addr);
        return Ok(());
    }
    let Some(mut exit) = snapshot.exit::<A>(network, 0) else {
        // Without a way out a port of the network is still reached by its own address, but not by itself; nor in another
        // network, if it may be somebody else's there.
        let is_other = is_hairpin && case.asked.device != case.asker.device;
        let shares = snapshot.network(network)?.flags.has(NetworkFlags::SHARES_ADDRESSES);
        let is_its_own = is_other && (case.target.network == network || !shares);
        return if is_its_own { Ok(()) } else { Err(DropReason::Untranslated) };
    };
    if exit.slots > 1 {
        // RFC 4787 REQ-2: always the same address for a workload.
        let slot = (private.ip().digest() % u32::from(exit.slots)) as u16;
        exit = snapshot.exit::<A>(network, slot).ok_or(DropReason::Untranslated)?;
    }
    if case.datagram.message.kind == Kind::Single {
        return Err(DropReason::Untranslated);
    }
    case.source.addr = A::of(exit.addr);
    // Others have no ports, and SCTP's cannot be replaced: its checksum is a CRC of the whole packet.
    if matches!(case.datagram.protocol, protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6) {
        (case.source.first_port, case.source.last_port) = (exit.first_port, exit.last_port);
        let has_ports = matches!(case.datagram.protocol, protocol::TCP | protocol::UDP);
        let is_independent =
            has_ports && snapshot.network(network)?.flags.has(NetworkFlags::ENDPOINT_INDEPENDENT);
        case.source.is_independent = u32::from(is_independent);
    }
    Ok(())
}

/// Whether packets to the destination leave with the address that they have.
#[inline(always)]
fn is_exempt<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> Result<bool, DropReason> {
    let network = case.asker_network;
    Ok(snapshot.network(network)?.flags.has(NetworkFlags::JOINED)
        && snapshot.join(network, case.asked_tuple.dst.ip()) == Some(JOIN_OUTSIDE))
}

/// Fills in the tuple with which the packet leaves, and that of answers. Of a flow that is there it stays as it
/// is, and must be what the first packet would leave with today; any source port will do, and an elastic IP that
/// keeps its flows.
///
/// # Errors
/// [`DropReason::TranslationChanged`].
#[inline(always)]
pub fn leaves<A: Address, T: Tables>(
    snapshot: &Snapshot<'_, T>,
    case: &mut Case<A>,
    is_answer: bool,
) -> Result<(), DropReason> {
    let arrives = case.key.tuple();
    let today = Tuple { src: case.source.addr, ..case.asked_tuple };
    let mut leaves = today;
    if matches!(case.step, Step::Challenge | Step::Renew) {
        leaves = case.before_leaves;
        let left = if is_answer { arrives.reversed() } else { leaves };
        let is_same_source = left.src == today.src || elastic(snapshot, left.src).is_some_and(Forward::keeps);
        let is_same_target = left.dst == today.dst || case.target.keeps != 0;
        if !is_same_source || !is_same_target || left.ports.dst() != today.ports.dst() {
            return Err(DropReason::TranslationChanged);
        }
    }
    (case.forth.leaves, case.back.leaves) = (leaves, arrives.reversed());
    if leaves != arrives {
        case.forth.ops = case.forth.ops.and(Ops::TRANSLATE);
        case.back.ops = case.back.ops.and(Ops::TRANSLATE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vnet_common::{Delivery, Endpoint, EndpointKey, JoinPrefix, MacAddr, NetworkKey, V4};

    use super::*;
    use crate::model::ModelTables;

    const NETWORK: u32 = 5;
    const JOINED: u32 = 6;
    const MAC: MacAddr = MacAddr([2; 6]);

    fn addr(octets: [u8; 4]) -> Ip {
        V4::from_octets(octets).ip()
    }

    /// The network with `flags`, 10.0.0.0/24, and its gateway at .1; joined with 10.6.0.0/24, where .7 is a port.
    fn tables(flags: NetworkFlags) -> ModelTables {
        let mut tables = ModelTables::default();
        tables.networks.insert(NetworkKey { ifindex: NETWORK, side: 0 }, NetworkRecord::new(MAC, flags));
        let mut has = |network, octets, endpoint| {
            tables.endpoints.insert(EndpointKey { network, side: 0, addr: addr(octets) }, endpoint);
        };
        has(NETWORK, [10, 0, 0, 1], Endpoint::gateway(NETWORK, MAC, 1));
        has(NETWORK, [10, 0, 0, 7], Endpoint::port(9, Delivery::Peer, MAC, 1, 1));
        has(JOINED, [10, 6, 0, 7], Endpoint::port(9, Delivery::Peer, MAC, 1, 1));
        let mut leads = |octets, to| {
            let prefix = JoinPrefix { network: NETWORK, side: 0, addr: addr(octets) };
            tables.joins.insert((64 + 96 + 24, prefix), to);
        };
        leads([10, 0, 0, 0], NETWORK);
        leads([10, 6, 0, 0], JOINED);
        tables
    }

    #[test]
    fn an_address_is_somebodys_in_the_askers_network_first() {
        let stands = |flags, octets| {
            let tables = tables(flags);
            stands_for_itself(&Snapshot::take(&tables).unwrap(), NETWORK, addr(octets))
        };
        let (plain, extends) = (NetworkFlags::NONE, NetworkFlags::EXTENDS);
        for flags in [plain, extends, NetworkFlags::JOINED] {
            assert!(stands(flags, [10, 0, 0, 7]), "a port");
            assert!(!stands(flags, [10, 0, 0, 1]), "the gateway");
            assert!(!stands(flags, [192, 0, 2, 1]), "nobody");
        }
        assert!(!stands(plain, [10, 0, 0, 77]));
        assert!(stands(extends, [10, 0, 0, 77]), "whoever is beyond the segment");
        assert!(stands(NetworkFlags::JOINED, [10, 6, 0, 7]), "a port of the joined network");
        assert!(stands(NetworkFlags::BRIDGED.and(extends), [192, 0, 2, 1]), "whoever the LAN leads to");
    }
}
