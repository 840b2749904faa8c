//! The host model as a runner of cases.

use std::rc::Rc;

use vnet_common::{
    Address, Budget, Delivery, DropReason, EndpointKey, ExitKey, Flow, FlowKey, Genuine, Ip, JoinPrefix,
    NetworkKey, Origin, PeerPrefix, PortKey, Ports, Pressure, StationKey, UplinkKey, V6, VtepKey,
    limits::{self, FLOODS_PER_TICK, NEWCOMERS_OF_SOURCE, NEWCOMERS_PER_TICK},
    mark, side_of, ticks_from_secs,
};
use vnet_ebpf::{
    model::{ModelCopy, ModelFlows, ModelPacket, ModelTables},
    packet::Tag,
    pipeline::{self, Arrival, is_answered},
    verdict::Verdict,
};

use super::{
    run::{Ran, Runner, Seen, commit},
    step::{Entry, Hook, Sent},
    view::{self, FILLER, Flows},
    world::{Device, Devices, Policy, Tables},
};

/// The tables, the clock and the devices of a modelled host.
#[derive(Debug)]
pub struct Model {
    tables: ModelTables,
    now: u32,
    devices: Devices,
}

impl Model {
    /// A host whose devices have these ifindexes.
    #[must_use]
    pub fn new(devices: Devices) -> Self {
        let mut model = Self { tables: ModelTables::default(), now: 0, devices };
        model.reset();
        model
    }

    fn write_side(&mut self, side: u32, new: &Tables) {
        let tables = &mut self.tables;
        tables.ports.retain(|key, _| key.side != side);
        tables.networks.retain(|key, _| key.side != side);
        tables.endpoints.retain(|key, _| key.side != side);
        tables.peers.retain(|(_, key), _| key.side != side);
        tables.joins.retain(|(_, key), _| key.side != side);
        tables.policy.retain(|key, _| key.side() != side);
        tables.uplinks.retain(|key, _| key.side != side);
        tables.exits.retain(|key, _| key.side != side);
        tables.elastic_ips.retain(|key, _| key.side != side);
        tables.forwards.retain(|key, _| key.side != side);
        let ports = new.ports.iter();
        tables.ports.extend(ports.map(|(ifindex, record)| (PortKey { ifindex: *ifindex, side }, *record)));
        let networks = new.networks.iter();
        tables
            .networks
            .extend(networks.map(|(ifindex, record)| (NetworkKey { ifindex: *ifindex, side }, *record)));
        for &(network, addr, endpoint) in &new.endpoints {
            tables.endpoints.insert(EndpointKey { network, side, addr }, endpoint);
        }
        for &(bits, addr, identity) in &new.peers {
            tables.peers.insert((32 + bits, PeerPrefix { side, addr }), identity);
        }
        for &(network, bits, addr, bridge) in &new.joins {
            tables.joins.insert((64 + bits, JoinPrefix { network, side, addr }), bridge);
        }
        let uplinks = new.uplinks.iter();
        tables
            .uplinks
            .extend(uplinks.map(|(ifindex, record)| (UplinkKey { ifindex: *ifindex, side }, *record)));
        for &(network, version, exit) in &new.exits {
            tables.exits.insert(ExitKey { network, side, version, slot: 0 }, exit);
        }
        for &(network, addr, elastic) in &new.elastic_ips {
            tables.elastic_ips.insert(EndpointKey { network, side, addr }, elastic);
        }
        tables.forwards.extend(new.forwards.iter().map(|(key, value)| (key.on_side(side), *value)));
        tables.links.retain(|key, _| key.side != side);
        tables.stations.retain(|key, _| key.side != side);
        tables.vteps.retain(|key, _| key.side != side);
        tables.links.extend(new.links.iter().map(|(key, link)| (key.on_side(side), *link)));
        for &(network, mac, station) in &new.stations {
            tables.stations.insert(StationKey::new(network, side, mac), station);
        }
        for &(vni, addr, number) in &new.vteps {
            tables.vteps.insert(VtepKey { vni, side, addr }, number);
        }
        tables.policy.extend(new.policy.iter().map(|(key, value)| (key.on_side(side), *value)));
    }

    /// The packet's verdict, whatever the frame.
    pub fn verdict(&self, entry: &Entry, packet: &mut ModelPacket) -> Seen {
        let arrival = Arrival::at(self.devices.index(entry.device), self.now);
        let result = match entry.hook {
            Hook::FromPort => pipeline::from_port(packet, &self.tables, arrival),
            Hook::ToPort => pipeline::to_port(packet, &self.tables, arrival),
            Hook::FromHost => pipeline::from_host(packet, &self.tables, arrival),
            Hook::ToHost => pipeline::to_host(packet, &self.tables, arrival),
            Hook::FromUplink => pipeline::from_uplink(packet, &self.tables, arrival),
            Hook::FromSegment => pipeline::from_segment(packet, &self.tables, arrival),
            Hook::ToSegment => pipeline::to_segment(packet, &self.tables, arrival),
            Hook::FromUnderlay => pipeline::from_underlay(packet, &self.tables, arrival),
        };
        if result.is_ok_and(Verdict::is_taken) {
            return Seen::Taken { shows: true };
        }
        let result = result.map_err(|reason| (reason, self.told(entry, packet, arrival, reason)));
        match result.map(|verdict| verdict.destination()) {
            Err((reason, None)) => Seen::Drop(reason),
            Err((reason, Some((device, delivery)))) => Seen::Tell(reason, device, delivery),
            Ok(None) if entry.hook == Hook::FromUnderlay && packet.mark == mark::OVERLAY => Seen::Marked,
            Ok(None) => Seen::Pass,
            Ok(Some((device, delivery))) => Seen::Send(device, delivery),
        }
    }

    /// Why the frame of a packet from outside is dropped before there is a socket buffer, if it is.
    #[must_use]
    pub fn early(&self, entry: &Entry, frame: &[u8]) -> Option<DropReason> {
        let packet = arriving(entry, self.tables.generation.get(), frame.to_vec());
        let arrival = Arrival::at(self.devices.index(entry.device), self.now);
        pipeline::early(&packet, &self.tables, arrival).err()
    }

    /// A copy that was sent, in the world's words.
    ///
    /// # Panics
    /// When it goes to no device, or does not have the mark by which the program there knows it.
    fn sent(&self, copy: &ModelCopy) -> Sent {
        let device = self.devices.device(copy.device).expect("a device");
        let wanted = match device {
            Device::U | Device::K => mark::DECIDED,
            _ => mark::flooded(self.tables.generation.get()),
        };
        assert_eq!(copy.mark, wanted, "the mark of a copy to {device:?}");
        Sent { device, delivery: copy.delivery, frame: copy.bytes.clone(), tunnel: copy.tunnel }
    }

    /// Where the ICMP error or the challenge goes that the dropped packet becomes, if it becomes one.
    fn told(
        &self,
        entry: &Entry,
        packet: &mut ModelPacket,
        arrival: Arrival,
        reason: DropReason,
    ) -> Option<(u32, Delivery)> {
        let is_told =
            matches!(entry.hook, Hook::FromPort | Hook::FromUplink | Hook::FromSegment | Hook::FromUnderlay)
                && is_answered(reason);
        let verdict = if entry.hook == Hook::FromUplink && reason == DropReason::SynChallenged {
            pipeline::challenge(packet, &self.tables, arrival.device)
        } else {
            is_told.then(|| pipeline::answer(packet, &self.tables, arrival, reason))?
        };
        verdict.and_then(Verdict::destination)
    }
}

impl Runner for Model {
    fn devices(&self) -> &Devices {
        &self.devices
    }

    fn reset(&mut self) {
        self.tables = ModelTables::default();
        self.tables.flows4.capacity = limits::FLOWS4 as usize;
        self.tables.flows6.capacity = limits::FLOWS6 as usize;
        self.now = ticks_from_secs(1_000_000);
        commit(self, Policy::Usual);
    }

    fn commit(&mut self, tables: &Tables) {
        let generation = self.tables.generation.get() + 1;
        self.write_side(side_of(generation), tables);
        self.tables.generation.set(generation);
    }

    fn run(&mut self, entry: &Entry, frame: &[u8]) -> Ran {
        let mut packet = arriving(entry, self.tables.generation.get(), frame.to_vec());
        let seen = self.verdict(entry, &mut packet);
        let mut frame = packet.on_the_wire();
        if matches!(seen, Seen::Taken { .. }) {
            assert!(packet.again.iter().all(|(device, _)| *device == self.devices.index(entry.device)));
            frame = packet.again.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        }
        let copies = packet.copies.iter().map(|copy| self.sent(copy)).collect();
        Ran { seen, frame, priority: packet.priority, hidden: Some((packet.entered, copies)) }
    }

    fn advance(&mut self, secs: u32) {
        self.now += ticks_from_secs(secs);
    }

    fn tick(&mut self) {
        self.now += 1;
    }

    fn spend(&mut self, device: Device) {
        let budget = all_but_one(self.now);
        self.tables.budgets.borrow_mut().insert(self.devices.index(device), budget);
    }

    fn spend_of(&mut self, addr: Ip) {
        self.tables.genuine.borrow_mut().insert(addr, Rc::new(all_but_one_of_source(self.now).into()));
    }

    fn press(&mut self, pressure: Pressure) {
        self.tables.pressure.set(pressure);
    }

    fn crowd(&mut self, device: Device) {
        self.tables.have_most.borrow_mut().insert(self.devices.index(device));
    }

    fn fill(&mut self, free: usize) {
        let table = &self.tables.flows6;
        let mut entries = table.entries.borrow_mut();
        for number in 0..table.capacity - free - entries.len() {
            entries.insert(filler(number), Flow::default().into());
        }
    }

    fn date(&mut self, tick: u32) {
        change(&self.tables.flows4, |flow| flow.last_seen.set(tick));
        change(&self.tables.flows6, |flow| flow.last_seen.set(tick));
    }

    fn corrupt(&mut self) {
        change(&self.tables.flows4, |flow| flow.delivery.set(NONSENSE));
        change(&self.tables.flows6, |flow| flow.delivery.set(NONSENSE));
    }

    fn flows(&self) -> Flows {
        let mut flows = Flows::new();
        collect(&mut flows, self, &self.tables.flows4);
        collect(&mut flows, self, &self.tables.flows6);
        flows
    }
}

/// A frame as it arrives.
#[must_use]
pub fn arriving(entry: &Entry, generation: u32, bytes: Vec<u8>) -> ModelPacket {
    let mark = entry.mark(generation);
    let segment_payload = entry.segment_payload as u32;
    let Entry { vlan_tag, forwarded, awaited: is_awaited, priority, tunnel, .. } = *entry;
    let tag = vlan_tag.then_some(Tag { protocol: Tag::CUSTOMER, control: 0 });
    let whole = ModelPacket::new(bytes);
    ModelPacket { tag, forwarded, mark, segment_payload, is_awaited, priority, tunnel, ..whole }
}

/// A byte that is no delivery.
pub const NONSENSE: u8 = 9;

/// A budget of which this tick has spent what may be sent to many, but for one frame, and the flows that may be opened,
/// but for one.
#[must_use]
pub fn all_but_one(now: u32) -> Budget {
    let mut budget = Budget::default();
    for _ in 1..FLOODS_PER_TICK {
        budget.spend_flood(now);
    }
    for _ in 1..NEWCOMERS_PER_TICK {
        budget.spend_newcomer(now);
    }
    budget
}

/// Somebody outside who has opened all connections of this tick that they may, but for one, and who is not believed any
/// longer to be there.
#[must_use]
pub fn all_but_one_of_source(now: u32) -> Genuine {
    let mut known = Genuine::since(now.wrapping_sub(ticks_from_secs(601)));
    for _ in 1..NEWCOMERS_OF_SOURCE {
        known.spend_newcomer(now);
    }
    known
}

/// The key of an entry that only takes room.
#[must_use]
pub fn filler(number: usize) -> FlowKey<V6> {
    let src = V6::from_octets((number as u128).to_be_bytes());
    FlowKey { origin: Origin::new(0, FILLER), src, dst: V6::default(), ports: Ports::default() }
}

fn change<A: Address>(table: &ModelFlows<A>, change: impl Fn(&mut Flow<A>)) {
    for flow in table.entries.borrow_mut().values_mut() {
        let mut changed = (**flow).clone();
        change(&mut changed);
        *flow = changed.into();
    }
}

fn collect<A: Address>(flows: &mut Flows, model: &Model, table: &ModelFlows<A>) {
    for (key, flow) in table.entries.borrow().iter() {
        view::add(flows, &model.devices, model.now, key, flow);
    }
}
