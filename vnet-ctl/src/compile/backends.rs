//! Which backend of a list gets which of the slots that flows fall on.
//!
//! Each has as many slots as its weight gives it, and those that suit it best by rendezvous hashing (Thaler and
//! Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998), so lists that differ in one backend hardly
//! differ in who of the others has what. It takes the place of the permutations of Maglev (Eisenbud et al., Maglev: A
//! Fast and Reliable Software Network Load Balancer, NSDI 2016, section 3.4), which promise the same: with as few slots
//! as here, a third to a half fewer of them move between backends that stay.

use crate::policy::fnv1a;

/// How many slots a list has: its backends' parts are right to one in 251. A side of the datapath's table has room for
/// 256 such lists. A prime number, for no pattern in what flows are told apart by may meet one in the slots.
pub(super) const SLOTS: u16 = 251;

/// Who of `backends`, by index, has each slot; they have names and weights. Nobody has any if no weight is above 0.
/// Their order says nothing.
pub(super) fn slots(backends: &[(&str, u8)]) -> Vec<usize> {
    let mut left = parts(backends);
    let mut wishes = Vec::new();
    for (index, (name, weight)) in backends.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
        let seed = fnv1a(name.bytes());
        wishes.extend((0..SLOTS).map(|slot| (score(seed, slot, *weight), slot, index)));
    }
    wishes.sort_unstable_by_key(|(score, slot, index)| (*score, *slot, backends[*index].0));
    let mut slots = vec![None; usize::from(SLOTS)];
    for (_, slot, index) in wishes {
        let owner = &mut slots[usize::from(slot)];
        if owner.is_none() && left[index] > 0 {
            *owner = Some(index);
            left[index] -= 1;
        }
    }
    slots.into_iter().flatten().collect()
}

/// How many slots each of `backends` has: the nearest to its part of all weights, at least one unless it drains.
fn parts(backends: &[(&str, u8)]) -> Vec<u32> {
    let slots = u32::from(SLOTS);
    let all: u32 = backends.iter().map(|(_, weight)| u32::from(*weight)).sum();
    if all == 0 {
        return vec![0; backends.len()];
    }
    let exact = |weight: u8| u32::from(weight) * slots;
    let mut parts: Vec<u32> = backends
        .iter()
        .map(|(_, weight)| if *weight == 0 { 0 } else { (exact(*weight) / all).max(1) })
        .collect();
    // The largest remainders come first; those with one slot for less than one have had theirs.
    let mut order: Vec<usize> =
        (0..backends.len()).filter(|index| exact(backends[*index].1) >= all).collect();
    order.sort_by_key(|index| {
        let (name, weight) = backends[*index];
        (std::cmp::Reverse(exact(weight) % all), name)
    });
    let given: u32 = parts.iter().sum();
    for index in order.iter().cycle().take(slots.saturating_sub(given) as usize) {
        parts[*index] += 1;
    }
    for _ in slots..given {
        let largest = (0..parts.len()).max_by_key(|index| (parts[*index], backends[*index].0));
        largest.into_iter().for_each(|index| parts[index] -= 1);
    }
    parts
}

/// How badly a slot suits whoever has `seed`: the least of as many numbers as their weight is, so that twice the weight
/// is as good as two backends.
fn score(seed: u64, slot: u16, weight: u8) -> u64 {
    let number = |draw: u8| spread(seed, u64::from(draw) * u64::from(SLOTS) + u64::from(slot));
    (0..weight).map(number).min().unwrap_or(u64::MAX)
}

/// The number at `place` of the sequence that begins with `seed`: SplitMix64 (Steele et al., Fast Splittable
/// Pseudorandom Number Generators, OOPSLA 2014).
const fn spread(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Backends `b0`, `b1` and so on.
    fn named(weights: &[u8]) -> Vec<(String, u8)> {
        weights.iter().enumerate().map(|(index, weight)| (format!("b{index}"), *weight)).collect()
    }

    /// The names of who has each slot.
    fn owners(backends: &[(String, u8)]) -> Vec<String> {
        let backends: Vec<_> = backends.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        slots(&backends).into_iter().map(|index| backends[index].0.to_owned()).collect()
    }

    fn count(owners: &[String], name: &str) -> usize {
        owners.iter().filter(|owner| *owner == name).count()
    }

    /// How many of a hundred slots have gone from one to another, neither of which is `name`.
    fn moved(before: &[String], after: &[String], name: &str) -> f64 {
        let is_moved = |(a, b): &(&String, &String)| a != b && *a != name && *b != name;
        before.iter().zip(after).filter(is_moved).count() as f64 * 100.0 / f64::from(SLOTS)
    }

    #[test]
    fn every_slot_is_somebodys_in_proportion_to_the_weights() {
        for weights in
            [&[1][..], &[1, 1], &[1, 1, 1], &[3, 1], &[100, 1, 50], &[7, 0, 2], &[1; 64], &[100, 100, 1]]
        {
            let backends = named(weights);
            let owners = owners(&backends);
            assert_eq!(owners.len(), usize::from(SLOTS), "{weights:?}");
            let all: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            for (name, weight) in &backends {
                let exact = f64::from(*weight) * f64::from(SLOTS) / f64::from(all);
                let has = count(&owners, name) as f64;
                assert!((has - exact).abs() < 1.0, "{weights:?}: {name} has {has} for {exact}");
            }
        }
    }

    #[test]
    fn the_least_weight_has_a_slot_and_none_has_none() {
        let mut weights = [100; 64];
        (weights[5], weights[6]) = (1, 0);
        let owners = owners(&named(&weights));
        assert_eq!((count(&owners, "b5"), count(&owners, "b6"), owners.len()), (1, 0, usize::from(SLOTS)));
        assert!(slots(&[("a", 0), ("b", 0)]).is_empty() && slots(&[]).is_empty());
    }

    #[test]
    fn the_order_says_nothing() {
        let backends = named(&[1, 2, 3, 4]);
        let mut turned = backends.clone();
        turned.reverse();
        assert_eq!(owners(&backends), owners(&turned));
    }

    /// In 100 slots: those that move although they need not, for one backend more or less, or of another weight.
    #[test]
    fn a_backend_comes_and_goes_and_the_others_keep_their_slots() {
        for (backends, most) in
            [(1, 0.0), (2, 3.0), (3, 3.0), (4, 5.0), (8, 5.0), (16, 6.0), (32, 8.0), (63, 10.0)]
        {
            let (mut all, mut worst) = (0.0_f64, 0.0_f64);
            for trial in 0..8_usize {
                let weights: Vec<u8> = (0..backends).map(|index| [1, 1, 2, 5][(index + trial) % 4]).collect();
                let before: Vec<_> = named(&weights)
                    .into_iter()
                    .map(|(name, weight)| (format!("{trial}-{name}"), weight))
                    .collect();
                let mut after = before.clone();
                after.push((format!("{trial}-new"), 1 + trial as u8 % 3));
                let new = after[backends].0.clone();
                let found = moved(&owners(&before), &owners(&after), &new);
                (all, worst) = (all + found, worst.max(found));
                // A weight that changes is a part that comes.
                let mut heavier = before.clone();
                heavier[0].1 *= 2;
                worst = worst.max(moved(&owners(&before), &owners(&heavier), &before[0].0));
            }
            println!("{backends} backends: {:.1} of 100 on average, {worst:.1} at most", all / 8.0);
            assert!(worst <= most, "{backends} backends: {worst:.1} of 100");
        }
    }
}
