//! Multicast groups of devices, below IP: which multicast MACs they take.
//!
//! A membership that a process holds by a socket ends with the process. These last until they are taken back or the
//! device goes, as vnet's other work on a host does; `ip maddr` makes and shows the same.

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
use vnet_common::MacAddr;

/// The thread's own: that of the process shows the namespace of its first thread.
const MULTICAST: &str = "/proc/thread-self/net/dev_mcast";

/// What the kernel calls the two requests (linux/sockios.h).
#[derive(Clone, Copy, Debug)]
enum Request {
    Join = 0x8931,
    Leave = 0x8932,
}

/// The multicast MACs that links have been told to take, by ifindex, in the calling thread's namespace.
pub(super) fn look() -> Result<BTreeMap<u32, BTreeSet<MacAddr>>> {
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

/// Has `device` take `group`. A device that filters nothing is not asked.
pub(super) fn join(device: &str, group: MacAddr) -> Result<()> {
    match request(Request::Join, device, group) {
        Ok(()) | Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes [`join`] back.
pub(super) fn leave(device: &str, group: MacAddr) -> Result<()> {
    match request(Request::Leave, device, group) {
        Ok(()) | Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn request(request: Request, device: &str, group: MacAddr) -> nix::Result<()> {
    // The request is about a device: any family will do, and the service's unit allows few.
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: integers and addresses; all zero is a valid value.
    let mut wanted: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = wanted.ifr_name.len() - 1;
    if device.len() > room {
        return Err(Errno::ENODEV);
    }
    for (to, byte) in wanted.ifr_name.iter_mut().zip(device.bytes()) {
        *to = byte as libc::c_char;
    }
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
