//! Carries the datapath of another ABI over: its flows, its counters, and the devices that its programs
//! are attached to.
//!
//! Another version of vnet pins its maps in another folder. What they hold cannot be read as this version's
//! policy, but flows can, as long as their layout is the same. The order is what keeps every device closed
//! and every connection alive, and lets a controller that is killed anywhere go on at its next start:
//!
//! 1. This version's maps are made and the policy is committed to them, with a generation above that of the
//!    other, so that flows are judged again. No packet reads them yet.
//! 2. [`Carry::finish`] copies the flows, then gives each link this version's program in one step, and moves
//!    its pin. A device runs the other program on the other maps until then, and this one on these maps
//!    afterwards. Programs that the other version had not are attached.
//! 3. What the other programs changed in the meantime is copied once more. A flow that began in between may
//!    lose a packet, not its connection.
//! 4. The programs of the host's sockets are not carried: this version's own are attached beside the other's before
//!    the policy is committed. Until the other's are gone, whichever run first translate, and the second find
//!    nothing to do. Sockets that were translated before speak on; whom they asked for is forgotten.
//! 5. The other folder goes: its control map first, so that what a crash leaves of it is known for rubbish.
//!
//! Upgrades and downgrades are the same to it.

use std::{
    collections::{BTreeSet, HashMap as Index},
    fs,
    hash::Hash,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData},
};
use tracing::{info, warn};
use vnet_common::{ABI_VERSION, Control, FLOW_LAYOUT, Flow, FlowKey, FlowState, V4, V6};

use super::{
    counters::Counters,
    flows::Version,
    links::{self, Links, causes},
    names::{CONTROL, Hook, LINKS_FOLDER, MAPS_FOLDER, Pins},
    object::{self, Shape},
    readers, remove, sys,
};

/// The layout of flows that ABI 1 had, which did not say so.
const FIRST_LAYOUT: u32 = 1;

/// A folder of another version that cannot be carried over. What runs there keeps running.
#[derive(Debug, thiserror::Error)]
#[error(
    "{folder} holds a running datapath of another version of vnet, and this one (ABI {ABI_VERSION}) cannot carry \
     it over: {reason}. It stays in force. Go on with the vnet-ctl that made it, or remove it with \
     `vnet-ctl teardown`, which ends the connections through it"
)]
pub struct CarryError {
    /// The folder of its pins.
    pub folder: String,
    /// What does not fit.
    pub reason: String,
}

/// What other versions have left, to be carried over.
#[derive(Debug)]
pub(super) struct Carry {
    own: Pins,
    old: Vec<Old>,
    /// Programs that the other version had not, on devices of its.
    missing: BTreeSet<(u32, Hook)>,
}

/// What one other version has left.
#[derive(Debug)]
struct Old {
    root: PathBuf,
    generation: u32,
    /// Whether it has flows; otherwise it is the rest of one that was carried over.
    has_flows: bool,
    links: Vec<(PathBuf, u32, Hook)>,
}

/// What was carried over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) programs: usize,
    pub(super) flows: usize,
}

impl Carry {
    /// Looks for other versions' folders; nothing is changed.
    ///
    /// # Errors
    /// [`CarryError`] when one has programs attached and cannot be carried over.
    pub(super) fn find(pins: &Pins) -> Result<Option<Self>> {
        let mut old = Vec::new();
        for root in pins.versions().into_iter().filter(|root| *root != pins.root()) {
            old.push(Old::open(root)?);
        }
        let carry = Self { own: pins.clone(), old, missing: BTreeSet::new() };
        Ok((!carry.old.is_empty()).then_some(carry))
    }

    /// The highest generation that was in force.
    pub(super) fn generation(&self) -> u32 {
        self.old.iter().map(|old| old.generation).max().unwrap_or(0)
    }

    /// What is attached by other versions.
    pub(super) fn attached(&self) -> impl Iterator<Item = (u32, Hook)> {
        self.links().map(|(_, ifindex, hook)| (*ifindex, *hook))
    }

    fn links(&self) -> impl Iterator<Item = &(PathBuf, u32, Hook)> {
        self.old.iter().flat_map(|old| &old.links)
    }

    /// Whether the device runs another version's program, so that a program which it lacks must wait until
    /// its maps are filled.
    pub(super) fn defers(&mut self, ifindex: u32, hook: Hook) -> bool {
        let is_running = self.attached().any(|(of, _)| of == ifindex);
        if is_running && !self.attached().any(|place| place == (ifindex, hook)) {
            self.missing.insert((ifindex, hook));
        }
        is_running
    }

    /// Carries everything over. The policy must be committed.
    ///
    /// # Errors
    /// When the kernel refuses something. Every device runs one version's programs, complete; the next start
    /// goes on.
    pub(super) fn finish(&mut self, object: &mut Ebpf, links: &mut Links) -> Result<Carried> {
        let mut carried = Carried::default();
        let mut counters = Vec::new();
        for old in self.old.iter().filter(|old| old.has_flows) {
            carried.flows += copy_flows(&old.root, &self.own)?;
            counters.push(Counters::carry(&old.root.join(MAPS_FOLDER), &self.own.maps())?);
        }
        for (path, ifindex, hook) in self.old.iter().flat_map(|old| &old.links) {
            carried.programs += usize::from(take_link(path, &self.own, (*ifindex, *hook), object, links)?);
        }
        for (ifindex, hook) in std::mem::take(&mut self.missing) {
            links.attach(object, ifindex, hook)?;
        }
        // A packet may still be in one of the programs that were replaced.
        readers::wait();
        for old in self.old.iter().filter(|old| old.has_flows) {
            copy_flows(&old.root, &self.own)?;
        }
        counters.into_iter().try_for_each(Counters::finish)?;
        for old in self.old.drain(..) {
            info!("carried over {}", old.root.display());
            old.remove();
        }
        Ok(carried)
    }
}

impl Old {
    fn open(root: PathBuf) -> Result<Self> {
        let unfit = |reason: String| CarryError { folder: root.display().to_string(), reason };
        let pins = links::files(&root.join(LINKS_FOLDER))?;
        let maps = root.join(MAPS_FOLDER);
        let is_running = !pins.is_empty();
        let (generation, has_flows) = match carriable(&maps) {
            Ok(generation) => (generation, true),
            Err(reason) if is_running => return Err(unfit(reason).into()),
            // Nothing runs on it.
            Err(_) => (0, false),
        };
        let links = links::pinned(&root.join(LINKS_FOLDER))?;
        Ok(Self { root, generation, has_flows, links })
    }

    /// Removes what is left: programs that this version does not know, and the maps.
    fn remove(self) {
        // A program that went on running would read maps that nobody writes any more.
        for path in links::files(&self.root.join(LINKS_FOLDER)).into_iter().flatten() {
            if let Err(error) = links::remove(&path) {
                warn!("{error:#}");
            }
        }
        let mut removed = remove::Removed::default();
        remove::remove_version(&self.root, &mut removed);
        removed.problems.iter().for_each(|problem| warn!("{problem}"));
    }
}

/// The generation in force in a folder of maps whose flows this version understands, or why it does not.
fn carriable(maps: &Path) -> Result<u32, String> {
    let declared = object::declared().map_err(|error| format!("{error:#}"))?;
    let shape = |name: &str| {
        let path = maps.join(name);
        if !path.exists() {
            return Err(format!("its map {name} is not there"));
        }
        object::shape(&path).map_err(|reason| format!("its map {name} is none: {reason}"))
    };
    let alike = |a: &Shape, b: &Shape| {
        (a.map_type, a.key_size, a.value_size) == (b.map_type, b.key_size, b.value_size)
    };
    for name in [CONTROL, V4::MAP, V6::MAP] {
        if !declared.get(name).is_some_and(|needed| shape(name).is_ok_and(|found| alike(needed, &found))) {
            shape(name)?;
            return Err(format!("its map {name} has entries of another size"));
        }
    }
    let control = read_control(&maps.join(CONTROL)).map_err(|error| format!("{error:#}"))?;
    let layout = if control.flow_layout == 0 { FIRST_LAYOUT } else { control.flow_layout };
    if (FIRST_LAYOUT..=FLOW_LAYOUT).contains(&layout) {
        Ok(control.generation)
    } else {
        Err(format!(
            "its flows have layout {layout}, and only layouts up to {FLOW_LAYOUT} are understood here"
        ))
    }
}

fn read_control(path: &Path) -> Result<Control> {
    let map = Map::from_map_data(MapData::from_pin(path)?)?;
    let control: Array<MapData, Control> = map.try_into()?;
    Ok(control.get(&0, 0)?)
}

/// Gives the link pinned at `path` this version's program, and moves the pin to this version's folder; false
/// if its device is gone.
fn take_link(
    path: &Path,
    own: &Pins,
    (ifindex, hook): (u32, Hook),
    object: &mut Ebpf,
    links: &mut Links,
) -> Result<bool> {
    let is_taken = links.attached().contains(&(ifindex, hook));
    // Two programs of vnet on one hook: one of them is enough.
    if is_taken || !links.take(path, ifindex, hook, object)? {
        links::remove(path)?;
        return Ok(is_taken);
    }
    let to = own.link(ifindex, hook);
    fs::rename(path, &to).with_context(|| format!("move {} to {}", path.display(), to.display()))?;
    Ok(true)
}

/// Copies the flows of another version; how many there are.
fn copy_flows(old: &Path, own: &Pins) -> Result<usize> {
    Ok(copy::<V4>(old, own)? + copy::<V6>(old, own)?)
}

/// Brings the flows of `own` up to date with those of another version.
fn copy<A: Version>(old: &Path, own: &Pins) -> Result<usize>
where
    FlowKey<A>: Pod + Eq + Hash,
    A::Image: From<Flow<A>>,
{
    let path = old.join(MAPS_FOLDER).join(A::MAP);
    let open = |path: &Path| MapData::from_pin(path).with_context(|| format!("open {}", path.display()));
    let read = |map: &MapData| sys::entries::<FlowKey<A>, A::Image>(map).context("read flows");
    let flows = read(&open(&path)?)?;
    let data = open(&own.map(A::MAP))?;
    let known: Index<FlowKey<A>, A::Image> = read(&data)?.into_iter().collect();
    let live = flows.iter().filter(|(_, flow)| flow.last_seen.get() != Flow::<A>::EXPIRED);
    if known.is_empty() {
        let live: Vec<_> = live.copied().collect();
        sys::put_all(&data, &live).with_context(|| format!("copy the flows of {}", path.display()))?;
        return Ok(live.len());
    }
    let mut table: HashMap<MapData, FlowKey<A>, A::Image> = Map::from_map_data(data)?.try_into()?;
    for (key, flow) in live {
        let newest = match known.get(key) {
            None => Some(*flow),
            Some(known) => newest::<A>(flow, known).map(A::Image::from),
        };
        if let Some(newest) = newest {
            table.insert(key, newest, 0).map_err(|error| anyhow!("copy a flow: {}", causes(&error)))?;
        }
    }
    Ok(flows.len())
}

/// What is known of a direction of which both versions have an entry, if the other one knows better. Packets
/// of one direction arrive at one device, so that one version alone has seen the last of them; but the end of
/// a connection is told by either direction.
fn newest<A: Version>(other: &Flow<A>, own: &Flow<A>) -> Option<Flow<A>> {
    let age = |flow: &Flow<A>| (flow.last_seen.get(), flow.packets.get());
    let is_closing = |flow: &Flow<A>| flow.state() > FlowState::Established;
    if age(other) > age(own) {
        let newest = other.clone();
        if is_closing(own) && other.state() == FlowState::Established {
            newest.state.set(own.state() as u8);
        }
        return Some(newest);
    }
    if is_closing(other) && own.state() == FlowState::Established {
        let newest = own.clone();
        newest.state.set(other.state() as u8);
        return Some(newest);
    }
    None
}
