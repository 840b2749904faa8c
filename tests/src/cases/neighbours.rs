//! ARP (RFC 826, 5227) and neighbour discovery (RFC 4861, 4862): vnet answers, nobody lies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vnet_common::{Delivery, DropReason, MacAddr};

use super::{
    frame::{ICMPV6, carried, ether, packet_with_ttl},
    step::{Case, Entry, from, host, to},
    tcp::http,
    world::{A, B, C, Device, G, Party, T, Version},
};

pub(super) const REQUEST: u8 = 1;
pub(super) const REPLY: u8 = 2;
pub(super) const NO_MAC: MacAddr = MacAddr([0; 6]);
pub(super) const NO_ADDR: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
pub(super) const NO_ADDR_V6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
pub(super) const SOURCE_LINK: u8 = 1;
pub(super) const TARGET_LINK: u8 = 2;
/// RFC 3971 section 5.3.2; Linux puts it into its probes (RFC 7527).
pub(super) const NONCE: u8 = 14;

pub(super) fn cases() -> Vec<Case> {
    [arp_answers(), arp_lies(), discovery_answers(), discovery_lies(), probes()].concat()
}

pub(super) fn arp(
    dst: MacAddr,
    operation: u8,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, addr) in [sender, target] {
        body.extend_from_slice(&mac.0);
        body.extend_from_slice(&addr.octets());
    }
    ether(sender.0, dst, 0x0806, &body)
}

pub(super) fn who_has(asker: &Party, wanted: Ipv4Addr) -> Vec<u8> {
    arp(MacAddr::BROADCAST, REQUEST, (asker.mac, asker.v4), (NO_MAC, wanted))
}

/// An announcement of one's own address (RFC 5227 section 3).
pub(super) fn gratuitous_arp(party: &Party) -> Vec<u8> {
    who_has(party, party.v4)
}

/// Back to the port `asker`, or up the host's stack.
pub(super) fn back_to(asker: &Party) -> (Device, Delivery) {
    let delivery = if asker.device == Device::W { Delivery::Host } else { Delivery::Device };
    (asker.device, delivery)
}

fn arp_answers() -> Vec<Case> {
    let is_at =
        |party: &Party, asker: &Party| arp(asker.mac, REPLY, (party.mac, party.v4), (asker.mac, asker.v4));
    let case = |name: &str, entry: Entry, asker: &Party, wanted: &Party| {
        Case::new(name).sends(entry, who_has(asker, wanted.v4), back_to(asker), is_at(wanted, asker))
    };
    let probe = arp(MacAddr::BROADCAST, REQUEST, (A.mac, NO_ADDR), (NO_MAC, B.v4));
    let defence = arp(A.mac, REPLY, (B.mac, B.v4), (A.mac, NO_ADDR));
    let own_probe = arp(MacAddr::BROADCAST, REQUEST, (A.mac, NO_ADDR), (NO_MAC, A.v4));
    let odd = |at: usize, value: u8| {
        let mut frame = who_has(&A, B.v4);
        frame[14 + at] = value;
        frame
    };
    vec![
        case("arp_for_the_gateway_is_answered", from(&A), &A, &G),
        case("arp_for_a_neighbour_is_answered", from(&A), &A, &B),
        case("arp_of_the_host_for_a_port_is_answered", host(&G), &G, &B),
        Case::new("an_arp_probe_for_a_taken_address_is_answered").sends(
            from(&A),
            probe,
            back_to(&A),
            defence,
        ),
        Case::new("arp_about_oneself_goes_to_the_host_alone")
            .switches(from(&A), gratuitous_arp(&A), &G)
            .switches(from(&A), own_probe, &G)
            .switches(from(&A), arp(MacAddr::BROADCAST, REPLY, (A.mac, A.v4), (A.mac, A.v4)), &G)
            .switches(from(&A), arp(G.mac, REPLY, (A.mac, A.v4), (G.mac, G.v4)), &G)
            .passes(host(&G), gratuitous_arp(&G))
            .passes(to(&B), gratuitous_arp(&A)),
        Case::new("arp_for_nobody_is_dropped")
            .drops(from(&A), who_has(&A, Ipv4Addr::new(10, 0, 0, 99)), DropReason::UnknownNeighbour)
            .drops(from(&A), who_has(&A, C.v4), DropReason::UnknownNeighbour)
            .drops(host(&G), who_has(&G, Ipv4Addr::new(10, 0, 0, 99)), DropReason::UnknownNeighbour),
        Case::new("arp_for_anything_but_ipv4_over_ethernet_is_malformed")
            .drops(from(&A), odd(1, 6), DropReason::MalformedHeader)
            .drops(from(&A), odd(3, 1), DropReason::MalformedHeader)
            .drops(from(&A), odd(4, 8), DropReason::MalformedHeader)
            .drops(from(&A), odd(5, 16), DropReason::MalformedHeader)
            .drops(from(&A), odd(7, 3), DropReason::MalformedHeader),
    ]
}

fn arp_lies() -> Vec<Case> {
    // The Ethernet source is right in all of these; the claim inside is not.
    let claim = |operation, mac: MacAddr, addr| {
        let mut frame = arp(MacAddr::BROADCAST, operation, (mac, addr), (NO_MAC, addr));
        frame[6..12].copy_from_slice(&A.mac.0);
        frame
    };
    let mut case = Case::new("an_arp_claim_that_is_not_the_ports_own_is_dropped");
    for operation in [REQUEST, REPLY] {
        for (mac, addr) in [(A.mac, G.v4), (A.mac, B.v4), (B.mac, A.v4), (G.mac, G.v4), (B.mac, B.v4)] {
            case = case.drops(from(&A), claim(operation, mac, addr), DropReason::SpoofedArp);
        }
    }
    let outside = claim(REPLY, A.mac, Ipv4Addr::new(203, 0, 113, 1));
    vec![
        case.drops(from(&A), outside, DropReason::SpoofedArp).drops(
            from(&A),
            claim(REPLY, A.mac, NO_ADDR),
            DropReason::SpoofedArp,
        ),
        super::tcp::established("an_arp_lie_is_dropped_with_flows_established_too", &http(Version::V4))
            .drops(from(&A), claim(REPLY, A.mac, B.v4), DropReason::SpoofedArp)
            .drops(from(&A), claim(REPLY, A.mac, G.v4), DropReason::SpoofedArp)
            .drops(from(&B), gratuitous_arp(&A), DropReason::SpoofedMac),
        Case::new("an_arp_frame_from_another_mac_is_dropped")
            .drops(from(&A), gratuitous_arp(&B), DropReason::SpoofedMac)
            .drops(from(&A), gratuitous_arp(&G), DropReason::SpoofedMac),
        Case::new("the_host_may_not_claim_a_ports_address_either").drops(
            host(&G),
            arp(MacAddr::BROADCAST, REPLY, (G.mac, B.v4), (NO_MAC, B.v4)),
            DropReason::SpoofedArp,
        ),
    ]
}

/// A neighbour message as it is put together; each field may lie.
#[derive(Clone)]
pub(super) struct Message<'a> {
    pub(super) eth: (MacAddr, MacAddr),
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) target: Ipv6Addr,
    pub(super) options: &'a [(u8, [u8; 6])],
    pub(super) hop_limit: u8,
}

impl Message<'_> {
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut body = vec![self.kind, 0, 0, 0, self.flags, 0, 0, 0];
        body.extend_from_slice(&self.target.octets());
        for (kind, value) in self.options {
            body.extend_from_slice(&[*kind, 1]);
            body.extend_from_slice(value);
        }
        let (src, dst) = self.eth;
        let (from, to): (IpAddr, IpAddr) = (self.src.into(), self.dst.into());
        carried(src, dst, &packet_with_ttl(self.hop_limit, from, to, ICMPV6, &body))
    }
}

/// The group in which `addr` listens for solicitations (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

pub(super) fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The question of `asker`, who calls itself `src`, for `target`.
pub(super) fn solicit<'a>(
    asker: &Party,
    src: Ipv6Addr,
    target: Ipv6Addr,
    options: &'a [(u8, [u8; 6])],
) -> Message<'a> {
    let group = solicited_node(target);
    Message {
        eth: (asker.mac, group_mac(group)),
        src,
        dst: group,
        kind: SOLICITATION,
        flags: 0,
        target,
        options,
        hop_limit: 255,
    }
}

/// The announcement of `speaker`, who calls itself `src`, that `target` is here.
pub(super) fn announce<'a>(
    speaker: &Party,
    src: Ipv6Addr,
    target: Ipv6Addr,
    options: &'a [(u8, [u8; 6])],
) -> Message<'a> {
    let eth = (speaker.mac, group_mac(ALL_NODES));
    Message { eth, src, dst: ALL_NODES, kind: ADVERTISEMENT, flags: 0x20, target, options, hop_limit: 255 }
}

/// What vnet answers to `asker`, who calls itself `src`: `target` is at `owner`'s MAC.
pub(super) fn advert(
    owner: &Party,
    asker: &Party,
    (src, target): (Ipv6Addr, Ipv6Addr),
    has_option: bool,
) -> Vec<u8> {
    const SOLICITED_OVERRIDE: u8 = 0x60;
    const ROUTER: u8 = 0x80;
    let option = [(TARGET_LINK, owner.mac.0)];
    Message {
        eth: (owner.mac, asker.mac),
        src: target,
        dst: src,
        kind: ADVERTISEMENT,
        flags: if owner.device == Device::W { ROUTER | SOLICITED_OVERRIDE } else { SOLICITED_OVERRIDE },
        target,
        options: if has_option { &option } else { &[] },
        hop_limit: 255,
    }
    .frame()
}

fn discovery_answers() -> Vec<Case> {
    let case = |name: &str, entry, asker: &Party, src, (owner, target): (&Party, Ipv6Addr)| {
        let question = solicit(asker, src, target, &[(SOURCE_LINK, asker.mac.0)]).frame();
        Case::new(name).sends(entry, question, back_to(asker), advert(owner, asker, (src, target), true))
    };
    // Neighbour unreachability detection: unicast, and no need to tell one's MAC.
    let unreachability = Message { eth: (A.mac, B.mac), dst: B.v6, ..solicit(&A, A.v6, B.v6, &[]) }.frame();
    let nobody = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99);
    let own = [(SOURCE_LINK, A.mac.0)];
    vec![
        case("discovery_of_the_gateway_is_answered", from(&A), &A, A.v6, (&G, G.v6)),
        case("discovery_of_the_gateways_link_local", from(&A), &A, A.link_local(), (&G, G.link_local())),
        case("discovery_of_a_neighbour_is_answered", from(&A), &A, A.v6, (&B, B.v6)),
        case("discovery_of_a_neighbours_link_local", from(&A), &A, A.link_local(), (&B, B.link_local())),
        case("discovery_of_a_port_by_the_host_is_answered", host(&G), &G, G.v6, (&T, T.v6)),
        case("discovery_by_the_hosts_link_local", host(&G), &G, G.link_local(), (&T, T.link_local())),
        Case::new("a_question_without_option_is_answered_without").sends(
            from(&A),
            unreachability,
            back_to(&A),
            advert(&B, &A, (A.v6, B.v6), false),
        ),
        Case::new("discovery_of_nobody_is_dropped")
            .drops(from(&A), solicit(&A, A.v6, nobody, &own).frame(), DropReason::UnknownNeighbour)
            .drops(from(&A), solicit(&A, A.v6, C.v6, &own).frame(), DropReason::UnknownNeighbour),
        Case::new("announcements_of_oneself_go_to_the_host_alone")
            .switches(from(&A), announce(&A, A.v6, A.v6, &[(TARGET_LINK, A.mac.0)]).frame(), &G)
            .switches(from(&A), announce(&A, A.link_local(), A.v6, &[(TARGET_LINK, A.mac.0)]).frame(), &G)
            .switches(from(&A), announce(&A, A.v6, A.v6, &[]).frame(), &G)
            .passes(host(&G), announce(&G, G.v6, G.v6, &[(TARGET_LINK, G.mac.0)]).frame())
            .passes(to(&B), announce(&A, A.v6, A.v6, &[(TARGET_LINK, A.mac.0)]).frame()),
    ]
}

fn discovery_lies() -> Vec<Case> {
    let link = |mac: MacAddr| [(TARGET_LINK, mac.0)];
    let (own, others, gateways) = (link(A.mac), link(B.mac), link(G.mac));
    let hidden = [(NONCE, [1, 2, 3, 4, 5, 6]), (TARGET_LINK, B.mac.0)];
    let spoofed = |name: &str, messages: Vec<Message<'_>>| {
        messages.into_iter().fold(Case::new(name), |case, message| {
            case.drops(from(&A), message.frame(), DropReason::SpoofedNeighbour)
        })
    };
    let mut wrong_length = announce(&A, A.v6, A.v6, &own).frame();
    wrong_length[14 + 40 + 25] = 2;
    vec![
        spoofed(
            "an_announcement_of_anothers_address_is_dropped",
            vec![
                announce(&A, A.v6, B.v6, &own),
                announce(&A, A.v6, G.v6, &own),
                announce(&A, A.v6, G.link_local(), &own),
                announce(&A, B.v6, B.v6, &own),
                announce(&A, A.v6, G.v6, &[]),
                announce(&A, A.v6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9), &own),
            ],
        ),
        spoofed(
            "an_announcement_of_anothers_mac_is_dropped",
            vec![announce(&A, A.v6, A.v6, &others), announce(&A, A.v6, A.v6, &gateways)],
        ),
        spoofed(
            "a_question_that_claims_anothers_mac_or_address_is_dropped",
            vec![
                solicit(&A, A.v6, B.v6, &[(SOURCE_LINK, G.mac.0)]),
                solicit(&A, B.v6, G.v6, &[(SOURCE_LINK, A.mac.0)]),
                solicit(&A, G.link_local(), B.v6, &[(SOURCE_LINK, A.mac.0)]),
            ],
        ),
        spoofed(
            "a_claim_behind_another_option_is_dropped",
            vec![announce(&A, A.v6, A.v6, &hidden), solicit(&A, A.v6, B.v6, &hidden)],
        ),
        super::tcp::established(
            "an_unsolicited_lie_is_dropped_with_flows_established_too",
            &http(Version::V6),
        )
        .drops(from(&A), announce(&A, A.v6, B.v6, &own).frame(), DropReason::SpoofedNeighbour)
        .drops(from(&A), announce(&A, A.v6, G.v6, &own).frame(), DropReason::SpoofedNeighbour),
        Case::new("discovery_of_an_ipv4_address_is_malformed").drops(
            from(&A),
            solicit(&A, A.v6, B.v4.to_ipv6_mapped(), &[]).frame(),
            DropReason::MalformedHeader,
        ),
        Case::new("a_neighbour_message_from_another_mac_is_dropped").drops(
            from(&A),
            announce(&B, B.v6, B.v6, &others).frame(),
            DropReason::SpoofedMac,
        ),
        Case::new("a_neighbour_message_that_was_routed_is_malformed")
            .drops(
                from(&A),
                Message { hop_limit: 254, ..announce(&A, A.v6, A.v6, &own) }.frame(),
                DropReason::MalformedHeader,
            )
            .drops(
                from(&A),
                Message { hop_limit: 64, ..solicit(&A, A.v6, B.v6, &[]) }.frame(),
                DropReason::MalformedHeader,
            ),
        Case::new("a_neighbour_message_about_a_group_is_malformed").drops(
            from(&A),
            announce(&A, A.v6, ALL_NODES, &own).frame(),
            DropReason::MalformedHeader,
        ),
        Case::new("a_link_layer_address_of_another_length_is_malformed").drops(
            from(&A),
            wrong_length,
            DropReason::MalformedHeader,
        ),
    ]
}

fn probes() -> Vec<Case> {
    let nonce = [(NONCE, [1, 2, 3, 4, 5, 6])];
    let probe = |party: &Party, target| solicit(party, NO_ADDR_V6, target, &nonce).frame();
    vec![
        Case::new("a_probe_for_ones_own_address_passes")
            .switches(from(&A), probe(&A, A.v6), &G)
            .switches(from(&A), probe(&A, A.link_local()), &G)
            .switches(from(&A), solicit(&A, NO_ADDR_V6, A.v6, &[]).frame(), &G)
            .passes(host(&G), probe(&G, G.link_local())),
        Case::new("a_probe_for_anothers_address_is_dropped")
            .drops(from(&A), probe(&A, B.v6), DropReason::SpoofedNeighbour)
            .drops(from(&A), probe(&A, G.v6), DropReason::SpoofedNeighbour),
    ]
}
