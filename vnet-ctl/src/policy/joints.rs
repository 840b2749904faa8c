//! Which networks are joined: the key `connect` of `networks.NAME`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Mistake, Network,
    parse::unknown,
    section::{Node, Report, list_of, string},
};

/// A network, one that it is joined with, and where it says so.
pub(super) type Joint<'t> = (&'t str, &'t str, Range<usize>);

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
        joints.push((name, other, node.span()));
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

/// Records joints with bridged networks: vnet is no router there.
pub(super) fn check_joints(joints: &[Joint<'_>], networks: &BTreeMap<String, Network>, report: &mut Report) {
    for (name, other, place) in joints {
        if networks.get(*other).is_some_and(|network| !network.is_routed_here()) {
            let message = format!("network `{name}` cannot be connected with `{other}`, which is bridged");
            let help = format!("the router of its LAN leads to `{other}`, and back; take it out here");
            report.error(place.clone(), Mistake::new(message).help(help));
        }
    }
}
