//! Whether addresses that a policy names go with those that the host has: what is listened on must be one of them,
//! and an elastic IP none.
//!
//! Pure. A person's edit is refused; whatever else brings a policy about tells it, and goes on.

use std::{collections::BTreeMap, net::IpAddr};

use super::{apply::Occasion, error::ApplyError};
use crate::{plan::Located, policy::Policy};

/// What of `policy` does not go with the host's addresses: in a sentence each, by what it is about.
///
/// # Errors
/// When there is something, and the `occasion` is a person's edit.
pub(super) fn misfits(
    policy: &Policy,
    located: &Located,
    occasion: &Occasion,
) -> Result<BTreeMap<String, String>, ApplyError> {
    let found = find(policy, located);
    if *occasion == Occasion::Edit && !found.is_empty() {
        return Err(ApplyError::Unfit(found.into_values().collect::<Vec<_>>().join("\n")));
    }
    Ok(found)
}

fn find(policy: &Policy, located: &Located) -> BTreeMap<String, String> {
    let host = &located.addresses;
    let gateways = policy.networks.values().flat_map(|network| &network.subnets);
    let gateways: Vec<IpAddr> = gateways.map(|subnet| subnet.gateway).collect();
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
        (name.clone(), format!("{name}: no device of the host has the address {addr}; {help}"))
    });
    let elastic = policy.elastic_ips.keys().filter_map(|addr| {
        let (device, name) = (host.get(addr)?, format!("elastic IP {addr}"));
        let help = "choose an address that the host itself does not have";
        Some((name.clone(), format!("{name} is the own address of {device}; {help}")))
    });
    deaf.chain(elastic).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::{Affinity, Backend, ElasticIp, Forward, OnChange, Protocol, parse};

    fn found(listens: &[&str], elastic: &[&str]) -> Vec<String> {
        let text = "version = 1\nnetworks.web = { type = \"nat\", subnets = [\"10.10.0.0/24\"] }\n";
        let (mut policy, _) = parse(text, Path::new("policy.toml")).unwrap();
        policy.forwards = listens
            .iter()
            .map(|listen| Forward {
                listen: listen.parse().unwrap(),
                ports: (8080, 8089),
                protocol: Protocol::TCP,
                to: vec![Backend { port: "web-1".to_owned(), to_port: 80, weight: 1 }],
                affinity: Affinity::Flow,
            })
            .collect();
        let to = ElasticIp { port: "web-1".to_owned(), on_change: OnChange::Cut };
        policy.elastic_ips = elastic.iter().map(|addr| (addr.parse().unwrap(), to.clone())).collect();
        let has = |(addr, device): (&str, &str)| (addr.parse().unwrap(), device.to_owned());
        let addresses = [("192.0.2.1", "eth0"), ("2001:db8::1", "eth0"), ("192.0.2.9", "eth1")];
        let located = Located { addresses: addresses.map(has).into(), ..Located::default() };
        let refused = misfits(&policy, &located, &Occasion::Edit).is_err();
        let found = misfits(&policy, &located, &Occasion::Repair).unwrap();
        assert_eq!(refused, !found.is_empty());
        found.into_values().collect()
    }

    #[test]
    fn only_addresses_of_the_host_are_listened_on() {
        assert!(found(&["0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.9", "10.10.0.1"], &[]).is_empty());
        assert_eq!(
            found(&["192.0.2.2"], &[]),
            [
                "forward tcp/192.0.2.2:8080-8089: no device of the host has the address 192.0.2.2; listen on one \
              that there is, 192.0.2.1 (eth0), 192.0.2.9 (eth1), or on 0.0.0.0"
            ]
        );
        let told = found(&["2001:db8::2"], &[]).remove(0);
        assert!(told.contains("[2001:db8::2]:8080") && !told.contains("192.0.2.1"), "{told}");
    }

    #[test]
    fn an_elastic_ip_is_none_of_the_hosts() {
        assert!(found(&[], &["192.0.2.2"]).is_empty());
        let told = found(&[], &["192.0.2.9"]).remove(0);
        assert!(told.starts_with("elastic IP 192.0.2.9 is the own address of eth1; "), "{told}");
    }
}
