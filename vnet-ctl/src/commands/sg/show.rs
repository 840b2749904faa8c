//! `sg show`.

use vnet_ctl::policy::{Rule, format_rule_id};

use super::{Context, GroupInfo, direction, matched};
use crate::{
    commands::source,
    failure::{Done, Outcome},
    output::{Table, View, listed},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg show web
  vnet-ctl sg show web -o json
  vnet-ctl sg show web --policy policy.toml     of a file; needs no daemon";

/// Show one security group: its rules with their ids, and the ports in it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The security group
    #[arg(value_name = "GROUP")]
    group: String,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy = source::policy(context).await?;
        let Some((name, group)) = policy.security_groups.get_key_value(&self.group) else {
            return Err(super::absent(&policy, &self.group));
        };
        let info = GroupInfo::new(&policy, name, group);
        context.output.show(&info, &view(&info))?;
        Ok(Done::Success)
    }
}

fn view(info: &GroupInfo<'_>) -> View {
    let rules = info.group.ingress.iter().chain(&info.group.egress);
    let table = Table::new(["ID", "DIRECTION", "PROTOCOL", "PORTS", "PEERS", "DESCRIPTION"])
        .empty("The group has no rules: nothing may come in or go out.")
        .rows(rules.map(row));
    let fields = [
        ("Name", info.name.to_owned()),
        ("Description", info.group.description.clone().unwrap_or_default()),
        ("Ports", if info.ports.is_empty() { "none".to_owned() } else { listed(&info.ports) }),
    ];
    View::of(info.name).fields(fields).table(table)
}

fn row(rule: &Rule) -> [String; 6] {
    [
        format_rule_id(rule.id),
        direction(rule.direction).to_owned(),
        rule.protocol.to_string(),
        matched(rule),
        listed(&rule.peers),
        rule.description.clone().unwrap_or_default(),
    ]
}
