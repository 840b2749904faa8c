//! The address pool: what there is, who has what, and what is not as it should be.
//!
//! The lists are pure: what is in force, and which workloads are gone, in. An address is given back here only
//! when its workload is gone and a runtime forgot it; all else is the policy's or the runtime's to change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::{Daemon, absent::Waiting, desired::desired, error::PortError, view::View};
use crate::{
    api::types::{IpamFinding, Lease, LeaseState, POLICY_ORIGIN, Pool, PortRemoved},
    compile::{Assigned, network_of},
    plan,
    policy::{Attach, Network, Port, Subnet},
    state::{Places, State, place_of},
};

impl Daemon {
    /// The subnets, and who has which address.
    pub(crate) async fn pools(&self) -> Result<Vec<Pool>> {
        let view = self.view();
        let gone = self.gone(&view).await?;
        Ok(pools(&view, &gone))
    }

    /// What is not as it should be.
    pub(crate) async fn check_addresses(&self) -> Result<Vec<IpamFinding>> {
        let (kept, places, waiting) = {
            let engine = self.engine.lock().await;
            let engine = engine.as_ref().context("the daemon is shutting down")?;
            let State { addresses, places, .. } = &engine.state;
            (addresses.clone(), places.clone(), engine.waiting.clone())
        };
        let view = self.view();
        let gone = self.gone(&view).await?;
        Ok(findings(&view, &gone, (&kept, &places), &waiting))
    }

    /// Gives back an address whose workload is gone: removes the port that a runtime created for it.
    pub(crate) async fn release(self: &Arc<Self>, address: IpAddr) -> Result<PortRemoved, PortError> {
        let view = self.view();
        let owners = view.assigned.iter().filter(|(_, addresses)| addresses.contains(&address));
        let owners: Vec<&String> = owners.map(|(port, _)| port).collect();
        let port = match &owners[..] {
            [] => return Err(PortError::NoLease(address)),
            [port] => (*port).clone(),
            several => {
                let ports = several.iter().map(|port| (*port).clone()).collect();
                return Err(PortError::SeveralLeases { address, ports });
            }
        };
        let origin = view.origin(&port).to_owned();
        if origin == POLICY_ORIGIN {
            return Err(PortError::InFile { name: port, origin: self.options.policy.clone() });
        }
        let gone = self.gone(&view).await.map_err(|error| PortError::Apply(error.into()))?;
        if !gone.contains(&port) {
            return Err(PortError::Alive { address, port, origin });
        }
        self.delete_port(port).await
    }

    /// The ports in force whose workload is gone.
    async fn gone(&self, view: &View) -> Result<BTreeSet<String>> {
        let desired = desired(&view.policy, &view.assigned);
        let observed = self.host.look(&desired, &State::default()).await.context("look at the host")?;
        let located = plan::locate(&desired, &observed);
        // Of workloads on other hosts nothing is known here.
        let is_gone = |name: &String, port: &Port| {
            !matches!(port.attach, Attach::Remote { .. }) && !located.ports.contains_key(name)
        };
        let gone = view.policy.ports.iter().filter(|(name, port)| is_gone(name, port));
        Ok(gone.map(|(name, _)| name.clone()).collect())
    }
}

fn pools(view: &View, gone: &BTreeSet<String>) -> Vec<Pool> {
    let mut leases: BTreeMap<&str, Vec<(IpAddr, &str)>> = BTreeMap::new();
    for (name, port) in &view.policy.ports {
        for addr in view.assigned.get(name).into_iter().flatten() {
            leases.entry(network_of(&view.policy, port, *addr)).or_default().push((*addr, name.as_str()));
        }
    }
    let mut pools = Vec::new();
    for (name, network) in &view.policy.networks {
        for subnet in &network.subnets {
            let own = leases.get(name.as_str()).into_iter().flatten();
            let mut leases: Vec<_> = own
                .filter(|(addr, _)| subnet.net.contains(addr))
                .map(|&(address, port)| Lease {
                    address,
                    port: port.to_owned(),
                    origin: view.origin(port).to_owned(),
                    state: if gone.contains(port) { LeaseState::Gone } else { LeaseState::Live },
                })
                .collect();
            leases.sort_by_key(|lease| lease.address);
            let (size, used) = (size(subnet), leases.len() as u64);
            pools.push(Pool {
                network: name.clone(),
                subnet: subnet.net.to_string(),
                gateway: subnet.gateway,
                size,
                used,
                free: size.saturating_sub(used),
                leases,
            });
        }
    }
    pools
}

/// How many addresses ports may have in `subnet`.
fn size(subnet: &Subnet) -> u64 {
    let all = u64::try_from(1_u128 << (subnet.net.max_prefix_len() - subnet.net.prefix_len()).min(127));
    let mut reserved = BTreeSet::from([subnet.gateway, subnet.net.network()]);
    if let IpNet::V4(net) = subnet.net {
        reserved.insert(net.broadcast().into());
    }
    all.map_or(u64::MAX, |all| all.saturating_sub(reserved.len() as u64))
}

fn findings(
    view: &View,
    gone: &BTreeSet<String>,
    (kept, places): (&Assigned, &Places),
    waiting: &Waiting,
) -> Vec<IpamFinding> {
    let mut findings = Vec::new();
    let mut owners: BTreeMap<IpAddr, Vec<(Option<&str>, &str)>> = BTreeMap::new();
    for (port, addresses) in kept {
        let declared = view.policy.ports.get(port);
        for &address in addresses {
            let network = declared.map(|port| network_of(&view.policy, port, address));
            let network = network.or_else(|| place_of(places, port, address));
            let mut tell = |problem: String, help: String| {
                findings.push(IpamFinding { address, port: port.clone(), problem, help });
            };
            let others = owners.entry(address).or_default();
            // Networks that share addresses have one each; where the network is not known, it may be any.
            let is_same = |of: Option<&str>| of.is_none() || network.is_none() || of == network;
            let other = others.iter().find(|(of, _)| is_same(*of)).map(|(_, other)| *other);
            others.push((network, port));
            if let Some(other) = other {
                tell(
                    format!("port {other} has the address as well"),
                    format!(
                        "give one of them another: `vnet-ctl port show {other}`, `vnet-ctl port show {port}`"
                    ),
                );
            }
            let Some(declared) = declared else {
                match waiting.reason(port) {
                    Some(reason) => tell(format!("port {port} is not in force: {reason}"), waits(port)),
                    None => tell(
                        format!("the address is kept for port {port}, which nobody declares"),
                        "it is free again after the next change of the policy or of a port".to_owned(),
                    ),
                }
                continue;
            };
            let network = network.and_then(|name| view.policy.networks.get(name));
            let fits = |network: &Network| {
                network.subnet_of(address).is_some()
                    || !network.is_routed_here() && network.subnets.is_empty()
            };
            if !network.is_some_and(fits) {
                tell(
                    format!("the address is in no subnet of network {}", declared.network),
                    format!("give port {port} an address of its network"),
                );
            }
            if gone.contains(port) {
                let origin = view.origin(port);
                let help = if origin == POLICY_ORIGIN {
                    format!("start it, or remove port {port} from the policy")
                } else {
                    format!("start it, or free the address with `vnet-ctl ipam release {address}`")
                };
                tell(format!("the workload of port {port} ({origin}) is gone"), help);
            }
        }
    }
    findings
}

fn waits(port: &str) -> String {
    format!("change the policy, or have the runtime remove the port (DELETE /v1/ports/{port})")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const POLICY: &str = r#"
version = 1
[networks.web]
type = "private"
subnets = ["10.10.0.0/28", "fd00::/64"]
[ports.p1]
network = "web"
addresses = ["10.10.0.5"]
attach = { netns = "p1" }
[ports.c1]
network = "web"
attach = { netns = "c1" }
"#;

    fn view() -> View {
        let (policy, _) = crate::policy::parse(POLICY, Path::new("policy.toml")).unwrap();
        View {
            assigned: crate::compile::assign(&policy, &Assigned::new()).unwrap(),
            policy: Arc::new(policy),
            origins: [("c1".to_owned(), "cni".to_owned())].into(),
            ..View::default()
        }
    }

    #[test]
    fn a_pool_tells_its_size_and_who_has_what() {
        let pools = pools(&view(), &["c1".to_owned()].into());
        let (v4, v6) = (&pools[0], &pools[1]);
        assert_eq!((v4.size, v4.used, v4.free), (13, 2, 11));
        assert_eq!((v6.size, v6.used), (u64::MAX, 1));
        let leases: Vec<_> =
            v4.leases.iter().map(|lease| (lease.port.as_str(), lease.origin.as_str(), lease.state)).collect();
        assert_eq!(leases, [("c1", "cni", LeaseState::Gone), ("p1", "policy", LeaseState::Live)]);
    }

    #[test]
    fn a_check_finds_what_is_wrong_and_says_what_to_do() {
        let view = view();
        let kept = |more: &[(&str, &str)]| -> Assigned {
            let more = more.iter().map(|(port, addr)| ((*port).to_owned(), vec![addr.parse().unwrap()]));
            view.assigned.clone().into_iter().chain(more).collect()
        };
        let find = |gone: &[&str], kept: Assigned| {
            let gone = gone.iter().map(|port| (*port).to_owned()).collect();
            let there = [("10.10.0.5".parse().unwrap(), "db".to_owned())].into();
            let places = [("y".to_owned(), there)].into();
            let findings = findings(&view, &gone, (&kept, &places), &Waiting::default());
            findings.iter().map(|found| format!("{}; {}", found.problem, found.help)).collect::<Vec<_>>()
        };
        assert!(find(&[], kept(&[])).is_empty());
        let texts = find(&["c1", "p1"], kept(&[]));
        assert!(texts[0].contains("`vnet-ctl ipam release 10.10.0.2`"), "{texts:?}");
        assert!(texts.last().unwrap().contains("remove port p1 from the policy"), "{texts:?}");
        assert!(find(&[], kept(&[("x", "10.10.0.9")]))[0].contains("nobody declares"));
        assert!(find(&[], kept(&[("x", "10.10.0.5")]))[0].contains("has the address as well"));
        assert!(!find(&[], kept(&[("y", "10.10.0.5")]))[0].contains("as well"), "in another network");
        assert!(find(&[], kept(&[("p1", "10.20.0.5")]))[0].contains("in no subnet of network web"));
    }
}
