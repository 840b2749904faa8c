//! The inside of a port in a namespace.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rtnetlink::LinkUnspec;

use super::{addresses, links, links::kernel, namespace::Netns, routes};
use crate::plan::Workload;

/// Gives the interface its settings, addresses and routes; what is right already stays as it is.
pub(super) async fn configure(workload: &Workload) -> Result<()> {
    let netns = Netns::require(&workload.netns)?;
    let netlink = netns.connect().await?;
    let interface = &workload.interface;
    links::change(&netlink, "lo", |link| link.up()).await.context("bring lo up")?;
    if workload.addresses.iter().any(|net| net.addr().is_ipv6()) {
        set_ipv6(&netns, interface, Ipv6::On).await?;
    }
    if !workload.configures_itself() {
        links::set_quiet(&netlink, interface).await?;
    }

    let ifindex = links::index(&netlink, interface).await?;
    let settings = LinkUnspec::new_with_index(ifindex).address(workload.mac.0.to_vec()).mtu(workload.mtu);
    let settings = if workload.up { settings.up() } else { settings.down() };
    netlink.link().set(settings.build()).execute().await.map_err(kernel).context("set MAC and MTU")?;
    if workload.configures_itself() {
        return Ok(());
    }
    addresses::set(&netlink, ifindex, &workload.addresses, crate::plan::is_link_local).await?;
    if workload.up {
        routes::set(&netlink, ifindex, &workload.gateways, &workload.addresses).await?;
    }
    Ok(())
}

/// Whether an interface has IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ipv6 {
    /// It has.
    On,
    /// It has not.
    Off,
}

/// Where each interface has its IPv6 settings.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Turns IPv6 on or off. Container runtimes turn it off in namespaces that they know no IPv6 address for.
pub(super) async fn set_ipv6(netns: &Netns, interface: &str, ipv6: Ipv6) -> Result<()> {
    let path = Path::new(SETTINGS).join(interface).join("disable_ipv6");
    let disable = if ipv6 == Ipv6::On { "0" } else { "1" };
    netns
        .run(move || {
            // /proc/sys/net shows the namespace of the thread that reads it.
            let disabled = fs::read_to_string(&path)
                .context("the kernel has no IPv6; remove the IPv6 subnets from the policy")?;
            if disabled.trim() != disable {
                fs::write(&path, disable).with_context(|| format!("write {}", path.display()))?;
            }
            Ok(())
        })
        .await
}

/// Whether the kernel has IPv6 at all.
pub(super) async fn has_ipv6(netns: &Netns) -> Result<bool> {
    netns.run(|| Path::new(SETTINGS).try_exists().with_context(|| format!("look for {SETTINGS}"))).await
}
