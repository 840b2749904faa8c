//! Plays cases, and tells everything about one that fails.

use std::fmt::Write as _;

use vnet_common::{Delivery, DropReason, Ip, Pressure, mark};
use vnet_ebpf::packet::Tunnel;

use super::{
    frame::{RST, SYN, SYN_ACK},
    nat::{self, Way},
    step::{Aside, Case, Entry, Hook, Outcome, Sent, Step},
    view::{FlowView, Flows, Shown},
    world::{Device, Devices, Policy, Tables, Version, tables},
};

/// Something that runs the datapath.
pub trait Runner {
    /// The ifindexes of its world.
    fn devices(&self) -> &Devices;
    /// Forgets flows, and puts [`Policy::Usual`] in force.
    fn reset(&mut self);
    /// Puts `tables` in force as the next generation.
    fn commit(&mut self, tables: &Tables);
    /// Runs a frame; returns what became of it.
    fn run(&mut self, entry: &Entry, frame: &[u8]) -> Ran;
    /// Makes this many seconds pass.
    fn advance(&mut self, secs: u32);
    /// Makes a tick of the coarse clock begin.
    fn tick(&mut self);
    /// Spends what a device may send to many in this tick, but for one frame.
    fn spend(&mut self, device: Device);
    /// Spends the connections that somebody outside may open in this tick, but for one; they were known to be there.
    fn spend_of(&mut self, addr: Ip);
    /// Says how full a flow table is.
    fn press(&mut self, pressure: Pressure);
    /// Says that most flows were opened at a device.
    fn crowd(&mut self, device: Device);
    /// Fills the IPv6 flow table up to this many free entries.
    fn fill(&mut self, free: usize);
    /// Has every entry last seen in this tick.
    fn date(&mut self, tick: u32);
    /// Makes nonsense of the delivery of every entry.
    fn corrupt(&mut self);
    /// The flow table.
    fn flows(&self) -> Flows;
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The verdict.
    pub seen: Seen,
    /// How it looks now.
    pub frame: Vec<u8>,
    /// Its priority now.
    pub priority: u16,
    /// What the kernel does not show: the tunnel that it enters, and the copies that were sent. Where that is not
    /// shown, neither is the outermost tag of a frame that has been given some.
    pub hidden: Option<(Option<Tunnel>, Vec<Sent>)>,
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
    /// Passed, and marked as what may be an overlay's.
    Marked,
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
    /// What vnet marked the packet as.
    pub mark: Mark,
}

/// A mark of vnet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// None.
    Nothing,
    /// As decided.
    Decided,
    /// As let into a bridge.
    Flooded,
}

impl Mark {
    /// What `mark` is while `generation` is in force.
    #[must_use]
    pub fn of(mark: u32, generation: u32) -> Self {
        if mark == mark::DECIDED {
            Self::Decided
        } else if mark == mark::flooded(generation) {
            Self::Flooded
        } else {
            Self::Nothing
        }
    }
}

impl Redirect {
    /// Whether it is marked as what goes by `delivery` has to be.
    fn suits(self, delivery: Delivery) -> bool {
        self.mark
            == match delivery {
                Delivery::Device | Delivery::Host => Mark::Decided,
                Delivery::Flood => Mark::Flooded,
                _ => Mark::Nothing,
            }
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
        Step::Packet { entry, frame, outcome, aside } => {
            let ran = runner.run(entry, frame);
            if !matches(runner.devices(), outcome, (entry, frame), &ran) {
                return Err(describe(entry, frame, outcome, &ran));
            }
            if matches!(outcome, Outcome::Drop(_)) || leads_to(aside, &ran) {
                return Ok(());
            }
            Err(format!("{}\n  expected {aside:?}", describe(entry, frame, outcome, &ran)))
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
        Step::Spend(device) => {
            runner.spend(*device);
            Ok(())
        }
        Step::SpendOf(addr) => {
            runner.spend_of(*addr);
            Ok(())
        }
        Step::Press(pressure) => {
            runner.press(*pressure);
            Ok(())
        }
        Step::Crowd(device) => {
            runner.crowd(*device);
            Ok(())
        }
        Step::Challenge(way) => challenge(runner, way),
        Step::Fill { free } => {
            runner.fill(*free);
            Ok(())
        }
        Step::LastSeen(tick) => {
            runner.date(*tick);
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

/// Plays a challenge: nobody but vnet knows its number, so it is taken from the frame.
fn challenge(runner: &mut impl Runner, way: &Way) -> Result<(), String> {
    /// Of the acknowledgment in a TCP header.
    const ACK_AT: usize = 8;
    let outside = Entry::at(Hook::FromUplink, Device::U);
    let ran = runner.run(&outside, &nat::received(&way.tcp(SYN, 100, 0)));
    let segment = if way.version == Version::V4 { 14 + 20 } else { 14 + 40 } + ACK_AT;
    let number = ran.frame.get(segment..segment + 4).and_then(|bytes| bytes.try_into().ok());
    let number = number.map(u32::from_be_bytes).unwrap_or_default();
    let frame = nat::received(&way.back().tcp(SYN_ACK, !number, number));
    let told = Outcome::Tell {
        reason: DropReason::SynChallenged,
        device: Device::U,
        delivery: Delivery::NextHop,
        frame,
    };
    // The addresses of the frame are the next hop's affair.
    let resets = [(number.wrapping_add(1), Outcome::Pass), (number, Outcome::Taken(Vec::new()))];
    let syn = (nat::received(&way.tcp(SYN, 100, 0)), told, ran);
    let mut steps = vec![syn];
    for (seq, outcome) in resets {
        let reset = nat::received(&way.tcp(RST, seq, 0));
        let ran = runner.run(&outside, &reset);
        steps.push((reset, outcome, ran));
    }
    let wrong = steps
        .iter()
        .find(|(frame, outcome, ran)| !matches(runner.devices(), outcome, (&outside, frame), ran));
    wrong.map_or(Ok(()), |(frame, outcome, ran)| Err(describe(&outside, frame, outcome, ran)))
}

/// Puts `policy` in force as the next generation.
pub fn commit(runner: &mut impl Runner, policy: Policy) {
    let tables = tables(policy, runner.devices());
    runner.commit(&tables);
}

fn matches(devices: &Devices, outcome: &Outcome, (entry, sent): (&Entry, &[u8]), ran: &Ran) -> bool {
    let (seen, out) = (ran.seen, &ran.frame);
    let shown =
        |frame: &[u8]| if ran.hidden.is_some() { frame.to_vec() } else { without_outermost_tag(frame) };
    match (outcome, seen) {
        (Outcome::Drop(reason), Seen::Drop(found)) => *reason == found,
        // A frame on its way to a port has lost its tag and got it back.
        (Outcome::Pass, Seen::Pass) if entry.hook == Hook::ToPort => *out == shown(sent),
        (Outcome::Pass, Seen::Pass) | (Outcome::Marked, Seen::Marked) => out == sent,
        (Outcome::Taken(again), Seen::Taken { shows }) => !shows || *out == again.concat(),
        (Outcome::Send { device, delivery, frame }, Seen::Send(ifindex, found)) => {
            devices.index(*device) == ifindex && *delivery == found && *out == shown(frame)
        }
        (Outcome::Send { delivery, frame, .. }, Seen::Redirect(redirect)) => {
            redirect.suits(*delivery) && *out == shown(frame)
        }
        (Outcome::Tell { reason, device, delivery, frame }, Seen::Tell(found_reason, ifindex, found)) => {
            let is_there = devices.index(*device) == ifindex && (*delivery, *reason) == (found, found_reason);
            is_there && *out == shown(frame)
        }
        (Outcome::Tell { reason, delivery, frame, .. }, Seen::TellRedirect(found, redirect)) => {
            *reason == found && redirect.suits(*delivery) && *out == shown(frame)
        }
        _ => false,
    }
}

/// The frame as a test run of the kernel shows it: the outermost tag that it was given is held beside it.
fn without_outermost_tag(frame: &[u8]) -> Vec<u8> {
    match frame.get(12..14) {
        Some([0x81, 0] | [0x88, 0xa8]) if frame.len() >= 16 => [&frame[..12], &frame[16..]].concat(),
        _ => frame.to_vec(),
    }
}

/// Whether all else that the frame led to is as expected, as far as the runner shows it. Which tunnel it entered means
/// something for what is sent; what is for many may have entered some for its copies.
fn leads_to(aside: &Aside, ran: &Ran) -> bool {
    let Some((tunnel, copies)) = &ran.hidden else { return ran.priority == aside.priority };
    let mut copies = copies.clone();
    let are_all_there = aside.copies.iter().all(|wanted| {
        let found = copies.iter().position(|copy| copy == wanted);
        found.map(|found| copies.swap_remove(found)).is_some()
    });
    let enters = if matches!(ran.seen, Seen::Send(..)) { *tunnel } else { None };
    are_all_there && copies.is_empty() && enters == aside.tunnel && ran.priority == aside.priority
}

fn describe(entry: &Entry, frame: &[u8], outcome: &Outcome, ran: &Ran) -> String {
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
    let Ran { seen, frame, priority, hidden } = ran;
    let _ = write!(text, "  got      {seen:?}, priority {priority}\n           {}", hex(frame));
    if let Some((tunnel, copies)) = hidden {
        let _ = write!(text, "\n           tunnel {tunnel:?}, copies {copies:?}");
    }
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
