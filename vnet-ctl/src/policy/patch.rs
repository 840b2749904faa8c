//! A group whose text was edited within its rules: reads the lines that differ, and no others.
//!
//! This works where each rule of a direction has a line of its own, `{ … },`, between `ingress = [` and `]`.
//! That such a line is one whole rule is certain because the old text is known to be valid: it has no comment
//! that could hide a brace, no string has several lines, and no rule has a table within it. The lines that are
//! new are read as a list of their own, which ends as it does in the text.

use vnet_common::{Direction, RuleId};

use super::{
    Rule, SecurityGroup,
    outline::{Edit, is_plain, list_opened_by},
    parse::Names,
    rule::default_allow_id,
    rules,
    section::{Report, integer},
    tree::Tree,
};

/// What the group `name` is after `old`, which is valid and says `group`, became `new`; `None` if only the whole
/// of it can tell.
pub(super) fn patch(
    name: &str,
    (old, group): (&str, &SecurityGroup),
    new: &str,
    names: &Names<'_>,
) -> Option<SecurityGroup> {
    let edit = Edit::between(old, new).whole_lines(old, new);
    let place = Place::find(old, &edit)?;
    let of_direction = |group: &SecurityGroup| match place.direction {
        Direction::Ingress => group.ingress.len(),
        Direction::Egress => group.egress.len(),
    };
    if of_direction(group) != place.rules || !has_usual_ids(name, group) {
        return None;
    }
    let rules = read(name, &new[edit.new], &place, names)?;

    let mut group = group.clone();
    let changed = match place.direction {
        Direction::Ingress => &mut group.ingress,
        Direction::Egress => &mut group.egress,
    };
    changed.splice(place.first..place.end, rules);
    is_each_once(&ids(&group)).then_some(group)
}

/// The rules that `lines` are in the group; `None` if anything about them has to be told.
fn read(group: &str, lines: &str, place: &Place, names: &Names<'_>) -> Option<Vec<Rule>> {
    // Another item after the last needs the comma that the rules after it need.
    let next = if place.end < place.rules { "0\n" } else { "" };
    let list = format!("rules = [\n{lines}\n{next}]\n");
    let mut report = Report::default();
    let tree = Tree::of_toml(&list, &mut report).filter(|_| is_plain(lines))?;
    let entries = tree.root().entries()?;
    let [(_, _, node)] = entries.as_slice() else { return None };
    let mut items = node.items()?;
    if !next.is_empty() {
        integer(items.pop()?, &mut report)?;
    }
    let mut rule = |item| {
        let spec = rules::spec(item, place.direction, names, &mut report)?;
        Some(Rule::new(spec.id_in(group, place.direction), place.direction, spec))
    };
    let rules = items.into_iter().map(&mut rule).collect::<Option<_>>()?;
    (report.errors.is_empty() && report.warnings.is_empty()).then_some(rules)
}

/// The ids of the group's rules, in order.
fn ids(group: &SecurityGroup) -> Vec<RuleId> {
    let mut ids: Vec<_> = group.ingress.iter().chain(&group.egress).map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids
}

fn is_each_once(ids: &[RuleId]) -> bool {
    ids.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether no rule had to take another id because its own was in use: it would be the one after it.
fn has_usual_ids(name: &str, group: &SecurityGroup) -> bool {
    let ids = ids(group);
    let follows = |id: RuleId| {
        let before = if id == 1 { RuleId::MAX } else { id - 1 };
        ids.binary_search(&before).is_ok()
    };
    let is_usual = |rule: &Rule| {
        let usual = || [rule.spec().id_in(name, rule.direction), default_allow_id(name)];
        !follows(rule.id) || usual().contains(&rule.id)
    };
    group.ingress.iter().chain(&group.egress).all(is_usual)
}

/// Where the edit is in the old text.
struct Place {
    direction: Direction,
    /// The rules that the edit replaces.
    first: usize,
    end: usize,
    /// How many rules the list has.
    rules: usize,
}

/// A list of rules while its lines are walked through.
struct List {
    direction: Direction,
    /// Rules so far.
    rules: usize,
    /// Whether the last of them has its comma.
    is_open: bool,
    /// Where the edit begins and ends, once it is known.
    first: Option<usize>,
    end: Option<usize>,
}

impl Place {
    /// `None` if the edit is not between the lines of one list, or a line of the list is unusual.
    fn find(old: &str, edit: &Edit) -> Option<Self> {
        let mut list: Option<List> = None;
        let mut at = 0;
        for line in old.split_inclusive('\n') {
            if let Some(list) = &mut list {
                list.look(at, edit)?;
            }
            at += line.len();
            let line = line.trim();
            let Some(now) = &mut list else {
                list = List::opened_by(line);
                continue;
            };
            if line == "]" {
                match (now.first, now.end) {
                    (Some(first), Some(end)) => {
                        return Some(Self { direction: now.direction, first, end, rules: now.rules });
                    }
                    (None, None) => list = None,
                    _ => return None,
                }
            } else if !(line.is_empty() || line.starts_with('#')) {
                now.add(line)?;
            }
        }
        None
    }
}

impl List {
    /// The list that begins with `line`.
    fn opened_by(line: &str) -> Option<Self> {
        let direction = list_opened_by(line)?;
        Some(Self { direction, rules: 0, is_open: true, first: None, end: None })
    }

    /// Notes what begins at `at`, between two lines; `None` where no rule may stand.
    fn look(&mut self, at: usize, edit: &Edit) -> Option<()> {
        if at == edit.old.start {
            self.first = self.is_open.then_some(self.rules);
            self.first?;
        }
        if at == edit.old.end {
            self.end = Some(self.rules);
        }
        Some(())
    }

    /// Takes a line that is neither empty nor a comment; `None` if it is not one whole rule.
    fn add(&mut self, line: &str) -> Option<()> {
        let is_rule = line.starts_with('{') && !line.contains('#');
        self.is_open = line.ends_with("},");
        self.rules += 1;
        (is_rule && (self.is_open || line.ends_with('}'))).then_some(())
    }
}
