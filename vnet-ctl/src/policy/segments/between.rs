//! That no two networks want the same frames, and that what one leads to is not inside another.

use std::{collections::BTreeMap, ops::Range};

use super::{
    super::{Mistake, Network, diagnostic::Finding, overlaps::Claimed, section::Report},
    Lan, Places, Segments, tags,
};

/// Records what two networks cannot both have, and peers that are workloads; returns where the peers are.
pub(in super::super) fn check_segments(
    mut segments: Segments<'_>,
    subnets: &[Claimed<'_>],
    networks: &BTreeMap<String, Network>,
    report: &mut Report,
) -> Places {
    segments.lans.sort_by_key(|lan| lan.place.start);
    segments.vnis.sort_by_key(|(_, place, _)| place.start);
    report_lans(&segments.lans, report);
    report_shared(&segments, report);
    let mut vnis: BTreeMap<u32, (&Range<usize>, &str)> = BTreeMap::new();
    for (vni, place, network) in &segments.vnis {
        if let Some((first, owner)) = vnis.get(vni) {
            let message = format!("VNI {vni} is that of network `{owner}` already");
            let finding =
                Finding::new(place.clone(), Mistake::new(message).help("give each network its own"));
            report.errors.push(finding.related((*first).clone(), format!("network `{owner}` has it")));
            continue;
        }
        vnis.insert(*vni, (place, network));
    }
    let mut places = Places::new();
    for (peer, place, network) in segments.peers {
        places.insert((network.to_owned(), peer), place.clone());
        let inside = subnets.iter().find(|subnet| {
            subnet.net.contains(&peer) && networks.get(subnet.network).is_none_or(Network::is_routed_here)
        });
        let Some(Claimed { net, place: there, network: owner, .. }) = inside else { continue };
        let message = format!("the peer {peer} is in the subnet {net} of network `{owner}`, not outside");
        let help = "`peers` takes addresses that other hosts have on the way to them";
        let finding = Finding::new(place, Mistake::new(message).help(help));
        report.errors.push(finding.related(there.clone(), format!("network `{owner}` has it")));
    }
    places
}

/// Records each network that wants frames of a LAN that an earlier one takes.
fn report_lans(lans: &[Lan<'_>], report: &mut Report) {
    let mut taken: BTreeMap<(&str, &[u16]), &Lan<'_>> = BTreeMap::new();
    for lan in lans {
        let (trunk, vlan) = (lan.trunk.as_str(), lan.vlan.as_slice());
        let same = taken.get(&(trunk, vlan)).copied();
        let overlapping = || match vlan {
            // Prefixes come before what they begin: the first behind a tag alone is a pair with it, if there is any.
            [tag] => taken
                .range((trunk, vlan)..)
                .next()
                .filter(|((device, vlan), _)| *device == trunk && vlan.first() == Some(tag))
                .map(|(_, lan)| *lan),
            [outer, _] => taken.get(&(trunk, &[*outer][..])).copied(),
            _ => None,
        };
        match same.or_else(overlapping) {
            Some(owner) => report.errors.push(collision(owner, lan)),
            None => _ = taken.insert((trunk, vlan), lan),
        }
    }
}

fn collision(owner: &Lan<'_>, wanted: &Lan<'_>) -> Finding {
    let (trunk, first) = (&wanted.trunk, owner.network);
    let (message, help) = match (&owner.vlan[..], &wanted.vlan[..]) {
        (_, []) => (
            format!("network `{first}` is bridged to `{trunk}` without a tag already"),
            "give one of them a `vlan` or another uplink, or put all ports into one of them",
        ),
        ([_], [outer, _]) => (
            format!("the outer tag {outer} on `{trunk}` is the VLAN of network `{first}` already"),
            "choose an outer tag that no network has as its only one",
        ),
        ([_, _], [tag]) => (
            format!("VLAN {tag} on `{trunk}` is the outer tag of network `{first}` already"),
            "choose a VLAN that is no network's outer tag",
        ),
        (owned, _) => (
            format!("VLAN {} on `{trunk}` is that of network `{first}` already", tags(owned)),
            "give each network its own, or another trunk",
        ),
    };
    let finding = Finding::new(wanted.place.clone(), Mistake::new(message).help(help));
    finding.related(owner.place.clone(), format!("network `{first}` has it"))
}

/// Records untagged bridged networks whose uplink is another network's way out, too.
fn report_shared(segments: &Segments<'_>, report: &mut Report) {
    for Lan { trunk, place, network, .. } in segments.lans.iter().filter(|lan| lan.vlan.is_empty()) {
        let uses = |(uplink, ..): &&(String, Range<usize>, &str)| uplink == trunk;
        let Some((_, there, user)) = segments.uplinks.iter().find(uses) else { continue };
        let message =
            format!("network `{network}` is bridged to `{trunk}`, by which network `{user}` leaves");
        let help = format!(
            "give `{network}` a `vlan` or another uplink, or make `{user}` bridged as well, with a `vlan` of `{trunk}`"
        );
        let finding = Finding::new(place.clone(), Mistake::new(message).help(help));
        report.errors.push(finding.related(there.clone(), format!("the uplink of network `{user}`")));
    }
}
