//! Forwards: added, taken out.

use toml_edit::{InlineTable, Value};

use super::{
    EditError, IfExists, checked,
    document::{Document, Listed},
    read,
};
use crate::policy::{Forward, Listen, Mistake, Policy, Protocol, Target};

/// A forward as a person describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// What is listened on.
    pub listen: Listen,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Where it leads; to remove one, it need not be known.
    pub to: Option<Target>,
}

impl ForwardSpec {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.protocol, self.listen)
    }

    fn listens_as(&self, forward: &Forward) -> bool {
        self.protocol == forward.protocol && self.listen == forward.listens()
    }

    fn leads_as(&self, forward: &Forward) -> bool {
        let leads = |to: &Target| {
            to.port == forward.to && to.number.unwrap_or(self.listen.ports.first) == forward.to_port
        };
        self.to.as_ref().is_none_or(leads)
    }

    /// As its author would write it.
    fn inline(&self) -> InlineTable {
        let listen = [("listen", self.listen.to_string()), ("protocol", self.protocol.to_string())];
        let to = self.to.iter().map(|to| ("to", to.to_string()));
        listen.into_iter().chain(to).map(|(key, text)| (key.to_owned(), Value::from(text))).collect()
    }
}

/// Adds a forward behind the others.
///
/// # Errors
/// When it is there already, another wants the same packets, or it makes no sense.
pub fn add_forward(text: &str, spec: &ForwardSpec, if_exists: IfExists) -> Result<String, EditError> {
    let policy = read(text)?;
    if let Some(forward) = policy.forwards.iter().find(|forward| spec.listens_as(forward)) {
        let is_same = spec.leads_as(forward);
        if is_same && if_exists == IfExists::Keep {
            return Ok(text.to_owned());
        }
        let mistake = Mistake::new(format!("{} is forwarded to {} already", spec.name(), forward.target()));
        return Err(EditError::Conflict(mistake.help(if is_same {
            "--if-not-exists accepts that"
        } else {
            "remove that one first (`vnet-ctl forward remove`)"
        })));
    }
    let mut document = Document::read(text)?;
    document.list(Listed::Forwards)?.insert(usize::MAX, spec.inline());
    checked(document)
}

/// Takes a forward out, with the comment directly above it; gives the new text and what was taken out.
///
/// # Errors
/// When there is none.
pub fn remove_forward(text: &str, spec: &ForwardSpec) -> Result<(String, Forward), EditError> {
    let policy = read(text)?;
    let is_wanted = |forward: &Forward| spec.listens_as(forward) && spec.leads_as(forward);
    let index = policy.forwards.iter().position(is_wanted);
    let Some((index, forward)) = index.and_then(|index| Some((index, policy.forwards.get(index)?))) else {
        return Err(absent(&policy, spec));
    };
    let mut document = Document::read(text)?;
    document.remove(Listed::Forwards, index)?;
    Ok((checked(document)?, forward.clone()))
}

/// What is not there, and what is instead.
fn absent(policy: &Policy, spec: &ForwardSpec) -> EditError {
    let listening = policy.forwards.iter().find(|forward| spec.listens_as(forward));
    let mistake = match (listening, &spec.to) {
        (Some(other), Some(to)) => Mistake::new(format!("{} is not forwarded to {to}", spec.name()))
            .help(format!("it is forwarded to {}", other.target())),
        _ => Mistake::new(format!("there is no forward {}", spec.name()))
            .help("`vnet-ctl forward list` shows those that there are"),
    };
    EditError::NotFound(mistake)
}
