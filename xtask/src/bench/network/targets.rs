//! What the project wants to reach, beside what a full run has measured.

use super::{Flood, Load, Measured, More, Spread, figures::significant};

/// What a figure is a part of.
#[derive(Clone, Copy, Debug)]
enum Of {
    Direct,
    Peer(&'static str),
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug)]
enum Figure {
    /// What a peer does, as a part of what another one does in the same rounds. Of requests, the time.
    Part(&'static str, Load, Of),
    /// How long a peer's rules take to be put in force. ms.
    Applied(&'static str),
    /// How many times longer those of another one take.
    AppliedSooner(&'static str, &'static str),
    /// Connections during a flood, as a part of those before.
    Flooded(&'static str),
    /// What a way through the programs costs. ns.
    Program(&'static str),
    /// What the controller needs: the part, and what.
    Controller(&'static str, &'static str),
}

/// On which side of a bound a figure has to be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

/// All targets.
const TARGETS: [(&str, Figure, Bound); 31] = [
    ("Packets, of *direct*", part("vnet", Load::Packets, Of::Direct), AtLeast(0.85)),
    ("of the plain bridge", part("vnet", Load::Packets, Of::Peer("bridge")), AtLeast(1.1)),
    (
        "of a bridge with Docker's rules",
        part("vnet", Load::Packets, Of::Peer("bridge + docker")),
        AtLeast(1.8),
    ),
    (
        "of a router with Docker's rules",
        part("vnet", Load::Packets, Of::Peer("routed + docker")),
        AtLeast(1.5),
    ),
    ("TCP stream, of *direct*", part("vnet", Load::Stream, Of::Direct), AtLeast(0.9)),
    (
        "of a bridge with Docker's rules",
        part("vnet", Load::Stream, Of::Peer("bridge + docker")),
        AtLeast(1.1),
    ),
    ("Time of a request, of *direct*", part("vnet", Load::Requests, Of::Direct), AtMost(1.12)),
    (
        "of a bridge with Docker's rules",
        part("vnet", Load::Requests, Of::Peer("bridge + docker")),
        AtMost(0.8),
    ),
    (
        "of a router with Docker's rules",
        part("vnet", Load::Requests, Of::Peer("routed + docker")),
        AtMost(0.8),
    ),
    ("New connections, of *direct*", part("vnet", Load::Connections, Of::Direct), AtLeast(0.9)),
    (
        "of a bridge with Docker's rules",
        part("vnet", Load::Connections, Of::Peer("bridge + docker")),
        AtLeast(1.3),
    ),
    (
        "of a router with Docker's rules",
        part("vnet", Load::Connections, Of::Peer("routed + docker")),
        AtLeast(1.3),
    ),
    (
        "Packets with 100,000 rules, of those with one",
        part("vnet 100k", Load::Packets, Of::Peer("vnet 1")),
        AtLeast(0.95),
    ),
    ("with 10,000, of iptables", part("vnet 10k", Load::Packets, Of::Peer("iptables 10k")), AtLeast(55.0)),
    (
        "with 100,000, of nft with a set",
        part("vnet 100k", Load::Packets, Of::Peer("nft set 100k")),
        AtLeast(1.3),
    ),
    (
        "Packets with SNAT, of own without",
        part("vnet snat", Load::Packets, Of::Peer("vnet out")),
        AtLeast(0.95),
    ),
    ("of iptables", part("vnet snat", Load::Packets, Of::Peer("iptables snat")), AtLeast(1.5)),
    ("with DNAT, of own without", part("vnet dnat", Load::Packets, Of::Peer("vnet in")), AtLeast(0.95)),
    ("of iptables", part("vnet dnat", Load::Packets, Of::Peer("iptables dnat")), AtLeast(1.5)),
    (
        "Packets with a VLAN, of own without",
        part("vnet vlan", Load::Packets, Of::Peer("vnet untagged")),
        AtLeast(0.95),
    ),
    (
        "with VXLAN, of the kernel's",
        part("vnet vxlan", Load::Packets, Of::Peer("kernel vxlan")),
        AtLeast(1.6),
    ),
    (
        "TCP stream with VXLAN, of the kernel's",
        part("vnet vxlan", Load::Stream, Of::Peer("kernel vxlan")),
        AtLeast(1.0),
    ),
    (
        "Dropped by policy, of nft at the ingress",
        part("vnet drop", Load::Refused, Of::Peer("nft ingress")),
        AtLeast(1.2),
    ),
    ("the program, ns", Figure::Program("from_port: dropped by policy"), AtMost(40.0)),
    ("Program of an established flow, ns", Figure::Program("from_port: TCP v4, established"), AtMost(50.0)),
    ("100,000 rules in force, ms", Figure::Applied("vnet 100k"), AtMost(100.0)),
    ("times sooner than nft with a set", Figure::AppliedSooner("vnet 100k", "nft set 100k"), AtLeast(4.0)),
    ("one rule, ms", Figure::Applied("vnet 1"), AtMost(1.0)),
    ("one rule of 100,000, ms", Figure::Controller("rules", "one rule changed"), AtMost(1.0)),
    ("Memory of a flow, bytes", Figure::Controller("flows", "kernel memory for each, IPv4"), AtMost(320.0)),
    ("New connections during a flood, of before", Figure::Flooded("vnet dnat flooded"), AtLeast(0.8)),
];

const fn part(peer: &'static str, load: Load, of: Of) -> Figure {
    Figure::Part(peer, load, of)
}

/// The headings of [`rows`].
pub(super) fn headings() -> Vec<String> {
    ["what", "target", "now", ""].map(str::to_owned).into()
}

/// One row for each target: what, the bound, the figure with its spread, and whether it is missed.
pub(super) fn rows(measured: &Measured, more: &More) -> Vec<Vec<String>> {
    TARGETS.iter().map(|(what, figure, bound)| row(what, figure.of(measured, more), *bound)).collect()
}

fn row(what: &str, found: Option<Spread>, bound: Bound) -> Vec<String> {
    let (sign, limit) = match bound {
        AtLeast(limit) => ("≥", limit),
        AtMost(limit) => ("≤", limit),
    };
    let figure = |value: f64| if value < 10.0 { significant(value) } else { format!("{value:.0}") };
    let now = found.map_or_else(
        || "not measured".to_owned(),
        |Spread { median, min, max }| {
            if min.total_cmp(&max).is_eq() {
                figure(median)
            } else {
                format!("{} ({}–{})", figure(median), figure(min), figure(max))
            }
        },
    );
    let is_met = found.is_some_and(|found| match bound {
        AtLeast(limit) => found.median >= limit,
        AtMost(limit) => found.median <= limit,
    });
    vec![what.to_owned(), format!("{sign} {limit}"), now, if is_met { "" } else { "missed" }.to_owned()]
}

impl Figure {
    fn of(self, measured: &Measured, more: &More) -> Option<Spread> {
        let peer = |name: &str| measured.peers().find(|peer| peer.name == name);
        let alone = |value| Spread { median: value, min: value, max: value };
        match self {
            Self::Part(name, load, of) => {
                let own = peer(name)?.results(load)?;
                let part = match of {
                    Of::Direct => own.ratio(),
                    Of::Peer(other) => own.ratio_to(peer(other)?.results(load)?),
                }?;
                Some(if load == Load::Requests { part.inverse() } else { part })
            }
            Self::Applied(name) => Some(alone(peer(name)?.applied_s? * 1000.0)),
            Self::AppliedSooner(own, other) => Some(alone(peer(other)?.applied_s? / peer(own)?.applied_s?)),
            Self::Flooded(name) => {
                let peer = measured.floods.iter().find(|peer| peer.name == name)?;
                Spread::of(peer.rounds.iter().map(Flood::left))
            }
            Self::Program(name) => {
                more.programs.iter().find(|(way, _)| way == name).map(|(_, ns)| alone(*ns))
            }
            Self::Controller(part, what) => {
                let is_meant = |measure: &&super::Measure| measure.part == part && measure.what == what;
                more.controller.iter().find(is_meant).map(|measure| alone(measure.value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_missed_on_its_side() {
        let found = |median| Some(Spread { median, min: 0.5, max: 2.0 });
        assert_eq!(row("packets", found(0.9), AtLeast(0.85)), ["packets", "≥ 0.85", "0.90 (0.50–2.00)", ""]);
        assert_eq!(row("packets", found(0.8), AtLeast(0.85))[3], "missed");
        assert_eq!(row("time", found(1.2), AtMost(1.12))[3], "missed");
        assert_eq!(row("time", None, AtMost(1.12)), ["time", "≤ 1.12", "not measured", "missed"]);
    }

    #[test]
    fn figures_of_programs_and_controller_are_found_by_name() {
        let programs = vec![("from_port: TCP v4, established".to_owned(), 64.0)];
        let more = More { programs, ..More::default() };
        let measured = Measured { runs: Vec::new(), floods: Vec::new() };
        let rows = rows(&measured, &more);
        assert!(rows.iter().any(|row| row[0].starts_with("Program") && row[2..] == ["64", "missed"]));
    }
}
