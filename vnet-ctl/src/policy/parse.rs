//! From text to a validated policy: the file as a whole, and the order of its checks.

use std::{collections::BTreeSet, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    DEFAULT_GROUP, Diagnostics, Mistake, Policy, Warning, closest,
    diagnostic::Finding,
    groups, networks, ports,
    section::{Report, Schema, Section, integer},
};

const FILE: Schema = Schema {
    keys: &["version", "networks", "prefix_lists", "security_groups", "ports"],
    later: &["host", "uplinks", "acl", "forwards", "elastic_ips", "metadata"],
};

/// The version of the schema that this vnet understands.
const VERSION: i64 = 1;

/// More syntax errors than this are consequences of the first ones.
const MAX_SYNTAX_ERRORS: usize = 16;

/// The policy that `text` declares. `origin` names it in messages.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, origin: &Path) -> Result<(Policy, Vec<Warning>), Diagnostics> {
    let mut report = Report::default();
    let policy = read_file(text, &mut report);
    match policy {
        Some(policy) if report.errors.is_empty() => {
            let file = origin.display().to_string();
            Ok((policy, report.warnings.iter().map(|finding| finding.locate(&file, text)).collect()))
        }
        _ => Err(Diagnostics::new(origin, text, report.errors)),
    }
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

/// Always records an error when it gives none.
fn read_file(text: &str, report: &mut Report) -> Option<Policy> {
    if text.trim().is_empty() {
        let mistake = Mistake::new("the policy file is empty");
        report.error(0..0, mistake.help("begin with `version = 1`; examples/quickstart.toml is a start"));
        return None;
    }
    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        report.errors.extend(syntax.iter().take(MAX_SYNTAX_ERRORS).map(syntax_error));
        return None;
    }
    let root = toml::Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let start = first_word(text);
    if !is_understood(&root, start.clone(), report) {
        return None;
    }
    let file = Section::open(("", "the policy file".to_owned(), start), &root, &FILE, report)?;

    let networks = file.named("networks", report);
    let lists = file.named("prefix_lists", report);
    let groups = file.named("security_groups", report);
    let names = Names {
        networks: networks.iter().map(|(name, ..)| *name).collect(),
        lists: lists.iter().map(|(name, ..)| *name).collect(),
        groups: groups.iter().map(|(name, ..)| *name).chain([DEFAULT_GROUP]).collect(),
    };
    let networks = networks::networks(&networks, report);
    let prefix_lists = groups::prefix_lists(&lists, report);
    let security_groups = groups::security_groups(&groups, &names, report);
    let ports = ports::ports(&file.named("ports", report), &networks, &names, report);
    Some(Policy { networks, prefix_lists, security_groups, ports })
}

/// Whether the file is written for this version of the schema. If not, nothing else in it is judged.
fn is_understood(
    root: &toml::Spanned<DeValue<'_>>,
    start: std::ops::Range<usize>,
    report: &mut Report,
) -> bool {
    const ANYTHING: Schema = Schema { keys: &[], later: &[] };
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

fn syntax_error(error: &toml::de::Error) -> Finding {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let mistake = Mistake::new(format!("this is not TOML: {message}"));
    let mistake = if message.contains("duplicate key") {
        mistake.help("give each name once; put what belongs together under one heading")
    } else {
        mistake
    };
    Finding::new(error.span().unwrap_or(0..0), mistake)
}

/// The mistake of naming something that is not there.
pub(super) fn unknown(kind: &str, name: &str, known: &BTreeSet<&str>, heading: &str) -> Mistake {
    let help = match closest(name, known.iter().copied()) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("declare it under [{heading}.{name}]"),
    };
    Mistake::new(format!("there is no {kind} `{name}`")).help(help)
}
