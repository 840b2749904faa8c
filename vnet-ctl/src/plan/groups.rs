//! The multicast groups that uplinks are in for vnet's sake.
//!
//! Who looks for an IPv6 neighbour asks a multicast MAC (RFC 4861 section 7.2.2), which a device need not take unless it
//! is told. What vnet tells devices is remembered in the state, for nobody else knows whose doing it is: a group that a
//! device is in already is somebody else's, and is left alone.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::MacAddr;

use super::{Action, Link, planner::Planner};

/// The groups of uplinks, by name.
pub(super) type Groups<'a> = BTreeMap<&'a str, (&'a Link, BTreeSet<MacAddr>)>;

impl Planner<'_> {
    /// Joins what is `wanted`, and leaves what vnet has joined and is not.
    pub(super) fn groups(&mut self, wanted: &Groups<'_>) {
        for (device, (link, groups)) in wanted {
            for &group in groups {
                let is_joined = self.observed.has_group(link.ifindex, group);
                if is_joined && !self.has_joined(device, group) {
                    continue;
                }
                self.plan.groups.entry((*device).to_owned()).or_default().insert(group.to_string());
                if !is_joined {
                    let device = (*device).to_owned();
                    let undo = Action::LeaveGroup { device: device.clone(), group };
                    self.prepare(Action::JoinGroup { device, group }, undo);
                }
            }
        }
        let (observed, state) = (self.observed, self.state);
        for device in state.groups.keys() {
            let Some(link) = observed.by_name(device) else { continue };
            let is_wanted =
                |group| wanted.get(device.as_str()).is_some_and(|(_, groups)| groups.contains(group));
            for group in observed.groups.get(&link.ifindex).into_iter().flatten() {
                if self.has_joined(device, *group) && !is_wanted(group) {
                    self.plan.remove.push(Action::LeaveGroup { device: device.clone(), group: *group });
                }
            }
        }
    }

    /// Whether it was vnet, as far as the state knows.
    fn has_joined(&self, device: &str, group: MacAddr) -> bool {
        self.state.groups.get(device).is_some_and(|groups| groups.contains(&group.to_string()))
    }
}
