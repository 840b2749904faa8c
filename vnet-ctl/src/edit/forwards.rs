//! Forwards: added, changed, taken out.

use toml_edit::{Array, InlineTable, Value};

use super::{
    EditError, IfExists, Setting, checked,
    document::{Document, Listed},
    read, unforeseen,
};
use crate::policy::{
    Affinity, Backend, BackendSpec, Forward, Listen, Mistake, Policy, Protocol, USUAL_WEIGHT,
};

/// A forward as a person describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// What is listened on.
    pub listen: Listen,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// All that it leads to; to remove one, that need not be known.
    pub to: Vec<BackendSpec>,
    /// What goes to the same one of several, if they say it.
    pub affinity: Option<Affinity>,
}

/// What to change about a forward. What the values may be is the policy's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardEdit {
    /// All that it leads to; a weight that is not given stays, or is the usual one.
    pub to: Vec<BackendSpec>,
    /// What goes to the same one of several.
    pub affinity: Setting<Affinity>,
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

    /// Whether it leads where this one is said to lead, if anywhere.
    fn leads_as(&self, forward: &Forward) -> bool {
        let is_same = |spec: &BackendSpec, backend: &Backend| {
            spec.target.port == backend.port
                && spec.target.number.unwrap_or(self.listen.ports.first) == backend.to_port
                && spec.weight.is_none_or(|weight| weight == backend.weight)
        };
        let is_there = |spec: &BackendSpec| forward.to.iter().any(|backend| is_same(spec, backend));
        let leads = self.to.len() == forward.to.len() && self.to.iter().all(is_there);
        (self.to.is_empty() || leads) && self.affinity.is_none_or(|affinity| affinity == forward.affinity)
    }

    /// The same with what holds unless one says otherwise.
    fn complete(&self) -> Self {
        let mut complete = self.clone();
        for backend in &mut complete.to {
            backend.weight.get_or_insert(USUAL_WEIGHT);
        }
        complete.affinity.get_or_insert_default();
        complete
    }

    /// As its author would write it.
    fn inline(&self) -> InlineTable {
        let listen = [("listen", self.listen.to_string()), ("protocol", self.protocol.to_string())];
        let mut table: InlineTable =
            listen.into_iter().map(|(key, text)| (key.to_owned(), Value::from(text))).collect();
        if !self.to.is_empty() {
            table.insert("to", value_of(&self.to));
        }
        if let Some(affinity) = self.affinity {
            table.insert("affinity", affinity.to_string().into());
        }
        table
    }
}

/// One backend, or a list of them.
fn value_of(to: &[BackendSpec]) -> Value {
    match to {
        [one] if one.weight.is_none_or(|weight| weight == USUAL_WEIGHT) => one.target.to_string().into(),
        all => Value::Array(all.iter().map(item_of).collect::<Array>()),
    }
}

fn item_of(backend: &BackendSpec) -> Value {
    let port = Value::from(backend.target.to_string());
    match backend.weight.filter(|weight| *weight != USUAL_WEIGHT) {
        None => port,
        Some(weight) => {
            let keys = [("port", port), ("weight", i64::from(weight).into())];
            Value::InlineTable(keys.into_iter().collect())
        }
    }
}

/// Adds a forward behind the others.
///
/// # Errors
/// When it is there already, another wants the same packets, or it makes no sense.
pub fn add_forward(text: &str, spec: &ForwardSpec, if_exists: IfExists) -> Result<String, EditError> {
    let policy = read(text)?;
    if let Some(forward) = policy.forwards.iter().find(|forward| spec.listens_as(forward)) {
        let is_same = spec.complete().leads_as(forward);
        if is_same && if_exists == IfExists::Keep {
            return Ok(text.to_owned());
        }
        let mistake = Mistake::new(format!("{} is forwarded to {} already", spec.name(), forward.targets()));
        return Err(EditError::Conflict(mistake.help(if is_same {
            "--if-not-exists accepts that"
        } else {
            "change it (`vnet-ctl forward set`), or remove that one first (`vnet-ctl forward remove`)"
        })));
    }
    let mut document = Document::read(text)?;
    document.list(Listed::Forwards)?.insert(usize::MAX, spec.inline());
    checked(document)
}

/// Changes where the forward that listens as `spec` leads; what the file says about backends that stay is kept.
///
/// # Errors
/// When there is none, or it makes no sense any more.
pub fn set_forward(text: &str, spec: &ForwardSpec, edit: &ForwardEdit) -> Result<String, EditError> {
    let policy = read(text)?;
    let (index, forward) = find(&policy, spec)?;
    let mut document = Document::read(text)?;
    let mut entry =
        document.listed(Listed::Forwards, index).ok_or_else(|| unforeseen("the forward cannot be found"))?;
    if !edit.to.is_empty() {
        let to: Vec<BackendSpec> = edit.to.iter().map(|backend| backend.or_as_in(forward)).collect();
        let wanted: Vec<Value> = to.iter().map(item_of).collect();
        // Who is named twice has to be told.
        let is_repeated =
            |index: usize| to[..index].iter().any(|before| before.target.port == to[index].target.port);
        let is_list = !(0..to.len()).any(is_repeated);
        if !is_list || !entry.apply_values("to", &wanted, &is_same_backend) {
            entry.set("to", value_of(&to));
        }
    }
    let affinity = match edit.affinity {
        Setting::Set(affinity) => Setting::Set(affinity.to_string()),
        Setting::Keep => Setting::Keep,
        Setting::Unset => Setting::Unset,
    };
    entry.apply("affinity", &affinity);
    checked(document)
}

impl BackendSpec {
    /// The same with the number and weight that `forward` gives it, where none is said.
    fn or_as_in(&self, forward: &Forward) -> Self {
        let mut complete = self.clone();
        if let Some(known) = forward.to.iter().find(|backend| backend.port == self.target.port) {
            complete.target.number.get_or_insert(known.to_port);
            complete.weight.get_or_insert(known.weight);
        }
        complete
    }
}

/// Whether two items of a list name the same port of the policy.
fn is_same_backend(a: &Value, b: &Value) -> bool {
    fn port(item: &Value) -> Option<&str> {
        let text = item.as_str().or_else(|| item.as_inline_table()?.get("port")?.as_str())?;
        Some(text.rsplit_once(':').map_or(text, |(port, _)| port))
    }
    port(a).is_some() && port(a) == port(b)
}

/// Takes a forward out, with the comment directly above it; gives the new text and what was taken out.
///
/// # Errors
/// When there is none.
pub fn remove_forward(text: &str, spec: &ForwardSpec) -> Result<(String, Forward), EditError> {
    let policy = read(text)?;
    let (index, forward) = find(&policy, spec)?;
    let mut document = Document::read(text)?;
    document.remove(Listed::Forwards, index)?;
    Ok((checked(document)?, forward.clone()))
}

/// The forward that is meant, and which it is.
fn find<'p>(policy: &'p Policy, spec: &ForwardSpec) -> Result<(usize, &'p Forward), EditError> {
    let is_wanted = |(_, forward): &(usize, &Forward)| spec.listens_as(forward) && spec.leads_as(forward);
    policy.forwards.iter().enumerate().find(is_wanted).ok_or_else(|| absent(policy, spec))
}

/// What is not there, and what is instead.
fn absent(policy: &Policy, spec: &ForwardSpec) -> EditError {
    let listening = policy.forwards.iter().find(|forward| spec.listens_as(forward));
    let mistake = match (listening, &spec.to[..]) {
        (Some(other), to @ [_, ..]) => {
            let to: Vec<_> = to.iter().map(ToString::to_string).collect();
            Mistake::new(format!("{} is not forwarded to {}", spec.name(), to.join(", ")))
                .help(format!("it is forwarded to {}", other.targets()))
        }
        _ => Mistake::new(format!("there is no forward {}", spec.name()))
            .help("`vnet-ctl forward list` shows those that there are"),
    };
    EditError::NotFound(mistake)
}
