//! One change of the policy file: edited, checked, applied by the daemon, and only then written.
//!
//! All of it happens under the file's lock, so changes at once follow one another. The new text lies
//! ready beside the file before the daemon is asked: all that can fail afterwards is a rename. If even
//! that fails, the daemon is given the old text back.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, path::PathBuf};

use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use vnet_ctl::{
    api::types::{Applied, PolicyUpdate, Status},
    policy,
    policy_file::{Lock, read_settled},
};

use super::{
    Context,
    source::{invalid, unreadable},
};
use crate::{
    failure::{Failure, Kind},
    output::{Output, Tone, View},
};

/// What an edit makes of the file's text, and what it has to tell.
type Edit<'a, T> = &'a dyn Fn(&str) -> Result<(String, T), Failure>;

/// A change that was made, or would be.
#[derive(Debug, Serialize)]
pub(crate) struct Change<T> {
    /// What the edit tells.
    #[serde(flatten)]
    pub(crate) told: T,
    /// Whether the file is another than before; with `--dry-run`, whether it would be.
    pub(crate) changed: bool,
    /// The file.
    pub(crate) policy: PathBuf,
    /// What the daemon did; nothing where the file already said so, or with `--dry-run`.
    #[serde(flatten)]
    pub(crate) applied: Option<Applied>,
    /// What `--dry-run` would change in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diff: Option<String>,
}

impl<T: Serialize> Change<T> {
    /// Prints `answer`, or the diff of a dry run, and notes what the daemon did; `name` is what `-o name` prints.
    pub(crate) fn report(&self, context: &Context<'_>, name: &str, answer: &str) -> Result<(), Failure> {
        let output = context.output;
        if let Some(applied) = &self.applied {
            applied.warnings.iter().for_each(|warning| output.warn(warning));
        }
        if !output.is_for_people() {
            return output.show(self, &View::of(name));
        }
        if let Some(diff) = &self.diff {
            if !self.changed {
                output.note("Nothing would change.");
            }
            return output.print(&painted(output, diff));
        }
        output.print(&format!("{answer}\n"))?;
        if let Some(applied) = &self.applied {
            output.note(&format!(
                "{} saved, in force as generation {}",
                self.policy.display(),
                applied.generation
            ));
        }
        Ok(())
    }
}

/// Changes the policy file by `edit`.
pub(crate) async fn change<T>(context: &Context<'_>, edit: Edit<'_, T>) -> Result<Change<T>, Failure> {
    let path = target(context).await?;
    if context.globals.dry_run {
        let (old, new, told) = edited(context, &path, edit)?;
        let diff = Some(unified(&path, &old, &new));
        return Ok(Change { told, changed: old != new, policy: path, applied: None, diff });
    }
    let lock = Lock::acquire(&path)?;
    let (old, new, told) = edited(context, lock.target(), edit)?;
    let applied =
        if old == new { None } else { Some(put_in_force(context, &lock, &path, [old, new]).await?) };
    Ok(Change { told, changed: applied.is_some(), policy: path, applied, diff: None })
}

/// The old text, the new one, checked, and what the edit tells.
fn edited<T>(context: &Context<'_>, path: &Path, edit: Edit<'_, T>) -> Result<(String, String, T), Failure> {
    let old = read_settled(path)?;
    // First the file as it stands: whoever changes a rule has not written its other mistakes just now.
    policy::parse(&old, path).map_err(|errors| invalid(context.output, &errors))?;
    let (new, told) = edit(&old)?;
    policy::parse(&new, path).map_err(|errors| invalid(context.output, &errors))?;
    Ok((old, new, told))
}

async fn put_in_force(
    context: &Context<'_>,
    lock: &Lock,
    path: &Path,
    [old, new]: [String; 2],
) -> Result<Applied, Failure> {
    let staged = lock.stage(&new)?;
    let update = |text| PolicyUpdate { text, origin: path.to_owned(), ..PolicyUpdate::default() };
    let request = update(new);
    let applied = tokio::select! {
        applied = context.client.post("/v1/policy", &request) => applied.map_err(uncertain)?,
        () = interrupted() => return Err(uncertain(Failure::new(Kind::Unreachable, "interrupted"))),
    };
    if let Err(error) = staged.replace() {
        let failure = Failure::from(error);
        let back: Result<Applied, Failure> = context.client.post("/v1/policy", &update(old)).await;
        return Err(match back {
            Ok(_) => failure.help("nothing has changed: the daemon runs the policy of before"),
            Err(second) => {
                failure.help(format!("the daemon runs the new policy, the file has the old one: {second}"))
            }
        });
    }
    Ok(applied)
}

/// Until SIGINT; from then on the process no longer ends by it, so that nothing ends between the
/// daemon's answer and the rename.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// Without an answer nobody knows whether the daemon applied the new text before it fell silent.
fn uncertain(failure: Failure) -> Failure {
    match failure.kind {
        Kind::Unreachable => failure.help(
            "the policy file is unchanged; once the daemon answers, `vnet-ctl apply` puts it in force as it stands",
        ),
        _ => failure,
    }
}

/// The file to change: the daemon's. Another that `--policy` names would replace all that is in force.
async fn target(context: &Context<'_>) -> Result<PathBuf, Failure> {
    let status = context.client.get::<Status>("/v1/status").await;
    let Some(wanted) = &context.globals.policy else { return Ok(status?.policy_path) };
    let wanted = std::path::absolute(wanted).unwrap_or_else(|_| wanted.clone());
    fs::metadata(&wanted).map_err(|error| unreadable(&wanted, &error))?;
    match status {
        Ok(status) if !is_same(&wanted, &status.policy_path) => {
            let message =
                format!("the daemon runs {}, not {}", status.policy_path.display(), wanted.display());
            Err(Failure::new(Kind::Conflict, message).help(
                "leave out --policy to change the daemon's own file, or name another daemon with --socket; \
                 `vnet-ctl apply -f FILE` replaces the whole policy",
            ))
        }
        Ok(_) => Ok(wanted),
        Err(_) if context.globals.dry_run => Ok(wanted),
        Err(failure) => Err(failure),
    }
}

/// Whether both name the same file.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

/// The difference as `diff -u` prints it; empty if there is none.
fn unified(path: &Path, old: &str, new: &str) -> String {
    let name = path.display().to_string();
    TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(&name, &name).to_string()
}

fn painted(output: &Output, diff: &str) -> String {
    let tone = |line: &str| match (line.starts_with("---") || line.starts_with("+++"), tag(line)) {
        (true, _) => Tone::Strong,
        (_, ChangeTag::Insert) => Tone::Good,
        (_, ChangeTag::Delete) => Tone::Bad,
        (_, ChangeTag::Equal) => Tone::Plain,
    };
    diff.lines().map(|line| output.painted(tone(line), line) + "\n").collect()
}

fn tag(line: &str) -> ChangeTag {
    match line.as_bytes().first() {
        Some(b'+') => ChangeTag::Insert,
        Some(b'-') => ChangeTag::Delete,
        _ => ChangeTag::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_the_file_and_shows_the_lines() {
        let diff = unified(Path::new("/p.toml"), "a\nb\n", "a\nb\nc\n");
        assert_eq!(diff, "--- /p.toml\n+++ /p.toml\n@@ -1,2 +1,3 @@\n a\n b\n+c\n");
        assert_eq!(unified(Path::new("/p.toml"), "a\n", "a\n"), "");
    }

    #[test]
    fn the_same_file_is_known_by_any_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let [a, b, link] = ["a", "b", "link"].map(|name| folder.path().join(name));
        fs::write(&a, "").expect("written");
        fs::write(&b, "").expect("written");
        std::os::unix::fs::symlink(&a, &link).expect("linked");
        assert!(is_same(&a, &link) && !is_same(&a, &b) && !is_same(&a, Path::new("/nonexistent")));
    }

    #[test]
    fn what_a_change_tells_is_flat_json() {
        let change = Change {
            told: serde_json::json!({"id": "0000002a"}),
            changed: true,
            policy: PathBuf::from("/p.toml"),
            applied: Some(Applied { generation: 2, ..Applied::default() }),
            diff: None,
        };
        let json = serde_json::to_value(&change).expect("json");
        assert_eq!(
            json,
            serde_json::json!({"id": "0000002a", "changed": true, "policy": "/p.toml", "generation": 2,
                               "changes": [], "warnings": []})
        );
    }
}
