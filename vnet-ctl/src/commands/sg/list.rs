//! `sg list`.

use super::{Context, GroupInfo};
use crate::{
    commands::source,
    failure::{Done, Outcome},
    output::{Table, View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg list
  vnet-ctl sg ls -o wide                        with the ports in each
  vnet-ctl sg ls -o json | jq -r '.[].ingress[].id'
  vnet-ctl sg ls --policy policy.toml           of a file; needs no daemon";

/// List the security groups of the policy file.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy = source::policy(context).await?;
        let groups = policy.security_groups.iter();
        let groups: Vec<_> = groups.map(|(name, group)| GroupInfo::new(&policy, name, group)).collect();
        context.output.show(&groups, &View::list(table(&groups)))?;
        Ok(Done::Success)
    }
}

fn table(groups: &[GroupInfo<'_>]) -> Table {
    let row = |info: &GroupInfo<'_>| {
        [
            info.name.to_owned(),
            info.group.ingress.len().to_string(),
            info.group.egress.len().to_string(),
            info.ports.len().to_string(),
            info.group.description.clone().unwrap_or_default(),
            listed(&info.ports),
        ]
    };
    Table::new(["NAME", "INGRESS RULES", "EGRESS RULES", "PORTS", "DESCRIPTION"])
        .wide(["MEMBERS"])
        .empty("The policy has no security groups.")
        .rows(groups.iter().map(row))
}
