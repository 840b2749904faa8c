//! A packet on the host: a frame in a vector of bytes, and what the kernel keeps beside it.

use std::cell::{Cell, RefCell};

use vnet_common::{Address, Be16, Delivery, DropReason, MacAddr, Snooped, Tuple, limits};

use crate::{
    case::Case,
    headers::ETHERNET_LEN,
    packet::{Buffer, Change, ChangeKind, ENCAPSULATION_LEN, Packet, Tag, Tunnel, Wire},
    pipeline,
    stages::{
        follow::{self, Followed},
        neighbour,
        parse::{self, Version},
        segment::Came,
    },
    tables::{FlowTable, Snapshot, Tables},
    verdict::Outcome,
};

/// Where tags stand in a frame: between the MACs and the ethertype.
const TAG_OFFSET: usize = 12;

/// A packet as a vector of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPacket {
    /// The frame, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// The VLAN tag that is held beside it.
    pub tag: Option<Tag>,
    /// Its priority.
    pub priority: u16,
    /// Out of which tunnel it came.
    pub tunnel: Option<Tunnel>,
    /// Into which it goes.
    pub entered: Option<Tunnel>,
    /// Copies of it that were sent.
    pub copies: Vec<ModelCopy>,
    /// What the controller was told of it.
    pub told: RefCell<Vec<(Snooped, Vec<u8>)>>,
    /// Whether the host forwards it.
    pub forwarded: bool,
    /// Its mark.
    pub mark: u32,
    /// Whether a socket of the host's waits for it.
    pub is_awaited: bool,
    /// The copies of it that arrive once more, each at a device.
    pub again: Vec<(u32, Vec<u8>)>,
    /// Bytes of payload in each segment that it will be cut into.
    pub segment_payload: u32,
    /// Whether the checksum of TCP and UDP is left to the device.
    pub leaves_checksum: bool,
}

/// A copy of a packet that was sent to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCopy {
    /// The device.
    pub device: u32,
    /// Out of it, or as received there.
    pub delivery: Delivery,
    /// The mark that it had.
    pub mark: u32,
    /// The frame, with its tags in it.
    pub bytes: Vec<u8>,
    /// The tunnel that it enters.
    pub tunnel: Option<Tunnel>,
}

impl ModelPacket {
    /// The frame with all of its tags in it.
    #[must_use]
    pub fn on_the_wire(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(Tag { protocol, control }) = self.tag {
            let tag = [protocol.to_be_bytes(), control.to_be_bytes()].concat();
            bytes.splice(TAG_OFFSET..TAG_OFFSET, tag);
        }
        bytes
    }

    /// An untagged packet that the sender made itself.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn range<T>(&self, offset: usize) -> Result<std::ops::Range<usize>, DropReason> {
        let end = offset.checked_add(size_of::<T>()).ok_or(DropReason::Truncated)?;
        if end > self.bytes.len() { Err(DropReason::Truncated) } else { Ok(offset..end) }
    }
}

impl Buffer for ModelPacket {
    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn read<T: Wire>(&self, offset: usize) -> Result<T, DropReason> {
        let range = self.range::<T>(offset)?;
        // SAFETY: `range` is size_of::<T>() bytes long, and any bytes are a `T: Wire`.
        Ok(unsafe { self.bytes[range].as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), DropReason> {
        let range = self.range::<T>(offset)?;
        // SAFETY: `range` is size_of::<T>() bytes long, and a `T: Wire` has no padding.
        unsafe { self.bytes[range].as_mut_ptr().cast::<T>().write_unaligned(value) };
        Ok(())
    }

    fn tag_beside(&self) -> Option<Tag> {
        self.tag
    }

    fn check_options(&self, offset: usize, end: usize) -> Result<(), DropReason> {
        parse::check_options(self, offset, end)
    }
}

impl Packet for ModelPacket {
    fn segment_payload(&self) -> u32 {
        self.segment_payload
    }

    fn reshape(&mut self, kept: u32, room: u32) -> Result<(), DropReason> {
        if kept as usize > self.bytes.len() {
            return Err(DropReason::Truncated);
        }
        self.bytes.truncate(kept as usize);
        self.bytes.splice(ETHERNET_LEN..ETHERNET_LEN, vec![0; room as usize]);
        self.segment_payload = 0;
        Ok(())
    }

    fn update_checksum(&mut self, offset: usize, change: Change) -> Result<(), DropReason> {
        let old: Be16 = self.read(offset)?;
        if self.leaves_checksum {
            // It has the sum of the pseudo-header so far, not its complement.
            let sum = u32::from(old.to_ne()) + change.sum;
            let folded = (0..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
            return match change.kind {
                ChangeKind::Pseudo => self.write(offset, Be16::from_bytes((folded as u16).to_ne_bytes())),
                ChangeKind::Covered => Ok(()),
            };
        }
        let sum = u64::from(!u16::from_ne_bytes(old.to_bytes())) + u64::from(change.sum);
        let folded = (0..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
        let check = match !(folded as u16) {
            0 if change.is_udp => 0xffff,
            check => check,
        };
        self.write(offset, Be16::from_bytes(check.to_ne_bytes()))
    }

    fn pop_tag(&mut self) -> Result<(), DropReason> {
        if self.tag.take().is_none() {
            let range = self.range::<[u8; 4]>(TAG_OFFSET)?;
            self.bytes.drain(range);
        }
        // What is outermost now is held beside the frame, as in the kernel.
        let ether_type: Be16 = self.read(TAG_OFFSET)?;
        if Tag::is_announced_by(ether_type.get()) {
            let control: Be16 = self.read(TAG_OFFSET + 2)?;
            self.bytes.drain(TAG_OFFSET..TAG_OFFSET + 4);
            self.tag = Some(Tag { protocol: ether_type.get(), control: control.get() });
        }
        Ok(())
    }

    fn push_tag(&mut self, tag: Tag) -> Result<(), DropReason> {
        self.bytes = self.on_the_wire();
        self.tag = Some(tag);
        Ok(())
    }

    fn priority(&self) -> u16 {
        self.priority
    }

    fn set_priority(&mut self, priority: u16) {
        self.priority = priority;
    }

    fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel
    }

    fn enter_tunnel(&mut self, tunnel: Tunnel) -> Result<(), DropReason> {
        self.entered = Some(tunnel);
        Ok(())
    }

    fn encapsulate(&mut self) -> bool {
        self.bytes.splice(ETHERNET_LEN..ETHERNET_LEN, [0; ENCAPSULATION_LEN]);
        true
    }

    fn decapsulate(&mut self, _: Be16) -> bool {
        self.bytes.drain(ETHERNET_LEN..ETHERNET_LEN + ENCAPSULATION_LEN);
        true
    }

    fn entropy(&mut self) -> (u32, u32) {
        (0, 0)
    }

    fn copy_to(&mut self, device: u32, delivery: Delivery) {
        let (mark, bytes, tunnel) = (self.mark, self.on_the_wire(), self.entered);
        self.copies.push(ModelCopy { device, delivery, mark, bytes, tunnel });
    }

    fn tell(&self, message: &Snooped, offset: usize) {
        let text = self.bytes.get(offset..).unwrap_or_default();
        self.told.borrow_mut().push((*message, text.to_vec()));
    }

    fn came<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason> {
        pipeline::came(self, snapshot, device)
    }

    fn came_encapsulated<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        device: u32,
    ) -> Result<Option<Came>, DropReason> {
        pipeline::came_encapsulated(self, snapshot, device)
    }

    fn spread<T: Tables>(&mut self, snapshot: &Snapshot<'_, T>, network: u32, except: u32) {
        pipeline::spread(self, snapshot, network, except);
    }

    fn spread_by<T: Tables>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        network: u32,
        except: u32,
        index: u32,
    ) -> bool {
        pipeline::spread_by(self, snapshot, network, except, index)
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn check_link_options(&self, offset: usize, end: usize, mac: MacAddr) -> Result<(), DropReason> {
        neighbour::check_link_options(self, offset, end, mac)
    }

    fn unicast<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        pipeline::unicast(self, snapshot, case)
    }

    fn carry_on<A: Version, T: Tables + FlowTable<A>>(
        &mut self,
        snapshot: &Snapshot<'_, T>,
        case: &mut Case<A>,
    ) -> Outcome {
        pipeline::carry_on(self, snapshot, case)
    }

    fn follow<A: Address, T: Tables>(
        &mut self,
        tables: &T,
        case: &mut Case<A>,
        may_hold: bool,
    ) -> Result<Followed, DropReason> {
        follow::follow(self, tables, case, may_hold)
    }

    fn is_awaited<A: Address>(&self, _: &Tuple<A>) -> bool {
        self.is_awaited
    }

    fn save(&self, frame: &[Cell<u8>; limits::HELD_BYTES]) -> bool {
        for (to, from) in frame.iter().zip(&self.bytes) {
            to.set(*from);
        }
        self.bytes.len() <= frame.len()
    }

    fn become_frame(&mut self, frame: &[Cell<u8>; limits::HELD_BYTES], len: u32) -> bool {
        self.bytes = frame.iter().take(len as usize).map(Cell::get).collect();
        true
    }

    fn arrive_again(&mut self, device: u32) {
        self.again.push((device, self.bytes.clone()));
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }
}
