//! A server that tells who asks, and those who ask it: what an address becomes on the way is seen by
//! the one who is asked.
//!
//! Over TCP it speaks enough HTTP for curl; over UDP the same question is a datagram. Whatever is no
//! question comes back as it is, so that a [`Probe`] is answered too.

use std::{
    io::{self, ErrorKind, Read, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc::suseconds_t,
    sys::{
        socket::{
            self, AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, shutdown,
            sockopt,
        },
        time::TimeVal,
    },
};

use crate::{
    Namespace,
    traffic::{self, ANSWER, Probe},
};

const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: teller\r\n\r\n";
const END_OF_HEADERS: &str = "\r\n\r\n";
/// How long a client may stay away in the middle of its question.
const PATIENCE: Duration = Duration::from_secs(60);

type Log = Arc<Mutex<Vec<SocketAddr>>>;

/// Answers each question over TCP and UDP, IPv4 and IPv6, by the asker's address; ends when dropped.
#[derive(Debug)]
pub struct Teller {
    tcp: Arc<TcpListener>,
    udp: Arc<UdpSocket>,
    asked_by: Log,
    threads: Vec<JoinHandle<()>>,
}

impl Teller {
    /// Serves `port` on all addresses of `namespace` from now on.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn serve(namespace: &Namespace, port: u16) -> Self {
        let tcp = Arc::new(traffic::listen(namespace, port));
        let udp = Arc::new(traffic::bind(namespace, port));
        let asked_by = Log::default();
        let (listener, tcp_log) = (Arc::clone(&tcp), Arc::clone(&asked_by));
        let (socket, udp_log) = (Arc::clone(&udp), Arc::clone(&asked_by));
        let threads = vec![
            thread::spawn(move || accept_all(&listener, &tcp_log)),
            thread::spawn(move || tell_all(&socket, &udp_log)),
        ];
        Self { tcp, udp, asked_by, threads }
    }

    /// Everybody who asked so far, in their order.
    #[must_use]
    pub fn asked_by(&self) -> Vec<SocketAddr> {
        self.asked_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // As for an `Echo`: both calls wake the threads, and the ports are free once these are gone.
        let _ = shutdown(self.tcp.as_raw_fd(), socket::Shutdown::Both);
        let _ = shutdown(self.udp.as_raw_fd(), socket::Shutdown::Both);
        for thread in self.threads.drain(..) {
            // A panic of theirs was printed.
            let _ = thread.join();
        }
    }
}

/// Notes who asks, without the IPv6 notation of an IPv4 address.
fn note(log: &Log, from: SocketAddr) -> SocketAddr {
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    log.lock().unwrap_or_else(PoisonError::into_inner).push(from);
    from
}

fn accept_all(listener: &TcpListener, log: &Log) {
    // Shutting the listener down makes `accept` fail, which ends the thread.
    while let Ok((stream, from)) = listener.accept() {
        let log = Arc::clone(log);
        // A client that goes away in the middle is its test's affair.
        thread::spawn(move || drop(tell_over_tcp(stream, from, &log)));
    }
}

fn tell_over_tcp(mut stream: TcpStream, from: SocketAddr, log: &Log) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut asked = String::new();
    while read_some(&mut stream, &mut asked)? {
        if !asked.as_bytes().starts_with(&QUESTION[..1]) {
            note(log, from);
            stream.write_all(asked.as_bytes())?;
            asked.clear();
        } else if asked.ends_with(END_OF_HEADERS) {
            asked.clear();
            let body = format!("{}\n", note(log, from));
            let length = body.len();
            let headers = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}{END_OF_HEADERS}");
            stream.write_all(format!("{headers}{body}").as_bytes())?;
        }
    }
    stream.shutdown(Shutdown::Both)
}

/// Adds what has come to `text`; false at the end of the stream.
fn read_some(stream: &mut impl Read, text: &mut String) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let len = stream.read(&mut buffer)?;
    text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    Ok(len > 0)
}

fn tell_all(socket: &UdpSocket, log: &Log) {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv_from(&mut buffer) {
            // Nothing from nobody: the socket was shut down.
            Ok((0, _)) => return,
            // An answer that cannot be sent is one that the client misses.
            Ok((len, from)) => {
                let told = note(log, from).to_string();
                let answer = if buffer[..len] == *QUESTION { told.as_bytes() } else { &buffer[..len] };
                drop(socket.send_to(answer, from));
            }
            // An ICMP error about an earlier answer.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

/// An open connection to a [`Teller`], or a UDP socket that speaks with it only.
#[derive(Debug)]
pub enum Line {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over UDP.
    Udp(UdpSocket),
}

impl Line {
    /// From inside `from` to whom `probe` names; `source` is the local port, 0 for any.
    ///
    /// # Panics
    /// When there is no way, no connection within [`ANSWER`], or `probe` is a ping.
    #[must_use]
    #[track_caller]
    pub fn open(from: &Namespace, source: u16, probe: Probe) -> Self {
        let opened = Self::try_open(from, source, probe, ANSWER);
        opened.unwrap_or_else(|error| panic!("{probe:?} from {}: {error}", from.path().display()))
    }

    /// From inside `from` to whom `probe` names; `source` is the local port, 0 for any.
    ///
    /// # Errors
    /// When there is no way, or no connection within `patience`.
    ///
    /// # Panics
    /// When `probe` is a ping.
    pub fn try_open(from: &Namespace, source: u16, probe: Probe, patience: Duration) -> io::Result<Self> {
        let (to, kind) = match probe {
            Probe::Tcp(to) => (to, SockType::Stream),
            Probe::Udp(to) => (to, SockType::Datagram),
            Probe::Ping(to) => panic!("nobody can be asked by ping to {to}"),
        };
        let socket = from.enter(|| connected(kind, source, to, patience))?;
        Ok(match probe {
            Probe::Tcp(_) => Self::Tcp(socket.into()),
            _ => Self::Udp(socket.into()),
        })
    }

    /// Asks who this is, as the other end sees it.
    ///
    /// # Errors
    /// When the connection fails, or no answer comes within `patience`.
    ///
    /// # Panics
    /// When the answer is no address.
    pub fn ask(&mut self, patience: Duration) -> io::Result<SocketAddr> {
        let told = match self {
            Self::Tcp(stream) => ask_over_tcp(stream, patience)?,
            Self::Udp(socket) => ask_over_udp(socket, patience)?,
        };
        Ok(told.trim().parse().unwrap_or_else(|_| panic!("not an address with a port: {told:?}")))
    }
}

fn connected(kind: SockType, source: u16, to: SocketAddr, patience: Duration) -> io::Result<OwnedFd> {
    let (family, any): (_, IpAddr) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    // `connect` waits no longer than a send may.
    setsockopt(&socket, sockopt::SendTimeout, &time(patience))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, source)))?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Err(Errno::EINPROGRESS) => Err(ErrorKind::TimedOut.into()),
        done => Ok(done.map(|()| socket)?),
    }
}

fn time(duration: Duration) -> TimeVal {
    TimeVal::new(duration.as_secs().cast_signed(), suseconds_t::from(duration.subsec_micros()))
}

fn ask_over_tcp(stream: &mut TcpStream, patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(QUESTION)?;
    let mut text = String::new();
    while read_some(stream, &mut text)? {
        if let Some((_, body)) = text.split_once(END_OF_HEADERS).filter(|(_, body)| body.ends_with('\n')) {
            return Ok(body.to_owned());
        }
    }
    Err(ErrorKind::ConnectionReset.into())
}

fn ask_over_udp(socket: &UdpSocket, patience: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(patience))?;
    socket.send(QUESTION)?;
    let mut answer = [0; 128];
    let len = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
}

/// What the teller that `probe` names sees of one who asks from inside `from`.
///
/// # Errors
/// When it is not reached, or does not answer within `patience`.
pub fn try_seen_as(from: &Namespace, probe: Probe, patience: Duration) -> io::Result<SocketAddr> {
    Line::try_open(from, 0, probe, patience)?.ask(patience)
}

/// What the teller that `probe` names sees of one who asks from inside `from`.
///
/// # Panics
/// When it is not reached, or does not answer in time.
#[track_caller]
pub fn seen_as(from: &Namespace, probe: Probe) -> SocketAddr {
    let seen = try_seen_as(from, probe, ANSWER);
    seen.unwrap_or_else(|error| panic!("{probe:?} from {}: {error}", from.path().display()))
}

/// The address that the teller sees of one who asks from inside `from`, as text.
///
/// # Panics
/// When it is not reached, or does not answer in time.
#[must_use]
#[track_caller]
pub fn address_seen(from: &Namespace, probe: Probe) -> String {
    seen_as(from, probe).ip().to_string()
}

/// What curl fetches from `url` from inside `from`: of a teller, the asker's address.
///
/// # Panics
/// When it fails, or fetches anything else.
#[must_use]
#[track_caller]
pub fn fetched_as(from: &Namespace, url: &str) -> SocketAddr {
    let argv = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*", url];
    let fetched = from.exec(&argv).ok();
    fetched.stdout.trim().parse().unwrap_or_else(|_| panic!("not an address with a port: {fetched}"))
}
