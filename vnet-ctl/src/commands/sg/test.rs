//! `sg test`: which rule decides about an imagined packet, at both ends.

use std::path::{Path, PathBuf};

use vnet_ctl::{
    compile::{Assigned, Decision, End, ExplainError, Party, Question, assign, explain},
    policy::{AclAction, Protocol, Rule, format_rule_id},
    state::State,
};

use super::{Context, sentence};
use crate::{
    cli::DEFAULT_STATE_DIR,
    commands::{port, source},
    failure::{Done, Failure, Kind, Outcome},
    output::{Output, Tone, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl sg test --from client --to web-1 -p tcp --port 443
  vnet-ctl sg test --from 203.0.113.7 --to web-1 -p icmp --icmp-type 8
  vnet-ctl sg test --from web-1 --to host -p udp --port 53
  vnet-ctl sg test --from a --to b -p tcp --port 22 --policy draft.toml     of a file; needs no daemon

Exit code 0 if the packet would arrive, 1 if not.";

/// Test which rule decides about a packet, at both ends.
///
/// Judges the first packet of a connection by the policy file, and sends nothing. Replies always
/// follow their connection.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    /// The sender: a port, an address, or host
    #[arg(long, value_name = "WHO")]
    from: Party,
    /// The receiver: a port, an address, or host
    #[arg(long, value_name = "WHO")]
    to: Party,
    /// tcp, udp, sctp, icmp, icmpv6, or a number from 1 to 255
    #[arg(short, long, value_name = "PROTOCOL")]
    protocol: Protocol,
    /// The destination port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The ICMP type [default: that of an echo request]
    #[arg(long, value_name = "N", conflicts_with = "port")]
    icmp_type: Option<u8>,
    /// The ICMP code
    #[arg(long, value_name = "N", requires = "icmp_type")]
    icmp_code: Option<u8>,
    /// Where assigned addresses are remembered while no daemon runs
    #[arg(long, value_name = "DIR", env = "VNET_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let policy = source::policy(context).await?;
        let kept = kept(context, &self.state_dir).await;
        let assigned =
            assign(&policy, &kept).map_err(|error| Failure::new(Kind::Invalid, error.to_string()))?;
        let icmp = self.icmp_type.map(|kind| (kind, self.icmp_code));
        let Self { from, to, protocol, port, .. } = self;
        let question = Question { from, to, protocol, port, icmp };
        let decision = explain(&policy, &assigned, &question).map_err(senseless)?;
        if context.output.is_for_people() {
            context.output.print(&told(context.output, &decision))?;
        } else {
            context.output.show(&decision, &View::of(verdict(&decision).1))?;
        }
        Ok(if decision.delivered { Done::Success } else { Done::No })
    }
}

/// The addresses that ports have now, else those that they had last.
async fn kept(context: &Context<'_>, state_dir: &Path) -> Assigned {
    match port::ports(context).await {
        Ok(ports) => ports.into_iter().map(|port| (port.name, port.addresses)).collect(),
        Err(_) => remembered(context.output, state_dir),
    }
}

fn remembered(output: &Output, state_dir: &Path) -> Assigned {
    State::load(state_dir).map(|state| state.addresses).unwrap_or_else(|error| {
        let help = error.help();
        output.warn(&format!("the answer is for addresses as assigned anew, because {error}; {help}"));
        Assigned::new()
    })
}

fn senseless(error: ExplainError) -> Failure {
    match error {
        ExplainError::NoSuchPort { name, similar } => {
            let failure = Failure::new(Kind::NotFound, format!("there is no port `{name}`"));
            match similar {
                Some(similar) => failure.help(format!("did you mean `{similar}`?")),
                None => failure.help("name a port of the policy, an address, or host"),
            }
        }
        ExplainError::Senseless(mistake) => {
            let mut failure = Failure::new(Kind::Invalid, mistake.message);
            failure.help = mistake.help;
            failure
        }
    }
}

fn verdict(decision: &Decision) -> (Tone, &'static str) {
    match (decision.allowed, decision.delivered) {
        (false, _) => (Tone::Bad, "denied"),
        (true, false) => (Tone::Bad, "undeliverable"),
        (true, true) => (Tone::Good, "allowed"),
    }
}

fn told(output: &Output, decision: &Decision) -> String {
    let (tone, verdict) = verdict(decision);
    let head = format!("{}  {} -> {}", output.painted(tone, verdict), decision.src, decision.dst);
    let ends = [("egress", &decision.egress), ("ingress", &decision.ingress)];
    let ends = ends.map(|(side, end)| format!("  {:9}{}", format!("{side}:"), told_end(end)));
    let obstacle =
        decision.obstacle.as_ref().map(|obstacle| format!("  {:9}{obstacle}\n", "but:")).unwrap_or_default();
    format!("{head}\n{}\n{obstacle}", ends.join("\n"))
}

fn told_end(end: &End) -> String {
    match end {
        End::NotJudged { why } => format!("not judged: {why}"),
        End::Acl { port, action, entry, rule } => {
            let verdict = match action {
                AclAction::Deny => "denied",
                AclAction::Allow => "allowed",
            };
            format!("{verdict} by entry {entry} of the acl at {port}: {}", told_rule(rule))
        }
        End::Allowed { port, group, rule } => {
            format!("allowed by {} of sg:{group} at {port}: {}", format_rule_id(rule.id), told_rule(rule))
        }
        End::Denied { port, groups } => {
            let groups: Vec<_> = groups.iter().map(|group| format!("sg:{group}")).collect();
            format!("denied at {port}: no rule of {} allows it", groups.join(", "))
        }
    }
}

fn told_rule(rule: &Rule) -> String {
    let description = rule.description.as_ref().map(|text| format!("  # {text}")).unwrap_or_default();
    format!("{}{description}", sentence(rule))
}

#[cfg(test)]
mod tests {
    use vnet_common::Direction;
    use vnet_ctl::policy::{Peer, RuleSpec};

    use super::*;

    #[test]
    fn an_end_names_the_rule_that_allows_it() {
        let rule = Rule::new(0x2a, Direction::Ingress, RuleSpec::all_of(Peer::Any));
        let end = End::Allowed { port: "web-1".to_owned(), group: "web".to_owned(), rule };
        assert_eq!(told_end(&end), "allowed by 0000002a of sg:web at web-1: ingress any all from any");
    }

    #[test]
    fn an_entry_of_the_acl_is_told_with_its_place() {
        let rule = Rule::new(0x2a, Direction::Egress, RuleSpec::all_of(Peer::Any));
        let end = End::Acl { port: "web-1".to_owned(), action: AclAction::Deny, entry: 3, rule };
        assert_eq!(told_end(&end), "denied by entry 3 of the acl at web-1: egress any all to any");
    }

    #[test]
    fn an_end_that_denies_names_the_groups_that_were_asked() {
        let end = End::Denied { port: "db".to_owned(), groups: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(told_end(&end), "denied at db: no rule of sg:a, sg:b allows it");
    }
}
