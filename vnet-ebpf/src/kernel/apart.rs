//! Functions that the verifier walks by themselves, once, and not again for each call: global functions (Linux 5.6).
//!
//! It forgets at the call what it knows of the caller, and afterwards what it learned inside. So they take words, the
//! context of the program, or the address of a case, whose size it knows from the type; and they return a word. They
//! share the caller's 512 bytes of stack.

use core::ptr;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use vnet_common::{Address, Direction, DropReason, ExpireHeader, MacAddr, V4, V6};
use vnet_ebpf::{
    case::Case,
    headers::Service,
    pipeline::{self, Arrival},
    question::{Answer, Question},
    stages::{
        follow::{self, Followed},
        install::{Attempt, ports},
        judge, neighbour, parse,
        segment::Came,
        translate,
    },
    tables::Snapshot,
    verdict::{Outcome, Verdict},
    word,
};

use super::{expire, maps, skb::Skb, tables::Kernel};

/// Asks the rules.
#[inline(always)]
pub(super) fn ask(question: Question) -> Answer {
    let Question { service, side, direction, set, peer } = question;
    let service =
        u32::from(service.port) | u32::from(service.protocol) << 16 | u32::from(service.is_v4) << 24;
    Answer::from_bits(vnet_ask(service, set, peer, side, direction as u32))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_ask(service: u32, set: u32, peer: u32, side: u32, direction: u32) -> u64 {
    let [low, high, protocol, is_v4] = service.to_le_bytes();
    let service = Service { protocol, port: u16::from_le_bytes([low, high]), is_v4: is_v4 != 0 };
    let direction =
        if direction == Direction::Ingress as u32 { Direction::Ingress } else { Direction::Egress };
    judge::answer(&Kernel, &Question { service, side, direction, set, peer }).to_bits()
}

macro_rules! destination {
    ($name:ident, $addr:ty) => {
        /// Finds whom a destination stands for; 1 if for anybody.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(case: *mut Case<$addr>, generation: u32) -> u32 {
            // SAFETY: the caller's reference, or null to the verifier.
            let Some(case) = (unsafe { case.as_mut() }) else { return 0 };
            translate::destination(&Snapshot { tables: &Kernel, generation }, case).into()
        }
    };
}
destination!(destination4, V4);
destination!(destination6, V6);

macro_rules! judge_early {
    ($name:ident, $addr:ty) => {
        /// Judges a packet that opens a TCP connection; for [`Verdict::outcome_of`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(case: *mut Case<$addr>, generation: u32) -> u64 {
            // SAFETY: the caller's reference, or null to the verifier.
            Verdict::word_of(match unsafe { case.as_mut() } {
                Some(case) => pipeline::judge_early(&Snapshot { tables: &Kernel, generation }, case),
                None => Err(DropReason::Internal),
            })
        }
    };
}
judge_early!(judge_early4, V4);
judge_early!(judge_early6, V6);

/// Whether something holds, as a word.
#[inline(always)]
fn to_word(result: Result<(), DropReason>) -> u32 {
    word::of(result.map(|()| 0))
}

/// From [`to_word`].
#[inline(always)]
pub(super) fn from_word(word: u32) -> Result<(), DropReason> {
    word::result(word).map(drop)
}

/// Checks the options of an IPv4 header from `offset` to `end`.
#[inline(always)]
pub(super) fn check_options(skb: *mut __sk_buff, offset: usize, end: usize) -> Result<(), DropReason> {
    from_word(vnet_check_options(skb, offset as u32, end as u32))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_check_options(skb: *mut __sk_buff, offset: u32, end: u32) -> u32 {
    let skb = Skb::new(TcContext::new(skb));
    to_word(parse::check_options(&skb, offset as usize, end as usize))
}

/// Checks the options of a neighbour message from `offset` to `end`, whose sender has `mac`.
#[inline(always)]
pub(super) fn check_link_options(
    skb: *mut __sk_buff,
    offset: usize,
    end: usize,
    MacAddr([a, b, c, d, e, f]): MacAddr,
) -> Result<(), DropReason> {
    let mac = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, 0, 0])];
    from_word(vnet_check_link_options(skb, offset as u32, end as u32, mac[0], mac[1]))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_check_link_options(
    skb: *mut __sk_buff,
    offset: u32,
    end: u32,
    mac_begin: u32,
    mac_end: u32,
) -> u32 {
    let skb = Skb::new(TcContext::new(skb));
    let ([a, b, c, d], [e, f, ..]) = (mac_begin.to_le_bytes(), mac_end.to_le_bytes());
    let mac = MacAddr([a, b, c, d, e, f]);
    // The verifier is to see that it is no huge number.
    let offset = offset as usize & 0xffff;
    to_word(neighbour::check_link_options(&skb, offset, end as usize, mac))
}

macro_rules! reserve_port {
    ($name:ident, $addr:ty) => {
        /// Reserves a source port; for [`from_word`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(case: *mut Case<$addr>) -> u32 {
            // SAFETY: the caller's reference, or null to the verifier.
            to_word(match unsafe { case.as_mut() } {
                Some(case) => ports::reserve_port(&Kernel, case),
                None => Err(DropReason::Internal),
            })
        }
    };
}
reserve_port!(reserve_port4, V4);
reserve_port!(reserve_port6, V6);

macro_rules! try_port {
    ($name:ident, $addr:ty) => {
        /// Tries a source port; for [`Attempt::from_word`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(case: *mut Case<$addr>, number: u32) -> u32 {
            // SAFETY: the caller's reference, or null to the verifier.
            Attempt::word_of(match unsafe { case.as_mut() } {
                Some(case) => ports::try_port(&Kernel, case, number),
                None => Err(DropReason::Internal),
            })
        }
    };
}
try_port!(try_port4, V4);
try_port!(try_port6, V6);

/// Follows a fragment.
#[inline(always)]
pub(super) fn follow<A: Address>(
    skb: *mut __sk_buff,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Followed, DropReason> {
    let case = ptr::from_mut(case);
    let may_hold = u32::from(may_hold);
    // Only `V4` is IPv4's, only `V6` the other's: the types are the same ones.
    let result = if A::IS_V4 {
        vnet_follow4(skb, case.cast(), may_hold)
    } else {
        vnet_follow6(skb, case.cast(), may_hold)
    };
    Followed::from_word(result)
}

macro_rules! expire {
    ($name:ident, $flows:path) => {
        /// Answers a question about a flow; 0 if it makes no sense.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(super) extern "C" fn $name(skb: *mut __sk_buff, number: u32) -> u32 {
            let mut skb = Skb::new(TcContext::new(skb));
            let number = number as usize;
            (number < ExpireHeader::MOST && expire::ask(&mut skb, number, &$flows).is_some()).into()
        }
    };
}
expire!(expire4, maps::FLOWS4);
expire!(expire6, maps::FLOWS6);

macro_rules! follow {
    ($name:ident, $addr:ty) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(skb: *mut __sk_buff, case: *mut Case<$addr>, may_hold: u32) -> u32 {
            let mut skb = Skb::new(TcContext::new(skb));
            // SAFETY: the caller's reference, or null to the verifier.
            let result = match unsafe { case.as_mut() } {
                Some(case) => follow::follow(&mut skb, &Kernel, case, may_hold != 0),
                None => Err(DropReason::Internal),
            };
            Followed::word_of(result)
        }
    };
}
follow!(vnet_follow4, V4);
follow!(vnet_follow6, V6);

macro_rules! of_case {
    ($(#[$about:meta])* $name:ident, $v4:ident, $v6:ident, $way:path) => {
        $(#[$about])*
        #[inline(always)]
        pub(super) fn $name<A: Address>(skb: *mut __sk_buff, case: &mut Case<A>, generation: u32) -> Outcome {
            let case = ptr::from_mut(case);
            // As in `follow`.
            Verdict::outcome_of(if A::IS_V4 {
                $v4(skb, case.cast(), generation)
            } else {
                $v6(skb, case.cast(), generation)
            })
        }
        of_case!($v4, V4, $way);
        of_case!($v6, V6, $way);
    };
    ($name:ident, $addr:ty, $way:path) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(skb: *mut __sk_buff, case: *mut Case<$addr>, generation: u32) -> u64 {
            let mut skb = Skb::new(TcContext::new(skb));
            let snapshot = Snapshot { tables: &Kernel, generation };
            // SAFETY: the caller's reference, or null to the verifier.
            Verdict::word_of(match unsafe { case.as_mut() } {
                Some(case) => $way(&mut skb, &snapshot, case),
                None => Err(DropReason::Internal),
            })
        }
    };
}
of_case!(
    /// Handles a unicast packet whose sender is known.
    unicast, vnet_unicast4, vnet_unicast6, pipeline::unicast
);
of_case!(
    /// Handles a packet that changes the state of its connection.
    carry_on, vnet_carry_on4, vnet_carry_on6, pipeline::carry_on
);

/// Finds by which link a packet came.
#[inline(always)]
pub(super) fn came(skb: *mut __sk_buff, device: u32, generation: u32) -> Result<Option<Came>, DropReason> {
    Came::from_word(vnet_came(skb, device, generation))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_came(skb: *mut __sk_buff, device: u32, generation: u32) -> u64 {
    let mut skb = Skb::new(TcContext::new(skb));
    let snapshot = Snapshot { tables: &Kernel, generation };
    Came::word_of(pipeline::came(&mut skb, &snapshot, device))
}

/// Finds by which link a packet came in an overlay, and takes the frame out of it.
#[inline(always)]
pub(super) fn came_encapsulated(
    skb: *mut __sk_buff,
    device: u32,
    generation: u32,
) -> Result<Option<Came>, DropReason> {
    Came::from_word(vnet_came_encapsulated(skb, device, generation))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_came_encapsulated(skb: *mut __sk_buff, device: u32, generation: u32) -> u64 {
    let mut skb = Skb::new(TcContext::new(skb));
    let snapshot = Snapshot { tables: &Kernel, generation };
    Came::word_of(pipeline::came_encapsulated(&mut skb, &snapshot, device))
}

/// Sends copies of a packet by the links of a network.
#[inline(always)]
pub(super) fn spread(skb: *mut __sk_buff, network: u32, except: u32, generation: u32) {
    _ = vnet_spread(skb, network, except, generation);
}

/// Always 0: what the verifier wants to know of a global function is a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_spread(skb: *mut __sk_buff, network: u32, except: u32, generation: u32) -> u32 {
    let mut skb = Skb::new(TcContext::new(skb));
    pipeline::spread(&mut skb, &Snapshot { tables: &Kernel, generation }, network, except);
    0
}

/// Sends a copy by one of them; 0 if no other may follow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn vnet_spread_by(
    skb: *mut __sk_buff,
    network: u32,
    except: u32,
    index: u32,
    generation: u32,
) -> u32 {
    let mut skb = Skb::new(TcContext::new(skb));
    let snapshot = Snapshot { tables: &Kernel, generation };
    pipeline::spread_by(&mut skb, &snapshot, network, except, index).into()
}

/// Makes an ICMP error of a packet that was dropped; where it goes.
#[inline(always)]
pub(super) fn answer(skb: &Skb, arrival: Arrival, reason: DropReason) -> Option<Verdict> {
    if !pipeline::is_answered(reason) {
        return None;
    }
    Verdict::outcome_of(vnet_answer(skb.as_ptr(), arrival.now, reason.number())).ok()
}

/// The same of a packet from outside, whose sender may have to show that they are there.
#[inline(always)]
pub(super) fn answer_outside(skb: &Skb, arrival: Arrival, reason: DropReason) -> Option<Verdict> {
    if reason != DropReason::SynChallenged {
        return answer(skb, arrival, reason);
    }
    Verdict::outcome_of(vnet_challenge(skb.as_ptr())).ok()
}

/// As `vnet_answer`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_challenge(context: *mut __sk_buff) -> u64 {
    let mut skb = Skb::new(TcContext::new(context));
    let device = skb.ifindex();
    let verdict = pipeline::challenge(&mut skb, &Kernel, device);
    Verdict::word_of(verdict.ok_or(DropReason::SynChallenged))
}

/// An outcome as a word: where the error goes, or that the drop is all.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_answer(context: *mut __sk_buff, now: u32, reason: u32) -> u64 {
    let mut skb = Skb::new(TcContext::new(context));
    let arrival = Arrival::at(skb.ifindex(), now);
    let reason = DropReason::try_from(reason).unwrap_or(DropReason::Internal);
    Verdict::word_of(pipeline::answer(&mut skb, &Kernel, arrival, reason).ok_or(reason))
}
