//! A client that does each step when it is told to.

use std::net::{Ipv4Addr, UdpSocket};

use super::{CLIENT, Kind, Message, SERVER};
use crate::{Namespace, frames::MacAddr, raw::RawSocket, traffic::ANSWER, world::shell};

/// What a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Who gave it.
    pub server: Ipv4Addr,
}

/// A client on one interface.
#[derive(Debug)]
pub struct Client {
    namespace: Namespace,
    interface: String,
    mac: MacAddr,
    socket: RawSocket,
    /// Whether it asks to be answered by broadcasts.
    broadcast: bool,
}

impl Client {
    /// On `interface` of `namespace`, which has no address; answered by unicast.
    ///
    /// # Panics
    /// When there is no such interface.
    #[must_use]
    pub fn on(namespace: &Namespace, interface: &str) -> Self {
        Self {
            namespace: namespace.clone(),
            interface: interface.to_owned(),
            mac: namespace.mac(interface),
            socket: RawSocket::open(namespace, interface),
            broadcast: false,
        }
    }

    /// The same, answered by broadcasts.
    #[must_use]
    pub fn answered_by_broadcasts(self) -> Self {
        Self { broadcast: true, ..self }
    }

    /// Its MAC.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Gets an address and configures it, with a default route by the server.
    ///
    /// # Panics
    /// When it gets none in time.
    #[track_caller]
    pub fn obtain(&self) -> Lease {
        let lease = self.negotiate();
        let Lease { addr, server } = lease;
        let interface = &self.interface;
        shell(
            &self.namespace,
            &format!("ip addr add {addr}/24 dev {interface}; ip route replace default via {server}"),
        );
        lease
    }

    /// Gets an address.
    ///
    /// # Panics
    /// When it gets none in time.
    #[track_caller]
    pub fn negotiate(&self) -> Lease {
        let asked = Message { broadcast: self.broadcast, ..Message::of(Kind::Discover, self.mac) };
        self.socket.send(&asked.frame(self.mac));
        let offer = self.answer(Kind::Offer);
        let (requested, server) = (Some(offer.your_addr), offer.server);
        self.socket.send(&Message { kind: Kind::Request, requested, server, ..asked }.frame(self.mac));
        let granted = self.answer(Kind::Ack);
        assert_eq!(granted.your_addr, offer.your_addr, "the server keeps its word");
        Lease { addr: granted.your_addr, server: granted.server.expect("a server says who it is") }
    }

    fn answer(&self, kind: Kind) -> Message {
        let is_it = |message: &Message| message.kind == kind && message.client == self.mac;
        let frame = self
            .socket
            .receive(&format!("{kind:?}"), |frame| Message::to_client(frame).as_ref().is_some_and(is_it));
        Message::to_client(&frame).expect("it was one a moment ago")
    }

    /// Prolongs `lease`, as half of the time is over: from its address, to the server alone (RFC 2131 section 4.4.5).
    ///
    /// # Panics
    /// When the server does not answer, or denies it.
    #[track_caller]
    pub fn renew(&self, lease: Lease) {
        let asked = Message { client_addr: lease.addr, ..Message::of(Kind::Request, self.mac) };
        let socket = self.connected(lease);
        socket.set_read_timeout(Some(ANSWER)).expect("a limit");
        socket.send(&asked.bytes()).expect("ask the server");
        let mut bytes = [0; 1500];
        let len = socket.recv(&mut bytes).expect("an answer to the renewal");
        let answer = Message::parse(&bytes[..len]).expect("a message");
        assert_eq!((answer.kind, answer.your_addr), (Kind::Ack, lease.addr));
    }

    /// Gives `lease` back and takes its address from the interface.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn release(&self, lease: Lease) {
        let message = Message {
            client_addr: lease.addr,
            server: Some(lease.server),
            ..Message::of(Kind::Release, self.mac)
        };
        self.connected(lease).send(&message.bytes()).expect("tell the server");
        shell(&self.namespace, &format!("ip addr flush dev {}", self.interface));
    }

    fn connected(&self, lease: Lease) -> UdpSocket {
        self.namespace.enter(|| {
            let socket = UdpSocket::bind((lease.addr, CLIENT)).expect("the client's port");
            socket.connect((lease.server, SERVER)).expect("a way to the server");
            socket
        })
    }
}
