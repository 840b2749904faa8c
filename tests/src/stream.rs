//! A steady stream of numbered UDP packets between two namespaces: who sends keeps to a rate, who
//! receives tells which numbers came, which came twice, and how long there was silence.

use std::{
    io::ErrorKind,
    mem,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use crate::Namespace;

/// Packets that one system call sends or receives.
const BATCH: usize = 64;
/// Bytes of a packet's payload: its number, and what BENCH.md's streams have besides.
const PAYLOAD: usize = 18;
/// What waits for a receiver that does not get the processor: half a second of 200,000 packets/s.
const RECEIVE_BUFFER: usize = 128 << 20;
/// Between two looks at the clock; short beside the time that a batch stands for.
const PAUSE: Duration = Duration::from_micros(100);
/// How long the receiver listens after the last packet was sent.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// A stream that runs until [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Received>,
}

/// What became of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamReport {
    /// Packets that the sender's kernel took.
    pub sent: u64,
    /// Packets that the sender's kernel refused, for lack of a route or a neighbour.
    pub refused: u64,
    /// Different packets that arrived.
    pub received: u64,
    /// Packets that arrived once more.
    pub duplicates: u64,
    /// Packets that arrived and found the receiver's buffer full: the machine is too slow for the test.
    pub overflowed: u64,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
    /// How long was sent.
    pub took: Duration,
}

impl StreamReport {
    /// Packets that were lost on the way.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received + self.overflowed)
    }

    /// Packets sent per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }
}

impl Stream {
    /// Sends `per_second` packets from `from` to `address`, which is one of `to`'s.
    ///
    /// # Panics
    /// When a socket cannot be made.
    #[must_use]
    pub fn start(from: &Namespace, to: &Namespace, address: SocketAddr, per_second: u32) -> Self {
        let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let inlet = to.enter(|| UdpSocket::bind((any, address.port())).expect("bind the receiver"));
        setsockopt(&inlet, sockopt::RcvBufForce, &RECEIVE_BUFFER).expect("a large buffer, as root");
        setsockopt(&inlet, sockopt::RxqOvfl, &1).expect("count what finds the buffer full");
        inlet.set_read_timeout(Some(STRAGGLERS / 3)).expect("a timeout");
        let outlet = from.enter(|| {
            let outlet = UdpSocket::bind((any, 0)).expect("bind the sender");
            outlet.connect(address).expect("a route to the receiver");
            outlet
        });
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let received = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let sender = {
            let (stop, sent, over) = (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&over));
            thread::spawn(move || {
                let done = send(&outlet, per_second, &stop, &sent);
                over.store(true, Ordering::Release);
                done
            })
        };
        let receiver = {
            let received = Arc::clone(&received);
            thread::spawn(move || receive(&inlet, &over, &received))
        };
        Self { stop, sent, received, sender, receiver }
    }

    /// Packets that have arrived so far, duplicates included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Packets that were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the stream, waits for what is under way, and tells what became of it.
    ///
    /// # Panics
    /// When the sender or the receiver did.
    #[must_use]
    pub fn finish(self) -> StreamReport {
        self.stop.store(true, Ordering::Release);
        let sent = self.sender.join().expect("the sender");
        let received = self.receiver.join().expect("the receiver");
        StreamReport {
            sent: sent.taken,
            refused: sent.refused,
            took: sent.took,
            received: received.seen.count(),
            duplicates: received.duplicates,
            overflowed: received.overflowed,
            longest_gap: received.longest_gap,
        }
    }
}

struct Sent {
    taken: u64,
    refused: u64,
    took: Duration,
}

fn send(socket: &UdpSocket, per_second: u32, stop: &AtomicBool, sent: &AtomicU64) -> Sent {
    let begin = Instant::now();
    let (mut taken, mut refused) = (0_u64, 0_u64);
    let mut payloads = [[0_u8; PAYLOAD]; BATCH];
    while !stop.load(Ordering::Acquire) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
        // What the sender's kernel refused counts as done: it is not made up for.
        let count = usize::try_from(due.saturating_sub(taken + refused)).unwrap_or(BATCH).min(BATCH);
        if count == 0 {
            thread::sleep(PAUSE);
            continue;
        }
        for (number, payload) in (taken..).zip(&mut payloads[..count]) {
            payload[..8].copy_from_slice(&number.to_le_bytes());
        }
        match send_batch(socket, &mut payloads[..count]) {
            0 => refused += 1,
            some => taken += some,
        }
        sent.store(taken, Ordering::Relaxed);
    }
    Sent { taken, refused, took: begin.elapsed() }
}

/// Hands `payloads` to the kernel; gives how many it took.
fn send_batch(socket: &UdpSocket, payloads: &mut [[u8; PAYLOAD]]) -> u64 {
    let mut parts = payloads.iter_mut().map(|payload| part(payload)).collect::<Vec<_>>();
    let mut messages = parts.iter_mut().map(message).collect::<Vec<_>>();
    // SAFETY: each message points to one part, each part to one payload; all of them outlive the call,
    // and the kernel writes to nothing but the messages' lengths.
    let taken = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0)
    };
    // An error is that of the first packet; the next call meets it again if it stays.
    u64::try_from(taken).unwrap_or(0)
}

fn part(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a message without name, parts and control data.
    let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}

#[derive(Default)]
struct Received {
    seen: Numbers,
    duplicates: u64,
    overflowed: u64,
    longest_gap: Duration,
}

fn receive(socket: &UdpSocket, over: &AtomicBool, so_far: &AtomicU64) -> Received {
    let mut done = Received::default();
    let mut payloads = [[0_u8; PAYLOAD]; BATCH];
    let mut last: Option<Instant> = None;
    let mut total = 0;
    loop {
        let was_over = over.load(Ordering::Acquire);
        let (count, overflowed) = receive_batch(socket, &mut payloads);
        let now = Instant::now();
        if count == 0 {
            if was_over && last.is_none_or(|last| now.duration_since(last) > STRAGGLERS) {
                return done;
            }
            continue;
        }
        if let Some(last) = last {
            done.longest_gap = done.longest_gap.max(now.duration_since(last));
        }
        last = Some(now);
        done.overflowed = done.overflowed.max(overflowed);
        total += count as u64;
        so_far.store(total, Ordering::Relaxed);
        for payload in &payloads[..count] {
            let number = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
            if !done.seen.insert(number) {
                done.duplicates += 1;
            }
        }
    }
}

/// Room for the kernel's count of overflows, aligned as it wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The number of payloads that arrived, and of packets that found the buffer full since the beginning.
fn receive_batch(socket: &UdpSocket, payloads: &mut [[u8; PAYLOAD]; BATCH]) -> (usize, u64) {
    let mut parts = payloads.iter_mut().map(|payload| part(payload)).collect::<Vec<_>>();
    let mut messages = parts.iter_mut().map(message).collect::<Vec<_>>();
    let mut control = Control([0; 64]);
    // The last packet's count would do as well; the first one's needs only one buffer.
    messages[0].msg_hdr.msg_control = control.0.as_mut_ptr().cast();
    messages[0].msg_hdr.msg_controllen = control.0.len();
    let (vector, length) = (messages.as_mut_ptr(), messages.len() as libc::c_uint);
    // SAFETY: each message points to one part, each part to one payload of its length, and the first
    // message to a control buffer of its length; all of them outlive the call.
    let count = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), vector, length, libc::MSG_WAITFORONE, std::ptr::null_mut())
    };
    let Ok(count) = usize::try_from(count) else {
        let error = std::io::Error::last_os_error();
        let harmless = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
        assert!(harmless.contains(&error.kind()), "receive: {error}");
        return (0, 0);
    };
    (count, overflows(&messages[0].msg_hdr))
}

fn overflows(message: &libc::msghdr) -> u64 {
    // SAFETY: the kernel has filled the control buffer up to the length that it left in the message,
    // and the macros look no further; a control message of this type holds a u32.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) {
                return u64::from(libc::CMSG_DATA(header).cast::<u32>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    0
}

/// A set of numbers from 0 upwards.
#[derive(Default)]
struct Numbers {
    words: Vec<u64>,
}

impl Numbers {
    /// Adds `number`; tells whether it is new.
    fn insert(&mut self, number: u64) -> bool {
        let word = usize::try_from(number / 64).expect("a stream is shorter");
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_once() {
        let mut numbers = Numbers::default();
        let inserted = [0, 63, 64, 63, 1000].map(|number| numbers.insert(number));
        assert_eq!((inserted, numbers.count()), ([true, true, true, false, true], 4));
    }

    #[test]
    fn what_the_receiver_had_no_room_for_is_not_lost_on_the_way() {
        let report = StreamReport { sent: 10, received: 7, overflowed: 2, ..StreamReport::default() };
        assert_eq!(report.lost(), 1);
    }
}
