//! The flags that describe a rule: what it matches, and whom it allows.

use clap::ValueEnum;
use vnet_common::Direction;
use vnet_ctl::policy::{Peer, PortRange, Protocol, RuleSpec};

use crate::failure::{Failure, Kind};

/// Which way, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// To the workload
    Ingress,
    /// From the workload
    Egress,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Ingress => Self::Ingress,
            Way::Egress => Self::Egress,
        }
    }
}

/// What a rule matches besides its protocol.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct MatchArgs {
    /// Destination ports and ranges of them, for instance 80,443,8000-8010 [default: all]
    #[arg(long = "port", value_name = "PORT,…", value_delimiter = ',')]
    ports: Vec<PortRange>,
    /// ICMP type, for instance 8 for an echo request [default: all]
    #[arg(long, value_name = "N", conflicts_with = "ports")]
    icmp_type: Option<u8>,
    /// ICMP code of that type [default: all]
    #[arg(long, value_name = "N", requires = "icmp_type")]
    icmp_code: Option<u8>,
    /// Ingress: who may send. CIDR, address, sg:GROUP, net:NETWORK, list:LIST or any
    #[arg(long, value_name = "PEER,…", value_delimiter = ',')]
    from: Vec<Peer>,
    /// Egress: whom the workload may reach, in the same words
    #[arg(long, value_name = "PEER,…", value_delimiter = ',', conflicts_with = "from")]
    to: Vec<Peer>,
}

impl MatchArgs {
    /// The rule that the flags describe.
    pub(crate) fn spec(self, way: Way, protocol: Protocol) -> Result<RuleSpec, Failure> {
        let usage = |message: &str, help: &str| Failure::new(Kind::Invalid, message).help(help);
        let peers = match (way, self.from.is_empty(), self.to.is_empty()) {
            (Way::Ingress, false, true) => self.from,
            (Way::Egress, true, false) => self.to,
            (Way::Ingress, true, true) => {
                return Err(usage(
                    "an ingress rule says who may send",
                    "add --from, for instance --from any",
                ));
            }
            (Way::Egress, true, true) => {
                return Err(usage("an egress rule says whom to reach", "add --to, for instance --to any"));
            }
            (Way::Ingress, ..) => return Err(usage("an ingress rule has no --to", "write --from instead")),
            (Way::Egress, ..) => return Err(usage("an egress rule has no --from", "write --to instead")),
        };
        let icmp = self.icmp_type.map(|kind| (kind, self.icmp_code));
        Ok(RuleSpec { protocol, ports: self.ports, icmp, peers, description: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(text: &str) -> Vec<Peer> {
        vec![text.parse().expect("a peer")]
    }

    #[test]
    fn ingress_comes_from_and_egress_goes_to() {
        let from = MatchArgs { from: peers("any"), ..MatchArgs::default() };
        let to = MatchArgs { to: peers("sg:db"), ..MatchArgs::default() };
        assert_eq!(from.clone().spec(Way::Ingress, Protocol::TCP).expect("a rule").peers, peers("any"));
        assert_eq!(to.clone().spec(Way::Egress, Protocol::TCP).expect("a rule").peers, peers("sg:db"));
        for (args, way) in [(from, Way::Egress), (to, Way::Ingress), (MatchArgs::default(), Way::Egress)] {
            let failure = args.spec(way, Protocol::TCP).expect_err("senseless");
            assert!(failure.kind == Kind::Invalid && failure.help.is_some());
        }
    }

    #[test]
    fn an_icmp_type_takes_its_code_along() {
        let args =
            MatchArgs { from: peers("any"), icmp_type: Some(3), icmp_code: Some(4), ..MatchArgs::default() };
        assert_eq!(args.spec(Way::Ingress, Protocol::ICMP).expect("a rule").icmp, Some((3, Some(4))));
    }
}
