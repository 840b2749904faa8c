//! Functions that the verifier walks by themselves, once, and not again for each call: global functions (Linux 5.6).
//!
//! It forgets at the call what it knows of the caller, and afterwards what it learned inside. So they take words, or
//! the address of a case, whose size it knows from the type; and they return a word. They share the caller's 512
//! bytes of stack.

use vnet_common::{Direction, V4, V6};
use vnet_ebpf::{
    case::Case,
    headers::Service,
    question::{Answer, Question},
    stages::{judge, translate},
    tables::Snapshot,
};

use super::tables::Kernel;

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
