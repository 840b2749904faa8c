//! `sg add`: one more allow rule.

use serde::Serialize;
use vnet_ctl::{
    edit::{self, IfExists},
    policy::{Protocol, format_rule_id},
};

use super::{Context, direction};
use crate::{
    commands::{
        change::change,
        named::refused,
        rule_args::{MatchArgs, Way},
    },
    failure::{Done, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg add web ingress -p tcp --port 80,443 --from any
  vnet-ctl sg add db ingress -p tcp --port 5432 --from sg:web --description 'the web tier'
  vnet-ctl sg add web ingress -p icmp --icmp-type 8 --from net:web,203.0.113.0/24
  vnet-ctl sg add db egress -p any --to list:office
  vnet-ctl sg add web ingress -p tcp --port 22 --from any --dry-run     show the diff only";

/// Add an allow rule to a group, at once and in the policy file.
///
/// Edits the policy file, comments and layout kept, and has the daemon apply it; if the daemon refuses,
/// the file stays as it is. Prints the rule's id.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The security group
    #[arg(value_name = "GROUP")]
    group: String,
    /// ingress (to the workload) or egress (from it)
    #[arg(value_name = "DIRECTION", value_enum, hide_possible_values = true)]
    way: Way,
    /// tcp, udp, sctp, icmp, icmpv6, any, or a number from 1 to 255
    #[arg(short, long, value_name = "PROTOCOL")]
    protocol: Protocol,
    #[command(flatten)]
    matched: MatchArgs,
    /// What the rule is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Succeed if the rule is there already, and print its id
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Serialize)]
struct RuleChange {
    id: String,
    group: String,
    direction: &'static str,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let Self { group, way, protocol, matched, description, if_not_exists } = self;
        let spec = matched.spec(way, protocol)?;
        let spec = vnet_ctl::policy::RuleSpec { description, ..spec };
        let if_exists = if if_not_exists { IfExists::Keep } else { IfExists::Fail };
        let add = |text: &str| {
            let (text, id) = edit::add_rule(text, &group, way.into(), &spec, if_exists)
                .map_err(|error| refused(context.output, error))?;
            let told =
                RuleChange { id: format_rule_id(id), group: group.clone(), direction: direction(way.into()) };
            Ok((text, told))
        };
        let change = change(context, &add).await?;
        if !change.changed {
            context.output.note("The rule is there already.");
        }
        change.report(context, &change.told.id, &change.told.id)?;
        Ok(Done::Success)
    }
}
