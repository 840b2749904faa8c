//! The taps that vnet makes for virtual machines.
//!
//! They outlive whoever has them open, and the machine may come later. Only one user may open each, besides root.

use super::{Action, Kind, Link, Network, Obstacle, Owner, Ownership, planner::Planner};

/// The number of root: whose a tap is that nobody is named for. The kernel lets anybody open one without an owner.
const ROOT: u32 = 0;

impl Planner<'_> {
    pub(super) fn tap(
        &mut self,
        name: &str,
        network: &Network,
        device: &str,
        user: Option<u32>,
    ) -> Result<(), Obstacle> {
        let user = user.unwrap_or(ROOT);
        match self.observed.by_name(device) {
            Some(link) if is_ours(link) => {
                self.tap_user(name, link, user);
                self.repair_port(name, network, link, network.mtu);
            }
            None if !self.created.contains(device) => self.create_tap(name, network, device, user),
            Some(_) | None => {
                return Err(Obstacle::TapInTheWay { port: name.to_owned(), device: device.to_owned() });
            }
        }
        Ok(())
    }

    fn create_tap(&mut self, name: &str, network: &Network, device: &str, user: u32) {
        let (port, device, mtu) = (name.to_owned(), device.to_owned(), network.mtu);
        self.created.insert(device.clone());
        let owner = Some(Owner::Port(port.clone()));
        self.prepare(
            Action::CreateTap { port, device: device.clone(), user, mtu },
            Action::DeleteLink { device: device.clone(), owner },
        );
        self.attach(None, Action::AttachPort { device: device.clone() }, &device);
        self.prepare(Action::Enslave { device: device.clone(), bridge: network.bridge.clone() }, None);
        self.up(None, &device);
    }

    /// The kernel tells who may open a tap only to who has it open, and no two can.
    fn tap_user(&mut self, port: &str, link: &Link, user: u32) {
        let Kind::Tap { user: before, is_open } = link.kind else { return };
        if before == Some(user) {
            return;
        }
        if is_open {
            self.plan.warnings.push(format!(
                "port {port}: somebody has {} open; it is given to user {user} when that ends",
                link.name
            ));
            return;
        }
        let set = |user| Action::SetTapUser { device: link.name.clone(), user };
        self.prepare(set(user), before.map(set));
    }
}

/// Whether `link` is a tap that vnet made.
pub(super) fn is_ours(link: &Link) -> bool {
    matches!(link.kind, Kind::Tap { .. }) && matches!(link.ownership, Ownership::Ours(Owner::Port(_)))
}
