//! `diff`: what a policy would change, without changing it.

use vnet_ctl::api::types::{PolicyDiff, PolicyUpdate};

use super::{
    Context,
    source::{FileArg, Source},
};
use crate::{
    failure::{Done, Failure, Outcome},
    output::{Output, Tone, View},
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl diff                        the policy file against what is in force
  vnet-ctl diff -f new-policy.toml
  vnet-ctl diff -f new-policy.toml -o json | jq .changes

Exit code 0 if nothing would change, 1 if something would.";

/// Show what a policy would change: in the words of the policy, then on the host.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    file: FileArg,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let source = Source::read(context, self.file.file.as_deref()).await?;
        source.parse(context.output)?;
        let diff = ask(context, source).await?;
        diff.warnings.iter().for_each(|warning| context.output.warn(warning));
        if context.output.is_for_people() {
            context.output.print(&painted(context.output, &diff))?;
            if !diff.different {
                context.output.note(unchanged(&diff));
            }
        } else {
            context.output.show(&diff, &View::default())?;
        }
        Ok(if diff.different { Done::No } else { Done::Success })
    }
}

const fn unchanged(diff: &PolicyDiff) -> &'static str {
    if diff.text_differs {
        "Only comments and layout differ: nothing would change."
    } else {
        "Nothing would change."
    }
}

/// Asks the daemon what `source` would change.
pub(super) async fn ask(context: &Context<'_>, source: Source) -> Result<PolicyDiff, Failure> {
    let update = PolicyUpdate { text: source.text, origin: source.origin, ..PolicyUpdate::default() };
    context.client.post("/v1/policy/diff", &update).await
}

/// The differences, one line each, those of the policy first.
pub(super) fn painted(output: &Output, diff: &PolicyDiff) -> String {
    let line = |text: &String| output.painted(tone(text), text) + "\n";
    let mut shown: String = diff.changes.iter().map(line).collect();
    if !diff.devices.is_empty() {
        shown += &(output.painted(Tone::Strong, "on the host:") + "\n");
        shown.extend(diff.devices.iter().map(|step| format!("  {step}\n")));
    }
    shown
}

fn tone(change: &str) -> Tone {
    match change {
        change if change.contains(" removed") => Tone::Bad,
        change if change.contains(" added") || change.ends_with("created") => Tone::Good,
        _ => Tone::Plain,
    }
}
