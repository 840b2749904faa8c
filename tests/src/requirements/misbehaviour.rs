//! What has gone wrong with NATs in production.

use super::Misbehaviour;

const fn row(what: &'static str, tests: &'static [&'static str]) -> Misbehaviour {
    Misbehaviour { what, tests }
}

/// What happens, and what comes of it here.
pub const MISBEHAVIOUR: &[Misbehaviour] = &[
    row(
        "Both ends open a connection at once, through SNAT: it is established.",
        &[
            "a_simultaneous_open_through_snat_establishes",
            "netns_nat_uninvited::uninvited_syns_give_way_to_a_workload_that_asks_in_turn",
        ],
    ),
    row(
        "A SYN that nobody asked for: no answer for 6 s, and the workload's own SYN wins.",
        &[
            "a_syn_that_nobody_asked_for_leaves_no_trace_and_the_workloads_own_wins",
            "netns_nat_uninvited::uninvited_syns_are_answered_by_nobody",
            "netns_nat_uninvited::uninvited_syns_to_the_hosts_own_address_are_the_hosts_to_answer",
        ],
    ),
    row(
        "Data outside the window of a translated connection: never delivered untranslated, refused by the workload.",
        &[
            "data_outside_the_window_is_translated_and_changes_nothing",
            "a_segment_of_no_connection_neither_leaves_nor_enters",
            "netns_nat_uninvited::data_outside_the_window_is_for_the_workload_to_refuse",
        ],
    ),
    row(
        "\"Fragmentation needed\" for a translated flow: both headers translated, delivered, the flow as it was. About a \
         flow that is not known: no workload gets it.",
        &[
            "too_big_about_a_masqueraded_connection_is_translated_and_leaves_it",
            "an_error_about_nothing_of_the_networks_is_the_hosts",
            "an_error_of_a_workload_about_no_flow_does_not_leave",
            "netns_nat_icmp::icmp_lets_a_transfer_find_the_mtu_of_the_path",
            "netns_nat_icmp::icmp_errors_that_quote_no_flow_are_dropped",
        ],
    ),
    row(
        "An ICMP error about a ping session neither refreshes nor ends it.",
        &["an_error_about_a_masqueraded_ping_neither_refreshes_nor_ends_it"],
    ),
    row(
        "A pool of ten ports, and an eleventh flow to the same destination: refused with an error, and the ten go on.",
        &[
            "an_exhausted_pool_is_told_and_the_others_go_on",
            "an_exhausted_pool_refuses_and_the_others_go_on",
            "netns_nat_addresses::nat_drops_what_finds_no_free_port_and_keeps_the_others",
        ],
    ),
    row(
        "A workload reaches another by its elastic IP, and is seen with its external address.",
        &[
            "a_port_reaches_itself_by_its_elastic_ip",
            "netns_hairpin::hairpin_of_an_elastic_ip_shows_the_external_address_of_the_asker",
        ],
    ),
    row(
        "A datagram in three fragments, in every order, through a forward: delivered.",
        &[
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[0, 1, 2]",
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[0, 2, 1]",
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[1, 0, 2]",
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[1, 2, 0]",
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[2, 0, 1]",
            "a_datagram_in_three_fragments_is_forwarded_in_the_order_[2, 1, 0]",
            "netns_fragments::fragments_in_every_order_reach_a_forward",
        ],
    ),
    row(
        "Fragments that overlap, in both orders: nothing more passes.",
        &[
            "fragments_that_overlap_by_a_unit_end_their_datagram",
            "so_do_those_that_come_before_the_first",
            "a_fragment_that_overlaps_is_dropped_and_nothing_follows_it",
            "netns_fragments::fragments_that_overlap_make_no_datagram",
        ],
    ),
    row(
        "A first fragment without TCP's ports, the rest at offset 8: dropped.",
        &[
            "a_first_fragment_without_all_of_its_headers_is_dropped",
            "netns_fragments::fragments_without_their_ports_are_dropped",
        ],
    ),
    row(
        "A stranger addresses a workload's private address: dropped. A workload asks for metadata where there is none: \
         dropped.",
        &[
            "a_private_address_is_not_reached_from_outside",
            "a_network_without_metadata_has_none",
            "netns_nat_closed::nat_keeps_private_addresses_closed_to_strangers_who_know_the_way",
            "netns_metadata::metadata_address_is_dropped_where_there_is_no_service",
        ],
    ),
    row(
        "A hundred workloads with the same private address and source port, in a network each, behind one address: all work.",
        &["netns_nat::nat_tells_a_hundred_workloads_with_the_same_address_and_port_apart"],
    ),
    row(
        "Ten thousand short connections to one server: no error.",
        &["netns_nat::nat_survives_thousands_of_short_connections_to_one_server"],
    ),
];
