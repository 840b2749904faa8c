use std::{net::Ipv4Addr, path::Path};

use smoltcp::wire::{DhcpMessageType, DhcpRepr};
use vnet_common::link;

use super::*;
use crate::{
    compile::{Bridge, assign},
    daemon::dhcp::tests::{ADDR, CLIENT, acknowledgement, bytes, message},
    policy::{NetworkKind, Segment, parse},
    state::{Learned, LearnedAddresses},
};

const LAN: u32 = 11;
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);

/// Two ports in a bridged network without subnets, one of which is DHCP's client.
fn view() -> View {
    let text = "version = 1\nnetworks.lan = { type = \"private\", subnets = [\"10.0.0.0/24\"] }\n\
                ports.guest = { network = \"lan\", mac = \"02:00:00:00:00:07\", attach = { netns = \"a\" } }\n\
                ports.other = { network = \"lan\", mac = \"02:00:00:00:00:08\", attach = { netns = \"b\" } }\n";
    let (mut policy, _) = parse(text, Path::new("p.toml")).unwrap();
    let network = policy.networks.get_mut("lan").unwrap();
    network.kind = NetworkKind::Bridged;
    network.segment = Some(Segment::Lan { trunk: "eth0".to_owned(), vlan: vec![], priority: None });
    network.subnets.clear();
    let mut view = View { assigned: assign(&policy, &Assigned::new()).unwrap(), ..View::default() };
    view.policy = policy.into();
    view.devices.bridges.insert("lan".to_owned(), Bridge { ifindex: LAN, mac: MacAddr([4; 6]) });
    view
}

fn learned(seen: &[Seen], known: LearnedAddresses) -> Vec<(String, String)> {
    let book = take_in(&view(), Book::new(known), seen, 100);
    let all = book.known.iter().flat_map(|(name, own)| own.iter().map(move |it| (name, it.address)));
    all.map(|(name, addr)| (name.clone(), addr.to_string())).collect()
}

fn to_port(network: u32, message: &DhcpRepr<'_>) -> Seen {
    Seen::DhcpToPort { network, message: bytes(message) }
}

fn from_port(mac: MacAddr, message: &DhcpRepr<'_>) -> Seen {
    Seen::DhcpFromPort { network: LAN, mac, message: bytes(message) }
}

fn has(name: &str, addr: Ipv4Addr) -> Vec<(String, String)> {
    vec![(name.to_owned(), addr.to_string())]
}

/// `guest` has a lease.
fn leased() -> LearnedAddresses {
    take_in(&view(), Book::default(), &[to_port(LAN, &acknowledgement())], 0).known
}

#[test]
fn a_claim_is_that_of_the_port_with_the_mac() {
    let claim = |network, mac| Seen::Claim { network, mac, addr: ADDR.into() };
    assert_eq!(learned(&[claim(LAN, OTHER), claim(LAN, OTHER)], LearnedAddresses::new()), has("other", ADDR));
    assert!(learned(&[claim(LAN + 1, OTHER)], LearnedAddresses::new()).is_empty(), "no such network");
    assert!(learned(&[claim(LAN, MacAddr([6; 6]))], LearnedAddresses::new()).is_empty(), "nobody's MAC");
}

#[test]
fn an_acknowledgement_is_for_the_client_that_it_names() {
    for network in [LAN, link::segment(LAN)] {
        let seen = to_port(network, &acknowledgement());
        assert_eq!(learned(&[seen], LearnedAddresses::new()), has("guest", ADDR));
    }
    let known = leased();
    let [Learned { lease_until_secs, .. }] = &known["guest"][..] else { panic!("{known:?}") };
    assert_eq!(*lease_until_secs, Some(600));
}

#[test]
fn a_workload_grants_and_denies_nobody_anything() {
    assert!(learned(&[from_port(CLIENT, &acknowledgement())], LearnedAddresses::new()).is_empty());
    assert!(learned(&[from_port(OTHER, &acknowledgement())], LearnedAddresses::new()).is_empty());
    let denial = message(DhcpMessageType::Nak);
    assert_eq!(learned(&[from_port(OTHER, &denial)], leased()), has("guest", ADDR));
    assert!(learned(&[to_port(LAN, &denial)], leased()).is_empty());
}

#[test]
fn nobody_gives_up_what_another_has() {
    let release = DhcpRepr { client_ip: ADDR, ..message(DhcpMessageType::Release) };
    assert_eq!(learned(&[from_port(OTHER, &release)], leased()), has("guest", ADDR));
    assert_eq!(learned(&[to_port(LAN, &release)], leased()), has("guest", ADDR));
    assert!(learned(&[from_port(CLIENT, &release)], leased()).is_empty());
}

#[test]
fn what_is_in_force_as_learned_can_move_by_a_lease() {
    // What the other one claims is in force by now.
    let claim = Seen::Claim { network: LAN, mac: OTHER, addr: ADDR.into() };
    let known = take_in(&view(), Book::default(), &[claim], 0).known;
    let mut view = view();
    view.assigned = super::super::learned::joined(&view.assigned, &known);
    view.learned.clone_from(&known);
    let book = take_in(&view, Book::new(known), &[to_port(LAN, &acknowledgement())], 1);
    assert_eq!(book.known.keys().collect::<Vec<_>>(), ["guest"], "{:?}", book.news);
}

#[test]
fn leases_end_though_nobody_says_anything() {
    let book = take_in(&view(), Book::new(leased()), &[], 600);
    assert!(book.known.is_empty());
    assert_eq!(book.news.len(), 1);
}
