//! More and more flows: the same few peers, each with a thousand to a million flows that have been answered, and that its
//! table has all the time. What is measured beside them are their packets, and new connections.

use anyhow::Result;

use crate::{
    load::{Load, flows::PORTS},
    peers::{Counter, Crowd, Group, Peer, Ready, Table, bridge, conntrack, docker, rules, vnet},
    place::Place,
};

/// How many flows.
pub(super) const COUNTS: [u32; 4] = [1000, 10_000, 100_000, 1_000_000];
const _: () = assert!(COUNTS[0].is_multiple_of(PORTS));

/// Flows that have room in the tables, so that each of them is half full at most.
const ROOM: u32 = 1 << 21;

/// The limit, over as many flows.
pub(super) fn direct(count: u32) -> Peer {
    with_flows(super::direct(), "direct", count, None)
}

/// Everybody else.
pub(super) fn others(count: u32) -> Vec<Peer> {
    vec![
        with_flows(bridge::bridge(), "bridge", count, None),
        with_flows(docker::routed(), "routed + docker", count, Some(tracked)),
        with_flows(rules::nft_for_many_flows(), "nft set stateful", count, Some(tracked)),
        with_flows(vnet::with_room(ROOM), "vnet", count, Some(vnet::flows)),
    ]
}

/// What the machine has to be told while they are measured.
pub(crate) fn room() -> Result<conntrack::Size> {
    conntrack::Size::set(ROOM)
}

/// `peer` with as many flows.
fn with_flows(peer: Peer, kind: &'static str, count: u32, table: Option<Table>) -> Peer {
    let what = format!("{}; {count} flows", peer.what);
    let set_up = peer.set_up;
    let set_up = move || {
        let ready = set_up()?;
        let table = table.map(|table| table(ready.place()?)).transpose()?;
        Ok(Ready { crowd: Some(Crowd { flows: count, table }), ..ready })
    };
    Peer {
        name: format!("{kind} {} flows", rules::thousands(count)),
        what,
        group: Group::Flows,
        curve: Some((kind, count)),
        loads: vec![Load::Packets, Load::Connections],
        set_up: Box::new(set_up),
        ..peer
    }
}

/// The flows that the kernel tracks in S, which it keeps from now on.
fn tracked(place: &Place) -> Result<Counter> {
    conntrack::keep(place.switch())?;
    Ok(conntrack::counter(place.switch().clone()))
}
