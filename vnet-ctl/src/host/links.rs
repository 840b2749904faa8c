//! Requests about links, each on whatever namespace its socket is in.

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::link::{
        AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth,
        LinkAttribute, LinkMessage,
    },
};
use vnet_common::{MacAddr, limits::MAX_IFINDEX};

use crate::plan::{NEWBORN_GROUP, OVERLAY_DEVICE, Owner, Ownership, VXLAN_PORT, Workload};

/// Bytes; the least that IPv6 works with (RFC 8200 section 5). Below it the kernel keeps IPv6 off a link.
const MIN_MTU: u32 = 1280;

/// A request's error without the echo of the request.
pub(super) fn kernel(error: rtnetlink::Error) -> anyhow::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().into(),
        other => other.into(),
    }
}

/// Whether the kernel answered with that error number.
pub(super) fn is_errno(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(errno as i32))
}

pub(super) async fn by_name(netlink: &Handle, name: &str) -> Result<Option<LinkMessage>> {
    match netlink.link().get().match_name(name).execute().try_next().await {
        Ok(link) => Ok(link),
        Err(error) if is_errno(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(kernel(error)).with_context(|| format!("look for {name}")),
    }
}

/// Index of a link that must be there.
pub(super) async fn index(netlink: &Handle, name: &str) -> Result<u32> {
    let link = by_name(netlink, name).await?;
    Ok(link.ok_or_else(|| Gone(name.to_owned()))?.header.index)
}

/// A link that was there when the plan was made.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not there any more")]
pub(super) struct Gone(String);

/// Creates a bridge, down and marked as a newborn. Its MTU is not `mtu` yet: a bridge takes the least of
/// its ports' until its own is changed, and only from another value is it changed.
pub(super) async fn create_bridge(netlink: &Handle, name: &str, mac: MacAddr, mtu: u32) -> Result<()> {
    let message = LinkMessageBuilder::<LinkBridge>::new(name)
        .stp_state(BridgeStpState::Disabled)
        .mcast_snooping(false)
        .address(mac.0.to_vec())
        .mtu(if mtu == MIN_MTU { MIN_MTU + 1 } else { MIN_MTU })
        .link_group(NEWBORN_GROUP)
        .build();
    create(netlink, name, message).await
}

/// Creates a veth, down and marked as a newborn; its other end is made inside the namespace behind the
/// descriptor `netns`.
pub(super) async fn create_veth(netlink: &Handle, name: &str, netns: i32, workload: &Workload) -> Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(&workload.interface)
        .address(workload.mac.0.to_vec())
        .mtu(workload.mtu)
        .setns_by_fd(netns)
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .name(name)
        .mtu(workload.mtu)
        .link_group(NEWBORN_GROUP)
        .build();
    create(netlink, name, message).await
}

/// Creates the VXLAN device of overlays, down and marked as a newborn. What is to be sent, where and with which network
/// identifier, the datapath tells with each packet (`external`), so that it learns nothing. UDP packets without a checksum
/// are taken over IPv4 (RFC 7348 section 5 wants that), and over IPv6 are not (RFC 8200 section 8.1).
pub(super) async fn create_overlay(netlink: &Handle, name: &str, mtu: u32) -> Result<()> {
    let message = LinkMessageBuilder::<LinkVxlan>::new(name)
        .collect_metadata(true)
        .port(VXLAN_PORT)
        .learning(false)
        .udp_csum(true)
        .udp_zero_csum6_tx(false)
        .udp_zero_csum6_rx(false)
        .mtu(mtu)
        .link_group(NEWBORN_GROUP)
        .build();
    create(netlink, name, message).await.context(PORT_TAKEN)
}

/// Why the VXLAN device may not come up: its socket may be one of a device in another namespace.
const PORT_TAKEN: &str = "UDP port 4789 must be free, or used by VXLAN devices of the same kind alone";

/// Brings a link up.
pub(super) async fn up(netlink: &Handle, name: &str) -> Result<()> {
    let result = change(netlink, name, |link| link.up()).await;
    if name == OVERLAY_DEVICE { result.context(PORT_TAKEN) } else { result }
}

async fn create(netlink: &Handle, name: &str, message: LinkMessage) -> Result<()> {
    netlink.link().add(message).execute().await.map_err(kernel)?;
    let checked = check_index(netlink, name).await;
    if checked.is_err() {
        let ifindex = index(netlink, name).await?;
        netlink.link().del(ifindex).execute().await.map_err(kernel)?;
    }
    checked
}

/// Whether vnet can tell a link by its index.
pub(super) async fn check_index(netlink: &Handle, name: &str) -> Result<()> {
    let ifindex = index(netlink, name).await?;
    ensure!(
        ifindex <= MAX_IFINDEX,
        "its index {ifindex} is above {MAX_IFINDEX}, the highest that vnet can tell apart"
    );
    Ok(())
}

/// Deletes a link if it is there and still that of `owner`; returns its index.
pub(super) async fn delete(netlink: &Handle, name: &str, owner: Option<&Owner>) -> Result<Option<u32>> {
    let Some(link) = by_name(netlink, name).await? else { return Ok(None) };
    let ownership = ownership(&link);
    // A creation that failed halfway leaves a newborn.
    let is_meant = ownership == Ownership::Newborn || ownership.owner().is_some_and(|of| Some(of) == owner);
    ensure!(is_meant, "{name} is another device by now; it stays");
    netlink.link().del(link.header.index).execute().await.map_err(kernel)?;
    Ok(Some(link.header.index))
}

/// Changes a link.
pub(super) async fn change(
    netlink: &Handle,
    name: &str,
    with: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> Result<()> {
    let ifindex = index(netlink, name).await?;
    let message = with(LinkUnspec::new_with_index(ifindex)).build();
    netlink.link().set(message).execute().await.map_err(kernel)
}

/// Marks a link; the group has served.
pub(super) async fn set_owner(netlink: &Handle, name: &str, owner: &Owner) -> Result<()> {
    change(netlink, name, |link| link.alias(owner.alias()).link_group(0)).await
}

/// Stops the kernel from making link-local addresses.
pub(super) async fn set_quiet(netlink: &Handle, name: &str) -> Result<()> {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let ifindex = index(netlink, name).await?;
    let message = LinkUnspec::new_with_index(ifindex)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]))
        .build();
    match netlink.link().set(message).execute().await {
        // A kernel without IPv6 makes none.
        Err(error) if is_errno(&error, Errno::EAFNOSUPPORT) => Ok(()),
        result => result.map_err(kernel),
    }
}

/// Turns spanning tree and multicast snooping off.
pub(super) async fn simplify_bridge(netlink: &Handle, name: &str) -> Result<()> {
    let ifindex = index(netlink, name).await?;
    let message = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .index(ifindex)
        .append_info_data(InfoBridge::StpState(BridgeStpState::Disabled))
        .append_info_data(InfoBridge::MulticastSnooping(false))
        .build();
    netlink.link().change(message).execute().await.map_err(kernel)
}

/// Whose a link is.
pub(super) fn ownership(link: &LinkMessage) -> Ownership {
    let alias = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    });
    let group = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Group(group) => Some(*group),
        _ => None,
    });
    Ownership::from_marks(alias, group.unwrap_or(0))
}
