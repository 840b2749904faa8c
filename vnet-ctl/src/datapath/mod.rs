//! The kernel's side of vnet: programs, maps, links, and what they count.
//!
//! Decides whether what an earlier run left pinned can be taken over, and how a set of tables gets into
//! the maps without any packet seeing half of it. What the tables say is [`crate::compile`]'s affair, which
//! devices there are is [`crate::host`]'s.
//!
//! Everything is pinned below `BPFFS/vnet/vABI`: a controller that ends, in whatever way, leaves the
//! datapath running.

mod capacity;
mod carry;
mod cgroup;
mod commit;
mod counters;
mod drops;
mod early;
mod filter;
mod flows;
mod links;
mod memory;
mod mend;
pub mod names;
mod object;
mod pairs;
mod preflight;
mod pressure;
mod programs;
mod readers;
mod remove;
mod snooped;
mod sockets;
mod sys;
mod tables;
mod tracked;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{Ebpf, EbpfLoader};

use self::{
    carry::{Carried, Carry},
    commit::Commits,
    drops::DropCounters,
    early::Earlies,
    flows::FlowTables,
    links::{Links, causes},
    mend::HeldMaps,
    names::{CONTROL, EXPIRE, Hook, MAPS, Pins, UPLINK_XDP},
    pressure::Pressure,
    sockets::Sockets,
};
use crate::compile::{Difference, Tables};

pub use capacity::Capacity;
pub use carry::CarryError;
pub use commit::{Changes, Committed, Count};
pub use drops::describe;
pub use early::{Early, WantedEarly};
pub use filter::{FilterError, FlowFilter};
pub use memory::of_process as memory_of_process;
pub use mend::{Mended, Place, Unmended, What};
pub use object::{PinError, Shape, declared};
pub use preflight::{Preflight, PreflightError};
pub use remove::{Removed, count_pins, remove_own_pins, remove_pins};
pub use snooped::{Seen, Snoop};

/// The loaded datapath.
pub struct Datapath {
    pins: Pins,
    object: Ebpf,
    maps: HeldMaps,
    links: Links,
    sockets: Sockets,
    earlies: Earlies,
    /// What other versions have left, until the first policy is in force.
    carry: Option<Carry>,
    carried: Carried,
    mended: Vec<Mended>,
    commits: Commits,
    flows: FlowTables,
    drops: DropCounters,
    pressure: Pressure,
    snoop: Option<Snoop>,
}

impl std::fmt::Debug for Datapath {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Datapath")
            .field("generation", &self.commits.generation())
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl Datapath {
    /// Takes over the maps and links that are pinned, with the programs that they need, and pins the maps that are not.
    /// Other programs are loaded when they are to be attached first.
    ///
    /// Traffic that flows already goes on: maps keep what they hold, and each link changes from the old
    /// program to the new one in one step.
    ///
    /// What another version of vnet has left keeps running until the first [`Datapath::commit`], which
    /// carries it over.
    ///
    /// Flow tables that are pinned keep their size, others get room for `capacity`.
    ///
    /// # Errors
    /// [`PinError`] when a pin does not fit, [`CarryError`] when another version's datapath does not;
    /// otherwise what the kernel refused. Nothing has changed then.
    pub fn open(pins: &Pins, capacity: Capacity) -> Result<Self> {
        let carry = Carry::find(pins)?;
        let mut absent = object::compare_pins(pins)?;
        if absent.contains(&CONTROL) {
            if !links::pinned(&pins.links())?.is_empty() {
                return Err(PinError::Missing { pin: pins.map(CONTROL).display().to_string() }.into());
            }
            // What is left of a removal that was interrupted. Its generations come again: its flows and rules
            // would pass for those of now.
            remove::remove_files(&pins.maps()).context("remove what is left of the maps")?;
            absent = MAPS.to_vec();
        }
        make_folders(pins)?;
        let needed = needed(pins, carry.as_ref())?;
        let loaded = make_maps(pins, capacity).and_then(|mut object| {
            programs::load(&mut object, &needed)?;
            Ok(object)
        });
        if loaded.is_err() {
            // Maps that only this attempt has made.
            for name in absent {
                let _ = fs::remove_file(pins.map(name));
            }
        }
        let mut object = loaded?;
        let maps = HeldMaps::open(pins)?;
        let links = Links::adopt(pins, &mut object)?;
        let sockets = Sockets::adopt(pins, &mut object)?;
        let earlies = Earlies::adopt(pins, &mut object)?;
        let mut commits = Commits::take(&object)?;
        if let Some(carry) = &carry {
            commits.stay_above(carry.generation());
        }
        let flows = FlowTables::take(&object)?;
        let drops = DropCounters::take(&object)?;
        let pressure = Pressure::take(&object)?;
        let snoop = Some(Snoop::take(&object)?);
        let (carried, mended) = (Carried::default(), Vec::new());
        let pins = pins.clone();
        Ok(Self {
            pins,
            object,
            maps,
            links,
            sockets,
            earlies,
            carry,
            carried,
            mended,
            commits,
            flows,
            drops,
            pressure,
            snoop,
        })
    }

    /// Loads the programs of `hooks`, as far as that was not done before; attaching one does the same, but loads one at a
    /// time.
    ///
    /// # Errors
    /// When the verifier refuses one.
    pub fn load(&mut self, hooks: &BTreeSet<Hook>) -> Result<()> {
        programs::load(&mut self.object, &hooks.iter().map(|hook| hook.program()).collect())
    }

    /// Attaches a port's programs to its host-side device, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or no such device exists.
    pub fn attach_port(&mut self, ifindex: u32) -> Result<()> {
        Hook::OF_PORT.into_iter().try_for_each(|hook| self.attach(ifindex, hook))
    }

    /// Attaches a network's programs to its bridge, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or no such device exists.
    pub fn attach_bridge(&mut self, ifindex: u32) -> Result<()> {
        Hook::OF_BRIDGE.into_iter().try_for_each(|hook| self.attach(ifindex, hook))
    }

    /// Attaches `hook`, one of [`Hook::OUTSIDE`], to a device in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses, or no such device exists.
    pub fn attach_outside(&mut self, ifindex: u32, hook: Hook) -> Result<()> {
        self.attach(ifindex, hook)
    }

    fn attach(&mut self, ifindex: u32, hook: Hook) -> Result<()> {
        if self.carry.as_mut().is_some_and(|carry| carry.defers(ifindex, hook)) {
            return Ok(());
        }
        self.links.attach(&mut self.object, ifindex, hook)
    }

    /// Lets the processes of the calling thread's network namespace reach what is translated; whether they could
    /// not before. When the kernel refuses, [`Datapath::sockets_trouble`] tells why.
    pub fn attach_sockets(&mut self) -> bool {
        self.sockets.attach(&mut self.object)
    }

    /// Leaves the host's processes alone again.
    ///
    /// # Errors
    /// When a program cannot be detached, or its pin not removed.
    pub fn detach_sockets(&mut self) -> Result<()> {
        self.sockets.detach()
    }

    /// Why the host's processes do not reach what is translated, though they should.
    #[must_use]
    pub fn sockets_trouble(&self) -> Option<&str> {
        self.sockets.trouble()
    }

    /// Has the uplinks in `wanted`, by their indexes, drop early what they can, as the policy says; no others. What was done
    /// for it. Where the kernel refuses, [`Datapath::earlies`] tells why.
    ///
    /// # Errors
    /// When a program cannot be detached, or its pin not removed.
    pub fn settle_earlies(&mut self, wanted: &BTreeMap<u32, WantedEarly>) -> Result<Vec<String>> {
        self.earlies.settle(&mut self.object, wanted)
    }

    /// How the uplinks drop early what they can.
    pub fn earlies(&self) -> impl Iterator<Item = &Early> {
        self.earlies.uplinks()
    }

    /// Detaches `hooks` from a device, and forgets its flows and counters unless others there need them.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32, hooks: &[Hook]) -> Result<()> {
        if !self.links.detach(ifindex, hooks)? && !hooks.iter().any(|hook| hook.has_flows()) {
            return Ok(());
        }
        self.flows.forget_devices(&self.object, &[ifindex])?;
        self.drops.forget_devices(&[ifindex])
    }

    /// Detaches from every device but the bridges and ports in `wanted`, and what is `outside`, and returns those
    /// whose flows it has forgotten.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn retain_devices(
        &mut self,
        wanted: &BTreeSet<u32>,
        outside: &BTreeSet<(u32, Hook)>,
    ) -> Result<Vec<u32>> {
        let mut gone = Vec::new();
        for ifindex in self.links.devices() {
            let is_unwanted = |hook: &Hook| match Hook::OUTSIDE.contains(hook) {
                true => !outside.contains(&(ifindex, *hook)),
                false => !wanted.contains(&ifindex),
            };
            let unwanted: Vec<_> = Hook::ALL.into_iter().filter(is_unwanted).collect();
            if self.links.detach(ifindex, &unwanted)? {
                gone.push(ifindex);
            }
        }
        self.flows.forget_devices(&self.object, &gone)?;
        self.drops.forget_devices(&gone)?;
        Ok(gone)
    }

    /// Puts right what somebody changed: programs that were detached or replaced, and pins that were removed.
    /// Devices that are gone, or have become others, are forgotten with their flows. What was put right is told
    /// by [`Datapath::take_mended`]; returned is what could not be.
    ///
    /// # Errors
    /// When the kernel does not tell what a device runs, or a map cannot be pinned.
    pub fn look_after(&mut self) -> Result<Vec<Unmended>> {
        make_folders(&self.pins)?;
        self.mended.extend(self.maps.look_after(&self.pins)?);
        let found = self.links.look_after(&mut self.object)?;
        self.mended.extend(found.mended);
        for ifindex in found.gone {
            self.detach(ifindex, &Hook::ALL)?;
        }
        let (mended, unmended) = self.sockets.look_after(&self.object)?;
        self.mended.extend(mended);
        let (mended, early) = self.earlies.look_after(&mut self.object)?;
        self.mended.extend(mended);
        Ok(found.unmended.into_iter().chain(unmended).chain(early).collect())
    }

    /// What was put right since this was asked last.
    pub fn take_mended(&mut self) -> Vec<Mended> {
        std::mem::take(&mut self.mended)
    }

    /// What is attached: device and program.
    #[must_use]
    pub fn attached(&self) -> BTreeSet<(u32, Hook)> {
        let mut attached = self.links.attached();
        attached.extend(self.carry.iter().flat_map(Carry::attached));
        attached
    }

    /// How many programs and flows were taken over from another version.
    #[must_use]
    pub const fn carried(&self) -> (usize, usize) {
        (self.carried.programs, self.carried.flows)
    }

    /// Keeps nothing attached any more but by its pin.
    pub fn let_go(&mut self) {
        self.links.let_go();
        self.sockets.let_go();
        self.earlies.let_go();
    }

    /// Puts `tables` in force, whole. When they are in force already, nothing happens: flows are not judged
    /// again without cause.
    ///
    /// # Errors
    /// When they are too large, or the kernel refuses an entry; what was in force stays in force.
    pub fn commit(&mut self, tables: &Arc<Tables>) -> Result<Committed> {
        let committed = self.commits.commit(tables)?;
        self.carry_over()?;
        Ok(committed)
    }

    /// The same, where it is known that `tables` differ in `difference` from those in force: nothing else is
    /// looked at.
    ///
    /// # Errors
    /// As above.
    pub fn commit_difference(&mut self, tables: &Tables, difference: Difference) -> Result<Committed> {
        let committed = self.commits.commit_difference(tables, difference)?;
        self.carry_over()?;
        Ok(committed)
    }

    /// Puts in force again what was before the last commit, which made a new generation of `tables`; these are
    /// then as they were.
    ///
    /// # Errors
    /// When the kernel refuses an entry, or another commit has failed since.
    pub fn take_back(&mut self, tables: &mut Tables) -> Result<Committed> {
        self.commits.take_back(tables)
    }

    /// Whether [`Datapath::catch_up`] would make the next commit noticeably faster.
    #[must_use]
    pub fn is_far_behind(&self) -> bool {
        self.commits.is_far_behind()
    }

    /// Does now what the next commit would have to do for the last one. That one can be taken back no more.
    ///
    /// # Errors
    /// When the kernel refuses an entry.
    pub fn catch_up(&mut self) -> Result<()> {
        self.commits.catch_up()
    }

    /// Takes over from another version of vnet, if there is one.
    fn carry_over(&mut self) -> Result<()> {
        if let Some(carry) = &mut self.carry {
            self.carried = carry
                .finish(&mut self.object, &mut self.links)
                .context("carry the datapath of another version over")?;
            self.carry = None;
        }
        Ok(())
    }

    /// The tables in force.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn in_force(&mut self) -> Result<&Arc<Tables>> {
        self.commits.in_force()
    }

    /// The generation in force; 0 before the first commit.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.commits.generation()
    }

    /// Bytes of kernel memory that the maps take.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn memory(&self) -> Result<u64> {
        self.maps.memory()
    }

    /// What is seen of ports whose addresses are learned, for one to read; `None` if somebody has it already.
    #[must_use]
    pub const fn take_snoop(&mut self) -> Option<Snoop> {
        self.snoop.take()
    }

    /// Dropped packets by the number of their reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn drops(&self) -> Result<BTreeMap<u32, u64>> {
        self.drops.total()
    }

    /// Dropped packets by device and number of their reason.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn drops_by_device(&self) -> Result<BTreeMap<(u32, u32), u64>> {
        self.drops.by_device()
    }
}

/// Whether any program is attached by a pin of this version.
#[must_use]
pub fn has_links(pins: &Pins) -> bool {
    links::files(&pins.links()).is_ok_and(|files| !files.is_empty())
}

/// Makes the folders that pins go to.
///
/// # Errors
/// When the bpf filesystem refuses.
pub fn make_folders(pins: &Pins) -> Result<()> {
    for folder in [pins.maps(), pins.links()] {
        make_folder(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    Ok(())
}

/// Pins are root's alone: who opens a map can rewrite the policy.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The programs that are needed at once: those of what is taken over, and the one that marks flows.
fn needed(pins: &Pins, carry: Option<&Carry>) -> Result<BTreeSet<&'static str>> {
    let pinned = links::pinned(&pins.links())?.into_iter().map(|(_, ifindex, hook)| (ifindex, hook));
    let attached = pinned.chain(carry.into_iter().flat_map(Carry::attached));
    let early = early::pinned(&pins.links())?.into_iter().map(|_| UPLINK_XDP);
    Ok(attached.map(|(_, hook)| hook.program()).chain(early).chain([EXPIRE]).collect())
}

/// Makes the maps, or takes them over; no program is loaded yet.
fn make_maps(pins: &Pins, capacity: Capacity) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (name, entries) in capacity.entries() {
        loader.map_max_entries(name, entries);
    }
    for name in MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    let object =
        loader.load(object::OBJECT).map_err(|error| anyhow!("load the eBPF object: {}", causes(&error)))?;
    programs::check(&object)?;
    Ok(object)
}
