//! `network set`: changes a network of the policy file.

use vnet_ctl::edit::{self, NetworkEdit, Setting};

use super::{Context, MappingType, NetworkType, segment_args::SegmentArgs};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl network set web --mtu 9000
  vnet-ctl network set web --subnet 10.10.0.0/24,fd00:10::/64    these, and no others
  vnet-ctl network set web --connect backend
  vnet-ctl network set web --no-connect --no-mtu                 back to the defaults
  vnet-ctl network set vault --no-host                           keep the host out
  vnet-ctl network set vault --host                              let it in again
  vnet-ctl network set web --uplink eth1 --snat 198.51.100.9     the way outside
  vnet-ctl network set web --no-uplink --snat uplink             back to the default route's device
  vnet-ctl network set web --no-snat 10.0.0.0/8                  untranslated to there
  vnet-ctl network set web --no-snat none --no-snat-ports        back to the defaults
  vnet-ctl network set web --clamp-mss true                      for a way with a small MTU
  vnet-ctl network set web --mapping endpoint-independent        for games, calls and STUN
  vnet-ctl network set web --vlan 10 --trunk eth1                beyond this host, too
  vnet-ctl network set far --peer 192.0.2.12,192.0.2.14          these, and no others
  vnet-ctl network set web --no-vlan                             on this host alone again";

/// What `--snat` takes for the uplink's own address.
const OF_UPLINK: &str = "uplink";
/// What `--no-snat` takes for no prefix at all.
const NONE: &str = "none";

/// Change a network, at once and in the policy file.
///
/// A list that is given replaces the one of before. What is not named stays as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Command {
    /// The network
    #[arg(value_name = "NETWORK")]
    name: String,
    /// nat (leads outside behind the host's address), routed (with its own addresses), private (closed) or bridged (the
    /// LAN of its uplink)
    #[arg(long = "type", value_name = "TYPE", value_enum, hide_possible_values = true, group = "what")]
    kind: Option<NetworkType>,
    /// Its subnets, all of them
    #[arg(long = "subnet", value_name = "CIDR,…", value_delimiter = ',', group = "what")]
    subnets: Vec<String>,
    /// The host's addresses in them
    #[arg(long = "gateway", value_name = "ADDRESS,…", value_delimiter = ',', group = "what")]
    gateways: Vec<String>,
    /// Let the gateways be the first address of each subnet
    #[arg(long, conflicts_with = "gateways", group = "what")]
    no_gateway: bool,
    /// Largest IP packet, in bytes
    #[arg(long, value_name = "BYTES", group = "what")]
    mtu: Option<i64>,
    /// The usual MTU
    #[arg(long, conflicts_with = "mtu", group = "what")]
    no_mtu: bool,
    /// Networks to route to and from, all of them
    #[arg(long, value_name = "NETWORK,…", value_delimiter = ',', group = "what")]
    connect: Vec<String>,
    /// Isolate it from the networks that it names itself; others may still name it
    #[arg(long, conflicts_with = "connect", group = "what")]
    no_connect: bool,
    /// Let the host take part
    #[arg(long, group = "what")]
    host: bool,
    /// Keep the host itself out
    #[arg(long, conflicts_with = "host", group = "what")]
    no_host: bool,
    /// The device that its packets leave by; bridged: that of its LAN
    #[arg(long, value_name = "DEVICE", group = "what")]
    uplink: Option<String>,
    /// Leave by the device of the default route
    #[arg(long, conflicts_with = "uplink", group = "what")]
    no_uplink: bool,
    /// nat: the addresses that they leave with, all of them; `uplink` for the uplink's own
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',', group = "what")]
    snat: Vec<String>,
    /// nat: the source ports that they may get outside
    #[arg(long, value_name = "FIRST-LAST", group = "what")]
    snat_ports: Option<String>,
    /// The usual source ports
    #[arg(long, conflicts_with = "snat_ports", group = "what")]
    no_snat_ports: bool,
    /// nat: prefixes to which they leave with the workload's own address, all of them; or `none`
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', group = "what")]
    no_snat: Vec<String>,
    /// nat: endpoint-independent (the same source port outside for every destination) or endpoint-dependent
    #[arg(long, value_name = "MAPPING", value_enum, hide_possible_values = true, group = "what")]
    mapping: Option<MappingType>,
    /// Whether TCP connections that are routed begin with segments that fit the way
    #[arg(long, value_name = "true|false", group = "what")]
    clamp_mss: Option<bool>,
    #[command(flatten)]
    segment: SegmentArgs,
    /// Have no VLAN any more, and no trunk for it
    #[arg(long, conflicts_with_all = ["vlan", "trunk", "priority"], group = "what")]
    no_vlan: bool,
    /// Give its tags no priority of their own
    #[arg(long, conflicts_with = "priority", group = "what")]
    no_priority: bool,
    /// Have no overlay any more
    #[arg(long, conflicts_with_all = ["vni", "peers"], group = "what")]
    no_vni: bool,
}

/// The list, or its absence if it is `word` alone.
fn list_or(given: Vec<String>, word: &str) -> Setting<Vec<String>> {
    let is_word = given == [word];
    Setting::of_list(given).or_unset(is_word)
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.name.as_str();
        let settings = NetworkEdit {
            kind: Setting::of(self.kind.map(NetworkType::key)),
            subnets: Setting::of_list(self.subnets),
            gateways: Setting::of_list(self.gateways).or_unset(self.no_gateway),
            mtu: Setting::of(self.mtu).or_unset(self.no_mtu),
            connect: Setting::of_list(self.connect).or_unset(self.no_connect),
            host: Setting::of(self.no_host.then_some(false)).or_unset(self.host),
            uplink: Setting::of(self.uplink).or_unset(self.no_uplink),
            snat: list_or(self.snat, OF_UPLINK),
            snat_ports: Setting::of(self.snat_ports).or_unset(self.no_snat_ports),
            no_snat: list_or(self.no_snat, NONE),
            mapping: Setting::of(self.mapping.map(MappingType::key)),
            clamp_mss: Setting::of(self.clamp_mss),
            vlan: Setting::of_list(self.segment.vlan).or_unset(self.no_vlan),
            trunk: Setting::of(self.segment.trunk).or_unset(self.no_vlan),
            priority: Setting::of(self.segment.priority).or_unset(self.no_vlan || self.no_priority),
            vni: Setting::of(self.segment.vni).or_unset(self.no_vni),
            peers: Setting::of_list(self.segment.peers).or_unset(self.no_vni),
        };
        let set = |text: &str| edit::set_network(text, name, &settings);
        Named { noun: "network", name }.change(context, "changed", Tolerate::Nothing, set).await
    }
}
