//! The programs of the host's own sockets: links to the root of the control groups, pinned and held as those of
//! devices are.
//!
//! They cost every connection of the machine a little, so they are attached only while something is translated.
//! All of them are, or none. A kernel that refuses them is no reason to refuse a policy: only the host's own
//! processes miss something, and are told.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{Ebpf, maps::Array, programs::CgroupSockAddr};
use tracing::warn;

use super::{
    cgroup,
    links::{causes, detach, lacks, pin, put_right, remove, remove_pin, take_over},
    mend::{Mended, Unmended, What},
    names::{HOST, Pins, SocketHook},
    sys,
};

/// The pins of links of sockets in a folder of links.
pub(super) fn pinned(folder: &Path) -> Vec<PathBuf> {
    // Whom is asked for goes first: nobody is translated whose answers are not.
    let hooks = SocketHook::ALL.into_iter().rev();
    hooks.map(|hook| Pins::socket_link_in(folder, hook)).filter(|path| path.exists()).collect()
}

/// What is attached to the root of the control groups.
#[derive(Debug)]
pub(super) struct Sockets {
    pins: Pins,
    /// Whether all should be attached.
    wanted: bool,
    /// What is.
    links: BTreeMap<SocketHook, OwnedFd>,
    /// Why the kernel does not load the programs.
    unloadable: Option<String>,
    /// Why they are not attached, though they should be.
    trouble: Option<String>,
}

impl Sockets {
    /// Loads the programs, and gives them to the links that are pinned, each in one step.
    pub(super) fn adopt(pins: &Pins, object: &mut Ebpf) -> Result<Self> {
        let unloadable = load(object).err().map(|error| format!("{error:#}"));
        let links = BTreeMap::new();
        let mut sockets = Self { pins: pins.clone(), wanted: false, links, unloadable, trouble: None };
        for hook in SocketHook::ALL {
            let path = pins.socket_link(hook);
            if path.exists() && !sockets.take(&path, hook, object)? {
                remove(&path)?;
            }
        }
        sockets.wanted = !sockets.links.is_empty();
        Ok(sockets)
    }

    /// Gives the link pinned at `path` the program of `object`, and holds it; false if it is attached no more.
    fn take(&mut self, path: &Path, hook: SocketHook, object: &Ebpf) -> Result<bool> {
        if self.unloadable.is_some() {
            return Ok(false);
        }
        let Some(link) = take_over(path, program(object, hook)?)? else { return Ok(false) };
        self.links.insert(hook, link);
        Ok(true)
    }

    /// Attaches all of them, for the calling thread's network namespace; whether they were not before.
    pub(super) fn attach(&mut self, object: &mut Ebpf) -> bool {
        let was_wanted = self.wanted;
        self.trouble = self.try_attach(object).err().map(|error| format!("{error:#}"));
        self.wanted = self.trouble.is_none();
        if !self.wanted
            && let Err(error) = self.detach_all()
        {
            warn!("{error:#}");
        }
        self.wanted && !was_wanted
    }

    fn try_attach(&mut self, object: &mut Ebpf) -> Result<()> {
        if let Some(reason) = &self.unloadable {
            return Err(anyhow!("{reason}"));
        }
        let cookie = cgroup::netns_cookie().context("ask for the cookie of the network namespace")?;
        let host = object.map_mut(HOST).with_context(|| format!("the object has no map {HOST}"))?;
        let mut host: Array<_, u64> = host.try_into()?;
        host.set(0, cookie, 0).map_err(|error| anyhow!("write {HOST}: {}", causes(&error)))?;
        let missing = SocketHook::ALL.into_iter().filter(|hook| !self.links.contains_key(hook));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        let root = cgroup::root().context("open the root of the control groups")?;
        for hook in missing {
            let link = attach(&self.pins.socket_link(hook), program(object, hook)?, root.as_fd(), hook)?;
            self.links.insert(hook, link);
        }
        Ok(())
    }

    /// Detaches all of them.
    pub(super) fn detach(&mut self) -> Result<()> {
        (self.wanted, self.trouble) = (false, None);
        self.detach_all()
    }

    fn detach_all(&mut self) -> Result<()> {
        // Whom is asked for goes first, as above.
        while let Some((hook, link)) = self.links.last_key_value() {
            let (hook, path) = (*hook, self.pins.socket_link(*hook));
            detach(link, &path)?;
            remove_pin(&path)?;
            self.links.remove(&hook);
        }
        Ok(())
    }

    /// Why they are not attached, though they should be.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Puts right what somebody changed; what was, and what could not be.
    pub(super) fn look_after(&mut self, object: &Ebpf) -> Result<(Vec<Mended>, Vec<Unmended>)> {
        let (mut mended, mut unmended) = (Vec::new(), Vec::new());
        if !self.wanted {
            return Ok((mended, unmended));
        }
        for hook in SocketHook::ALL {
            let Some(what) = self.lacks(hook, object)? else { continue };
            match self.mend(hook, what, object) {
                Ok(()) => mended.push(Mended::Sockets { hook, what }),
                Err(error) => unmended.push(Unmended::Sockets { hook, error: format!("{error:#}") }),
            }
        }
        Ok((mended, unmended))
    }

    /// What is wrong with a program.
    fn lacks(&self, hook: SocketHook, object: &Ebpf) -> Result<Option<What>> {
        let Some(link) = self.links.get(&hook) else { return Ok(Some(What::Detached)) };
        let info = sys::cgroup_info(link.as_fd()).with_context(|| format!("look at the link of {hook}"))?;
        let runs = (info.cgroup != 0).then_some(info.program);
        Ok(lacks(runs, find(object, hook)?.info()?.id(), &self.pins.socket_link(hook)))
    }

    fn mend(&mut self, hook: SocketHook, what: What, object: &Ebpf) -> Result<()> {
        let path = self.pins.socket_link(hook);
        let link = self.links.get(&hook).filter(|_| what != What::Detached);
        let Some(link) = link else {
            self.links.remove(&hook);
            let root = cgroup::root().context("open the root of the control groups")?;
            self.links.insert(hook, attach(&path, program(object, hook)?, root.as_fd(), hook)?);
            return Ok(());
        };
        put_right(link, what, program(object, hook)?, &path)
    }

    /// Holds nothing any more: only pins keep programs attached from now on.
    pub(super) fn let_go(&mut self) {
        self.links.clear();
        self.wanted = false;
    }
}

fn load(object: &mut Ebpf) -> Result<()> {
    for hook in SocketHook::ALL {
        let name = hook.program();
        let program = object.program_mut(name).with_context(|| format!("the object has no {name}"))?;
        let program: &mut CgroupSockAddr =
            program.try_into().with_context(|| format!("{name} is not a program of sockets"))?;
        program.load().map_err(|error| anyhow!("load the program {name}: {}", causes(&error)))?;
    }
    Ok(())
}

fn find(object: &Ebpf, hook: SocketHook) -> Result<&CgroupSockAddr> {
    let program = object.program(hook.program()).with_context(|| format!("the object has no {hook}"))?;
    program.try_into().with_context(|| format!("{hook} is not a program of sockets"))
}

fn program(object: &Ebpf, hook: SocketHook) -> Result<BorrowedFd<'_>> {
    Ok(find(object, hook)?.fd()?.as_fd())
}

/// Attaches a program and pins its link, over the pin of a link that is no more.
fn attach(path: &Path, program: BorrowedFd<'_>, root: BorrowedFd<'_>, hook: SocketHook) -> Result<OwnedFd> {
    let link = sys::attach_cgroup(program, root, hook.attach_type())
        .with_context(|| format!("attach {hook} to the root of the control groups"))?;
    pin(link, path)
}
