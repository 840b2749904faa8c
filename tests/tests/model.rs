//! The table of cases on the host model; then what no table can list: frames cut anywhere, and noise.

use std::{collections::BTreeSet, num::NonZero, thread};

use vnet_common::{Delivery, DropReason};
use vnet_tests::cases::{
    self, Case, Entry, Hook, Outcome, Step,
    model::{Model, arriving},
    run::{Runner as _, Seen, commit, hex, play, play_step},
    world::{Beyond, Device, Devices, Policy},
};

/// Any distinct numbers will do.
const DEVICES: Devices = Devices([2, 3, 10, 11, 13, 12, 20, 99, 21]);

#[test]
fn every_case_holds() {
    let mut model = Model::new(DEVICES);
    let failures: Vec<String> = cases::all().iter().filter_map(|case| play(&mut model, case).err()).collect();
    assert!(failures.is_empty(), "{} cases fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut names: Vec<String> = cases::all().into_iter().map(|case| case.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    println!("{all} cases");
}

#[test]
fn every_drop_reason_has_a_case() {
    let steps = || cases::all().into_iter().flat_map(|case| case.steps);
    for &reason in DropReason::ALL {
        let produces = |step: Step| match step {
            Step::Packet { outcome: Outcome::Drop(found) | Outcome::Tell { reason: found, .. }, .. } => {
                found == reason
            }
            Step::Challenge(_) => reason == DropReason::SynChallenged,
            _ => false,
        };
        assert!(steps().any(produces), "no case is dropped for {}", reason.label());
    }
}

/// Plays each case up to a packet from outside, looks what becomes of that before there is a socket buffer, and then, anew,
/// what becomes of it later.
#[test]
fn what_is_dropped_early_would_be_dropped_later() {
    let mut model = Model::new(DEVICES);
    let mut dropped = BTreeSet::new();
    for case in cases::all() {
        for (number, step) in case.steps.iter().enumerate() {
            let Step::Packet { entry, frame, .. } = step else { continue };
            if entry.hook != Hook::FromUplink {
                continue;
            }
            arrive_at(&mut model, &case, number);
            let Some(reason) = model.early(entry, frame) else { continue };
            arrive_at(&mut model, &case, number);
            let seen = model.run(entry, frame).seen;
            assert_eq!(seen, Seen::Drop(reason), "{}, step {}", case.name, number + 1);
            dropped.insert(reason.label());
        }
    }
    assert_eq!(dropped, ["ingress-denied", "new-flow-limit"].into());
}

/// Plays each case up to a packet, and gives that packet cut at every length in its place.
#[test]
fn a_frame_cut_anywhere_goes_nowhere() {
    let mut cases = cases::all();
    // The table's end is slow, and its packets are like all others.
    cases.retain(|case| !case.steps.iter().any(|step| matches!(step, Step::Fill { .. })));
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for start in 0..at_once {
            let cases = cases.iter().skip(start).step_by(at_once);
            scope.spawn(move || cases.for_each(|case| cut_everywhere(&mut Model::new(DEVICES), case)));
        }
    });
}

fn cut_everywhere(model: &mut Model, case: &Case) {
    for (number, step) in case.steps.iter().enumerate() {
        let Step::Packet { entry, frame, .. } = step else { continue };
        // Behind all headers some lengths will do.
        for len in (0..frame.len()).filter(|len| *len < 256 || len % 61 == 0) {
            arrive_at(model, case, number);
            let mut packet = arriving(entry, 1, frame[..len].to_vec());
            let seen = model.verdict(entry, &mut packet);
            // What the host says to its own LAN is its own: whatever is for many, and of its neighbours.
            let is_the_hosts = entry.hook == Hook::ToSegment;
            let is_copied = !packet.copies.is_empty() && !is_the_hosts;
            let is_sent = matches!(seen, Seen::Send(..)) && !(is_the_hosts && frame[12..14] == [8, 6]);
            assert!(
                !is_sent && !is_copied || len >= announced_len(frame),
                "{}, step {}: {len} bytes of {} were sent:\n{}",
                case.name,
                number + 1,
                frame.len(),
                hex(frame)
            );
        }
    }
}

/// Brings the model to the moment before step `number`; the cut frame before may have changed it.
fn arrive_at(model: &mut Model, case: &Case, number: usize) {
    model.reset();
    for step in &case.steps[..number] {
        let _ = play_step(model, step);
    }
}

/// Up to where a frame says that it reaches: the rest is padding.
fn announced_len(frame: &[u8]) -> usize {
    let word = |at: usize| {
        frame.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    let tags = (0..3).take_while(|tag| matches!(word(12 + 4 * tag), 0x8100 | 0x88a8)).count();
    let ip = 14 + 4 * tags;
    match word(ip - 2) {
        0x0800 => ip + word(ip + 2),
        0x86dd => ip + 40 + word(ip + 4),
        0x0806 => ip + 28,
        _ => frame.len(),
    }
}

/// xorshift64*: the same noise in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

/// Half of the frames are noise from the first byte, half a true frame with a few bytes of noise in it.
#[test]
fn noise_neither_panics_nor_leaves_by_an_unknown_device() {
    const FRAMES: usize = 200_000;
    let mut noise = Noise(0x0076_6e65_7400);
    let model = Model::new(DEVICES);
    let frames: Vec<Vec<u8>> = cases::all()
        .into_iter()
        .flat_map(|case| case.steps)
        .filter_map(|step| match step {
            Step::Packet { frame, .. } => Some(frame),
            _ => None,
        })
        .collect();
    for number in 0..FRAMES {
        let mut bytes = match number % 2 {
            0 => (0..noise.below(128)).map(|_| noise.next() as u8).collect(),
            _ => frames[noise.below(frames.len())].clone(),
        };
        for _ in 0..noise.below(4) {
            let at = noise.below(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = noise.next() as u8;
            }
        }
        let hook = [Hook::FromPort, Hook::ToPort, Hook::FromHost, Hook::ToHost][noise.below(4)];
        let device = Devices::ALL[noise.below(Devices::ALL.len())];
        let entry = Entry::at(hook, device);
        let sent = bytes.clone();
        let seen = model.verdict(&entry, &mut arriving(&entry, 1, bytes));
        let Seen::Send(ifindex, delivery) = seen else { continue };
        let target = DEVICES.device(ifindex);
        let is_known = target.is_some_and(|target| {
            target != Device::Stranger && device != Device::Stranger && same_network(device, target)
        });
        assert!(
            is_known && matches!(hook, Hook::FromPort | Hook::FromHost),
            "{entry:?} sent to {target:?}: {}",
            hex(&sent)
        );
        let is_bridge = matches!(target, Some(Device::W | Device::X));
        assert_eq!(delivery == Delivery::Host, is_bridge, "{entry:?}: {}", hex(&sent));
    }
}

/// The same where networks go beyond the host, at their links too, and out of an overlay's tunnel.
#[test]
fn noise_from_beyond_neither_panics_nor_leaves_by_an_unknown_device() {
    const FRAMES: usize = 30_000;
    let mut noise = Noise(0x0076_6e65_7401);
    for policy in [Beyond::Joined, Beyond::DoubleVlan, Beyond::Bridged, Beyond::Overlay, Beyond::Member] {
        let mut model = Model::new(DEVICES);
        commit(&mut model, Policy::Beyond(policy));
        let frames = frames_under(policy);
        for _ in 0..FRAMES {
            let (mut entry, mut bytes) = frames[noise.below(frames.len())].clone();
            for _ in 0..noise.below(4) {
                let at = noise.below(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = noise.next() as u8;
                }
            }
            bytes.truncate(bytes.len() - noise.below(4).min(bytes.len()));
            if noise.below(8) == 0 {
                entry = Entry::at([Hook::FromSegment, Hook::ToSegment][noise.below(2)], entry.device);
            }
            // It also looks whether each copy goes to a device, with the mark that it needs there.
            let ran = model.run(&entry, &bytes);
            let Seen::Send(ifindex, _) = ran.seen else { continue };
            let target = DEVICES.device(ifindex);
            let is_known =
                target.is_some_and(|target| target != Device::Stranger && Devices::ALL.contains(&target));
            assert!(is_known, "{entry:?} sent to {target:?}: {}", hex(&bytes));
        }
    }
}

/// What enters under `policy` in any case.
fn frames_under(policy: Beyond) -> Vec<(Entry, Vec<u8>)> {
    let is_under = |case: &Case| {
        let is_its = |step: &Step| matches!(step, Step::Commit(Policy::Beyond(other)) if *other == policy);
        case.steps.first().is_some_and(is_its)
    };
    let steps = cases::all().into_iter().filter(is_under).flat_map(|case| case.steps);
    let frames = steps.filter_map(|step| match step {
        Step::Packet { entry, frame, .. } => Some((entry, frame)),
        _ => None,
    });
    frames.collect()
}

fn same_network(a: Device, b: Device) -> bool {
    let is_x = |device| matches!(device, Device::X | Device::C);
    is_x(a) == is_x(b)
}
