//! Which frames devices take that are not for the host: those for multicast groups, and those for other stations.
//!
//! A membership that a process holds by a socket ends with the process. These last until they are taken back or the
//! device goes, as vnet's other work on a host does; `ip maddr`, `bridge fdb … self` and `ip link set … allmulticast`
//! make and show the same. The kernel itself makes a device promiscuous that cannot tell stations apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use rtnetlink::{
    Handle, NeighbourAddRequest,
    packet_route::{
        AddressFamily as Family, RouteNetlinkMessage,
        neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};
use vnet_common::MacAddr;

use super::{
    ask::Asker,
    ifreq,
    links::{self, Gone, is_errno, kernel},
};
use crate::plan::Reception;

/// The thread's own: that of the process shows the namespace of its first thread.
const MULTICAST: &str = "/proc/thread-self/net/dev_mcast";

/// What the kernel calls the two requests (linux/sockios.h).
#[derive(Clone, Copy, Debug)]
enum Request {
    Join = 0x8931,
    Leave = 0x8932,
}

/// The multicast MACs that links have been told to take, by ifindex, in the calling thread's namespace.
pub(super) fn groups() -> Result<BTreeMap<u32, BTreeSet<MacAddr>>> {
    let text = fs::read_to_string(MULTICAST).with_context(|| format!("read {MULTICAST}"))?;
    Ok(told(&text))
}

/// Of lines with index, name, users, whether the device was told, and MAC, those of which it was.
fn told(text: &str) -> BTreeMap<u32, BTreeSet<MacAddr>> {
    let mut groups: BTreeMap<u32, BTreeSet<MacAddr>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [ifindex, _, _, is_told, mac] = fields[..] else { continue };
        if let (Ok(ifindex), true, Some(mac)) = (ifindex.parse(), is_told != "0", mac_of(mac)) {
            groups.entry(ifindex).or_default().insert(mac);
        }
    }
    groups
}

/// From twelve hexadecimal digits.
fn mac_of(digits: &str) -> Option<MacAddr> {
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 12)?;
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some(MacAddr(mac))
}

/// The MACs of stations that links have been told to take, by ifindex, in the socket's namespace.
pub(super) fn stations(netlink: &mut Asker) -> Result<BTreeMap<u32, BTreeSet<MacAddr>>> {
    let mut question = NeighbourMessage::default();
    question.header.family = Family::Bridge;
    let answers = netlink.list(RouteNetlinkMessage::GetNeighbour(question)).context("list stations")?;
    let mut stations: BTreeMap<u32, BTreeSet<MacAddr>> = BTreeMap::new();
    for answer in answers {
        let RouteNetlinkMessage::NewNeighbour(message) = answer else { continue };
        if let Some(mac) = station(&message).filter(|mac| !mac.is_multicast()) {
            stations.entry(message.header.ifindex).or_default().insert(mac);
        }
    }
    Ok(stations)
}

/// Whose frames an entry has its link hand to the host. The entries that a bridge has for its ports are of another kind.
fn station(message: &NeighbourMessage) -> Option<MacAddr> {
    let header = &message.header;
    let (mut mac, mut bridge) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(MacAddr)
            }
            NeighbourAttribute::Controller(ifindex) => bridge = Some(*ifindex),
            _ => {}
        }
    }
    let is_own = header.flags.contains(NeighbourFlags::Own) || bridge == Some(header.ifindex);
    mac.filter(|_| is_own && header.state == NeighbourState::Permanent)
}

/// Has `device` take `frames`.
pub(super) async fn accept(netlink: &Handle, device: &str, frames: Reception) -> Result<()> {
    match frames {
        Reception::Mac(group) if group.is_multicast() => join(device, group),
        Reception::Mac(mac) => match add(netlink, links::index(netlink, device).await?, mac).await {
            Err(error) if is_errno(&error, Errno::EEXIST) => Ok(()),
            result => result.map_err(kernel),
        },
        Reception::AllMulticast => links::change(netlink, device, |link| link.allmulticast(true)).await,
    }
}

/// Takes [`accept`] back.
pub(super) async fn decline(netlink: &Handle, device: &str, frames: Reception) -> Result<()> {
    let result = match frames {
        Reception::Mac(group) if group.is_multicast() => leave(device, group),
        Reception::Mac(mac) => remove(netlink, device, mac).await,
        Reception::AllMulticast => links::change(netlink, device, |link| link.allmulticast(false)).await,
    };
    // It went with its device.
    result.or_else(|error| if error.is::<Gone>() { Ok(()) } else { Err(error) })
}

async fn add(netlink: &Handle, ifindex: u32, mac: MacAddr) -> Result<(), rtnetlink::Error> {
    let request: NeighbourAddRequest = netlink.neighbours().add_bridge(ifindex, &mac.0);
    request.state(NeighbourState::Permanent).flags(NeighbourFlags::Own).execute().await
}

async fn remove(netlink: &Handle, device: &str, mac: MacAddr) -> Result<()> {
    let mut entry = NeighbourMessage::default();
    entry.header.family = Family::Bridge;
    entry.header.ifindex = links::index(netlink, device).await?;
    entry.header.flags = NeighbourFlags::Own;
    entry.header.state = NeighbourState::Permanent;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    match netlink.neighbours().del(entry).execute().await {
        Err(error) if is_errno(&error, Errno::ENOENT) => Ok(()),
        result => result.map_err(kernel),
    }
}

/// Has `device` take `group`. A device that filters nothing is not asked.
fn join(device: &str, group: MacAddr) -> Result<()> {
    match request(Request::Join, device, group) {
        Ok(()) | Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes [`join`] back.
fn leave(device: &str, group: MacAddr) -> Result<()> {
    match request(Request::Leave, device, group) {
        Ok(()) | Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn request(request: Request, device: &str, group: MacAddr) -> nix::Result<()> {
    // The request is about a device: any family will do, and the service's unit allows few.
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut wanted = ifreq::about(device)?;
    let mut mac = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    for (to, byte) in mac.sa_data.iter_mut().zip(group.0) {
        *to = byte as libc::c_char;
    }
    wanted.ifr_ifru.ifru_hwaddr = mac;
    // SAFETY: the request reads one ifreq, and the pointer leads to one that lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as libc::Ioctl, &raw const wanted) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_device_was_told_is_seen() {
        let text = "2    eth0            1     0     333300000001\n\
                    2    eth0            2     1     3333ff000020\n\
                    3    lan0.5          1     1     01005e000001\n\
                    4    ib0             1     1     00ffffffff12601bffff00000000000000000001\n";
        let group = |mac: [u8; 6]| BTreeSet::from([MacAddr(mac)]);
        let expected = [(2, group([0x33, 0x33, 0xff, 0, 0, 0x20])), (3, group([1, 0, 0x5e, 0, 0, 1]))];
        assert_eq!(told(text), expected.into());
    }
}
