//! What a text would change, without changing it.

use std::path::Path;

use crate::{
    api::types::PolicyDiff,
    daemon::{Daemon, at_length, declared::PolicyFile, differences::differences, error::ApplyError},
    policy,
};

impl Daemon {
    /// What would change if `text` got in force: in the words of the policy, and on the host.
    pub(crate) async fn diff(&self, text: &str, origin: &Path) -> Result<PolicyDiff, ApplyError> {
        let (policy, warnings) = at_length(|| policy::parse(text, origin))
            .map_err(|errors| ApplyError::Policy(Box::new(errors)))?;
        let file = PolicyFile { text: text.to_owned(), origin: origin.to_owned(), policy: policy.into() };
        let preview = self.preview(|declared| declared.file = file.into()).await?;
        let [before, after] = [&preview.before.file, &preview.after.file];
        let changes = differences(&before.policy, &after.policy);
        Ok(PolicyDiff {
            different: !changes.is_empty() || !preview.steps.is_empty(),
            text_differs: before.text != after.text,
            changes,
            devices: preview.steps,
            warnings: warnings.iter().map(ToString::to_string).collect(),
        })
    }
}
