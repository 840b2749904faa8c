//! Plays cases, and tells everything about one that fails.

use std::fmt::Write as _;

use vnet_common::{Delivery, DropReason};

use super::{
    step::{Case, Entry, Outcome, Step},
    view::{FlowView, Flows, Shown},
    world::{Devices, Policy, Tables, tables},
};

/// Something that runs the datapath.
pub trait Runner {
    /// The ifindexes of its world.
    fn devices(&self) -> &Devices;
    /// Forgets flows, and puts [`Policy::Usual`] in force.
    fn reset(&mut self);
    /// Puts `tables` in force as the next generation.
    fn commit(&mut self, tables: &Tables);
    /// Runs a frame; returns what became of it and how it looks now.
    fn run(&mut self, entry: &Entry, frame: &[u8]) -> (Seen, Vec<u8>);
    /// Makes this many seconds pass.
    fn advance(&mut self, secs: u32);
    /// Makes a tick of the coarse clock begin.
    fn tick(&mut self);
    /// Fills the IPv6 flow table up to this many free entries.
    fn fill(&mut self, free: usize);
    /// Marks every entry as being removed.
    fn expire(&mut self);
    /// Makes nonsense of the delivery of every entry.
    fn corrupt(&mut self);
    /// The flow table.
    fn flows(&self) -> Flows;
}

/// What a runner sees of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Dropped and counted.
    Drop(DropReason),
    /// Dropped and counted, and something else sent in its place: as [`Seen::Send`].
    Tell(DropReason, u32, Delivery),
    /// The same: as [`Seen::Redirect`].
    TellRedirect(DropReason, Redirect),
    /// Passed.
    Pass,
    /// Neither, and not counted; whether the bytes are those of the frames that arrive again.
    Taken {
        /// The kernel does not show them.
        shows: bool,
    },
    /// Sent to a device: its ifindex, and how.
    Send(u32, Delivery),
    /// Sent to a device that the runner does not see; whether to one that has a program of vnet's there, which
    /// knows it by its mark.
    Redirect(Redirect),
}

/// What a runner sees of a packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Whether vnet marked the packet as decided.
    pub is_marked: bool,
}

impl Redirect {
    /// Whether it is marked as what goes by `delivery` has to be.
    fn suits(self, delivery: Delivery) -> bool {
        self.is_marked == matches!(delivery, Delivery::Device | Delivery::Host)
    }
}

/// Plays `case` from a fresh world.
///
/// # Errors
/// The report of the first step that went otherwise.
pub fn play(runner: &mut impl Runner, case: &Case) -> Result<(), String> {
    runner.reset();
    for (number, step) in case.steps.iter().enumerate() {
        play_step(runner, step).map_err(|problem| {
            format!("{}, step {}: {problem}\n  flows:\n{}", case.name, number + 1, Shown(&runner.flows()))
        })?;
    }
    Ok(())
}

/// Plays one step.
///
/// # Errors
/// What went otherwise.
pub fn play_step(runner: &mut impl Runner, step: &Step) -> Result<(), String> {
    match step {
        Step::Packet { entry, frame, outcome } => {
            let (seen, out) = runner.run(entry, frame);
            let matches = matches(runner.devices(), outcome, frame, (seen, &out));
            if matches { Ok(()) } else { Err(describe(entry, frame, outcome, (seen, &out))) }
        }
        Step::Advance(secs) => {
            runner.advance(*secs);
            Ok(())
        }
        Step::Tick => {
            runner.tick();
            Ok(())
        }
        Step::Commit(policy) => {
            commit(runner, *policy);
            Ok(())
        }
        Step::Fill { free } => {
            runner.fill(*free);
            Ok(())
        }
        Step::Expire => {
            runner.expire();
            Ok(())
        }
        Step::Corrupt => {
            runner.corrupt();
            Ok(())
        }
        Step::Flows((what, check)) => {
            let flows: Vec<FlowView> = runner.flows().into_values().collect();
            if check(&flows) { Ok(()) } else { Err(format!("not true of the flows: {what}")) }
        }
        Step::State(state) => {
            let flows = runner.flows();
            let holds = !flows.is_empty() && flows.values().all(|flow| flow.state == *state);
            if holds { Ok(()) } else { Err(format!("not every flow is {state:?}")) }
        }
    }
}

/// Puts `policy` in force as the next generation.
pub fn commit(runner: &mut impl Runner, policy: Policy) {
    let tables = tables(policy, runner.devices());
    runner.commit(&tables);
}

fn matches(devices: &Devices, outcome: &Outcome, frame: &[u8], (seen, out): (Seen, &[u8])) -> bool {
    match (outcome, seen) {
        (Outcome::Drop(reason), Seen::Drop(found)) => *reason == found,
        (Outcome::Pass, Seen::Pass) => out == frame,
        (Outcome::Taken(again), Seen::Taken { shows }) => !shows || out == again.concat(),
        (Outcome::Send { device, delivery, frame }, Seen::Send(ifindex, found)) => {
            devices.index(*device) == ifindex && *delivery == found && out == frame
        }
        (Outcome::Send { delivery, frame, .. }, Seen::Redirect(redirect)) => {
            redirect.suits(*delivery) && out == frame
        }
        (Outcome::Tell { reason, device, delivery, frame }, Seen::Tell(found_reason, ifindex, found)) => {
            devices.index(*device) == ifindex && (*delivery, *reason) == (found, found_reason) && out == frame
        }
        (Outcome::Tell { reason, delivery, frame, .. }, Seen::TellRedirect(found, redirect)) => {
            *reason == found && redirect.suits(*delivery) && out == frame
        }
        _ => false,
    }
}

fn describe(entry: &Entry, frame: &[u8], outcome: &Outcome, (seen, out): (Seen, &[u8])) -> String {
    let mut text = format!("{entry:?}\n");
    let _ = writeln!(text, "  frame    {}", hex(frame));
    match outcome {
        Outcome::Send { device, delivery, frame } | Outcome::Tell { device, delivery, frame, .. } => {
            let _ =
                writeln!(text, "  expected Send to {device:?} by {delivery:?}\n           {}", hex(frame));
        }
        other => {
            let _ = writeln!(text, "  expected {other:?}");
        }
    }
    let _ = write!(text, "  got      {seen:?}\n           {}", hex(out));
    text
}

/// Bytes in hexadecimal, headers apart: 14 of Ethernet, the rest in groups of four.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let (ethernet, rest) = bytes.split_at(bytes.len().min(14));
    let mut text: String = ethernet.iter().map(|byte| format!("{byte:02x}")).collect();
    for word in rest.chunks(4) {
        text.push(' ');
        text.extend(word.iter().map(|byte| format!("{byte:02x}")));
    }
    text
}
