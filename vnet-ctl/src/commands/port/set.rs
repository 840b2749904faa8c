//! `port set`: changes a port, where it is declared.

use vnet_ctl::{
    api::types::{PortInfo, RuntimePort},
    edit::{self, PortEdit, Setting},
};

use super::{
    Context,
    attach_args::AttachArgs,
    runtime::{self, Verb},
};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl port set web-1 --group web,admin              these groups, and no others
  vnet-ctl port set web-1 --address 10.10.0.20
  vnet-ctl port set web-1 --no-address --no-mac          assigned and derived again
  vnet-ctl port set web-1 --netns web-1b --create        move it";

/// Change a port: in the policy file, or in the daemon if that is where it was created.
///
/// A list that is given replaces the one of before. What is not named stays as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Command {
    /// The port
    #[arg(value_name = "PORT")]
    name: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(clap::Args, Debug)]
struct Settings {
    /// The network that it is in
    #[arg(long, value_name = "NETWORK", group = "what")]
    network: Option<String>,
    /// Networks with a VLAN that it takes part in as well, all of them
    #[arg(long = "vlan-of", value_name = "NETWORK,…", value_delimiter = ',', group = "what")]
    vlans: Vec<String>,
    /// Take part in no other network
    #[arg(long, conflicts_with = "vlans", group = "what")]
    no_vlan_of: bool,
    #[command(flatten)]
    attach: AttachArgs,
    /// Its addresses, all of them
    #[arg(long = "address", value_name = "ADDRESS,…", value_delimiter = ',', group = "what")]
    addresses: Vec<String>,
    /// Have its addresses assigned
    #[arg(long, conflicts_with = "addresses", group = "what")]
    no_address: bool,
    /// Its MAC
    #[arg(long, value_name = "MAC", group = "what")]
    mac: Option<String>,
    /// Derive the MAC from the port's name
    #[arg(long, conflicts_with = "mac", group = "what")]
    no_mac: bool,
    /// Its security groups, all of them
    #[arg(long = "group", value_name = "GROUP,…", value_delimiter = ',', group = "what")]
    groups: Vec<String>,
    /// Put it into the group default alone
    #[arg(long, conflicts_with = "groups", group = "what")]
    no_group: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.name.as_str();
        if let Some(port) = runtime::find(context, name).await? {
            return runtime::put(context, name, &self.settings.changed(port), Verb::Change).await;
        }
        let settings = self.settings.edit();
        let set = |text: &str| edit::set_port(text, name, &settings);
        Named { noun: "port", name }.change(context, "changed", Tolerate::Nothing, set).await
    }
}

impl Settings {
    /// For the policy file.
    fn edit(self) -> PortEdit {
        PortEdit {
            attach: self.attach.edit(),
            network: Setting::of(self.network),
            vlans: Setting::of_list(self.vlans).or_unset(self.no_vlan_of),
            addresses: Setting::of_list(self.addresses).or_unset(self.no_address),
            mac: Setting::of(self.mac).or_unset(self.no_mac),
            security_groups: Setting::of_list(self.groups).or_unset(self.no_group),
        }
    }

    /// `port` as it is to be, for the API.
    fn changed(self, port: PortInfo) -> RuntimePort {
        let list = |given: Vec<String>, is_reset: bool, old: Vec<String>| match given.is_empty() {
            true if is_reset => Vec::new(),
            true => old,
            false => given,
        };
        let moves = self.network.as_ref().is_some_and(|network| *network != port.network);
        let vlans = port.vlans.into_iter().map(|vlan| vlan.network).collect();
        // What it was heard with is not for anybody to declare.
        let own = port.addresses.iter().filter(|addr| !port.learned.contains(addr));
        let old = own.map(ToString::to_string).collect();
        RuntimePort {
            attach: self.attach.runtime().unwrap_or_else(|| runtime::attach(port.attach)),
            network: self.network.unwrap_or(port.network),
            vlans: list(self.vlans, self.no_vlan_of, vlans),
            // Those of before are of no use in another network.
            addresses: list(self.addresses, self.no_address || moves, old),
            mac: self.mac.or_else(|| (!self.no_mac).then_some(port.mac)),
            security_groups: list(self.groups, self.no_group, port.security_groups),
            origin: port.origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use vnet_ctl::api::types::{AttachInfo, PortState, PortVlan};

    use super::*;

    #[derive(clap::Parser)]
    #[command(group = clap::ArgGroup::new("what").multiple(true))]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn changed(line: &str) -> RuntimePort {
        let port = PortInfo {
            name: "a".to_owned(),
            origin: "cni".to_owned(),
            network: "web".to_owned(),
            vlans: vec![PortVlan { network: "red".to_owned(), vlan: 10 }],
            device: "vp-1".to_owned(),
            ifindex: 7,
            mac: "02:00:00:00:00:01".to_owned(),
            addresses: ["10.0.0.2", "192.0.2.44"].map(|text| text.parse().expect("an address")).to_vec(),
            learned: vec!["192.0.2.44".parse().expect("an address")],
            security_groups: vec!["web".to_owned()],
            attach: AttachInfo::Device { device: "tap0".to_owned() },
            state: PortState::Up,
        };
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace()))
            .expect("parses")
            .settings
            .changed(port)
    }

    #[test]
    fn what_is_not_named_stays() {
        let same = changed("");
        assert_eq!(
            (same.addresses, same.security_groups),
            (vec!["10.0.0.2".to_owned()], vec!["web".to_owned()])
        );
        assert_eq!(
            (same.mac.as_deref(), same.attach.device.as_deref()),
            (Some("02:00:00:00:00:01"), Some("tap0"))
        );
        assert_eq!(changed("--group a,b").security_groups, ["a", "b"]);
        assert_eq!(changed("--netns x --create").attach.create, Some(true));
        let tap = changed("--tap tap1 --owner 7").attach;
        assert_eq!(
            (tap.tap.as_deref(), tap.create, tap.owner, tap.device),
            (Some("tap1"), Some(true), Some(7), None)
        );
        assert_eq!(
            (changed("").vlans, changed("--vlan-of blue").vlans),
            (vec!["red".to_owned()], vec!["blue".to_owned()])
        );
    }

    #[test]
    fn a_reset_or_another_network_leaves_the_choice_to_the_daemon() {
        let reset = changed("--no-address --no-mac --no-group --no-vlan-of");
        assert!(reset.addresses.is_empty() && reset.mac.is_none() && reset.security_groups.is_empty());
        assert!(reset.vlans.is_empty());
        assert!(changed("--network back").addresses.is_empty());
    }
}
