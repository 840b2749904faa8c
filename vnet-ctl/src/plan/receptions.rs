//! The frames that devices of others take for vnet's sake.
//!
//! A device takes what is for its own MAC, for all, and for the multicast groups that the host is in; the rest its
//! hardware may leave on the wire. Who looks for an IPv6 neighbour asks a multicast MAC (RFC 4861 section 7.2.2), and what
//! is for a workload on the device's LAN is for a MAC of its own. What vnet tells devices is remembered in the state, for
//! nobody else knows whose doing it is: what a device takes already is somebody else's wish, and is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use vnet_common::MacAddr;

use super::{Action, Link, Observed, planner::Planner};
use crate::{policy::parse_mac, state::State};

/// How all multicast is called.
const ALL_MULTICAST: &str = "all-multicast";

/// Frames that a device may be told to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reception {
    /// Those for this MAC, of one station or of a group.
    Mac(MacAddr),
    /// Those for any group.
    AllMulticast,
}

impl fmt::Display for Reception {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(out),
            Self::AllMulticast => out.pad(ALL_MULTICAST),
        }
    }
}

/// What devices take, by name.
pub(super) type Receptions<'a> = BTreeMap<&'a str, (&'a Link, BTreeSet<Reception>)>;

impl Planner<'_> {
    /// Has devices take what is `wanted`, and no more what vnet had them take and is not.
    pub(super) fn receptions(&mut self, wanted: &Receptions<'_>) {
        for (device, (link, all)) in wanted {
            for &frames in all {
                let is_taken = self.observed.takes(link, frames);
                if is_taken && !is_of_vnet(self.state, device, frames) {
                    continue;
                }
                self.plan.receptions.entry((*device).to_owned()).or_default().insert(frames.to_string());
                if !is_taken {
                    let device = (*device).to_owned();
                    let undo = Action::Decline { device: device.clone(), frames };
                    self.prepare(Action::Accept { device, frames }, undo);
                }
            }
        }
        let (observed, state) = (self.observed, self.state);
        for device in state.groups.keys() {
            let Some(link) = observed.by_name(device) else { continue };
            let is_wanted =
                |frames: &Reception| wanted.get(device.as_str()).is_some_and(|(_, all)| all.contains(frames));
            for frames in observed.taken_by(link) {
                if is_of_vnet(state, device, frames) && !is_wanted(&frames) {
                    self.plan.remove.push(Action::Decline { device: device.clone(), frames });
                }
            }
        }
    }
}

/// Whether it was vnet that had `device` take `frames`, as far as the state knows.
fn is_of_vnet(state: &State, device: &str, frames: Reception) -> bool {
    state.groups.get(device).is_some_and(|all| all.contains(&frames.to_string()))
}

/// Whether vnet had any device take frames for a single station, as far as the state knows.
#[must_use]
pub fn filters_stations(state: &State) -> bool {
    let is_station = |text: &String| parse_mac(text).is_ok_and(|mac| !mac.is_multicast());
    state.groups.values().flatten().any(is_station)
}

impl Observed {
    /// Whether somebody has told the link to take `frames`.
    fn takes(&self, link: &Link, frames: Reception) -> bool {
        match frames {
            Reception::Mac(mac) => self.macs.get(&link.ifindex).is_some_and(|macs| macs.contains(&mac)),
            Reception::AllMulticast => link.all_multicast,
        }
    }

    /// All that somebody has told the link to take.
    fn taken_by(&self, link: &Link) -> impl Iterator<Item = Reception> {
        let macs = self.macs.get(&link.ifindex).into_iter().flatten().copied().map(Reception::Mac);
        macs.chain(link.all_multicast.then_some(Reception::AllMulticast))
    }
}
