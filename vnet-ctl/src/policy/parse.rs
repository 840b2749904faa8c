//! From text to a validated policy: the file as a whole, and the order of its checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    DEFAULT_GROUP, Diagnostics, HostPolicy, Mistake, Policy, Warning, acl, admission, closest, elastic_ips,
    exits, forwards, groups, host, metadata, networks,
    parser::parse_in_parts,
    ports,
    section::{Node, Report, Schema, Section, integer},
    targets::Targets,
    tree::Tree,
};

pub(super) const FILE: Schema = Schema {
    keys: &[
        "version",
        "host",
        "uplinks",
        "networks",
        "prefix_lists",
        "acl",
        "security_groups",
        "ports",
        "forwards",
        "elastic_ips",
        "metadata",
    ],
    later: &[],
};

/// The version of the schema that this vnet understands.
const VERSION: i64 = 1;

/// The policy that `text` declares, in TOML or, if it begins with `{`, in JSON. `origin` names it in messages.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, origin: &Path) -> Result<(Policy, Vec<Warning>), Diagnostics> {
    match parse_in_parts(text, origin) {
        Some(policy) => Ok((policy, Vec::new())),
        None => parse_whole(text, origin),
    }
}

/// The same, from a tree of the whole text.
pub(super) fn parse_whole(text: &str, origin: &Path) -> Result<(Policy, Vec<Warning>), Diagnostics> {
    let mut report = Report::default();
    match read_text(text, origin, &mut report) {
        Some((policy, places)) if report.errors.is_empty() => {
            report.warnings.extend(admission::warnings(&policy, &places));
            Ok((policy, Diagnostics::new(origin, text, report.warnings).iter().collect()))
        }
        _ => Err(Diagnostics::new(origin, text, report.errors)),
    }
}

/// The policy that `text` declares, unless anything is wrong or strange about it; but whether its groups admit
/// anything is not looked at.
pub(super) fn parse_all_but_admission(text: &str, origin: &Path) -> Option<Policy> {
    let mut report = Report::default();
    let (policy, _) = read_text(text, origin, &mut report)?;
    (report.errors.is_empty() && report.warnings.is_empty()).then_some(policy)
}

/// What `text`, which is valid, declares, and where; nothing if it is not.
pub(super) fn parse_with_places(text: &str, origin: &Path) -> Option<(Policy, admission::Places)> {
    read_text(text, origin, &mut Report::default())
}

/// Names that other parts of the file may refer to, whether or not what they name is right.
pub(super) struct Names<'t> {
    /// Networks.
    pub(super) networks: BTreeSet<&'t str>,
    /// Prefix lists.
    pub(super) lists: BTreeSet<&'t str>,
    /// Security groups, `default` included.
    pub(super) groups: BTreeSet<&'t str>,
}

/// The names in `policy`.
pub(super) fn names_of(policy: &Policy) -> Names<'_> {
    fn keys<T>(named: &BTreeMap<String, T>) -> BTreeSet<&str> {
        named.keys().map(String::as_str).collect()
    }
    Names {
        networks: keys(&policy.networks),
        lists: keys(&policy.prefix_lists),
        groups: keys(&policy.security_groups).into_iter().chain([DEFAULT_GROUP]).collect(),
    }
}

impl Names<'_> {
    /// Whether all of `others` are among them.
    pub(super) fn include(&self, others: &Names<'_>) -> bool {
        self.networks.is_superset(&others.networks)
            && self.lists.is_superset(&others.lists)
            && self.groups.is_superset(&others.groups)
    }
}

/// Always records an error when it gives none.
fn read_text(text: &str, origin: &Path, report: &mut Report) -> Option<(Policy, admission::Places)> {
    if text.trim().is_empty() {
        let mistake = Mistake::new("the policy file is empty");
        report.error(0..0, mistake.help("begin with `version = 1`; examples/quickstart.toml is a start"));
        return None;
    }
    let tree =
        if is_json(text, origin) { Tree::of_json(text, report)? } else { Tree::of_toml(text, report)? };
    read_file(tree.root(), first_word(text), report)
}

/// Nothing in TOML begins with a brace.
pub(super) fn is_json(text: &str, origin: &Path) -> bool {
    text.trim_start().starts_with('{') || origin.extension().is_some_and(|extension| extension == "json")
}

/// What the file declares; an error is recorded if anything in it is wrong.
fn read_file(
    root: Node<'_>,
    start: std::ops::Range<usize>,
    report: &mut Report,
) -> Option<(Policy, admission::Places)> {
    if !is_understood(root, start.clone(), report) {
        return None;
    }
    let file = Section::open(("", "the policy file".to_owned(), start), root, &FILE, report)?;

    let networks = file.named("networks", report);
    let lists = file.named("prefix_lists", report);
    let groups = file.named("security_groups", report);
    let names = Names {
        networks: networks.iter().map(|(name, ..)| *name).collect(),
        lists: lists.iter().map(|(name, ..)| *name).collect(),
        groups: groups.iter().map(|(name, ..)| *name).chain([DEFAULT_GROUP]).collect(),
    };
    let host = file.get("host").map_or_else(HostPolicy::default, |node| host::host(node, report));
    let (networks, peers) = networks::networks(&networks, &names, report);
    let prefix_lists = groups::prefix_lists(&lists, report);
    let acl = file.get("acl").map(|node| acl::acl(node, &names, report)).unwrap_or_default();
    let security_groups = groups::security_groups(&groups, &names, report);
    let named = file.named("ports", report);
    let ports = ports::ports(&named, &networks, &names, report);
    let port_names = named.iter().map(|(name, ..)| *name).collect();
    let targets = Targets { networks: &networks, ports: &ports, port_names };
    let (outside, places) = outside(&file, &targets, &names, report);
    let places = admission::Places { peers, ..places };
    let policy = Policy { host, networks, prefix_lists, acl, security_groups, ports, ..outside };
    Some((policy, places))
}

/// What the file says about the way outside and the ways in: a policy with nothing else in it.
fn outside(
    file: &Section<'_>,
    targets: &Targets<'_, '_>,
    names: &Names<'_>,
    report: &mut Report,
) -> (Policy, admission::Places) {
    let uplinks = exits::uplinks(&file.named("uplinks", report), targets, names, report);
    let forwards = file.get("forwards").map(|node| forwards::forwards(node, targets, report));
    let (forwards, forward_places) = forwards.unwrap_or_default();
    let named = file.named("elastic_ips", report);
    let (elastic_ips, elastic_places) = elastic_ips::elastic_ips(&named, targets, report);
    let metadata = file.get("metadata").map(|node| metadata::metadata(node, (targets, names), report));
    let metadata = metadata.unwrap_or_default();
    let places = admission::Places {
        forwards: forward_places,
        elastic_ips: elastic_places,
        ..admission::Places::default()
    };
    (Policy { uplinks, forwards, elastic_ips, metadata, ..Policy::default() }, places)
}

/// Whether the file is written for this version of the schema. If not, nothing else in it is judged.
fn is_understood(root: Node<'_>, start: std::ops::Range<usize>, report: &mut Report) -> bool {
    const ANYTHING: Schema = Schema { keys: &[], later: &[] };
    if root.entries().is_none() {
        report.error(start, Mistake::new("a policy is a table").help("begin with { \"version\": 1,"));
        return false;
    }
    // Its unknown keys are not those of this schema: they are told when the version is right.
    let Some(file) =
        Section::open(("", "the policy file".to_owned(), start), root, &ANYTHING, &mut Report::default())
    else {
        return false;
    };
    let Some(node) = file.get("version") else {
        let _ = file.require("version", "begin with `version = 1`", report);
        return true;
    };
    let Some(version) = integer(node, report) else { return true };
    if version != VERSION {
        let message =
            format!("this is a policy of version {version}, and this vnet understands version {VERSION}");
        let help = if version > VERSION {
            "use a newer vnet, or write the policy for version 1"
        } else {
            "write `version = 1`"
        };
        report.error(node.span(), Mistake::new(message).help(help));
    }
    version == VERSION
}

/// The first word that is not a comment: where something missing at the beginning is told.
fn first_word(text: &str) -> std::ops::Range<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            let start = offset + line.len() - trimmed.len();
            return start..offset + line.trim_end().len();
        }
        offset += line.len();
    }
    0..0
}

/// The mistake of naming something that is not there.
pub(super) fn unknown(kind: &str, name: &str, known: &BTreeSet<&str>, heading: &str) -> Mistake {
    let help = match closest(name, known.iter().copied()) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("declare it under [{heading}.{name}]"),
    };
    Mistake::new(format!("there is no {kind} `{name}`")).help(help)
}
