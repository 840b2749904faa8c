//! Changes the text of a policy file the way a person would: comments and layout stay.
//!
//! Each function takes a valid text and gives another, or says why not and changes nothing. Reading,
//! writing and applying the file are left to the callers.

use thiserror::Error;
use vnet_common::{Direction, RuleId};

use crate::policy::{Diagnostics, Mistake, RuleSpec};

/// Why a text was not changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// What was to be changed is not there.
    #[error(transparent)]
    NotFound(Mistake),
    /// What is there already, or is still in use, forbids it.
    #[error(transparent)]
    Conflict(Mistake),
    /// The change makes no sense in this policy.
    #[error(transparent)]
    Invalid(Mistake),
    /// The text was no valid policy before.
    #[error("the policy file is not valid as it is; correct it first:\n{0}")]
    Broken(Box<Diagnostics>),
}

impl EditError {
    /// The exit code of a command that fails with it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Broken(_) => 2,
            Self::NotFound(_) => 4,
            Self::Conflict(_) => 5,
        }
    }
}

/// What to do when the wanted thing is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse.
    #[default]
    Fail,
    /// Leave it as it is.
    Keep,
}

/// Which rule of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one with this id.
    Id(RuleId),
    /// The one of this direction that matches the same.
    Spec(Direction, RuleSpec),
}

/// Adds a rule at the end of `group`'s rules of `direction`; gives the new text and the rule's id.
///
/// # Errors
/// When there is no such group, the rule is there already, or it makes no sense.
pub fn add_rule(
    text: &str,
    group: &str,
    direction: Direction,
    spec: &RuleSpec,
    if_exists: IfExists,
) -> Result<(String, RuleId), EditError> {
    let _ = (text, group, direction, spec, if_exists);
    unimplemented!("coming with the next commit")
}

/// Takes a rule out of `group`; gives the new text and the rule's id.
///
/// # Errors
/// When there is no such group or rule.
pub fn remove_rule(text: &str, group: &str, selector: &Selector) -> Result<(String, RuleId), EditError> {
    let _ = (text, group, selector);
    unimplemented!("coming with the next commit")
}

/// Adds a group without rules behind the others: nothing may come in, everything may go out.
///
/// # Errors
/// When there is one already, or its name is none.
pub fn create_group(text: &str, group: &str, description: Option<&str>) -> Result<String, EditError> {
    let _ = (text, group, description);
    unimplemented!("coming with the next commit")
}

/// Takes a group out.
///
/// # Errors
/// When there is none, or ports or rules still name it.
pub fn delete_group(text: &str, group: &str) -> Result<String, EditError> {
    let _ = (text, group);
    unimplemented!("coming with the next commit")
}
