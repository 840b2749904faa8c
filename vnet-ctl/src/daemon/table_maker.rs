//! Makes the tables of one policy after the other, and puts them in force.
//!
//! Keeps the compiler, which does again only what a change concerns, in step with what is in force: after
//! anything that went wrong it begins anew with that.

use std::sync::Arc;

use anyhow::Result;

use super::{SharedDatapath, at_length};
use crate::{
    compile::{Assigned, Compiler, Devices, Tables},
    datapath::Committed,
    policy::Policy,
};

/// The compiler, and the datapath that it compiles for.
#[derive(Debug)]
pub(super) struct TableMaker {
    datapath: SharedDatapath,
    /// `None` until it is known what to go on from.
    compiler: Option<Compiler>,
}

impl TableMaker {
    /// Nothing is compiled yet.
    pub(super) const fn new(datapath: SharedDatapath) -> Self {
        Self { datapath, compiler: None }
    }

    /// The tables of `policy`. They are not in force until [`TableMaker::commit`], and what is compiled next goes
    /// on from them only after [`TableMaker::settle`].
    pub(super) fn compile(
        &mut self,
        policy: &Policy,
        assigned: &Assigned,
        devices: &Devices,
    ) -> Result<Arc<Tables>> {
        let mut compiler = match self.compiler.take() {
            Some(compiler) => compiler,
            None => Compiler::resume(self.datapath.lock().in_force()?.clone()),
        };
        at_length(|| compiler.update(policy, assigned, devices))?;
        let tables = compiler.tables().clone();
        self.compiler = Some(compiler);
        Ok(tables)
    }

    /// Puts `tables` in force; returns those that were before.
    pub(super) fn commit(&mut self, tables: &Arc<Tables>) -> Result<(Arc<Tables>, Committed)> {
        // What is in force and what was compiled last part if this fails, or is taken back.
        let compiler = self.compiler.take();
        let mut datapath = self.datapath.lock();
        let before = datapath.in_force()?.clone();
        let committed = at_length(|| datapath.commit(tables))?;
        drop(datapath);
        self.compiler = compiler.filter(|compiler| Arc::ptr_eq(compiler.tables(), tables));
        Ok((before, committed))
    }

    /// Says that what was put in force last stays.
    pub(super) fn settle(&mut self) {
        if let Some(compiler) = &mut self.compiler {
            compiler.settle();
        }
    }
}
