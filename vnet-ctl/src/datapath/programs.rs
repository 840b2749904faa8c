//! The programs of packets.
//!
//! The verifier takes up to a second over each of them, so each is loaded when something is to run it first: a host
//! without segments never waits for what takes their frames in.

use std::{collections::BTreeSet, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf,
    programs::{Program, SchedClassifier, Xdp},
};

use super::{
    links::causes,
    names::{EXPIRE, Hook, UPLINK_XDP},
};

/// Fails if the object lacks a program, which a build for another version does.
pub(super) fn check(object: &Ebpf) -> Result<()> {
    let mut names = Hook::ALL.map(Hook::program).into_iter().chain([EXPIRE, UPLINK_XDP]);
    names.try_for_each(|name| find(object, name).map(drop))
}

/// Loads those that are not yet, at the same time: none of them waits for another.
pub(super) fn load(object: &mut Ebpf, names: &BTreeSet<&str>) -> Result<()> {
    thread::scope(|scope| {
        let wanted =
            object.programs_mut().filter(|(name, program)| names.contains(name) && !is_loaded(program));
        let loading: Vec<_> =
            wanted.map(|(name, program)| scope.spawn(move || load_one(name, program))).collect();
        loading
            .into_iter()
            .try_for_each(|loading| loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The program of a hook, loaded.
pub(super) fn classifier(object: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier> {
    loaded(object, hook.program())?.try_into().with_context(|| format!("{hook} is not a tc program"))
}

/// The program of a hook, unless it was never loaded, and so is nowhere.
pub(super) fn if_loaded(object: &Ebpf, hook: Hook) -> Result<Option<&SchedClassifier>> {
    let program = find(object, hook.program())?;
    is_loaded(program).then(|| of_tc(program, hook.program())).transpose()
}

/// The program of uplinks, loaded.
pub(super) fn uplink_xdp(object: &mut Ebpf) -> Result<&mut Xdp> {
    loaded(object, UPLINK_XDP)?.try_into().with_context(|| format!("{UPLINK_XDP} is not an XDP program"))
}

/// The program that marks flows as expired, which must be loaded.
pub(super) fn expire(object: &Ebpf) -> Result<&SchedClassifier> {
    of_tc(find(object, EXPIRE)?, EXPIRE)
}

fn of_tc<'a>(program: &'a Program, name: &str) -> Result<&'a SchedClassifier> {
    program.try_into().with_context(|| format!("{name} is not a tc program"))
}

fn find<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Program> {
    object.program(name).with_context(|| format!("the eBPF object has no program {name}"))
}

fn loaded<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    let program =
        object.program_mut(name).with_context(|| format!("the eBPF object has no program {name}"))?;
    if !is_loaded(program) {
        load_one(name, program)?;
    }
    Ok(program)
}

fn is_loaded(program: &Program) -> bool {
    program.fd().is_ok()
}

fn load_one(name: &str, program: &mut Program) -> Result<()> {
    let result = match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => bail!("{name} is not a program of packets"),
    };
    result.map_err(|error| anyhow!("load the program {name}: {}", causes(&error)))
}
