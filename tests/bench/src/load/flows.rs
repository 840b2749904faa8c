//! Very many flows: they are opened, and then datagrams of all of them are sent in turn.
//!
//! A client's socket has a flow with each of the server's ports [`MANY`], so that a thousand sockets at each end are
//! enough for a million flows: more files than that may not be open everywhere.

use std::{
    io::{ErrorKind, IoSlice},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        resource::{Resource, getrlimit, setrlimit},
        socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt},
    },
};

use super::{
    MANY,
    datagrams::{PAYLOAD, received},
    pin,
};
use crate::place::Ends;

/// Flows of each client's socket.
pub(crate) const PORTS: u32 = (*MANY.end() - *MANY.start()) as u32 + 1;
/// Flows that are asked for at once, and datagrams per system call; a socket has room for as many answers.
const BATCH: usize = 100;
/// How often a flow is asked for before it counts as one that is not answered.
const TRIES: usize = 40;
/// How long answers may take, and the server to see that all is over.
const PATIENCE: Duration = Duration::from_millis(50);
/// The client's first port.
const FIRST: u16 = 10_000;

/// Opens `flows` flows, whole thousands: each has one datagram and its answer. They begin with the same ports each time, so
/// those that are open stay so.
pub(crate) fn open(ends: &Ends, flows: u32) -> Result<()> {
    allow_sockets()?;
    let (clients, servers) = (clients(ends, flows)?, &servers(ends)?);
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(move || answer_all(servers, over));
        let asked = scope.spawn(move || {
            pin()?;
            clients.iter().try_for_each(|client| ask_all(client, ends.target))
        });
        let asked = asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        over.store(true, Ordering::Relaxed);
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        asked
    })
}

/// Datagrams that arrive at the server's device per second, of `flows` flows that are [`open`].
///
/// Each system call sends datagrams of as many flows of one socket, so the cost of the sender does not depend on how
/// many there are; that of its caches does, for every peer alike.
pub(crate) fn per_second(ends: &Ends, flows: u32, time: Duration) -> Result<f64> {
    allow_sockets()?;
    let (clients, servers) = (clients(ends, flows)?, servers(ends)?);
    for server in &servers {
        // What is not read is dropped soon, and costs the same with every peer.
        setsockopt(server, sockopt::RcvBuf, &4096)?;
    }
    let sent = thread::scope(|scope| scope.spawn(|| send(ends, &clients, time)).join());
    sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Lets this process have as many files open as it may.
fn allow_sockets() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("how many sockets may be open")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("as many open sockets as may be")
}

/// The server's sockets, of which nobody reads yet.
fn servers(ends: &Ends) -> Result<Vec<UdpSocket>> {
    let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    ends.server.enter(|| MANY.map(bind).collect::<Result<_, _>>()).context("listen on many ports")
}

/// The client's sockets for `flows` flows.
fn clients(ends: &Ends, flows: u32) -> Result<Vec<UdpSocket>> {
    ensure!(flows.is_multiple_of(PORTS), "{flows} flows are no whole number of sockets");
    let bind = |number| -> Result<UdpSocket> {
        let port = FIRST + u16::try_from(number).context("more flows than ports")?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("a socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    ends.client.enter(|| (0..flows / PORTS).map(bind).collect())
}

/// Asks on each flow of a socket until it was answered.
fn ask_all(client: &UdpSocket, target: Ipv4Addr) -> Result<()> {
    let ports: Vec<u16> = MANY.collect();
    for batch in ports.chunks(BATCH) {
        let mut silent = batch.to_vec();
        for _ in 0..TRIES {
            for port in &silent {
                client.send_to(b"?", (target, *port)).context("ask")?;
            }
            while !silent.is_empty()
                && let Ok((_, from)) = client.recv_from(&mut [0; 64])
            {
                silent.retain(|port| *port != from.port());
            }
            if silent.is_empty() {
                break;
            }
        }
        ensure!(silent.is_empty(), "{} of {} flows are not answered", silent.len(), batch.len());
    }
    Ok(())
}

/// Answers every datagram until it is over.
fn answer_all(servers: &[UdpSocket], over: &AtomicBool) -> Result<()> {
    pin()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("wait on many sockets")?;
    for (server, number) in servers.iter().zip(0..) {
        server.set_nonblocking(true)?;
        epoll.add(server, EpollEvent::new(EpollFlags::EPOLLIN, number)).context("wait on a socket")?;
    }
    let mut events = [EpollEvent::empty(); BATCH];
    let patience = EpollTimeout::try_from(PATIENCE).context("a short time")?;
    while !over.load(Ordering::Relaxed) {
        let count = match epoll.wait(&mut events, patience) {
            Err(Errno::EINTR) => 0,
            count => count.context("wait for datagrams")?,
        };
        for event in &events[..count] {
            answer(&servers[usize::try_from(event.data())?])?;
        }
    }
    Ok(())
}

/// Answers what is there.
fn answer(server: &UdpSocket) -> Result<()> {
    loop {
        match server.recv_from(&mut [0; 64]) {
            Ok((_, from)) => drop(server.send_to(b"!", from).context("answer")?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("receive"),
        }
    }
}

/// Sends a datagram of each flow, again and again.
fn send(ends: &Ends, clients: &[UdpSocket], time: Duration) -> Result<f64> {
    pin()?;
    let targets: Vec<_> =
        MANY.map(|port| Some(SockaddrIn::from(SocketAddrV4::new(ends.target, port)))).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (payload, nothing) = ([[IoSlice::new(&PAYLOAD)]; BATCH], [ControlMessage::<'_>::ScmRights(&[]); 0]);
    let (before, begin) = (received(ends)?, Instant::now());
    for client in clients.iter().cycle().skip(somewhere(clients.len())) {
        for batch in targets.chunks(BATCH) {
            let fd = client.as_raw_fd();
            match sendmmsg(fd, &mut headers, &payload, batch, nothing, MsgFlags::empty()) {
                // The device's queue is full: sent too fast, which is the purpose.
                Ok(_) | Err(Errno::ENOBUFS) => {}
                Err(error) => return Err(error).context("send datagrams"),
            }
            if begin.elapsed() > time {
                let arrived = received(ends)? - before;
                return Ok(arrived as f64 / begin.elapsed().as_secs_f64());
            }
        }
    }
    bail!("there is no flow")
}

/// An index below `count`. Where a measurement is too short for all flows, the next one begins with others.
fn somewhere(count: usize) -> usize {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_micros());
    now as usize % count.max(1)
}
