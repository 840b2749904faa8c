//! The `prefix_lists` and `security_groups` of a policy file.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use ipnet::IpNet;
use vnet_common::{Direction, RuleId};

use super::{
    DEFAULT_GROUP, Mistake, OnChange, Peer, Rule, RuleSpec, SecurityGroup,
    diagnostic::Finding,
    names::check_name,
    parse::Names,
    rule::{default_allow_id, direction_name, id_of, parse_cidr},
    rules,
    section::{Named, Node, Report, Schema, Section, list, list_of, one_of, string},
};

pub(super) const GROUP: Schema =
    Schema { keys: &["description", "ingress", "egress", "on_change"], later: &[] };

/// The prefix lists that are right; what is wrong with the others is recorded.
pub(super) fn prefix_lists(named: &[Named<'_>], report: &mut Report) -> BTreeMap<String, Vec<IpNet>> {
    let mut lists = BTreeMap::new();
    for (name, place, node) in named {
        let _ = report.keep(place.clone(), check_name("prefix list", name));
        let prefixes = list_of(*node, report, |node, report| {
            let text = string(node, report)?;
            report.keep(node.span(), parse_cidr(text))
        });
        if let Some(prefixes) = prefixes {
            lists.insert((*name).to_owned(), prefixes);
        }
    }
    lists
}

/// The security groups, `default` among them; what is wrong with them is recorded.
pub(super) fn security_groups(
    named: &[Named<'_>],
    names: &Names<'_>,
    report: &mut Report,
) -> BTreeMap<String, Arc<SecurityGroup>> {
    let mut groups = BTreeMap::from([(DEFAULT_GROUP.to_owned(), Arc::new(built_in_default()))]);
    for (name, place, node) in named {
        let _ = report.keep(place.clone(), check_name("security group", name));
        let path = format!("security_groups.{name}");
        let title = format!("security group `{name}`");
        let Some(section) = Section::open((&path, title, place.clone()), *node, &GROUP, report) else {
            continue;
        };
        let description = section.get("description").and_then(|node| string(node, report)).map(str::to_owned);
        let on_change = section.get("on_change").and_then(|node| on_change(node, report));
        let mut direction = |direction| {
            let node = section.get(direction_name(direction))?;
            Some(specs(node, direction, (name, names), report))
        };
        let (ingress, egress) = (direction(Direction::Ingress), direction(Direction::Egress));
        let mut group = group(name, ingress.unwrap_or_default(), egress);
        (group.description, group.on_change) = (description, on_change.unwrap_or_default());
        groups.insert((*name).to_owned(), Arc::new(group));
    }
    groups
}

/// What is to become of flows, as the file says it.
pub(super) fn on_change(node: Node<'_>, report: &mut Report) -> Option<OnChange> {
    let words = [("cut", OnChange::Cut), ("keep", OnChange::Keep)];
    one_of(node, "what can become of established flows", words, report)
}

/// A rule, and the id that it has unless another of its group holds it.
type Identified = (RuleSpec, RuleId);

/// The rules of one direction that are right.
fn specs(
    node: Node<'_>,
    direction: Direction,
    (group, names): (&str, &Names<'_>),
    report: &mut Report,
) -> Vec<Identified> {
    let mut specs = Vec::new();
    let mut seen = HashSet::new();
    for node in list(node, report).unwrap_or_default() {
        let Some(spec) = rules::spec(node, direction, names, report) else { continue };
        let canonical = spec.canonical();
        specs.push((spec, id_of(group, direction, &canonical)));
        if !seen.insert(canonical) {
            let mistake = Mistake::new("this rule repeats an earlier one of the group");
            report.warnings.push(Finding::new(node.span(), mistake.help("remove one of them")));
        }
    }
    specs
}

/// A group whose rules have their ids; an omitted `egress` becomes the rule that it stands for.
fn group(name: &str, ingress: Vec<Identified>, egress: Option<Vec<Identified>>) -> SecurityGroup {
    let mut used = BTreeSet::new();
    let mut identify = |direction, specs: Vec<Identified>| -> Vec<Rule> {
        let identify = |(spec, id)| Rule::new(free_id(&mut used, id), direction, spec);
        specs.into_iter().map(identify).collect()
    };
    let ingress = identify(Direction::Ingress, ingress);
    let egress = match egress {
        Some(specs) => identify(Direction::Egress, specs),
        None => identify(Direction::Egress, vec![(RuleSpec::all_of(Peer::Any), default_allow_id(name))]),
    };
    SecurityGroup { ingress, egress, ..SecurityGroup::default() }
}

/// `wanted`, or the next that is not used yet.
pub(super) fn free_id(used: &mut BTreeSet<RuleId>, wanted: RuleId) -> RuleId {
    let mut id = wanted;
    while !used.insert(id) {
        id = id.wrapping_add(1).max(1);
    }
    id
}

/// What ports without groups are in, unless the file says otherwise: they reach one another.
fn built_in_default() -> SecurityGroup {
    let description = Some("built in: ports that name no group reach one another, and everybody".to_owned());
    let ingress = built_in_ingress();
    let id = ingress.id_in(DEFAULT_GROUP, Direction::Ingress);
    SecurityGroup { description, ..group(DEFAULT_GROUP, vec![(ingress, id)], None) }
}

/// The ingress rule of the built-in `default` group.
pub(crate) fn built_in_ingress() -> RuleSpec {
    RuleSpec::all_of(Peer::Group(DEFAULT_GROUP.to_owned()))
}
