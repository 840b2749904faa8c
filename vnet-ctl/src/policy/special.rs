//! Addresses with a meaning of their own, which nobody can have outside.

use std::net::{IpAddr, Ipv6Addr};

use super::Mistake;

/// Why an address is not like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// `0.0.0.0` and `::`.
    Unspecified,
    /// RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
    Loopback,
    /// RFC 3927, RFC 4291 section 2.5.6.
    LinkLocal,
    /// RFC 1112, RFC 4291 section 2.7.
    Multicast,
    /// RFC 919.
    Broadcast,
    /// 0.0.0.0/8 and 240.0.0.0/4, RFC 6890.
    Reserved,
    /// IPv4 written as IPv6, RFC 4291 section 2.5.5.2.
    Mapped,
}

impl Special {
    /// What is special about `addr`, if anything.
    pub(super) const fn of(addr: IpAddr) -> Option<Self> {
        match addr {
            addr if addr.is_unspecified() => Some(Self::Unspecified),
            addr if addr.is_loopback() => Some(Self::Loopback),
            addr if addr.is_multicast() => Some(Self::Multicast),
            IpAddr::V4(addr) if addr.is_link_local() => Some(Self::LinkLocal),
            IpAddr::V4(addr) if addr.is_broadcast() => Some(Self::Broadcast),
            IpAddr::V4(addr) if matches!(addr.octets()[0], 0 | 240..) => Some(Self::Reserved),
            IpAddr::V6(addr) if addr.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some() => Some(Self::Mapped),
            _ => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Unspecified => "it stands for no address",
            Self::Loopback => "it is a loopback address",
            Self::LinkLocal => "it is link-local",
            Self::Multicast => "it is a multicast address",
            Self::Broadcast => "it is the broadcast address",
            Self::Reserved => "it is reserved",
            Self::Mapped => "it is IPv4 written as IPv6",
        }
    }
}

/// `addr`, if it can be `what`: if nothing is special about it, or nothing but what `allowed` has.
pub(super) fn check_plain(addr: IpAddr, what: &str, allowed: &[Special]) -> Result<IpAddr, Mistake> {
    let Some(special) = Special::of(addr).filter(|special| !allowed.contains(special)) else {
        return Ok(addr);
    };
    let mistake = Mistake::new(format!("{addr} cannot be {what}: {}", special.words()));
    Err(match unmapped(addr) {
        Some(v4) => mistake.help(format!("write {v4}")),
        None => mistake.help("choose an address that a host can have"),
    })
}

fn unmapped(addr: IpAddr) -> Option<std::net::Ipv4Addr> {
    match addr {
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => Ipv6Addr::to_ipv4_mapped(&addr),
    }
}

/// The word for an IP version.
pub(super) const fn version(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}
