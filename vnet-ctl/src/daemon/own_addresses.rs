//! Whether addresses that a policy names go with those that the host has: what is listened on must be one of them,
//! an elastic IP and a peer of an overlay none.
//!
//! Pure. A person's edit is refused; whatever else brings a policy about tells it, and goes on.

use std::{collections::BTreeMap, net::IpAddr};

use super::{apply::Occasion, declared::PolicyFile, error::ApplyError};
use crate::{
    plan::Located,
    policy::{Mistake, Network, Overlaps, Policy, Subject, placed},
};

/// What a policy `file` says that does not go with the host's addresses: in a sentence each with its place, by what
/// it is about.
///
/// # Errors
/// When there is something, and the `occasion` is a person's edit.
pub(super) fn misfits(
    file: &PolicyFile,
    located: &Located,
    occasion: &Occasion,
) -> Result<BTreeMap<String, String>, ApplyError> {
    let found = find(&file.policy, located);
    let text = (&*file.text, &*file.origin);
    if *occasion == Occasion::Edit && !found.is_empty() {
        let found = found.into_iter().map(|(_, subject, mistake)| (subject, mistake));
        return Err(ApplyError::Policy(Box::new(placed(text, found))));
    }
    let sentence = |subject, mistake| {
        placed(text, [(subject, mistake)]).iter().map(|told| told.to_string()).collect::<String>()
    };
    Ok(found.into_iter().map(|(name, subject, mistake)| (name, sentence(subject, mistake))).collect())
}

/// What something is called, which it is, and what is wrong with it.
type Misfit = (String, Subject, Mistake);

fn find(policy: &Policy, located: &Located) -> Vec<Misfit> {
    let host = &located.addresses;
    let overlaps = Overlaps::of(&policy.networks);
    let subnets = policy
        .networks
        .iter()
        .flat_map(|(name, network)| network.subnets.iter().map(move |subnet| (name, subnet)));
    let of_host = subnets.filter(|(name, subnet)| overlaps.host_is_in(name, subnet));
    let gateways: Vec<IpAddr> = of_host.map(|(_, subnet)| subnet.gateway).collect();
    let is_the_hosts = |addr: &IpAddr| {
        addr.is_unspecified() || addr.is_loopback() || host.contains_key(addr) || gateways.contains(addr)
    };
    let deaf = policy.forwards.iter().filter(|forward| !is_the_hosts(&forward.listen)).map(|forward| {
        let (name, addr) = (format!("forward {}", forward.name()), forward.listen);
        let like = host.iter().filter(|(other, _)| other.is_ipv4() == addr.is_ipv4());
        let present: Vec<_> = like.map(|(addr, device)| format!("{addr} ({device})")).collect();
        let all = if addr.is_ipv4() { "0.0.0.0" } else { "[::]" };
        let help = if present.is_empty() {
            format!("listen on {all}, or give the host that address")
        } else {
            format!("listen on one that there is, {}, or on {all}", present.join(", "))
        };
        let mistake = Mistake::new(format!("{name}: no device of the host has the address {addr}"));
        (name, Subject::Forward(forward.name()), mistake.help(help))
    });
    let elastic = policy.elastic_ips.keys().filter_map(|addr| {
        let (device, name) = (host.get(addr)?, format!("elastic IP {addr}"));
        let mistake = Mistake::new(format!("{name} is the own address of {device}"));
        let help = "choose an address that the host itself does not have";
        Some((name, Subject::ElasticIp(*addr), mistake.help(help)))
    });
    deaf.chain(elastic).chain(peers(policy, located)).collect()
}

/// Peers that are this host itself.
fn peers<'a>(policy: &'a Policy, located: &'a Located) -> impl Iterator<Item = Misfit> + 'a {
    let of =
        |(name, network): (&'a String, &'a Network)| network.peers().iter().map(move |peer| (name, *peer));
    let peers = policy.networks.iter().flat_map(of);
    peers.filter_map(|(network, peer)| {
        let device = located.addresses.get(&peer)?;
        let name = format!("network {network}: peer {peer}");
        let mistake = Mistake::new(format!("{name} is the own address of {device}"));
        Some((name, Subject::Peer(network.clone(), peer), mistake.help("name the other hosts alone")))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::parse;

    fn found(listens: &[&str], elastic: &[&str]) -> Vec<String> {
        let mut text =
            "version = 1\nnetworks = { web = { type = \"nat\", subnets = [\"10.10.0.0/24\", \"fd00::/64\"] }, lan = { \
             type = \"bridged\", uplink = \"eth1\", vlan = 10, subnets = [\"203.0.113.0/24\"] } }\n\
                        ports.web-1 = { network = \"web\", attach = { netns = \"a\" } }\n"
                .to_owned();
        for addr in elastic {
            text += &format!("elastic_ips.\"{addr}\" = {{ port = \"web-1\" }}\n");
        }
        for listen in listens {
            text += &format!(
                "[[forwards]]\nlisten = \"{listen}:8080-8089\"\nprotocol = \"tcp\"\nto = \"web-1:80\"\n"
            );
        }
        let (policy, _) = parse(&text, Path::new("p.toml")).unwrap();
        let file = PolicyFile { text: text.into(), origin: "p.toml".into(), policy: policy.into() };
        let has = |(addr, device): (&str, &str)| (addr.parse().unwrap(), device.to_owned());
        let addresses = [("192.0.2.1", "eth0"), ("2001:db8::1", "eth0"), ("192.0.2.9", "eth1")];
        let located = Located { addresses: addresses.map(has).into(), ..Located::default() };
        let found: Vec<_> = misfits(&file, &located, &Occasion::Repair).unwrap().into_values().collect();
        match misfits(&file, &located, &Occasion::Edit) {
            Ok(_) => assert!(found.is_empty()),
            Err(ApplyError::Policy(told)) => {
                assert_eq!(told.iter().map(|told| told.to_string()).collect::<Vec<_>>(), found);
            }
            Err(other) => panic!("{other}"),
        }
        found
    }

    #[test]
    fn only_addresses_of_the_host_are_listened_on() {
        for listen in ["0.0.0.0", "[::]", "127.0.0.1", "[::1]", "192.0.2.9", "10.10.0.1"] {
            assert!(found(&[listen], &[]).is_empty());
        }
        assert_eq!(
            found(&["192.0.2.2"], &[]),
            [
                "p.toml:5:10: forward tcp/192.0.2.2:8080-8089: no device of the host has the address 192.0.2.2; listen on one \
              that there is, 192.0.2.1 (eth0), 192.0.2.9 (eth1), or on 0.0.0.0"
            ]
        );
        assert_eq!(found(&["203.0.113.1"], &[]).len(), 1, "the router of a LAN is somebody else");
        let told = found(&["[2001:db8::2]"], &[]).remove(0);
        assert!(told.contains("[2001:db8::2]:8080") && !told.contains("192.0.2.1"), "{told}");
    }

    #[test]
    fn a_peer_is_another_host() {
        let overlay = |peer: &str| {
            let text = format!(
                "version = 1\nnetworks.red = {{ type = \"private\", subnets = [\"10.30.0.0/24\"], vni = 7,\n\
                 peers = [\"192.0.2.77\", \"{peer}\"] }}\n"
            );
            let (policy, _) = parse(&text, Path::new("p.toml")).unwrap();
            let file = PolicyFile { text: text.into(), origin: "p.toml".into(), policy: policy.into() };
            let addresses = [("192.0.2.9".parse().unwrap(), "eth1".to_owned())].into();
            misfits(&file, &Located { addresses, ..Located::default() }, &Occasion::Repair).unwrap()
        };
        assert!(overlay("192.0.2.10").is_empty());
        let told = overlay("192.0.2.9").into_values().collect::<Vec<_>>();
        let words =
            "p.toml:3:24: network red: peer 192.0.2.9 is the own address of eth1; name the other hosts alone";
        assert_eq!(told, [words]);
    }

    #[test]
    fn an_elastic_ip_is_none_of_the_hosts() {
        assert!(found(&[], &["192.0.2.2"]).is_empty());
        let told = found(&[], &["192.0.2.9"]).remove(0);
        assert!(told.starts_with("p.toml:4:13: elastic IP 192.0.2.9 is the own address of eth1; "), "{told}");
    }
}
