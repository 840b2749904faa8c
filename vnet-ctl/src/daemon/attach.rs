//! The datapath's part in the steps of a plan.

use std::collections::BTreeSet;

use anyhow::Result;

use super::SharedDatapath;
use crate::{
    datapath::names::Hook,
    host::Attach,
    plan::{Action, Plan, Role},
};

impl Attach for SharedDatapath {
    fn attach_port(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_port(ifindex)
    }

    fn attach_bridge(&mut self, ifindex: u32, _: &str) -> Result<()> {
        self.lock().attach_bridge(ifindex)
    }

    fn attach_outside(&mut self, ifindex: u32, _: &str, role: Role) -> Result<()> {
        self.lock().attach_outside(ifindex, hook_of(role))
    }

    fn detach(&mut self, ifindex: u32) -> Result<()> {
        self.lock().detach(ifindex, &Hook::INSIDE)
    }

    fn detach_outside(&mut self, ifindex: u32, role: Role) -> Result<()> {
        self.lock().detach(ifindex, &[hook_of(role)])
    }
}

/// The program for what a device leads to.
pub(super) const fn hook_of(role: Role) -> Hook {
    match role {
        Role::Uplink => Hook::FromUplink,
        Role::Segment => Hook::FromSegment,
        Role::Lan => Hook::ToSegment,
        Role::Underlay => Hook::FromUnderlay,
    }
}

/// The programs that the steps of a plan attach.
pub(super) fn hooks_of(plan: &Plan) -> BTreeSet<Hook> {
    let mut hooks = BTreeSet::new();
    for step in plan.prepare.iter().chain(&plan.finish) {
        match &step.action {
            Action::AttachPort { .. } => hooks.extend(Hook::OF_PORT),
            Action::AttachBridge { .. } => hooks.extend(Hook::OF_BRIDGE),
            Action::AttachOutside { role, .. } => _ = hooks.insert(hook_of(*role)),
            _ => {}
        }
    }
    hooks
}
