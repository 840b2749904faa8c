//! Addresses of links.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    Handle,
    packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
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

/// An address that is of use beyond its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Global {
    addr: IpAddr,
    rank: Rank,
}

/// How well an address stands for its host for a longer time; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It stays.
    Lasting,
    /// It stays, but the world does not know the way to it (RFC 4193).
    Local,
    /// It was made to be forgotten (RFC 8981).
    Temporary,
    /// It is on its way out.
    Deprecated,
}

impl Global {
    /// The address of `message`, if it is of use beyond the link, and in use at all.
    pub(super) fn of(message: &AddressMessage, addr: IpAddr) -> Option<Self> {
        let flags = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
        // Older kernels have them in the header alone, which has room for the lower eight.
        let flags =
            flags.unwrap_or_else(|| AddressFlags::from_bits_retain(u32::from(message.header.flags.bits())));
        let is_here = !matches!(message.header.scope, AddressScope::Universe | AddressScope::Site);
        let is_unusable = flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
        if is_here || is_unusable || is_bound_to_a_link(addr) {
            return None;
        }
        let rank = match addr {
            _ if flags.contains(AddressFlags::Deprecated) => Rank::Deprecated,
            // The same bit is that of a second address of a subnet in IPv4.
            IpAddr::V6(_) if flags.contains(AddressFlags::Secondary) => Rank::Temporary,
            IpAddr::V6(addr) if addr.is_unique_local() => Rank::Local,
            _ => Rank::Lasting,
        };
        Some(Self { addr, rank })
    }
}

const fn is_bound_to_a_link(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local() || addr.is_loopback(),
        IpAddr::V6(addr) => addr.is_unicast_link_local() || addr.is_loopback(),
    }
}

/// The addresses of a link that are of use beyond it, as the kernel lists them, the best first. Of equally good
/// ones that is the oldest, so that another one that comes changes nothing: IPv4 addresses are listed in that order,
/// those of IPv6 the other way round.
pub(super) fn in_order(listed: Vec<Global>) -> Vec<IpAddr> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = listed.into_iter().partition(|global| global.addr.is_ipv4());
    v6.reverse();
    v4.append(&mut v6);
    v4.sort_by_key(|global| (!global.addr.is_ipv4(), global.rank));
    v4.into_iter().map(|global| global.addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(addr: &str, scope: AddressScope, flags: AddressFlags) -> Option<Global> {
        let mut message = AddressMessage::default();
        message.header.scope = scope;
        message.attributes.push(AddressAttribute::Flags(flags));
        Global::of(&message, addr.parse().unwrap())
    }

    #[test]
    fn the_oldest_lasting_address_comes_first() {
        let (none, temporary) = (AddressFlags::empty(), AddressFlags::Secondary);
        let global = AddressScope::Universe;
        let addresses = [
            ("192.0.2.9", none),
            ("192.0.2.1", none),
            ("2001:db8::3", temporary),
            ("2001:db8::2", none),
            ("fd00::1", none),
            ("2001:db8::4", AddressFlags::Deprecated),
            ("2001:db8::1", none),
        ];
        let listed = addresses.iter().filter_map(|(addr, flags)| listed(addr, global, *flags)).collect();
        let ordered: Vec<_> = in_order(listed).iter().map(ToString::to_string).collect();
        let expected =
            ["192.0.2.9", "192.0.2.1", "2001:db8::1", "2001:db8::2", "fd00::1", "2001:db8::3", "2001:db8::4"];
        assert_eq!(ordered, expected);
    }

    #[test]
    fn what_nobody_else_can_use_is_left_out() {
        let none = AddressFlags::empty();
        for (addr, scope, flags) in [
            ("127.0.0.1", AddressScope::Host, none),
            ("127.0.0.2", AddressScope::Universe, none),
            ("::1", AddressScope::Host, none),
            ("169.254.7.7", AddressScope::Universe, none),
            ("fe80::1", AddressScope::Link, none),
            ("192.0.2.1", AddressScope::Link, none),
            ("2001:db8::1", AddressScope::Universe, AddressFlags::Tentative),
            ("2001:db8::1", AddressScope::Universe, AddressFlags::Dadfailed),
        ] {
            assert_eq!(listed(addr, scope, flags), None, "{addr}");
        }
        assert!(listed("2001:db8::1", AddressScope::Site, none).is_some());
    }
}
