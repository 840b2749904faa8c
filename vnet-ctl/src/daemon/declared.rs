//! What has been declared: by people in the policy file, and by runtimes through the API.
//!
//! Pure. What is declared becomes one [`Policy`] here, if it goes together; whether that gets in force is
//! decided elsewhere. The file comes first: what a port of a runtime needs and the file does not leave to it
//! is a conflict.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use vnet_common::MacAddr;

use crate::{
    api::types::RuntimePort,
    compile::{Assigned, is_declared, network_of},
    policy::{Attach, DEFAULT_INTERFACE, Mistake, NetnsRef, Network, Policy, Port, parse_port},
};

/// Everything that should be in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    /// By people.
    pub(super) file: Arc<PolicyFile>,
    /// By runtimes, by name.
    runtime: BTreeMap<String, Runtime>,
    /// Those of them that are new or changed since, and those that had to wait: the others come first.
    late: BTreeSet<String>,
    /// What the ports of runtimes were judged by.
    judged_by: Arc<Surroundings>,
}

/// A policy file that was found valid.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyFile {
    /// Its text.
    pub(super) text: Arc<str>,
    /// Where the text comes from.
    pub(super) origin: PathBuf,
    /// What it says.
    pub(super) policy: Arc<Policy>,
}

/// A port of a runtime.
#[derive(Clone, Debug)]
struct Runtime {
    declared: Arc<RuntimePort>,
    /// What it means, if it was judged already.
    judged: Option<Result<Arc<Port>, Vec<Mistake>>>,
}

/// The parts of a policy that a port's declaration refers to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Surroundings {
    networks: BTreeMap<String, Network>,
    groups: BTreeSet<String>,
}

impl Surroundings {
    fn is_of(&self, policy: &Policy) -> bool {
        self.networks == policy.networks && self.groups.iter().eq(policy.security_groups.keys())
    }

    fn of(policy: &Policy) -> Self {
        Self { networks: policy.networks.clone(), groups: policy.security_groups.keys().cloned().collect() }
    }
}

/// What is declared as one policy.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    /// The file's policy, with the ports of runtimes that go with it.
    pub(super) policy: Arc<Policy>,
    /// The others.
    pub(super) conflicts: Conflicts,
}

impl Declared {
    /// What the file declares does not change; these are the ports of runtimes.
    pub(super) fn with_runtime(mut self, ports: BTreeMap<String, RuntimePort>) -> Self {
        for (name, port) in ports {
            self.set_runtime(&name, Some(port));
        }
        self
    }

    /// The port called `name`, if a runtime created it.
    pub(super) fn runtime(&self, name: &str) -> Option<&RuntimePort> {
        self.runtime.get(name).map(|runtime| &*runtime.declared)
    }

    /// Sets the port `name` of a runtime, or takes it out; returns what it was before.
    pub(super) fn set_runtime(&mut self, name: &str, port: Option<RuntimePort>) -> Option<RuntimePort> {
        let before = match port {
            Some(port) => {
                let runtime = Runtime { declared: Arc::new(port), judged: None };
                self.late.insert(name.to_owned());
                self.runtime.insert(name.to_owned(), runtime)
            }
            None => {
                self.late.remove(name);
                self.runtime.remove(name)
            }
        };
        before.map(|runtime| Arc::unwrap_or_clone(runtime.declared))
    }

    /// Notes that all of it is in force, but for the ports that are `waiting`.
    pub(super) fn settle(&mut self, waiting: &BTreeSet<String>) {
        self.late.clone_from(waiting);
    }

    /// Who created the ports that the file does not declare, by port.
    pub(super) fn origins(&self) -> BTreeMap<String, String> {
        let undeclared = self.runtime.iter().filter(|(name, _)| !self.file.policy.ports.contains_key(*name));
        undeclared.map(|(name, runtime)| (name.clone(), runtime.declared.origin.clone())).collect()
    }

    /// All of it as one policy. `kept` are the addresses that ports have now.
    pub(super) fn join(&mut self, kept: &Assigned) -> Joined {
        if !self.judged_by.is_of(&self.file.policy) {
            self.judged_by = Arc::new(Surroundings::of(&self.file.policy));
            self.runtime.values_mut().for_each(|runtime| runtime.judged = None);
        }
        let mut conflicts = Vec::new();
        if self.runtime.is_empty() {
            return Joined { policy: self.file.policy.clone(), conflicts: Conflicts(conflicts) };
        }
        let mut policy = Policy::clone(&self.file.policy);
        let mut claims = Claims::default();
        policy.ports.iter().for_each(|(name, port)| claims.add(name, port, kept, &policy));
        let mut runtime: Vec<_> = self.runtime.iter_mut().collect();
        // Whoever has something keeps it.
        runtime.sort_by_key(|(name, _)| self.late.contains(*name));
        for (name, runtime) in runtime {
            let judged =
                runtime.judged.get_or_insert_with(|| judge(name, &runtime.declared, &self.file.policy));
            let result = match judged {
                Ok(port) => claims.check(name, port, kept, &policy).map(|()| port.clone()),
                Err(mistakes) => Err(mistakes.iter().cloned().map(Reason::Invalid).collect()),
            };
            match result {
                Ok(port) => {
                    claims.add(name, &port, kept, &policy);
                    policy.ports.insert(name.clone(), Arc::unwrap_or_clone(port));
                }
                Err(reasons) => conflicts.push(Conflict {
                    port: name.clone(),
                    origin: runtime.declared.origin.clone(),
                    attach: attach(&runtime.declared),
                    reasons,
                }),
            }
        }
        Joined { policy: Arc::new(policy), conflicts: Conflicts(conflicts) }
    }
}

/// Where the workload is, whether or not the port is right.
fn attach(declared: &RuntimePort) -> Option<Attach> {
    let attach = &declared.attach;
    let netns = attach.netns.as_ref().map(|netns| Attach::Netns {
        netns: NetnsRef::parse(netns),
        create: attach.create.unwrap_or_default(),
        name: attach.name.clone().unwrap_or_else(|| DEFAULT_INTERFACE.to_owned()),
    });
    let device = || attach.device.clone().map(|device| Attach::Device { device });
    let tap = || {
        let (create, owner) = (attach.create.unwrap_or_default(), attach.owner);
        attach.tap.clone().map(|tap| Attach::Tap { tap, create, owner })
    };
    netns.or_else(device).or_else(tap)
}

/// What the declaration means beside `policy`.
fn judge(name: &str, declared: &RuntimePort, policy: &Policy) -> Result<Arc<Port>, Vec<Mistake>> {
    #[derive(serde::Serialize)]
    struct InFile<'a> {
        network: &'a str,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        vlans: &'a [String],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        addresses: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        mac: Option<&'a str>,
        security_groups: &'a [String],
        attach: &'a crate::api::types::RuntimeAttach,
    }
    let RuntimePort { network, vlans, addresses, mac, security_groups, attach, .. } = declared;
    let in_file = InFile { network, vlans, addresses, mac: mac.as_deref(), security_groups, attach };
    let text = serde_json::to_string(&in_file).map_err(|error| vec![Mistake::new(error.to_string())])?;
    parse_port(name, &text, policy).map(Arc::new)
}

/// What only one port may have, and which one has it.
#[derive(Default)]
struct Claims {
    names: BTreeSet<String>,
    /// In each network its own.
    addresses: BTreeMap<(String, IpAddr), String>,
    macs: BTreeMap<MacAddr, String>,
    places: BTreeMap<(PathBuf, String), String>,
}

impl Claims {
    fn add(&mut self, name: &str, port: &Port, kept: &Assigned, policy: &Policy) {
        self.names.insert(name.to_owned());
        for addr in addresses(name, port, kept, policy) {
            let network = network_of(policy, port, addr).to_owned();
            self.addresses.insert((network, addr), name.to_owned());
        }
        self.macs.insert(port.mac, name.to_owned());
        if let Some(place) = place(&port.attach) {
            self.places.insert(place, name.to_owned());
        }
    }

    /// What of `port` others have already.
    fn check(&self, name: &str, port: &Port, kept: &Assigned, policy: &Policy) -> Result<(), Vec<Reason>> {
        let mut reasons = Vec::new();
        let mut taken = |what: String, owner: Option<&String>| {
            let owner = owner.map(|owner| format!("{what} belongs to port `{owner}` already"));
            let reason = |message| Reason::Taken(Mistake::new(message).help("give each port its own"));
            reasons.extend(owner.map(reason));
        };
        for addr in addresses(name, port, kept, policy) {
            let network = network_of(policy, port, addr).to_owned();
            taken(format!("the address {addr}"), self.addresses.get(&(network, addr)));
        }
        taken(format!("the MAC address {}", port.mac), self.macs.get(&port.mac));
        taken(port.attach.describe(), place(&port.attach).and_then(|place| self.places.get(&place)));
        if self.names.contains(name) {
            let mistake = Mistake::new(format!("the policy file declares a port `{name}` itself"));
            reasons.push(Reason::Taken(mistake.help("give one of them another name")));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

fn place(attach: &Attach) -> Option<(PathBuf, String)> {
    attach.place().map(|(netns, device)| (netns, device.to_owned()))
}

/// The addresses that the port has: those declared, and in networks of which it declares none those it keeps.
fn addresses<'a>(
    name: &str,
    port: &'a Port,
    kept: &'a Assigned,
    policy: &'a Policy,
) -> impl Iterator<Item = IpAddr> + use<'a> {
    let kept = kept.get(name).into_iter().flatten();
    let fits = |addr: &&IpAddr| {
        let name = network_of(policy, port, **addr);
        let subnet = policy.networks.get(name).and_then(|network| network.subnet_of(**addr));
        !is_declared(policy, port, name) && subnet.is_some_and(|subnet| subnet.has_room_for(**addr))
    };
    port.addresses.iter().chain(kept.filter(fits)).copied()
}

/// A port of a runtime that does not go with the rest.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    /// The port.
    pub(super) port: String,
    /// Who created it.
    pub(super) origin: String,
    /// Where its workload is.
    pub(super) attach: Option<Attach>,
    /// Why not; never empty.
    pub(super) reasons: Vec<Reason>,
}

/// Why a port does not go with the rest.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    /// It is not right by itself, or refers to what is not there.
    Invalid(Mistake),
    /// Another has what only one can have.
    Taken(Mistake),
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(mistake) | Self::Taken(mistake) => mistake.fmt(out),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, origin, reasons, .. } = self;
        let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        write!(out, "port {port}, created by {origin}: {}", reasons.join("; "))
    }
}

/// All ports of runtimes that do not go with the policy file.
#[derive(Clone, Debug, Default)]
pub(super) struct Conflicts(pub(super) Vec<Conflict>);

impl Conflicts {
    /// That of the port called `name`.
    pub(super) fn of(&self, name: &str) -> Option<&Conflict> {
        self.0.iter().find(|conflict| conflict.port == name)
    }

    /// Without those of ports that were left out before.
    pub(super) fn without(mut self, known: &BTreeSet<String>) -> Self {
        self.0.retain(|conflict| !known.contains(&conflict.port));
        self
    }

    /// What to do next.
    pub(super) fn help(&self) -> String {
        let port = self.0.first().map_or("NAME", |conflict| &conflict.port);
        format!(
            "leave to these ports what they use, or have them removed first: by their runtime \
             (DELETE /v1/ports/{port} on vnet's socket), or with `vnet-ctl port delete {port}`"
        )
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, conflict) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            conflict.fmt(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "declared_tests.rs"]
mod tests;
