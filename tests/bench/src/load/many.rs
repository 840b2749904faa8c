//! Datagrams of many flows in turn.

use std::{
    io::{ErrorKind, IoSlice},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt},
};

use super::{
    MANY,
    datagrams::{PAYLOAD, received},
    pin,
};
use crate::place::Ends;

/// Flows of each client socket: as many server ports. 10,000 open files are allowed nearly everywhere.
const PORTS: usize = 10;
/// How long servers may take to start.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first source port.
const FIRST: u16 = 10_000;

/// Datagrams that arrive at the server's device per second, of `flows` flows (tens of them) that have been
/// answered.
///
/// Each socket sends one datagram of each of its flows per system call, so the cost of the sender does not
/// depend on their number; that of its caches does, for every peer alike.
pub(super) fn per_second(ends: &Ends, time: Duration, flows: u32) -> Result<f64> {
    let count = (flows as usize).div_ceil(PORTS);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("how many sockets may be open")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("as many open sockets as may be")?;
    let (over, end) = (&AtomicBool::new(false), &Barrier::new(PORTS + 1));
    thread::scope(|scope| {
        let (ready, is_ready) = channel();
        let serve = |port| {
            let ready = ready.clone();
            scope.spawn(move || {
                let served = ends.server.enter(|| serve(port, over, &ready));
                end.wait();
                served
            })
        };
        let servers: Vec<_> = (MANY..MANY + PORTS as u16).map(serve).collect();
        let sockets: Result<Vec<UdpSocket>, _> =
            servers.iter().map(|_| is_ready.recv_timeout(PATIENCE)).collect();
        let result = match sockets {
            Ok(_open) => ends.client.enter(|| send(ends, time, count)),
            Err(_) => Err(anyhow!("the server did not start")),
        };
        over.store(true, Ordering::Relaxed);
        end.wait();
        for server in servers {
            server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        result
    })
}

/// Answers the first datagram of each flow. What follows is but load: nobody reads it, as with one flow.
fn serve(port: u16, over: &AtomicBool, ready: &Sender<UdpSocket>) -> Result<()> {
    pin()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    // The other one keeps the port until all is over.
    ready.send(socket.try_clone()?).context("tell that it listens")?;
    let mut buffer = [0; 64];
    while !over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((1, from)) => {
                socket.send_to(b"!", from).context("answer")?;
            }
            Ok(_) => {
                // What is not read is dropped soon, and costs the same with every peer.
                setsockopt(&socket, sockopt::RcvBuf, &4096)?;
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("receive"),
        }
    }
    Ok(())
}

fn send(ends: &Ends, time: Duration, count: usize) -> Result<f64> {
    pin()?;
    let bind = |number: usize| -> Result<UdpSocket> {
        let port = FIRST + u16::try_from(number).context("more flows than ports")?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("a socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    };
    let sockets = (0..count).map(bind).collect::<Result<Vec<_>>>()?;
    let target = |number| SocketAddrV4::new(ends.target, MANY + number);
    let targets: Vec<SocketAddrV4> = (0..PORTS as u16).map(target).collect();
    sockets.iter().try_for_each(|socket| open(socket, &targets))?;
    let addresses: [Option<SockaddrIn>; PORTS] =
        std::array::from_fn(|port| Some(SockaddrIn::from(targets[port])));
    let batch = [[IoSlice::new(&PAYLOAD)]; PORTS];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(PORTS, None);
    let nothing: [ControlMessage<'_>; 0] = [];
    let before = received(ends)?;
    let begin = Instant::now();
    for socket in sockets.iter().cycle() {
        match sendmmsg(socket.as_raw_fd(), &mut headers, &batch, addresses, nothing, MsgFlags::empty()) {
            Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
            Err(error) => return Err(error).context("send datagrams"),
        }
        if begin.elapsed() > time {
            break;
        }
    }
    let arrived = received(ends)? - before;
    Ok(arrived as f64 / begin.elapsed().as_secs_f64())
}

/// Sends the first datagrams of a socket's flows until all are answered.
fn open(socket: &UdpSocket, targets: &[SocketAddrV4]) -> Result<()> {
    let mut silent = targets.to_vec();
    for _ in 0..40 {
        for target in &silent {
            socket.send_to(b"?", target).context("ask")?;
        }
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            silent.retain(|target| SocketAddr::V4(*target) != from);
            if silent.is_empty() {
                return Ok(());
            }
        }
    }
    bail!("{} do not answer", silent.len())
}
