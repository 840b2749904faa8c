//! Clients and servers inside namespaces: sockets of the test itself, so that a refusal and a
//! silence can be told apart, and real programs.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::shutdown;

use crate::{Namespace, Running, eventually};

/// How long an answer may take that is expected.
pub const ANSWER: Duration = Duration::from_secs(8);
/// How long to listen for an answer that must not come. A delivered packet is answered in
/// microseconds; the kernel repeats a lost SYN only after 1 s (RFC 6298 section 2).
pub const SILENCE: Duration = Duration::from_millis(700);

/// What became of an attempt to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other end answered.
    Answered,
    /// Nothing came back.
    Silence,
    /// The other end, or somebody on the way, refused (RST or an ICMP error).
    Refused,
}

/// One way to try whether somebody is reached.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// Open a connection and have a few bytes echoed.
    Tcp(SocketAddr),
    /// Have a datagram echoed.
    Udp(SocketAddr),
    /// One echo request.
    Ping(IpAddr),
}

/// TCP to `address`, for tables of probes.
///
/// # Panics
/// When it is no address with a port.
#[must_use]
pub fn tcp(address: &str) -> Probe {
    Probe::Tcp(address.parse().expect("ADDRESS:PORT"))
}

/// UDP to `address`.
///
/// # Panics
/// When it is no address with a port.
#[must_use]
pub fn udp(address: &str) -> Probe {
    Probe::Udp(address.parse().expect("ADDRESS:PORT"))
}

/// `address` with `port`, as [`tcp`] and [`udp`] take it.
#[must_use]
pub fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Ping to `address`.
///
/// # Panics
/// When it is no address.
#[must_use]
pub fn ping(address: &str) -> Probe {
    Probe::Ping(address.parse().expect("an address"))
}

impl Probe {
    /// Tries it from inside `namespace`, for at most `patience`.
    pub fn run(self, namespace: &Namespace, patience: Duration) -> Outcome {
        match self {
            Self::Tcp(to) => outcome(namespace.enter(|| echo_over_tcp(to, patience))),
            Self::Udp(to) => outcome(namespace.enter(|| echo_over_udp(to, patience))),
            Self::Ping(to) => {
                let seconds = format!("{:.1}", patience.as_secs_f32());
                let sent = namespace.exec(&["ping", "-n", "-c", "1", "-W", &seconds, &to.to_string()]);
                match sent {
                    sent if sent.success() => Outcome::Answered,
                    sent if sent.stdout.contains("Unreachable") => Outcome::Refused,
                    _ => Outcome::Silence,
                }
            }
        }
    }
}

/// Asserts that two reach each other both ways by all that [`Probe`] knows, at each of their addresses.
///
/// # Panics
/// When they do not.
#[track_caller]
pub fn assert_reach_each_other(one: (&Namespace, [&str; 2]), other: (&Namespace, [&str; 2])) {
    let _echoes = [Echo::serve(one.0, 7000), Echo::serve(other.0, 7000)];
    for ((from, _), (_, addresses)) in [(one, other), (other, one)] {
        for address in addresses {
            for probe in [ping(address), tcp(&at(address, 7000)), udp(&at(address, 7000))] {
                assert_eq!(
                    probe.run(from, ANSWER),
                    Outcome::Answered,
                    "{probe:?} from {}",
                    from.path().display()
                );
            }
        }
    }
}

fn outcome(tried: io::Result<()>) -> Outcome {
    let Err(error) = tried else { return Outcome::Answered };
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silence,
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied => Outcome::Refused,
        _ => panic!("neither answered nor refused: {error}"),
    }
}

fn echo_over_tcp(to: SocketAddr, patience: Duration) -> io::Result<()> {
    Connection::open(to, patience)?.echo(patience)
}

fn echo_over_udp(to: SocketAddr, patience: Duration) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(to)?;
    socket.send(b"marco")?;
    let mut answer = [0; 16];
    let len = socket.recv(&mut answer)?;
    assert_eq!(&answer[..len], b"marco");
    Ok(())
}

/// An established TCP connection to an [`Echo`].
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect_timeout(&to, patience)? })
    }

    /// Connects from inside `namespace`.
    ///
    /// # Panics
    /// When the connection is not established in time.
    #[must_use]
    pub fn from(namespace: &Namespace, to: &str) -> Self {
        let address = to.parse().expect("ADDRESS:PORT");
        let opened = namespace.enter(|| Self::open(address, ANSWER));
        opened.unwrap_or_else(|error| panic!("connect to {to} from {}: {error}", namespace.path().display()))
    }

    /// Sends a few bytes and waits until they come back.
    ///
    /// # Errors
    /// When the connection fails, or nothing comes back within `patience`.
    pub fn echo(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.write_all(b"marco")?;
        let mut answer = [0; 5];
        self.stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"marco");
        Ok(())
    }

    /// What an echo over it comes to.
    pub fn outcome(&mut self, patience: Duration) -> Outcome {
        outcome(self.echo(patience))
    }
}

/// Sends back what it receives over TCP and UDP, IPv4 and IPv6, on one port; ends when dropped.
#[derive(Debug)]
pub struct Echo {
    tcp: Arc<TcpListener>,
    udp: Arc<UdpSocket>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Serves `port` on all addresses of `namespace` from now on.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn serve(namespace: &Namespace, port: u16) -> Self {
        let (tcp, udp) = (Arc::new(listen(namespace, port)), Arc::new(bind(namespace, port)));
        let (listener, socket) = (Arc::clone(&tcp), Arc::clone(&udp));
        let threads =
            vec![thread::spawn(move || accept_all(&listener)), thread::spawn(move || return_all(&socket))];
        Self { tcp, udp, threads }
    }
}

/// A TCP socket of `namespace` that listens on `port` of all its addresses.
///
/// # Panics
/// When the port is taken, and stays it.
#[must_use]
pub fn listen(namespace: &Namespace, port: u16) -> TcpListener {
    free_again(port, || namespace.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))))
}

/// A UDP socket of `namespace` on `port` of all its addresses.
///
/// # Panics
/// When the port is taken, and stays it.
#[must_use]
pub fn bind(namespace: &Namespace, port: u16) -> UdpSocket {
    free_again(port, || namespace.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))))
}

/// What `open` gives once `port` is free: a program that another test starts at this moment holds a
/// copy of every socket until it has become that program.
fn free_again<T>(port: u16, open: impl Fn() -> io::Result<T>) -> T {
    eventually(&format!("port {port} to be free"), || match open() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        opened => Some(opened.unwrap_or_else(|error| panic!("bind port {port}: {error}"))),
    })
}

fn accept_all(listener: &TcpListener) {
    // Shutting the listener down makes `accept` fail, which ends the thread.
    while let Ok((mut stream, _)) = listener.accept() {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
            // The client may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

fn return_all(socket: &UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        match socket.recv_from(&mut buffer) {
            // Nothing from nobody: the socket was shut down.
            Ok((0, _)) => return,
            // An answer that cannot be sent is one that the client misses.
            Ok((len, from)) => drop(socket.send_to(&buffer[..len], from)),
            // An ICMP error about an earlier answer.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // UDP sockets that are not connected answer ENOTCONN and wake their readers all the same.
        let _ = shutdown(self.tcp.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = shutdown(self.udp.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        // They hold the sockets: the port is free for the next server once they are gone.
        for thread in self.threads.drain(..) {
            // A panic of theirs was printed.
            let _ = thread.join();
        }
    }
}

/// A real web server in `namespace` that serves `folder` on `port`, IPv4 and IPv6.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn http_server(namespace: &Namespace, port: u16, folder: &str) -> Running {
    let mut command = namespace.command("python3");
    command.args(["-u", "-m", "http.server", &port.to_string(), "--bind", "::", "--directory", folder]);
    let mut server = Running::start(command);
    server.line_with("Serving HTTP");
    server
}

/// An iperf3 server in `namespace`.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn iperf3_server(namespace: &Namespace) -> Running {
    let mut command = namespace.command("iperf3");
    command.args(["--server", "--forceflush"]);
    let mut server = Running::start(command);
    server.line_with("Server listening");
    server
}
