//! A security group on its way from its text: its rules are right, but no id is settled yet.

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use vnet_common::{Direction, RuleId};

use super::{
    Mistake, OnChange, Peer, Rule, RuleSpec, SecurityGroup,
    diagnostic::Finding,
    groups::{GROUP, on_change},
    names::check_name,
    parse::Names,
    rule::{Ids, default_allow_id, direction_name},
    rules,
    section::{Named, Node, Report, Section, list, string},
};

/// A group that was read.
#[derive(Default)]
pub(super) struct Draft {
    /// What people call it.
    pub(super) description: Option<String>,
    on_change: OnChange,
    ingress: Specs,
    /// Nothing if the file does not say.
    egress: Option<Specs>,
}

impl Draft {
    /// The group that the file names so; what is wrong with it is recorded. `None` if it is not even a table.
    pub(super) fn read(
        (name, place, node): &Named<'_>,
        names: &Names<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let _ = report.keep(place.clone(), check_name("security group", name));
        let path = format!("security_groups.{name}");
        let title = format!("security group `{name}`");
        let section = Section::open((&path, title, place.clone()), *node, &GROUP, report)?;
        let description = section.get("description").and_then(|node| string(node, report)).map(str::to_owned);
        let on_change = section.get("on_change").and_then(|node| on_change(node, report)).unwrap_or_default();
        let mut direction = |direction| {
            let node = section.get(direction_name(direction))?;
            Some(Specs::read(node, (name, direction), names, report))
        };
        let (ingress, egress) = (direction(Direction::Ingress), direction(Direction::Egress));
        Some(Self { description, on_change, ingress: ingress.unwrap_or_default(), egress })
    }

    /// The same with these rules of `direction`, which it says nothing about but that there may be some.
    pub(super) fn with(self, direction: Direction, specs: Specs) -> Self {
        match direction {
            Direction::Ingress => Self { ingress: specs, ..self },
            Direction::Egress => Self { egress: Some(specs), ..self },
        }
    }

    /// The group `name`, whose rules have their ids; an omitted `egress` becomes the rule that it stands for.
    pub(super) fn group(self, name: &str) -> SecurityGroup {
        let Self { description, on_change, ingress, egress } = self;
        let default = || vec![(RuleSpec::all_of(Peer::Any), default_allow_id(name))];
        let egress = egress.map_or_else(default, |specs| specs.list);
        let mut used = HashSet::with_capacity(ingress.list.len() + egress.len());
        let mut identify = |direction, specs: Vec<_>| -> Vec<Rule> {
            let identify = |(spec, id)| Rule::new(free_id(&mut used, id), direction, spec);
            specs.into_iter().map(identify).collect()
        };
        let ingress = identify(Direction::Ingress, ingress.list);
        SecurityGroup { description, ingress, egress: identify(Direction::Egress, egress), on_change }
    }
}

/// Rules of one direction, each with the id that it has unless another of its group holds it.
#[derive(Default)]
pub(super) struct Specs {
    list: Vec<(RuleSpec, RuleId)>,
    /// The first of each id.
    first: HashMap<RuleId, usize>,
    /// What rules match that want the same ids. Rules that match the same are always among them.
    rivals: HashSet<String>,
}

impl Specs {
    /// Has room for `count` rules.
    pub(super) fn with_capacity(count: usize) -> Self {
        let (list, first) = (Vec::with_capacity(count), HashMap::with_capacity(count));
        Self { list, first, rivals: HashSet::default() }
    }

    /// The rules that are right of those in `node`.
    fn read(
        node: Node<'_>,
        (group, direction): (&str, Direction),
        names: &Names<'_>,
        report: &mut Report,
    ) -> Self {
        let ids = Ids::new(group, direction);
        let mut specs = Self::default();
        for node in list(node, report).unwrap_or_default() {
            let Some(spec) = rules::spec(node, direction, names, report) else { continue };
            let id = ids.of(&spec);
            if !specs.add(spec, id) {
                let mistake = Mistake::new("this rule repeats an earlier one of the group");
                report.warnings.push(Finding::new(node.span(), mistake.help("remove one of them")));
            }
        }
        specs
    }

    /// Adds a rule that wants `id`; false if it repeats an earlier one.
    pub(super) fn add(&mut self, spec: RuleSpec, id: RuleId) -> bool {
        let first = *self.first.entry(id).or_insert(self.list.len());
        let is_new = match self.list.get(first) {
            None => true,
            Some((first, _)) => {
                self.rivals.insert(first.canonical());
                self.rivals.insert(spec.canonical())
            }
        };
        self.list.push((spec, id));
        is_new
    }
}

/// `wanted`, or the next that is not used yet.
pub(super) fn free_id(used: &mut HashSet<RuleId>, wanted: RuleId) -> RuleId {
    let mut id = wanted;
    while !used.insert(id) {
        id = id.wrapping_add(1).max(1);
    }
    id
}
