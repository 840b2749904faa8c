//! Changes of one named thing in the policy file: what is tolerated, and what the person is told.

use serde::Serialize;
use vnet_ctl::{edit::EditError, policy::Diagnostics};

use super::{
    Context,
    change::{Change, change},
    source::invalid,
};
use crate::{
    failure::{Done, Failure, Kind, Outcome},
    output::Output,
};

/// What is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tolerate {
    /// Nothing.
    Nothing,
    /// That the thing is there already: `--if-not-exists`.
    Existing,
    /// That it is not there: `--if-exists`.
    Missing,
}

impl Tolerate {
    /// This, if the flag for it is given.
    pub(crate) fn when(self, is_given: bool) -> Self {
        if is_given { self } else { Self::Nothing }
    }

    fn accepts(self, error: &EditError) -> bool {
        match error {
            EditError::Conflict(_) => self == Self::Existing,
            EditError::NotFound(_) => self == Self::Missing,
            _ => false,
        }
    }
}

/// One thing that the policy file declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// What it is: the key of its name in JSON.
    pub(crate) noun: &'static str,
    /// What it is called.
    pub(crate) name: &'a str,
}

impl Serialize for Named<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.noun, self.name)])
    }
}

impl<'a> Named<'a> {
    /// Changes the policy file by `edit`, and tells what was done as `verb` says, such as `created`.
    pub(crate) async fn change(
        self,
        context: &Context<'_>,
        verb: &str,
        tolerate: Tolerate,
        edit: impl Fn(&str) -> Result<String, EditError>,
    ) -> Outcome {
        let change = self.edited(context, tolerate, &edit).await?;
        let name = self.name;
        let answer = match (change.changed, tolerate) {
            (true, _) => format!("{verb} {name}"),
            (false, Tolerate::Existing) => format!("{name} is there already"),
            (false, Tolerate::Missing) => "nothing to delete".to_owned(),
            (false, Tolerate::Nothing) => format!("{name} is so already"),
        };
        change.report(context, name, &answer)?;
        Ok(Done::Success)
    }

    async fn edited(
        self,
        context: &Context<'_>,
        tolerate: Tolerate,
        edit: &impl Fn(&str) -> Result<String, EditError>,
    ) -> Result<Change<Self>, Failure> {
        let edit = |text: &str| match edit(text) {
            Ok(text) => Ok((text, self)),
            Err(error) if tolerate.accepts(&error) => Ok((text.to_owned(), self)),
            Err(error) => Err(refused(context.output, error)),
        };
        change(context, &edit).await
    }
}

/// What the edit of a file says when it says no.
pub(crate) fn refused(output: &Output, error: EditError) -> Failure {
    let (kind, mistake) = match error {
        EditError::NotFound(mistake) => (Kind::NotFound, mistake),
        EditError::Conflict(mistake) => (Kind::Conflict, mistake),
        EditError::Invalid(mistake) => (Kind::Invalid, mistake),
        EditError::Unfit(errors) => return unfit(output, &errors),
        EditError::Broken(errors) => return invalid(output, &errors),
    };
    let mut failure = Failure::new(kind, mistake.message);
    failure.help = mistake.help;
    failure
}

/// The failure of a change that would make the policy invalid.
fn unfit(output: &Output, errors: &Diagnostics) -> Failure {
    let first = errors.iter().next().map(|error| error.message).unwrap_or_default();
    let message = format!("the policy would not be valid, so nothing was changed: {first}");
    Failure { message, ..invalid(output, errors) }
}
