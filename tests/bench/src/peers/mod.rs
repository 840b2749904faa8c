//! What is measured: ways to get packets from A to B.
//!
//! Each peer says what it needs, sets itself up in a place, and tells how many packets its rules have counted,
//! so that nothing is measured that is not at work. Peers get their best configuration.

mod bridge;
mod docker;
mod openvswitch;
mod rules;
mod segments;
mod translation;
mod vnet;

use anyhow::Result;
use serde::Serialize;

use crate::{
    Extent,
    load::Load,
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
}

/// A way from A to B.
pub(crate) struct Peer {
    /// What to call it.
    pub(crate) name: String,
    /// What it consists of.
    pub(crate) what: String,
    /// Whom it is compared with.
    pub(crate) group: Group,
    /// The number of rules, and of what kind, where that is what matters.
    pub(crate) rules: Option<(&'static str, u32)>,
    /// The peer that it is held against, besides *direct*.
    pub(crate) beside: Option<&'static str>,
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
    /// Keeps the namespaces, and what runs in them.
    pub(crate) place: Box<dyn std::any::Any>,
}

/// Tells how many packets rules have let pass.
pub(crate) type Counter = Box<dyn Fn() -> Result<u64>>;

impl Ready {
    fn without_rules(place: Place, ends: Ends) -> Self {
        Self { ends, applied_s: None, counted: None, filters: false, place: Box::new(place) }
    }
}

impl Peer {
    fn new(group: Group, name: impl Into<String>, what: impl Into<String>, set_up: SetUp) -> Self {
        let loads = vec![Load::Packets, Load::Requests, Load::Connections, Load::Resets, Load::Stream];
        let (name, what) = (name.into(), what.into());
        Self { name, what, group, rules: None, beside: None, needs: &[], loads, set_up }
    }

    fn beside(self, other: &'static str) -> Self {
        Self { beside: Some(other), ..self }
    }

    fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }

    /// As many rules of a kind. A stream over so many rules tells nothing that packets don't.
    fn with_rules(self, kind: &'static str, count: u32) -> Self {
        Self { rules: Some((kind, count)), loads: vec![Load::Packets, Load::Connections], ..self }
    }
}

/// All peers of this extent whose names contain one of `only`, with those that they are held against; *direct* first,
/// always.
pub(crate) fn all(extent: Extent, only: &[String]) -> Vec<Peer> {
    let mut peers = vec![direct()];
    let mut others = vec![bridge::bridge(), bridge::routed()];
    others.extend(docker::all());
    others.push(vnet::switched());
    others.push(vnet::routed());
    others.extend(segments::all());
    if extent == Extent::Full {
        others.extend(rules::all());
        others.extend(vnet::with_rules());
        others.extend(translation::all());
        others.push(openvswitch::userspace());
        for peer in peers.iter_mut().chain(others.iter_mut().filter(|peer| has_many_flows(&peer.name))) {
            peer.loads.extend([10, 100, 1000, 10_000, 100_000].map(Load::Flows));
        }
    }
    let named = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let beside: Vec<_> =
        others.iter().filter(|peer| named(&peer.name)).filter_map(|peer| peer.beside).collect();
    peers.extend(others.into_iter().filter(|peer| named(&peer.name) || beside.contains(&peer.name.as_str())));
    peers
}

/// Whose cost is measured against the number of flows.
fn has_many_flows(name: &str) -> bool {
    ["bridge", "routed + docker", "vnet"].contains(&name)
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
