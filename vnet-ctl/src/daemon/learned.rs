//! Which of the addresses that ports of bridged networks are heard with are theirs.
//!
//! Pure: what is in force, what is known already, and what was heard in; what is known now and what is to be told out.
//! An address is a port's unless somebody else has it: what the policy or the host says comes before what a DHCP server
//! says, and that before what a port says itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use vnet_common::MacAddr;

use crate::{
    compile::{Assigned, Devices, learns, network_of, networks_of},
    policy::{Overlaps, Policy, Port},
    state::{Learned, LearnedAddresses},
};

/// Addresses that a port may be heard with in all: an IPv6 host has a link-local one, a stable one and a few temporary
/// ones, of which a new one comes each day and stays for two (RFC 8981 section 3.8).
const MOST: usize = 8;
/// A port that claims one more loses the oldest, if that is at least this old in seconds: nobody who means well has so
/// many in so short a time.
const YOUTH_SECS: u64 = 60;

/// Who has addresses that nobody else can have.
#[derive(Debug)]
pub(super) struct Owners<'a> {
    policy: &'a Policy,
    /// Those of ports that are declared or assigned, by the network.
    of_ports: BTreeMap<(&'a str, IpAddr), &'a str>,
    /// The routers of networks; those that are the host.
    gateways: BTreeSet<(&'a str, IpAddr)>,
    of_host: BTreeSet<IpAddr>,
    /// Those of the host beside, of the routers behind its uplinks, and those that vnet answers for.
    others: BTreeSet<IpAddr>,
}

impl<'a> Owners<'a> {
    /// As far as the policy tells, whose ports have the addresses `assigned`, learned ones apart.
    pub(super) fn of(policy: &'a Policy, assigned: &Assigned) -> Self {
        let mut of_ports = BTreeMap::new();
        for (name, port) in &policy.ports {
            for addr in assigned.get(name).into_iter().flatten() {
                of_ports.insert((network_of(policy, port, *addr), *addr), name.as_str());
            }
        }
        let subnets = policy
            .networks
            .iter()
            .flat_map(|(name, network)| network.subnets.iter().map(move |subnet| (name.as_str(), subnet)));
        let overlaps = Overlaps::of(&policy.networks);
        let of_host = subnets.clone().filter(|(name, subnet)| overlaps.host_is_in(name, subnet));
        let snat = policy.networks.values().flat_map(|network| network.snat.iter().copied());
        let elastic = policy.elastic_ips.keys().copied();
        Self {
            policy,
            of_ports,
            of_host: of_host.map(|(_, subnet)| subnet.gateway).collect(),
            gateways: subnets.map(|(name, subnet)| (name, subnet.gateway)).collect(),
            others: snat.chain(elastic).collect(),
        }
    }

    /// The same with what there is on the host, and beyond its uplinks.
    pub(super) fn with(mut self, devices: &Devices) -> Self {
        self.others.extend(devices.addresses.iter().chain(&devices.routers));
        self.others.extend(devices.uplinks.values().flat_map(|uplink| &uplink.gateways));
        self
    }

    /// Whether `port` can have `addr` in `network`, as far as it is nobody else's by what was heard.
    fn is_free(&self, port: &Port, network: &str, addr: IpAddr) -> bool {
        let Some(place) = self.policy.networks.get(network) else { return false };
        let is_someones = match addr {
            IpAddr::V4(v4) => {
                !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
            }
            IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
        };
        let is_link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_inside =
            place.subnets.is_empty() || place.subnet_of(addr).is_some_and(|subnet| subnet.has_room_for(addr));
        is_someones
            && learns(self.policy, port, network)
            && (is_link_local || is_inside)
            && network_of(self.policy, port, addr) == network
            && !self.others.contains(&addr)
            && !self.gateways.contains(&(network, addr))
            // What is of the LAN's own subnets is what it is there, whoever else has it elsewhere.
            && !(place.subnets.is_empty() && self.of_host.contains(&addr))
            && !self.of_ports.contains_key(&(network, addr))
            && !(is_link_local && self.has_made_of_mac(network, addr))
    }

    /// Whether a port of `network` has the link-local `addr` by its MAC.
    fn has_made_of_mac(&self, network: &str, addr: IpAddr) -> bool {
        let is_there = |port: &Port| networks_of(port).any(|own| own == network);
        self.policy.ports.values().any(|port| port.mac.link_local().to_std() == addr && is_there(port))
    }

    /// The port with `mac` in `network`.
    pub(super) fn port_with(&self, network: &str, mac: MacAddr) -> Option<&'a str> {
        let is_there = |port: &Port| port.mac == mac && networks_of(port).any(|own| own == network);
        let found = self.policy.ports.iter().find(|(_, port)| is_there(port));
        found.map(|(name, _)| name.as_str())
    }
}

/// What was heard of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has an address, it says.
    Claim(IpAddr),
    /// It has an address, a DHCP server says, for a time in seconds; `u32::MAX` is for ever.
    Lease(IpAddr, u32),
    /// It has no address, a DHCP server says.
    Denial,
    /// It has an address no more, it says.
    GivenUp(IpAddr),
}

/// The addresses that ports were heard with, and what is to be told of them.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) known: LearnedAddresses,
    /// In sentences.
    pub(super) news: Vec<String>,
}

impl Book {
    /// What is known, and nothing to tell.
    pub(super) const fn new(known: LearnedAddresses) -> Self {
        Self { known, news: Vec::new() }
    }

    /// Takes in what was heard of the port `name` in `network` at `now`, in seconds since the boot.
    pub(super) fn hear(
        &mut self,
        owners: &Owners<'_>,
        (name, network): (&str, &str),
        heard: Heard,
        now: u64,
    ) {
        let Some(port) = owners.policy.ports.get(name) else { return };
        let is_lease = |learned: &Learned| learned.network == network && learned.lease_until_secs.is_some();
        match heard {
            Heard::Claim(addr) => {
                let owner = self.owner(network, addr);
                if owner.is_none() && owners.is_free(port, network, addr) && self.has_room(name, now) {
                    self.add(name, network, (addr, None), now);
                }
            }
            Heard::Lease(addr, secs) => {
                if !owners.is_free(port, network, addr) {
                    return;
                }
                self.take(network, addr, name);
                // A client has one at a time.
                let is_former = |learned: &Learned| is_lease(learned) && learned.address != addr;
                self.lose(name, is_former, "a DHCP server has given it another");
                let until = if secs == u32::MAX { u64::MAX } else { now.saturating_add(secs.into()) };
                self.make_room(name, addr);
                self.add(name, network, (addr, Some(until)), now);
            }
            Heard::Denial => self.lose(name, is_lease, "a DHCP server denies it"),
            Heard::GivenUp(addr) => {
                let is_it = |learned: &Learned| is_lease(learned) && learned.address == addr;
                self.lose(name, is_it, "it has given it up");
            }
        }
    }

    /// Takes away what was let for a time that is over.
    pub(super) fn expire(&mut self, now: u64) {
        let names: Vec<_> = self.known.keys().cloned().collect();
        for name in names {
            let is_over = |learned: &Learned| learned.lease_until_secs.is_some_and(|until| until <= now);
            self.lose(&name, is_over, "its DHCP lease is over");
        }
    }

    /// When the next lease is over, in seconds since the boot.
    pub(super) fn next_end(known: &LearnedAddresses) -> Option<u64> {
        known.values().flatten().filter_map(|learned| learned.lease_until_secs).min()
    }

    fn owner(&self, network: &str, addr: IpAddr) -> Option<&str> {
        let has = |learned: &Learned| learned.network == network && learned.address == addr;
        self.known.iter().find(|(_, all)| all.iter().any(has)).map(|(name, _)| name.as_str())
    }

    /// Takes `addr` from whoever else has it: the server says that it is somebody's now.
    fn take(&mut self, network: &str, addr: IpAddr, from_all_but: &str) {
        let Some(owner) = self.owner(network, addr).filter(|owner| *owner != from_all_but) else { return };
        let (owner, why) = (owner.to_owned(), format!("a DHCP server has given it to port {from_all_but}"));
        self.lose(&owner, |learned| learned.network == network && learned.address == addr, &why);
    }

    /// Whether the port may have one more address. Room is made for it, if its oldest is old enough.
    fn has_room(&mut self, name: &str, now: u64) -> bool {
        let Some(own) = self.known.get(name).filter(|own| own.len() >= MOST) else { return true };
        let claims = own.iter().filter(|learned| learned.lease_until_secs.is_none());
        let oldest = claims.min_by_key(|learned| learned.since_secs);
        let Some(oldest) = oldest.filter(|oldest| oldest.since_secs.saturating_add(YOUTH_SECS) <= now) else {
            return false;
        };
        let oldest = oldest.clone();
        self.lose(name, |learned| *learned == oldest, "it claims too many");
        true
    }

    /// Makes room for an address that a server gives to a port, whatever that claims.
    fn make_room(&mut self, name: &str, addr: IpAddr) {
        let own = self.known.get(name).map_or(&[][..], Vec::as_slice);
        if own.len() < MOST || own.iter().any(|learned| learned.address == addr) {
            return;
        }
        if let Some(oldest) = own.iter().min_by_key(|learned| learned.since_secs).cloned() {
            self.lose(name, |learned| *learned == oldest, "it claims too many");
        }
    }

    fn add(&mut self, name: &str, network: &str, (address, until): (IpAddr, Option<u64>), now: u64) {
        let own = self.known.entry(name.to_owned()).or_default();
        let is_it = |learned: &&mut Learned| learned.network == network && learned.address == address;
        if let Some(known) = own.iter_mut().find(is_it) {
            known.lease_until_secs = until;
            return;
        }
        let network = network.to_owned();
        own.push(Learned { address, network, since_secs: now, lease_until_secs: until });
        let how = if until.is_some() { "by DHCP" } else { "which it claims" };
        self.news.push(format!("port {name} has the address {address} now, {how}"));
    }

    fn lose(&mut self, name: &str, is_lost: impl Fn(&Learned) -> bool, why: &str) {
        let Some(own) = self.known.get_mut(name) else { return };
        for learned in own.extract_if(.., |learned| is_lost(learned)) {
            let Learned { address, .. } = learned;
            self.news.push(format!("port {name} has the address {address} no more: {why}"));
        }
        if own.is_empty() {
            self.known.remove(name);
        }
    }
}

/// What of `known` still fits the policy, whose ports have the addresses `assigned` besides.
pub(super) fn fitting(policy: &Policy, assigned: &Assigned, known: &LearnedAddresses) -> LearnedAddresses {
    if known.is_empty() {
        return LearnedAddresses::new();
    }
    let owners = Owners::of(policy, assigned);
    let mut fitting = LearnedAddresses::new();
    for (name, all) in known {
        let Some(port) = policy.ports.get(name) else { continue };
        let fits = |learned: &&Learned| owners.is_free(port, &learned.network, learned.address);
        let own: Vec<_> = all.iter().filter(fits).cloned().collect();
        if !own.is_empty() {
            fitting.insert(name.clone(), own);
        }
    }
    fitting
}

/// All addresses of ports: those that are `assigned`, and those that they were heard with.
pub(super) fn joined(assigned: &Assigned, known: &LearnedAddresses) -> Assigned {
    let mut all = assigned.clone();
    for (name, own) in known {
        all.entry(name.clone()).or_default().extend(own.iter().map(|learned| learned.address));
    }
    all
}

#[cfg(test)]
#[path = "learned_tests.rs"]
mod tests;
