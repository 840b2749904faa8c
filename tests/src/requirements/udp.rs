//! RFC 4787: UDP.

use super::{
    Fares::{Deviates, Met, Option, Unused},
    Level::{May, Must, Should},
    Requirement, row,
};

pub(super) const REQUIREMENTS: &[Requirement] = &[
    row(
        ("REQ-1", Must),
        "A workload's port is mapped to the same external one, whomever it speaks to.",
        Option(
            "`mapping = \"endpoint-independent\"` in the network. By default the external port is chosen for each \
             destination: thousands of workloads share one address, and a port that is taken for one server is free for \
             another. Two packets that open flows from one port on two CPUs in the same microsecond may still get two \
             ports; those that come later get one.",
        ),
        &[
            "a_port_becomes_the_same_one_whoever_is_spoken_to",
            "netns_mapping::mapping_is_the_same_for_every_server_over_udp",
            "netns_mapping::mapping_of_one_socket_is_the_same_for_whoever_it_asks",
            "netns_mapping::mapping_outlives_the_daemon",
            "netns_mapping::mapping_depends_on_the_server_without_the_option",
        ],
    ),
    row(
        ("REQ-2", Should),
        "Of several external addresses, a workload always has the same one.",
        Met("The workload's address chooses, also of the addresses of a `snat` list."),
        &["netns_nat_addresses::nat_gives_a_workload_always_the_same_address_of_a_pool"],
    ),
    row(
        ("REQ-3", Must),
        "No two workloads have the same external port at the same time.",
        Met(
            "Not towards the same destination, without the option of REQ-1, which RFC 7857 section 3 allows; not at all \
             with it. A port is taken in one step or not at all, and who finds none is refused.",
        ),
        &[
            "a_port_that_is_not_in_the_pool_gets_one_that_is_free",
            "an_exhausted_pool_refuses_and_the_others_go_on",
            "netns_nat::nat_tells_a_hundred_workloads_with_the_same_address_and_port_apart",
            "netns_nat_addresses::nat_drops_what_finds_no_free_port_and_keeps_the_others",
        ],
    ),
    row(
        ("REQ-3a", Should),
        "A port below 1024 becomes one below 1024, others one from 1024 on.",
        Deviates(
            "The second half is met. Ports below 1024 of the uplink's address are those of the host's own services, so \
             none of them is given away. Elastic IPs keep every port.",
        ),
        &[
            "a_port_that_is_not_in_the_pool_gets_one_that_is_free",
            "a_port_with_an_elastic_ip_leaves_with_it_and_keeps_its_ports",
            "netns_nat_addresses::nat_keeps_to_its_source_ports",
        ],
    ),
    row(
        ("REQ-4", Should),
        "An even port becomes an even one, an odd one an odd one.",
        Deviates(
            "A port that the network may leave with is kept if it is free; another one need not have its parity. RTP \
             has had RTCP's port named in its session descriptions since RFC 3605, and uses one port for both since \
             RFC 5761.",
        ),
        &["a_workload_leaves_with_the_address_of_the_uplink"],
    ),
    row(
        ("REQ-5", Must),
        "A mapping lives for two minutes without packets at least.",
        Met(
            "120 s until the first answer, 300 s from then on. A flow that ended by the policy is forgotten after 10 s.",
        ),
        &[
            "requirements::flows_are_remembered_for_as_long_as_they_must",
            "vnet-ctl/src/datapath/pairs.rs::a_mapping_is_forgotten_after_the_last_of_its_flows",
        ],
    ),
    row(
        ("REQ-5a", May),
        "Well-known destination ports may have shorter timers.",
        Unused("All ports have the same."),
        &[],
    ),
    row(("REQ-5b", May), "The timer may be configurable.", Unused("Nobody has needed it so far."), &[]),
    row(
        ("REQ-5c", Should),
        "Five minutes or more by default.",
        Deviates(
            "Five minutes for flows that have been answered. What nobody answers is forgotten after two, so that a scan \
             does not fill the table of flows.",
        ),
        &["requirements::flows_are_remembered_for_as_long_as_they_must"],
    ),
    row(
        ("REQ-6", Must),
        "What leaves keeps the mapping alive.",
        Met(""),
        &["each_direction_refreshes_a_translated_flow"],
    ),
    row(
        ("REQ-6a", May),
        "What enters may keep it alive too.",
        Met("It does; the workload's flow counts packets of both directions."),
        &["each_direction_refreshes_a_translated_flow"],
    ),
    row(
        ("REQ-7", Must),
        "If the external address can change by itself, inner addresses must not conflict with outer ones, or both must \
         be reachable all the same.",
        Deviates(
            "A network's subnets are declared in the policy and stay; vnet gives no running workload another address. \
             An address outside that lies within a subnet of vnet's is taken to be inside. New addresses of the uplink \
             are followed within a second.",
        ),
        &[
            "netns_nat_addresses::nat_follows_the_addresses_of_the_uplink",
            "a_flow_ends_with_the_address_that_it_left_with",
        ],
    ),
    row(
        ("REQ-8", Should),
        "Whoever is let in, depends on nothing (for transparency) or on their address (for safety).",
        Deviates(
            "It depends on their address and port: a workload hears from whom it asked, and from nobody else. What is \
             to be open to others is a forward or an elastic IP, which the security groups admit by name; a mapping \
             that opens a workload to strangers would pass by them.",
        ),
        &[
            "who_was_not_asked_is_not_let_in",
            "who_was_not_asked_is_not_let_in_by_a_mapping",
            "netns_nat_closed::nat_admits_nobody_but_the_one_who_was_asked",
            "netns_mapping::mapping_lets_in_nobody_who_was_not_asked",
        ],
    ),
    row(
        ("REQ-8a", May),
        "The administrator may choose that.",
        Unused(
            "The policy says who is let in, by forwards, elastic IPs and security groups; the NAT has no mode for it.",
        ),
        &[],
    ),
    row(
        ("REQ-9", Must),
        "Workloads reach each other by their external addresses and ports.",
        Deviates(
            "Met for forwards and elastic IPs, to the same network, to others and to the asker itself. A port that a \
             workload's own question was mapped to leads back to nobody inside (REQ-8); packets for it are the host's. \
             Workloads of one host reach each other directly, by `connect` and their groups.",
        ),
        &[
            "another_network_reaches_a_forward",
            "a_workload_reaches_itself_by_its_forward",
            "a_port_reaches_itself_by_its_elastic_ip",
            "netns_hairpin::hairpin_of_a_forward_reaches_a_port_of_the_same_network",
            "netns_hairpin::hairpin_of_a_forward_reaches_a_port_of_another_network",
            "netns_nat_closed::nat_gives_no_way_in_by_the_mapped_port_of_another_network",
        ],
    ),
    row(
        ("REQ-9a", Must),
        "Who is reached so sees the asker's external address and port.",
        Met("A port of a network that leads nowhere has none, and is seen with its own."),
        &[
            "a_workload_reaches_itself_by_its_forward",
            "netns_hairpin::hairpin_of_an_elastic_ip_shows_the_external_address_of_the_asker",
            "netns_hairpin::hairpin_tells_askers_with_the_same_source_port_apart",
        ],
    ),
    row(
        ("REQ-10", Should),
        "Gateways for single protocols are off.",
        Met("There are none: payloads are never changed."),
        &["netns_nat_offloads::offloads_all_on_spoil_no_byte"],
    ),
    row(("REQ-10a", Should), "Each of them can be switched.", Met("As above."), &[]),
    row(
        ("REQ-11", Must),
        "Mapping and filtering follow the same rules at all times.",
        Met(
            "Whether a port is kept depends on what is free, as RFC 4787 section 8 grants; how it is mapped and who is \
             let in does not, under load, while the daemon is gone, and after a change of the policy.",
        ),
        &[
            "a_port_that_is_not_in_the_pool_gets_one_that_is_free",
            "netns_nat_restart::restart_keeps_the_mapping_of_a_flow",
            "netns_mapping::mapping_outlives_the_daemon",
            "netns_mapping::mapping_changes_with_the_policy_and_cuts_no_flow",
        ],
    ),
    row(
        ("REQ-12", Must),
        "No ICMP message ends a mapping.",
        Met(""),
        &[
            "an_error_about_a_masqueraded_packet_is_translated_outside_and_inside",
            "netns_nat_icmp::icmp_port_unreachable_reaches_the_workload_and_leaves_the_flow",
        ],
    ),
    row(
        ("REQ-12a", Should),
        "ICMP messages are not filtered by their source.",
        Met("From outside. A workload's errors must come from the end of the flow that they are about."),
        &[
            "a_router_on_the_way_keeps_its_address",
            "netns_nat_icmp::icmp_time_exceeded_shows_the_way_to_a_traceroute",
        ],
    ),
    row(
        ("REQ-12b", Should),
        "Destination unreachable is supported.",
        Met(""),
        &["netns_nat_icmp::icmp_host_unreachable_of_the_router_reaches_the_workload"],
    ),
    row(
        ("REQ-13", Must),
        "A packet that must not be fragmented and is too large is answered by that error.",
        Met(
            "By the gateway where the uplink's own MTU is smaller; errors of routers further on are translated.",
        ),
        &[
            "what_is_too_big_for_the_uplink_is_refused_and_opens_nothing",
            "netns_pmtu::pmtu_of_the_uplink_is_told_by_the_gateway",
            "netns_nat_icmp::icmp_lets_a_transfer_find_the_mtu_of_the_path",
            "netns_nat_icmp::icmp_tells_a_sender_of_datagrams_the_mtu_of_the_path",
        ],
    ),
    row(
        ("REQ-13a", Must),
        "One that may be fragmented is.",
        Deviates(
            "It is answered as if it must not be. A packet is sent to its device at once, where nothing could take it \
             apart any more; systems look for the MTU of a path by default, and heed the answer.",
        ),
        &["what_may_be_fragmented_is_refused_as_well"],
    ),
    row(
        ("REQ-14", Must),
        "Fragments are translated in whatever order they come.",
        Met("Those that come before their first one wait for it, for up to 30 seconds."),
        &[
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[2, 1, 0]",
            "fragments_leave_with_the_address_of_the_uplink",
            "a_workloads_fragment_waits_for_the_first_one",
            "netns_fragments::fragments_in_every_order_reach_a_forward",
            "netns_fragments::fragments_in_every_order_leave_with_the_address_of_the_uplink",
        ],
    ),
    row(
        ("REQ-14a", Must),
        "Floods of fragments do no harm to other packets.",
        Met("Their memory is bounded and divided by device; whole packets use none of it."),
        &["netns_fragments::fragments_that_lead_nowhere_do_no_harm"],
    ),
];
