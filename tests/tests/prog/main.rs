//! The real programs, as the controller loads them, through `BPF_PROG_TEST_RUN`: the table of cases that
//! the host model passes, with the same frames, the same drop counters and the same flow tables.
//!
//! Needs root. Each test works in network and mount namespaces of its own and leaves nothing.

mod kernel;
mod maps;
mod place;
mod programs;

use std::{collections::BTreeMap, thread};

use aya::Pod;
use vnet_common::{
    DropReason, ExpireAnswer, ExpireHeader, ExpireQuestion, FlowKey, Ports, Pressure, V4, V6, mark,
};
use vnet_tests::cases::{
    self, Case, Entry, Hook, Outcome, Step,
    frame::{ACK, RST, SYN},
    model::Model,
    nat::{received, way},
    run::{Runner as _, Seen, commit, play, play_step},
    view::{Flows, Shown},
    world::{Beyond, Device, O, Policy, U, Version},
};

use self::{
    kernel::{Kernel, PASS, XDP_DROP, XDP_PASS, XDP_TX},
    maps::Tracked,
};

/// Half of what the kernel's verifier allows (`BPF_COMPLEXITY_LIMIT_INSNS`): the rest is for others.
const MAX_VERIFIED: u32 = 500_000;

/// Runs `test` with a kernel runner on a thread of its own, whose namespaces end with it.
fn with_kernel(test: impl FnOnce(&mut Kernel) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| test(&mut Kernel::load()));
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn every_case_holds_and_leaves_the_flows_of_the_model() {
    with_kernel(|kernel| {
        let mut model = Model::new(kernel.devices().clone());
        let cases = cases::all();
        let playable = cases.iter().filter(|case| !case.model_only);
        let failures: Vec<String> =
            playable.filter_map(|case| play_both(kernel, &mut model, case).err()).collect();
        assert!(failures.is_empty(), "{} cases fail:\n\n{}", failures.len(), failures.join("\n\n"));
    });
}

/// What the program that runs first on uplinks drops is a part of what the others do: see the suite `model`.
#[test]
fn packets_are_dropped_early_as_on_the_model() {
    with_kernel(|kernel| {
        let mut model = Model::new(kernel.devices().clone());
        let mut dropped = 0;
        let is_from_outside =
            |step: &Step| matches!(step, Step::Packet { entry, .. } if entry.hook == Hook::FromUplink);
        let concerns_it = |case: &&Case| !case.model_only && case.steps.iter().any(is_from_outside);
        for case in cases::all().iter().filter(concerns_it) {
            kernel.reset();
            model.reset();
            for (number, step) in case.steps.iter().enumerate() {
                if let Step::Packet { entry, frame, .. } = step
                    && is_from_outside(step)
                    && !entry.vlan_tag
                {
                    let expected = model.early(entry, frame);
                    let action = if expected.is_some() { XDP_DROP } else { XDP_PASS };
                    let ran = kernel.run_xdp(frame);
                    let at = format!("{}, step {}", case.name, number + 1);
                    assert_eq!(ran, (action, expected, frame.clone()), "{at}");
                    dropped += u32::from(expected.is_some());
                }
                let _ = (play_step(&mut model, step), play_step(kernel, step));
            }
        }
        assert!(dropped > 10, "{dropped} packets were dropped early");
    });
}

/// What answers a challenge that was made before there was a socket buffer is taken as one.
#[test]
fn a_syn_is_challenged_early() {
    with_kernel(|kernel| {
        for version in Version::BOTH {
            kernel.reset();
            commit(kernel, Policy::Nat);
            kernel.press(Pressure::Filling);
            let asked = way(version, (O, 7000), (U, 8080));
            let (action, reason, frame) = kernel.run_xdp(&received(&asked.tcp(SYN, 100, 0)));
            assert_eq!((action, reason), (XDP_TX, Some(DropReason::SynChallenged)));
            assert_eq!((&frame[..6], &frame[6..12]), (&O.mac.0[..], &U.mac.0[..]));
            let segment = if version == Version::V4 { 34 } else { 54 };
            assert_eq!((frame.len(), frame[segment + 13]), (segment + 20, SYN | ACK));
            let number = u32::from_be_bytes(frame[segment + 8..segment + 12].try_into().expect("a number"));
            let reset = received(&asked.tcp(RST, number, 0));
            assert_eq!(kernel.run_xdp(&reset).0, XDP_PASS);
            let outside = Entry::at(Hook::FromUplink, Device::U);
            assert_eq!(kernel.run(&outside, &reset).seen, Seen::Taken { shows: false });
            assert_eq!(kernel.run_xdp(&received(&asked.tcp(SYN, 100, 0))).0, XDP_PASS);
        }
    });
}

/// Plays `case` on both, step by step; their flow tables have to agree after each.
fn play_both(kernel: &mut Kernel, model: &mut Model, case: &Case) -> Result<(), String> {
    kernel.reset();
    model.reset();
    for (number, step) in case.steps.iter().enumerate() {
        // What is wrong on the model as well is the other suite's to tell.
        let _ = play_step(model, step);
        let result = play_step(kernel, step);
        let (found, expected) = (kernel.flows(), model.flows());
        let at = format!("{}, step {}", case.name, number + 1);
        result.map_err(|problem| format!("{at}: {problem}\n  flows:\n{}", Shown(&found)))?;
        if found != expected {
            return Err(format!("{at}: the flow tables differ\n{}", differences(&found, &expected)));
        }
    }
    Ok(())
}

fn differences(kernel: &Flows, model: &Flows) -> String {
    let only = |these: &Flows, those: &Flows| -> Flows {
        let differing = these.iter().filter(|(tuple, view)| those.get(tuple) != Some(view));
        differing.map(|(tuple, view)| (tuple.clone(), view.clone())).collect()
    };
    let (left, right) = (only(kernel, model), only(model, kernel));
    format!("  kernel:\n{}\n  model:\n{}", Shown(&left), Shown(&right))
}

#[test]
fn the_verifier_has_half_of_its_limit_to_spare() {
    with_kernel(|kernel| {
        let counts: BTreeMap<&str, u32> = kernel.verified_instructions();
        println!("{counts:?}");
        assert_eq!(
            counts.keys().copied().collect::<Vec<_>>(),
            [
                "expire",
                "from_host",
                "from_port",
                "from_segment",
                "from_underlay",
                "from_uplink",
                "to_host",
                "to_port",
                "to_segment",
                "uplink_xdp",
            ]
        );
        for (program, count) in counts {
            assert!(count < MAX_VERIFIED, "{program} takes {count} instructions to verify");
        }
    });
}

/// A packet that is sent or passes, from the table.
fn allowed_packet(wanted: &str) -> Vec<u8> {
    let case = cases::all().into_iter().find(|case| case.name == wanted).expect("the case");
    let Some(Step::Packet { frame, outcome: Outcome::Send { .. } | Outcome::Pass, .. }) =
        case.steps.into_iter().next()
    else {
        panic!("{wanted} does not begin with a packet that is sent or passes")
    };
    frame
}

/// Two CPUs have a flow judged again at once, by a packet of each direction, after each of many commits.
#[test]
fn a_flow_lives_through_commits_while_both_of_its_ends_speak() {
    with_kernel(|kernel| {
        let wanted = "a_flow_that_the_new_policy_allows_goes_on (V4)";
        let case = cases::all().into_iter().find(|case| case.name == wanted).expect("the case");
        play(kernel, &case).unwrap_or_else(|problem| panic!("{problem}"));
        let packets = case.steps.iter().filter_map(|step| match step {
            Step::Packet { entry, frame, .. } => Some((*entry, frame.as_slice())),
            _ => None,
        });
        // Its last ones, when each end has spoken after a commit that left the same policy on both sides.
        let [reply, data] = packets.rev().take(2).collect::<Vec<_>>().try_into().expect("two packets");
        assert_eq!(kernel.drops_under_commits([data, reply], 20_000), BTreeMap::new());
    });
}

#[test]
fn what_vnet_sent_itself_passes_and_loses_its_mark() {
    with_kernel(|kernel| {
        let frame = allowed_packet("ping_works (V4)");
        for entry in [Entry::at(Hook::ToPort, Device::B), Entry::at(Hook::ToHost, Device::W)] {
            let run = kernel.run_program(&entry, &frame, mark::DECIDED);
            assert_eq!((run.action, run.mark), (PASS, 0), "{entry:?}");
            assert_eq!(run.frame, frame);
            let unmarked = kernel.run_program(&entry, &frame, mark::DECIDED ^ 1);
            assert_ne!(unmarked.action, PASS, "{entry:?}");
        }
        // On a LAN that it shares with the host, too: a copy for the host, and what goes out.
        commit(kernel, Policy::Beyond(Beyond::Bridged));
        for entry in [Entry::at(Hook::FromSegment, Device::U), Entry::at(Hook::ToSegment, Device::U)] {
            let run = kernel.run_program(&entry, &frame, mark::DECIDED);
            assert_eq!((run.action, run.mark), (PASS, 0), "{entry:?}");
            let unmarked = kernel.run_program(&entry, &frame, mark::DECIDED ^ 1);
            assert_ne!(unmarked.action, PASS, "{entry:?}");
        }
    });
}

#[test]
fn what_enters_the_bridge_carries_the_mark_that_lets_it_out_and_no_other() {
    with_kernel(|kernel| {
        let frame = allowed_packet("a_port_receives_from_groups_as_its_ingress_rules_say");
        let flooded = mark::flooded(1);
        for brought in [0, 1, mark::DECIDED, flooded] {
            let run = kernel.run_program(&Entry::at(Hook::FromPort, Device::B), &frame, brought);
            assert_eq!((run.action, run.mark), (PASS, flooded), "{brought:#x}");
        }
        for entry in [Entry::at(Hook::ToPort, Device::A), Entry::at(Hook::ToHost, Device::W)] {
            let run = kernel.run_program(&entry, &frame, flooded);
            assert_eq!((run.action, run.mark), (PASS, 0), "{entry:?}");
            let unseen = kernel.run_program(&entry, &frame, 0);
            assert_ne!(unseen.action, PASS, "{entry:?}");
        }
    });
}

#[test]
fn expiry_removes_the_idle_entries_that_it_has_marked_unless_a_flow_begins_there() {
    with_kernel(|kernel| {
        let entry = Entry::at(Hook::FromPort, Device::A);
        let frames = ["ping_works (V4)", "ping_works (V6)"].map(allowed_packet);
        let seen = frames.each_ref().map(|frame| kernel.run(&entry, frame).seen);
        mark_each::<V4>(kernel);
        mark_each::<V6>(kernel);
        let (marked_v4, marked_v6) = (kernel.entries::<V4>(), kernel.entries::<V6>());
        assert_eq!(kernel.run(&entry, &frames[0]).seen, seen[0]);
        let (stays, is_gone) = (ExpireAnswer::Refreshed as i32, ExpireAnswer::Gone as i32);
        assert_eq!(kernel.expire_entries(&marked_v4), [stays; 2], "the new flow's");
        assert_eq!(kernel.expire_entries(&marked_v6), [is_gone; 2]);
        assert_eq!((kernel.entries::<V4>().len(), kernel.entries::<V6>().len()), (2, 0));
        assert_eq!(kernel.run(&entry, &frames[1]).seen, seen[1]);
    });
}

/// Asks for each entry twice, as if a packet had refreshed it and as it is, and for one that is not there.
fn mark_each<A: Tracked>(kernel: &Kernel)
where
    FlowKey<A>: Pod,
{
    let entries = kernel.entries::<A>();
    assert_eq!(entries.len(), 2);
    let mut asked: Vec<_> =
        entries.iter().map(|(key, last_seen)| (*key, last_seen.wrapping_sub(1))).collect();
    asked.extend(&entries);
    asked.push((FlowKey { ports: Ports::default(), ..entries[0].0 }, 0));
    // As many as fit.
    asked.resize(ExpireHeader::MOST, asked[4]);
    let answers = kernel.expire_entries(&asked);
    let (refreshed, marked) = (ExpireAnswer::Refreshed as i32, ExpireAnswer::Marked as i32);
    assert_eq!(answers[..4], [refreshed, refreshed, marked, marked]);
    assert_eq!(answers[4..], [ExpireAnswer::Gone as i32; ExpireHeader::MOST - 4]);
}

#[test]
fn expiry_leaves_an_entry_that_a_packet_has_refreshed() {
    with_kernel(|kernel| {
        let entry = Entry::at(Hook::FromPort, Device::A);
        let frame = allowed_packet("ping_works (V4)");
        kernel.run(&entry, &frame);
        kernel.advance(100);
        let idle = kernel.entries::<V4>();
        kernel.run(&entry, &frame);
        let answers = kernel.expire_entries(&idle);
        let refreshed = answers.iter().filter(|answer| **answer == ExpireAnswer::Refreshed as i32).count();
        let marked = answers.iter().filter(|answer| **answer == ExpireAnswer::Marked as i32).count();
        assert_eq!((refreshed, marked), (1, 1), "the request's entry stays, the silent reply's goes");
    });
}

#[test]
fn a_question_to_expiry_that_makes_no_sense_is_malformed() {
    with_kernel(|kernel| {
        let malformed = |question: &[u8]| kernel.run_expire(question).0 == ExpireAnswer::Malformed as i32;
        let mut question = vec![0_u8; ExpireQuestion::<V4>::offset(65)];
        assert!(malformed(&question), "of no version");
        question[16] = 4;
        assert!(malformed(&question), "about nothing");
        question[20] = 2;
        assert!(!malformed(&question[..ExpireQuestion::<V4>::offset(2)]));
        assert!(malformed(&question[..ExpireQuestion::<V4>::offset(2) - 1]), "too short");
        question[20] = 65;
        assert!(malformed(&question), "too many");
    });
}
