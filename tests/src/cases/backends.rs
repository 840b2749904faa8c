//! Several backends behind one forward: who gets a new connection, and what becomes of those that are there.

use vnet_common::{DropReason, FlowState, Ip};
use vnet_ebpf::spread;

use super::{
    frame::{ACK, RST, SYN, SYN_ACK, carried, routed},
    nat::{NEXT_HOP, Way, received, way},
    step::{Case, from, outside},
    world::{A, B, Backends, C, Device, G, H, O, Party, Policy, U, Version},
};

pub(super) fn cases() -> Vec<Case> {
    let of_version = |version| [spread_out(version), staying(version), ending(version)].concat();
    Version::BOTH.into_iter().flat_map(of_version).collect()
}

/// A backend, the gateway of its network, and the port that it is asked for at.
fn seat(backend: &Party) -> (Party, u16) {
    if backend.device == C.device { (H, 80) } else { (G, 8000) }
}

/// A connection from `from` to tcp/8080 of the host, as the client and as its backend see it.
struct Line {
    asked: Way,
    inner: Way,
    backend: Party,
}

impl Line {
    fn new(version: Version, from: (Party, u16), backend: Party) -> Self {
        let inner = way(version, from, (backend, seat(&backend).1));
        Self { asked: way(version, from, (U, 8080)), inner, backend }
    }

    /// The stranger's packet reaches the backend.
    fn enters(&self, case: Case, flags: u8, seq: u32, ack: u32) -> Case {
        let out = carried(O.mac, U.mac, &self.inner.tcp(flags, seq, ack));
        let out = routed(&out, self.backend.mac, seat(&self.backend).0.mac);
        let frame = received(&self.asked.tcp(flags, seq, ack));
        case.sends(outside(), frame, (self.backend.device, self.backend.delivery), out)
    }

    /// The backend's packet, to its gateway.
    fn answer(&self, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        carried(self.backend.mac, seat(&self.backend).0.mac, &self.inner.back().tcp(flags, seq, ack))
    }

    /// The backend's packet leaves as if the host had answered.
    fn leaves(&self, case: Case, flags: u8, seq: u32, ack: u32) -> Case {
        let gateway = seat(&self.backend).0;
        let out = carried(self.backend.mac, gateway.mac, &self.asked.back().tcp(flags, seq, ack));
        let out = routed(&out, NEXT_HOP, U.mac);
        case.sends(from(&self.backend), self.answer(flags, seq, ack), (Device::U, O.delivery), out)
    }

    fn establish(&self, case: Case) -> Case {
        let case = self.enters(case, SYN, 100, 0);
        let case = self.leaves(case, SYN_ACK, 500, 101);
        self.enters(case, ACK, 101, 501).state(FlowState::Established)
    }

    fn data(&self) -> Vec<u8> {
        received(&self.asked.tcp(ACK, 101, 501))
    }
}

/// Who gets a connection of the stranger's from `port`.
fn chosen(version: Version, backends: Backends, port: u16) -> Party {
    let [client, listen] = [O, U].map(|party| Ip::from_std(party.addr(version)));
    let list = backends.entry();
    let mut number = spread::client(client);
    if !list.is_by_client() {
        number = spread::flow(number, (port, 8080), listen, 6);
    }
    backends.slots()[usize::from(list.slot(number))]
}

fn begin(name: &str, version: Version, backends: Backends) -> Case {
    Case::new(format!("{name} ({version:?})")).commit(Policy::Backends(backends))
}

fn spread_out(version: Version) -> Vec<Case> {
    let open = |case: Case, (backends, port)| {
        let line = Line::new(version, (O, port), chosen(version, backends, port));
        line.leaves(line.enters(case, SYN, 100, 0), SYN_ACK, 500, 101)
    };
    let many = |backends| (7000..7020).map(move |port| (backends, port));
    let to = |device: Device| {
        many(Backends::Both).filter(move |(of, port)| chosen(version, *of, *port).device == device)
    };
    assert!(to(Device::C).count() >= 5 && to(Device::B).count() >= 5, "connections go to both");
    let all_the_same: Vec<_> =
        many(Backends::ByClient).map(|(of, port)| chosen(version, of, port).device).collect();
    assert!(all_the_same.windows(2).all(|pair| pair[0] == pair[1]), "{all_the_same:?}");
    let a = way(version, (A, 7000), (U, 8080));
    let a_seen = way(version, (A, 7000), (C, 80));
    let from_a = |packet: &[u8]| carried(A.mac, G.mac, packet);
    vec![
        many(Backends::Both)
            .fold(begin("connections_are_spread_over_the_backends", version, Backends::Both), open),
        many(Backends::ByClient)
            .fold(begin("all_connections_of_a_client_go_to_one_backend", version, Backends::ByClient), open),
        begin("another_network_reaches_a_backend", version, Backends::ToC)
            .sends(
                from(&A),
                from_a(&a.tcp(SYN, 100, 0)),
                (Device::C, C.delivery),
                routed(&from_a(&a_seen.tcp(SYN, 100, 0)), C.mac, H.mac),
            )
            .sends(
                from(&C),
                carried(C.mac, H.mac, &a_seen.back().tcp(SYN_ACK, 500, 101)),
                (Device::A, A.delivery),
                routed(&carried(C.mac, H.mac, &a.back().tcp(SYN_ACK, 500, 101)), A.mac, G.mac),
            ),
    ]
}

fn staying(version: Version) -> Vec<Case> {
    let begin = |name, backends| begin(name, version, backends);
    let (at_c, at_b) = (Line::new(version, (O, 7000), C), Line::new(version, (O, 7001), B));
    let drained =
        at_c.establish(begin("a_backend_that_drains_keeps_its_connections_and_gets_none", Backends::ToC));
    let answered = at_c.establish(begin("its_answer_may_be_the_first_to_be_judged_again", Backends::ToC));
    let answered = at_c.leaves(answered.commit(Policy::Backends(Backends::ToB)), ACK, 501, 101);
    let challenged = at_c.establish(begin("a_stray_syn_goes_where_its_connection_is", Backends::ToC));
    let widened = at_c.establish(
        Case::new(format!("a_forward_to_one_that_becomes_a_list_keeps_its_connections ({version:?})"))
            .commit(Policy::Nat),
    );
    let narrowed =
        at_c.establish(begin("a_list_that_becomes_a_forward_to_one_keeps_those_of_that_one", Backends::ToC));
    let reopened = at_c.enters(
        begin("a_connection_that_is_opened_anew_goes_where_new_ones_go", Backends::ToC),
        SYN,
        100,
        0,
    );
    let reopened = at_c.leaves(reopened, RST | ACK, 0, 101).state(FlowState::Closed);
    let anew = Line::new(version, (O, 7000), B);
    vec![
        at_b.establish_beside(at_c.enters(drained.commit(Policy::Backends(Backends::ToB)), ACK, 101, 501)),
        at_c.enters(answered, ACK, 101, 501).state(FlowState::Established),
        at_c.enters(challenged.commit(Policy::Backends(Backends::ToB)), SYN, 9000, 0),
        at_c.enters(widened.commit(Policy::Backends(Backends::ToB)), ACK, 101, 501),
        at_c.enters(narrowed.commit(Policy::Nat), ACK, 101, 501),
        anew.enters(reopened.commit(Policy::Backends(Backends::ToB)), SYN, 900, 0),
        at_c.enters(
            at_c.establish(begin("a_list_that_drains_as_a_whole_keeps_its_connections", Backends::ToC))
                .commit(Policy::Backends(Backends::Neither)),
            ACK,
            101,
            501,
        )
        .passes(outside(), received(&at_b.asked.tcp(SYN, 100, 0))),
    ]
}

impl Line {
    /// Established while others are.
    fn establish_beside(&self, case: Case) -> Case {
        let case = self.enters(case, SYN, 100, 0);
        self.enters(self.leaves(case, SYN_ACK, 500, 101), ACK, 101, 501)
    }
}

fn ending(version: Version) -> Vec<Case> {
    let begin = |name, backends| begin(name, version, backends);
    let (at_c, at_b) = (Line::new(version, (O, 7000), C), Line::new(version, (O, 7000), B));
    let gone = Policy::Backends(Backends::OnlyB);
    vec![
        at_b.enters(
            at_c.establish(begin("a_connection_ends_with_its_backend_and_may_begin_anew", Backends::ToC))
                .commit(gone)
                .drops(outside(), at_c.data(), DropReason::TranslationChanged)
                .state(FlowState::Closed),
            SYN,
            900,
            0,
        ),
        at_c.establish(begin("the_answer_of_a_backend_that_is_gone_ends_the_connection", Backends::ToC))
            .commit(gone)
            .drops(from(&C), at_c.answer(ACK, 501, 101), DropReason::TranslationChanged)
            .state(FlowState::Closed),
        at_b.enters(
            at_b.establish(begin("the_connections_of_the_others_go_on", Backends::ToB)).commit(gone),
            ACK,
            101,
            501,
        )
        .state(FlowState::Established),
        begin("a_list_of_which_nobody_takes_connections_leads_nowhere", Backends::Neither)
            .passes(outside(), received(&at_c.asked.tcp(SYN, 100, 0)))
            .no_flows(),
    ]
}
