//! The layouts that kernel and user share, byte by byte, and the maps that the object declares. A change
//! here is a change of the ABI: it bumps `vnet_common::ABI_VERSION`.

use std::mem::{align_of, offset_of, size_of};

use vnet_common::{
    ABI_VERSION, AclAction, Be16, Control, Delivery, Direction, DropReason, ElasticIp, Endpoint, EndpointKey,
    Exit, ExitKey, ExpireHeader, ExpireQuestion, FLOW_LAYOUT, Flow, FlowImage4, FlowImage6, FlowKey,
    FlowState, Forward, ForwardKey, ForwardKind, GATE_EGRESS_ACL, GATE_INGRESS_ACL, GROUP_SET_ACL,
    GROUP_SET_HOST, Identity, Ip, JOIN_OUTSIDE, JoinPrefix, MacAddr, MacPair, NetworkFlags, NetworkKey,
    NetworkRecord, OnChange, Ops, Origin, PeerPrefix, PolicyEntry, PolicyKey, PortDropKey, PortFlags,
    PortKey, PortRecord, Ports, Snooped, SnoopedKind, SnoopedMessage, Tuple, UplinkKey, UplinkRecord, V4, V6,
    limits,
};
use vnet_ctl::datapath::{Shape, declared};

/// The bytes of a shared value, as a map holds them.
fn bytes<T: aya::Pod>(value: &T) -> Vec<u8> {
    // SAFETY: a `Pod` of this crate has no padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// Integers of the host's byte order, one after another.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

const MAC: MacAddr = MacAddr([1, 2, 3, 4, 5, 6]);
const OTHER_MAC: MacAddr = MacAddr([7, 8, 9, 10, 11, 12]);
const IP_OCTETS: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

#[test]
fn the_layouts_are_those_of_version_5() {
    assert_eq!((ABI_VERSION, FLOW_LAYOUT), (5, 4));
}

#[test]
fn keys_of_ports_networks_and_endpoints() {
    assert_eq!(bytes(&Control::new(7)), words(&[7, 4]));
    assert_eq!(bytes(&PortKey { ifindex: 3, side: 1 }), words(&[3, 1]));
    assert_eq!(bytes(&NetworkKey { ifindex: 3, side: 1 }), words(&[3, 1]));
    assert_eq!(bytes(&PortDropKey { ifindex: 3, reason: 16 }), words(&[3, 16]));
    let addr = Ip::from_octets(IP_OCTETS);
    let endpoint = bytes(&EndpointKey { network: 5, side: 1, addr });
    assert_eq!(endpoint, [words(&[5, 1]), IP_OCTETS.to_vec()].concat());
    assert_eq!(bytes(&PeerPrefix { side: 1, addr }), [words(&[1]), IP_OCTETS.to_vec()].concat());
    let join = bytes(&JoinPrefix { network: 5, side: 1, addr });
    assert_eq!(join, [words(&[5, 1]), IP_OCTETS.to_vec()].concat());
}

#[test]
fn an_ipv4_address_is_mapped_in_the_tables() {
    let ip = Ip::from_std([10, 0, 0, 1].into());
    assert_eq!(ip.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
}

#[test]
fn records_of_ports_networks_and_endpoints() {
    let flags = PortFlags::NO_OVERLAY.and(PortFlags::LEARNS);
    let port = PortRecord::new(5, 9, MAC, OTHER_MAC).with(flags);
    let macs = [MAC.0, OTHER_MAC.0].concat();
    assert_eq!(bytes(&port), [words(&[5, 9]), macs, 3_u16.to_ne_bytes().to_vec(), vec![0; 2]].concat());
    let flags = [
        (NetworkFlags::NONE, 0_u16),
        (NetworkFlags::LEADS_OUTSIDE, 1),
        (NetworkFlags::EXCLUDES_HOST, 2),
        (NetworkFlags::JOINED, 4),
        (NetworkFlags::CLAMPS_MSS, 8),
        (NetworkFlags::ENDPOINT_INDEPENDENT, 16),
        (NetworkFlags::EXTENDS, 32),
        (NetworkFlags::ROUTED, 64),
        (NetworkFlags::BRIDGED, 128),
        (NetworkFlags::SHARES_ADDRESSES, 256),
        (NetworkFlags::LEADS_OUTSIDE.and(NetworkFlags::JOINED), 5),
    ];
    for (flags, number) in flags {
        let record = bytes(&NetworkRecord::new(MAC, flags));
        assert_eq!(record, [&MAC.0[..], &number.to_ne_bytes(), &[0; 36]].concat());
    }
    let (v4, v6) = (Ip::from_octets([4; 16]), Ip::from_octets([6; 16]));
    let record = bytes(&NetworkRecord::new(MAC, NetworkFlags::NONE).reached_at(v4, v6, 1450));
    let tail = [1450_u16.to_ne_bytes(), [0; 2]].concat();
    assert_eq!(record, [&MAC.0[..], &[0, 0], &[4; 16], &[6; 16], &tail].concat());
    let endpoint = bytes(&Endpoint::port(3, Delivery::Device, MAC, 17, 9));
    assert_eq!(endpoint, [words(&[3, 17, 9]), MAC.0.to_vec(), vec![1, 2]].concat());
    let gateway = bytes(&Endpoint::gateway(5, MAC, 17));
    assert_eq!(gateway, [words(&[5, 17, 0]), MAC.0.to_vec(), vec![2, 3]].concat());
    let apart = Endpoint::gateway(5, MAC, 17).apart_from_host();
    assert_eq!(bytes(&apart), [words(&[5, 17, 0]), MAC.0.to_vec(), vec![0x82, 3]].concat());
    assert!(apart.is_gateway() && apart.is_apart_from_host() && !apart.is_elsewhere());
    let station = Endpoint::station(6, MAC, 17).apart_from_host();
    assert!(station.is_station() && station.is_stranger() && !station.is_outside());
    assert_eq!(EndpointKey::ABROAD, 1 << 31);
    let outside = bytes(&Endpoint::outside(6, 17));
    assert_eq!(outside, [words(&[6, 17, 0]), vec![0; 6], vec![4, 4]].concat());
    assert_eq!((Delivery::Peer as u32, Delivery::Device as u32, Delivery::Host as u32), (1, 2, 3));
    assert_eq!((Delivery::NextHop as u32, JOIN_OUTSIDE), (4, u32::MAX));
}

#[test]
fn what_is_seen_of_ports() {
    let addr = Ip::from_octets(IP_OCTETS);
    let claim = bytes(&Snooped::claim(3, MAC, addr));
    assert_eq!(claim, [words(&[3, 1]), IP_OCTETS.to_vec(), MAC.0.to_vec(), vec![0; 2], words(&[0])].concat());
    let seen = Snooped::message(3, MAC, SnoopedKind::DhcpToPort, 300);
    let nobody = Ip::UNSPECIFIED.octets().to_vec();
    assert_eq!(bytes(&seen), [words(&[3, 2]), nobody, MAC.0.to_vec(), vec![0; 2], words(&[300])].concat());
    let payload = [7; SnoopedMessage::PAYLOAD];
    assert_eq!(bytes(&SnoopedMessage { seen, payload }), [&bytes(&seen)[..], &payload].concat());
    assert_eq!(SnoopedKind::DhcpFromPort as u32, 3);
    let message = bytes(&SnoopedMessage { seen, payload });
    assert_eq!(Snooped::read(&message), Some((seen, &payload[..300])));
    assert_eq!(Snooped::read(&claim), Some((Snooped::claim(3, MAC, addr), &[][..])));
    for end in [0, 35, 335] {
        assert_eq!(Snooped::read(&message[..end]), None, "cut off after {end} bytes");
    }
}

#[test]
fn uplinks_exits_elastic_ips_and_forwards() {
    let addr = Ip::from_octets(IP_OCTETS);
    let shorts = |shorts: &[u16]| shorts.iter().flat_map(|short| short.to_ne_bytes()).collect::<Vec<u8>>();
    assert_eq!(bytes(&UplinkKey { ifindex: 3, side: 1 }), words(&[3, 1]));
    let uplink = UplinkRecord::new(MAC, 1500);
    assert_eq!(bytes(&uplink), [&MAC.0[..], &1500_u16.to_ne_bytes(), &[0; 12]].concat());
    let routers =
        [V6::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), V6::from_octets([9; 16])];
    let behind =
        routers.map(|router| uplink.behind(Some(V4::from_octets([198, 51, 100, 254])), Some(router)));
    let gateway = [198, 51, 100, 254, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(bytes(&behind[0])[8..], gateway);
    assert_eq!(bytes(&behind[1])[8..], [&gateway[..4], &[0; 8]].concat());
    assert_eq!(Delivery::Gateway as u32, 5);
    assert_eq!([Delivery::Link, Delivery::Flood, Delivery::Beyond].map(|way| way as u32), [6, 7, 8]);
    let exit = bytes(&ExitKey { network: 5, side: 1, version: 6, slot: 2 });
    assert_eq!(exit, [words(&[5, 1]), shorts(&[6, 2])].concat());
    let exit = bytes(&Exit::new(3, addr, 4, (1024, 32767)));
    assert_eq!(exit, [IP_OCTETS.to_vec(), words(&[3]), shorts(&[4, 1024, 32767, 0])].concat());
    assert_eq!(bytes(&ElasticIp { addr, uplink: 3 }), [IP_OCTETS.to_vec(), words(&[3])].concat());
    let head = ForwardKey::head(5, 1, addr, 6);
    let key =
        |port: u16, len: u8| [words(&[5, 1]), IP_OCTETS.to_vec(), shorts(&[port]), vec![6, len]].concat();
    assert_eq!((bytes(&head), bytes(&head.block(8081, 15))), (key(0, 0x3f), key(8080, 15)));
    let entry = |network, [listen, port]: [u16; 2], target: &[u8; 16], word| {
        [target.to_vec(), words(&[network]), shorts(&[listen, port]), words(&[word])].concat()
    };
    assert_eq!(bytes(&Forward::head(0b101)), entry(0, [0, 0], &[0; 16], 0b101));
    let forward = bytes(&Forward::to(ForwardKind::Elastic, 5, addr, (8080, 80)));
    assert_eq!(forward, entry(5, [8080, 80], &IP_OCTETS, 3));
    assert_eq!((ForwardKind::Metadata as u32, ForwardKind::Forward as u32), (1, 2));
    let none = [0; 16];
    let slot = [words(&[7, 1]), none.to_vec(), shorts(&[250]), vec![0, 0x3e]].concat();
    assert_eq!(bytes(&ForwardKey::slot(7, 1, 250)), slot);
    let member = [words(&[7, 1]), IP_OCTETS.to_vec(), shorts(&[0]), vec![0, 0x3d]].concat();
    assert_eq!(bytes(&ForwardKey::member(7, 1, addr)), member);
    assert_eq!(bytes(&Forward::list(7, 251, false)), entry(7, [251, 0], &none, 4));
    assert_eq!(bytes(&Forward::list(7, 251, true)), entry(7, [251, 0], &none, 0x204));
}

#[test]
fn keys_of_rules() {
    let head = PolicyKey::head(1, 7, Direction::Egress, Identity::ANY_V6, 6);
    assert_eq!(bytes(&head), [words(&[7, 2]), 0_u16.to_ne_bytes().to_vec(), vec![6, 0b1111_1111]].concat());
    let block = head.block(8081, 12);
    let port = 8080_u16.to_ne_bytes().to_vec();
    assert_eq!(bytes(&block), [words(&[7, 2]), port.clone(), vec![6, 0b1100_1100]].concat());
    let other = PolicyKey::head(0, 7, Direction::Ingress, Identity::ANY_V6, 6).block(8080, 16);
    assert_eq!(bytes(&other), [words(&[7, 2]), port, vec![6, 0b0001_0000]].concat());
    assert_eq!(
        (Identity::UNKNOWN.0, Identity::ANY_V4.0, Identity::ANY_V6.0, Identity::FIRST.0),
        (0, 1, 2, 16)
    );
    assert_eq!((GROUP_SET_HOST, GROUP_SET_ACL), (0, 0x3fff_ffff));
    assert_eq!((GATE_INGRESS_ACL, GATE_EGRESS_ACL), (0x8000_0000, 0x4000_0000));
}

#[test]
fn entries_of_rules() {
    assert_eq!(bytes(&PolicyEntry::head(0b101)), words(&[0b101, 0]));
    assert_eq!(bytes(&PolicyEntry::group(9, OnChange::Cut)), words(&[9, 0]));
    assert_eq!(bytes(&PolicyEntry::group(9, OnChange::Keep)), words(&[9, 1]));
    assert_eq!(bytes(&PolicyEntry::acl(9, 3, AclAction::Allow)), words(&[9, 6]));
    assert_eq!(bytes(&PolicyEntry::acl(9, 3, AclAction::Deny)), words(&[9, 7]));
}

#[test]
fn keys_of_flows() {
    let origin = Origin::new(0x0001_0203, 6);
    let ports = Ports::new(Be16::new(0x1234), Be16::new(0x5678));
    let (src, dst) = (V4::from_octets([10, 0, 0, 1]), V4::from_octets([10, 0, 0, 2]));
    let key = bytes(&FlowKey { origin, src, dst, ports });
    let tail = vec![10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x56, 0x78];
    assert_eq!(key, [words(&[0x0601_0203]), tail].concat());
    let (src, dst) = (V6::from_octets(IP_OCTETS), V6::from_octets([9; 16]));
    let key = bytes(&FlowKey { origin, src, dst, ports });
    let tail = [&IP_OCTETS[..], &[9; 16], &[0x12, 0x34, 0x56, 0x78]].concat();
    assert_eq!(key, [words(&[0x0601_0203]), tail].concat());
    assert_eq!(bytes(&MacPair::new(MAC, OTHER_MAC)), [MAC.0, OTHER_MAC.0].concat());
}

/// Asserts the offset of each field, and that the last one's end is the size.
macro_rules! layout {
    ($type:ty, $size:literal: $($offset:literal $field:ident),+ $(,)?) => {
        $(assert_eq!(offset_of!($type, $field), $offset, concat!(stringify!($type), ".", stringify!($field)));)+
        assert_eq!((size_of::<$type>(), align_of::<$type>()), ($size, 8));
    };
}

#[test]
fn entries_of_flows() {
    layout!(Flow<V4>, 96:
        0 generation, 4 last_seen, 8 received, 20 sent, 32 device, 36 delivery, 37 ops, 38 state, 39 finished,
        40 seq_next, 44 ack, 48 packets, 56 bytes, 64 pair_device, 68 rules, 76 mtu, 78 vlan,
        80 leaves, 92 outer, 94 heard,
    );
    layout!(Flow<V6>, 120:
        0 generation, 4 last_seen, 8 received, 20 sent, 32 device, 36 delivery, 37 ops, 38 state, 39 finished,
        40 seq_next, 44 ack, 48 packets, 56 bytes, 64 pair_device, 68 rules, 76 mtu, 78 vlan,
        80 leaves, 116 outer, 118 heard,
    );
    assert_eq!((size_of::<FlowImage4>(), size_of::<FlowImage6>()), (96, 120));
    assert_eq!(Flow::<V4>::EXPIRED, u32::MAX);
    let states = [
        FlowState::New,
        FlowState::SynReceived,
        FlowState::Established,
        FlowState::FinWait,
        FlowState::TimeWait,
        FlowState::Closed,
    ];
    assert_eq!(states.map(|state| state as u8), [1, 2, 3, 4, 5, 6]);
    assert!(states.into_iter().all(|state| FlowState::from_byte(state as u8) == state));
    assert!(Ops::ROUTE.and(Ops::REPLY).has(Ops::ROUTE) && !Ops::ROUTE.has(Ops::REPLY));
    let tuple = Tuple {
        src: V4::from_octets([1, 2, 3, 4]),
        dst: V4::from_octets([5, 6, 7, 8]),
        ports: Ports::new(Be16::new(1), Be16::new(2)),
    };
    assert_eq!(bytes(&tuple), [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2]);
}

#[test]
fn the_question_to_expiry() {
    assert_eq!(ExpireHeader::OFFSET, 16);
    assert_eq!(ExpireHeader::MOST, 64);
    assert_eq!(bytes(&ExpireHeader { version: 4, count: 2 }), words(&[4, 2]));
    assert_eq!((size_of::<ExpireQuestion<V4>>(), size_of::<ExpireQuestion<V6>>()), (24, 48));
    assert_eq!((ExpireQuestion::<V4>::offset(1), ExpireQuestion::<V6>::offset(1)), (48, 72));
}

#[test]
fn drop_reasons_keep_their_numbers() {
    let numbers: Vec<(u32, &str)> =
        DropReason::ALL.iter().map(|reason| (reason.number(), reason.label())).collect();
    let expected = [
        (1, "truncated"),
        (2, "malformed-header"),
        (3, "ether-type"),
        (4, "vlan-tag"),
        (5, "fragment"),
        (6, "extension-header"),
        (7, "tcp-flags"),
        (8, "fragment-overlap"),
        (16, "unknown-device"),
        (17, "spoofed-mac"),
        (18, "spoofed-address"),
        (19, "spoofed-arp"),
        (20, "spoofed-neighbour"),
        (21, "router-advertisement"),
        (22, "dhcp-server"),
        (23, "overlay-from-port"),
        (24, "unknown-peer"),
        (25, "unknown-vni"),
        (26, "wrong-underlay"),
        (32, "no-route"),
        (33, "untranslated"),
        (34, "wrong-mac"),
        (35, "ttl-exceeded"),
        (36, "forwarded"),
        (37, "undecided"),
        (38, "unknown-neighbour"),
        (39, "too-big"),
        (40, "unknown-station"),
        (41, "storm"),
        (48, "egress-denied"),
        (49, "ingress-denied"),
        (50, "acl-denied"),
        (51, "host-excluded"),
        (64, "no-flow"),
        (65, "bad-ack"),
        (66, "unsolicited"),
        (67, "unrelated-error"),
        (68, "flow-table-full"),
        (69, "flow-expiring"),
        (70, "ports-exhausted"),
        (71, "translation-changed"),
        (72, "syn-challenged"),
        (73, "new-flow-limit"),
        (74, "flow-quota"),
        (80, "internal"),
    ];
    assert_eq!(numbers, expected);
}

/// Map types and flags of `linux/bpf.h`.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_HASH: u32 = 5;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const RINGBUF: u32 = 27;
const NO_PREALLOC: u32 = 1;

#[test]
fn the_object_declares_every_map_in_its_shape() {
    let shape = |map_type, key: usize, value: usize, max_entries, flags| Shape {
        map_type,
        key_size: key as u32,
        value_size: value as u32,
        max_entries,
        flags,
    };
    let expected = [
        ("BUDGETS", shape(PERCPU_ARRAY, 4, 16, limits::BUDGETS, 0)),
        ("CONTROL", shape(ARRAY, 4, 8, 1, 0)),
        ("DROPS", shape(PERCPU_ARRAY, 4, 8, limits::DROP_REASONS, 0)),
        ("ELASTIC_IPS", shape(HASH, 24, 20, limits::ELASTIC_IPS, NO_PREALLOC)),
        ("ENDPOINTS", shape(HASH, 24, 20, limits::ENDPOINTS, NO_PREALLOC)),
        ("EXITS", shape(HASH, 12, 28, limits::EXITS, NO_PREALLOC)),
        ("FLOWS4", shape(HASH, 16, 96, limits::FLOWS4, 0)),
        ("FLOWS6", shape(HASH, 40, 120, limits::FLOWS6, 0)),
        ("FORWARDS", shape(HASH, 28, 28, limits::FORWARDS, NO_PREALLOC)),
        ("HOST", shape(ARRAY, 4, 8, 1, 0)),
        ("JOINS", shape(LPM_TRIE, 28, 4, limits::JOINS, NO_PREALLOC)),
        ("LINKS", shape(HASH, 12, 48, limits::LINKS, NO_PREALLOC)),
        ("NETWORKS", shape(HASH, 8, 44, limits::NETWORKS, NO_PREALLOC)),
        ("PEERS", shape(LPM_TRIE, 24, 4, limits::PEERS, NO_PREALLOC)),
        ("POLICY", shape(HASH, 12, 8, limits::POLICY, NO_PREALLOC)),
        ("PORTS", shape(HASH, 8, 24, limits::PORTS, NO_PREALLOC)),
        ("PORT_DROPS", shape(PERCPU_HASH, 8, 8, limits::PORT_DROPS, NO_PREALLOC)),
        ("SNOOPED", shape(RINGBUF, 0, 0, limits::SNOOPED, 0)),
        ("SOCKETS", shape(LRU_HASH, 32, 20, limits::SOCKETS, 0)),
        ("STATIONS", shape(HASH, 16, 8, limits::STATIONS, NO_PREALLOC)),
        ("UPLINKS", shape(HASH, 8, 20, limits::UPLINKS, NO_PREALLOC)),
        ("VTEPS", shape(HASH, 24, 4, limits::VTEPS, NO_PREALLOC)),
    ];
    let declared = declared().expect("the embedded object");
    assert_eq!(declared.into_iter().collect::<Vec<_>>(), expected);
}
