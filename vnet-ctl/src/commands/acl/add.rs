//! `acl add`: one more entry, in its place.

use serde::Serialize;
use vnet_common::RuleId;
use vnet_ctl::{
    edit::{self, AclSpec, IfExists, Place},
    policy::{Protocol, RuleSpec, format_rule_id, parse_rule_id},
};

use super::{Action, Context};
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
  vnet-ctl acl add deny ingress -p tcp --port 23 --from any
  vnet-ctl acl add deny egress -p any --to 169.254.0.0/16 --description 'no link-local'
  vnet-ctl acl add allow ingress -p tcp --port 22 --from list:office --position 1
  vnet-ctl acl add deny ingress -p udp --from net:guests --after 3f2a9c01
  vnet-ctl acl add deny ingress -p tcp --port 23 --from any --dry-run     show the diff only

The first entry that matches a packet decides; where none does, the groups do. `vnet-ctl acl list` shows
them in their order.";

/// Add an entry to the acl, at once and in the policy file.
///
/// The acl comes before the groups, for all ports. Edits the policy file, comments and layout kept, and
/// has the daemon apply it; if the daemon refuses, the file stays as it is. Prints the entry's id.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("place"))]
pub(crate) struct Command {
    /// deny (drop, whatever the groups say) or allow (admit, without a rule of a group)
    #[arg(value_name = "ACTION", value_enum, hide_possible_values = true)]
    action: Action,
    /// ingress (to workloads) or egress (from them)
    #[arg(value_name = "DIRECTION", value_enum, hide_possible_values = true)]
    way: Way,
    /// tcp, udp, sctp, icmp, icmpv6, any, or a number from 1 to 255
    #[arg(short, long, value_name = "PROTOCOL")]
    protocol: Protocol,
    #[command(flatten)]
    matched: MatchArgs,
    /// Make it the Nth entry, counted from 1 [default: the last]
    #[arg(long, value_name = "N", group = "place")]
    position: Option<usize>,
    /// Put it directly before the entry with this id
    #[arg(long, value_name = "ID", value_parser = parse_rule_id, group = "place")]
    before: Option<RuleId>,
    /// Put it directly behind the entry with this id
    #[arg(long, value_name = "ID", value_parser = parse_rule_id, group = "place")]
    after: Option<RuleId>,
    /// What the entry is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Succeed if the entry is there already, wherever it is, and print its id
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Serialize)]
struct EntryChange {
    id: String,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let place = self.place();
        let rule = self.matched.spec(self.way, self.protocol)?;
        let rule = RuleSpec { description: self.description, ..rule };
        let spec = AclSpec { action: self.action.into(), direction: self.way.into(), rule };
        let if_exists = if self.if_not_exists { IfExists::Keep } else { IfExists::Fail };
        let add = |text: &str| {
            let added = edit::add_acl(text, &spec, place, if_exists);
            let (text, id) = added.map_err(|error| refused(context.output, error))?;
            Ok((text, EntryChange { id: format_rule_id(id) }))
        };
        let change = change(context, &add).await?;
        if !change.changed {
            context.output.note("The entry is there already.");
        }
        change.report(context, &change.told.id, &change.told.id)?;
        Ok(Done::Success)
    }

    fn place(&self) -> Place {
        let position = self.position.map(Place::Position);
        let before = self.before.map(Place::Before);
        position.or(before).or(self.after.map(Place::After)).unwrap_or_default()
    }
}
