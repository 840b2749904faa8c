//! `sg remove`: one rule less.

use serde::Serialize;
use vnet_common::RuleId;
use vnet_ctl::{
    edit::{self, EditError, Selector},
    policy::{Protocol, format_rule_id, parse_rule_id},
};

use super::Context;
use crate::{
    commands::{
        change::change,
        named::refused,
        rule_args::{MatchArgs, Way},
    },
    failure::{Done, Failure, Kind, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg remove web --id 3f2a9c01
  vnet-ctl sg remove web ingress -p tcp --port 80,443 --from any
  vnet-ctl sg remove web --id 3f2a9c01 --if-exists

`vnet-ctl sg show GROUP` prints the ids. `vnet-ctl sg rm GROUP` is another command: it deletes the group.";

/// Remove a rule from a group, at once and in the policy file.
///
/// The rule is named by its id or described as it was added. Flows that no rule allows any more are cut.
/// The group itself stays, even without rules; `sg delete`, or `sg rm`, deletes it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "vnet-ctl sg remove [OPTIONS] <GROUP> --id <ID>\n       \
    vnet-ctl sg remove [OPTIONS] <GROUP> <DIRECTION> --protocol <PROTOCOL> [--port …] --from|--to <PEER,…>")]
pub(crate) struct Command {
    /// The security group
    #[arg(value_name = "GROUP")]
    group: String,
    /// ingress (to the workload) or egress (from it)
    #[arg(value_name = "DIRECTION", value_enum, hide_possible_values = true, conflicts_with = "id")]
    way: Option<Way>,
    /// The rule's id
    #[arg(long, value_name = "ID", value_parser = parse_rule_id)]
    #[arg(conflicts_with_all = ["protocol", "ports", "icmp_type", "icmp_code", "from", "to"])]
    id: Option<RuleId>,
    /// tcp, udp, sctp, icmp, icmpv6, any, or a number from 1 to 255
    #[arg(short, long, value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    #[command(flatten)]
    matched: MatchArgs,
    /// Succeed if there is no such rule
    #[arg(long)]
    if_exists: bool,
}

#[derive(Debug, Serialize)]
struct RuleChange {
    /// None when there was no such rule.
    id: Option<String>,
    group: String,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let Self { group, way, id, protocol, matched, if_exists } = self;
        let selector = match (id, way, protocol) {
            (Some(id), ..) => Selector::Id(id),
            (None, Some(way), Some(protocol)) => Selector::Spec(way.into(), matched.spec(way, protocol)?),
            _ => {
                return Err(Failure::new(Kind::Invalid, "which rule?").help(
                    "name it by --id, or describe it as it was added: DIRECTION, --protocol, --from or --to",
                ));
            }
        };
        let remove = |text: &str| {
            let told = |id: Option<RuleId>| RuleChange { id: id.map(format_rule_id), group: group.clone() };
            match edit::remove_rule(text, &group, &selector) {
                Ok((text, id)) => Ok((text, told(Some(id)))),
                Err(EditError::NotFound(_)) if if_exists => Ok((text.to_owned(), told(None))),
                Err(error) => Err(refused(context.output, error)),
            }
        };
        let change = change(context, &remove).await?;
        let answer = match &change.told.id {
            Some(id) => format!("removed {id}"),
            None => "nothing to remove".to_owned(),
        };
        change.report(context, change.told.id.as_deref().unwrap_or_default(), &answer)?;
        Ok(Done::Success)
    }
}
