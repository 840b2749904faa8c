//! `apply`: puts a policy in force, and in the policy file if it is another's text.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use vnet_ctl::{
    api::types::{Applied, PolicyDiff, PolicyUpdate, Status},
    policy_file::{Lock, read_settled},
};

use super::{
    Context,
    change::is_same,
    diff,
    source::{FileArg, Source},
    validate,
};
use crate::{
    failure::{Done, Failure, Kind, Outcome},
    output::View,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl apply                          the daemon's own policy file, after editing it
  vnet-ctl apply -f new-policy.toml       its text becomes the policy file's
  vnet-ctl apply -f new.toml --confirm 60s && vnet-ctl confirm
  generate-policy | vnet-ctl apply -f -
  vnet-ctl apply -f new.toml --dry-run    what `vnet-ctl diff` prints

With --confirm the previous policy returns by itself, file included, unless `vnet-ctl confirm` is run in
time: also when the new one cuts off whoever applied it, and when the daemon is killed meanwhile.";

/// A person needs at least that to type.
const SHORTEST_CONFIRM: Duration = Duration::from_secs(1);
/// Longer, and whoever waits has forgotten it.
const LONGEST_CONFIRM: Duration = Duration::from_secs(24 * 60 * 60);

/// Put a policy in force, all of it or nothing.
///
/// It is checked first; with any error in it nothing changes. The text of another file than the daemon's
/// policy file goes into that file. Established flows that the new policy no longer allows are cut.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(flatten)]
    file: FileArg,
    /// Return to the previous policy after this time (60s, 5m, 1h30m) unless it is confirmed
    #[arg(long, value_name = "DURATION", value_parser = confirm_time)]
    confirm: Option<Duration>,
}

/// A time that a policy may wait.
fn confirm_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write 60s, 5m or 1h30m"))?;
    match (SHORTEST_CONFIRM..=LONGEST_CONFIRM).contains(&time) {
        true => Ok(time),
        false => Err("at least 1s and at most 1day".to_owned()),
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let source = Source::read(context, self.file.file.as_deref()).await?;
        source.parse(context.output)?;
        if context.globals.dry_run {
            return dry_run(context, source).await;
        }
        let Status { policy_path, .. } = context.client.get("/v1/status").await?;
        let is_own = is_same(&policy_path, &source.origin);
        let confirm_secs = self.confirm.map(|time| time.as_secs());
        let applied = if is_own && confirm_secs.is_none() {
            apply_own(context, source).await?
        } else {
            let Source { text, origin } = source;
            let update = PolicyUpdate { text, origin: absolute(origin), confirm_secs, install: true };
            context.client.post("/v1/policy", &update).await?
        };
        applied.warnings.iter().for_each(|warning| context.output.warn(warning));
        if context.output.is_for_people() {
            context.output.print(&told(&applied))?;
        } else {
            context.output.show(&applied, &View::of(applied.generation.to_string()))?;
        }
        if !is_own {
            context.output.note(&format!("{} says so now.", policy_path.display()));
        }
        if let Some(note) = self.confirm.map(|_| confirmation(&applied)) {
            context.output.note(&note);
        }
        Ok(Done::Success)
    }
}

/// Applies the daemon's policy file as it stands once nobody else changes it.
async fn apply_own(context: &Context<'_>, source: Source) -> Result<Applied, Failure> {
    let lock = match Lock::acquire(&source.origin) {
        Ok(lock) => Some(lock),
        // Then nobody changes it through vnet, either.
        Err(error) if error.is_read_only() => None,
        Err(error) => return Err(error.into()),
    };
    let text = read_settled(&source.origin)?;
    let source = Source { text, ..source };
    source.parse(context.output)?;
    let Source { text, origin } = source;
    let update = PolicyUpdate { text, origin: absolute(origin), ..PolicyUpdate::default() };
    let applied = context.client.post("/v1/policy", &update).await;
    drop(lock);
    applied
}

/// The daemon has a working directory of its own.
fn absolute(origin: PathBuf) -> PathBuf {
    if origin.starts_with("<stdin>") { origin } else { std::path::absolute(&origin).unwrap_or(origin) }
}

/// What a dry run tells.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    answer: validate::Answer,
    #[serde(flatten)]
    diff: Option<PolicyDiff>,
    dry_run: bool,
}

/// Checks the policy, and shows what it would change where a daemon can tell.
async fn dry_run(context: &Context<'_>, source: Source) -> Outcome {
    let (policy, warnings) = source.parse(context.output)?;
    let file = source.origin.display().to_string();
    let warnings = warnings.iter().map(ToString::to_string).collect();
    let answer = validate::Answer::new(file.clone(), &policy, warnings);
    let diff = match diff::ask(context, source).await {
        Ok(diff) => Some(diff),
        Err(failure) if failure.kind == Kind::Unreachable => None,
        Err(failure) => return Err(failure),
    };
    if !context.output.is_for_people() {
        context.output.show(&Checked { answer, diff, dry_run: true }, &View::of(&file))?;
        return Ok(Done::Success);
    }
    let summary = validate::summary(&policy);
    match diff {
        Some(diff) => context.output.print(&diff::painted(context.output, &diff))?,
        None => context.output.note("No daemon runs that could tell what would change."),
    }
    context.output.note(&format!("{file}: valid, not applied: {summary}"));
    Ok(Done::Success)
}

/// What was done, one line each.
pub(super) fn told(applied: &Applied) -> String {
    let changes: String = applied.changes.iter().map(|change| format!("  {change}\n")).collect();
    let unchanged = if applied.changes.is_empty() { ": nothing had to change" } else { "" };
    format!("applied as generation {}{unchanged}\n{changes}", applied.generation)
}

/// What has to be done within which time.
fn confirmation(applied: &Applied) -> String {
    let Some(secs) = applied.confirm_within_secs else {
        return "It was in force already: there is nothing to confirm.".to_owned();
    };
    let time = humantime::format_duration(Duration::from_secs(secs));
    format!("The previous policy returns in {time} unless `vnet-ctl confirm` is run.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_its_line() {
        let changes = vec!["port a: created".to_owned()];
        let applied = Applied { generation: 3, changes, ..Applied::default() };
        assert_eq!(told(&applied), "applied as generation 3\n  port a: created\n");
    }

    #[test]
    fn a_time_to_confirm_is_a_second_to_a_day() {
        for (text, secs) in [("60s", 60), ("5m", 300), ("1h30m", 5400), ("1day", 86400), ("1s", 1)] {
            assert_eq!(confirm_time(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in ["0s", "500ms", "25h", "60", "soon", "", "-5s"] {
            assert!(confirm_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn streams_keep_their_name() {
        assert_eq!(absolute("<stdin>".into()), PathBuf::from("<stdin>"));
        assert!(absolute("a.toml".into()).is_absolute());
    }
}
