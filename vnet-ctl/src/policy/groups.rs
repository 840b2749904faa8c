//! The `prefix_lists` and `security_groups` of a policy file.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use vnet_common::Direction;

use super::{
    DEFAULT_GROUP, OnChange, Peer, RuleSpec, SecurityGroup,
    draft::{Draft, Specs},
    names::check_name,
    parse::Names,
    rule::parse_cidr,
    section::{Named, Node, Report, Schema, list_of, one_of, string},
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
    for named in named {
        if let Some(draft) = Draft::read(named, names, report) {
            let (name, ..) = named;
            groups.insert((*name).to_owned(), Arc::new(draft.group(name)));
        }
    }
    groups
}

/// What is to become of flows, as the file says it.
pub(super) fn on_change(node: Node<'_>, report: &mut Report) -> Option<OnChange> {
    let words = [("cut", OnChange::Cut), ("keep", OnChange::Keep)];
    one_of(node, "what can become of established flows", words, report)
}

/// What ports without groups are in, unless the file says otherwise: they reach one another.
fn built_in_default() -> SecurityGroup {
    let description = Some("built in: ports that name no group reach one another, and everybody".to_owned());
    let ingress = built_in_ingress();
    let id = ingress.id_in(DEFAULT_GROUP, Direction::Ingress);
    let mut specs = Specs::default();
    specs.add(ingress, id);
    SecurityGroup { description, ..Draft::default().with(Direction::Ingress, specs).group(DEFAULT_GROUP) }
}

/// The ingress rule of the built-in `default` group.
pub(crate) fn built_in_ingress() -> RuleSpec {
    RuleSpec::all_of(Peer::Group(DEFAULT_GROUP.to_owned()))
}
