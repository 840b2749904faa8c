//! A server that keeps its leases until they are given back.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{CLIENT, Kind, Message, SERVER};
use crate::{
    Namespace,
    frames::{Eth, MacAddr, udp4},
    raw::RawSocket,
};

/// Between two looks at whether to end.
const PAUSE: Duration = Duration::from_millis(20);

/// What a server gives.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Its own address; it is the router, too.
    pub server: Ipv4Addr,
    /// The first address to give.
    pub first: Ipv4Addr,
    /// How many there are.
    pub count: u32,
    /// For how long, in seconds.
    pub secs: u32,
}

type Leases = Arc<Mutex<BTreeMap<MacAddr, Ipv4Addr>>>;

/// A server on one interface; ends when dropped.
#[derive(Debug)]
pub struct Server {
    leases: Leases,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on `interface` of `namespace` from now on.
    ///
    /// # Panics
    /// When there is no such interface, or the port is taken.
    #[must_use]
    pub fn serve(namespace: &Namespace, interface: &str, terms: Terms) -> Self {
        let socket = RawSocket::open(namespace, interface);
        // So that the kernel does not answer that nobody is there.
        let port =
            namespace.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER)).expect("the server's port"));
        let mac = namespace.mac(interface);
        let (leases, stop) = (Leases::default(), Arc::new(AtomicBool::new(false)));
        let desk = Desk { socket, mac, terms, leases: Arc::clone(&leases) };
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let _port = port;
                while !stop.load(Ordering::Acquire) {
                    desk.attend();
                }
            })
        };
        Self { leases, stop, thread: Some(thread) }
    }

    /// The address that `client` has.
    #[must_use]
    pub fn lease_of(&self, client: MacAddr) -> Option<Ipv4Addr> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).get(&client).copied()
    }

    /// How many addresses are given away.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A panic of its was printed.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

struct Desk {
    socket: RawSocket,
    mac: MacAddr,
    terms: Terms,
    leases: Leases,
}

impl Desk {
    /// Answers whoever asks within a moment.
    fn attend(&self) {
        if !self.socket.wait(PAUSE) {
            return;
        }
        for frame in self.socket.pending() {
            let Some((asked, eth)) = Message::to_server(&frame) else { continue };
            if let Some(answer) = self.answer(&asked) {
                self.send(&asked, &answer, eth.src);
            }
        }
    }

    fn answer(&self, asked: &Message) -> Option<Message> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = |kind| Message {
            transaction: asked.transaction,
            broadcast: asked.broadcast,
            server: Some(self.terms.server),
            ..Message::of(kind, asked.client)
        };
        let grant = |kind, addr| Message { your_addr: addr, secs: Some(self.terms.secs), ..reply(kind) };
        match asked.kind {
            Kind::Discover => {
                let held = leases.get(&asked.client).copied();
                let addr =
                    held.or_else(|| self.terms.addresses().find(|a| !leases.values().any(|b| a == b)))?;
                leases.insert(asked.client, addr);
                Some(grant(Kind::Offer, addr))
            }
            Kind::Request => {
                let wanted = asked.requested.unwrap_or(asked.client_addr);
                let held = leases.get(&asked.client).is_some_and(|held| *held == wanted);
                Some(if held { grant(Kind::Ack, wanted) } else { reply(Kind::Nak) })
            }
            Kind::Release => {
                leases.remove(&asked.client);
                None
            }
            Kind::Offer | Kind::Ack | Kind::Nak => None,
        }
    }

    /// To whom: RFC 2131 section 4.1.
    fn send(&self, asked: &Message, answer: &Message, asker: MacAddr) {
        let (mac, addr) = if !asked.client_addr.is_unspecified() {
            (asker, asked.client_addr)
        } else if asked.broadcast || answer.kind == Kind::Nak {
            (MacAddr::BROADCAST, Ipv4Addr::BROADCAST)
        } else {
            (asked.client, answer.your_addr)
        };
        let eth = Eth::new(self.mac, mac);
        self.socket.send(&udp4(eth, (self.terms.server, SERVER), (addr, CLIENT), &answer.bytes()));
    }
}

impl Terms {
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.first.to_bits();
        (first..first + self.count).map(Ipv4Addr::from_bits)
    }
}
