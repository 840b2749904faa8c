//! Compiles one policy after the other, and does again only what a change concerns.
//!
//! It remembers what the last policy came to: rules in compiled form, the numbers of identities and group
//! sets, and which rules claim an entry. Numbers stay as they are as long as what they stand for exists, so
//! two generations differ in what a person changed and no more. What it makes is the same that
//! [`super::compile`] makes, the numbers aside.

use std::{collections::BTreeMap, mem, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use vnet_common::{
    ElasticIp, Endpoint, Exit, Forward, ForwardKey, GroupSet, Link, LinkKey, MacAddr, NetworkRecord,
    PolicyEntry, PolicyKey, PortRecord, Station, UplinkRecord,
};

use super::{
    Assigned, Devices, Difference, ExitPlace, Tables, TooLarge,
    difference::{Before, replace, since},
    entries::{Contested, Entries},
    identity::{Atoms, Identities, Member},
    records,
    seats::{self, Members},
    segments,
    sets::Sets,
    tables::check_sizes,
    translation,
    work::{Lists, Rules, Work},
};
use crate::policy::{ElasticIp as PublicIp, Forward as Forwarded, Metadata, Network, Overlaps, Policy, Port};

/// Compiles policies that follow one another.
#[derive(Debug, Default)]
pub struct Compiler {
    tables: Arc<Tables>,
    before: Unsettled,
    known: Known,
    /// Whether `known` numbers things as the tables that were settled do.
    is_settled: bool,
}

/// What entries that have changed were when the tables were last settled.
#[derive(Debug, Default)]
struct Unsettled {
    ports: Before<u32, PortRecord>,
    networks: Before<u32, NetworkRecord>,
    endpoints: Before<(u32, IpAddr), Endpoint>,
    peers: Before<IpNet, u32>,
    joins: Before<(u32, IpNet), u32>,
    policy: Before<PolicyKey, PolicyEntry>,
    uplinks: Before<u32, UplinkRecord>,
    exits: Before<ExitPlace, Exit>,
    elastic_ips: Before<(u32, IpAddr), ElasticIp>,
    forwards: Before<ForwardKey, Forward>,
    links: Before<LinkKey, Link>,
    stations: Before<(u32, MacAddr), Station>,
    vteps: Before<(u32, IpAddr), u32>,
}

/// What the last policy came to.
#[derive(Debug, Default)]
struct Known {
    world: Option<World>,
    prefix_lists: BTreeMap<String, Vec<IpNet>>,
    atoms: Atoms,
    lists: Lists,
    sets: Sets,
    identities: Identities,
    contested: Contested,
}

/// All that identities and records depend on, rules apart.
#[derive(Debug)]
struct World {
    networks: BTreeMap<String, Network>,
    ports: BTreeMap<String, Port>,
    forwards: Vec<Forwarded>,
    elastic_ips: BTreeMap<IpAddr, PublicIp>,
    metadata: Vec<Metadata>,
    assigned: Assigned,
    devices: Devices,
    gates: GroupSet,
}

impl World {
    fn of(policy: &Policy, assigned: &Assigned, devices: &Devices) -> Self {
        Self {
            networks: policy.networks.clone(),
            ports: policy.ports.clone(),
            forwards: policy.forwards.clone(),
            elastic_ips: policy.elastic_ips.clone(),
            metadata: policy.metadata.clone(),
            assigned: assigned.clone(),
            devices: devices.clone(),
            gates: records::gates(policy),
        }
    }

    fn is_that_of(&self, policy: &Policy, assigned: &Assigned, devices: &Devices) -> bool {
        self.networks == policy.networks
            && self.ports == policy.ports
            && self.forwards == policy.forwards
            && self.elastic_ips == policy.elastic_ips
            && self.metadata == policy.metadata
            && self.assigned == *assigned
            && self.devices == *devices
            && self.gates == records::gates(policy)
    }
}

impl Compiler {
    /// A compiler whose first policy takes the place of the tables `in_force`, and keeps their numbers.
    #[must_use]
    pub fn resume(in_force: Arc<Tables>) -> Self {
        Self { tables: in_force, ..Self::default() }
    }

    /// The tables of the last policy that fitted. Who keeps a share of them makes the next update copy them
    /// first, which takes longer than most updates.
    #[must_use]
    pub const fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The same.
    #[must_use]
    pub fn into_tables(self) -> Tables {
        Arc::unwrap_or_clone(self.tables)
    }

    /// What leads from the tables that were settled last to those of now.
    #[must_use]
    pub fn difference(&self) -> Difference {
        let (before, tables) = (&self.before, &self.tables);
        Difference {
            ports: since(&before.ports, &tables.ports),
            networks: since(&before.networks, &tables.networks),
            endpoints: since(&before.endpoints, &tables.endpoints),
            peers: since(&before.peers, &tables.peers),
            joins: since(&before.joins, &tables.joins),
            policy: since(&before.policy, &tables.policy),
            uplinks: since(&before.uplinks, &tables.uplinks),
            exits: since(&before.exits, &tables.exits),
            elastic_ips: since(&before.elastic_ips, &tables.elastic_ips),
            forwards: since(&before.forwards, &tables.forwards),
            links: since(&before.links, &tables.links),
            stations: since(&before.stations, &tables.stations),
            vteps: since(&before.vteps, &tables.vteps),
        }
    }

    /// Says that the tables of now are in force: the next difference begins with them.
    pub fn settle(&mut self) {
        self.before = Unsettled::default();
        self.is_settled = true;
    }

    /// Makes the tables of `policy`, whose ports have the addresses `assigned`. Ports and networks without a
    /// device are left out: their traffic is dropped, and nobody reaches them.
    ///
    /// # Errors
    /// When it is larger than the datapath's maps; the tables are then as they were.
    pub fn update(
        &mut self,
        policy: &Policy,
        assigned: &Assigned,
        devices: &Devices,
    ) -> Result<(), TooLarge> {
        // Nothing is known after a failure. Numbers then come from the tables, as they do at the beginning.
        let known = mem::take(&mut self.known);
        let known = if self.is_settled { known } else { Known::default() };
        self.known = self.follow(known, policy, assigned, devices)?;
        Ok(())
    }

    fn follow(
        &mut self,
        mut known: Known,
        policy: &Policy,
        assigned: &Assigned,
        devices: &Devices,
    ) -> Result<Known, TooLarge> {
        let world = known.world.take().filter(|world| world.is_that_of(policy, assigned, devices));
        let moved = world.is_none();
        let world = world.unwrap_or_else(|| World::of(policy, assigned, devices));
        let sets = moved.then(|| Sets::of(policy, &known.sets, devices, &self.tables));
        let sets_now = sets.as_ref().unwrap_or(&known.sets);
        let rules = Rules::update(policy, sets_now, (&known.lists, &known.prefix_lists), &mut known.atoms);

        let mut identities = None;
        if moved || known.atoms.changed() {
            let overlaps = Overlaps::of(&policy.networks);
            let seats = seats::seats(policy, devices, &Members::of(policy, devices, &self.tables));
            let owners = records::owners(policy, &overlaps, assigned, devices, &seats);
            let members: Vec<Member<'_>> = owners.iter().map(|owner| owner.member(&self.tables)).collect();
            let new = Identities::number(&known.atoms, &members, &known.identities, &self.tables.peers);
            let group_set = |name: &str| sets_now.of_port(name) | world.gates;
            let records = Tables {
                ports: records::ports(policy, &seats, group_set),
                networks: records::networks(policy, &overlaps, devices),
                endpoints: records::endpoints(&owners, new.of_members(), group_set),
                peers: records::peers(new.of_prefixes()),
                joins: records::joins(policy, devices),
                uplinks: translation::uplinks(policy, devices),
                exits: translation::exits(policy, devices),
                elastic_ips: translation::elastic_ips(policy, assigned, devices),
                forwards: translation::forwards(policy, &overlaps, assigned, devices),
                links: segments::links(policy, devices, &seats)?,
                stations: segments::stations(policy, devices, &seats),
                vteps: segments::vteps(policy),
                ..Tables::default()
            };
            check_sizes(&records)?;
            identities = Some((new, records));
        }
        let identities_now = identities.as_ref().map_or(&known.identities, |(identities, _)| identities);

        let work = Work {
            sets: (&known.sets, sets_now),
            lists: (&known.lists, &rules),
            identities: (&known.identities, identities_now),
        };
        let contested = if known.lists.is_empty() || work.is_mostly_new() {
            self.build(&work)?
        } else {
            self.amend(&work, mem::take(&mut known.contested))?
        };
        known.atoms.sweep();
        let identities = match identities {
            Some((identities, records)) => {
                self.replace_records(records);
                identities
            }
            None => known.identities,
        };
        Ok(Known {
            world: Some(world),
            prefix_lists: policy.prefix_lists.clone(),
            atoms: known.atoms,
            lists: rules.lists,
            sets: sets.unwrap_or(known.sets),
            identities,
            contested,
        })
    }

    /// Makes the policy table from nothing.
    fn build(&mut self, work: &Work<'_>) -> Result<Contested, TooLarge> {
        let entries = work.build()?;
        let tables = Arc::make_mut(&mut self.tables);
        replace(&mut tables.policy, entries.table, &mut self.before.policy);
        Ok(entries.contested)
    }

    /// Changes the policy table where it has to be changed.
    fn amend(&mut self, work: &Work<'_>, contested: Contested) -> Result<Contested, TooLarge> {
        let tasks = work.tasks();
        if tasks.is_empty() {
            return Ok(contested);
        }
        let tables = Arc::make_mut(&mut self.tables);
        let (table, before) = (mem::take(&mut tables.policy), mem::take(&mut self.before.policy));
        let mut entries = Entries { table, contested, before };
        let outcome = tasks.carry_out(&mut entries);
        (tables.policy, self.before.policy) = (entries.table, entries.before);
        outcome.map(|()| entries.contested)
    }

    fn replace_records(&mut self, records: Tables) {
        let Self { tables, before, .. } = self;
        if tables.has_records_of(&records) {
            return;
        }
        let tables = Arc::make_mut(tables);
        replace(&mut tables.ports, records.ports, &mut before.ports);
        replace(&mut tables.networks, records.networks, &mut before.networks);
        replace(&mut tables.endpoints, records.endpoints, &mut before.endpoints);
        replace(&mut tables.peers, records.peers, &mut before.peers);
        replace(&mut tables.joins, records.joins, &mut before.joins);
        replace(&mut tables.uplinks, records.uplinks, &mut before.uplinks);
        replace(&mut tables.exits, records.exits, &mut before.exits);
        replace(&mut tables.elastic_ips, records.elastic_ips, &mut before.elastic_ips);
        replace(&mut tables.forwards, records.forwards, &mut before.forwards);
        replace(&mut tables.links, records.links, &mut before.links);
        replace(&mut tables.stations, records.stations, &mut before.stations);
        replace(&mut tables.vteps, records.vteps, &mut before.vteps);
    }
}
