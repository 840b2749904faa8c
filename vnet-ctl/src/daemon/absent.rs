//! What has to wait: ports whose workload is not there, or from which the policy file took something, networks whose
//! uplink or segment is not there, and whatever does not go with the host's addresses.
//!
//! Pure. Which of them may wait is decided by the occasion; what ports have stays as it is, and closed.

use std::collections::{BTreeMap, BTreeSet};

use super::declared::{Conflict, Conflicts};
use crate::{
    compile::Released,
    plan::{self, Absent, Desired, Observed, Obstacle, Obstacles, Plan, Segment, Uplink},
    state::{State, place_of},
};

/// The ports and what else is not in force, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    names: BTreeSet<String>,
    /// Those of them that conflict with the policy file.
    conflicting: BTreeSet<String>,
    reasons: BTreeMap<String, String>,
    /// Networks without their uplink.
    networks: BTreeMap<String, String>,
    /// Networks without what leads to the rest of their segment.
    segments: BTreeMap<String, String>,
    /// What does not go with the host's addresses.
    misfits: BTreeMap<String, String>,
}

impl Waiting {
    /// Ports that conflict with the policy file, what is absent for others and for networks, and what does not go
    /// with the host's addresses.
    pub(super) fn new(conflicts: &Conflicts, absent: &[Obstacle], misfits: BTreeMap<String, String>) -> Self {
        let taken = conflicts.0.iter().map(|conflict| {
            let message = format!(
                "{conflict}; it is left out and its traffic dropped until the policy leaves it what it uses"
            );
            (conflict.port.clone(), message)
        });
        let mut reasons: BTreeMap<_, _> = taken.collect();
        let (mut networks, mut segments) = (BTreeMap::new(), BTreeMap::new());
        for obstacle in absent {
            match obstacle.absent() {
                Some(Absent::Workload(port)) => {
                    let message = format!("{obstacle}; it is attached when that comes");
                    reasons.insert(port.to_owned(), message);
                }
                Some(Absent::Uplink(network)) => {
                    let message = format!("{obstacle}; what it sends outside is dropped until that comes");
                    networks.insert(network.to_owned(), message);
                }
                Some(Absent::Segment(network)) => {
                    let message = format!("{obstacle}; it ends at this host until that comes");
                    segments.insert(network.to_owned(), message);
                }
                None => {}
            }
        }
        let conflicting = conflicts.0.iter().map(|conflict| conflict.port.clone()).collect();
        Self { names: reasons.keys().cloned().collect(), conflicting, reasons, networks, segments, misfits }
    }

    /// The same with these as what does not go with the host's addresses.
    pub(super) fn with_misfits(self, misfits: BTreeMap<String, String>) -> Self {
        Self { misfits, ..self }
    }

    /// The ports.
    pub(super) const fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Those that conflict with the policy file.
    pub(super) const fn conflicting(&self) -> &BTreeSet<String> {
        &self.conflicting
    }

    /// Whether nothing has to wait.
    pub(super) fn is_empty(&self) -> bool {
        self.all().all(BTreeMap::is_empty)
    }

    /// Whether it is known what waits for what `obstacle` tells.
    pub(super) fn knows(&self, obstacle: &Obstacle) -> bool {
        match obstacle.absent() {
            Some(Absent::Workload(port)) => self.names.contains(port),
            Some(Absent::Uplink(network)) => self.networks.contains_key(network),
            Some(Absent::Segment(network)) => self.segments.contains_key(network),
            None => false,
        }
    }

    /// Why the port called `name` has to wait, if it has.
    pub(super) fn reason(&self, name: &str) -> Option<&str> {
        self.reasons.get(name).map(String::as_str)
    }

    /// Why, in a sentence for each.
    pub(super) fn messages(&self) -> Vec<String> {
        self.all().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The sentences that `before` did not have.
    pub(super) fn news(&self, before: &Self) -> Vec<String> {
        let new = self.all().zip(before.all()).flat_map(|(reasons, before)| {
            reasons.iter().filter(|(name, reason)| before.get(*name) != Some(reason))
        });
        new.map(|(_, reason)| reason.clone()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &BTreeMap<String, String>> {
        [&self.reasons, &self.networks, &self.segments, &self.misfits].into_iter()
    }
}

/// The way to `desired`, without the ports whose workload is not there and the uplinks that are not, as far as
/// they `may_wait`: they are taken out of it, and returned with what they wait for.
///
/// # Errors
/// Whatever else is in the way.
pub(super) fn leave_out(
    desired: &mut Desired,
    observed: &Observed,
    state: &State,
    may_wait: &dyn Fn(Absent<'_>) -> bool,
) -> Result<(Plan, Vec<Obstacle>), Obstacles> {
    let mut absent = Vec::new();
    loop {
        let Obstacles(obstacles) = match plan::plan(desired, observed, state) {
            Ok(plan) => return Ok((plan, absent)),
            Err(obstacles) => obstacles,
        };
        let waits = |obstacle: &Obstacle| obstacle.absent().is_some_and(may_wait);
        let (waiting, blocking): (Vec<_>, Vec<_>) = obstacles.into_iter().partition(waits);
        if !blocking.is_empty() {
            return Err(Obstacles(blocking));
        }
        for absent in waiting.iter().filter_map(Obstacle::absent) {
            match absent {
                Absent::Workload(port) => {
                    if let Some(gone) = desired.ports.remove(port) {
                        desired.spared.insert(port.to_owned(), gone.attach);
                    }
                }
                Absent::Uplink(network) => {
                    if let Some(network) = desired.networks.get_mut(network) {
                        network.uplink = Uplink::None;
                    }
                }
                Absent::Segment(network) => {
                    if let Some(network) = desired.networks.get_mut(network) {
                        network.segment = match network.segment.take() {
                            Some(Segment::Overlay { peers, .. }) => {
                                Some(Segment::Overlay { uplink: Uplink::None, peers })
                            }
                            _ => None,
                        };
                    }
                }
            }
        }
        absent.extend(waiting);
    }
}

/// Addresses that others get last: those that ports had, and those of ports that do not go with the policy file
/// now, which want them back.
pub(super) fn rested(state: &State, conflicts: &Conflicts) -> Vec<Released> {
    let kept = conflicts.0.iter().flat_map(|Conflict { port, .. }| {
        let addresses = state.addresses.get(port).into_iter().flatten();
        addresses.map(|&address| {
            let network = place_of(&state.places, port, address).map(str::to_owned);
            Released { address, port: port.clone(), network }
        })
    });
    state.released.iter().cloned().chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Addressing, Attach, NetnsRef, Network, Port};

    fn desired() -> Desired {
        let network = Network {
            bridge: "vnet-web".to_owned(),
            mac: vnet_common::MacAddr([2; 6]),
            mtu: 1500,
            gateways: Vec::new(),
            uplink: Uplink::None,
            groups: BTreeSet::new(),
            segment: None,
            stations: BTreeSet::new(),
        };
        let port = |attach| Port {
            network: "web".to_owned(),
            mac: vnet_common::MacAddr([2; 6]),
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
            addressing: Addressing::Given,
            attach,
        };
        let netns = NetnsRef::Name("gone".to_owned());
        Desired {
            networks: [("web".to_owned(), network)].into(),
            ports: [
                ("a".to_owned(), port(Attach::Device { device: "tap0".to_owned() })),
                ("b".to_owned(), port(Attach::Netns { netns, create: false, interface: "eth0".to_owned() })),
            ]
            .into(),
            ..Desired::default()
        }
    }

    #[test]
    fn a_port_without_a_workload_waits_only_if_it_may() {
        let (observed, state) = (Observed::default(), State::default());
        let mut both = desired();
        let (plan, absent) = leave_out(&mut both, &observed, &state, &|_| true).unwrap();
        assert_eq!((both.ports.len(), both.spared.len(), absent.len()), (0, 2, 2));
        assert!(!plan.is_empty(), "the network comes nonetheless");
        let waiting = Waiting::new(&Conflicts::default(), &absent, BTreeMap::new());
        assert!(waiting.messages()[0].contains("there is no device tap0"), "{waiting:?}");
        assert_eq!((waiting.news(&Waiting::default()).len(), waiting.news(&waiting).len()), (2, 0));

        let only_a = |absent: Absent<'_>| absent == Absent::Workload("a");
        let obstacles = leave_out(&mut desired(), &observed, &state, &only_a).unwrap_err();
        assert_eq!(obstacles.0.len(), 1);
        assert_eq!(obstacles.0[0].absent(), Some(Absent::Workload("b")));
    }

    #[test]
    fn a_network_without_its_uplink_waits_without_exit_if_it_may() {
        let (observed, state) = (Observed::default(), State::default());
        let mut wanted = desired();
        wanted.ports.clear();
        wanted.networks.get_mut("web").unwrap().uplink = Uplink::Device("eth9".to_owned());
        let refused = leave_out(&mut wanted.clone(), &observed, &state, &|_| false).unwrap_err();
        assert!(refused.to_string().starts_with("network web: there is no device eth9; "), "{refused}");

        let (plan, absent) = leave_out(&mut wanted, &observed, &state, &|_| true).unwrap();

        assert_eq!((wanted.networks["web"].uplink.clone(), plan.is_empty()), (Uplink::None, false));
        let misfits = [("x".to_owned(), "x does not fit".to_owned())].into();
        let waiting = Waiting::new(&Conflicts::default(), &absent, misfits);
        assert!(!waiting.is_empty() && waiting.names().is_empty() && waiting.knows(&absent[0]));
        let messages = waiting.messages();
        assert!(
            messages[0].contains("there is no device eth9; what it sends outside is dropped"),
            "{messages:?}"
        );
        assert_eq!((waiting.news(&Waiting::default()), waiting.news(&waiting).len()), (messages, 0));
    }

    #[test]
    fn a_network_without_the_rest_of_its_segment_waits_for_it_if_it_may() {
        let (observed, state) = (Observed::default(), State::default());
        let gone = || Uplink::Device("eth9".to_owned());
        let lan = Segment::Lan { trunk: "eth9".to_owned(), shared: false };
        let left = |segment: Segment| {
            let mut wanted = desired();
            wanted.ports.clear();
            wanted.networks.get_mut("web").unwrap().segment = Some(segment);
            assert!(leave_out(&mut wanted.clone(), &observed, &state, &|_| false).is_err());
            let (_, absent) = leave_out(&mut wanted, &observed, &state, &|_| true).unwrap();
            let waiting = Waiting::new(&Conflicts::default(), &absent, BTreeMap::new());
            assert!(waiting.knows(&absent[0]) && !waiting.is_empty());
            let words = "network web: there is no device eth9; it ends at this host until that comes";
            assert_eq!(waiting.messages(), [words]);
            wanted.networks["web"].segment.clone()
        };
        assert_eq!(left(lan), None);
        let overlay = |uplink| Segment::Overlay { uplink, peers: BTreeSet::new() };
        assert_eq!(left(overlay(gone())), Some(overlay(Uplink::None)), "its device stays");
    }

    #[test]
    fn what_a_port_in_conflict_had_is_given_to_others_last() {
        let mut state = State::default();
        let [first, second] = ["10.0.0.2", "10.0.0.3"].map(|addr| vec![addr.parse().unwrap()]);
        state.addresses = [("c1".to_owned(), first.clone()), ("c2".to_owned(), second)].into();
        let conflict =
            Conflict { port: "c1".to_owned(), origin: "cni".to_owned(), attach: None, reasons: Vec::new() };
        let text = "version = 1\nnetworks.web = { type = \"private\", subnets = [\"10.0.0.0/24\"] }\n\
                    ports.new = { network = \"web\", attach = { netns = \"n\" } }\n";
        let (policy, _) = crate::policy::parse(text, std::path::Path::new("policy.toml")).unwrap();
        let rested = rested(&state, &Conflicts(vec![conflict]));
        let assigned = crate::compile::assign_rested(&policy, &state.addresses, &rested).unwrap();
        assert_ne!(assigned["new"], first);
    }
}
