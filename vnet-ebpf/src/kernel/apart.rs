//! Functions that the verifier walks by themselves, once, and not again for each call: global functions (Linux 5.6).
//!
//! It forgets at the call what it knows of the caller, and afterwards what it learned inside. So they take words,
//! the context of the program, or the address of a case, whose size it knows from the type; and they return a word. They share the caller's 512
//! bytes of stack.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use vnet_common::{Delivery, Direction, DropReason, V4, V6};
use vnet_ebpf::{
    case::Case,
    headers::Service,
    pipeline::{self, Arrival},
    question::{Answer, Question},
    stages::{judge, translate},
    tables::Snapshot,
    verdict::Verdict,
};

use super::{skb::Skb, tables::Kernel};

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

/// Makes an ICMP error of a packet that was dropped; where it goes.
#[inline(always)]
pub(super) fn answer(skb: &Skb, arrival: Arrival, reason: DropReason) -> Option<Verdict> {
    if !pipeline::is_answered(reason) {
        return None;
    }
    let word = vnet_answer(skb.as_ptr(), arrival.now, reason.number());
    let delivery = Delivery::from_byte((word >> 32) as u8).ok()?;
    Some(Verdict::send(word as u32, delivery))
}

/// The device, and above it the byte of a [`Delivery`]; 0: there is no error to be sent.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vnet_answer(context: *mut __sk_buff, now: u32, reason: u32) -> u64 {
    let mut skb = Skb::new(TcContext::new(context));
    let arrival = Arrival { device: skb.ifindex(), now };
    let Ok(reason) = DropReason::try_from(reason) else { return 0 };
    let verdict = pipeline::answer(&mut skb, &Kernel, arrival, reason);
    match verdict.and_then(Verdict::destination) {
        Some((device, delivery)) => u64::from(device) | (delivery as u64) << 32,
        None => 0,
    }
}
