//! Which program is attached where: tcx links, pinned so that they outlive the controller.
//!
//! A pin keeps its link when the controller ends. While it runs, it holds every link itself as well, so that
//! a pin that somebody removes detaches nothing. What a device should run stays on record until the
//! controller detaches it; [`Links::look_after`] compares that with what it does run, and mends it.
//!
//! A program that was detached comes back under its flows, unless its device is gone. It is gone when its
//! index is nobody's, or when none of its programs is attached any more and the index belongs to a device of
//! another name: an index is used again only for who asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions},
    },
    sys::SyscallError,
};
use nix::{libc, net::if_::if_indextoname};
use tracing::{debug, warn};

use super::{
    mend::{Mended, Unmended, What},
    names::{Hook, Pins, is_socket_link_name, parse_link_name, parse_xdp_link_name},
    programs::{self, classifier},
    sys,
};

/// What is pinned under a folder of links for devices.
pub(super) fn pinned(folder: &Path) -> Result<Vec<(PathBuf, u32, Hook)>> {
    let mut found = Vec::new();
    for path in files(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match parse_link_name(name) {
            Some((ifindex, hook)) => found.push((path, ifindex, hook)),
            None if is_socket_link_name(name) || parse_xdp_link_name(name).is_some() => {}
            None => warn!("{} is not of vnet's making and stays", path.display()),
        }
    }
    Ok(found)
}

/// The paths of what is in a folder, which may be missing.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || format!("list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(list),
    };
    entries.map(|entry| Ok(entry.with_context(list)?.path())).collect()
}

/// The links of the devices that vnet has attached to.
#[derive(Debug)]
pub(super) struct Links {
    pins: Pins,
    /// What every device should run.
    records: BTreeMap<(u32, Hook), Record>,
}

/// A program that a device should run.
#[derive(Debug)]
struct Record {
    /// The device's name when it was attached.
    device: String,
    /// `None` while it cannot be attached.
    link: Option<OwnedFd>,
}

/// What became of one link.
enum Health {
    Sound,
    /// It runs another program.
    Replaced,
    /// It runs nothing, nowhere.
    Detached,
}

/// What [`Links::look_after`] found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) mended: Vec<Mended>,
    pub(super) unmended: Vec<Unmended>,
    /// Devices that are gone, or have become others.
    pub(super) gone: BTreeSet<u32>,
}

impl Links {
    /// Takes over what is pinned: each link gets the program of `object`, in one step during which no
    /// packet is missed. Pins of vanished devices are removed.
    pub(super) fn adopt(pins: &Pins, object: &mut Ebpf) -> Result<Self> {
        let mut links = Self { pins: pins.clone(), records: BTreeMap::new() };
        for (path, ifindex, hook) in pinned(&pins.links())? {
            if !links.take(&path, ifindex, hook, object)? {
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(links)
    }

    /// Gives the link pinned at `path` the program of `object`, and holds it; false if its device is gone.
    pub(super) fn take(&mut self, path: &Path, ifindex: u32, hook: Hook, object: &mut Ebpf) -> Result<bool> {
        let link = sys::open_pin(path).with_context(|| format!("open {}", path.display()))?;
        let attached = sys::tcx_info(link.as_fd()).with_context(|| format!("look at {}", path.display()))?;
        let Some(device) = device_name(ifindex).filter(|_| attached.ifindex == ifindex) else {
            debug!("the device of {} is gone", path.display());
            return Ok(false);
        };
        if !replace(path, classifier(object, hook)?)? {
            return Ok(false);
        }
        self.records.insert((ifindex, hook), Record { device, link: Some(link) });
        Ok(true)
    }

    /// Attaches `hook`'s program to the device `ifindex` of the calling thread's network namespace, before
    /// any other program there but vnet's own [`Hook::predecessors`]. Nothing happens if it is attached already.
    pub(super) fn attach(&mut self, object: &mut Ebpf, ifindex: u32, hook: Hook) -> Result<()> {
        if self.records.get(&(ifindex, hook)).is_some_and(|record| record.link.is_some()) {
            return Ok(());
        }
        let device = device_name(ifindex)
            .with_context(|| format!("there is no device with the index {ifindex} any more"))?;
        let link = attach(&self.pins.link(ifindex, hook), object, &device, hook)?;
        self.records.insert((ifindex, hook), Record { device, link: Some(link) });
        Ok(())
    }

    /// Detaches those of `hooks` that are attached to the device `ifindex`; whether what is
    /// known of flows and drops there is of no use any more.
    pub(super) fn detach(&mut self, ifindex: u32, hooks: &[Hook]) -> Result<bool> {
        let is_attached = |hook: &Hook| self.records.contains_key(&(ifindex, *hook));
        let hooks: Vec<Hook> = hooks.iter().copied().filter(is_attached).collect();
        for &hook in &hooks {
            let path = self.pins.link(ifindex, hook);
            if let Some(link) = self.records.get(&(ifindex, hook)).and_then(|record| record.link.as_ref()) {
                detach(link, &path)?;
            }
            remove(&path)?;
            self.records.remove(&(ifindex, hook));
        }
        let is_left =
            self.records.range((ifindex, Hook::ALL[0])..).next().is_none_or(|((of, _), _)| *of != ifindex);
        Ok(!hooks.is_empty() && (is_left || hooks.into_iter().any(Hook::has_flows)))
    }

    /// Compares what every device should run with what it runs, and mends what differs.
    pub(super) fn look_after(&mut self, object: &mut Ebpf) -> Result<Found> {
        let mut own = BTreeMap::new();
        for hook in Hook::ALL {
            if let Some(program) = programs::if_loaded(object, hook)? {
                own.insert(hook, program.info()?.id());
            }
        }
        let pinned: BTreeSet<PathBuf> = files(&self.pins.links())?.into_iter().collect();
        let mut found = Found::default();
        for ifindex in self.devices() {
            let health = |hook: Hook, record: &Record| match &record.link {
                Some(link) => health(link, ifindex, own.get(&hook).copied()),
                None => Health::Detached,
            };
            let records = self.records.range_mut((ifindex, Hook::ALL[0])..);
            let mut records: Vec<_> = records
                .take_while(|((of, _), _)| *of == ifindex)
                .map(|(&(_, hook), record)| (hook, health(hook, record), record))
                .collect();
            let current = device_name(ifindex);
            let has_program = records.iter().any(|(_, health, _)| !matches!(health, Health::Detached));
            let is_named = |name: &String| records.iter().any(|(.., record)| record.device == *name);
            let Some(device) = current.filter(|name| has_program || is_named(name)) else {
                found.gone.insert(ifindex);
                continue;
            };
            for (hook, health, record) in &mut records {
                let path = self.pins.link(ifindex, *hook);
                let mended = match health {
                    Health::Sound if pinned.contains(&path) => continue,
                    Health::Sound => repin(record, &path).map(|()| What::Unpinned),
                    Health::Replaced => {
                        put_back(record, &path, classifier(object, *hook)?).map(|()| What::Replaced)
                    }
                    Health::Detached => {
                        record.link = None;
                        attach(&path, object, &device, *hook).map(|link| {
                            record.link = Some(link);
                            What::Detached
                        })
                    }
                };
                let place = (ifindex, device.clone(), *hook);
                match mended {
                    Ok(what) => found.mended.push(Mended::Program { place, what }),
                    Err(error) => {
                        found.unmended.push(Unmended::Program { place, error: format!("{error:#}") })
                    }
                }
            }
        }
        Ok(found)
    }

    /// The devices that something is attached to, or should be.
    pub(super) fn devices(&self) -> BTreeSet<u32> {
        self.records.keys().map(|&(ifindex, _)| ifindex).collect()
    }

    /// What is attached.
    pub(super) fn attached(&self) -> BTreeSet<(u32, Hook)> {
        let attached = self.records.iter().filter(|(_, record)| record.link.is_some());
        attached.map(|(&place, _)| place).collect()
    }

    /// Holds nothing any more: only pins keep programs attached from now on.
    pub(super) fn let_go(&mut self) {
        self.records.clear();
    }
}

/// Removes a pin and its link. The program is detached when this returns, whoever else holds the link.
pub(super) fn remove(path: &Path) -> Result<()> {
    if let Ok(link) = sys::open_pin(path) {
        detach(&link, path)?;
    }
    remove_pin(path)
}

pub(super) fn detach(link: &OwnedFd, path: &Path) -> Result<()> {
    match sys::detach(link.as_fd()) {
        // It is detached already: its device is gone.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result.with_context(|| format!("detach {}", path.display())),
    }
}

pub(super) fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The name of a device of the calling thread's network namespace.
pub(super) fn device_name(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.into_string().ok()?;
    // nix answers with an empty name for an index that nothing has.
    Some(name).filter(|name| !name.is_empty())
}

fn health(link: &OwnedFd, ifindex: u32, own: Option<u32>) -> Health {
    match sys::tcx_info(link.as_fd()) {
        Ok(info) if info.ifindex != ifindex => Health::Detached,
        Ok(info) if Some(info.program) == own => Health::Sound,
        _ => Health::Replaced,
    }
}

/// Attaches a program and pins its link, over the pin of a link that is no more.
fn attach(path: &Path, object: &mut Ebpf, device: &str, hook: Hook) -> Result<OwnedFd> {
    let orders = orders(object, hook)?;
    let program = classifier(object, hook)?;
    let id = attach_in_order(program, device, hook.attach_type(), orders)
        .map_err(|error| anyhow!("attach {hook} to {device}: {}", causes(&error)))?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    remove_pin(path)?;
    // Until it is pinned, dropping the link detaches the program.
    link.pin(path).map_err(|error| anyhow!("pin {}: {}", path.display(), causes(&error)))?;
    sys::open_pin(path).with_context(|| format!("open {}", path.display()))
}

/// Where among the programs of a device that of `hook` belongs: right after the last of its predecessors that is
/// there, else before all others.
fn orders(object: &Ebpf, hook: Hook) -> Result<Vec<LinkOrder>> {
    let mut orders = Vec::new();
    for predecessor in hook.predecessors().iter().rev() {
        if let Some(program) = programs::if_loaded(object, *predecessor)? {
            orders.push(LinkOrder::after_program(program)?);
        }
    }
    orders.push(LinkOrder::first());
    Ok(orders)
}

/// Attaches in the first of `orders` that there is: a predecessor may not be attached.
fn attach_in_order(
    program: &mut SchedClassifier,
    device: &str,
    place: TcAttachType,
    orders: Vec<LinkOrder>,
) -> Result<SchedClassifierLinkId, ProgramError> {
    let mut last = None;
    for order in orders {
        match program.attach_with_options(device, place, TcAttachOptions::TcxOrder(order)) {
            Err(error) if is_errno(&error, libc::ENOENT) => last = Some(error),
            result => return result,
        }
    }
    Err(last.unwrap_or(ProgramError::NotAttached))
}

fn is_errno(error: &ProgramError, errno: i32) -> bool {
    let ProgramError::SyscallError(SyscallError { io_error, .. }) = error else { return false };
    io_error.raw_os_error() == Some(errno)
}

/// Gives the link pinned at `path` this program, in one step, and holds it; `None` if it is attached no more.
pub(super) fn take_over(path: &Path, program: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let link = sys::open_pin(path).with_context(|| format!("open {}", path.display()))?;
    match sys::replace(link.as_fd(), program) {
        Ok(()) => Ok(Some(link)),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("replace the program of {}", path.display())),
    }
}

/// Pins a link that was just made, over the pin of one that is no more. Until then, dropping it detaches the program.
pub(super) fn pin(link: OwnedFd, path: &Path) -> Result<OwnedFd> {
    remove_pin(path)?;
    sys::pin(link.as_fd(), path).with_context(|| format!("pin {}", path.display()))?;
    Ok(link)
}

/// What is wrong with a link that should run the program numbered `own`, and be pinned at `path`; `runs` is what it does
/// run, if it is attached.
pub(super) fn lacks(runs: Option<u32>, own: u32, path: &Path) -> Option<What> {
    match runs {
        None => Some(What::Detached),
        Some(runs) if runs != own => Some(What::Replaced),
        Some(_) => (!path.exists()).then_some(What::Unpinned),
    }
}

/// Puts `program` back into an attached link if another one runs there, and its pin if that is gone.
pub(super) fn put_right(link: &OwnedFd, what: What, program: BorrowedFd<'_>, path: &Path) -> Result<()> {
    if what == What::Replaced {
        let put_back = sys::replace(link.as_fd(), program);
        put_back.with_context(|| format!("put the program of {} back", path.display()))?;
    }
    if !path.exists() {
        sys::pin(link.as_fd(), path).with_context(|| format!("pin {}", path.display()))?;
    }
    Ok(())
}

fn repin(record: &Record, path: &Path) -> Result<()> {
    let link = record.link.as_ref().context("it is not attached")?;
    sys::pin(link.as_fd(), path).with_context(|| format!("pin {}", path.display()))
}

/// Puts `program` back into a link that somebody gave another one.
fn put_back(record: &Record, path: &Path, program: &mut SchedClassifier) -> Result<()> {
    if !path.exists() {
        repin(record, path)?;
    }
    if !replace(path, program)? {
        bail!("its device is going away");
    }
    Ok(())
}

/// Puts `program` in the place of the one that the link pinned at `path` runs; false if the link's
/// device is gone.
fn replace(path: &Path, program: &mut SchedClassifier) -> Result<bool> {
    let pinned = PinnedLink::from_pin(path).with_context(|| format!("open {}", path.display()))?;
    let link: SchedClassifierLink =
        FdLink::from(pinned).try_into().with_context(|| format!("{} is not a tcx link", path.display()))?;
    match program.attach_to_link(link) {
        // The pin keeps the link; this handle is not needed.
        Ok(id) => drop(program.take_link(id)?),
        Err(error) if is_errno(&error, libc::ENOLINK) => return Ok(false),
        Err(error) => bail!("replace the program of {}: {}", path.display(), causes(&error)),
    }
    Ok(true)
}

/// An error with its causes: aya's own messages leave them out.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}
