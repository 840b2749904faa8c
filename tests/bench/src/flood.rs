//! What is left to a client who is really there while SYNs under false addresses come in by the same device, for the same
//! forwarded port: at twice the flows that the peer's table has room for, and as fast as one thread can send them.
//!
//! ```text
//!   A 10.1.0.2 (private) ── S ── 198.51.100.1 (S outside) ── 198.51.100.5 B, and the flood
//! ```
//!
//! Client and server have their CPU, as always. The flood has another one, and with it all that its packets cost in S.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use vnet_tests::{
    flood::{Flood, nobody},
    frames::{Eth, parse_mac, syn4},
};

use crate::{
    Extent,
    load::{self, CONNECTIONS, connections_if_possible},
    peers::{self, Peer, Table, conntrack},
    place::{MAC_B, Place},
    progress::Progress,
    rounds::{Plan, set_up},
    shell::sh,
};

/// Flows that the tables have room for: as many as the kernel's has on most machines.
const ROOM: u32 = 1 << 18;
/// SYNs before something is measured.
const SYNS: u32 = 2 * ROOM;
/// What is measured during a flood takes longer: a connection that needs a second try is a second of it.
const LONGER: u32 = 4;

/// S answers by the way by which the SYNs came, and B has no address of theirs. Who asks gives up after two SYNs, and three
/// seconds.
const ANSWERED: &str = "ip route add 100.64.0.0/10 via 198.51.100.5 dev vb";
const IMPATIENT: &str = "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries";

/// What was measured of a peer.
#[derive(Debug, Serialize)]
pub(crate) struct Flooded {
    name: String,
    what: String,
    /// Why it is not there.
    absent: Option<String>,
    rounds: Vec<Round>,
}

/// What was measured in a round.
#[derive(Debug, Serialize)]
struct Round {
    /// Connections per second before the flood.
    before: f64,
    /// Connections per second during the flood.
    during: f64,
    /// SYNs of the flood per second meanwhile.
    syns: f64,
}

/// Those that are asked for, and what their tables are.
pub(crate) fn peers(extent: Extent, only: &[String]) -> Vec<(Peer, Table)> {
    peers::flooded(extent, only, ROOM)
}

/// Measures those that are asked for, one after another: each of them anew in each round, with an empty table.
pub(crate) fn run(plan: &Plan, extent: Extent, only: &[String]) -> Result<Vec<Flooded>> {
    let peers = peers(extent, only);
    let _room = (!peers.is_empty()).then(|| conntrack::Size::set(ROOM)).transpose()?;
    peers.iter().map(|(peer, table)| measure(plan, peer, *table).context(peer.name.clone())).collect()
}

fn measure(plan: &Plan, peer: &Peer, table: Table) -> Result<Flooded> {
    let bar = Progress::begin();
    let (name, what) = (peer.name.clone(), peer.what.clone());
    let mut flooded = Flooded { name, what, absent: None, rounds: Vec::new() };
    if load::cpu() == 0 {
        flooded.absent = Some("a flood needs a CPU of its own".to_owned());
        return Ok(flooded);
    }
    for number in 1..=plan.rounds {
        bar.say(&format!("round {number} of {}: {}", plan.rounds, peer.name));
        match round(plan.time * LONGER, peer, table)? {
            Ok(round) => flooded.rounds.push(round),
            Err(why) => {
                flooded.absent = Some(why);
                break;
            }
        }
    }
    Ok(flooded)
}

/// One round; or why the peer is not here.
fn round(time: Duration, peer: &Peer, table: Table) -> Result<Result<Round, String>> {
    let ready = match set_up(peer)? {
        Ok(ready) => ready,
        Err(why) => return Ok(Err(why)),
    };
    let (place, ends) = (ready.place()?, &ready.ends);
    sh(place.switch(), ANSWERED)?;
    sh(&ends.client, IMPATIENT)?;
    let table = table(place)?;
    let before = connections_if_possible(ends, time)?;
    let flood = begin(place)?;
    flood.wait_for(SYNS);
    let (sent, began) = (flood.sent(), flood.elapsed());
    let during = connections_if_possible(ends, time)?;
    let syns = f64::from(flood.sent() - sent) / (flood.elapsed() - began).as_secs_f64();
    let flows = table()?;
    drop(flood);
    ensure!(flows > u64::from(ROOM) / 4, "the flood has come to {flows} flows only");
    Ok(Ok(Round { before, during, syns }))
}

/// Begins a flood from outside, on the first CPU.
fn begin(place: &Place) -> Result<Flood> {
    let switch = parse_mac(&place.world().mac(place.switch(), "vb"));
    let eth = Eth::new(parse_mac(MAC_B), switch);
    let syn = move |number| syn4(eth, nobody(number), ([198, 51, 100, 1].into(), CONNECTIONS), number);
    let outside = place.b();
    let begun = std::thread::scope(|scope| {
        let begin = || load::stay_on(0).map(|()| Flood::begin((&outside, "eth0"), syn));
        scope.spawn(begin).join()
    });
    begun.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
