//! Measures the cost of the programs by `BPF_PROG_TEST_RUN`, way by way; `cargo xtask bench prog` builds it,
//! runs it and prints what it found.
//!
//! Every packet is one of `vnet_tests::cases::measured`, and what comes before it is played and checked as
//! the suite does. Each way is measured again and again, all of them once in each round, and the best counts:
//! what disturbs a run only ever makes it longer. Ways under one policy after those under another. Standard output gets one JSON object.

mod assembled;
mod driver;
#[path = "../../tests/prog/kernel.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod kernel;
#[path = "../../tests/prog/maps.rs"]
mod maps;
#[path = "../../tests/prog/place.rs"]
mod place;
#[path = "../../tests/prog/programs.rs"]
mod programs;

use std::{env, thread};

use serde_json::json;
use vnet_common::{FlowKey, V4};
use vnet_tests::cases::{
    Entry, Outcome, Step,
    measured::{ALL, Fate, Measured, Packet, Packets},
    run::{Runner as _, commit, play_step},
};

use self::{
    driver::{Beside, Driver, Took, Yardstick},
    kernel::{Kernel, PASS, XDP_DROP, XDP_PASS},
};

/// tc actions (`linux/pkt_cls.h`).
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;
/// Flows among which packets of known flows change, as many as the target names.
const KNOWN_FLOWS: u32 = 1024;
/// The port of the first known flow.
const FIRST_KNOWN: u16 = 2000;
/// The port of the first new flow; no known one has a higher one that varies.
const FIRST_NEW: u16 = 10_000;
/// New flows that are there at the same time. With many more, what is measured is the memory of the machine, of which
/// another CPU's programs may have the better part: 50,000 took 809 to 964 ns within an hour.
const NEW_FLOWS: u32 = 1024;

/// One way, and what was found out about it.
struct Way {
    measured: &'static Measured,
    frame: Vec<u8>,
    context: Vec<u8>,
    driver: Driver,
    floor: Driver,
    best: Best,
    best_floor: Best,
}

/// The shortest time so far, and the longest.
#[derive(Clone, Copy, Debug)]
struct Best {
    shortest: f64,
    longest: f64,
}

impl Best {
    const NONE: Self = Self { shortest: f64::INFINITY, longest: 0.0 };

    fn add(&mut self, ns: f64) {
        *self = Self { shortest: self.shortest.min(ns), longest: self.longest.max(ns) };
    }
}

fn main() {
    let number = |name: &str, usual: u32| {
        env::var(name).map_or(usual, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (rounds, repeat) = (number("BENCH_ROUNDS", 7), number("BENCH_REPEAT", 200_000));
    let only = env::var("BENCH_ONLY").unwrap_or_default();
    // The namespaces that the thread enters end with it.
    let report = thread::scope(|scope| scope.spawn(|| measure(&only, rounds, repeat)).join());
    println!("{}", report.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
}

fn measure(only: &str, rounds: u32, repeat: u32) -> serde_json::Value {
    let mut kernel = Kernel::load();
    let yardstick = Yardstick::load();
    let mut reference = Best::NONE;
    let mut rows = Vec::new();
    for (policy, all) in ALL {
        let chosen: Vec<_> = all.iter().filter(|measured| measured.name.contains(only)).collect();
        if chosen.is_empty() {
            continue;
        }
        kernel.reset();
        commit(&mut kernel, *policy);
        let mut ways: Vec<Way> = chosen.iter().map(|measured| prepare(&mut kernel, measured)).collect();
        for round in 1..=rounds {
            eprintln!("{policy:?}: round {round} of {rounds}");
            reference.add(yardstick.run(repeat / 8).ns);
            for way in &mut ways {
                way.best_floor.add(way.floor.run(&way.frame, &way.context, repeat).ns);
                let took = run(&mut kernel, way, repeat);
                way.best.add(took.ns);
            }
        }
        rows.extend(ways.iter().map(row));
    }
    json!({ "reference_ns": reference.shortest, "rounds": rounds, "repeat": repeat, "programs": rows })
}

/// A way as it is printed.
fn row(way: &Way) -> serde_json::Value {
    let Way { measured, best, best_floor, .. } = way;
    let floor = best_floor.shortest;
    json!({ "name": measured.name, "ns": best.shortest - floor, "floor_ns": floor, "longest_ns": best.longest - floor })
}

/// Plays what comes before the packet, and makes the drivers.
///
/// # Panics
/// When the case fails, or the program does something else behind a driver.
fn prepare(kernel: &mut Kernel, measured: &'static Measured) -> Way {
    let (offset, first, count) = match measured.packets {
        Packets::Same => (None, FIRST_KNOWN, 1),
        Packets::OfKnownFlows(offset) => (Some(offset), FIRST_KNOWN, KNOWN_FLOWS),
        Packets::OfNewFlows(offset) => (Some(offset), FIRST_NEW, NEW_FLOWS),
    };
    let others = if matches!(measured.packets, Packets::OfKnownFlows(_)) { count } else { 1 };
    for number in 0..others {
        let (case, _) = (measured.flow)(first + number as u16);
        for step in &case.steps {
            play(kernel, step).unwrap_or_else(|problem| panic!("{}: {problem}", measured.name));
        }
    }
    let (_, Packet { entry, frame, mark }) = (measured.flow)(first);
    if measured.is_early {
        return prepare_early(kernel, measured, frame);
    }
    let mark = mark.unwrap_or_else(|| entry.mark(kernel.generation()));
    let context = kernel.context(&entry, mark).to_vec();
    let (fate, after) = run_once(kernel, &entry, &frame, mark);
    assert_eq!(fate, action(measured), "{}", measured.name);
    kernel.remove_flows(is_new);
    let (tag, frame) = without_tag(&frame);
    let beside = Beside { tag, tunnel: entry.tunnel };
    let packets = driver::Packets { frame: &frame, beside, mark, vary: offset.map(|offset| (offset, count)) };
    let driver = Driver::new(&packets, kernel.program(&entry));
    let (_, driven) = driver.run_once(&frame, &context);
    assert_eq!(driven, after, "{}", measured.name);
    kernel.remove_flows(is_new);
    let floor = Driver::to_nothing(&packets);
    Way { measured, frame, context, driver, floor, best: Best::NONE, best_floor: Best::NONE }
}

/// The same before there is a socket buffer.
fn prepare_early(kernel: &Kernel, measured: &'static Measured, frame: Vec<u8>) -> Way {
    let (fate, _, after) = kernel.run_xdp(&frame);
    assert_eq!((fate.cast_signed(), &after), (action(measured), &frame), "{}", measured.name);
    let (context, driver) = (kernel.xdp_context(&frame), Driver::early(&kernel.xdp));
    let floor = Driver::early_to_nothing();
    Way { measured, frame, context, driver, floor, best: Best::NONE, best_floor: Best::NONE }
}

/// Plays a step, also one whose packet comes out of a tunnel.
fn play(kernel: &mut Kernel, step: &Step) -> Result<(), String> {
    match step {
        Step::Packet { entry, frame, outcome: Outcome::Send { frame: expected, .. }, .. }
            if entry.tunnel.is_some() =>
        {
            let ran = run_once(kernel, entry, frame, entry.mark(kernel.generation()));
            if ran == (REDIRECT, expected.clone()) { Ok(()) } else { Err(format!("{step:?}: {ran:?}")) }
        }
        step => play_step(kernel, step),
    }
}

/// What a program answers to a packet, and the frame afterwards.
fn run_once(kernel: &Kernel, entry: &Entry, frame: &[u8], mark: u32) -> (i32, Vec<u8>) {
    if entry.tunnel.is_none() {
        let run = kernel.run_program(entry, frame, mark);
        return (run.action, run.frame);
    }
    let beside = Beside { tag: None, tunnel: entry.tunnel };
    let packets = driver::Packets { frame: &[], beside, mark, vary: None };
    Driver::new(&packets, kernel.program(entry)).run_once(frame, &kernel.context(entry, mark))
}

/// A frame's tag, and the frame without it.
fn without_tag(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    let Some((macs, [0x81, 0, high, low, rest @ ..])) = frame.split_at_checked(12) else {
        return (None, frame.to_vec());
    };
    (Some(u16::from_be_bytes([*high, *low])), [macs, rest].concat())
}

/// Runs a way so many times; in pieces, with the new flows removed between them, if there would be too many.
///
/// # Panics
/// When a packet of a known flow made another one, or one of a new flow did not.
fn run(kernel: &mut Kernel, way: &Way, repeat: u32) -> Took {
    let (piece, entries) = match (way.measured.packets, way.measured.fate) {
        (Packets::OfNewFlows(_), Fate::Sent | Fate::Passed) => (repeat.min(NEW_FLOWS), 2),
        (Packets::OfNewFlows(_), Fate::Dropped) => (repeat.min(NEW_FLOWS), 0),
        (Packets::Same | Packets::OfKnownFlows(_), _) => (repeat, 0),
    };
    let (mut sum, pieces) = (0.0, repeat / piece);
    let mut last = PASS;
    for _ in 0..pieces {
        let took = way.driver.run(&way.frame, &way.context, piece);
        (sum, last) = (sum + took.ns, took.action);
        let made = kernel.remove_flows(is_new);
        assert_eq!(made, entries * piece as usize, "entries that {} made", way.measured.name);
    }
    assert_eq!(last, action(way.measured), "{}", way.measured.name);
    Took { ns: sum / f64::from(pieces), action: last }
}

/// Whether an entry is of a flow that a measured packet opened.
fn is_new(key: &FlowKey<V4>) -> bool {
    let ports = [key.ports.src().get(), key.ports.dst().get()];
    ports.iter().any(|port| *port >= FIRST_NEW)
}

/// What a program answers whose packet fares as it should.
const fn action(measured: &Measured) -> i32 {
    match (measured.fate, measured.is_early) {
        (Fate::Sent, _) => REDIRECT,
        (Fate::Passed, false) => PASS,
        (Fate::Dropped, false) => SHOT,
        (Fate::Passed, true) => XDP_PASS.cast_signed(),
        (Fate::Dropped, true) => XDP_DROP.cast_signed(),
    }
}
