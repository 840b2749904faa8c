//! Many TCP connections between two namespaces with steady traffic in both directions: were any
//! lost, and how long was the longest silence of one of them?

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    Namespace,
    traffic::{ANSWER, listen},
};

/// Each end of each connection sends a record as often.
const PERIOD: Duration = Duration::from_millis(20);
/// What it sends.
const RECORD: [u8; 64] = [0x5a; 64];
/// How long the last records may take once nobody sends any more: several retransmissions.
const LAST_RECORDS: Duration = Duration::from_secs(20);

/// Connections that are in use until [`Crowd::finish`].
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    gap_micros: Arc<AtomicU64>,
    ends: [JoinHandle<Vec<Member>>; 2],
}

/// What became of a crowd.
#[derive(Clone, Debug)]
pub struct CrowdReport {
    /// Connections there were.
    pub connections: usize,
    /// What was wrong with each that was lost, or lost data.
    pub lost: Vec<String>,
    /// The longest time in which one end of a connection received nothing.
    pub longest_gap: Duration,
    /// Bytes received, by all ends together.
    pub received_bytes: u64,
}

impl Crowd {
    /// Opens `size` connections from `from` to `address`, which is one of `to`'s, and begins to talk.
    ///
    /// # Panics
    /// When one cannot be opened.
    #[must_use]
    pub fn open(from: &Namespace, to: &Namespace, address: SocketAddr, size: usize) -> Self {
        Self::open_by(from, address, (to, address.port()), size)
    }

    /// Opens `size` connections from `from` to `address`, behind which `port` of `to` stands, and
    /// begins to talk.
    ///
    /// # Panics
    /// When one cannot be opened.
    #[must_use]
    pub fn open_by(
        from: &Namespace,
        address: SocketAddr,
        (to, port): (&Namespace, u16),
        size: usize,
    ) -> Self {
        let listener = listen(to, port);
        let connect = || TcpStream::connect_timeout(&address, ANSWER).expect("connect");
        let pairs = from.enter(|| {
            let pair = |_| (connect(), listener.accept().expect("accept").0);
            (0..size).map(pair).collect::<Vec<_>>()
        });
        let (near, far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let gap_micros = Arc::new(AtomicU64::new(0));
        let ends = [near, far].map(|streams| {
            let (stop, gap) = (Arc::clone(&stop), Arc::clone(&gap_micros));
            thread::spawn(move || End::new(streams).talk(&stop, &gap))
        });
        Self { stop, gap_micros, ends }
    }

    /// The longest silence since this was asked last.
    #[must_use]
    pub fn gap_since_last_asked(&self) -> Duration {
        Duration::from_micros(self.gap_micros.swap(0, Ordering::Relaxed))
    }

    /// Ends the talk, waits until all that was sent has arrived, and tells what became of it.
    ///
    /// # Panics
    /// When one of the threads did.
    #[must_use]
    pub fn finish(self) -> CrowdReport {
        self.stop.store(true, Ordering::Release);
        let [near, far] = self.ends.map(|end| end.join().expect("an end of the crowd"));
        let mut lost = Vec::new();
        for (number, (one, other)) in near.iter().zip(&far).enumerate() {
            let faults = one.fault.iter().chain(&other.fault);
            lost.extend(faults.map(|fault| format!("connection {number}: {fault}")));
            if one.sent != other.received || other.sent != one.received {
                let Member { sent, received, .. } = one;
                let (came, went) = (other.received, other.sent);
                lost.push(format!(
                    "connection {number}: {came} of {sent} bytes one way, {received} of {went} back"
                ));
            }
        }
        let all = || near.iter().chain(&far);
        CrowdReport {
            connections: near.len(),
            lost,
            longest_gap: all().map(|member| member.longest_gap).max().unwrap_or_default(),
            received_bytes: all().map(|member| member.received).sum(),
        }
    }
}

/// One end of one connection.
#[derive(Debug)]
struct Member {
    stream: TcpStream,
    sent: u64,
    received: u64,
    last: Instant,
    longest_gap: Duration,
    /// The other end has said that it is done.
    ended: bool,
    fault: Option<String>,
}

/// All ends in one namespace.
struct End {
    members: Vec<Member>,
}

impl End {
    fn new(streams: Vec<TcpStream>) -> Self {
        let member = |stream: TcpStream| {
            stream.set_nonblocking(true).expect("a stream that does not block");
            stream.set_nodelay(true).expect("a stream without delay");
            Member {
                stream,
                sent: 0,
                received: 0,
                last: Instant::now(),
                longest_gap: Duration::ZERO,
                ended: false,
                fault: None,
            }
        };
        Self { members: streams.into_iter().map(member).collect() }
    }

    fn talk(mut self, stop: &AtomicBool, gap_micros: &AtomicU64) -> Vec<Member> {
        let mut next = Instant::now();
        let mut deadline = None;
        // Nobody leaves without a goodbye, or the other end waits for it.
        while deadline.is_none() || self.members.iter().any(|member| !member.ended && member.fault.is_none())
        {
            let now = Instant::now();
            if deadline.is_none() && stop.load(Ordering::Acquire) {
                deadline = Some(now + LAST_RECORDS);
                self.members.iter_mut().for_each(Member::say_goodbye);
            } else if deadline.is_none() && now >= next {
                next = now + PERIOD;
                self.members.iter_mut().for_each(Member::send);
            }
            if deadline.is_some_and(|deadline| now > deadline) {
                self.members.iter_mut().for_each(Member::give_up);
            }
            let wait = next.saturating_duration_since(now).clamp(Duration::from_millis(1), PERIOD);
            self.receive(wait, stop, gap_micros);
        }
        self.members
    }

    /// Takes what has arrived, or arrives within `wait`.
    fn receive(&mut self, wait: Duration, stop: &AtomicBool, gap_micros: &AtomicU64) {
        let open = |member: &&mut Member| !member.ended && member.fault.is_none();
        let mut talking: Vec<_> = self.members.iter_mut().filter(open).collect();
        let mut waits: Vec<_> =
            talking.iter().map(|member| PollFd::new(member.stream.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        // An interrupted call finds nothing; the next one will.
        let _ = poll(&mut waits, timeout);
        let ready: Vec<_> = waits.iter().map(|wait| wait.any().unwrap_or(false)).collect();
        for (member, _) in talking.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            let gap = member.receive(stop);
            gap_micros.fetch_max(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

impl Member {
    fn send(&mut self) {
        if self.fault.is_some() || self.ended {
            return;
        }
        match self.stream.write(&RECORD) {
            Ok(len) => self.sent += len as u64,
            // What cannot be sent now is not missed: the other end sees the silence.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.fault = Some(format!("send: {error}")),
        }
    }

    /// Takes what has arrived; gives the silence before it.
    fn receive(&mut self, stop: &AtomicBool) -> Duration {
        let mut buffer = [0; 4096];
        let gap = self.last.elapsed();
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    // Nobody says goodbye before this is set.
                    if !stop.load(Ordering::Acquire) {
                        self.fault = Some("closed while in use".to_owned());
                    }
                    break;
                }
                Ok(len) => {
                    self.received += len as u64;
                    self.last = Instant::now();
                    self.longest_gap = self.longest_gap.max(gap);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fault = Some(format!("receive: {error}"));
                    break;
                }
            }
        }
        gap
    }

    fn say_goodbye(&mut self) {
        let shut: io::Result<()> = self.stream.shutdown(Shutdown::Write);
        if let (Err(error), None) = (shut, &self.fault) {
            self.fault = Some(format!("close: {error}"));
        }
    }

    fn give_up(&mut self) {
        if !self.ended && self.fault.is_none() {
            self.fault = Some(format!("silent for {:?}", self.last.elapsed()));
        }
    }
}
