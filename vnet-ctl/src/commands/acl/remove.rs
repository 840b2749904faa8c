//! `acl remove`: one entry less.

use serde::Serialize;
use vnet_common::RuleId;
use vnet_ctl::{
    edit::{self, AclSelector, AclSpec, EditError},
    policy::{Protocol, format_rule_id, parse_rule_id},
};

use super::{Action, Context};
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
  vnet-ctl acl remove --id 3f2a9c01
  vnet-ctl acl remove --position 1
  vnet-ctl acl remove deny ingress -p tcp --port 23 --from any
  vnet-ctl acl rm --id 3f2a9c01 --if-exists

`vnet-ctl acl list` prints ids and positions. A script does better to name an id: positions shift.";

/// Remove an entry from the acl, at once and in the policy file.
///
/// The entry is named by its id or its position, or described as it was added.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(override_usage = "vnet-ctl acl remove [OPTIONS] --id <ID>\n       \
    vnet-ctl acl remove [OPTIONS] --position <N>\n       \
    vnet-ctl acl remove [OPTIONS] <ACTION> <DIRECTION> --protocol <PROTOCOL> [--port …] --from|--to <PEER,…>")]
pub(crate) struct Command {
    /// deny or allow
    #[arg(value_name = "ACTION", value_enum, hide_possible_values = true)]
    #[arg(conflicts_with_all = ["id", "position"])]
    action: Option<Action>,
    /// ingress (to workloads) or egress (from them)
    #[arg(value_name = "DIRECTION", value_enum, hide_possible_values = true)]
    way: Option<Way>,
    /// The entry's id
    #[arg(long, value_name = "ID", value_parser = parse_rule_id, conflicts_with = "position")]
    #[arg(conflicts_with_all = ["protocol", "ports", "icmp_type", "icmp_code", "from", "to"])]
    id: Option<RuleId>,
    /// Its position, counted from 1
    #[arg(long, value_name = "N")]
    #[arg(conflicts_with_all = ["protocol", "ports", "icmp_type", "icmp_code", "from", "to"])]
    position: Option<usize>,
    /// tcp, udp, sctp, icmp, icmpv6, any, or a number from 1 to 255
    #[arg(short, long, value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    #[command(flatten)]
    matched: MatchArgs,
    /// Succeed if there is no such entry
    #[arg(long)]
    if_exists: bool,
}

#[derive(Debug, Serialize)]
struct EntryChange {
    /// None when there was no such entry.
    id: Option<String>,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let if_exists = self.if_exists;
        let selector = self.selector()?;
        let remove = |text: &str| {
            let told = |id: Option<RuleId>| EntryChange { id: id.map(format_rule_id) };
            match edit::remove_acl(text, &selector) {
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

    fn selector(self) -> Result<AclSelector, Failure> {
        let Self { action, way, id, position, protocol, matched, .. } = self;
        match (id, position, action, way, protocol) {
            (Some(id), ..) => Ok(AclSelector::Id(id)),
            (_, Some(position), ..) => Ok(AclSelector::Position(position)),
            (_, _, Some(action), Some(way), Some(protocol)) => {
                let rule = matched.spec(way, protocol)?;
                Ok(AclSelector::Spec(AclSpec { action: action.into(), direction: way.into(), rule }))
            }
            _ => Err(Failure::new(Kind::Invalid, "which entry?").help(
                "name it by --id or --position, or describe it as it was added: ACTION, DIRECTION, --protocol, \
                 --from or --to",
            )),
        }
    }
}
