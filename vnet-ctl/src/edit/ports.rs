//! Ports: added, changed, taken out.

use toml_edit::{InlineTable, Value};

use super::{
    EditError, Setting, checked,
    document::{Document, Section},
    entry::Entry,
    no_such, read, taken, unforeseen,
};
use crate::policy::{Mistake, Policy};

/// What to change about a port. What the values may be is the policy's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortEdit {
    /// Its network.
    pub network: Setting<String>,
    /// The networks that it takes part in as well, by tagged frames.
    pub vlans: Setting<Vec<String>>,
    /// Its addresses.
    pub addresses: Setting<Vec<String>>,
    /// Its MAC.
    pub mac: Setting<String>,
    /// Its groups.
    pub security_groups: Setting<Vec<String>>,
    /// Where the workload is.
    pub attach: Option<AttachEdit>,
}

/// How a port reaches its workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachEdit {
    /// By an interface inside a network namespace.
    Netns {
        /// Its name, or a path.
        netns: String,
        /// Whether vnet makes the namespace.
        create: bool,
        /// The interface's name inside, if not the usual one.
        interface: Option<String>,
    },
    /// By a device that exists.
    Device(String),
    /// By a tap.
    Tap {
        /// Its name.
        tap: String,
        /// Whether vnet makes it.
        create: bool,
        /// The user who may open it, by number.
        owner: Option<u32>,
    },
}

impl From<&AttachEdit> for Value {
    fn from(attach: &AttachEdit) -> Self {
        let mut table = InlineTable::new();
        match attach {
            AttachEdit::Netns { netns, create, interface } => {
                table.insert("netns", netns.as_str().into());
                if *create {
                    table.insert("create", true.into());
                }
                interface.iter().for_each(|name| _ = table.insert("name", name.as_str().into()));
            }
            AttachEdit::Device(device) => _ = table.insert("device", device.as_str().into()),
            AttachEdit::Tap { tap, create, owner } => {
                table.insert("tap", tap.as_str().into());
                if *create {
                    table.insert("create", true.into());
                }
                owner.iter().for_each(|owner| _ = table.insert("owner", i64::from(*owner).into()));
            }
        }
        Self::InlineTable(table)
    }
}

impl PortEdit {
    fn write(&self, entry: &mut Entry<'_>) {
        entry.apply("network", &self.network);
        entry.apply_list("vlans", &self.vlans);
        entry.apply_list("addresses", &self.addresses);
        entry.apply("mac", &self.mac);
        entry.apply_list("security_groups", &self.security_groups);
        self.attach.iter().for_each(|attach| entry.set("attach", attach.into()));
    }
}

/// Adds a port behind the others.
///
/// # Errors
/// When there is one of that name already, or it makes no sense.
pub fn create_port(text: &str, name: &str, edit: &PortEdit) -> Result<String, EditError> {
    if read(text)?.ports.contains_key(name) {
        return Err(taken("port", name, "port"));
    }
    let mut document = Document::read(text)?;
    document.create(Section::Ports, name, |entry| edit.write(entry))?;
    checked(document)
}

/// Changes a port.
///
/// # Errors
/// When there is none of that name, or it makes no sense any more.
pub fn set_port(text: &str, name: &str, edit: &PortEdit) -> Result<String, EditError> {
    require(&read(text)?, name)?;
    let mut document = Document::read(text)?;
    let entry = document.entry(Section::Ports, name);
    edit.write(&mut entry.ok_or_else(|| unforeseen("the port cannot be found"))?);
    checked(document)
}

/// Takes a port out, with the comments directly above it.
///
/// # Errors
/// When there is none of that name, or forwards or elastic IPs lead to it.
pub fn delete_port(text: &str, name: &str) -> Result<String, EditError> {
    let policy = read(text)?;
    require(&policy, name)?;
    let users = users_of(&policy, name);
    if !users.is_empty() {
        let mistake = Mistake::new(format!("port `{name}` is still in use: {}", users.join(", ")));
        let help = "remove these first (`vnet-ctl forward remove`, `vnet-ctl eip disassociate`), or lead them elsewhere";
        return Err(EditError::Conflict(mistake.help(help)));
    }
    let mut document = Document::read(text)?;
    document.delete(Section::Ports, name);
    checked(document)
}

/// The forwards and elastic IPs that lead to the port.
fn users_of(policy: &Policy, port: &str) -> Vec<String> {
    let forwards =
        policy.forwards.iter().filter(|forward| forward.to.iter().any(|backend| backend.port == port));
    let forwards = forwards.map(|forward| format!("forward {}", forward.name()));
    let elastic_ips = policy.elastic_ips.iter().filter(|(_, elastic_ip)| elastic_ip.port == port);
    forwards.chain(elastic_ips.map(|(addr, _)| format!("elastic IP {addr}"))).collect()
}

fn require(policy: &Policy, name: &str) -> Result<(), EditError> {
    if policy.ports.contains_key(name) {
        return Ok(());
    }
    let help = format!("`vnet-ctl port create {name}` makes it; `vnet-ctl port list` shows all");
    Err(no_such("port", name, policy.ports.keys(), &help))
}
