//! The tables as the stages see them: BPF maps in the kernel, collections in host tests.

use core::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use vnet_common::{
    Address, DropReason, ElasticIp, Endpoint, EndpointKey, Exit, ExitKey, Flow, FlowKey, Forward, ForwardKey,
    Genuine, Identity, Ip, JoinPrefix, Link, LinkKey, MacAddr, NetworkFlags, NetworkKey, NetworkRecord,
    PeerPrefix, PolicyEntry, PolicyKey, PortKey, PortRecord, Pressure, Side, Snooped, Station, StationKey,
    UplinkKey, UplinkRecord, V4, V6, VtepKey, side_of,
};

#[cfg(doc)]
use {
    crate::{
        pipeline,
        stages::{install::ports, judge, translate},
    },
    vnet_common::limits,
};

use crate::{
    case::Case,
    fragments::{Fragmented, Held},
    question::{Answer, Question},
    stages::{install::Attempt, refuse::Refusal},
    verdict::Outcome,
};

/// What the controller fills and packets only read.
pub trait Tables: FlowTable<V4> + FlowTable<V6> {
    /// An entry of those who are outside for certain.
    type Genuine<'a>: Deref<Target = Cell<Genuine>>
    where
        Self: 'a;

    /// The policy generation in force.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when there is none.
    fn generation(&self) -> Result<u32, DropReason>;
    /// The port behind a device.
    fn port(&self, key: &PortKey) -> Option<&PortRecord>;
    /// The network of a bridge.
    fn network(&self, key: &NetworkKey) -> Option<&NetworkRecord>;
    /// Who has an address.
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint>;
    /// The identity of the longest prefix that contains an address.
    fn peer(&self, key: &PeerPrefix) -> Option<u32>;
    /// The bridge of the joined network that has the longest prefix that contains an address.
    fn join(&self, key: &JoinPrefix) -> Option<u32>;
    /// A head or block of the compiled rules.
    fn policy(&self, key: &PolicyKey) -> Option<&PolicyEntry>;
    /// An uplink.
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkRecord>;
    /// How packets of a network leave.
    fn exit(&self, key: &ExitKey) -> Option<&Exit>;
    /// The elastic IP of a private address.
    fn elastic_ip(&self, key: &EndpointKey) -> Option<&ElasticIp>;
    /// A head or block of the forwards.
    fn forward(&self, key: &ForwardKey) -> Option<&Forward>;
    /// By which link a frame comes, or leaves.
    fn link(&self, key: &LinkKey) -> Option<&Link>;
    /// Who has a MAC.
    fn station(&self, key: &StationKey) -> Option<&Station>;
    /// The number of an overlay's peer.
    fn vtep(&self, key: &VtepKey) -> Option<u32>;
    /// Whether one more ICMP error may be sent about packets that came in at a device, in the tick `now`: see
    /// [`vnet_common::Budget`].
    fn may_tell(&self, device: u32, now: u32) -> bool;
    /// Whether one more frame for many may come in at a device. As above.
    fn may_flood(&self, device: u32, now: u32) -> bool;

    /// How full the flow tables are, as the controller says.
    fn pressure(&self) -> Pressure;
    /// Whether more flows were opened at a device than any may have of a crowded table. As above.
    fn has_most(&self, device: u32) -> bool;
    /// Whether one more flow may be opened at a device that has not come about yet. As [`Tables::may_tell`].
    fn may_open(&self, device: u32, now: u32) -> bool;
    /// Notes that a flow opened at a device has come about.
    fn established(&self, device: u32, now: u32);
    /// What only vnet knows.
    fn secret(&self) -> [u64; 2];
    /// Who is outside for certain at this address.
    fn genuine(&self, addr: Ip) -> Option<Self::Genuine<'_>>;
    /// Notes that somebody is of whom that was not known.
    fn believe(&self, addr: Ip, now: u32);

    /// From which of an overlay's peers frames of `mac` came last under `generation`, in the network whose bridge is
    /// `network`; 0: from none.
    fn heard(&self, generation: u32, network: u32, mac: MacAddr) -> u16;
    /// Notes that. Who has not been heard for longest is forgotten first.
    fn hear(&self, generation: u32, network: u32, mac: MacAddr, peer: u16);

    /// Tells the controller of an address that a port claims, and may get.
    fn tell(&self, claim: Snooped);

    /// The lock of a group of fragmented datagrams: 1 while somebody has it.
    fn fragment_lock(&self, group: u32) -> Option<&Cell<u32>>;
    /// How many frames the group has held back so far.
    fn next_held(&self, group: u32) -> Option<&Cell<u32>>;
    /// A record of a fragmented datagram.
    fn fragmented(&self, index: u32) -> Option<&Fragmented>;
    /// A frame that is held back.
    fn held(&self, index: u32) -> Option<&Held>;

    /// Runs [`judge::answer`]: in the kernel as a function that the verifier walks once, not once for each call.
    fn ask(&self, question: Question) -> Answer;
}

/// Why an entry was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// There is one under this key.
    Exists,
    /// There is no room.
    Full,
}

/// The flows of one IP version.
pub trait FlowTable<A: Copy> {
    /// An entry that is read and updated in place.
    type Entry<'a>: Deref<Target = Flow<A>>
    where
        Self: 'a;

    /// Scratch memory for a packet's case.
    type Scratch<'a>: DerefMut<Target = Case<A>>
    where
        Self: 'a;

    /// Scratch memory, to be had once per packet; and again, as the packet left it, for the error that tells of it.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when there is none.
    fn scratch(&self) -> Result<Self::Scratch<'_>, DropReason>;

    /// The entry of a tuple, even one that is being removed.
    fn find(&self, key: &FlowKey<A>) -> Option<Self::Entry<'_>>;

    /// Counts a flow that was opened: the controller looks how many they are.
    fn count_opened(&self);

    /// Adds an entry where there is none.
    ///
    /// # Errors
    /// [`InsertError`].
    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError>;

    /// Sets a word of an entry from `old` to `new`, in one step for all CPUs and in order with what this one
    /// reads and writes around it; `false` when it was no longer `old`.
    fn exchange(&self, word: &Cell<u32>, old: u32, new: u32) -> bool;

    /// A place for what was refused, below [`limits::REFUSALS`]: this CPU's own.
    fn refusal(&self, place: u32) -> Option<&Refusal<A>>;

    /// Runs [`translate::destination`], as [`Tables::ask`] does.
    fn destination(&self, generation: u32, case: &mut Case<A>) -> bool;

    /// Runs [`pipeline::judge_early`], as [`Tables::ask`] does.
    ///
    /// # Errors
    /// As that does.
    fn judge_early(&self, generation: u32, case: &mut Case<A>) -> Outcome;

    /// Runs [`ports::reserve_port`], as [`Tables::ask`] does.
    ///
    /// # Errors
    /// As that does.
    fn reserve_port(&self, case: &mut Case<A>) -> Result<(), DropReason>;

    /// Runs [`ports::try_port`], as [`Tables::ask`] does.
    ///
    /// # Errors
    /// As that does.
    fn try_port(&self, case: &mut Case<A>, number: u32) -> Result<Attempt, DropReason>;

    /// Notes that a packet of the entry's direction passes now; `false` if the entry's flow has expired.
    #[inline(always)]
    fn touch(&self, flow: &Flow<A>, now: u32) -> bool {
        let seen = flow.last_seen.get();
        let is_over = |seen| seen >= Flow::<A>::REMOVED;
        seen == now
            || !is_over(seen) && (self.exchange(&flow.last_seen, seen, now) || !is_over(flow.last_seen.get()))
    }

    /// The same for the first packet of a flow that begins in the entry of another, which may have expired: the entry then
    /// stays. `false` if it is being removed at this moment.
    #[inline(always)]
    fn revive(&self, flow: &Flow<A>, now: u32) -> bool {
        self.touch(flow, now) || self.exchange(&flow.last_seen, Flow::<A>::EXPIRED, now)
    }
}

/// The tables at one generation: what a packet sees from its first look-up to its last.
pub struct Snapshot<'a, T> {
    /// All tables.
    pub tables: &'a T,
    /// The generation that the packet reads.
    pub generation: u32,
}

impl<T> Clone for Snapshot<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Snapshot<'_, T> {}

impl<'a, T: Tables> Snapshot<'a, T> {
    /// The tables at the generation now in force.
    ///
    /// # Errors
    /// [`DropReason::Internal`] when there is none.
    #[inline(always)]
    pub fn take(tables: &'a T) -> Result<Self, DropReason> {
        Ok(Self { tables, generation: tables.generation()? })
    }

    /// The side that the snapshot reads.
    #[inline(always)]
    #[must_use]
    pub const fn side(&self) -> Side {
        side_of(self.generation)
    }

    /// The port behind `ifindex`.
    ///
    /// # Errors
    /// [`DropReason::UnknownDevice`].
    #[inline(always)]
    pub fn port(&self, ifindex: u32) -> Result<&'a PortRecord, DropReason> {
        self.tables.port(&PortKey { ifindex, side: self.side() }).ok_or(DropReason::UnknownDevice)
    }

    /// The network whose bridge is `ifindex`.
    ///
    /// # Errors
    /// [`DropReason::UnknownDevice`].
    #[inline(always)]
    pub fn network(&self, ifindex: u32) -> Result<&'a NetworkRecord, DropReason> {
        self.tables.network(&NetworkKey { ifindex, side: self.side() }).ok_or(DropReason::UnknownDevice)
    }

    /// Who has `addr` in the network whose bridge is `network`.
    #[inline(always)]
    #[must_use]
    pub fn endpoint(&self, network: u32, addr: Ip) -> Option<&'a Endpoint> {
        self.tables.endpoint(&EndpointKey { network, side: self.side(), addr })
    }

    /// The bridge of the network joined to `network` that has `addr` in its subnets.
    #[inline(always)]
    #[must_use]
    pub fn join(&self, network: u32, addr: Ip) -> Option<u32> {
        self.tables.join(&JoinPrefix { network, side: self.side(), addr })
    }

    /// What is known of the uplink `ifindex`.
    #[inline(always)]
    #[must_use]
    pub fn uplink(&self, ifindex: u32) -> Option<&'a UplinkRecord> {
        self.tables.uplink(&UplinkKey { ifindex, side: self.side() })
    }

    /// How packets of the IP version of `A` leave the network whose bridge is `network`.
    #[inline(always)]
    #[must_use]
    pub fn exit<A: Address>(&self, network: u32, slot: u16) -> Option<&'a Exit> {
        let version = if A::IS_V4 { 4 } else { 6 };
        self.tables.exit(&ExitKey { network, side: self.side(), version, slot })
    }

    /// The elastic IP of the endpoint `addr` of `network`.
    #[inline(always)]
    #[must_use]
    pub fn elastic_ip(&self, network: u32, addr: Ip) -> Option<&'a ElasticIp> {
        self.tables.elastic_ip(&EndpointKey { network, side: self.side(), addr })
    }

    /// The link of `key`, which is of no side.
    #[inline(always)]
    #[must_use]
    pub fn link(&self, key: LinkKey) -> Option<&'a Link> {
        self.tables.link(&key.on_side(self.side()))
    }

    /// Who has `mac` in the network whose bridge is `network`.
    #[inline(always)]
    #[must_use]
    pub fn station(&self, network: u32, mac: MacAddr) -> Option<&'a Station> {
        self.tables.station(&StationKey::new(network, self.side(), mac))
    }

    /// The number that the peer at `addr` has in the overlay `vni`.
    #[inline(always)]
    #[must_use]
    pub fn vtep(&self, vni: u32, addr: Ip) -> Option<u32> {
        self.tables.vtep(&VtepKey { vni, side: self.side(), addr })
    }

    /// Whoever has `mac` and `addr` in `network` beyond the link `number`. The policy does not tell in which of the
    /// network's subnets the host would look for the address elsewhere; where it may, it is apart from the host.
    ///
    /// # Errors
    /// [`DropReason::UnknownDevice`].
    #[inline(always)]
    pub fn stranger(
        &self,
        network: u32,
        (number, mac): (u32, MacAddr),
        addr: Ip,
    ) -> Result<Endpoint, DropReason> {
        let flags = self.network(network)?.flags;
        let is_apart = flags.has(NetworkFlags::SHARES_ADDRESSES.and(NetworkFlags::EXCLUDES_HOST))
            && !flags.has(NetworkFlags::BRIDGED);
        let station = Endpoint::station(number, mac, self.peer(addr));
        Ok(if is_apart { station.apart_from_host() } else { station })
    }

    /// Who an address is to the rules when no endpoint has it.
    #[inline(always)]
    #[must_use]
    pub fn peer(&self, addr: Ip) -> u32 {
        self.tables.peer(&PeerPrefix { side: self.side(), addr }).unwrap_or(Identity::UNKNOWN.0)
    }
}
