//! Changes the text of a policy file the way a person would: comments and layout stay.
//!
//! Each function takes a valid text and gives another, or says why not and changes nothing. Reading,
//! writing and applying the file are left to the callers.

mod acl;
mod document;
mod elastic_ips;
mod entry;
mod forwards;
mod groups;
mod layout;
mod list;
mod networks;
mod ports;
mod rules;
#[cfg(test)]
mod tests;

use std::path::Path;

use thiserror::Error;

use self::document::Document;
pub use self::{
    acl::{AclSelector, AclSpec, Place, add_acl, remove_acl},
    elastic_ips::{associate, disassociate},
    entry::Setting,
    forwards::{ForwardEdit, ForwardSpec, add_forward, remove_forward, set_forward},
    groups::{GroupEdit, Selector, add_rule, create_group, delete_group, remove_rule, set_group},
    networks::{NetworkEdit, create_network, delete_network, set_network},
    ports::{AttachEdit, PortEdit, create_port, delete_port, set_port},
};
use crate::policy::{Diagnostic, Diagnostics, Mistake, Policy, closest, parse};

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
    /// The text that it would make is no valid policy.
    #[error("{}", first(.0))]
    Unfit(Box<Diagnostics>),
    /// The text was no valid policy before.
    #[error("the policy file is not valid as it is; correct it first:\n{0}")]
    Broken(Box<Diagnostics>),
}

impl EditError {
    /// The exit code of a command that fails with it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) | Self::Unfit(_) | Self::Broken(_) => 2,
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

fn read(text: &str) -> Result<Policy, EditError> {
    let read = parse(text, Path::new("the policy file"));
    read.map(|(policy, _)| policy).map_err(|diagnostics| EditError::Broken(Box::new(diagnostics)))
}

/// The policy after an edit: what is wrong with it now is the edit's fault.
fn reread(text: &str) -> Result<Policy, EditError> {
    let read = parse(text, Path::new("the policy file as it would be"));
    read.map(|(policy, _)| policy).map_err(|diagnostics| EditError::Unfit(Box::new(diagnostics)))
}

/// The document's text, once it is known to be a valid policy.
fn checked(document: Document) -> Result<String, EditError> {
    let text = document.finish();
    reread(&text)?;
    Ok(text)
}

/// The first of the errors, in a sentence.
fn first(diagnostics: &Diagnostics) -> Mistake {
    let first = diagnostics.iter().next();
    first.map_or_else(
        || Mistake::new("the result would be no valid policy"),
        |Diagnostic { message, help, .. }| Mistake { message, help },
    )
}

/// The error of a name that nothing has: the nearest one, or else `help`.
fn no_such<'p>(noun: &str, name: &str, names: impl Iterator<Item = &'p String>, help: &str) -> EditError {
    let help = match closest(name, names.map(String::as_str)) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => help.to_owned(),
    };
    EditError::NotFound(Mistake::new(format!("there is no {noun} `{name}`")).help(help))
}

/// The error of a name that is taken.
fn taken(noun: &str, name: &str, command: &str) -> EditError {
    let mistake = Mistake::new(format!("there is a {noun} `{name}` already"));
    EditError::Conflict(
        mistake
            .help(format!("`vnet-ctl {command} set {name}` changes it; --if-not-exists accepts it as it is")),
    )
}

fn unforeseen(message: &str) -> EditError {
    EditError::Invalid(Mistake::new(message).help("edit the policy file by hand"))
}
