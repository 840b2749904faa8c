//! The `prefix_lists` and `security_groups` of a policy file.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use vnet_common::{Direction, RuleId};

use super::{
    DEFAULT_GROUP, Mistake, Peer, Rule, RuleSpec, SecurityGroup,
    diagnostic::Finding,
    names::check_name,
    parse::Names,
    rule::{default_allow_id, direction_name, parse_cidr},
    rules,
    section::{Named, Node, Report, Schema, Section, list, list_of, string},
};

const GROUP: Schema = Schema { keys: &["description", "ingress", "egress"], later: &["on_change"] };

/// The prefix lists that are right; what is wrong with the others is recorded.
pub(super) fn prefix_lists(named: &[Named<'_>], report: &mut Report) -> BTreeMap<String, Vec<IpNet>> {
    let mut lists = BTreeMap::new();
    for (name, place, node) in named {
        let _ = report.keep(place.clone(), check_name("prefix list", name));
        let prefixes = list_of(node, report, |node, report| {
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
) -> BTreeMap<String, SecurityGroup> {
    let mut groups = BTreeMap::from([(DEFAULT_GROUP.to_owned(), built_in_default())]);
    for (name, place, node) in named {
        let _ = report.keep(place.clone(), check_name("security group", name));
        let path = format!("security_groups.{name}");
        let title = format!("security group `{name}`");
        let Some(section) = Section::open((&path, title, place.clone()), node, &GROUP, report) else {
            continue;
        };
        let description = section.get("description").and_then(|node| string(node, report)).map(str::to_owned);
        let mut direction = |direction| {
            let node = section.get(direction_name(direction))?;
            Some(specs(node, direction, names, report))
        };
        let (ingress, egress) = (direction(Direction::Ingress), direction(Direction::Egress));
        groups.insert((*name).to_owned(), group(name, description, ingress.unwrap_or_default(), egress));
    }
    groups
}

/// The rules of one direction that are right.
fn specs(node: Node<'_>, direction: Direction, names: &Names<'_>, report: &mut Report) -> Vec<RuleSpec> {
    let mut specs: Vec<RuleSpec> = Vec::new();
    for node in list(node, report).unwrap_or_default() {
        let Some(spec) = rules::spec(node, direction, names, report) else { continue };
        if specs.iter().any(|other| other.matches_same(&spec)) {
            let mistake = Mistake::new("this rule repeats an earlier one of the group");
            report.warnings.push(Finding::new(node.span(), mistake.help("remove one of them")));
        }
        specs.push(spec);
    }
    specs
}

/// A group whose rules have their ids; an omitted `egress` becomes the rule that it stands for.
fn group(
    name: &str,
    description: Option<String>,
    ingress: Vec<RuleSpec>,
    egress: Option<Vec<RuleSpec>>,
) -> SecurityGroup {
    let mut used = BTreeSet::new();
    let mut identify = |direction, specs: Vec<RuleSpec>| -> Vec<Rule> {
        let identify =
            |spec: RuleSpec| Rule::new(free_id(&mut used, spec.id_in(name, direction)), direction, spec);
        specs.into_iter().map(identify).collect()
    };
    let ingress = identify(Direction::Ingress, ingress);
    let egress = match egress {
        Some(specs) => identify(Direction::Egress, specs),
        None => {
            let id = free_id(&mut used, default_allow_id(name));
            vec![Rule::new(id, Direction::Egress, RuleSpec::all_of(Peer::Any))]
        }
    };
    SecurityGroup { description, ingress, egress }
}

/// `wanted`, or the next that no rule of the group has.
fn free_id(used: &mut BTreeSet<RuleId>, wanted: RuleId) -> RuleId {
    let mut id = wanted;
    while !used.insert(id) {
        id = id.wrapping_add(1).max(1);
    }
    id
}

/// What ports without groups are in, unless the file says otherwise: they reach one another.
fn built_in_default() -> SecurityGroup {
    let description = Some("built in: ports that name no group reach one another, and everybody".to_owned());
    group(DEFAULT_GROUP, description, vec![built_in_ingress()], None)
}

/// The ingress rule of the built-in `default` group.
pub(crate) fn built_in_ingress() -> RuleSpec {
    RuleSpec::all_of(Peer::Group(DEFAULT_GROUP.to_owned()))
}
