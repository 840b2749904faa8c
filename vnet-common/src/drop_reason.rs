//! The one numbered cause of each dropped packet.

/// Declares the reasons: number, name, the word that users see, and what it means to them.
macro_rules! drop_reasons {
    ($($number:literal $name:ident $label:literal $explanation:literal,)+) => {
        /// Why a packet was dropped. A number is never reused.
        ///
        /// `repr(u32)`: as wide as a register, so that a `Result` needs no masking in eBPF code.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $(#[doc = $explanation] $name = $number,)+
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name in tables and JSON.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// One sentence for the person who looks the reason up.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $explanation,)+ }
            }
        }

        impl TryFrom<u32> for DropReason {
            type Error = u32;

            fn try_from(number: u32) -> Result<Self, u32> {
                match number { $($number => Ok(Self::$name),)+ other => Err(other) }
            }
        }
    };
}

drop_reasons! {
    // The packet itself.
    1 Truncated "truncated" "The packet ends before the header that it announces.",
    2 MalformedHeader "malformed-header" "A header contradicts itself: version, length or flags.",
    3 EtherType "ether-type" "Neither ARP, IPv4 nor IPv6; vnet carries nothing else.",
    4 VlanTag "vlan-tag" "A frame with a tag that the port does not take: it takes those of its `vlans`, one at a time, and no other.",
    5 Fragment "fragment" "An IP fragment that could not be followed: its first one did not come in time, or was not allowed, or too many were on their way.",
    6 ExtensionHeader "extension-header" "An IPv6 extension header that is not on vnet's list, or too many of them.",
    7 TcpFlags "tcp-flags" "A combination of TCP flags that no connection uses.",
    8 FragmentOverlap "fragment-overlap" "An IP fragment that overlaps another one of its datagram; nothing more of the datagram passes.",
    // Who sent it.
    16 UnknownDevice "unknown-device" "The device belongs to no port or network of the policy: default deny.",
    17 SpoofedMac "spoofed-mac" "The source MAC is not the port's own; or it came from beyond this host with the MAC of somebody here.",
    18 SpoofedAddress "spoofed-address" "The source address is not one of the port's own; or it came from beyond this host with the address of somebody here.",
    19 SpoofedArp "spoofed-arp" "An ARP packet claims a MAC or address that is not the port's own.",
    20 SpoofedNeighbour "spoofed-neighbour" "An IPv6 neighbour message claims a MAC or address that is not the port's own.",
    21 RouterAdvertisement "router-advertisement" "A workload may not act as a router: router advertisement or redirect.",
    22 DhcpServer "dhcp-server" "A workload may not act as a DHCP server.",
    23 OverlayFromPort "overlay-from-port" "A workload sent what looks like the overlay (UDP to port 4789), on a host that takes part in one.",
    24 UnknownPeer "unknown-peer" "An overlay packet from an address that is none of the network's peers.",
    25 UnknownVni "unknown-vni" "An overlay packet with a network identifier that no network here has.",
    26 WrongUnderlay "wrong-underlay" "An overlay packet that came in by another device than the overlay's uplink.",
    // Where it goes.
    32 NoRoute "no-route" "Nobody in this network has the destination address.",
    33 Untranslated "untranslated" "It would leave the network with a private source address, and the network has no way out that could translate it.",
    34 WrongMac "wrong-mac" "The destination MAC is neither that of the destination nor the gateway's.",
    35 TtlExceeded "ttl-exceeded" "The time to live ran out at vnet's hop.",
    36 Forwarded "forwarded" "The host forwarded it from elsewhere; a network is not reachable that way.",
    37 Undecided "undecided" "It reached a port without having been judged.",
    38 UnknownNeighbour "unknown-neighbour" "ARP or neighbour discovery for an address that nobody in this network has.",
    39 TooBig "too-big" "It is longer than the MTU of the next link on its way.",
    40 UnknownStation "unknown-station" "It came from the network's segment for a MAC that nobody here has.",
    41 Storm "storm" "The workload sends more broadcasts and multicasts than a port may: it may bridge two of its ports, and so send the same ones for ever.",
    // What the policy says.
    48 EgressDenied "egress-denied" "No egress rule of the sender's security groups allows it.",
    49 IngressDenied "ingress-denied" "No ingress rule of the receiver's security groups allows it.",
    50 AclDenied "acl-denied" "An acl rule of the policy denies it, ahead of the security groups.",
    51 HostExcluded "host-excluded" "The network keeps the host out (`host = false`): its ports and the host do not speak.",
    // Which flow it belongs to.
    64 NoFlow "no-flow" "A TCP packet that opens no connection and belongs to none.",
    65 BadAck "bad-ack" "A TCP handshake packet acknowledges what was never sent.",
    66 Unsolicited "unsolicited" "Nobody asked for it: an ICMP reply, or what comes to an address that is vnet's alone.",
    67 UnrelatedError "unrelated-error" "An ICMP error about a packet of no known flow.",
    68 FlowTableFull "flow-table-full" "The flow table has no room for a new flow.",
    69 FlowExpiring "flow-expiring" "The flow was ending or beginning at this very moment; the sender's next attempt starts anew.",
    70 PortsExhausted "ports-exhausted" "No source port is free with which it could leave towards this destination.",
    71 TranslationChanged "translation-changed" "The flow is translated in a way that the policy does not have any more: a forward, an elastic IP or the address of the uplink has changed.",
    72 SynChallenged "syn-challenged" "The flow table is filling up, and who asks from outside has not shown that they are where they say: they were asked to, and their next attempt passes.",
    73 NewFlowLimit "new-flow-limit" "The flow table is filling up, and whoever is at this device, or at this address outside, opens more flows that do not come about than their share.",
    74 FlowQuota "flow-quota" "The flow table is nearly full, and most of its flows were opened here.",
    // vnet itself.
    80 Internal "internal" "vnet could not decide; this is a bug worth reporting.",
}

impl DropReason {
    /// The number that the counters and events carry.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DROP_REASONS;

    #[test]
    fn numbers_survive_a_round_trip_and_fit_the_counters() {
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::try_from(reason.number()), Ok(reason));
            assert!(reason.number() < DROP_REASONS);
        }
        assert_eq!(DropReason::try_from(0), Err(0));
    }
}
