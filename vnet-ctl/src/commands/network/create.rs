//! `network create`: one more network in the policy file.

use vnet_ctl::edit::{self, NetworkEdit, Setting};

use super::{Context, MappingType, NetworkType, segment_args::SegmentArgs};
use crate::{
    commands::named::{Named, Tolerate},
    failure::Outcome,
};

const EXAMPLES: &str = "\
Examples:
  vnet-ctl network create web --type nat --subnet 10.10.0.0/24 --subnet fd00:10::/64
  vnet-ctl network create backend --type private --subnet 10.20.0.0/24 --connect web
  vnet-ctl network create vault --type private --subnet 10.30.0.0/24 --no-host
  vnet-ctl network create out --type nat --subnet 10.40.0.0/24 --uplink eth0 --snat 198.51.100.9
  vnet-ctl network create game --type nat --subnet 10.50.0.0/24 --mapping endpoint-independent
  vnet-ctl network create red --type private --subnet 10.60.0.0/24 --vlan 10 --trunk eth1
  vnet-ctl network create lan --type bridged --uplink eth1
  vnet-ctl network create far --type private --subnet 10.70.0.0/24 --vni 5001 --peer 192.0.2.12,192.0.2.13
  vnet-ctl network create web --type nat --subnet 10.10.0.0/24 --if-not-exists
  vnet-ctl network create web --type nat --subnet 10.10.0.0/24 --dry-run    show the diff only";

/// Create a network, at once and in the policy file.
///
/// Edits the policy file, comments and layout kept, and has the daemon apply it; if the daemon refuses,
/// the file stays as it is. Networks are isolated from one another unless they are connected.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").multiple(true))]
pub(crate) struct Command {
    /// Its name: lower-case letters, digits and dashes, 10 at most
    #[arg(value_name = "NETWORK")]
    name: String,
    /// nat (leads outside behind the host's address), routed (with its own addresses), private (closed) or bridged (the
    /// LAN of its uplink)
    #[arg(long = "type", value_name = "TYPE", value_enum, hide_possible_values = true)]
    kind: NetworkType,
    /// Its subnets, for instance 10.10.0.0/24; bridged: those of the LAN, if addresses of ports are given
    #[arg(long = "subnet", value_name = "CIDR,…", value_delimiter = ',')]
    #[arg(required_if_eq_any([("kind", "nat"), ("kind", "private"), ("kind", "routed")]))]
    subnets: Vec<String>,
    /// The host's addresses in them [default: the first of each subnet]
    #[arg(long = "gateway", value_name = "ADDRESS,…", value_delimiter = ',')]
    gateways: Vec<String>,
    /// Largest IP packet, in bytes [default: 1500; in an overlay 1450, or 1430 over IPv6]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<i64>,
    /// Networks to route to and from; security groups hold on both sides
    #[arg(long, value_name = "NETWORK,…", value_delimiter = ',')]
    connect: Vec<String>,
    /// Keep the host itself out
    #[arg(long)]
    no_host: bool,
    /// The device that its packets leave by [default: that of the default route]; bridged: that of its LAN
    #[arg(long, value_name = "DEVICE")]
    uplink: Option<String>,
    /// nat: the addresses that they leave with [default: the uplink's own]
    #[arg(long, value_name = "ADDRESS,…", value_delimiter = ',')]
    snat: Vec<String>,
    /// nat: the source ports that they may get outside [default: 1024-32767]
    #[arg(long, value_name = "FIRST-LAST")]
    snat_ports: Option<String>,
    /// nat: prefixes to which they leave with the workload's own address
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    no_snat: Vec<String>,
    /// nat: endpoint-independent keeps a workload's source port the same outside for every destination
    #[arg(long, value_name = "MAPPING", value_enum, hide_possible_values = true)]
    mapping: Option<MappingType>,
    /// Whether TCP connections that are routed begin with segments that fit the way [default: false]
    #[arg(long, value_name = "true|false")]
    clamp_mss: Option<bool>,
    #[command(flatten)]
    segment: SegmentArgs,
    /// Succeed if the network is there already, and leave it as it is
    #[arg(long)]
    if_not_exists: bool,
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context<'_>) -> Outcome {
        let name = self.name.as_str();
        let settings = NetworkEdit {
            kind: Setting::Set(self.kind.key()),
            subnets: Setting::of_list(self.subnets),
            gateways: Setting::of_list(self.gateways),
            mtu: Setting::of(self.mtu),
            connect: Setting::of_list(self.connect),
            host: Setting::of(self.no_host.then_some(false)),
            uplink: Setting::of(self.uplink),
            snat: Setting::of_list(self.snat),
            snat_ports: Setting::of(self.snat_ports),
            no_snat: Setting::of_list(self.no_snat),
            mapping: Setting::of(self.mapping.map(MappingType::key)),
            clamp_mss: Setting::of(self.clamp_mss),
            vlan: Setting::of_list(self.segment.vlan),
            trunk: Setting::of(self.segment.trunk),
            priority: Setting::of(self.segment.priority),
            vni: Setting::of(self.segment.vni),
            peers: Setting::of_list(self.segment.peers),
        };
        let tolerate = Tolerate::Existing.when(self.if_not_exists);
        let create = |text: &str| edit::create_network(text, name, &settings);
        Named { noun: "network", name }.change(context, "created", tolerate, create).await
    }
}
