//! Several backends behind one port of the host.

use vnet_common::{Forward, ForwardKey, ForwardKind, Ip};

use super::{B, C, Device, Devices, Party, Tables, U, Version};

/// Which of two backends new connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backends {
    /// C or B: half of the connections each.
    Both,
    /// C or B: half of the clients each.
    ByClient,
    /// C, while B drains.
    ToC,
    /// B, while C drains.
    ToB,
    /// B, which is the only one.
    OnlyB,
    /// Neither: both drain.
    Neither,
}

impl Backends {
    /// Who has which slot.
    pub(in crate::cases) const fn slots(self) -> &'static [Party] {
        match self {
            Self::Both | Self::ByClient => &[C, B],
            Self::ToC => &[C],
            Self::ToB | Self::OnlyB => &[B],
            Self::Neither => &[],
        }
    }

    /// The entry that stands behind the listened port.
    pub(in crate::cases) fn entry(self) -> Forward {
        /// Any number will do.
        const LIST: u32 = 77;
        Forward::list(LIST, self.slots().len() as u16, self == Self::ByClient)
    }

    /// Adds the list behind tcp/8080 of the host.
    pub(super) fn add(self, tables: &mut Tables, version: Version, devices: &Devices) {
        let ip = |party: &Party| Ip::from_std(party.addr(version));
        let head = ForwardKey::head(0, 0, ip(&U), 6);
        let mut list = self.entry();
        // The versions have lists of their own.
        list.network += u32::from(version == Version::V6);
        tables.forwards.push((head, Forward::head(1 << 16)));
        tables.forwards.push((head.block(8080, 16), list));
        let to = |party: &Party| {
            let (bridge, port) = if party.device == C.device { (Device::X, 80) } else { (Device::W, 8000) };
            Forward::to(ForwardKind::Forward, devices.index(bridge), ip(party), (8080, port))
        };
        for (slot, party) in (0..).zip(self.slots()) {
            tables.forwards.push((ForwardKey::slot(list.network, 0, slot), to(party)));
        }
        for party in if self == Self::OnlyB { &[B][..] } else { &[B, C] } {
            tables.forwards.push((ForwardKey::member(list.network, 0, ip(party)), to(party)));
        }
    }
}
