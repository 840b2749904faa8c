//! Datagrams of one flow.

use std::{
    fs,
    io::{ErrorKind, IoSlice},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};

use super::{SHUT, UDP, pin};
use crate::{peers::Counter, place::Ends};

/// 18 bytes make the least Ethernet frame: 14 + 20 + 8 + 18 = 60, without its checksum.
pub(super) const PAYLOAD: [u8; 18] = *b"eighteen bytes ...";
/// Datagrams per system call.
const BATCH: usize = 32;
/// How long an answer may take, 100,000 rules on the way included.
const PATIENCE: Duration = Duration::from_secs(2);

/// Datagrams that arrive at the server's device per second, after one that was answered.
pub(super) fn per_second(ends: &Ends, time: Duration) -> Result<f64> {
    with_server(ends, UDP, || {
        pin()?;
        let socket = client(ends, UDP)?;
        ask(&socket)?;
        let before = received(ends)?;
        let sending = send_for(&socket, time)?;
        let arrived = received(ends)? - before;
        Ok(arrived as f64 / sending.as_secs_f64())
    })
}

/// Datagrams to a port that no rule opens, per second, as `dropped` counts them; or as they arrive at the server's device.
pub(crate) fn refused(ends: &Ends, dropped: Option<&Counter>, time: Duration) -> Result<f64> {
    let count = || dropped.map_or_else(|| received(ends), |dropped| dropped());
    let before = count()?;
    let sending = with_server(ends, SHUT, || {
        pin()?;
        let socket = client(ends, SHUT)?;
        send_for(&socket, time)
    })?;
    Ok((count()? - before) as f64 / sending.as_secs_f64())
}

/// Whether a datagram to `port`, where a server listens, is answered.
pub(crate) fn answered(ends: &Ends, port: u16) -> Result<bool> {
    with_server(ends, port, || {
        let socket = client(ends, port)?;
        Ok(ask(&socket).is_ok())
    })
}

/// Sends datagrams for about `time`; how long it was.
fn send_for(socket: &UdpSocket, time: Duration) -> Result<Duration> {
    let begin = Instant::now();
    let batch = [[IoSlice::new(&PAYLOAD)]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let nothing: [ControlMessage<'_>; 0] = [];
    while begin.elapsed() < time {
        send(socket, &mut headers, &batch, nothing)?;
    }
    Ok(begin.elapsed())
}

fn send<'a>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    batch: &'a [[IoSlice<'a>; 1]; BATCH],
    nothing: [ControlMessage<'a>; 0],
) -> Result<()> {
    match sendmmsg(socket.as_raw_fd(), headers, batch, [None; BATCH], nothing, MsgFlags::empty()) {
        // The device's queue is full: sent too fast, which is the purpose.
        Ok(_) | Err(nix::errno::Errno::ENOBUFS) => Ok(()),
        Err(error) => Err(error).context("send datagrams"),
    }
}

/// Runs `work` in the client's namespace while the server answers the first datagram of each client, and keeps
/// its socket open without reading until the work is done.
pub(super) fn with_server<T: Send>(
    ends: &Ends,
    port: u16,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let (ready, is_ready) = channel();
        let (done, is_done) = channel();
        let server = scope.spawn(move || {
            ends.server.enter(move || -> Result<()> {
                pin()?;
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
                // What is not read is dropped soon, and costs the same with every peer.
                setsockopt(&socket, sockopt::RcvBuf, &4096)?;
                socket.set_read_timeout(Some(Duration::from_millis(10)))?;
                ready.send(()).context("tell that it listens")?;
                answer_one(&socket, || is_done.try_recv().is_ok())?;
                // Until the client has gone.
                let _ = is_done.recv();
                Ok(())
            })
        });
        is_ready.recv().context("the server did not start")?;
        let result = ends.client.enter(work);
        finish(done);
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result
    })
}

fn finish(done: Sender<()>) {
    // The server may have been told already.
    let _ = done.send(());
}

/// Answers one datagram, unless the client gives up.
fn answer_one(socket: &UdpSocket, mut is_over: impl FnMut() -> bool) -> Result<()> {
    let mut buffer = [0; 64];
    while !is_over() {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                socket.send_to(&buffer[..len], from).context("answer")?;
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("receive"),
        }
    }
    Ok(())
}

fn client(ends: &Ends, port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a socket")?;
    socket.connect(SocketAddr::from((ends.target, port))).context("connect")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn ask(socket: &UdpSocket) -> Result<()> {
    socket.send(&PAYLOAD).context("ask")?;
    match socket.recv(&mut [0; 64]) {
        Ok(_) => Ok(()),
        Err(error) => bail!("the first datagram was not answered: {error}"),
    }
}

/// Packets that the server's device has received.
pub(super) fn received(ends: &Ends) -> Result<u64> {
    let text = ends.server.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    let packets = line.split_whitespace().nth(1).context("no packets")?;
    packets.parse().context("packets")
}
