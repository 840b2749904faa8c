//! Behind stage 1: which datagram a fragment is part of.
//!
//! Decides whether a fragment goes on, and as part of which flow: only the first fragment of a datagram has ports,
//! so those that arrive after it are told by what is remembered of it, and those that arrive before it are held back.
//! When the first one comes, all of them arrive once more, in order. No two fragments of a datagram overlap (RFC
//! 5722 for IPv6, RFC 1858 and 3128 for IPv4): after one that does, nothing of the datagram passes.

use core::cell::Cell;

use vnet_common::{Address, DropReason, Origin, V4, limits, mark, ticks_from_secs};

use crate::{
    case::Case,
    fragments::{Arrived, DatagramKey, Fragment, Fragmented, Held},
    headers::Kind,
    packet::Packet,
    tables::{FlowTable, Tables},
    word,
};

/// Seconds after which what is left of a datagram is forgotten: as in Linux (`ipfrag_time`). RFC 791 section 3.2
/// suggests 15, RFC 8200 section 4.5 has 60.
const PATIENCE_SECS: u32 = 30;
/// How often another CPU is waited for: some microseconds, where a lock is held for less than one.
const LOCK_TRIES: u32 = 256;
/// How many records a datagram may be found in.
const WAYS: u32 = 8;

/// What becomes of a fragment.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The datagram is known: it goes on.
    Known,
    /// It is held back until its first fragment comes.
    Held,
    /// It is the first one of a datagram that is held back: all have been sent on their way again.
    Again,
}

impl Followed {
    /// A result as a word.
    #[inline(always)]
    #[must_use]
    pub fn word_of(result: Result<Self, DropReason>) -> u32 {
        word::of(result.map(|followed| followed as u32))
    }

    /// From [`Followed::word_of`].
    ///
    /// # Errors
    /// What that was given.
    #[inline(always)]
    pub fn from_word(word: u32) -> Result<Self, DropReason> {
        match word::result(word)? {
            0 => Ok(Self::Known),
            1 => Ok(Self::Held),
            2 => Ok(Self::Again),
            _ => Err(DropReason::Internal),
        }
    }
}

/// Finds the datagram of the fragment in `case`, and what that is. Unless `may_hold`, a fragment is not waited for.
///
/// # Errors
/// [`DropReason::Fragment`], [`DropReason::FragmentOverlap`].
#[inline(always)]
pub fn follow<A: Address, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Followed, DropReason> {
    let group = case.device % limits::FRAGMENT_GROUPS;
    let lock = lock(tables, group)?;
    let followed = if packet.mark() == mark::AGAIN {
        packet.set_mark(0);
        recall(tables, group, case)
    } else {
        join(packet, tables, group, case, may_hold)
    };
    _ = FlowTable::<V4>::exchange(tables, lock, 1, 0);
    if followed == Ok(Followed::Again) {
        packet.arrive_again(case.device);
        arrive_again(packet, tables, group, case);
    }
    followed
}

/// Takes the lock of a group.
#[inline(always)]
fn lock<T: Tables>(tables: &T, group: u32) -> Result<&Cell<u32>, DropReason> {
    let lock = tables.fragment_lock(group).ok_or(DropReason::Internal)?;
    for _ in 0..LOCK_TRIES {
        if FlowTable::<V4>::exchange(tables, lock, 0, 1) {
            return Ok(lock);
        }
    }
    Err(DropReason::Fragment)
}

/// The key of the datagram that the fragment in `case` is part of.
#[inline(always)]
fn key<A: Address>(case: &Case<A>) -> DatagramKey {
    let Case { device, datagram, fragment, .. } = case;
    // The first fragment of an IPv6 datagram tells more of what follows than others do.
    let protocol = if A::IS_V4 { datagram.protocol } else { 0 };
    let origin = Origin::new(*device, protocol);
    DatagramKey { origin, id: fragment.id, src: datagram.src.ip(), dst: datagram.dst.ip() }
}

/// Enters a fragment that arrives for the first time.
#[inline(always)]
fn join<A: Address, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    group: u32,
    case: &mut Case<A>,
    may_hold: bool,
) -> Result<Followed, DropReason> {
    let (fragment, is_part) = (case.fragment, case.datagram.message.kind == Kind::Part);
    let found = of_datagram(tables, group, &key(case), case.now).ok_or(DropReason::Internal)?;
    if let Err(reason) = check_overlap(found, fragment) {
        if is_part && found.is(Fragmented::KNOWN) {
            tell(found, case);
        }
        return Err(reason);
    }
    let count = found.count.get();
    let Some(place) = found.arrived.get(count as usize) else { return Err(DropReason::Fragment) };
    let is_known = found.is(Fragmented::KNOWN);
    let mut stamp = 0;
    if is_part && !is_known {
        if !may_hold {
            return Err(DropReason::Fragment);
        }
        stamp = hold(packet, tables, group, case.now).ok_or(DropReason::Fragment)?;
        found.mark(Fragmented::HOLDS);
    }
    place.set(Arrived { start: fragment.start, end: fragment.end, stamp });
    found.count.set(count + 1);
    found.units.set(found.units.get() + u32::from(fragment.end - fragment.start));
    if fragment.is_last != 0 {
        found.whole.set(u32::from(fragment.end));
    }
    if found.units.get() == found.whole.get() {
        found.mark(Fragmented::WHOLE);
    }
    if stamp != 0 {
        return Ok(Followed::Held);
    }
    if is_part {
        tell(found, case);
        return Ok(Followed::Known);
    }
    found.ports.set(case.datagram.ports);
    found.protocol.set(u32::from(case.datagram.protocol));
    found.mark(Fragmented::KNOWN);
    Ok(if found.is(Fragmented::HOLDS) { Followed::Again } else { Followed::Known })
}

/// Finds again what a fragment belongs to that was held back.
#[inline(always)]
fn recall<A: Address, T: Tables>(tables: &T, group: u32, case: &mut Case<A>) -> Result<Followed, DropReason> {
    if case.datagram.message.kind != Kind::Part {
        return Ok(Followed::Known);
    }
    let found = known(tables, group, &key(case)).ok_or(DropReason::Fragment)?;
    if !found.is(Fragmented::KNOWN) || found.is(Fragmented::BROKEN) {
        return Err(DropReason::Fragment);
    }
    tell(found, case);
    Ok(Followed::Known)
}

/// Tells a fragment what its first one said.
#[inline(always)]
fn tell<A: Address>(found: &Fragmented, case: &mut Case<A>) {
    case.datagram.ports = found.ports.get();
    case.datagram.protocol = found.protocol.get() as u8;
}

/// The records in which a datagram may be found.
#[inline(always)]
fn places(key: &DatagramKey, group: u32) -> impl Iterator<Item = u32> {
    let start = key.src.digest() ^ key.dst.digest() ^ key.id;
    (0..WAYS).map(move |way| {
        group * limits::DATAGRAMS_IN_GROUP + start.wrapping_add(way) % limits::DATAGRAMS_IN_GROUP
    })
}

/// The record of a datagram of which a fragment has arrived.
#[inline(always)]
fn known<'a, T: Tables>(tables: &'a T, group: u32, key: &DatagramKey) -> Option<&'a Fragmented> {
    for place in places(key, group) {
        let found = tables.fragmented(place)?;
        if found.is(Fragmented::TAKEN) && found.key.get() == *key {
            return Some(found);
        }
    }
    None
}

/// The record of a datagram of which a fragment arrives; if it has none yet, a free one or the oldest.
#[inline(always)]
fn of_datagram<'a, T: Tables>(
    tables: &'a T,
    group: u32,
    key: &DatagramKey,
    now: u32,
) -> Option<&'a Fragmented> {
    let mut oldest: Option<(u32, u32)> = None;
    for place in places(key, group) {
        let found = tables.fragmented(place)?;
        let age = now.wrapping_sub(found.since.get());
        let is_over = !found.is(Fragmented::TAKEN)
            || found.is(Fragmented::WHOLE)
            || age >= ticks_from_secs(PATIENCE_SECS);
        if !is_over && found.key.get() == *key {
            return Some(found);
        }
        let age = if is_over { u32::MAX } else { age };
        if oldest.is_none_or(|(other, _)| other < age) {
            oldest = Some((age, place));
        }
    }
    let found = tables.fragmented(oldest?.1)?;
    found.key.set(*key);
    found.since.set(now);
    found.state.set(Fragmented::TAKEN);
    found.count.set(0);
    found.units.set(0);
    found.whole.set(0);
    Some(found)
}

/// Whether the fragment overlaps none that has arrived. One that has arrived already is dropped, and nothing else
/// (RFC 8200 section 4.5).
#[inline(always)]
fn check_overlap(found: &Fragmented, fragment: Fragment) -> Result<(), DropReason> {
    if found.is(Fragmented::BROKEN) {
        return Err(DropReason::FragmentOverlap);
    }
    for (number, other) in (0..).zip(&found.arrived) {
        if number >= found.count.get() {
            break;
        }
        let Arrived { start, end, .. } = other.get();
        if (start, end) == (fragment.start, fragment.end) {
            return Err(DropReason::Fragment);
        }
        if fragment.start < end && start < fragment.end {
            found.mark(Fragmented::BROKEN);
            return Err(DropReason::FragmentOverlap);
        }
    }
    Ok(())
}

/// Holds a frame back, in the place of the oldest one of its group; its stamp.
#[inline(always)]
fn hold<P: Packet, T: Tables>(packet: &P, tables: &T, group: u32, now: u32) -> Option<u32> {
    let next = tables.next_held(group)?;
    let number = next.get().wrapping_add(1);
    next.set(number);
    let held = held(tables, group, number)?;
    held.stamp.set(0);
    if !packet.save(&held.bytes) {
        return None;
    }
    held.len.set(packet.length());
    let stamp = stamp(number, now);
    held.stamp.set(stamp);
    Some(stamp)
}

/// The stamp of the `number`th frame that its group holds back: its place, and what tells it from earlier ones there.
#[inline(always)]
const fn stamp(number: u32, now: u32) -> u32 {
    (number & 0x00ff_ffff) | (now & 0x7f) << 24 | 1 << 31
}

#[inline(always)]
fn held<T: Tables>(tables: &T, group: u32, number: u32) -> Option<&Held> {
    tables.held(group * limits::HELD_IN_GROUP + number % limits::HELD_IN_GROUP)
}

/// Has the frames arrive again that are held back for the datagram in `case`. Nobody holds the lock: a frame whose
/// stamp is another one afterwards was overwritten meanwhile.
#[inline(always)]
fn arrive_again<A: Address, P: Packet, T: Tables>(packet: &mut P, tables: &T, group: u32, case: &Case<A>) {
    let Some(found) = known(tables, group, &key(case)) else { return };
    for arrived in &found.arrived {
        let stamp = arrived.get().stamp;
        if stamp == 0 {
            continue;
        }
        let Some(held) = held(tables, group, stamp & 0x00ff_ffff) else { return };
        if held.stamp.get() == stamp
            && packet.become_frame(&held.bytes, held.len.get())
            && held.stamp.get() == stamp
        {
            packet.arrive_again(case.device);
        }
    }
}
