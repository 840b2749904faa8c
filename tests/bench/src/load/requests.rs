//! Requests of one byte and answers of one byte over TCP: on one connection, and on one each.

use std::{
    ffi::OsString,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    libc::linger,
    sys::socket::{setsockopt, sockopt},
};

use super::{CONNECTIONS, REQUESTS, pin};
use crate::place::Ends;

/// How long an answer may take where some do not come.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the client closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// In an orderly way; the server follows.
    Fin,
    /// At once.
    Reset,
}

/// Requests per second on one connection.
pub(super) fn on_one_connection(ends: &Ends, time: Duration) -> Result<f64> {
    with_server(ends, REQUESTS, |stop| {
        let mut stream = connect(ends, REQUESTS)?;
        exchange(&mut stream)?;
        per_second(time, stop, || exchange(&mut stream).map(|()| true))
    })
}

/// Connections with one request per second.
pub(super) fn with_connections(ends: &Ends, time: Duration, close: Close) -> Result<f64> {
    with_server(ends, CONNECTIONS, |stop| {
        per_second(time, stop, || {
            let mut stream = connect(ends, CONNECTIONS)?;
            exchange(&mut stream)?;
            if close == Close::Reset {
                setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
            }
            Ok(true)
        })
    })
}

/// The same, closed by FIN, where it may be that a connection does not come about, or that no answer comes in time: those
/// do not count.
pub(crate) fn attempts(ends: &Ends, time: Duration) -> Result<f64> {
    let attempt = || {
        let mut stream = connect(ends, CONNECTIONS)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        exchange(&mut stream)
    };
    with_server(ends, CONNECTIONS, |stop| {
        per_second(time, stop, || match attempt() {
            Err(error) if came_too_late(&error) => Ok(false),
            done => done.map(|()| true),
        })
    })
}

fn came_too_late(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::TimedOut | ErrorKind::WouldBlock))
}

/// How often per second `work` succeeds.
fn per_second(time: Duration, stop: &AtomicBool, mut work: impl FnMut() -> Result<bool>) -> Result<f64> {
    let (mut count, begin) = (0_u64, Instant::now());
    while begin.elapsed() < time {
        count += u64::from(work()?);
    }
    let took = begin.elapsed();
    stop.store(true, Ordering::Relaxed);
    Ok(count as f64 / took.as_secs_f64())
}

fn connect(ends: &Ends, port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((ends.target, port))).context("connect")?;
    stream.set_nodelay(true)?;
    // The machine's own choice may pace what it sends. Not its setting, which namespaces may not change.
    setsockopt(&stream, sockopt::TcpCongestion, &OsString::from("cubic")).context("cubic")?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?").context("ask")?;
    stream.read_exact(&mut [0]).context("read the answer")
}

/// Runs `work` in the client's namespace beside a server, which ends with the first connection that it accepts
/// after it was told to stop.
fn with_server<T: Send>(
    ends: &Ends,
    port: u16,
    work: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> Result<T> {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (ready, is_ready) = channel();
        let server = scope.spawn(move || ends.server.enter(|| serve(port, stop, &ready)));
        is_ready.recv().context("the server did not start")?;
        let result = ends.client.enter(|| {
            pin()?;
            work(stop)
        });
        stop.store(true, Ordering::Relaxed);
        // From its own namespace, where nothing is in the way.
        ends.server.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port))).context("stop the server")?;
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result
    })
}

fn serve(port: u16, stop: &AtomicBool, ready: &Sender<()>) -> Result<()> {
    pin()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    setsockopt(&listener, sockopt::TcpCongestion, &OsString::from("cubic")).context("cubic")?;
    ready.send(()).context("tell that it listens")?;
    loop {
        let (stream, _) = listener.accept().context("accept")?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        answer(stream)?;
    }
}

/// Answers until the client has closed.
fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.write_all(&byte).context("answer")?,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("read"),
        }
    }
}
