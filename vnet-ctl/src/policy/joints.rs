//! Which networks are joined: the key `connect` of `networks.NAME`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Mistake, Network,
    diagnostic::Finding,
    overlaps::clash,
    parse::unknown,
    section::{Node, Report, list_of, string},
};

/// That a network names another one to be connected with, and where.
pub(super) struct Joint<'t> {
    network: &'t str,
    other: &'t str,
    place: Range<usize>,
}

/// The networks that `name` says it is joined with, of those that are `known`; they go to `joints`, too.
pub(super) fn connect<'t>(
    (name, node): (&'t str, Node<'t>),
    known: &BTreeSet<&str>,
    joints: &mut Vec<Joint<'t>>,
    report: &mut Report,
) -> Option<BTreeSet<String>> {
    let mut joined = BTreeSet::new();
    list_of(node, report, |node, report| {
        let other = string(node, report)?;
        report.keep(node.span(), check_joint(name, other, known))?;
        if !joined.insert(other.to_owned()) {
            let mistake = Mistake::new(format!("network `{name}` is connected with `{other}` twice"));
            report.error(node.span(), mistake.help("remove one of them"));
            return None;
        }
        joints.push(Joint { network: name, other, place: node.span() });
        Some(())
    })?;
    Some(joined)
}

/// Whether `network` can be joined with `other`.
fn check_joint(network: &str, other: &str, known: &BTreeSet<&str>) -> Result<(), Mistake> {
    if other == network {
        return Err(Mistake::new(format!("network `{network}` is connected with itself"))
            .help("its own ports reach one another anyway, as their groups allow"));
    }
    if known.contains(other) {
        return Ok(());
    }
    Err(match other.strip_prefix("net:").filter(|name| known.contains(name)) {
        Some(name) => Mistake::new(format!("there is no network `{other}`"))
            .help(format!("write \"{name}\"; `net:` is for the peers of rules")),
        None => unknown("network", other, known, "networks"),
    })
}

/// Records each connection with a bridged network, where vnet is no router; each between networks that overlap, and each
/// that leads from one network to two that do. Where the networks cannot overlap at all, that is told already.
pub(super) fn check_joints(joints: &[Joint<'_>], networks: &BTreeMap<String, Network>, report: &mut Report) {
    let mut near: BTreeMap<&str, Vec<(&str, &Range<usize>)>> = BTreeMap::new();
    let mut in_order: Vec<_> = joints.iter().collect();
    in_order.sort_by_key(|joint| joint.place.start);
    for Joint { network, other, place } in in_order {
        if near.get(network).is_some_and(|known| known.iter().any(|(known, _)| known == other)) {
            continue;
        }
        if networks.get(*other).is_some_and(|network| !network.is_routed_here()) {
            let message = format!("network `{network}` cannot be connected with `{other}`, which is bridged");
            let help = format!("the router of its LAN leads to `{other}`, and back; take it out here");
            report.error(place.clone(), Mistake::new(message).help(help));
            continue;
        }
        if let Some((own, others)) = clash(networks, network, other) {
            let message = format!(
                "network `{network}` cannot be connected with `{other}`: {own} overlaps {others} there"
            );
            let help = "each would take the other's addresses for its own: give one of them other subnets";
            report.error(place.clone(), Mistake::new(message).help(help));
            continue;
        }
        for (network, other) in [(network, other), (other, network)] {
            let before = near.entry(network).or_default();
            let found = before
                .iter()
                .find_map(|(earlier, there)| Some((*earlier, *there, clash(networks, earlier, other)?)));
            if let Some((earlier, there, (one, two))) = found {
                let message = format!(
                    "network `{network}` cannot be connected with both `{earlier}` and `{other}`: {one} and {two} \
                     overlap"
                );
                let help = "an address would lead to either: give one of them other subnets, or take one of the \
                            connections out";
                let finding = Finding::new(place.clone(), Mistake::new(message).help(help));
                report.errors.push(finding.related(there.clone(), format!("connects it with `{earlier}`")));
            }
            before.push((other, place));
        }
    }
}
