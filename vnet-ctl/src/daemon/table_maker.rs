//! Makes the tables of one policy after the other, and puts them in force.
//!
//! Keeps the compiler, which does again only what a change concerns, in step with what is in force: after
//! anything that went wrong it begins anew with that.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};

use super::{
    SharedDatapath, at_length,
    newcomers::{News, news},
};
use crate::{
    compile::{Assigned, Compiler, Devices},
    datapath::Committed,
    policy::Policy,
};

/// The compiler, and the datapath that it compiles for.
#[derive(Debug)]
pub(super) struct TableMaker {
    datapath: SharedDatapath,
    /// `None` until it is known what to go on from.
    compiler: Option<Compiler>,
    /// Whether what was compiled last leads the host's processes anywhere.
    leads_host: bool,
    /// Whether the last commit has attached the programs of the host's sockets.
    has_attached: bool,
}

impl TableMaker {
    /// Nothing is compiled yet.
    pub(super) const fn new(datapath: SharedDatapath) -> Self {
        Self { datapath, compiler: None, leads_host: false, has_attached: false }
    }

    /// Makes the tables of `policy`. They are not in force until [`TableMaker::commit`], and what is compiled next
    /// goes on from them only after [`TableMaker::settle`].
    pub(super) fn compile(&mut self, policy: &Policy, assigned: &Assigned, devices: &Devices) -> Result<()> {
        let mut compiler = match self.compiler.take() {
            Some(compiler) => compiler,
            None => Compiler::resume(self.datapath.lock().in_force()?.clone()),
        };
        let outcome = at_length(|| compiler.update(policy, assigned, devices));
        // A policy that is too large leaves the tables as they were.
        self.compiler = Some(compiler);
        self.leads_host = !(policy.forwards.is_empty() && policy.elastic_ips.is_empty());
        Ok(outcome?)
    }

    /// Puts what was compiled last in force; tells also whom to tell of it.
    pub(super) fn commit(&mut self) -> Result<(Committed, News)> {
        // What is in force and what was compiled last part if this fails, or is taken back.
        let compiler = self.compiler.take().context("no tables have been compiled")?;
        let difference = compiler.difference();
        let news = news(&difference, compiler.tables());
        let mut datapath = self.datapath.lock();
        // They do nothing until there is something that they find.
        self.has_attached = self.leads_host && datapath.attach_sockets();
        let committed = at_length(|| datapath.commit_difference(compiler.tables(), difference));
        drop(datapath);
        if committed.is_err() && self.has_attached {
            self.detach_sockets();
        }
        let committed = committed?;
        self.compiler = Some(compiler);
        Ok((committed, news))
    }

    /// Puts in force again what was before what was `committed` last.
    pub(super) fn take_back(&mut self, committed: &Committed) -> Result<()> {
        if self.has_attached {
            self.detach_sockets();
        }
        let Some(compiler) = self.compiler.take().filter(|_| committed.flipped) else { return Ok(()) };
        let mut tables = compiler.into_tables();
        self.datapath.lock().take_back(&mut tables)?;
        self.compiler = Some(Compiler::resume(Arc::new(tables)));
        Ok(())
    }

    /// The numbers of the member links that were compiled last, each with the device of its port.
    pub(super) fn member_links(&self) -> BTreeMap<u32, u32> {
        let links = self.compiler.iter().flat_map(|compiler| compiler.tables().member_links());
        links.map(|(_, link)| (link.number, link.device)).collect()
    }

    /// Says that what was put in force last stays. Nobody waits for what is left to do for it.
    pub(super) fn settle(&mut self) {
        if let Some(compiler) = &mut self.compiler {
            compiler.settle();
        }
        if !self.leads_host {
            self.detach_sockets();
        }
        if !self.datapath.lock().is_far_behind() {
            return;
        }
        let datapath = self.datapath.clone();
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = datapath.lock().catch_up() {
                // The next commit tries again.
                tracing::warn!("{error:#}");
            }
        }));
    }

    fn detach_sockets(&mut self) {
        self.has_attached = false;
        if let Err(error) = self.datapath.lock().detach_sockets() {
            // They find nothing to do, and the next change tries again.
            tracing::warn!("{error:#}");
        }
    }
}
