//! Putting right what somebody else changed, and telling it.
//!
//! A repair gives back what vnet had configured and that is missing or altered now: bridges and interfaces, their
//! MACs, MTUs, addresses, default routes and membership of bridges, and that they are up. What somebody has
//! *added*, an address or a route, is left alone, and so is an interface that a workload has brought down
//! itself: it gets what it lacks when it is up again. An apply by people makes everything exactly as declared.

use std::collections::BTreeSet;

use super::{Action, Plan, Step, Target, Workload, action::of};

impl Plan {
    /// The same without what only takes away, or goes against a workload's own will.
    #[must_use]
    pub fn restoring(mut self) -> Self {
        self.finish = self.finish.into_iter().filter_map(restoring).collect();
        self
    }

    /// What the plan puts right, one sentence each.
    #[must_use]
    pub fn repairs(&self) -> Vec<String> {
        let steps = || self.prepare.iter().chain(&self.finish);
        let created = steps().filter_map(|step| created(&step.action)).collect();
        let mut words: Vec<String> = steps().flat_map(|step| describe(step, &created)).collect();
        words.extend(self.remove.iter().map(removed));
        words
    }
}

fn restoring(step: Step) -> Option<Step> {
    match (step.action, step.undo) {
        (
            Action::SetAddresses { device, mut addresses },
            Some(Action::SetAddresses { device: of, addresses: before }),
        ) => {
            if missing(&addresses, &before).is_empty() {
                return None;
            }
            addresses.extend(missing(&before, &addresses));
            let undo = Some(Action::SetAddresses { device: of, addresses: before });
            Some(Step { action: Action::SetAddresses { device, addresses }, undo })
        }
        (Action::Configure(_), Some(Action::Configure(before))) if !before.up => None,
        (Action::Configure(mut workload), Some(Action::Configure(before))) => {
            if !workload.configures_itself() {
                workload.addresses.extend(missing(&before.addresses, &workload.addresses));
                workload.gateways.extend(missing(&before.gateways, &workload.gateways));
            }
            let lacks = !missing(&workload.addresses, &before.addresses).is_empty()
                || !missing(&workload.gateways, &before.gateways).is_empty();
            let is_altered = (workload.mac, workload.mtu) != (before.mac, before.mtu);
            (lacks || is_altered).then_some(Step {
                action: Action::Configure(workload),
                undo: Some(Action::Configure(before)),
            })
        }
        (action, undo) => Some(Step { action, undo }),
    }
}

/// What is in `wanted` and not in `present`.
fn missing<T: PartialEq + Clone>(wanted: &[T], present: &[T]) -> Vec<T> {
    wanted.iter().filter(|item| !present.contains(item)).cloned().collect()
}

fn created(action: &Action) -> Option<&str> {
    match action {
        Action::CreateBridge { device, .. }
        | Action::CreateVeth { device, .. }
        | Action::CreateTap { device, .. }
        | Action::CreateOverlay { device, .. } => Some(device),
        _ => None,
    }
}

fn describe(step: &Step, created: &BTreeSet<&str>) -> Vec<String> {
    let is_new = |device: &str| created.contains(device);
    let text = match &step.action {
        Action::CreateNamespace(netns) => format!("namespace {netns} had been removed: made again"),
        Action::CreateBridge { device, network, .. } => {
            format!("bridge {device} of network {network} had been deleted: made again")
        }
        Action::CreateVeth { port, device, workload: Workload { netns, interface, .. } } => {
            format!("{interface} of port {port} ({device}) was missing in namespace {netns}: made")
        }
        Action::CreateTap { port, device, .. } => {
            format!("tap {device} of port {port} had been deleted: made again")
        }
        Action::CreateOverlay { device, .. } => {
            format!("{device} of all overlays had been deleted: made again")
        }
        Action::SetAddresses { device, .. } | Action::Mute { device } if is_new(device) => return Vec::new(),
        Action::SetAddresses { device, addresses } => {
            let before = match &step.undo {
                Some(Action::SetAddresses { addresses, .. }) => addresses.as_slice(),
                _ => &[],
            };
            let lost = missing(addresses, before).into_iter();
            return lost
                .map(|addr| format!("address {addr} of {device} had been removed: set again"))
                .collect();
        }
        Action::Configure(workload) => match &step.undo {
            Some(Action::Configure(before)) => return inside(workload, before),
            _ => return Vec::new(),
        },
        Action::Enslave { device, bridge } if is_new(device) || is_new(bridge) => return Vec::new(),
        Action::Enslave { device, bridge } => format!("{device} had been taken off {bridge}: put back"),
        Action::Up { device }
        | Action::AttachPort { device }
        | Action::AttachBridge { device }
        | Action::AttachOutside { device, .. }
            if is_new(device) =>
        {
            return Vec::new();
        }
        Action::Up { device } => format!("{device} was down: brought up"),
        Action::AttachPort { device } | Action::AttachBridge { device } => {
            format!("the datapath was not attached to {device}: attached")
        }
        Action::AttachOutside { device, role } => format!("attached to {role} {device}"),
        Action::Accept { device, frames } => format!("{device} takes {} now", of(*frames)),
        Action::SetMac { device, mac } => format!("the MAC of {device} had been changed: set to {mac} again"),
        Action::SetMtu { device, mtu } => format!("the MTU of {device} had been changed: set to {mtu} again"),
        Action::SetOwner { device, owner } => {
            format!("{device} had lost its mark: it is that of {owner} again")
        }
        other => format!("repaired: {other}"),
    };
    vec![text]
}

fn removed(action: &Action) -> String {
    match action {
        Action::DetachOutside(Target::Device(device), role) => format!("detached from {role} {device}"),
        Action::Decline { device, frames } => format!("{device} takes no more {}", of(*frames)),
        other => other.to_string(),
    }
}

/// What was wrong inside a namespace.
fn inside(workload: &Workload, before: &Workload) -> Vec<String> {
    let Workload { netns, interface, mac, mtu, .. } = workload;
    let place = format!("{interface} in namespace {netns}");
    let addresses = missing(&workload.addresses, &before.addresses).into_iter();
    let gateways = missing(&workload.gateways, &before.gateways).into_iter();
    let mut words: Vec<String> =
        addresses.map(|addr| format!("address {addr} of {place} had been removed: set again")).collect();
    words.extend(
        gateways.map(|hop| format!("the default route via {hop} of {place} had been removed: set again")),
    );
    if *mac != before.mac {
        words.push(format!("the MAC of {place} had been changed: set to {mac} again"));
    }
    if *mtu != before.mtu {
        words.push(format!("the MTU of {place} had been changed: set to {mtu} again"));
    }
    if words.is_empty() {
        words.push(format!("{place} had been changed: configured again"));
    }
    words
}
