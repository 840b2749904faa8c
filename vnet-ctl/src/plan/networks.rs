//! The bridges of networks.

use super::{Action, Kind, Link, Network, Observed, Obstacle, Owner, Ownership, planner::Planner};

impl Planner<'_> {
    pub(super) fn network(&mut self, name: &str, network: &Network) {
        let observed = self.observed;
        match (bridge_of(observed, network), observed.by_name(&network.bridge)) {
            (Some(link), _) => self.repair_bridge(name, network, link),
            (None, None) => self.create_bridge(name, network),
            (None, Some(_)) => self
                .obstacles
                .push(Obstacle::LinkInTheWay { network: name.to_owned(), device: network.bridge.clone() }),
        }
    }

    fn create_bridge(&mut self, name: &str, network: &Network) {
        let Network { bridge: device, mac, mtu, .. } = network.clone();
        let owner = Some(Owner::Network(name.to_owned()));
        self.created.insert(device.clone());
        self.prepare(
            Action::CreateBridge { network: name.to_owned(), device: device.clone(), mac, mtu },
            Action::DeleteLink { device: device.clone(), owner },
        );
        if network.is_mute() {
            self.prepare(Action::Mute { device: device.clone() }, None);
        }
        self.attach(None, Action::AttachBridge { device: device.clone() }, &device);
        if !network.is_mute() {
            self.finish(
                Action::SetAddresses { device: device.clone(), addresses: network.addresses() },
                None,
            );
        }
        self.up(None, &device);
    }

    fn repair_bridge(&mut self, name: &str, network: &Network, link: &Link) {
        let device = || link.name.clone();
        self.taken.insert(link.ifindex);
        self.owner(link, Owner::Network(name.to_owned()));
        if !matches!(link.kind, Kind::Bridge { stp: false, mcast_snooping: false }) {
            self.prepare(Action::SimplifyBridge { device: device() }, None);
        }
        if link.makes_link_local {
            self.prepare(Action::SetQuiet { device: device() }, None);
        }
        match (network.is_mute(), link.is_mute) {
            (true, false) => {
                self.prepare(Action::Mute { device: device() }, Action::Unmute { device: device() });
            }
            (false, true) => {
                self.prepare(Action::Unmute { device: device() }, Action::Mute { device: device() });
            }
            _ => {}
        }
        if link.mac != Some(network.mac) {
            let set = |mac| Action::SetMac { device: device(), mac };
            self.prepare(set(network.mac), link.mac.map(set));
        }
        self.mtu(link, network.mtu);
        self.attach(Some(link), Action::AttachBridge { device: device() }, &link.name);
        let mut addresses = network.addresses();
        addresses.sort_unstable();
        if link.addresses != addresses {
            let set = |addresses| Action::SetAddresses { device: device(), addresses };
            self.finish(set(addresses), set(link.addresses.clone()));
        }
        self.up(Some(link), &link.name);
    }

    /// Marks `link` as that of `owner`, unless it is.
    pub(super) fn owner(&mut self, link: &Link, owner: Owner) {
        if link.ownership.owner() != Some(&owner) {
            let set = |owner| Action::SetOwner { device: link.name.clone(), owner };
            let undo = link.ownership.owner().cloned().map(set);
            self.prepare(set(owner), undo);
        }
    }
}

/// The link that is the bridge of `network`, or was made to be one.
pub(super) fn bridge_of<'a>(observed: &'a Observed, network: &Network) -> Option<&'a Link> {
    observed.by_name(&network.bridge).filter(|link| {
        matches!(link.kind, Kind::Bridge { .. })
            && matches!(link.ownership, Ownership::Ours(Owner::Network(_)) | Ownership::Newborn)
    })
}
