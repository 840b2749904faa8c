//! `apply`: has the daemon put the policy file in force as it stands now.

use std::path::Path;

use serde::Serialize;
use vnet_ctl::{
    api::types::{Applied, PolicyUpdate, Status},
    policy::{Policy, Warning},
};

use super::{
    Context,
    change::is_same,
    source::{FileArg, Source},
    validate,
};
use crate::{
    failure::{Done, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl apply                      the daemon's own policy file, after editing it
  vnet-ctl apply -f new-policy.toml   another one, until the daemon is started again
  vnet-ctl apply --dry-run            check it only";

/// Put the policy file in force as it stands now, all of it or nothing.
///
/// The file is checked first; with any error in it nothing changes. Established flows that the new
/// policy no longer allows are cut.
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
        let (policy, warnings) = source.parse(context.output)?;
        let origin = std::path::absolute(&source.origin).unwrap_or_else(|_| source.origin.clone());
        if context.globals.dry_run {
            return checked(context, &origin, &policy, &warnings);
        }
        let update = PolicyUpdate { text: source.text, origin: origin.clone() };
        let applied: Applied = context.client.post("/v1/policy", &update).await?;
        applied.warnings.iter().for_each(|warning| context.output.warn(warning));
        if context.output.is_for_people() {
            context.output.print(&told(&applied))?;
        } else {
            context.output.show(&applied, &View::of(applied.generation.to_string()))?;
        }
        if self.file.file.is_some() || context.globals.policy.is_some() {
            note_how_long(context, &origin).await;
        }
        Ok(Done::Success)
    }
}

/// What a dry run tells.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    answer: validate::Answer,
    dry_run: bool,
}

fn checked(context: &Context<'_>, origin: &Path, policy: &Policy, warnings: &[Warning]) -> Outcome {
    let file = origin.display().to_string();
    if context.output.is_for_people() {
        let summary = validate::summary(policy);
        context.output.print(&format!("{file}: valid, not applied: {summary}\n"))?;
        return Ok(Done::Success);
    }
    let warnings = warnings.iter().map(ToString::to_string).collect();
    let answer = validate::Answer::new(file.clone(), policy, warnings);
    context.output.show(&Checked { answer, dry_run: true }, &View::of(&file))?;
    Ok(Done::Success)
}

/// Another file than the daemon's own is in force only for the time being.
async fn note_how_long(context: &Context<'_>, origin: &Path) {
    if let Ok(Status { policy_path, .. }) = context.client.get("/v1/status").await
        && !is_same(&policy_path, origin)
    {
        let own = policy_path.display();
        context
            .output
            .note(&format!("After its next start, and after any `sg` command, the daemon runs {own} again."));
    }
}

/// What was done, one line each.
fn told(applied: &Applied) -> String {
    let changes: String = applied.changes.iter().map(|change| format!("  {change}\n")).collect();
    let unchanged = if applied.changes.is_empty() { ": nothing had to change" } else { "" };
    format!("applied as generation {}{unchanged}\n{changes}", applied.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_its_line() {
        let applied =
            Applied { generation: 3, changes: vec!["port a: created".to_owned()], warnings: Vec::new() };
        assert_eq!(told(&applied), "applied as generation 3\n  port a: created\n");
    }
}
