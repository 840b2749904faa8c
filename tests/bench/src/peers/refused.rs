//! What is dropped: datagrams to a port that no rule opens, at the earliest place where each peer can tell.

use anyhow::{Context as _, Result};

use crate::{
    load::{Load, SHUT},
    peers::{Group, Peer, Ready, bridge, rules, vnet},
    shell::{feed, sh},
};

/// All of them, those that others are held against first.
pub(super) fn all() -> Vec<Peer> {
    let routed = rules::iptables_stateful(1);
    let what = "a Linux bridge; nft drops by one rule at the ingress of the client's device (netdev)";
    vec![
        peer("nft ingress", what, nft_ingress).needs(&["nft"]),
        peer("iptables drop", &routed.what, move || {
            let ready = (routed.set_up)()?;
            let switch = ready.place()?.switch().clone();
            let dropped =
                move || number(&sh(&switch, "iptables-legacy -nvxL FORWARD | head -1 | cut -d' ' -f5")?);
            Ok(Ready { dropped: Some(Box::new(dropped)), ..ready })
        })
        .needs(&["iptables-legacy-restore"]),
        peer("vnet drop", &vnet::switched().what, || {
            let ready = (vnet::switched().set_up)()?;
            let dropped = vnet::drops(ready.place()?);
            Ok(Ready { dropped: Some(dropped), ..ready })
        })
        .beside(&["nft ingress", "iptables drop"]),
    ]
}

fn peer(name: &str, what: &str, set_up: impl Fn() -> Result<Ready> + 'static) -> Peer {
    Peer { loads: vec![Load::Refused], ..Peer::new(Group::Refused, name, what, Box::new(set_up)) }
}

/// A bridge, and one rule before it, where nothing but the packet is known.
fn nft_ingress() -> Result<Ready> {
    let ready = (bridge::bridge().set_up)()?;
    let switch = ready.place()?.switch().clone();
    let table = format!(
        "table netdev bench {{ chain in {{\ntype filter hook ingress device va priority 0; policy accept;\n\
         ip daddr 10.1.0.3 udp dport {SHUT} counter drop\n}}\n}}\n"
    );
    feed(&switch, &["nft", "-f", "-"], &table)?;
    let script = "nft list chain netdev bench in | sed -n 's/.*counter packets \\([0-9]*\\).*/\\1/p'";
    let dropped = move || number(&sh(&switch, script)?);
    Ok(Ready { filters: true, dropped: Some(Box::new(dropped)), ..ready })
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{text:?} is no counter"))
}
