//! More and more rules: iptables one after another, nft one after another, and the tables that are meant for
//! many: ipset, nft sets and verdict maps.
//!
//! The rules do one job: datagrams and connections from the client to the server's ports pass, everything else
//! is dropped. All but the last one name other clients, so a list is walked to its end. Linear lists judge
//! each packet. The tables come twice: judging each packet, and behind a rule for what is established, which
//! is what a stateful filter does.

use std::{fmt::Write as _, net::Ipv4Addr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use vnet_tests::Namespace;

use crate::{
    load::{CONNECTIONS, MANY, REQUESTS, STREAM, UDP},
    peers::{Counter, Group, Peer, Ready, bridge::ROUTER},
    place::Place,
    shell::{feed, sh},
};

/// How many rules.
pub(super) const COUNTS: [u32; 5] = [1, 100, 1000, 10_000, 100_000];

/// Clients and ports of the rules but the last one: 198.18.0.0/15 (RFC 2544), 250 ports each.
pub(super) fn decoys(count: u32) -> impl Iterator<Item = (Ipv4Addr, u16)> {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 1));
    (0..count.saturating_sub(1)).map(move |n| (Ipv4Addr::from(first + n / 250), 20_000 + (n % 250) as u16))
}

/// 100,000 as 100k, a million as 1M.
pub(super) fn thousands(count: u32) -> String {
    match count {
        ..1000 => count.to_string(),
        1000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// All of them but vnet.
pub(super) fn all() -> Vec<Peer> {
    let mut peers: Vec<Peer> =
        COUNTS.into_iter().flat_map(|count| [iptables(count), nft_linear(count)]).collect();
    for count in [1, 1000, 100_000] {
        peers.extend([
            ipset(count),
            nft_set(count, State::None),
            nft_set(count, State::Tracked),
            nft_map(count),
        ]);
    }
    peers.push(iptables_stateful(10_000));
    peers
}

/// Whether established connections pass before the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    Tracked,
}

/// The server's ports, as lists write them.
fn ports() -> String {
    format!("{UDP},{REQUESTS},{CONNECTIONS},{STREAM}")
}

fn peer(kind: &'static str, count: u32, what: &str, make: fn(&Namespace, u32) -> Result<Counter>) -> Peer {
    let set_up = move || routed(count, make);
    let name = format!("{kind} {}", thousands(count));
    Peer::new(Group::Rules, name, format!("routed, {count} rules: {what}"), Box::new(set_up))
        .with_rules(kind, count)
}

/// A router with rules.
fn routed(count: u32, make: fn(&Namespace, u32) -> Result<Counter>) -> Result<Ready> {
    let place = Place::new("version = 1\n")?;
    sh(place.switch(), ROUTER)?;
    let ends = place.two_subnets()?;
    let begin = Instant::now();
    let counted = make(place.switch(), count)?;
    let applied_s = Some(begin.elapsed().as_secs_f64());
    Ok(Ready { applied_s, counted: Some(counted), filters: true, ..Ready::without_rules(place, ends) })
}

fn iptables(count: u32) -> Peer {
    let make = |switch: &Namespace, count| legacy(switch, &linear(count, ""));
    peer("iptables", count, "iptables-legacy, one after another", make).needs(&["iptables-legacy-restore"])
}

/// As [`iptables`], behind a rule for what is established.
pub(super) fn iptables_stateful(count: u32) -> Peer {
    let make = |switch: &Namespace, count| {
        legacy(switch, &linear(count, "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n"))
    };
    let what = "iptables-legacy, one after another, established connections before them";
    peer("iptables stateful", count, what, make).needs(&["iptables-legacy-restore"])
}

/// `before`, the rules, and the one that lets the client in; answers pass by their source.
fn linear(count: u32, before: &str) -> String {
    let mut text =
        format!("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{before}");
    // Else the answers would walk the list too.
    text += "-A FORWARD -s 10.2.0.3/32 -j ACCEPT\n";
    for (address, port) in decoys(count) {
        let _ = writeln!(text, "-A FORWARD -s {address}/32 -p udp -m udp --dport {port} -j ACCEPT");
    }
    text + &last("-s 10.1.0.2/32 -d 10.2.0.3/32")
}

/// Lets the server's ports in from clients that `which` matches.
fn last(which: &str) -> String {
    let ports = ports();
    format!(
        "-A FORWARD {which} -p udp -m multiport --dports {ports} -j ACCEPT\n\
         -A FORWARD {which} -p tcp -m multiport --dports {ports} -j ACCEPT\nCOMMIT\n"
    )
}

fn legacy(switch: &Namespace, text: &str) -> Result<Counter> {
    feed(switch, &["iptables-legacy-restore"], text)?;
    let expected = text.lines().filter(|line| line.starts_with("-A")).count();
    let loaded = sh(switch, "iptables-legacy-save | grep -c '^-A'")?;
    ensure!(loaded.parse() == Ok(expected), "{loaded} of {expected} rules are there");
    Ok(legacy_counter(switch.clone(), ""))
}

/// The packets of all accepting rules of FORWARD, and of chains below, that mention `word`.
pub(super) fn legacy_counter(switch: Namespace, word: &'static str) -> Counter {
    Box::new(move || {
        let script = format!(
            "iptables-legacy-save -c -t filter | grep -- '-j ACCEPT' | grep -e '{word}' | cut -d: -f1 | tr -d '['"
        );
        let counts = sh(&switch, &script)?;
        counts.lines().map(|count| count.parse::<u64>().context("a counter")).sum()
    })
}

fn ipset(count: u32) -> Peer {
    let make = |switch: &Namespace, count| {
        let mut set = "create clients hash:ip,port hashsize 65536 maxelem 200000\n".to_owned();
        for (address, port) in decoys(count) {
            let _ = writeln!(set, "add clients {address},udp:{port}");
        }
        let _ = writeln!(set, "add clients 10.1.0.2,udp:{UDP}");
        for port in [REQUESTS, CONNECTIONS, STREAM] {
            let _ = writeln!(set, "add clients 10.1.0.2,tcp:{port}");
        }
        feed(switch, &["ipset", "restore"], &set)?;
        let text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                    -A FORWARD -s 10.2.0.3/32 -j ACCEPT\n-A FORWARD -m set --match-set clients src,dst -j ACCEPT\nCOMMIT\n";
        legacy(switch, text)
    };
    peer("ipset", count, "iptables-legacy with one hash:ip,port", make)
        .needs(&["iptables-legacy-restore", "ipset"])
}

fn nft_linear(count: u32) -> Peer {
    let make = |switch: &Namespace, count| {
        let mut rules = String::new();
        for (address, port) in decoys(count) {
            let _ = writeln!(rules, "ip saddr {address} udp dport {port} accept");
        }
        let ports = nft_ports();
        let _ = writeln!(
            rules,
            "ip saddr 10.1.0.2 ip daddr 10.2.0.3 meta l4proto {{ tcp, udp }} th dport {{ {ports} }} counter accept"
        );
        nft(switch, "", &rules)
    };
    peer("nft", count, "nft, one after another", make).needs(&["nft"])
}

fn nft_ports() -> String {
    ports().replace(',', ", ")
}

/// The elements of a set of clients, protocols and ports; `verdict` follows each.
fn elements(count: u32, verdict: &str) -> String {
    let mut text = String::new();
    for (address, port) in decoys(count) {
        let _ = writeln!(text, "{address} . udp . {port}{verdict},");
    }
    let _ = writeln!(text, "10.1.0.2 . udp . {UDP}{verdict},");
    for port in [REQUESTS, CONNECTIONS, STREAM] {
        let _ = writeln!(text, "10.1.0.2 . tcp . {port}{verdict},");
    }
    text
}

/// Lets in what the set has.
const IN_SET: &str = "ip saddr . ip protocol . th dport @clients counter accept\n";

/// The same behind a rule for what is established.
const TRACKED: &str = "ct state established counter accept\n\
                       ip saddr . ip protocol . th dport @clients counter accept\n";

fn set(elements: &str) -> String {
    format!("set clients {{ type ipv4_addr . inet_proto . inet_service; elements = {{ {elements} }}; }}")
}

fn nft_set(count: u32, state: State) -> Peer {
    let peer = match state {
        State::None => {
            let make = |switch: &Namespace, count| nft(switch, &set(&elements(count, "")), IN_SET);
            peer("nft set", count, "nft with one set", make)
        }
        State::Tracked => {
            let make = |switch: &Namespace, count| nft(switch, &set(&elements(count, "")), TRACKED);
            peer("nft set stateful", count, "nft with one set, established connections before it", make)
        }
    };
    peer.needs(&["nft"])
}

/// A set of the client and the server's ports, those for many flows as well, established connections before it.
pub(super) fn nft_for_many_flows() -> Peer {
    let make = |switch: &Namespace, count| {
        let many: String = MANY.map(|port| format!("10.1.0.2 . udp . {port},\n")).collect();
        nft(switch, &set(&(elements(count, "") + &many)), TRACKED)
    };
    peer("nft set stateful", 1, "nft with one set, established connections before it", make).needs(&["nft"])
}

fn nft_map(count: u32) -> Peer {
    let make = |switch: &Namespace, count| {
        let map = format!(
            "map clients {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {} }}; }}\n\
             chain ok {{ counter accept; }}",
            elements(count, " : jump ok")
        );
        nft(switch, &map, "ip saddr . ip protocol . th dport vmap @clients\n")
    };
    peer("nft map", count, "nft with one verdict map", make).needs(&["nft"])
}

/// Loads a table with `rules` behind one for answers.
fn nft(switch: &Namespace, sets: &str, rules: &str) -> Result<Counter> {
    // A chain has to be there before a map jumps to it.
    let text = format!(
        "table ip bench {{\n{sets}\nchain forward {{ type filter hook forward priority 0; policy drop;\n\
         ip saddr 10.2.0.3 accept\n{rules}}}\n}}\n"
    );
    feed(switch, &["nft", "-f", "-"], &text)?;
    let loaded = sh(switch, "nft list chain ip bench forward | grep -c accept || true")?;
    let expected = 1 + rules.lines().filter(|line| line.contains("accept")).count();
    ensure!(loaded.parse() == Ok(expected), "{loaded} of {expected} rules are there");
    let switch = switch.clone();
    Ok(Box::new(move || {
        let script = "nft list table ip bench | sed -n 's/.*counter packets \\([0-9]*\\).*/\\1/p'";
        sh(&switch, script)?.lines().map(|count| count.parse::<u64>().context("a counter")).sum()
    }))
}
