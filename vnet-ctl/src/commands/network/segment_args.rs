//! The flags that say how a network goes beyond this host.

/// A VLAN of a trunk, or an overlay.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Beyond this host")]
pub(super) struct SegmentArgs {
    /// The VLAN, of --trunk or of a bridged network's uplink: 1 to 4094, or OUTER,INNER for two tags
    #[arg(long, value_name = "VLAN", value_delimiter = ',', num_args = 1, group = "what")]
    pub(super) vlan: Vec<i64>,
    /// The device that carries the VLAN
    #[arg(long, value_name = "DEVICE", group = "what")]
    pub(super) trunk: Option<String>,
    /// The priority that its tags get, 0 to 7
    #[arg(long, value_name = "PRIORITY", group = "what")]
    pub(super) priority: Option<i64>,
    /// The number of its overlay (VXLAN), the same on all hosts that take part
    #[arg(long, value_name = "VNI", group = "what")]
    pub(super) vni: Option<i64>,
    /// The other hosts of the overlay, all of them
    #[arg(long = "peer", value_name = "ADDRESS,…", value_delimiter = ',', group = "what")]
    pub(super) peers: Vec<String>,
}
