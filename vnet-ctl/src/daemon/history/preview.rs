//! What a text would change, without changing it.

use std::path::Path;

use super::reading::Parsed;
use crate::{
    api::types::PolicyDiff,
    daemon::{Daemon, differences::differences, error::ApplyError},
};

impl Daemon {
    /// What would change if `text` got in force: in the words of the policy, and on the host.
    pub(crate) async fn diff(&self, text: &str, origin: &Path) -> Result<PolicyDiff, ApplyError> {
        let Parsed { file, warnings, .. } = self.history.read(text, origin)?;
        let preview = self.preview(|declared| declared.file = file.into()).await?;
        let [before, after] = [&preview.before.file, &preview.after.file];
        let changes = differences(&before.policy, &after.policy);
        Ok(PolicyDiff {
            different: !changes.is_empty() || !preview.steps.is_empty(),
            text_differs: before.text != after.text,
            changes,
            devices: preview.steps,
            warnings,
        })
    }
}
