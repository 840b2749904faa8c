//! Ports that the daemon keeps without the policy file naming them.

use serde::Serialize;
use vnet_ctl::api::types::{
    AttachInfo, POLICY_ORIGIN, PortCreated, PortInfo, PortRemoved, RuntimeAttach, RuntimePort,
};

use super::{Context, ports};
use crate::{
    client::segment,
    commands::named::Tolerate,
    failure::{Done, Failure, Kind, Outcome},
    output::{View, joined},
};

/// Who creates a port with `--runtime` and says no more.
pub(super) const ORIGIN: &str = "vnet-ctl";

/// What becomes of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Change,
}

impl Verb {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("create", "created"),
            Self::Change => ("change", "changed"),
        }
    }
}

/// The port of that name if a runtime created it, and not the policy file.
pub(super) async fn find(context: &Context<'_>, name: &str) -> Result<Option<PortInfo>, Failure> {
    match ports(context).await {
        Ok(ports) => Ok(ports.into_iter().find(|port| port.name == name && port.origin != POLICY_ORIGIN)),
        // The diff of a file needs no daemon.
        Err(failure) if context.globals.dry_run && failure.kind == Kind::Unreachable => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What the API wants to know of where a port is attached.
pub(super) fn attach(info: AttachInfo) -> RuntimeAttach {
    match info {
        AttachInfo::Netns { netns, create, name } => RuntimeAttach {
            netns: Some(netns),
            create: create.then_some(true),
            name: Some(name),
            ..RuntimeAttach::default()
        },
        AttachInfo::Device { device } => RuntimeAttach { device: Some(device), ..RuntimeAttach::default() },
        AttachInfo::Tap { tap, create, owner } => RuntimeAttach {
            tap: Some(tap),
            create: create.then_some(true),
            owner,
            ..RuntimeAttach::default()
        },
        // Nobody creates one but the policy file.
        AttachInfo::Remote { .. } => RuntimeAttach::default(),
    }
}

/// A change of a port, as JSON shows it.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    #[serde(flatten)]
    port: PortInfo,
    changed: bool,
    /// None where nothing changed.
    generation: Option<u32>,
}

impl Change {
    /// Of a port that stays as it is.
    pub(super) const fn none(port: PortInfo) -> Self {
        Self { port, changed: false, generation: None }
    }

    /// Prints it, for people as `NAME verb`.
    pub(super) fn report(&self, context: &Context<'_>, verb: &str) -> Outcome {
        let (output, name) = (context.output, &self.port.name);
        if output.is_for_people() {
            output.print(&format!("{verb} {name}\n"))?;
            if let Some(generation) = self.generation {
                let addresses = joined(&self.port.addresses);
                output.note(&format!("{name} has {addresses}, in force as generation {generation}"));
            }
        } else {
            output.show(self, &View::of(name))?;
        }
        Ok(Done::Success)
    }
}

/// Has the daemon create or replace the port called `name`.
pub(super) async fn put(context: &Context<'_>, name: &str, port: &RuntimePort, verb: Verb) -> Outcome {
    let (verb, past) = verb.words();
    if context.globals.dry_run {
        return would(context, name, &format!("would {verb} {name} in network {}", port.network), port);
    }
    let created: PortCreated = context.client.put(&format!("/v1/ports/{}", segment(name)), port).await?;
    let PortCreated { generation, changed, port } = created;
    if !changed {
        return Change::none(port).report(context, "nothing to change at");
    }
    Change { port, changed, generation: Some(generation) }.report(context, past)
}

/// Has the daemon remove `port`.
pub(super) async fn delete(context: &Context<'_>, port: PortInfo, tolerate: Tolerate) -> Outcome {
    let (output, name) = (context.output, port.name.as_str());
    if context.globals.dry_run {
        return would(context, name, &format!("would delete {name} of {}", port.origin), &port);
    }
    let answer = context.client.delete::<PortRemoved>(&format!("/v1/ports/{}", segment(name))).await;
    let removed = match answer {
        Err(failure) if failure.kind == Kind::NotFound && tolerate == Tolerate::Missing => {
            output.note("nothing to delete");
            return Ok(Done::Success);
        }
        answer => answer?,
    };
    removed.warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_for_people() {
        output.print(&format!("deleted {name}\n"))?;
    } else {
        output.show(&removed, &View::of(name))?;
    }
    Ok(Done::Success)
}

/// What a dry run shows.
fn would(context: &Context<'_>, name: &str, sentence: &str, port: &impl Serialize) -> Outcome {
    #[derive(Serialize)]
    struct DryRun<'a, T> {
        name: &'a str,
        dry_run: bool,
        port: &'a T,
    }
    if context.output.is_for_people() {
        context.output.print(&format!("{sentence}\n"))?;
    } else {
        context.output.show(&DryRun { name, dry_run: true, port }, &View::of(name))?;
    }
    Ok(Done::Success)
}
