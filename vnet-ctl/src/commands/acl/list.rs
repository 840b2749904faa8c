//! `acl list`.

use serde::Serialize;
use vnet_ctl::policy::{AclRule, format_rule_id};

use super::Context;
use crate::{
    commands::{
        sg::{direction, matched},
        source,
    },
    failure::{Done, Outcome},
    output::{Table, View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl acl list
  vnet-ctl acl ls -o name                       the ids, in order
  vnet-ctl acl ls -o json | jq -r '.[] | select(.action == \"deny\").id'
  vnet-ctl acl ls --policy policy.toml          of a file; needs no daemon";

/// List the entries of the acl in their order: the first that matches decides.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

/// An entry as JSON shows it.
#[derive(Serialize)]
struct Entry<'a> {
    position: usize,
    #[serde(flatten)]
    entry: &'a AclRule,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy = source::policy(context).await?;
        let entries = policy.acl.iter().zip(1..);
        let entries: Vec<_> = entries.map(|(entry, position)| Entry { position, entry }).collect();
        context.output.show(&entries, &View::list(table(&entries)))?;
        Ok(Done::Success)
    }
}

fn table(entries: &[Entry<'_>]) -> Table {
    let row = |Entry { position, entry: AclRule { action, rule } }: &Entry<'_>| {
        [
            format_rule_id(rule.id),
            position.to_string(),
            action.to_string(),
            direction(rule.direction).to_owned(),
            rule.protocol.to_string(),
            matched(rule),
            listed(&rule.peers),
            rule.description.clone().unwrap_or_default(),
        ]
    };
    Table::new(["ID", "POSITION", "ACTION", "DIRECTION", "PROTOCOL", "PORTS", "PEERS", "DESCRIPTION"])
        .empty("The policy has no acl: the groups decide.")
        .rows(entries.iter().map(row))
}
