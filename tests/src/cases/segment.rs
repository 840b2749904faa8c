//! Networks that go beyond the host: by a trunk with one tag or two, by an uplink that is bridged, or by an overlay.

mod bridged;
mod encapsulated;
mod joined;
mod lan;
mod many;
pub(super) mod measured;
mod member;
mod neighbours;
mod overlay;
mod tags;

use vnet_common::{Delivery, DropReason};

use super::{
    step::{Case, Entry, Hook, Sent, reach},
    world::{
        Beyond, Device, Party, Policy, Version,
        segment::{PRIORITY, SERVICE, VLAN},
    },
};

/// IEEE 802.1Q and 802.1ad.
const CUSTOMER: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;

pub(super) fn cases() -> Vec<Case> {
    [
        lan::cases(),
        neighbours::cases(),
        many::cases(),
        tags::cases(),
        member::cases(),
        bridged::cases(),
        joined::cases(),
        overlay::cases(),
        encapsulated::cases(),
    ]
    .concat()
}

/// The frame with these tags, ethertype and value of each, the outermost first.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    let tags = tags.iter().flat_map(|(kind, value)| [kind.to_be_bytes(), value.to_be_bytes()].concat());
    macs.iter().copied().chain(tags).chain(rest.iter().copied()).collect()
}

/// The frame with one tag.
fn vlan(frame: &[u8], tag: u16) -> Vec<u8> {
    tagged(frame, &[(CUSTOMER, tag)])
}

/// A frame that arrives at the trunk, or out of no tunnel at the device for overlays.
const fn trunk() -> Entry {
    Entry::at(Hook::FromSegment, Device::K)
}

/// Sent by the host on the LAN that it shares with network W.
const fn lan_host() -> Entry {
    Entry::at(Hook::ToSegment, Device::U)
}

/// A LAN beyond the host that network W is part of.
#[derive(Clone, Copy)]
struct Lan {
    policy: Beyond,
    device: Device,
    /// The tags with which frames arrive.
    arriving: &'static [(u16, u16)],
    /// Those with which they leave.
    leaving: &'static [(u16, u16)],
}

/// One tag on the trunk.
const VLAN_LAN: Lan = {
    const TAGS: &[(u16, u16)] = &[(CUSTOMER, VLAN)];
    Lan { policy: Beyond::Vlan, device: Device::K, arriving: TAGS, leaving: TAGS }
};
/// Two tags on the trunk.
const DOUBLE: Lan = Lan {
    policy: Beyond::DoubleVlan,
    device: Device::K,
    arriving: &[(SERVICE_TAG, SERVICE), (CUSTOMER, VLAN)],
    leaving: &[(SERVICE_TAG, SERVICE | PRIORITY), (CUSTOMER, VLAN | PRIORITY)],
};
/// No tag on the uplink, which the host shares.
const BRIDGED: Lan = Lan { policy: Beyond::Bridged, device: Device::U, arriving: &[], leaving: &[] };
/// One tag on the uplink.
const BRIDGED_VLAN: Lan = Lan { policy: Beyond::BridgedVlan, device: Device::U, ..VLAN_LAN };
/// The same as [`VLAN_LAN`], and D is known.
const WITH_D: Lan = Lan { policy: Beyond::RemotePort, ..VLAN_LAN };

/// All kinds.
const LANS: [Lan; 4] = [VLAN_LAN, DOUBLE, BRIDGED, BRIDGED_VLAN];
/// Those in which the host is the gateway.
const ROUTED_LANS: [Lan; 2] = [VLAN_LAN, DOUBLE];
/// Those in which it is not.
const BRIDGED_LANS: [Lan; 2] = [BRIDGED, BRIDGED_VLAN];

impl Lan {
    fn begin(&self, text: &str, version: Version) -> Case {
        let policy = self.policy;
        Case::new(format!("{text} ({policy:?}, {version:?})")).commit(Policy::Beyond(policy))
    }

    /// Whether the host has its own address there.
    fn is_shared(&self) -> bool {
        self.policy == Beyond::Bridged
    }

    fn is_bridged(&self) -> bool {
        matches!(self.policy, Beyond::Bridged | Beyond::BridgedVlan)
    }

    /// A frame that arrives from there.
    const fn entry(&self) -> Entry {
        Entry::at(Hook::FromSegment, self.device)
    }

    fn arriving(&self, frame: &[u8]) -> Vec<u8> {
        tagged(frame, self.arriving)
    }

    fn leaving(&self, frame: &[u8]) -> Vec<u8> {
        tagged(frame, self.leaving)
    }

    /// `frame` goes there as it is, tags aside.
    fn leaves(&self, case: Case, entry: Entry, frame: &[u8]) -> Case {
        case.sends(entry, frame.to_vec(), (self.device, Delivery::Device), self.leaving(frame))
    }

    /// `frame` comes from there and reaches `receiver` as it is, tags aside.
    fn comes(&self, case: Case, frame: &[u8], receiver: &Party) -> Case {
        let entry = self.entry();
        case.sends(entry, self.arriving(frame), reach(entry, receiver), frame.to_vec())
    }

    /// `frame` comes from there and goes no further.
    fn refuses(&self, case: Case, frame: &[u8], reason: DropReason) -> Case {
        case.drops(self.entry(), self.arriving(frame), reason)
    }

    /// `frame` comes from there for many, and for nobody here. The host judges for itself what it hears on its own LAN.
    fn refuses_many(&self, case: Case, frame: &[u8], reason: DropReason) -> Case {
        if self.is_shared() {
            case.passes(self.entry(), frame.to_vec())
        } else {
            self.refuses(case, frame, reason)
        }
    }

    /// `frame` comes from there and is answered.
    fn answers(&self, case: Case, frame: &[u8], answer: &[u8]) -> Case {
        let answer = self.leaving(answer);
        case.sends(self.entry(), self.arriving(frame), (self.device, Delivery::Device), answer)
    }

    /// `frame` comes from there and goes to every port and to the host.
    fn floods(&self, case: Case, frame: &[u8]) -> Case {
        let (entry, arriving, inner) = (self.entry(), self.arriving(frame), frame.to_vec());
        if self.is_shared() {
            return case.passes(entry, arriving).copied(vec![Sent::by(Device::W, inner)]);
        }
        let copies = if self.is_bridged() { Vec::new() } else { vec![Sent::up(Device::W, inner.clone())] };
        case.sends(entry, arriving, (Device::W, Delivery::Flood), inner).copied(copies)
    }

    /// The copies of a frame that go there.
    fn copies(&self, frame: &[u8]) -> Vec<Sent> {
        let mut copies = vec![Sent::by(self.device, self.leaving(frame))];
        if self.is_shared() {
            copies.push(Sent::up(self.device, frame.to_vec()));
        }
        copies
    }

    /// `frame` goes to every port, and there.
    fn spreads(&self, case: Case, entry: Entry, frame: &[u8]) -> Case {
        case.passes(entry, frame.to_vec()).copied(self.copies(frame))
    }

    /// `frame` goes there, and to nobody here but the host where it shares the LAN.
    fn asks(&self, case: Case, entry: Entry, frame: &[u8]) -> Case {
        case.takes(entry, frame.to_vec(), &[]).copied(self.copies(frame))
    }

    /// `frame` goes there and to the host.
    fn tells(&self, case: Case, entry: Entry, frame: &[u8]) -> Case {
        let mut copies = self.copies(frame);
        if !self.is_bridged() {
            copies.push(Sent::up(Device::W, frame.to_vec()));
        }
        case.takes(entry, frame.to_vec(), &[]).copied(copies)
    }
}

/// `of` for each of `lans`, in both versions of IP.
fn each(lans: &[Lan], of: impl Fn(Lan, Version) -> Vec<Case>) -> Vec<Case> {
    let of = &of;
    lans.iter().flat_map(|lan| Version::BOTH.into_iter().flat_map(move |version| of(*lan, version))).collect()
}
