//! Between stages 9 and 10: whether one more flow may be opened while a flow table fills up.
//!
//! Decides whom to believe, in times in which the controller says that the table is under pressure; in others everybody.
//! Who opens a TCP connection from outside has to be where the source address says (RFC 4987 section 3). A SYN of somebody
//! who is not known is answered in the place of the receiver, with an acknowledgment of what was never sent. Who is there
//! answers with a reset that repeats it (RFC 9293 section 3.10.7.3), is known from then on, and tries again: Linux within
//! 10 ms, others after their first timeout. Who is not there never learns the number. Nothing is stored until then, and
//! neither end needs to know of it.
//!
//! Each of them has a budget of connections that have not come about yet: whose handshake is not complete. Whoever else opens
//! flows has one for each device, of others those that nobody has answered. As the table gets fuller, who has opened most of what is in
//! it has to wait, and the last of it is the host's: see [`Pressure`].

use core::{cell::Cell, ops::Deref};

use vnet_common::{Address, DropReason, FlowKey, Genuine, Pressure, Tuple};

use crate::{
    case::Case,
    headers::{Segment, protocol},
    tables::{Snapshot, Tables},
};

/// Ticks for which a challenge holds, as a power of two, and as many again: 8 to 17 s. A client asks again within 3.
const ERA_BITS: u32 = 3;

/// Whether the flow of `case`, which the policy allows, may be opened now.
///
/// # Errors
/// [`DropReason::SynChallenged`], [`DropReason::NewFlowLimit`], [`DropReason::FlowQuota`], [`DropReason::FlowTableFull`].
#[inline(always)]
pub fn newcomer<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> Result<(), DropReason> {
    let pressure = snapshot.tables.pressure();
    if pressure == Pressure::None || case.from.is_gateway() {
        return Ok(());
    }
    if pressure >= Pressure::Crowded && snapshot.tables.has_most(case.device) {
        return Err(DropReason::FlowQuota);
    }
    if pressure == Pressure::Reserved && !case.to.is_gateway() {
        return Err(DropReason::FlowTableFull);
    }
    let may_open = if case.from.is_outside() && case.datagram.protocol == protocol::TCP {
        change(genuine(snapshot, case)?, |source| source.spend_newcomer(case.now))
    } else {
        snapshot.tables.may_open(case.device, case.now)
    };
    if may_open { Ok(()) } else { Err(DropReason::NewFlowLimit) }
}

/// Whether a TCP connection from outside, which the policy allows, would be refused by [`newcomer`] for what its sender is
/// or does. Nothing is spent.
///
/// # Errors
/// [`DropReason::SynChallenged`], [`DropReason::NewFlowLimit`].
#[inline(always)]
pub fn early<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> Result<(), DropReason> {
    if snapshot.tables.pressure() == Pressure::None || genuine(snapshot, case)?.get().has_newcomers(case.now)
    {
        Ok(())
    } else {
        Err(DropReason::NewFlowLimit)
    }
}

/// The sender of a TCP packet from outside, if they are known to be there.
///
/// # Errors
/// [`DropReason::SynChallenged`].
#[inline(always)]
fn genuine<'a, A: Address, T: Tables>(
    snapshot: &Snapshot<'a, T>,
    case: &Case<A>,
) -> Result<T::Genuine<'a>, DropReason> {
    let known = snapshot.tables.genuine(case.datagram.src.ip());
    known.filter(|known| known.get().is_believed(case.now)).ok_or(DropReason::SynChallenged)
}

#[inline(always)]
fn change<R>(source: impl Deref<Target = Cell<Genuine>>, change: impl FnOnce(&mut Genuine) -> R) -> R {
    let mut changed = source.get();
    let result = change(&mut changed);
    source.set(changed);
    result
}

/// Notes that a flow which was opened by the packet of `opener` has come about: it is given back to whom it was counted
/// against.
#[inline(always)]
pub fn established<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, opener: &FlowKey<A>, now: u32) {
    let device = opener.origin.ifindex();
    let is_challenged = opener.origin.protocol() == protocol::TCP && snapshot.uplink(device).is_some();
    let source = if is_challenged { snapshot.tables.genuine(opener.src.ip()) } else { None };
    match source {
        Some(source) => change(source, |source| source.give_newcomer_back(now)),
        None => snapshot.tables.established(device, now),
    }
}

/// Whether the packet of `case`, from outside, is the answer to a challenge; its sender is known from now on. A function of
/// its own in the kernel too, for the stack's sake.
#[inline(never)]
pub fn answers<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> bool {
    let Some(segment) = case.datagram.message.tcp() else { return false };
    if !segment.has(Segment::RST) || snapshot.tables.pressure() == Pressure::None {
        return false;
    }
    let (tuple, era) = (case.key.tuple(), case.now >> ERA_BITS);
    let secret = snapshot.tables.secret();
    let is_right = segment.seq == number(secret, &tuple, era)
        || segment.seq == number(secret, &tuple, era.wrapping_sub(1));
    if is_right {
        let source = case.datagram.src.ip();
        match snapshot.tables.genuine(source) {
            // An answer that is given again is no way to a new budget.
            Some(known) => change(known, |known| known.renew(case.now)),
            None => snapshot.tables.believe(source, case.now),
        }
    }
    is_right
}

/// The number that challenges the SYN of `case`.
#[inline(always)]
pub fn challenge<A: Address, T: Tables>(snapshot: &Snapshot<'_, T>, case: &Case<A>) -> u32 {
    number(snapshot.tables.secret(), &case.key.tuple(), case.now >> ERA_BITS)
}

/// The number for a tuple in an era. A function of its own in the kernel too, for the stack's sake.
#[inline(never)]
fn number<A: Address>(secret: [u64; 2], tuple: &Tuple<A>, era: u32) -> u32 {
    let double = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let ([a, b, c, d], [e, f, g, h]) = (tuple.src.ip().words(), tuple.dst.ip().words());
    let words = [double(a, b), double(c, d), double(e, f), double(g, h), double(tuple.ports.to_bits(), era)];
    siphash(secret, words) as u32
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of five words.
#[inline(always)]
fn siphash([low, high]: [u64; 2], words: [u64; 5]) -> u64 {
    /// The length in bytes, in the highest one of the last word.
    const LENGTH: u64 = 40 << 56;
    let mut state = [
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ];
    for word in words.into_iter().chain([LENGTH]) {
        state[3] ^= word;
        state = round(round(state));
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    let [a, b, c, d] = round(round(round(round(state))));
    a ^ b ^ c ^ d
}

/// A round of SipHash.
#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use super::*;

    #[test]
    #[expect(deprecated, reason = "the standard library's own SipHash-2-4 takes keys")]
    fn it_is_siphash() {
        let words = [1, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63, 77];
        for keys in [[0, 0], [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], [u64::MAX, 3]] {
            let mut hasher = std::hash::SipHasher::new_with_keys(keys[0], keys[1]);
            words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
            assert_eq!(siphash(keys, words), hasher.finish());
        }
    }
}
