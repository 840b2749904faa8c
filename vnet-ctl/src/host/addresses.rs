//! Addresses of links.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    Handle,
    packet_route::address::{AddressAttribute, AddressFlags, AddressMessage},
};

use super::links::{is_errno, kernel};

/// Makes `wanted` the addresses of a link and removes the others, except those that `spare` holds back.
///
/// The removal comes first: the kernel drops IPv4 addresses along with the first of their subnet. So what
/// is wanted is added whether it was there or not.
pub(super) async fn set(
    netlink: &Handle,
    ifindex: u32,
    wanted: &[IpNet],
    spare: impl Fn(&IpNet) -> bool,
) -> Result<()> {
    for message in dump(netlink).await? {
        let Some(net) = net(&message).filter(|_| message.header.index == ifindex) else { continue };
        if wanted.contains(&net) || spare(&net) {
            continue;
        }
        match netlink.address().del(message).execute().await {
            Ok(()) => {}
            Err(error) if is_errno(&error, Errno::EADDRNOTAVAIL) => {}
            Err(error) => return Err(kernel(error)).with_context(|| format!("remove address {net}")),
        }
    }
    for net in wanted {
        add(netlink, ifindex, net).await.with_context(|| format!("add address {net}"))?;
    }
    Ok(())
}

/// Adds an address, usable at once: its uniqueness is the controller's business, not that of duplicate
/// address detection.
async fn add(netlink: &Handle, ifindex: u32, net: &IpNet) -> Result<()> {
    let mut request = netlink.address().add(ifindex, net.addr(), net.prefix_len());
    if net.addr().is_ipv6() {
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    match request.execute().await {
        Err(error) if is_errno(&error, Errno::EEXIST) => Ok(()),
        result => result.map_err(kernel),
    }
}

/// Every address in the socket's namespace.
pub(super) async fn dump(netlink: &Handle) -> Result<Vec<AddressMessage>> {
    netlink.address().get().execute().try_collect().await.map_err(kernel).context("list addresses")
}

/// The address in `message` with the length of its prefix.
pub(super) fn net(message: &AddressMessage) -> Option<IpNet> {
    let find =
        |is_wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(is_wanted);
    // On a link with a peer address, the local one is its own.
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let addr = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    })?;
    IpNet::new(addr, message.header.prefix_len).ok()
}
