//! RFC 5508: ICMP.

use super::{
    Fares::{Deviates, Met, Unused},
    Level::{May, Must, Should},
    Requirement, row,
};

pub(super) const REQUIREMENTS: &[Requirement] = &[
    row(
        ("REQ-1", Must),
        "Questions of ICMP from inside pass, and so do their answers.",
        Met(
            "Echo. Others have no place for a number of their own in every case and are translated for elastic IPs only; \
             with a shared address they are dropped as `untranslated`.",
        ),
        &[
            "a_ping_is_translated_by_its_identifier",
            "a_message_of_no_flow_is_translated_by_its_addresses",
            "a_question_without_identifier_does_not_leave_with_an_address_that_others_share",
            "netns_nat::nat_pings_the_outside",
            "netns_nat::nat_keeps_pings_with_the_same_identifier_apart",
        ],
    ),
    row(
        ("REQ-1a", Should),
        "An identifier is mapped to the same one, whoever is asked.",
        Deviates(
            "It is chosen for each destination, also with `mapping = \"endpoint-independent\"`. Nobody outside learns \
             anything from it: who is pinged answers the packet that it got.",
        ),
        &["a_ping_is_translated_by_its_identifier"],
    ),
    row(
        ("REQ-2", Must),
        "A ping session is remembered for 60 s without packets.",
        Met("60 s."),
        &["requirements::flows_are_remembered_for_as_long_as_they_must"],
    ),
    row(
        ("REQ-2a", Should),
        "That is configurable.",
        Deviates("It is not: nobody has needed it so far."),
        &[],
    ),
    row(
        ("REQ-3", Should),
        "An error whose ICMP checksum is wrong is dropped in silence.",
        Deviates(
            "Checksums are updated by what changes, never computed anew: one that was wrong stays wrong, and the receiver \
             drops the message.",
        ),
        &["an_error_that_is_spoiled_arrives_spoiled"],
    ),
    row(
        ("REQ-3a", Should),
        "So is one that quotes an IP header whose checksum is wrong.",
        Deviates(
            "It is not looked at: routers differ in what they quote (with the TTL counted down and the old checksum, \
             say), and the flow that is quoted has to be there in any case.",
        ),
        &["an_error_about_an_unknown_flow_is_dropped"],
    ),
    row(
        ("REQ-3b", Must),
        "IP options of the quoted packet are skipped.",
        Met("So are the extension headers of IPv6 that vnet knows."),
        &["an_error_that_quotes_ip_options_is_translated"],
    ),
    row(
        ("REQ-3c", Should),
        "The checksum of the quoted payload is not looked at.",
        Met("Nor is it changed."),
        &["an_error_about_a_masqueraded_packet_is_translated_outside_and_inside"],
    ),
    row(
        ("REQ-3d", Must),
        "Extensions of an error are left out of that checksum.",
        Met("As it is not looked at. What follows the first bytes of the quoted packet is not changed."),
        &["an_error_about_a_masqueraded_packet_is_translated_outside_and_inside"],
    ),
    row(
        ("REQ-4", Should),
        "An error from outside about no mapping is dropped in silence.",
        Deviates(
            "It may be about a packet of the host's own, so it passes to the host, untouched; no workload gets it.",
        ),
        &[
            "an_error_about_nothing_of_the_networks_is_the_hosts",
            "netns_nat_icmp::icmp_errors_that_quote_no_flow_are_dropped",
        ],
    ),
    row(
        ("REQ-4a", Must),
        "Else the quoted headers become what the workload had sent.",
        Met("Addresses, ports and identifiers, also where only eight bytes of the payload are quoted."),
        &[
            "an_error_about_a_masqueraded_packet_is_translated_outside_and_inside",
            "too_big_about_a_masqueraded_connection_is_translated_and_leaves_it",
        ],
    ),
    row(
        ("REQ-4b", Must),
        "Type and code stay.",
        Met("And so does the MTU that it tells."),
        &["too_big_about_a_masqueraded_connection_is_translated_and_leaves_it"],
    ),
    row(
        ("REQ-4c", Must),
        "It goes to the workload that had sent the quoted packet.",
        Met(""),
        &[
            "an_error_about_a_masqueraded_packet_is_translated_outside_and_inside",
            "a_router_on_the_way_keeps_its_address",
        ],
    ),
    row(
        ("REQ-5", Should),
        "An error from inside about no mapping is dropped in silence.",
        Met("And counted as `unrelated-error`."),
        &["an_error_of_a_workload_about_no_flow_does_not_leave"],
    ),
    row(
        ("REQ-5a", Must),
        "Else the quoted headers become what the one outside had sent.",
        Met(""),
        &[
            "an_error_of_a_forwards_workload_comes_from_the_address_that_was_asked",
            "netns_nat_icmp::icmp_errors_about_a_translated_flow_never_show_it_outside",
        ],
    ),
    row(
        ("REQ-5b", Must),
        "Type and code stay.",
        Met(""),
        &["an_error_of_a_forwards_workload_comes_from_the_address_that_was_asked"],
    ),
    row(
        ("REQ-5c", Must),
        "It comes from the external address of who sent it, or else from the NAT's own.",
        Met("From the address that was asked. Nobody but the end of the flow may send one."),
        &[
            "an_error_of_a_forwards_workload_comes_from_the_address_that_was_asked",
            "netns_nat_icmp::icmp_errors_of_a_workload_about_a_forward_are_of_the_host_for_the_stranger",
            "netns_elastic::elastic_ip_shows_icmp_errors_of_the_workload_as_its_own",
        ],
    ),
    row(
        ("REQ-6", Must),
        "An error about a ping session neither refreshes nor ends it.",
        Met("Nor any other flow."),
        &[
            "an_error_about_a_masqueraded_ping_neither_refreshes_nor_ends_it",
            "an_error_about_a_ping_session_leaves_it",
        ],
    ),
    row(
        ("REQ-7", Must),
        "Workloads ping each other by addresses that stand for one of them; errors between them pass.",
        Met(""),
        &[
            "an_error_about_a_hairpinned_packet_is_translated_outside_and_inside",
            "netns_hairpin::hairpin_of_an_elastic_ip_shows_the_external_address_of_the_asker",
        ],
    ),
    row(
        ("REQ-7a", Must),
        "Such an error goes to whoever had sent the quoted packet.",
        Met(""),
        &["an_error_about_a_hairpinned_packet_is_translated_outside_and_inside"],
    ),
    row(
        ("REQ-8", Should),
        "Who gets no mapping is told that it is prohibited.",
        Met("Where no port is free. A packet that finds the flow table full is dropped and counted only."),
        &[
            "an_exhausted_pool_is_told_and_the_others_go_on",
            "an_exhausted_pool_refuses_and_the_others_go_on",
            "netns_nat_addresses::nat_drops_what_finds_no_free_port_and_keeps_the_others",
        ],
    ),
    row(
        ("REQ-9", May),
        "Errors of the NAT's own may be kept from some interfaces.",
        Unused("What a group refuses is dropped in silence everywhere."),
        &[],
    ),
    row(
        ("REQ-10a", Must),
        "Destination unreachable, time exceeded and echo are supported.",
        Deviates(
            "They are translated, both ways, and sent where a packet's time ends at vnet or it is too large to go on: but \
             also of IPv4 packets that might be fragmented (RFC 5508 section 7.1.1), for the kernel does not fragment \
             what a program redirects. Senders take the error as they do with DF.",
        ),
        &[
            "the_gateway_tells_where_a_last_hop_ended",
            "netns_pmtu::pmtu_the_gateway_is_the_first_hop_of_a_trace",
            "netns_nat_icmp::icmp_host_unreachable_of_the_router_reaches_the_workload",
            "netns_nat_icmp::icmp_time_exceeded_shows_the_way_to_a_traceroute",
            "netns_nat::nat_pings_the_outside",
        ],
    ),
    row(
        ("REQ-10b", May),
        "Redirects, timestamps, source routes, address masks, parameter problems and router discovery may be.",
        Unused(
            "Parameter problems are, as other errors; timestamps and address masks for elastic IPs; source routes \
                are refused (RFC 7126).",
        ),
        &["a_message_of_no_flow_is_translated_by_its_addresses"],
    ),
    row(
        ("REQ-10c", Should),
        "Source quench and information requests are not.",
        Deviates(
            "With a shared address they are dropped as `untranslated`; with an elastic IP, which stands for one workload, \
             they pass if a group admits them: what passes there is for the policy to say.",
        ),
        &["a_question_without_identifier_does_not_leave_with_an_address_that_others_share"],
    ),
    row(
        ("REQ-10d", Should),
        "Errors of the NAT's own have the DS field of the packet that they are about.",
        Deviates(
            "They have that of internetwork control, as RFC 1812 section 4.3.2.5 has it for routers: a flood that is told \
             of in the class of what it crowds out would be heard last. That of others' errors stays as it is.",
        ),
        &[
            "the_gateway_tells_where_a_last_hop_ended",
            "too_big_about_a_masqueraded_connection_is_translated_and_leaves_it",
        ],
    ),
    row(
        ("REQ-10e", Should),
        "No error is sent about errors, broadcasts and later fragments.",
        Met(""),
        &[
            "of_an_error_nobody_is_told",
            "netns_nat_closed::nat_keeps_link_local_addresses_and_broadcasts_inside",
        ],
    ),
    row(
        ("REQ-10f", Should),
        "Errors are limited in rate.",
        Met("50 for each device and CPU in a tick of 1.07 seconds."),
        &[
            "a_burst_is_told_of_in_part_and_dropped_as_a_whole",
            "netns_pmtu::pmtu_errors_are_not_without_limit",
        ],
    ),
    row(
        ("REQ-11", May),
        "Other messages may be dropped.",
        Met("They are, unless a group admits them at an elastic IP."),
        &["a_question_without_identifier_does_not_leave_with_an_address_that_others_share"],
    ),
];
