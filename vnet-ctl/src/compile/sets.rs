//! Group sets: the distinct combinations of groups that ports have, and the number of each.

use std::collections::{BTreeMap, BTreeSet};

use vnet_common::{GATE_EGRESS_ACL, GATE_INGRESS_ACL, GROUP_SET_ACL, GROUP_SET_HOST, GroupSet};

use super::{Devices, Tables, identity::Taken, rules::Origin};
use crate::policy::Policy;

/// The first number that ports' sets have.
const FIRST: GroupSet = GROUP_SET_HOST + 1;

/// The sets that are in use, those of the host and of the acl among them.
#[derive(Debug, Default)]
pub(super) struct Sets {
    numbers: BTreeMap<Vec<Origin>, GroupSet>,
    of_ports: BTreeMap<String, GroupSet>,
}

impl Sets {
    /// The sets of `policy`. Those that were in `old`, or that a port has in `before`, keep their numbers.
    pub(super) fn of(policy: &Policy, old: &Self, devices: &Devices, before: &Tables) -> Self {
        let mut wanted: BTreeMap<Vec<Origin>, Vec<&String>> = BTreeMap::new();
        for (name, port) in &policy.ports {
            let groups: BTreeSet<_> = port.security_groups.iter().collect();
            let origins = groups.into_iter().cloned().map(Origin::Group).collect();
            wanted.entry(origins).or_default().push(name);
        }
        let known = |name: &String| {
            let of_device = || Some(before.ports.get(&devices.ports.get(name)?.ifindex)?.group_set);
            // Another host looks after the port: it has addresses, and no device.
            let of_address = || {
                let port = policy.ports.get(name)?;
                let bridge = devices.bridges.get(&port.network)?;
                let endpoint = before.endpoints.get(&(bridge.ifindex, port.mac.link_local().to_std()))?;
                Some(endpoint.group_set)
            };
            let group_set = of_device().or_else(of_address)?;
            Some(group_set & !(GATE_INGRESS_ACL | GATE_EGRESS_ACL))
        };
        let mut sets = Self::default();
        let mut taken = Taken::from(FIRST);
        taken.take(GROUP_SET_ACL);
        // Numbers that are certain come first, then those that a port suggests, then new ones.
        let suggestion = |(origins, ports): (&Vec<Origin>, &Vec<&String>)| match old.numbers.get(origins) {
            Some(number) => (0, Some(*number)),
            None => match ports.iter().find_map(|name| known(name)) {
                Some(number) if number >= FIRST => (1, Some(number)),
                _ => (2, None),
            },
        };
        let mut ordered: Vec<_> = wanted.iter().map(|entry| (suggestion(entry), entry)).collect();
        ordered.sort_by_key(|((rank, _), _)| *rank);
        let mut late = Vec::new();
        for ((_, number), entry) in ordered {
            match number.filter(|number| taken.take(*number)) {
                Some(number) => sets.add(number, entry),
                None => late.push(entry),
            }
        }
        late.into_iter().for_each(|entry| sets.add(taken.lowest_free(), entry));
        sets.numbers.insert(vec![Origin::Host], GROUP_SET_HOST);
        sets.numbers.insert(vec![Origin::Acl], GROUP_SET_ACL);
        sets
    }

    fn add(&mut self, number: GroupSet, (origins, ports): (&Vec<Origin>, &Vec<&String>)) {
        self.numbers.insert(origins.clone(), number);
        self.of_ports.extend(ports.iter().map(|name| ((*name).clone(), number)));
    }

    /// The number of a port's groups.
    pub(super) fn of_port(&self, name: &str) -> GroupSet {
        self.of_ports.get(name).copied().unwrap_or(GROUP_SET_HOST)
    }

    /// Whether there is this set under this number.
    pub(super) fn has(&self, origins: &[Origin], number: GroupSet) -> bool {
        self.numbers.get(origins) == Some(&number)
    }

    /// All sets: where their rules come from, and their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[Origin], GroupSet)> {
        self.numbers.iter().map(|(origins, number)| (origins.as_slice(), *number))
    }

    /// Where rules in use come from.
    pub(super) fn origins(&self) -> BTreeSet<&Origin> {
        self.numbers.keys().flatten().collect()
    }
}
