//! `sg`: security groups, as the policy file declares them.
//!
//! The commands that change a group edit that file and have the daemon apply it; those that only look
//! need no daemon. How the text is edited is [`vnet_ctl::edit`]'s affair.

mod add;
mod create;
mod delete;
mod list;
mod remove;
mod set;
mod show;
mod test;

use clap::ValueEnum;
use serde::Serialize;
use vnet_common::Direction;
use vnet_ctl::policy::{Policy, Rule, SecurityGroup};

use super::Context;
use crate::{failure::Outcome, output::joined};

/// The commands about security groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(create::Command),
    #[command(visible_alias = "rm")]
    Delete(delete::Command),
    #[command(visible_alias = "ls")]
    List(list::Command),
    Show(show::Command),
    Add(add::Command),
    Remove(remove::Command),
    Set(set::Command),
    Test(test::Command),
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Delete(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Show(command) => command.run(context).await,
            Self::Add(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
            Self::Set(command) => command.run(context).await,
            Self::Test(command) => command.run(context).await,
        }
    }
}

/// A group as JSON shows it.
#[derive(Debug, Serialize)]
struct GroupInfo<'a> {
    name: &'a str,
    #[serde(flatten)]
    group: &'a SecurityGroup,
    /// The ports that are in it.
    ports: Vec<&'a str>,
}

impl<'a> GroupInfo<'a> {
    fn new(policy: &'a Policy, name: &'a str, group: &'a SecurityGroup) -> Self {
        let is_member = |groups: &[String]| groups.iter().any(|group| group == name);
        let ports = policy.ports.iter().filter(|(_, port)| is_member(&port.security_groups));
        Self { name, group, ports: ports.map(|(name, _)| name.as_str()).collect() }
    }
}

/// What becomes of a flow that no rule allows any more, after a change of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnChange {
    /// It is cut with its next packet
    Cut,
    /// It goes on until it ends
    Keep,
}

impl OnChange {
    /// As the policy file has it.
    fn key(self) -> String {
        match self {
            Self::Cut => "cut".to_owned(),
            Self::Keep => "keep".to_owned(),
        }
    }
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// What a rule matches above its protocol: ports, or an ICMP type.
pub(super) fn matched(rule: &Rule) -> String {
    match rule.icmp {
        Some((kind, None)) => format!("type {kind}"),
        Some((kind, Some(code))) => format!("type {kind} code {code}"),
        None if rule.ports.is_empty() => "all".to_owned(),
        None => joined(&rule.ports),
    }
}

/// A rule on one line: `ingress tcp 80,443 from any`.
pub(super) fn sentence(rule: &Rule) -> String {
    let preposition = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let (way, protocol) = (direction(rule.direction), rule.protocol);
    format!("{way} {protocol} {} {preposition} {}", matched(rule), joined(&rule.peers))
}

#[cfg(test)]
mod tests {
    use vnet_ctl::policy::{Peer, Protocol, RuleSpec};

    use super::*;

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let mut spec = RuleSpec::all_of(Peer::Any);
        spec.protocol = Protocol::TCP;
        spec.ports = vec!["80".parse().expect("a port"), "8000-8010".parse().expect("a range")];
        assert_eq!(sentence(&Rule::new(1, Direction::Ingress, spec)), "ingress tcp 80,8000-8010 from any");
        let mut spec = RuleSpec::all_of(Peer::Group("db".to_owned()));
        (spec.protocol, spec.icmp) = (Protocol::ICMP, Some((3, Some(4))));
        assert_eq!(sentence(&Rule::new(1, Direction::Egress, spec)), "egress icmp type 3 code 4 to sg:db");
    }
}
