//! What the datapath has seen of ports whose addresses are learned, one after the other.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, RawFd},
};

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use vnet_common::{MacAddr, Snooped, SnoopedKind};

use super::{names::SNOOPED, tables};

/// What was seen of one port, known by the bridge of its network and its MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It claims an address.
    Claim {
        /// The network's bridge.
        network: u32,
        /// The port's MAC.
        mac: MacAddr,
        /// The address.
        addr: IpAddr,
    },
    /// A DHCP message to it; its MAC may be that of many.
    DhcpToPort {
        /// The network's bridge.
        network: u32,
        /// The message.
        message: Vec<u8>,
    },
    /// A DHCP message of its own.
    DhcpFromPort {
        /// The network's bridge.
        network: u32,
        /// The port's MAC.
        mac: MacAddr,
        /// The message.
        message: Vec<u8>,
    },
}

/// The ring buffer. Its descriptor is readable while there is something in it.
pub struct Snoop(RingBuf<MapData>);

impl std::fmt::Debug for Snoop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Snoop").field(&self.0.as_raw_fd()).finish()
    }
}

impl AsRawFd for Snoop {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Snoop {
    pub(super) fn take(object: &Ebpf) -> Result<Self> {
        Ok(Self(tables::open_map(object, SNOOPED)?))
    }

    /// Takes up to `most` records out. What is none of this version's is left out.
    pub fn read(&mut self, most: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..most {
            let Some(record) = self.0.next() else { break };
            seen.extend(parse(&record));
        }
        seen
    }
}

fn parse(record: &[u8]) -> Option<Seen> {
    let (seen, message) = Snooped::read(record)?;
    let (network, mac) = (seen.network, seen.mac);
    Some(match seen.kind()? {
        SnoopedKind::Claim => Seen::Claim { network, mac, addr: seen.addr.to_std() },
        SnoopedKind::DhcpToPort => Seen::DhcpToPort { network, message: message.to_vec() },
        SnoopedKind::DhcpFromPort => Seen::DhcpFromPort { network, mac, message: message.to_vec() },
    })
}
