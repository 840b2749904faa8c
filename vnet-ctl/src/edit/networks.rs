//! Networks: added, changed, taken out.

use toml_edit::Value;

use super::{
    EditError, Setting, checked,
    document::{Document, Section},
    entry::Entry,
    groups::naming,
    no_such, read, taken, unforeseen,
};
use crate::policy::{Mistake, Peer, Policy, Port};

/// What to change about a network. What the values may be is the policy's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkEdit {
    /// `nat`, `private`, `routed` or `bridged`.
    pub kind: Setting<String>,
    /// Its subnets.
    pub subnets: Setting<Vec<String>>,
    /// The host's addresses in them.
    pub gateways: Setting<Vec<String>>,
    /// Largest IP packet, in bytes.
    pub mtu: Setting<i64>,
    /// The networks that it is joined with.
    pub connect: Setting<Vec<String>>,
    /// Whether the host takes part.
    pub host: Setting<bool>,
    /// The device that its packets leave by.
    pub uplink: Setting<String>,
    /// The addresses that they leave with.
    pub snat: Setting<Vec<String>>,
    /// The source ports that they may get: a port, or a range as `1024-32767`.
    pub snat_ports: Setting<String>,
    /// The prefixes to which they leave untranslated.
    pub no_snat: Setting<Vec<String>>,
    /// For whom the source port holds that a workload's port becomes: `endpoint-dependent` or
    /// `endpoint-independent`.
    pub mapping: Setting<String>,
    /// Whether SYNs announce no larger segments than fit the way.
    pub clamp_mss: Setting<bool>,
    /// Its VLAN beyond this host: one tag, or the outer and the inner one.
    pub vlan: Setting<Vec<i64>>,
    /// The device that carries the VLAN.
    pub trunk: Setting<String>,
    /// The priority that tags get.
    pub priority: Setting<i64>,
    /// The number of its overlay.
    pub vni: Setting<i64>,
    /// The other hosts of the overlay.
    pub peers: Setting<Vec<String>>,
}

impl NetworkEdit {
    fn write(&self, entry: &mut Entry<'_>) {
        entry.apply("type", &self.kind);
        entry.apply_list("subnets", &self.subnets);
        entry.apply_list("gateway", &self.gateways);
        entry.apply("mtu", &self.mtu);
        entry.apply_list("connect", &self.connect);
        entry.apply("host", &self.host);
        entry.apply("uplink", &self.uplink);
        entry.apply_list("snat", &self.snat);
        entry.apply("snat_ports", &self.snat_ports);
        entry.apply_list("no_snat", &self.no_snat);
        entry.apply("mapping", &self.mapping);
        entry.apply("clamp_mss", &self.clamp_mss);
        match &self.vlan {
            Setting::Set(tags) => entry.set("vlan", vlan(tags)),
            Setting::Keep => {}
            Setting::Unset => entry.unset("vlan"),
        }
        entry.apply("trunk", &self.trunk);
        entry.apply("priority", &self.priority);
        entry.apply("vni", &self.vni);
        entry.apply_list("peers", &self.peers);
    }
}

/// One tag by itself, more as a list.
fn vlan(tags: &[i64]) -> Value {
    match tags {
        [tag] => (*tag).into(),
        _ => Value::Array(tags.iter().copied().collect()),
    }
}

/// Adds a network behind the others.
///
/// # Errors
/// When there is one of that name already, or it makes no sense.
pub fn create_network(text: &str, name: &str, edit: &NetworkEdit) -> Result<String, EditError> {
    if read(text)?.networks.contains_key(name) {
        return Err(taken("network", name, "network"));
    }
    let mut document = Document::read(text)?;
    document.create(Section::Networks, name, |entry| edit.write(entry))?;
    checked(document)
}

/// Changes a network.
///
/// # Errors
/// When there is none of that name, or it makes no sense any more.
pub fn set_network(text: &str, name: &str, edit: &NetworkEdit) -> Result<String, EditError> {
    require(&read(text)?, name)?;
    let mut document = Document::read(text)?;
    let entry = document.entry(Section::Networks, name);
    edit.write(&mut entry.ok_or_else(|| unforeseen("the network cannot be found"))?);
    checked(document)
}

/// Takes a network out, with the comments directly above it.
///
/// # Errors
/// When there is none of that name, or ports, networks, rules or metadata still name it.
pub fn delete_network(text: &str, name: &str) -> Result<String, EditError> {
    let policy = read(text)?;
    require(&policy, name)?;
    let users = users_of(&policy, name);
    if !users.is_empty() {
        let mistake = Mistake::new(format!("network `{name}` is still in use: {}", users.join(", ")));
        return Err(EditError::Conflict(mistake.help(
            "delete these ports (`vnet-ctl port delete`), connections (`vnet-ctl network set NAME --connect …`) \
             and rules (`vnet-ctl sg remove`, `vnet-ctl acl remove`) first, and its metadata in the policy file",
        )));
    }
    let mut document = Document::read(text)?;
    document.delete(Section::Networks, name);
    checked(document)
}

fn require(policy: &Policy, name: &str) -> Result<(), EditError> {
    if policy.networks.contains_key(name) {
        return Ok(());
    }
    let help = format!("`vnet-ctl network create {name}` makes it");
    Err(no_such("network", name, policy.networks.keys(), &help))
}

/// Ports in the network, networks that name it to be connected with, and what has rules that name it.
fn users_of(policy: &Policy, network: &str) -> Vec<String> {
    let is_in = |port: &Port| port.network == network || port.vlans.iter().any(|vlan| vlan == network);
    let ports = policy.ports.iter().filter(|(_, port)| is_in(port));
    let ports = ports.map(|(name, _)| format!("port `{name}`"));
    let connected =
        policy.networks.iter().filter(|(name, other)| *name != network && other.connect.contains(network));
    let connected = connected.map(|(name, _)| format!("`connect` of network `{name}`"));
    let rules = naming(policy, &Peer::Network(network.to_owned()), None);
    let metadata = policy.metadata.iter().filter(|service| service.network == network);
    let metadata = metadata.map(|service| format!("metadata {}", service.listen));
    ports.chain(connected).chain(rules).chain(metadata).collect()
}
