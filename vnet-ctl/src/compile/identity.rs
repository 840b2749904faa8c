//! Who an address is to the rules: one number for each distinct combination of what rules can name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use foldhash::{HashMap, HashMapExt as _};
use ipnet::IpNet;
use vnet_common::Identity;

/// Number of an atom: something that a rule names, and an address may be part of.
pub(super) type AtomId = u32;

/// Something that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    /// Ports of a security group.
    Group(String),
    /// Ports and gateways of a network.
    Network(String),
    /// Addresses of a prefix, which is never all addresses.
    Prefix(IpNet),
}

#[derive(Debug)]
struct Slot {
    atom: Atom,
    uses: u32,
}

/// All atoms that the rules in use name. Others make no difference, so they make no identities.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    groups: HashMap<String, AtomId>,
    networks: HashMap<String, AtomId>,
    prefixes: HashMap<IpNet, AtomId>,
    slots: Vec<Slot>,
    /// Slots of atoms that no rule names any more; they keep their number until they are swept.
    idle: Vec<AtomId>,
    free: Vec<AtomId>,
    /// Whether other atoms are named than when [`Self::sweep`] was last called.
    changed: bool,
}

impl Atoms {
    /// The number of the group that one more rule names.
    pub(super) fn group(&mut self, name: &str) -> AtomId {
        match self.groups.get(name).copied() {
            Some(id) => self.retain(id),
            None => {
                let id = self.insert(Atom::Group(name.to_owned()));
                self.groups.insert(name.to_owned(), id);
                id
            }
        }
    }

    /// The number of the network that one more rule names.
    pub(super) fn network(&mut self, name: &str) -> AtomId {
        match self.networks.get(name).copied() {
            Some(id) => self.retain(id),
            None => {
                let id = self.insert(Atom::Network(name.to_owned()));
                self.networks.insert(name.to_owned(), id);
                id
            }
        }
    }

    /// The number of the prefix that one more rule names.
    pub(super) fn prefix(&mut self, net: IpNet) -> AtomId {
        match self.prefixes.get(&net).copied() {
            Some(id) => self.retain(id),
            None => {
                let id = self.insert(Atom::Prefix(net));
                self.prefixes.insert(net, id);
                id
            }
        }
    }

    fn insert(&mut self, atom: Atom) -> AtomId {
        self.changed = true;
        let slot = Slot { atom, uses: 1 };
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = slot;
            return id;
        }
        self.slots.push(slot);
        self.slots.len() as AtomId - 1
    }

    /// One more rule names the atom.
    pub(super) fn retain(&mut self, id: AtomId) -> AtomId {
        let slot = &mut self.slots[id as usize];
        self.changed |= slot.uses == 0;
        slot.uses += 1;
        id
    }

    /// One rule less names the atom.
    pub(super) fn release(&mut self, id: AtomId) {
        let slot = &mut self.slots[id as usize];
        slot.uses -= 1;
        if slot.uses == 0 {
            self.changed = true;
            self.idle.push(id);
        }
    }

    /// Whether other atoms are named than at the last sweep.
    pub(super) const fn changed(&self) -> bool {
        self.changed
    }

    /// Gives the numbers of atoms that nobody names to others.
    pub(super) fn sweep(&mut self) {
        for id in std::mem::take(&mut self.idle) {
            let slot = &self.slots[id as usize];
            // Named again meanwhile, or already swept: then its name has another number or none.
            if slot.uses > 0 {
                continue;
            }
            let removed = match &slot.atom {
                Atom::Group(name) => self.groups.remove(name),
                Atom::Network(name) => self.networks.remove(name),
                Atom::Prefix(net) => self.prefixes.remove(net),
            };
            if removed.is_some() {
                self.free.push(id);
            }
        }
        self.changed = false;
    }

    fn in_use(&self, id: Option<&AtomId>) -> Option<AtomId> {
        id.copied().filter(|id| self.slots[*id as usize].uses > 0)
    }

    /// The prefixes that rules name, in order.
    fn prefixes(&self) -> BTreeSet<IpNet> {
        let named = self.prefixes.iter().filter(|(_, id)| self.in_use(Some(id)).is_some());
        named.map(|(net, _)| *net).collect()
    }
}

/// An address that a port or a gateway has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    /// The groups of the port; a gateway has none.
    pub(super) groups: &'a [String],
    /// Its network.
    pub(super) network: &'a str,
    /// The address, where that tells who it is.
    pub(super) addr: Option<IpAddr>,
    /// The identity that it had, if any.
    pub(super) before: u32,
}

/// The numbers of all combinations that occur.
#[derive(Debug, Default)]
pub(super) struct Identities {
    numbers: HashMap<Vec<AtomId>, u32>,
    /// By atom: the identities that are part of it, ascending.
    holders: Vec<Vec<u32>>,
    members: Vec<u32>,
    peers: BTreeMap<IpNet, u32>,
}

impl Identities {
    /// Numbers the combinations of `members`, and those of addresses that are in the prefixes that rules
    /// name and that no member has. What was numbered before, in `old` or as `peers` and the members have
    /// it, keeps its number as far as possible: a commit then changes little.
    pub(super) fn number(
        atoms: &Atoms,
        members: &[Member<'_>],
        old: &Self,
        peers: &BTreeMap<IpNet, u32>,
    ) -> Self {
        let prefixes = atoms.prefixes();
        let containing = Containing::new(atoms, &prefixes);
        let of_members = members.iter().map(|member| (containing.of_member(member), member.before));
        let of_prefixes = prefixes
            .iter()
            .map(|net| (containing.of_prefix(*net), peers.get(net).copied().unwrap_or_default()));
        let combinations: Vec<_> = of_members.chain(of_prefixes).collect();

        let numbers = give_numbers(&combinations, &old.numbers);
        let number = |atoms: &Vec<AtomId>| numbers.get(atoms).copied().unwrap_or(Identity::UNKNOWN.0);
        let mut of_all = combinations.iter().map(|(atoms, _)| number(atoms));
        let members = of_all.by_ref().take(members.len()).collect();
        let peers = prefixes.into_iter().zip(of_all).collect();
        let mut holders = vec![Vec::new(); atoms.slots.len()];
        for (atoms, number) in &numbers {
            for atom in atoms {
                holders[*atom as usize].push(*number);
            }
        }
        holders.iter_mut().for_each(|numbers| numbers.sort_unstable());
        Self { numbers, holders, members, peers }
    }

    /// The identities of the members, in their order.
    pub(super) fn of_members(&self) -> &[u32] {
        &self.members
    }

    /// The identity of each prefix that rules name.
    pub(super) const fn of_prefixes(&self) -> &BTreeMap<IpNet, u32> {
        &self.peers
    }

    /// All identities that are part of an atom, ascending.
    pub(super) fn holders(&self, atom: AtomId) -> &[u32] {
        self.holders.get(atom as usize).map_or(&[], Vec::as_slice)
    }
}

/// Finds the prefixes around an address.
struct Containing<'a> {
    atoms: &'a Atoms,
    /// The distinct lengths of the prefixes.
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

impl<'a> Containing<'a> {
    fn new(atoms: &'a Atoms, prefixes: &BTreeSet<IpNet>) -> Self {
        let lengths = |is_ipv4: bool| {
            let of_version = prefixes.iter().filter(|net| net.addr().is_ipv4() == is_ipv4);
            of_version.map(IpNet::prefix_len).collect()
        };
        Self { atoms, v4_lengths: lengths(true), v6_lengths: lengths(false) }
    }

    /// What a port or gateway is part of, in order.
    fn of_member(&self, member: &Member<'_>) -> Vec<AtomId> {
        let groups = member.groups.iter().filter_map(|name| self.atoms.in_use(self.atoms.groups.get(name)));
        let network = self.atoms.in_use(self.atoms.networks.get(member.network));
        let prefixes = member.addr.into_iter().flat_map(|addr| self.around(addr.into()));
        sorted(groups.chain(network).chain(prefixes))
    }

    /// What an address of `prefix`, and of no longer one, is part of, in order.
    fn of_prefix(&self, prefix: IpNet) -> Vec<AtomId> {
        sorted(self.around(prefix))
    }

    /// The prefixes that contain `inner`, itself included.
    fn around(&self, inner: IpNet) -> impl Iterator<Item = AtomId> + '_ {
        let lengths = if inner.addr().is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.range(..=inner.prefix_len()).filter_map(move |&length| {
            let outer = IpNet::new(inner.addr(), length).ok()?.trunc();
            self.atoms.in_use(self.atoms.prefixes.get(&outer))
        })
    }
}

fn sorted(atoms: impl Iterator<Item = AtomId>) -> Vec<AtomId> {
    let mut atoms: Vec<_> = atoms.collect();
    atoms.sort_unstable();
    atoms.dedup();
    atoms
}

/// A number for each distinct combination that is not empty: its old one, else one that somebody of it had
/// before, else the lowest that is free.
fn give_numbers(
    combinations: &[(Vec<AtomId>, u32)],
    old: &HashMap<Vec<AtomId>, u32>,
) -> HashMap<Vec<AtomId>, u32> {
    let mut numbers: HashMap<Vec<AtomId>, u32> = HashMap::with_capacity(combinations.len());
    let mut taken = Taken::default();
    let mut remaining = Vec::new();
    for (atoms, before) in combinations.iter().filter(|(atoms, _)| !atoms.is_empty()) {
        if numbers.contains_key(atoms) {
            continue;
        }
        match old.get(atoms) {
            Some(&number) => {
                taken.take(number);
                numbers.insert(atoms.clone(), number);
            }
            None => remaining.push((atoms, *before)),
        }
    }
    let mut fresh = Vec::new();
    for (atoms, before) in remaining {
        if numbers.contains_key(atoms) {
            continue;
        }
        if before >= Identity::FIRST.0 && taken.take(before) {
            numbers.insert(atoms.clone(), before);
        } else {
            fresh.push(atoms);
        }
    }
    for atoms in fresh {
        if !numbers.contains_key(atoms) {
            numbers.insert(atoms.clone(), taken.lowest_free());
        }
    }
    numbers
}

/// Numbers that are given out.
#[derive(Debug)]
pub(super) struct Taken {
    numbers: foldhash::HashSet<u32>,
    next: u32,
}

impl Default for Taken {
    fn default() -> Self {
        Self::from(Identity::FIRST.0)
    }
}

impl Taken {
    /// None is taken, and none below `first` is ever given.
    pub(super) fn from(first: u32) -> Self {
        Self { numbers: foldhash::HashSet::default(), next: first }
    }

    /// Takes `number`; whether it was free.
    pub(super) fn take(&mut self, number: u32) -> bool {
        self.numbers.insert(number)
    }

    /// Takes the lowest that is free.
    pub(super) fn lowest_free(&mut self) -> u32 {
        while !self.numbers.insert(self.next) {
            self.next += 1;
        }
        self.next
    }
}
