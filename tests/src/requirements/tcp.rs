//! RFC 5382: TCP.

use super::{
    Fares::{Deviates, Met, Option, Unused},
    Level::{May, Must, Should},
    Requirement, row,
};

pub(super) const REQUIREMENTS: &[Requirement] = &[
    row(
        ("REQ-1", Must),
        "A workload's port is mapped to the same external one, whomever it speaks to.",
        Option("As RFC 4787 REQ-1."),
        &[
            "a_port_becomes_the_same_one_whoever_is_spoken_to",
            "netns_mapping::mapping_is_the_same_for_every_server_over_tcp",
            "netns_mapping::mapping_outlives_the_daemon",
        ],
    ),
    row(
        ("REQ-2", Must),
        "All valid sequences of segments pass, whoever opened the connection.",
        Met(
            "Windows are not kept: what is outside of one is translated, and the workload's own TCP refuses it (RFC \
             9293 section 3.10.7.4). Of a reset that is not exact nothing comes.",
        ),
        &[
            "a_tcp_connection_is_translated_both_ways",
            "both_ends_close_a_translated_connection",
            "a_forward_reaches_the_workload_which_sees_the_client",
            "data_outside_the_window_is_translated_and_changes_nothing",
            "netns_nat_uninvited::data_outside_the_window_is_for_the_workload_to_refuse",
            "netns_nat::nat_survives_thousands_of_short_connections_to_one_server",
        ],
    ),
    row(
        ("REQ-2a", Must),
        "Both ends may open a connection at the same time.",
        Met(""),
        &[
            "a_simultaneous_open_through_snat_establishes",
            "netns_nat_uninvited::uninvited_syns_give_way_to_a_workload_that_asks_in_turn",
        ],
    ),
    row(
        ("REQ-3", Should),
        "Whoever is let in, depends on nothing (for transparency) or on their address (for safety).",
        Deviates("As RFC 4787 REQ-8: on their address and port."),
        &["netns_nat_closed::nat_admits_nobody_but_the_one_who_was_asked"],
    ),
    row(("REQ-3a", May), "The administrator may choose that.", Unused("As RFC 4787 REQ-8a."), &[]),
    row(("REQ-3b", May), "It may differ from that of UDP.", Unused("It is the same."), &[]),
    row(
        ("REQ-4", Must),
        "A SYN from outside that nobody asked for is not answered for six seconds; if the workload sends its own in that \
         time, nothing but the handshake comes of both.",
        Deviates(
            "Met where a network leaves with `snat` addresses that are not the host's own: nobody ever answers there. The uplink's own address is the host's, whose TCP answers for it at once, as it did before vnet: vnet \
             cannot know what the host listens on, and keeps nothing from it. The workload's own SYN opens the \
             connection in both cases, whatever came before. No \"port unreachable\" follows (REQ-4a).",
        ),
        &[
            "a_syn_that_nobody_asked_for_leaves_no_trace_and_the_workloads_own_wins",
            "netns_nat_uninvited::uninvited_syns_are_answered_by_nobody",
            "netns_nat_uninvited::uninvited_syns_give_way_to_a_workload_that_asks_in_turn",
            "netns_nat_uninvited::uninvited_syns_to_the_hosts_own_address_are_the_hosts_to_answer",
        ],
    ),
    row(
        ("REQ-4a", Must),
        "It is dropped in silence where an answer is against the NAT's policy.",
        Met("What a security group refuses is dropped in silence."),
        &[
            "netns_forward::forward_opens_nothing_by_itself",
            "netns_elastic::elastic_ip_opens_nothing_by_itself",
            "netns_nat_uninvited::uninvited_syns_are_answered_by_nobody",
        ],
    ),
    row(
        ("REQ-5", Must),
        "An established connection is remembered for 2 h 4 min without packets, one that opens or closes for 4 min.",
        Met(
            "7440 s and 240 s; 10 s after an exact reset, or the end by the policy. The port of a connection that both ends \
             have closed may become another's before.",
        ),
        &["requirements::flows_are_remembered_for_as_long_as_they_must"],
    ),
    row(("REQ-5a", May), "The timers may be configurable.", Unused("Nobody has needed it so far."), &[]),
    row(
        ("REQ-6", Should),
        "Gateways for single protocols are off.",
        Met("There are none: payloads are never changed."),
        &["netns_nat_offloads::offloads_all_on_spoil_no_byte"],
    ),
    row(
        ("REQ-7", Must),
        "No two workloads have the same external port at the same time.",
        Met("As RFC 4787 REQ-3."),
        &[
            "the_port_of_a_flow_that_has_ended_is_free",
            "netns_nat::nat_tells_a_hundred_workloads_with_the_same_address_and_port_apart",
            "netns_nat_addresses::nat_drops_what_finds_no_free_port_and_keeps_the_others",
        ],
    ),
    row(
        ("REQ-8", Must),
        "Workloads reach each other by their external addresses and ports.",
        Deviates("As RFC 4787 REQ-9: by forwards and elastic IPs, not by the port of a mapping."),
        &[
            "another_network_reaches_a_forward",
            "a_workload_reaches_itself_by_its_forward",
            "netns_hairpin::hairpin_of_a_forward_reaches_the_very_workload",
            "netns_hairpin::hairpin_carries_large_transfers",
        ],
    ),
    row(
        ("REQ-8a", Must),
        "Who is reached so sees the asker's external address and port.",
        Met("As RFC 4787 REQ-9a."),
        &[
            "a_workload_reaches_itself_by_its_forward",
            "netns_hairpin::hairpin_of_an_elastic_ip_shows_the_external_address_of_the_asker",
        ],
    ),
    row(
        ("REQ-9", Should),
        "Destination unreachable is translated.",
        Met(""),
        &[
            "too_big_about_a_masqueraded_connection_is_translated_and_leaves_it",
            "netns_nat_icmp::icmp_host_unreachable_of_the_router_reaches_the_workload",
        ],
    ),
    row(
        ("REQ-10", Must),
        "No ICMP message ends a mapping or the connection that it is about.",
        Met(""),
        &[
            "too_big_about_a_masqueraded_connection_is_translated_and_leaves_it",
            "netns_nat_icmp::icmp_errors_that_quote_no_flow_are_dropped",
        ],
    ),
];
