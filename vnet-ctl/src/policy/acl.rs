//! The `acl` of a policy file: ordered allow and deny rules that come before the groups.

use std::{collections::BTreeMap, ops::Range};

use foldhash::{HashSet, HashSetExt as _};
use vnet_common::Direction;

use super::{
    AclAction, AclRule, Mistake, Peer, Protocol, Rule, RuleSpec,
    diagnostic::Finding,
    draft::free_id,
    parse::Names,
    rules::{self, direction},
    section::{Node, Report, Schema, Section, list, one_of},
};

pub(super) const ACL: Schema = Schema {
    keys: &[
        "action",
        "direction",
        "protocol",
        "ports",
        "icmp_type",
        "icmp_code",
        "from",
        "to",
        "description",
    ],
    later: &[],
};

/// The entries that are right, in their order; what is wrong with the others is recorded.
pub(super) fn acl(node: Node<'_>, names: &Names<'_>, report: &mut Report) -> Vec<AclRule> {
    if node.entries().is_some() {
        let mistake = Mistake::new("the acl is a list of entries, this is one table");
        report.error(node.span(), mistake.help("write [[acl]] above each entry"));
        return Vec::new();
    }
    let mut used = HashSet::new();
    let mut broad = Broad::default();
    let mut acl = Vec::new();
    for node in list(node, report).unwrap_or_default() {
        let Some((action, direction, spec)) = entry(node, names, report) else { continue };
        broad.warn_if_covered(direction, &spec, node.span(), report);
        broad.add(direction, &spec, node.span());
        let id = free_id(&mut used, spec.id_in_acl(action, direction));
        acl.push(AclRule { action, rule: Rule::new(id, direction, spec) });
    }
    acl
}

fn entry(node: Node<'_>, names: &Names<'_>, report: &mut Report) -> Option<(AclAction, Direction, RuleSpec)> {
    let section =
        Section::open(("acl", "this entry of the acl".to_owned(), node.span()), node, &ACL, report)?;
    let action = section
        .require("action", "write action = \"deny\" or action = \"allow\"", report)
        .and_then(|node| action(node, report));
    let direction = section
        .require(
            "direction",
            "write direction = \"ingress\" (to workloads) or \"egress\" (from them)",
            report,
        )
        .and_then(|node| direction(node, report));
    // Without a direction the rest is still looked at, as what its peers make of it.
    let guessed = if section.get("to").is_some() { Direction::Egress } else { Direction::Ingress };
    let spec = rules::spec_in(&section, direction.unwrap_or(guessed), names, report);
    Some((action?, direction?, spec?))
}

fn action(node: Node<'_>, report: &mut Report) -> Option<AclAction> {
    let words = [("deny", AclAction::Deny), ("allow", AclAction::Allow)];
    one_of(node, "an action of the acl", words, report)
}

/// The first entry of each direction and protocol that decides about all of its packets.
#[derive(Default)]
struct Broad {
    places: BTreeMap<(Direction, Protocol), Range<usize>>,
}

impl Broad {
    fn add(&mut self, direction: Direction, spec: &RuleSpec, place: Range<usize>) {
        let is_broad = spec.ports.is_empty() && spec.icmp.is_none() && spec.peers.contains(&Peer::Any);
        if is_broad {
            self.places.entry((direction, spec.protocol)).or_insert(place);
        }
    }

    fn warn_if_covered(
        &self,
        direction: Direction,
        spec: &RuleSpec,
        place: Range<usize>,
        report: &mut Report,
    ) {
        let covering = [Protocol::ANY, spec.protocol].map(|protocol| self.places.get(&(direction, protocol)));
        let Some(first) = covering.into_iter().flatten().min_by_key(|place| place.start) else { return };
        let mistake =
            Mistake::new("no packet reaches this entry of the acl: an earlier one decides about all of them");
        let finding = Finding::new(place, mistake.help("put it before that one, or remove it"));
        report.warnings.push(finding.related(first.clone(), "this one"));
    }
}
