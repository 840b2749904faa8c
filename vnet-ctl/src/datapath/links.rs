//! Which program is attached where: tcx links, pinned so that they outlive the controller.
//!
//! A pin is the only thing that keeps its link; removing it detaches the program.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    sys::SyscallError,
};
use nix::{libc, net::if_::if_indextoname};
use tracing::{debug, warn};

use super::names::{Hook, Pins, parse_link_name};

/// What is pinned under a folder of links.
pub(super) fn pinned(folder: &Path) -> Result<Vec<(PathBuf, u32, Hook)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_link_name);
        match name {
            Some((ifindex, hook)) => found.push((path, ifindex, hook)),
            None => warn!("{} is not of vnet's making and stays", path.display()),
        }
    }
    Ok(found)
}

/// The links of the devices that vnet has attached to.
#[derive(Debug)]
pub(super) struct Links {
    pins: Pins,
    attached: BTreeSet<(u32, Hook)>,
}

impl Links {
    /// Takes over what is pinned: each link gets the program of `object`, in one step during which no
    /// packet is missed. Pins of vanished devices are removed.
    pub(super) fn adopt(pins: &Pins, object: &mut Ebpf) -> Result<Self> {
        let mut attached = BTreeSet::new();
        for (path, ifindex, hook) in pinned(&pins.links())? {
            if replace(&path, program(object, hook)?)? {
                attached.insert((ifindex, hook));
            } else {
                debug!("the device of {} is gone", path.display());
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(Self { pins: pins.clone(), attached })
    }

    /// Attaches `hook`'s program to the device `ifindex` of the calling thread's network namespace, before
    /// any other program there. Nothing happens if it is attached already.
    pub(super) fn attach(&mut self, object: &mut Ebpf, ifindex: u32, hook: Hook) -> Result<()> {
        if self.attached.contains(&(ifindex, hook)) {
            return Ok(());
        }
        let name =
            if_indextoname(ifindex).with_context(|| format!("find the device with index {ifindex}"))?;
        let name = name.to_str().context("read a device's name")?;
        let path = self.pins.link(ifindex, hook);
        let program = program(object, hook)?;
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(name, hook.attach_type(), order)
            .map_err(|error| anyhow!("attach {hook} to {name}: {}", causes(&error)))?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        // Until it is pinned, dropping the link detaches the program.
        link.pin(&path).map_err(|error| anyhow!("pin {}: {}", path.display(), causes(&error)))?;
        self.attached.insert((ifindex, hook));
        Ok(())
    }

    /// Detaches everything from the device `ifindex`; whether anything was attached.
    pub(super) fn detach(&mut self, ifindex: u32) -> Result<bool> {
        let hooks: Vec<Hook> =
            Hook::ALL.into_iter().filter(|&hook| self.attached.contains(&(ifindex, hook))).collect();
        for &hook in &hooks {
            remove(&self.pins.link(ifindex, hook))?;
            self.attached.remove(&(ifindex, hook));
        }
        Ok(!hooks.is_empty())
    }

    /// What is attached by name only: the device is gone, and another may have its index by now.
    pub(super) fn stale(&self, object: &mut Ebpf) -> Result<BTreeSet<u32>> {
        let mut stale = BTreeSet::new();
        for &(ifindex, hook) in &self.attached {
            if !runs(program(object, hook)?, ifindex, hook)? {
                stale.insert(ifindex);
            }
        }
        Ok(stale)
    }

    /// The devices that something is attached to.
    pub(super) fn devices(&self) -> BTreeSet<u32> {
        self.attached.iter().map(|&(ifindex, _)| ifindex).collect()
    }

    /// What is attached.
    pub(super) const fn attached(&self) -> &BTreeSet<(u32, Hook)> {
        &self.attached
    }
}

/// Removes a pin and its link. The program is detached when this returns: the last reference is the
/// one held here, not the file system's, which is given back later.
pub(super) fn remove(path: &Path) -> Result<()> {
    let link = PinnedLink::from_pin(path);
    match fs::remove_file(path) {
        Ok(()) => drop(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {}", path.display())),
    }
    Ok(())
}

fn program(object: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier> {
    let program = object.program_mut(hook.program()).with_context(|| format!("the object has no {hook}"))?;
    program.try_into().with_context(|| format!("{hook} is not a tc program"))
}

/// Whether `program` is what the device with that index, in the calling thread's namespace, runs.
fn runs(program: &SchedClassifier, ifindex: u32, hook: Hook) -> Result<bool> {
    let name = if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
    // nix answers with an empty name for an index that nothing has.
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(false) };
    let own = program.info()?.id();
    match SchedClassifier::query_tcx(&name, hook.attach_type()) {
        Ok((_, programs)) => Ok(programs.iter().any(|program| program.id() == own)),
        Err(error) => bail!("ask what {name} runs: {}", causes(&error)),
    }
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
        Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
            if io_error.raw_os_error() == Some(libc::ENOLINK) =>
        {
            return Ok(false);
        }
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
