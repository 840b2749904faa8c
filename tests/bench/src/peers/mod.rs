//! What is measured: ways to get packets from A to B.
//!
//! Each peer says what it needs, sets itself up in a place, and tells how many packets its rules have counted,
//! so that nothing is measured that is not at work. Peers get their best configuration.

mod bridge;
pub(crate) mod conntrack;
mod docker;
pub(crate) mod flows;
mod openvswitch;
mod refused;
mod rules;
mod segments;
mod translation;
mod vnet;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::{
    Extent,
    load::{self, Load},
    place::{Ends, Place},
};

/// What makes a peer.
pub(crate) type SetUp = Box<dyn Fn() -> Result<Ready>>;

/// Peers that belong together in a table or a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    /// The limit.
    Limit,
    /// What hosts have, without many rules.
    Paths,
    /// The same job with more and more rules.
    Rules,
    /// Addresses that are translated.
    Translation,
    /// Networks that go over two hosts.
    Segments,
    /// What is dropped.
    Refused,
    /// The same job beside more and more flows.
    Flows,
    /// The same job during a flood.
    Flood,
}

/// A way from A to B.
pub(crate) struct Peer {
    /// What to call it.
    pub(crate) name: String,
    /// What it consists of.
    pub(crate) what: String,
    /// Whom it is compared with.
    pub(crate) group: Group,
    /// The curve that it is a point of, and where: by the number of rules, or of flows.
    pub(crate) curve: Option<(&'static str, u32)>,
    /// The peers that it is held against, besides *direct*.
    pub(crate) beside: Vec<&'static str>,
    /// Programs that it needs.
    pub(crate) needs: &'static [&'static str],
    /// What is measured.
    pub(crate) loads: Vec<Load>,
    /// Makes it.
    pub(crate) set_up: SetUp,
}

/// A peer at work. It goes away with this.
pub(crate) struct Ready {
    /// Client, server and address.
    pub(crate) ends: Ends,
    /// How long its rules took to be put in force, where there are many. s.
    pub(crate) applied_s: Option<f64>,
    /// How many packets its rules have let pass so far; none if it has none.
    pub(crate) counted: Option<Counter>,
    /// Whether a port that no rule opens has to be shut.
    pub(crate) filters: bool,
    /// How many packets it has dropped so far, where that is measured.
    pub(crate) dropped: Option<Counter>,
    /// Flows that are there while it is measured.
    pub(crate) crowd: Option<Crowd>,
    /// Keeps the namespaces, and what runs in them.
    pub(crate) place: Box<dyn std::any::Any>,
}

/// Tells how many packets rules have let pass, or how many flows a table has.
pub(crate) type Counter = Box<dyn Fn() -> Result<u64>>;

/// Tells how many flows the table of a peer in a place has.
pub(crate) type Table = fn(&Place) -> Result<Counter>;

/// Flows that have been answered and are to stay.
pub(crate) struct Crowd {
    /// How many.
    flows: u32,
    /// How many the peer's table has; none if it has no table.
    table: Option<Counter>,
}

impl Crowd {
    /// Opens them if some are missing.
    fn gather(&self, ends: &Ends) -> Result<()> {
        if self.missing()? > 0 {
            load::flows::open(ends, self.flows)?;
        }
        self.prove()
    }

    /// Sees that the peer's table has them.
    fn prove(&self) -> Result<()> {
        let missing = self.missing()?;
        ensure!(missing == 0, "{missing} of {} flows are not in the table", self.flows);
        Ok(())
    }

    fn missing(&self) -> Result<u64> {
        let Some(table) = &self.table else { return Ok(0) };
        Ok(u64::from(self.flows).saturating_sub(table()?))
    }
}

impl Ready {
    /// Where it is, if that is one place and nothing else.
    pub(crate) fn place(&self) -> Result<&Place> {
        self.place.downcast_ref().context("it has a place")
    }

    fn without_rules(place: Place, ends: Ends) -> Self {
        let place = Box::new(place);
        Self { ends, applied_s: None, counted: None, filters: false, dropped: None, crowd: None, place }
    }

    /// Opens the flows that have to be there.
    pub(crate) fn gather_flows(&self) -> Result<()> {
        self.crowd.as_ref().map_or(Ok(()), |crowd| crowd.gather(&self.ends))
    }

    /// Sees that they are there.
    pub(crate) fn prove_flows(&self) -> Result<()> {
        self.crowd.as_ref().map_or(Ok(()), Crowd::prove)
    }

    /// Measures `load` for about `time`: datagrams are of all flows that are there.
    pub(crate) fn measure(&self, load: Load, time: Duration) -> Result<f64> {
        match (&self.crowd, load) {
            (Some(crowd), Load::Packets) => load::flows::per_second(&self.ends, crowd.flows, time),
            (_, Load::Refused) => load::refused(&self.ends, self.dropped.as_ref(), time),
            _ => load.measure(&self.ends, time),
        }
    }
}

impl Peer {
    fn new(group: Group, name: impl Into<String>, what: impl Into<String>, set_up: SetUp) -> Self {
        let loads = vec![Load::Packets, Load::Requests, Load::Connections, Load::Resets, Load::Stream];
        let (name, what) = (name.into(), what.into());
        Self { name, what, group, curve: None, beside: Vec::new(), needs: &[], loads, set_up }
    }

    fn beside(self, others: &[&'static str]) -> Self {
        Self { beside: others.into(), ..self }
    }

    fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }

    /// As many rules of a kind. A stream over so many rules tells nothing that packets don't.
    fn with_rules(self, kind: &'static str, count: u32) -> Self {
        Self { curve: Some((kind, count)), loads: vec![Load::Packets, Load::Connections], ..self }
    }
}

/// All peers of this extent whose names contain one of `only`, with those that they are held against. Those that are measured
/// in the same rounds are together, *direct* first, always.
pub(crate) fn all(extent: Extent, only: &[String]) -> Vec<Vec<Peer>> {
    let mut others = vec![bridge::bridge(), bridge::routed()];
    others.extend(docker::all());
    others.push(vnet::switched());
    others.push(vnet::routed());
    others.extend(segments::all());
    if extent == Extent::Quick {
        return vec![chosen(direct(), others, only)];
    }
    others.extend(rules::all());
    others.extend(vnet::with_rules());
    others.extend(translation::all());
    others.push(openvswitch::userspace());
    others.extend(refused::all());
    let crowded = flows::COUNTS.map(|count| chosen(flows::direct(count), flows::others(count), only));
    let mut limit = direct();
    limit.loads.push(Load::Refused);
    let mut runs = vec![chosen(limit, others, only)];
    runs.extend(crowded);
    // *Direct* by itself tells little.
    runs.retain(|run| run.len() > 1 || run.iter().any(|peer| is_named(&peer.name, only)));
    runs
}

/// Peers that are flooded, if this extent has them, whose names contain one of `only`; each with its table.
pub(crate) fn flooded(extent: Extent, only: &[String], room: u32) -> Vec<(Peer, Table)> {
    if extent == Extent::Quick {
        return Vec::new();
    }
    let mut peers = translation::flooded(room);
    peers.retain(|(peer, _)| is_named(&peer.name, only));
    peers
}

fn is_named(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|word| name.contains(word.as_str()))
}

/// `limit`, and those of `others` that are asked for.
fn chosen(limit: Peer, others: Vec<Peer>, only: &[String]) -> Vec<Peer> {
    let named = |name: &str| is_named(name, only);
    let beside: Vec<_> =
        others.iter().filter(|peer| named(&peer.name)).flat_map(|peer| &peer.beside).copied().collect();
    let wanted = |peer: &Peer| named(&peer.name) || beside.contains(&peer.name.as_str());
    [limit].into_iter().chain(others.into_iter().filter(wanted)).collect()
}

/// The limit.
fn direct() -> Peer {
    let set_up = || {
        let place = Place::direct()?;
        let ends = place.one_subnet()?;
        Ok(Ready::without_rules(place, ends))
    };
    Peer::new(Group::Limit, "direct", "one veth from A to B", Box::new(set_up))
}
